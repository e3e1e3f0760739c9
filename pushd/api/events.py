"""Events over HTTP: /events, page by page, and /events/stream as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import PAGE_LIMIT_MAX, Operation, Reply
from pushd.api.request import Request
from pushd.commands import events
from pushd.commands.context import Context
from pushd.errors import TooManyRequestsError
from pushd.model.event import Event, EventType
from pushd.web.caller import Caller

After = Annotated[str, Meta(max_length=40, description="The id of an event: those behind it are wanted.")]
Types = Annotated[
    list[EventType],
    Meta(description="Types that are wanted, each as a parameter of its own; absent: all but device outcomes."),
]


class StreamParams(Struct, frozen=True):
    """Which events a stream has."""

    after: After | None = None
    type: Types | None = None


class EventsParams(Struct, frozen=True):
    """Which events to read."""

    after: After | None = None
    type: Types | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT_MAX, description="Events of a page.")] = 100


class Events(Struct, frozen=True):
    """Events in order, and the id of the last of them, to be given as `after`; null where there is none."""

    items: list[Event]
    last: str | None


async def listing(context: Context, caller: Caller, request: Request[None, EventsParams]) -> Reply[bytes]:
    """GET /events."""
    params = request.params
    found = await events.list_page(context, caller.app, after=params.after, types=params.type, limit=params.limit)
    last = b'"%b"' % found[-1].id.encode() if found else b"null"
    return Reply(b'{"items":[' + b",".join([each.body for each in found]) + b'],"last":' + last + b"}")


async def stream(context: Context, caller: Caller, request: Request[None, StreamParams]) -> AsyncIterator[bytes]:
    """GET /events/stream."""
    after = request.headers.get("Last-Event-ID") or request.params.after
    return events.stream(context, caller.app, after=after, types=request.params.type)


OPERATIONS = (
    Operation(
        name="listEvents",
        method="GET",
        path="/events",
        tag="events",
        summary="Events of the app, oldest first",
        description="For who would rather ask than be told: give `last` as `after` to read on. Events of an app are "
        "noted while anybody listens: a webhook, a stream, or who asked here within the last day.",
        handler=listing,
        params=EventsParams,
        answer=Events,
    ),
    Operation(
        name="streamEvents",
        method="GET",
        path="/events/stream",
        tag="events",
        summary="Streams the events of the app",
        description="Server-sent events, from now on, or behind the event that the header `Last-Event-ID` names, as "
        "browsers and client libraries send it when they come back. The stream is ended now and then; come back.",
        handler=stream,
        params=StreamParams,
        answer_events=Event,
        errors=(TooManyRequestsError,),
    ),
)
