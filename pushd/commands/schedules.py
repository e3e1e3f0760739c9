"""Schedules: read, listed, changed, switched on and off, renamed and cancelled; sends make them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from pushd.commands.context import Context
from pushd.commands.in_app_content import changed_content
from pushd.commands.pages import newest_first
from pushd.commands.personal import check_badge, prepare
from pushd.commands.planning import examine
from pushd.commands.text import check_text
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from pushd.model.app import App
from pushd.model.in_app import InAppContent
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.schedule import Schedule, Strategy
from pushd.model.scheduled import OccurrenceView, ScheduleChange, ScheduleState, ScheduleView
from pushd.scheduler import recurrence
from pushd.scheduler.due import as_said, begun, first, following
from pushd.store.accepts import Due
from pushd.store.literals import microseconds

if TYPE_CHECKING:
    from pushd.store.schedules import Scheduled

NEXT = 5
"""Occurrences that are told in advance."""
TRIES_MAX = 8
"""A change that somebody else's overtook is made again so often; each of theirs was one that succeeded."""
_ASKED = tuple(name for name in Send.__struct_fields__ if name in ScheduleView.__struct_fields__)
_EDITABLE = tuple(name for name in Send.__struct_fields__ if name in ScheduleChange.__struct_fields__)
_CONTENT = ("message", "template", "liquid", "content_tags", "locales", "user_data")
_TIME = ("schedule", "intelligent_delivery")
_NONE_LEFT = "No occurrence of the schedule is left"

Edit = Callable[["Scheduled"], Awaitable["Scheduled"]]
"""What a schedule becomes; ConflictError where it cannot."""


async def get(context: Context, app_id: int, schedule_id: int) -> ScheduleView:
    """The schedule, with its next occurrences. NotFoundError."""
    return await _shown(context, await _stored(context, app_id, schedule_id))


async def list_page(
    context: Context, app_id: int, *, before: int, limit: int, active: bool | None = None
) -> tuple[list[ScheduleView], bool]:
    """Schedules with ids below `before`, newest first, and whether the page was cut short by its size.

    `active`: those of which something is to come, or the others.
    """

    async def read(below: int, wanted: int) -> list[ScheduleView]:
        found = await context.store.schedules.list(app_id, below, wanted, active=active)
        return [_view(each, []) for each in found]

    return await newest_first(read, before, limit)


async def occurrences(
    context: Context, app_id: int, schedule_id: int, *, before: float, limit: int
) -> tuple[list[OccurrenceView], list[float]]:
    """What has come of occurrences due before an instant, newest first, and the instants. NotFoundError."""
    stored = await _stored(context, app_id, schedule_id)
    found = await context.store.schedules.occurrences(app_id, schedule_id, before, limit)
    views = [
        OccurrenceView(
            at=_said(stored.send, each.at),
            outcome="fired" if each.fired else "skipped",
            notification_id=None if stored.in_app is not None else each.notification_id,
            in_app_message_id=None if stored.in_app is None else each.notification_id,
            decided_at=each.decided_at,
        )
        for each in found
    ]
    return views, [each.at for each in found]


async def update(context: Context, app_id: int, schedule_id: int, change: ScheduleChange) -> ScheduleView:
    """The schedule after the change.

    NotFoundError; ConflictError where it is over, or is not of the revision named any more; InvalidRequestError.
    """
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")

    async def edit(stored: Scheduled) -> Scheduled:
        if change.revision not in {UNSET, stored.revision}:
            raise ConflictError(f"The schedule was changed: its revision is {stored.revision}")
        return await _changed(context, app, stored, change)

    changed = await context.whole(_edited(context, app_id, schedule_id, edit))
    if changed is None:
        raise await _absent(context, app_id, schedule_id)
    return await _shown(context, changed)


async def renamed(context: Context, app_id: int, schedule_id: int, name: str | None, *, in_app: bool = False) -> bool:
    """Whether there is such a schedule, of sends or of in-app messages, over or not, which has this name now."""

    async def edit(stored: Scheduled) -> Scheduled:
        return replace(stored, send=msgspec.structs.replace(stored.send, name=name))

    return await context.whole(_edited(context, app_id, schedule_id, edit, in_app=in_app)) is not None


