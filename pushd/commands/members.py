"""Who is in an audience: a few of its devices by chance, or all of its devices or users as a stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from msgspec import Struct

from pushd.bitset import Bitset, Devices, Users
from pushd.commands.audience import TargetErrors, resolve, target_errors
from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.content.kinds import kinds
from pushd.model.audience import Audience
from pushd.model.device import Device
from pushd.model.message import PushType
from pushd.model.user import User

SAMPLE_MAX = 100
PAGE_ROWS = 250
"""Rows that are read and written at a stretch, some 5 ms of work."""
OWNERS_AT_ONCE = 65_536
"""Devices whose users are looked up at a stretch, some 3 ms."""


class Sample(Struct, frozen=True, kw_only=True):
    """Some devices of an audience."""

    seed: int
    """With which the same devices are drawn again, as long as the audience holds the same."""
    devices: int
    """How many there are in all."""
    items: list[Device]
    errors: TargetErrors | None


class DeviceLine(Struct, frozen=True, kw_only=True, tag="device", tag_field="type"):
    """A device of the audience, as it was when this line was written."""

    device: Device


class UserLine(Struct, frozen=True, kw_only=True, tag="user", tag_field="type"):
    """A user with a device in the audience."""

    user: User


class ExportSummary(Struct, frozen=True, kw_only=True, tag="summary", tag_field="type"):
    """The last line. An export that ends without it was cut off."""

    members: int
    """How many the audience had when the export began."""
    exported: int
    """Fewer, where some went away before their line was written."""


ExportLine = DeviceLine | UserLine | ExportSummary


async def sample(
    context: Context, app_id: int, audience: Audience, push_type: PushType, size: int, seed: int | None
) -> Sample:
    """So many devices that a send of this type would reach, drawn by chance, ascending."""
    check_text({"audience": audience})
    found = await resolve(context, app_id, audience, kinds(push_type))
    seed = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    count = len(found.devices)
    drawn = random.Random(seed).sample(range(count), min(size, count))  # noqa: S311  # a lot, not a secret
    items = await context.store.devices.get_many(app_id, [found.devices[rank] for rank in drawn])
    return Sample(seed=seed, devices=count, items=[*items], errors=target_errors(found))


async def export(
    context: Context, app_id: int, audience: Audience, push_type: PushType, members: Literal["devices", "users"]
) -> AsyncIterator[ExportLine]:
    """A line for each device that a send of this type would reach now, or for each of their users, ascending by id.

    Who belongs to it is settled before the first line; rows are read page by page, as they are then.
    """
    check_text({"audience": audience})
    found = await resolve(context, app_id, audience, kinds(push_type))
    if members == "users":
        return _user_lines(context, app_id, await _owners(context, app_id, found.devices))
    return _device_lines(context, app_id, found.devices)


async def _device_lines(context: Context, app_id: int, devices: Bitset) -> AsyncIterator[ExportLine]:
    exported = 0
    for start in range(0, len(devices), PAGE_ROWS):
        rows: Sequence[Device] = await context.store.devices.get_many(app_id, _page(devices, start))
        exported += len(rows)
        for row in rows:
            yield DeviceLine(device=row)
    yield ExportSummary(members=len(devices), exported=exported)


async def _user_lines(context: Context, app_id: int, users: Bitset) -> AsyncIterator[ExportLine]:
    exported = 0
    for start in range(0, len(users), PAGE_ROWS):
        rows: Sequence[User] = await context.store.users.get_many(app_id, _page(users, start))
        exported += len(rows)
        for row in rows:
            yield UserLine(user=row)
    yield ExportSummary(members=len(users), exported=exported)


async def _owners(context: Context, app_id: int, devices: Devices) -> Users:
    """The users of these devices."""
    owners = Users()
    for start in range(0, len(devices), OWNERS_AT_ONCE):
        owners |= context.index.holders.owners(app_id, Devices(devices[start : start + OWNERS_AT_ONCE]))
        await asyncio.sleep(0)
    return owners


def _page(ids: Bitset, start: int) -> list[int]:
    return list(ids[start : start + PAGE_ROWS])
