"""How the simulated APNs behaves when nothing is scripted: limits, windows, ages, and how much it remembers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Uint31 = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Behaviour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one simulator. Defaults are what was seen of Apple's servers (protocols.md A-12, A-60, A-70)."""

    streams_max: Uint31 = 1000
    """Concurrent streams once a request carried a valid provider token."""
    streams_before_token: Uint31 = 1
    """Concurrent streams until then."""
    throttle_on_rejection: bool = False
    """After a 4xx other than 410 allow one stream, until the next acceptance (A-51)."""
    bad_tokens_max: int = 0
    """BadDeviceToken answers after which a connection is told to go away; 0: never."""
    initial_window_size: Uint31 = 65_535
    """Bytes a client may send on a new stream."""
    connection_window: Annotated[int, Meta(ge=65_535, le=2**31 - 1)] = 65_535
    """Bytes a client may send on a connection before it gets credit back."""
    max_frame_size: Annotated[int, Meta(ge=16_384, le=2**24 - 1)] = 16_384
    max_header_list_size: int = 8_000
    header_table_size: int = 4_096
    token_age_max_s: float = 3_600.0
    """An older provider token is expired (A-12)."""
    token_ahead_max_s: float = 300.0
    """How far `iat` may lie in the future: our own choice, Apple names none."""
    token_update_min_s: float = 1_200.0
    """A connection may change its provider token this often, not more (A-12)."""
    latency_ms: Annotated[float, Meta(ge=0, le=600_000)] = 0.0
    """From the end of a request to its answer; answers leave in ticks of a few milliseconds."""
    rows_max: Annotated[int, Meta(ge=1)] = 4_000_000
    """Pushes remembered as columns, about 80 bytes each; the oldest go first, totals stay exact."""
    pushes_kept: Annotated[int, Meta(ge=0)] = 10_000
    """Pushes remembered whole, with headers and payload."""
    connections_kept: Annotated[int, Meta(ge=1)] = 10_000
    violations_kept: Annotated[int, Meta(ge=1)] = 1_000
    write_high_water_bytes: int = 1_048_576
    """Unread answers beyond this stop the reading of a connection."""
