"""Imports: how large one may be, how many of an app, how many at a time, and for how long they are kept."""

from __future__ import annotations

from msgspec import Struct


class ImportsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of imports."""

    part_bytes_max: int = 1024 * 1024
    """Of one part; a file that comes in one request is cut into parts of at most this."""
    parts_max: int = 1_024
    """Of one import: with the default above, a gibibyte."""
    open_per_app_max: int = 8
    """Imports of an app that are not finished, uploads included; past it 429."""
    running_max: int = 2
    """Imports that one node carries out at a time, of different apps."""
    chunk_lines_max: int = 4_000
    """Lines of subscribers carried out in one transaction: less than 10 ms of work in memory."""
    chunk_users_max: int = 1_000
    """Lines of users carried out in one transaction: less than 10 ms of work in memory for what is new."""
    chunk_records_max: int = 2_000
    """Lines of records carried out in one transaction."""
    rejects_max: int = 10_000
    """Rejected lines of one import that are kept for people to read; all are counted."""
    faults_max: int = 100
    """Of a file that is checked whole: past so many faults the rest is not looked at."""
    upload_keep_s: int = 86_400
    """After the last part of an upload that nobody starts it is cancelled."""
    keep_s: int = 30 * 86_400
    """How long finished imports and their rejects can be looked at."""
    poll_interval_s: float = 2.0
    """How often a node looks for imports that were started elsewhere, or whose node is gone."""
    retry_s: float = 1.0
    """Between attempts while PostgreSQL is away."""
    sweep_interval_s: float = 600.0
    """How often uploads that were given up and old imports are looked for."""
