"""The event feed: whom webhooks may call, deadlines, back-off and bounds of webhooks and streams."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class FeedConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the event feed. Whom tenants' webhooks may call is the operator's to say."""

    hosts: tuple[str, ...] = ()
    """Hosts that webhooks may call beside public ones: names, or `*.` and a domain for any one label; `:port` where it
    is not 443."""
    any_host: bool = True
    """Whether webhooks may call any host at port 443 whose addresses are public."""
    networks_allowed: tuple[str, ...] = ()
    """Networks that are not public and may still be connected to, such as 10.1.2.0/24; for receivers of one's own."""
    ca_file: str = ""
    """A PEM file trusted instead of the system's store; for receivers of one's own."""
    webhooks_per_app_max: int = 16
    """Webhooks of an app; past it 409."""
    webhooks_max: int = 10_000
    """Webhooks that one node delivers; what is more waits for another node."""
    look_interval_s: float = 2.0
    """How often a node looks for webhooks that nobody delivers."""
    requests_max: Annotated[int, Meta(ge=2)] = 256
    """Requests of webhooks under way at a time."""
    doubtful_requests_max: Annotated[int, Meta(ge=1)] = 64
    """Of these, requests to receivers that are new, failed last time, or took long: the others never wait for them."""
    slow_s: float = 1.0
    """An answer that takes longer is slow."""
    connect_timeout_s: float = 5.0
    """For name, TCP and TLS of a request."""
    resolve_timeout_s: float = 3.0
    request_timeout_s: float = 15.0
    """For a whole request, from its start to the last byte of its answer."""
    answer_bytes_max: int = 16_384
    """Of an answer that are read; only its status counts, and what is longer is cut off with its connection."""
    batch_bytes_max: int = 512 * 1024
    """Of events in one request; one that is longer goes alone."""
    backoff_base_s: float = 1.0
    """Before the first retry, at most; it doubles from failure to failure."""
    backoff_cap_s: float = 3_600.0
    """The longest pause between attempts."""
    retry_after_max_s: float = 3_600.0
    """A Retry-After is believed up to here."""
    refusals_max: Annotated[int, Meta(ge=1)] = 10
    """Answers that refuse one event, in a row, after which it becomes a dead letter and the next one goes out."""
    letters_max: int = 10_000
    """Dead letters of a webhook; with so many it is disabled, and the rest waits."""
    disable_after_s: float = 5 * 86_400.0
    """A webhook of which nothing arrived for so long is disabled; what it has not got waits until it is resumed."""
    secret_overlap_s: float = 86_400.0
    """How long requests are signed with the former secret, too, after a new one was made."""
    streams_max: int = 1_024
    """Streams of one node; past it 503."""
    streams_per_app_max: int = 16
    """Streams of an app on one node; past it 429."""
    stream_keep_alive_s: float = 15.0
    """Silence after which a stream sends a comment."""
    stream_life_s: float = 3_600.0
    """A stream is ended after this; its reader comes back with its key, which may be revoked by then."""
    listener_keep_s: float = 86_400.0
    """How long events are noted for a stream or a reader after it was here last, if the app has no webhook."""
    page_events: int = 500
    """Events read from the store at a time."""
    part_items: int = 500
    """Devices, users or receipts of one event; more of them make several events."""
    ping_interval_s: float = 10.0
    """How often the connection that hears of events is tried."""
