"""Badges that pushd counts: set by devices that showed their own, and by servers for all devices of a user."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.badges import COUNT_MAX
from pushd.commands import devices
from pushd.commands.context import Context
from pushd.errors import NotFoundError


class BadgeCount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the badge shows from now on."""

    count: Annotated[int, Meta(ge=0, le=COUNT_MAX)]
    """The next message that counts goes on from there; 0: nothing is shown."""


class BadgesSet(Struct, frozen=True):
    """Whom it was set for."""

    devices: int
    """How many the user has."""


async def set_device(
    context: Context, app_id: int, device_id: int, wanted: BadgeCount, *, install_id: str | None = None
) -> None:
    """Nothing, once the device's badge is counted from there, committed. NotFoundError."""
    await devices.get(context, app_id, device_id, install_id=install_id)
    await context.whole(context.store.badges.set(app_id, device_id, wanted.count))


async def set_user(context: Context, app_id: int, external_id: str, wanted: BadgeCount) -> BadgesSet:
    """How many devices' badges are counted from there, committed. NotFoundError."""
    found = await context.whole(context.store.badges.set_of(app_id, external_id, wanted.count))
    if found is None:
        raise NotFoundError("There is no such user")
    return BadgesSet(found)
