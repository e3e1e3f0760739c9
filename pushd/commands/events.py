"""Events of an app: read page by page, or as a stream."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence

from pushd.commands.context import Context
from pushd.errors import Fault, InvalidRequestError, UnavailableError
from pushd.feed.feed import Feed
from pushd.feed.render import Told
from pushd.model.event import DEFAULT_BITS, EventType, bits
from pushd.store.events import START

_ID = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?")


async def list_page(
    context: Context, app_id: int, *, after: str | None, types: Sequence[EventType] | None, limit: int
) -> Sequence[Told]:
    """Events behind one of them, or from the oldest that is kept, in order. InvalidRequestError, UnavailableError.

    For a day from now on events of the app are noted, if nobody else had asked for that.
    """
    feed, wanted = feed_of(context), _wanted(types)
    place = None if after is None else _place(after, "after")
    store = context.store.events
    await store.listen(app_id, wanted, feed.config.listener_keep_s)
    position = START if place is None else await store.position_of(app_id, *place)
    return (await feed.renderer.page(app_id, position, wanted, limit)).events


def stream(
    context: Context, app_id: int, *, after: str | None, types: Sequence[EventType] | None
) -> AsyncGenerator[bytes, None]:
    """Octets of a stream of events behind one of them, or from now on; as `Streams.frames`. InvalidRequestError."""
    place = None if not after else _place(after, "Last-Event-ID")
    return feed_of(context).streams.frames(app_id, _wanted(types), place)


def feed_of(context: Context) -> Feed:
    """The feed of this node; UnavailableError where there is none."""
    if context.feed is None:
        raise UnavailableError("This node does not serve events")
    return context.feed


def _wanted(types: Sequence[EventType] | None) -> int:
    return bits(types) if types else DEFAULT_BITS


def _place(event_id: str, parameter: str) -> tuple[int, int]:
    found = _ID.fullmatch(event_id)
    if found is None:
        raise InvalidRequestError(faults=[Fault(parameter, "is not the id of an event")])
    return int(found[1]), int(found[2] or 0)
