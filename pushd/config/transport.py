"""Links to gateways: deadlines, pools, limits on what a peer may make us hold."""

from __future__ import annotations

from msgspec import Struct


class TransportConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of links and pools; every wait has a deadline (G-03)."""

    resolve_timeout_s: float = 5.0
    connect_timeout_s: float = 10.0
    """TCP and TLS together, over all addresses of a host."""
    settings_timeout_s: float = 10.0
    response_timeout_s: float = 20.0
    """From a row's writing to its whole answer."""
    ping_after_s: float = 12.0
    """Silence with rows outstanding before a PING."""
    ping_timeout_s: float = 8.0
    drain_timeout_s: float = 10.0
    """After GOAWAY, for streams at or below its last id."""
    window_timeout_s: float = 15.0
    """For streams or flow-control credit while rows wait and none is on the wire; then the link is replaced."""
    queue_timeout_s: float = 15.0
    """For a link to take anything at all of what waits in a pool; then the rows go home unprocessed."""
    idle_close_s: float = 3_600.0
    close_timeout_s: float = 2.0
    """For the last bytes of a link that we close."""
    connect_backoff_base_s: float = 1.0
    connect_backoff_cap_s: float = 60.0
    connects_per_minute_max: int = 60
    """Connects of one pool, whatever the reason: rapid ones are taken for an attack (A-68)."""
    bulk_links: int = 2
    """Links per pool key in the bulk lane."""
    transactional_links: int = 1
    server_errors_max: int = 5
    """5xx answers in a row after which a link is replaced: it can be that connection only."""
    queue_rows_max: int = 8_000
    """Rows waiting in one pool; the planner's credit keeps it short."""
    run_rows_max: int = 1_000
    """Rows that one write puts on a link, so that no slice of work holds the loop for long."""
    run_bytes_max: int = 1_048_576
    """Body bytes of the same."""
    write_chunk_bytes: int = 262_144
    """What is handed to TLS at a time; what was not handed is known never to have left."""
    write_high_water_bytes: int = 1_048_576
    """Bytes that TLS and TCP may hold unsent before a link stops taking rows."""
