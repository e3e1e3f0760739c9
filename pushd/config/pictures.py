"""Pictures of notifications: where they may be fetched from, how large they may be, and for how long they are kept."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class PicturesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of pictures that are fitted to what a browser shows. Whom tenants' URLs may name is the operator's."""

    hosts: tuple[str, ...] = ()
    """Hosts that pictures may come from beside public ones: names, or `*.` and a domain for any one label; `:port`
    where it is not 443."""
    any_host: bool = True
    """Whether pictures may come from any host at port 443 whose addresses are public."""
    networks_allowed: tuple[str, ...] = ()
    """Networks that are not public and may still be connected to, such as 10.1.2.0/24; for servers of one's own."""
    ca_file: str = ""
    """A PEM file trusted instead of the system's store; for servers of one's own."""
    public_url: str = ""
    """Where browsers reach this daemon, such as https://push.example.com; empty: at the host that a send came to."""
    wait_s: float = 4.0
    """How long a send waits for its pictures; then it goes out with them as they were given."""
    resolve_timeout_s: float = 2.0
    connect_timeout_s: float = 3.0
    """For name, TCP and TLS."""
    fetch_timeout_s: float = 8.0
    """For a whole picture, redirects included; a send that waited less leaves it to the next one."""
    redirects_max: Annotated[int, Meta(ge=0)] = 3
    bytes_max: Annotated[int, Meta(ge=1)] = 5 * 1024 * 1024
    """Of a picture as it comes."""
    pixels_max: Annotated[int, Meta(ge=1)] = 16_000_000
    """Of a picture as it is: told by its first bytes, before anything is unpacked. Each may take 5 bytes."""
    fetches_max: Annotated[int, Meta(ge=1)] = 32
    """Pictures fetched at a time; past it they go out as they were given."""
    urls_max: Annotated[int, Meta(ge=1)] = 10_000
    """URLs of which it is known what their pictures came to; past it those asked for longest ago are forgotten."""
    fresh_s: float = 86_400.0
    """How long a picture stands for its URL before it is fetched anew."""
    failed_s: float = 60.0
    """How long a URL that gave no picture is not asked again."""
    keep_days: Annotated[int, Meta(ge=29)] = 35
    """How long a fitted picture is served after it was last wanted: longer than a push may wait."""
    memory_bytes_max: int = 32 * 1024 * 1024
    """Of fitted pictures that are kept in memory: browsers of a campaign ask for them all at once."""
