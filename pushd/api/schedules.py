"""Schedules over HTTP: /schedules, and their occurrences. A send with a time makes one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Listing, Operation, Page
from pushd.api.request import Request
from pushd.commands import schedules
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.device import ID_MAX
from pushd.model.schedule import INSTANT_MAX
from pushd.model.scheduled import OccurrenceView, ScheduleChange, ScheduleView
from pushd.web.caller import Caller

ScheduleId = Annotated[int, Meta(ge=1, le=ID_MAX)]

_NEWEST = ID_MAX + 1
_MICROSECONDS = 1_000_000


class OneSchedule(Struct, frozen=True):
    """A schedule in the path."""

    schedule_id: ScheduleId


class SchedulesPage(Page, frozen=True, kw_only=True):
    """Which schedules to list."""

    active: Annotated[bool, Meta(description="Those that go on, or those that do not; absent: all.")] | None = None


class OccurrencesPage(Page, frozen=True, kw_only=True):
    """A page of the occurrences of a schedule in the path."""

    schedule_id: ScheduleId


async def listing(context: Context, caller: Caller, request: Request[None, SchedulesPage]) -> Listing[ScheduleView]:
    """GET /schedules."""
    found, more = await schedules.list_page(
        context, caller.app, before=request.after(_NEWEST), limit=request.limit, active=request.params.active
    )
    return request.listing(found, [each.id for each in found], more=more)


async def show(context: Context, caller: Caller, request: Request[None, OneSchedule]) -> ScheduleView:
    """GET /schedules/{schedule_id}."""
    return await schedules.get(context, caller.app, request.params.schedule_id)


async def update(context: Context, caller: Caller, request: Request[ScheduleChange, OneSchedule]) -> ScheduleView:
    """PATCH /schedules/{schedule_id}."""
    return await schedules.update(context, caller.app, request.params.schedule_id, request.body)


async def cancel(context: Context, caller: Caller, request: Request[None, OneSchedule]) -> None:
    """DELETE /schedules/{schedule_id}."""
    await schedules.cancel(context, caller.app, request.params.schedule_id)


async def occurrences(
    context: Context, caller: Caller, request: Request[None, OccurrencesPage]
) -> Listing[OccurrenceView]:
    """GET /schedules/{schedule_id}/occurrences."""
    before = request.after(int(INSTANT_MAX + 1) * _MICROSECONDS) / _MICROSECONDS
    found, instants = await schedules.occurrences(
        context, caller.app, request.params.schedule_id, before=before, limit=request.limit
    )
    return request.listing(found, [round(each * _MICROSECONDS) for each in instants])


OPERATIONS = (
    Operation(
        name="listSchedules",
        method="GET",
        path="/schedules",
        tag="schedules",
        summary="Schedules, newest first",
        description="A send with a time, or one that quiet hours or a frequency cap may keep back, is a schedule until "
        "it goes out. What was sent once is none any more; recurrences stay, also when they are over.",
        handler=listing,
        params=SchedulesPage,
        answer=Listing[ScheduleView],
    ),
    Operation(
        name="getSchedule",
        method="GET",
        path="/schedules/{schedule_id}",
        tag="schedules",
        summary="One schedule: what it sends, its next five occurrences, and how many there were",
        handler=show,
        params=OneSchedule,
        answer=ScheduleView,
    ),
    Operation(
        name="updateSchedule",
        method="PATCH",
        path="/schedules/{schedule_id}",
        tag="schedules",
        summary="Changes what is to come of a schedule, or switches it on or off",
        description="Whatever a send may say can be said anew, and holds for what was not released yet. Another time "
        "is judged as if it was sent now; occurrences that were are counted on. With `revision` nothing is changed "
        "where somebody else was faster. What was sent, or is over, keeps everything but its name.",
        handler=update,
        params=OneSchedule,
        body=ScheduleChange,
        answer=ScheduleView,
        errors=(ConflictError,),
        example={"active": False},
    ),
    Operation(
        name="cancelSchedule",
        method="DELETE",
        path="/schedules/{schedule_id}",
        tag="schedules",
        summary="Ends a schedule: nothing more occurs",
        description="What it has sent goes on; cancel that by its own id. Cancelling again changes nothing.",
        handler=cancel,
        params=OneSchedule,
        statuses=(204,),
        errors=(ConflictError,),
    ),
    Operation(
        name="listOccurrences",
        method="GET",
        path="/schedules/{schedule_id}/occurrences",
        tag="schedules",
        summary="What has come of the occurrences of a schedule, newest first",
        handler=occurrences,
        params=OccurrencesPage,
        answer=Listing[OccurrenceView],
    ),
)