async def cancel(context: Context, app_id: int, schedule_id: int) -> None:
    """Nothing, once nothing more occurs. NotFoundError; ConflictError where it is over, or was sent already."""
    if not await context.whole(cancelled(context, app_id, schedule_id, in_app=None)):
        raise await _absent(context, app_id, schedule_id)


async def cancelled(context: Context, app_id: int, schedule_id: int, *, in_app: bool | None = False) -> bool:
    """Whether there is such a schedule, of which nothing more occurs; ConflictError where it was over by itself."""
    if await context.store.schedules.cancel(app_id, schedule_id, in_app=in_app):
        return True
    stored = await context.store.schedules.get(app_id, schedule_id, in_app=in_app)
    if stored is not None and stored.cancelled_at is None:
        raise ConflictError("The schedule is over: nothing is left to cancel")
    return stored is not None


async def switched(context: Context, app_id: int, schedule_id: int, *, on: bool, in_app: bool = False) -> bool:
    """Whether there is such a schedule, which is on or off now; ConflictError where it is over."""
    app = await context.store.apps.get(app_id)
    if app is None:
        return False

    async def edit(stored: Scheduled) -> Scheduled:
        return await _changed(context, app, stored, ScheduleChange(active=on))

    return await _edited(context, app_id, schedule_id, edit, in_app=in_app) is not None


async def _edited(
    context: Context, app_id: int, schedule_id: int, edit: Edit, *, in_app: bool | None = None
) -> Scheduled | None:
    """The schedule as it was written, read and edited again where somebody was faster; None: there is none."""
    for _ in range(TRIES_MAX):
        stored = await context.store.schedules.get(app_id, schedule_id, in_app=in_app)
        if stored is None:
            return None
        changed = await edit(stored)
        if changed == stored:
            return stored
        if await context.store.schedules.edit(changed):
            return replace(changed, revision=changed.revision + 1)
    raise ConflictError("The schedule is being changed by others: try again")


async def _absent(context: Context, app_id: int, schedule_id: int) -> NotFoundError | ConflictError:
    """What to say of a schedule that is not there: perhaps because it was sent."""
    if await context.store.notifications.get(app_id, schedule_id) is not None:
        return ConflictError("It was released: its content, audience and time are fixed, its name is not")
    return NotFoundError("There is no such schedule")


async def _changed(context: Context, app: App, stored: Scheduled, change: ScheduleChange) -> Scheduled:
    """The schedule with a change; whatever is new is checked as a send's is."""
    given = {name: getattr(change, name) for name in _EDITABLE}
    send = msgspec.structs.replace(stored.send, **{name: value for name, value in given.items() if value is not UNSET})
    active = stored.active if change.active is UNSET else change.active
    in_app = stored.in_app
    said = change.in_app is not UNSET or send != msgspec.structs.replace(stored.send, name=send.name)
    if stored.ended_at is not None and (said or change.active is True or active != stored.active):
        raise ConflictError("The schedule is over: only its name can be changed")
    check_text({"name": send.name})
    if (in_app is not None or change.in_app is not UNSET) and said:
        in_app = await changed_content(context, app, stored, send, change)
    elif said:
        # What was accepted stays so, whatever has become of the app's gateways: it can be named and switched.
        send = await _content(context, app.id, send, change)
        examine(context, app, send)
    if send.audience != stored.send.audience:
        context.index.check(app.id, send.audience)
    changed = replace(stored, send=send, active=active, in_app=in_app)
    now = microseconds(context.clock.now())
    if any(getattr(send, name) != getattr(stored.send, name) for name in _TIME):
        return _anew(changed, app, now)
    if active and not stored.active:
        return _switched_on(changed, app, now)
    return changed


async def _content(context: Context, app_id: int, send: Send, change: ScheduleChange) -> Send:
    """The send with its content as it is kept: a template's message with what is said beside it."""
    given = [name for name in _CONTENT if getattr(change, name) is not UNSET]
    if not given:
        if send.badge_from is not None:
            check_badge(send)
        return send
    if change.message is UNSET and change.template is UNSET and not (send.liquid and send.template is None):
        detail = "is said together with `message` or `template`: what they made before is kept as it came out"
        raise InvalidRequestError(faults=[Fault(f"/{name}", detail) for name in given])
    if change.template is not UNSET and change.template is not None:
        # What is kept of the old one must not stand over the new one's.
        message = Message() if change.message is UNSET else change.message
        send = msgspec.structs.replace(send, message=message, locales=change.locales or {})
    return await prepare(context, app_id, send)


