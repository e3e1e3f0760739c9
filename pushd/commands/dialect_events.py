"""Events of dialects: sent, looked at, edited and deleted together with the notifications that they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from pushd.commands import notifications, schedules
from pushd.commands.audience import resolve
from pushd.commands.context import Context
from pushd.commands.planning import Plan, accept_of, plan_send
from pushd.commands.text import check_text
from pushd.errors import ConflictError, NotFoundError, UnknownTargetsError
from pushd.model.app import App
from pushd.model.dialect_event import DialectEvent, KeptEvent, NewEvent
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.schedule import Schedule
from pushd.model.scheduled import ScheduleChange
from pushd.model.vendor_key import DialectName


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is to be different of an event; what is None stays."""

    message: tuple[str, Message] | None = None
    """As it is told, and as it is sent."""
    schedule: Schedule | None = None
    date: int | None = None
    period: int | None = None
    name: str | None = None
    active: bool | None = None


async def send(
    context: Context,
    app_id: int,
    dialect: DialectName,
    *,
    user_id: int | None,
    wanted: Sequence[NewEvent],
    only_reached: bool = False,
) -> list[DialectEvent]:
    """The events, once all are accepted by one commit; if one of them cannot be, none is.

    `only_reached`: those that would reach nobody now are left out, and are an error where no other is left. Errors as
    those of `notifications.send`.
    """
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    check_text([(each.told.message, each.told.name, each.told.tag_query) for each in wanted])
    event_ids = await context.store.dialect_events.ids(len(wanted))
    made: list[tuple[Plan, KeptEvent]] = []
    now = math.floor(context.clock.now())
    for each, event_id in zip(wanted, event_ids, strict=True):
        plan = await _planned(context, app, _told(each, event_id), only_reached=only_reached)
        if plan is not None:
            made.append((plan, _kept(each, event_id, dialect, user_id or 0, now)))
    if not made:
        raise UnknownTargetsError("None of the devices or users named can be reached")
    return await _accepted(context, app_id, made)


async def get(context: Context, app_id: int, dialect: DialectName, event_id: int) -> DialectEvent:
    """The event; NotFoundError."""
    event = await context.store.dialect_events.get(app_id, dialect, event_id)
    if event is None:
        raise NotFoundError("There is no such event")
    return event


async def page(
    context: Context, app_id: int, dialect: DialectName, user_id: int | None, *, number: int, size: int
) -> tuple[Sequence[DialectEvent], int]:
    """A page of what a user asked for, the newest first, and how many events there are of him."""
    offset = (number - 1) * size
    return await context.store.dialect_events.page(app_id, dialect, user_id or 0, offset=offset, limit=size)


async def edit(context: Context, event: DialectEvent, change: Edit) -> DialectEvent:
    """The event after the change.

    NotFoundError; InvalidRequestError; ConflictError where nothing of it is to come and more than its name changes.
    """
    app_id, schedule_id = event.app_id, event.notification_id
    wanted = ScheduleChange(
        message=UNSET if change.message is None else change.message[1],
        schedule=UNSET if change.schedule is None else change.schedule,
        active=UNSET if change.active in {None, event.active} else change.active,
    )
    if change.name is not None:
        check_text(change.name)
    if wanted != ScheduleChange():
        try:
            await schedules.update(context, app_id, schedule_id, wanted)
        except NotFoundError:
            raise ConflictError("The event has occurred") from None
    before = event.told
    if change.name is not None and change.name != before.name:
        await notifications.rename(context, app_id, schedule_id, change.name)
    told = msgspec.structs.replace(
        before,
        message=before.message if change.message is None else change.message[0],
        date=before.date if change.date is None else change.date,
        period=before.period if change.period is None else change.period,
        name=before.name if change.name is None else change.name,
    )
    edited = msgspec.structs.replace(event, told=told, updated_at=context.clock.now())
    await context.store.dialect_events.update(edited)
    return await get(context, app_id, event.dialect, event.id)


async def delete(context: Context, event: DialectEvent) -> None:
    """Nothing, once the event is gone, and no more of it goes out."""
    with suppress(NotFoundError, ConflictError):  # it is over already, which is as good
        await notifications.cancel(context, event.app_id, event.notification_id)
    await context.store.dialect_events.delete(event.app_id, event.id)


def _told(wanted: NewEvent, event_id: int) -> Send:
    return msgspec.structs.replace(wanted.send, collapse_id=f"event{event_id}") if wanted.collapses else wanted.send


def _kept(wanted: NewEvent, event_id: int, dialect: DialectName, user_id: int, now: float) -> KeptEvent:
    return KeptEvent(
        id=event_id, dialect=dialect, user_id=user_id, created_at=now, target=wanted.target, told=wanted.told
    )


async def _planned(context: Context, app: App, wanted: Send, *, only_reached: bool) -> Plan | None:
    """The plan of an event; None where only those are wanted that reach somebody, and it would not."""
    if not only_reached:
        return await plan_send(context, app, wanted)
    try:
        made = await plan_send(context, app, wanted)
    except UnknownTargetsError:
        return None
    if made.due is not None:  # it waits for the end of quiet hours, and has looked for nobody yet
        found = await resolve(context, app.id, wanted.audience, made.kinds)
        return made if found.devices else None
    return made if made.devices else None


async def _accepted(context: Context, app_id: int, made: Sequence[tuple[Plan, KeptEvent]]) -> list[DialectEvent]:
    plans = [plan for plan, _ in made]
    context.fanout.check_room(sum(len(plan.devices) for plan in plans if plan.due is None), app_id)
    acceptor = context.store.notifications.acceptor
    now = context.clock.now()
    accepts = [accept_of(context, plan, now, None, b"", event) for plan, event in made]
    ids = await acceptor.reserve(len(plans)) if len(plans) > 1 else []
    accepted = await notifications.carried(
        lambda then: acceptor.accept_array(accepts, ids, None, b"", then) if ids else acceptor.accept(accepts[0], then),
        lambda accepted: notifications.release(context, accepted, plans),
    )
    return [
        DialectEvent(
            id=event.id,
            app_id=app_id,
            dialect=event.dialect,
            user_id=event.user_id,
            notification_id=notification_id,
            created_at=event.created_at,
            updated_at=event.created_at,
            told=event.told,
        )
        for notification_id, (_, event) in zip(ids or [accepted.id], made, strict=True)
    ]
