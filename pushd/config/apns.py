"""APNs: hosts (Apple's, or a local simulator's), trust, token ages."""

from __future__ import annotations

from msgspec import Struct


class ApnsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the APNs gateway. Host and port are the operator's, never a tenant's."""

    production_host: str = "api.push.apple.com"
    sandbox_host: str = "api.sandbox.push.apple.com"
    production_port: int = 443
    sandbox_port: int = 443
    ca_file: str = ""
    """A PEM file trusted instead of the system's store; for the simulator and for proxies."""
    header_table_size_zero: bool = True
    """Ask for stateless response headers (RFC 7541 section 4.2); falls back by itself where a server cannot."""
    token_pin_max_s: float = 3_000.0
    """A connection moves to the newest provider token when its own is this old (A-13)."""
    token_mint_min_s: float = 1_800.0
    """A new token is signed only when the newest is older than this (A-13)."""
    retry_after_max_s: float = 86_400.0
    """A Retry-After is believed up to here (X-24)."""
    pools_max: int = 10_000
    """Pools remembered (credentials times lanes); past it those without links are forgotten first."""
