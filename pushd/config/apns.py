"""APNs: hosts (Apple's, or a local simulator's), trust, token ages."""

from __future__ import annotations

from msgspec import Struct


class ApnsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the APNs gateway. Host and port are the operator's, never a tenant's."""

    production_host: str = "api.push.apple.com"
    sandbox_host: str = "api.sandbox.push.apple.com"
    production_port: int = 443
    sandbox_port: int = 443
    production_management_host: str = "api-manage-broadcast.push.apple.com"
    """Where broadcast channels are created and deleted; not where pushes go (A-04)."""
    production_management_port: int = 2196
    sandbox_management_host: str = "api-manage-broadcast.sandbox.push.apple.com"
    sandbox_management_port: int = 2195
    management_timeout_s: float = 10.0
    """From a request of channel management to its whole answer, connecting and waiting for its turn included."""
    management_idle_close_s: float = 60.0
    """A connection to channel management is kept this long for the next request."""
    management_answer_bytes_max: int = 4_194_304
    """Of an answer's body: ten thousand ids have a tenth of it."""
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
