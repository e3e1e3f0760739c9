"""Web Push: which hosts may be pushed to, encryption, VAPID, and limits per push service."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

SERVICES = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)
"""The push services of browsers (W-40)."""


class WebPushConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the Web Push gateway. Whom tenants' subscriptions may name is the operator's to say."""

    hosts: tuple[str, ...] = SERVICES
    """Hosts of push services that may be pushed to: names, or `*.` and a domain for any one label; `:port` where it is
    not 443."""
    hosts_added: tuple[str, ...] = ()
    """Further hosts, such as a UnifiedPush server or an autopush of one's own."""
    hosts_of_apps: dict[str, list[str]] = {}
    """Further hosts of single apps, by app id."""
    any_host: bool = False
    """Whether endpoints may name any host at port 443 whose addresses are public, as UnifiedPush needs it."""
    networks_allowed: tuple[str, ...] = ()
    """Networks that are not public and may still be connected to, such as 10.1.2.0/24; for services of one's own."""
    ca_file: str = ""
    """A PEM file trusted instead of the system's store; for the simulator and for services of one's own."""
    header_table_size_zero: bool = True
    """Ask for stateless response headers (RFC 7541 section 4.2); falls back by itself where a server cannot."""
    token_life_s: Annotated[float, Meta(ge=7_200, le=86_000)] = 43_200.0
    """How long a VAPID token holds; it is signed anew at half of that (W-22, W-23)."""
    tokens_max: int = 10_000
    """VAPID tokens remembered, one for each key and origin."""
    token_renew_min_s: float = 60.0
    """A token that a service refuses is signed anew only when it is older."""
    key_refusals_max: int = 10
    """Answers in a row that refuse our key at one origin, none accepted before, after which it is the key's fault."""
    padding_block_bytes: Annotated[int, Meta(ge=0, le=3_993)] = 0
    """Texts are padded to a multiple of this, to hide their length; 0: not at all, 3993: all alike (W-05)."""
    encrypt_workers: Annotated[int, Meta(ge=-1, le=64)] = -1
    """Processes that encrypt bulk sends; -1: one for each core, four at most; 0: none."""
    worker_niceness: Annotated[int, Meta(ge=0, le=19)] = 5
    worker_timeout_s: float = 10.0
    """For one job; then the process is replaced."""
    worker_restart_s: float = 1.0
    """From the end of a process to its replacement."""
    worker_idle_s: float = 600.0
    """Processes without a job for so long are ended."""
    job_rows: Annotated[int, Meta(ge=1, le=4_096)] = 256
    """Rows of one job."""
    jobs_max: int = 64
    """Jobs that wait for a worker."""
    inline_rows_max: int = 64
    """Up to this many rows are encrypted in place, about 5 ms; larger batches go to workers."""
    key_pairs_ahead: int = 2_048
    """Key pairs made ahead of time, here and in each worker."""
    origin_rows_max: int = 4_000
    """Rows that may wait for one origin in one lane; a slow one sends the rest home."""
    streams_first: int = 16
    """Requests in flight on a link that has brought no acceptance yet; each then doubles them (W-47)."""
    http1_connections: int = 6
    """Connections to an origin that does not speak HTTP/2."""
    http1_remember_s: float = 3_600.0
    """How long an origin that does not speak HTTP/2 is not asked again."""
    origin_hold_s: float = 600.0
    """How long an origin is not used with a key that it refuses."""
    pools_max: int = 2_000
    """Origins, keys and lanes with links at one time; past it the idle ones are closed, then rows go home."""
    idle_close_s: float = 300.0
    """A link without requests for so long is closed."""
    retry_after_max_s: float = 86_400.0
    """A Retry-After is believed up to here (X-24)."""
    throttled_retry_s: float = 60.0
    """Before a row that met a 429 is tried again, where the service names no time."""
    throttles_max: Annotated[int, Meta(ge=1)] = 3
    """Answers 429 with a Retry-After in a row, from one origin to one key, after which that key rests there."""
    origin_rest_max_s: float = 60.0
    """The longest that a Retry-After stops all that goes to one origin; single rows wait as long as they are told."""
    fresh_grace_s: float = 60.0
    """A subscription younger than this survives a 410: some services are slow to know their newest."""
