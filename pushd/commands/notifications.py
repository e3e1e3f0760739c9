"""Notifications: sent, renamed and cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from pushd.bitset import Devices
from pushd.commands.audience import TargetErrors, resolve, target_errors
from pushd.commands.context import Context
from pushd.commands.text import NUL, check_text
from pushd.content.check import validate
from pushd.content.kinds import kinds
from pushd.content.life import tried_until
from pushd.content.plain import is_plain
from pushd.errors import ConflictError, NotFoundError, UnknownTargetsError
from pushd.model.app import App
from pushd.model.device import Kind
from pushd.model.notification import Send, State
from pushd.store.accepts import Then
from pushd.store.notifications import Accept, Accepted, Idempotency
from pushd.targeting.index import Resolution
from pushd.telemetry import ACCEPTED

_encode = msgspec.json.Encoder().encode


class Sent(Struct, frozen=True, omit_defaults=True):
    """The answer to a send: accepted, and kept through any crash from now on."""

    id: int
    targeted: int
    """Devices that it goes to."""
    errors: TargetErrors | None = None
    """Named targets that it cannot go to; absent when all can be reached."""


class _Told(Struct, frozen=True, omit_defaults=True):
    """What is kept of an answer beside the id: `Sent` without it."""

    targeted: int
    errors: TargetErrors | None = None


class Answer(Struct, frozen=True):
    """The JSON of an answer, and whether an earlier request with the same Idempotency-Key was answered with it."""

    body: bytes
    replayed: bool


class Plan(Struct, frozen=True):
    """A send that may be accepted: checked, and with its devices found."""

    app: App
    send: Send
    text: bytes
    """The send as JSON."""
    devices: Devices
    kinds: frozenset[Kind]
    errors: TargetErrors | None

    def told(self) -> bytes:
        """What is told of it beside the id, as JSON."""
        if self.errors is None:
            return b'{"targeted":%d}' % len(self.devices)
        return _encode(_Told(targeted=len(self.devices), errors=self.errors))


async def send(context: Context, app_id: int, wanted: Send, idempotency: tuple[str, bytes] | None = None) -> Answer:
    """The answer to a send, once it is committed; sending starts at once.

    `idempotency` is the caller's key and SHA-256 of the request. InvalidRequestError, UnknownTargetsError,
    IdempotencyMismatchError, UnavailableError.
    """
    # Asked before anything else: a repetition is told what the first was told, whatever has become of its targets.
    if idempotency is not None and (told := await context.store.idempotency.find(app_id, *idempotency)) is not None:
        return _answer(told.notification_id, told.answer, replayed=True)
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    text = examine(context, app, wanted)
    plan = plan_of(app, wanted, text, await resolve(context, app_id, wanted.audience, kinds(wanted.message.push_type)))
    context.fanout.check_room(len(plan.devices), app_id)
    key = Idempotency(*idempotency) if idempotency else None
    accept = accept_of(context, plan, context.clock.now(), key, plan.told())
    accepted = await carried(
        lambda then: context.store.notifications.acceptor.accept(accept, then),
        lambda accepted: release(context, accepted, (plan,)),
    )
    return _answer(accepted.id, accepted.answer, replayed=accepted.replayed)


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


def examine(context: Context, app: App, wanted: Send) -> bytes:
    """The send as JSON, when all but its audience is in order; else InvalidRequestError."""
    text = _encode(wanted)
    if NUL in text:
        check_text(wanted)
    if not is_plain(wanted, text, app.settings):
        validate(wanted, app.settings, context.keyring.gateways(app.id), context.keyring.url_formats(app.id))
    return text


def plan_of(app: App, wanted: Send, text: bytes, found: Resolution) -> Plan:
    """The plan of a send that was examined, to the devices found; UnknownTargetsError."""
    errors = target_errors(found)
    if errors is not None and found.missing >= found.named and not found.devices:
        told = msgspec.to_builtins(errors)
        raise UnknownTargetsError("None of the devices or users named can be reached", extra={"targets": told})
    return Plan(app, wanted, text, found.devices, kinds(wanted.message.push_type), errors)


def accept_of(context: Context, plan: Plan, now: float, key: Idempotency | None, answer: bytes) -> Accept:
    """The plan as the store takes it, released now."""
    end, wanted, text = tried_until(plan.send, now), plan.send, plan.text
    if not end and wanted.ttl_s is None:
        # Now or never by its type (Push to Talk): said in the send itself, so that a resume knows it too.
        wanted = msgspec.structs.replace(wanted, ttl_s=0)
        text = _encode(wanted)
    return Accept(
        app_id=plan.app.id,
        send=wanted,
        text=text,
        targeted=plan.devices,
        node_id=context.node_id,
        created_at=now,
        released_at=now,
        expires_at=float(end) if end else now,
        kinds=plan.kinds,
        idempotency=key,
        answer=answer,
    )


def release(context: Context, accepted: Accepted, plans: Sequence[Plan]) -> None:
    """Starts what was committed, in the turn in which that is known; a replay starts nothing."""
    if accepted.notifications:
        ACCEPTED.inc(len(accepted.notifications))
    for notification, plan in zip(accepted.notifications, plans, strict=False):
        context.fanout.release(notification, plan.app.settings, plan.devices)
        if notification.state is State.CANCELLED:
            context.fanout.cancel(notification.id)


async def rename(context: Context, app_id: int, notification_id: int, name: str | None) -> None:
    """Nothing, once the notification has this name. NotFoundError."""
    check_text({"name": name})
    if not await context.store.notifications.rename(app_id, notification_id, name):
        raise NotFoundError("There is no such notification")


async def cancel(context: Context, app_id: int, notification_id: int) -> None:
    """Nothing, once no more of it goes out, not even after a crash. NotFoundError; ConflictError when it is done."""
    await context.whole(_cancel(context, app_id, notification_id))


async def _cancel(context: Context, app_id: int, notification_id: int) -> None:
    if await context.store.notifications.cancel(app_id, notification_id) is not None:
        if not context.fanout.cancel(notification_id):
            # Committed, and not released yet: it is as soon as its commit is known here.
            context.store.notifications.acceptor.cancel(notification_id)
        return
    stored = await context.store.notifications.get(app_id, notification_id)
    if stored is None:
        raise NotFoundError("There is no such notification")
    if stored.notification.state is not State.CANCELLED:
        raise ConflictError("The notification is done: nothing is left to cancel")


def _answer(notification_id: int, told: bytes, *, replayed: bool) -> Answer:
    return Answer(b'{"id":%d,' % notification_id + told[1:], replayed)
