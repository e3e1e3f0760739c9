"""Segments: made, changed, read, listed and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from msgspec import UNSET

from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.errors import Fault, InvalidRequestError, NotFoundError
from pushd.model.audience import Audience
from pushd.model.segment import NewSegment, Segment, SegmentChange


async def create(context: Context, app_id: int, new: NewSegment) -> Segment:
    """The new segment. InvalidRequestError where its audience cannot be, ConflictError where it finds no place."""
    check_text(new)
    uuid = new.uuid or str(uuid4())
    _check(context, app_id, uuid, new.audience)
    return await context.whole(_create(context, app_id, uuid, new))


async def get(context: Context, app_id: int, uuid: str) -> Segment:
    """The segment; NotFoundError."""
    found = await context.store.segments.get(app_id, uuid)
    if found is None:
        raise NotFoundError("There is no such segment")
    return found


async def list_page(context: Context, app_id: int, *, after: int, limit: int) -> Sequence[Segment]:
    """Segments with ids above `after`, ascending."""
    return await context.store.segments.list(app_id, after, limit)


async def update(context: Context, app_id: int, uuid: str, change: SegmentChange) -> Segment:
    """The segment after the change. NotFoundError, InvalidRequestError, ConflictError."""
    check_text(change)
    audience = None if change.audience is UNSET else change.audience
    if audience is not None:
        _check(context, app_id, uuid, audience)
    return await context.whole(_update(context, app_id, uuid, None if change.name is UNSET else change.name, audience))


async def delete(context: Context, app_id: int, uuid: str) -> None:
    """Nothing, once the segment is gone: audiences that name it reach nobody by it. NotFoundError."""
    await context.whole(_delete(context, app_id, uuid))


def _check(context: Context, app_id: int, uuid: str, audience: Audience) -> None:
    """Returns when the audience is within the limits, and the segment would not stand in itself."""
    if context.index.stands_in(app_id, uuid, audience):
        fault = Fault("/audience", "names the segment itself, at once or through another segment")
        raise InvalidRequestError("A segment cannot be part of itself", faults=[fault])
    context.index.check(app_id, audience)


async def _create(context: Context, app_id: int, uuid: str, new: NewSegment) -> Segment:
    made = await context.store.segments.create(app_id, uuid, new)
    await context.definitions.segments_changed([app_id])
    return made


async def _update(context: Context, app_id: int, uuid: str, name: str | None, audience: Audience | None) -> Segment:
    changed = await context.store.segments.update(app_id, uuid, name, audience)
    if changed is None:
        raise NotFoundError("There is no such segment")
    await context.definitions.segments_changed([app_id])
    return changed


async def _delete(context: Context, app_id: int, uuid: str) -> None:
    if not await context.store.segments.delete(app_id, uuid):
        raise NotFoundError("There is no such segment")
    await context.definitions.segments_changed([app_id])
