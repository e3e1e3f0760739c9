"""HMS Push Kit: hosts (Huawei's, or a local simulator's), trust, access tokens, requests and their size."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class HmsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the HMS gateway. Hosts and ports are the operator's, never a tenant's."""

    host: str = "push-api.cloud.huawei.com"
    port: int = 443
    oauth_host: str = "oauth-login.cloud.huawei.com"
    oauth_port: int = 443
    ca_file: str = ""
    """A PEM file trusted instead of the system's store; for the simulator and for proxies."""
    tokens_per_request: Annotated[int, Meta(ge=1, le=1_000)] = 1_000
    """Devices of one request in the bulk lane: a request without an answer is unknown for all of them (H-07)."""
    transactional_tokens_per_request: Annotated[int, Meta(ge=1, le=1_000)] = 100
    requests_max: Annotated[int, Meta(ge=1)] = 4
    """Requests of one credential and lane that are on the wire at once, each on a connection of its own."""
    idle_close_s: float = 30.0
    """Connections without a request are closed after this, before the far side does."""
    oauth_timeout_s: float = 10.0
    """For the token endpoint's whole answer."""
    oauth_ahead_s: float = 300.0
    oauth_jitter_s: float = 60.0
    """An access token is replaced so long before its end, and up to so much earlier (H-01)."""
    oauth_backoff_base_s: float = 1.0
    oauth_backoff_cap_s: float = 60.0
    """Pauses between tries while the token endpoint fails."""
    oauth_wait_s: float = 10.0
    """How long rows wait for a first access token before they go home unprocessed."""
    retry_after_max_s: float = 86_400.0
    """A Retry-After is believed up to here (X-24)."""
    pools_max: int = 10_000
    """Pools remembered (credentials times lanes); past it idle ones are forgotten first."""
