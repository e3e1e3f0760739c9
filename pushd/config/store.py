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
    pool_size: int = 8
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 30.0
    bulk_timeout_s: float = 600.0
    """For loads of the whole index and other long reads."""
    group_rows_max: int = 2_000
    """Small writes that share one transaction."""
    group_queue_max: int = 20_000
    """Small writes waiting; past it 503."""
    feed_poll_ms: int = 1_000
    """How often the change feed is read without a wake-up."""
    feed_keep_s: int = 86_400
    idempotency_keep_s: int = 86_400
