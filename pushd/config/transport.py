"""Links to gateways: deadlines, pools, limits on what a peer may make us hold."""

from __future__ import annotations

from msgspec import Struct


class TransportConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of links and pools; every wait has a deadline (G-03)."""

    resolve_timeout_s: float = 5.0
    connect_timeout_s: float = 10.0
    """TCP and TLS together."""
    settings_timeout_s: float = 10.0
    response_timeout_s: float = 20.0
    """From a row's writing to its whole answer."""
    ping_after_s: float = 12.0
    """Silence with rows outstanding before a PING."""
    ping_timeout_s: float = 8.0
    drain_timeout_s: float = 10.0
    """After GOAWAY, for streams at or below its last id."""
    window_timeout_s: float = 15.0
    """For flow-control credit while rows wait."""
    idle_close_s: float = 3_600.0
    connect_backoff_base_s: float = 1.0
    connect_backoff_cap_s: float = 60.0
    bulk_links: int = 2
    """Links per pool key in the bulk lane."""
    transactional_links: int = 1
    queue_rows_max: int = 8_000
    """Rows waiting in one pool; the planner's credit keeps it short."""
    write_high_water_bytes: int = 1_048_576
