"""Notifications: sent, renamed, paused, resumed and cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from pushd.commands import schedules
from pushd.commands.audience import TargetErrors
from pushd.commands.context import Context
from pushd.commands.planning import Plan, accept_of, plan_send
from pushd.commands.text import check_text
from pushd.errors import ConflictError, NotFoundError
from pushd.model.notification import Send, State
from pushd.store.accepts import Then
from pushd.store.notifications import Accepted, Idempotency
from pushd.telemetry import ACCEPTED

LOOKS_MAX = 3
"""At what changes between being a schedule, running and being done; it changes twice at most."""


class Sent(Struct, frozen=True, omit_defaults=True):
    """The answer to a send: accepted, and kept through any crash from now on."""

    id: int
    targeted: int | None = None
    """Devices that it goes to; absent where it waits: they are looked for when it is released."""
    next_at: float | None = None
    """UNIX seconds of the earliest instant at which it goes out to anybody; absent where that is now."""
    errors: TargetErrors | None = None
    """Named targets that it cannot go to, were it sent now; absent when all can be reached."""


class Answer(Struct, frozen=True):
    """The JSON of an answer, and whether an earlier request with the same Idempotency-Key was answered with it."""

    body: bytes
    replayed: bool


async def send(context: Context, app_id: int, wanted: Send, idempotency: tuple[str, bytes] | None = None) -> Answer:
    """The answer to a send, once it is committed; sending starts at once, or when its time comes.

    `idempotency` is the caller's key and SHA-256 of the request. InvalidRequestError, UnknownTargetsError,
    IdempotencyMismatchError, UnavailableError.
    """
    # Asked before anything else: a repetition is told what the first was told, whatever has become of its targets.
    if idempotency is not None and (told := await context.store.idempotency.find(app_id, *idempotency)) is not None:
        return _answer(told.notification_id, told.answer, replayed=True)
    made = await _planned(context, app_id, wanted)
    key = Idempotency(*idempotency) if idempotency else None
    accepted = await _accepted(context, made, key, made.told())
    return _answer(accepted.id, accepted.answer, replayed=accepted.replayed)


async def sent(context: Context, app_id: int, wanted: Send) -> Sent:
    """As `send`, for surfaces that tell of it in words of their own and know no keys of requests."""
    made = await _planned(context, app_id, wanted)
    accepted = await _accepted(context, made, None, b"")
    if made.due is not None:
        return Sent(id=accepted.id, next_at=made.due.at, errors=made.errors)
    return Sent(id=accepted.id, targeted=len(made.devices), errors=made.errors)


async def _planned(context: Context, app_id: int, wanted: Send) -> Plan:
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    made = await plan_send(context, app, wanted)
    if made.due is None:
        context.fanout.check_room(len(made.devices), app_id)
    return made


async def _accepted(context: Context, made: Plan, key: Idempotency | None, answer: bytes) -> Accepted:
    accept = accept_of(context, made, context.clock.now(), key, answer)
    return await carried(
        lambda then: context.store.notifications.acceptor.accept(accept, then),
        lambda accepted: release(context, accepted, (made,)),
    )


async def carried(begin: Callable[[Then], asyncio.Future[Accepted]], effect: Then) -> Accepted:
    """What was accepted, once it is committed and its effect is there.

    It is carried to its end even when who asked goes away meanwhile: between a commit and its effect nothing is
    cancelled. Who asked goes on in the next turn of the event loop; `shield` would take two.
    """
    told: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()

    def then(accepted: Accepted) -> None:
        effect(accepted)
        if not told.done():
            told.set_result(accepted)

    def refuse(done: asyncio.Future[Accepted]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None and not told.done():
            told.set_exception(error)

    begin(then).add_done_callback(refuse)
    return await told


def release(context: Context, accepted: Accepted, plans: Sequence[Plan]) -> None:
    """Starts what was committed and does not wait, in the turn in which that is known; a replay starts nothing."""
    if accepted.replayed:
        return
    ACCEPTED.inc(len(plans))
    at_once = [plan for plan in plans if plan.due is None] if accepted.scheduled else plans
    for notification, plan in zip(accepted.notifications, at_once, strict=False):
        context.fanout.release(notification, plan.app.settings, plan.devices, version=plan.version)
        if notification.state is State.CANCELLED:
            context.fanout.cancel(notification.id)


async def rename(context: Context, app_id: int, notification_id: int, name: str | None) -> None:
    """Nothing, once the notification has this name, whether it was sent or waits for its time. NotFoundError."""
    check_text({"name": name})
    for _ in range(2):  # its time may come between the two looks
        if await context.store.notifications.rename(app_id, notification_id, name):
            return
        if await schedules.renamed(context, app_id, notification_id, name):
            return
    raise NotFoundError("There is no such notification")


async def cancel(context: Context, app_id: int, notification_id: int) -> None:
    """Nothing, once no more of it goes out, not even after a crash. NotFoundError; ConflictError when it is done.

    One that waits for its time will not go out at all.
    """
    await context.whole(_cancel(context, app_id, notification_id))


async def pause(context: Context, app_id: int, notification_id: int) -> None:
    """Nothing, once what was not sent of it stays back until it is resumed or its life ends.

    One that waits for its time does not go out when that comes. NotFoundError; ConflictError when it is done.
    """
    await context.whole(_pause(context, app_id, notification_id))


async def resume(context: Context, app_id: int, notification_id: int) -> None:
    """Nothing, once what was paused goes on. NotFoundError; ConflictError when it is done."""
    await context.whole(_resume(context, app_id, notification_id))


async def _cancel(context: Context, app_id: int, notification_id: int) -> None:
    async def running() -> bool:
        if not await context.store.notifications.cancel(app_id, notification_id):
            return False
        if not context.fanout.cancel(notification_id):
            # Committed, and not released yet: it is as soon as its commit is known here.
            context.store.notifications.acceptor.cancel(notification_id)
        return True

    ended = await _either(
        context, app_id, notification_id, running, lambda: schedules.cancelled(context, app_id, notification_id)
    )
    if ended is State.DONE:
        raise ConflictError("The notification is done: nothing is left to cancel")


async def _pause(context: Context, app_id: int, notification_id: int) -> None:
    async def running() -> bool:
        paused = await context.store.notifications.pause(app_id, notification_id)
        if paused:
            context.fanout.pause(notification_id)
        return paused

    def waiting() -> Awaitable[bool]:
        return schedules.switched(context, app_id, notification_id, on=False)

    if (ended := await _either(context, app_id, notification_id, running, waiting)) is not None:
        raise ConflictError(f"The notification is {ended.value}: nothing is left to keep back")


async def _resume(context: Context, app_id: int, notification_id: int) -> None:
    async def running() -> bool:
        goes_on = await context.store.notifications.unpause(app_id, notification_id)
        if goes_on:
            context.fanout.unpause(notification_id)
        return goes_on

    def waiting() -> Awaitable[bool]:
        return schedules.switched(context, app_id, notification_id, on=True)

    if (ended := await _either(context, app_id, notification_id, running, waiting)) is not None:
        raise ConflictError(f"The notification is {ended.value}: nothing is left to go on with")


async def _either(
    context: Context,
    app_id: int,
    notification_id: int,
    running: Callable[[], Awaitable[bool]],
    waiting: Callable[[], Awaitable[bool]],
) -> State | None:
    """None once one of the two was done, to what runs or to what waits for its time; else how it ended. NotFoundError.

    Its time may come between two looks, and what it had to release may end: then they are taken again.
    """
    for _ in range(LOOKS_MAX):
        if await running():
            return None
        stored = await context.store.notifications.get(app_id, notification_id)
        if stored is not None and stored.notification.state in {State.CANCELLED, State.DONE}:
            return stored.notification.state
        if await waiting():
            return None
    raise NotFoundError("There is no such notification")


def _answer(notification_id: int, told: bytes, *, replayed: bool) -> Answer:
    return Answer(b'{"id":%d,' % notification_id + told[1:], replayed)