def _anew(changed: Scheduled, app: App, now: float) -> Scheduled:
    """The schedule with its time judged as if it was sent now."""
    zone, occurred = app.settings.time_zone, changed.occurred + changed.skipped
    due = first(changed.send, accepted_at=now, app_zone=zone, occurred=occurred)
    return _due(replace(changed, send=begun(changed.send, accepted_at=now, app_zone=zone), accepted_at=now), due)


def _switched_on(changed: Scheduled, app: App, now: float) -> Scheduled:
    """A recurrence goes on with what is still to come; what has one time is judged anew."""
    ready = _ready(changed, app)
    if ready is None:
        return _anew(changed, app, now)
    # What it stands at was not decided yet: it comes, where its time does.
    last = None if changed.nominal is None else changed.nominal - 1
    due = following(ready, last, now=now, occurred=changed.occurred + changed.skipped)
    if due is None:
        raise ConflictError(_NONE_LEFT)
    return _due(changed, due)


def _due(changed: Scheduled, due: Due) -> Scheduled:
    return replace(changed, next_at=due.at, nominal=due.nominal)


def _ready(stored: Scheduled, app: App) -> recurrence.Occurrences | None:
    """The occurrences of a schedule; None where it has one time only."""
    schedule = stored.send.schedule
    if schedule is None or schedule.recurrence is None:
        return None
    return recurrence.prepare(schedule, accepted_at=stored.accepted_at, app_zone=app.settings.time_zone)


async def _stored(context: Context, app_id: int, schedule_id: int) -> Scheduled:
    stored = await context.store.schedules.get(app_id, schedule_id)
    if stored is None:
        raise NotFoundError("There is no such schedule")
    return stored


async def _shown(context: Context, stored: Scheduled) -> ScheduleView:
    app = await context.store.apps.get(stored.app_id)
    return _view(stored, [] if app is None else await _next(stored, app))


async def _next(stored: Scheduled, app: App) -> list[float | str]:
    """The next occurrences, looked for one at a time: a sparse rule takes milliseconds for each."""
    if stored.nominal is None or state(stored) is not ScheduleState.ACTIVE:
        return []
    ready = _ready(stored, app)
    if ready is None:
        return [_said(stored.send, stored.nominal)]
    found = [stored.nominal]
    occurred = stored.occurred + stored.skipped + 1
    while len(found) < NEXT:
        await asyncio.sleep(0)
        each = ready.after(found[-1], occurred)
        if each is None:
            break
        found.append(each)
        occurred += 1
    return [_said(stored.send, each) for each in found]


def state(stored: Scheduled) -> ScheduleState:
    """Where a schedule stands."""
    if stored.cancelled_at is not None:
        return ScheduleState.CANCELLED
    if stored.ended_at is not None:
        return ScheduleState.ENDED
    return ScheduleState.ACTIVE if stored.active else ScheduleState.INACTIVE


def _said(send: Send, occurrence: float) -> float | str:
    schedule: Schedule | None = send.schedule
    return as_said(Strategy.UTC if schedule is None or schedule.strategy is None else schedule.strategy, occurrence)


def _view(stored: Scheduled, coming: list[float | str]) -> ScheduleView:
    asked = {name: getattr(stored.send, name) for name in _ASKED}
    now = state(stored)
    return ScheduleView(
        **asked,
        id=stored.id,
        state=now,
        active=now is ScheduleState.ACTIVE,
        revision=stored.revision,
        created_at=stored.created_at,
        next_at=stored.next_at if now is ScheduleState.ACTIVE else None,
        next=coming,
        occurred=stored.occurred,
        skipped=stored.skipped,
        in_app=None if stored.in_app is None else msgspec.json.decode(stored.in_app, type=InAppContent),
        ended_at=stored.ended_at,
        cancelled_at=stored.cancelled_at,
    )
