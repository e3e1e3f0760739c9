"""Broadcast channels of Live Activities: what is asked for, and what there is."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.model.device import DeviceId, Environment

BundleId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]


class LiveActivityChannelBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A channel to be made at Apple, or one that is there already to be taken over."""

    bundle: BundleId
    """The app's own bundle id, without a suffix."""
    environment: Environment = Environment.PRODUCTION
    stores: bool = False
    """Whether Apple keeps the newest message for devices that are away; only then may messages have a `ttl_s`."""
    channel_id: Annotated[str, Meta(min_length=1, max_length=240)] | None = None
    """Of a channel that exists at Apple: it is taken over as it is, and none is made."""


class LiveActivityChannel(Struct, frozen=True, kw_only=True):
    """A broadcast channel."""

    id: DeviceId
    """Of the device that stands for it in audiences."""
    channel_id: str
    """What apps subscribe to, and `input_channel` of a start."""
    bundle: str
    environment: Environment
    stores: bool
    reachable: bool
    """Whether messages go to it: not after Apple said that it is gone."""
    at_apple: bool | None = None
    """Whether Apple knows it. Null: Apple was not, or could not be, asked."""
    created_at: float
    """UNIX seconds."""
