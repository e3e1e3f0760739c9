"""FCM: hosts (Google's, or a local simulator's), trust, access tokens, waits and the pace of a project."""

from __future__ import annotations

from msgspec import Struct


class FcmConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the FCM gateway. Hosts and ports are the operator's, never a tenant's (F-02)."""

    host: str = "fcm.googleapis.com"
    port: int = 443
    oauth_host: str = "oauth2.googleapis.com"
    oauth_port: int = 443
    ca_file: str = ""
    """A PEM file trusted instead of the system's store; for the simulator and for proxies."""
    header_table_size_zero: bool = True
    """Ask for stateless response headers (RFC 7541 section 4.2); falls back by itself where a server cannot."""
    oauth_timeout_s: float = 10.0
    """For the token endpoint's whole answer."""
    oauth_ahead_s: float = 300.0
    oauth_jitter_s: float = 60.0
    """An access token is replaced so long before its end, and up to so much earlier (F-03)."""
    oauth_backoff_base_s: float = 1.0
    oauth_backoff_cap_s: float = 60.0
    """Pauses between tries while the token endpoint fails."""
    oauth_wait_s: float = 10.0
    """How long rows wait for a first access token before they go home unprocessed."""
    retry_after_max_s: float = 86_400.0
    """A Retry-After is believed up to here (X-24)."""
    quota_retry_s: float = 60.0
    """Before a row that met a quota is tried again, where FCM names no time (F-30)."""
    server_error_retry_s: float = 10.0
    """The same after a 5xx (F-30)."""
    third_party_retry_s: float = 900.0
    """The same where the project's own key for Apple or for browsers is refused: somebody has to mend it."""
    messages_per_minute: int = 600_000
    """The quota of a project (F-32)."""
    quota_share: float = 0.9
    """How much of it is used."""
    ramp_s: float = 60.0
    """From the first message to the full rate, and back up from nothing after a refusal (F-33); 0: at once."""
    quota_wait_s: float = 5.0
    """How long a batch waits for its project's turn before its rows go home unprocessed."""
    quota_pause_max_s: float = 60.0
    """The longest that a Retry-After stops a whole project; its rows wait as long as they are told."""
    probes_max: int = 1_000
    """Doubtful tokens waiting to be asked about, per pool; past it they are kept."""
    pools_max: int = 10_000
    """Pools remembered (credentials times lanes); past it those without links are forgotten first."""
