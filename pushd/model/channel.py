"""Channels: what installs and users subscribe to, by a uuid that the app chooses."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from pushd.model.device import ID_MAX, Text255

ChannelId = Annotated[int, Meta(ge=1, le=ID_MAX)]

SUBSCRIBERS_MAX = 10_000
"""Installs or users that one request subscribes; more are an import."""
SUBSCRIPTIONS_MAX = 1_000
"""Channels that one install, or one user, may be subscribed to."""
META_BYTES_MAX = 16_384
"""Of a channel's `meta`, as JSON."""


class NewChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A channel to be made; a uuid is made up where none is given."""

    uuid: Text255 | None = None
    name: Annotated[str, Meta(max_length=255)] = ""
    show_in_portal: bool = False
    meta: dict[str, Any] | None = None


class ChannelChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What changes of a channel: absent fields stay, a `meta` of null goes."""

    uuid: Text255 | msgspec.UnsetType = msgspec.UNSET
    name: Annotated[str, Meta(max_length=255)] | msgspec.UnsetType = msgspec.UNSET
    show_in_portal: bool | msgspec.UnsetType = msgspec.UNSET
    meta: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET


class Channel(Struct, frozen=True, kw_only=True):
    """A channel as it is listed."""

    id: ChannelId
    uuid: str
    name: str
    show_in_portal: bool
    """Whether apps list it to their users."""
    meta: dict[str, Any] | None
    created_at: float
    updated_at: float


class ChannelWithDevices(Channel, frozen=True, kw_only=True):
    """A channel as it is shown alone."""

    devices: int
    """Those that are subscribed, by their install or their user, reachable or not."""
