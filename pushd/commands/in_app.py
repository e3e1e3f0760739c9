"""In-app messages: made, released to their recipients, changed, withdrawn, read and listed."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
from msgspec import UNSET, Struct

from pushd.commands import notifications, schedules
from pushd.commands.audience import TargetErrors, resolve, target_errors
from pushd.commands.context import Context
from pushd.commands.in_app_content import examined, examined_later, with_content
from pushd.commands.in_app_times import timed
from pushd.commands.in_app_views import shown, waiting
from pushd.commands.text import check_text
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError, PushdError, UnknownTargetsError
from pushd.model.app import App
from pushd.model.audience import Audience
from pushd.model.device import Kind
from pushd.model.in_app import (
    InAppChange,
    InAppPush,
    InAppRecipient,
    InAppView,
    InboxEvent,
    NewInApp,
)
from pushd.model.notification import Send
from pushd.scheduler.due import begun, first, recurs
from pushd.scheduler.in_app import push_to, released
from pushd.store.accepts import Idempotency
from pushd.store.in_app_rows import NewMessage, PendingPush, Release
from pushd.store.literals import microseconds
from pushd.targeting.index import Resolution

_encode = msgspec.json.Encoder().encode
_audience = msgspec.json.Decoder(Audience).decode
LOOKS_MAX = 3
"""At what changes from waiting to being released."""


class InAppSent(Struct, frozen=True, omit_defaults=True):
    """The answer to a new in-app message: kept through any crash from now on."""

    id: int
    recipients: int | None = None
    """Users, and installs without one, that have it now; absent when it waits for its time."""
    next_at: float | None = None
    """UNIX seconds of the earliest instant at which it comes to anybody; absent when it was released."""
    send_at: float | None = None
    """The same where that is one instant for all, and comes once."""
    errors: TargetErrors | None = None
    """Named targets that it cannot go to: `unsubscribed` are those that take no in-app messages."""


class _Told(Struct, frozen=True, omit_defaults=True):
    """What is kept of an answer beside the id: `InAppSent` without it."""

    recipients: int | None = None
    next_at: float | None = None
    send_at: float | None = None
    errors: TargetErrors | None = None


class Answer(Struct, frozen=True):
    """The JSON of an answer, and whether an earlier request with the same Idempotency-Key was answered with it."""

    body: bytes
    replayed: bool


async def create(
    context: Context, app_id: int, wanted: NewInApp, idempotency: tuple[str, bytes] | None = None
) -> Answer:
    """The answer to a new message, once it is committed; released at once where it names no later time.

    `idempotency` is the caller's key and SHA-256 of the request. InvalidRequestError, UnknownTargetsError,
    ConflictError where the app has as many as it may, IdempotencyMismatchError, UnavailableError.
    """
    if idempotency is not None and (told := await context.store.idempotency.find(app_id, *idempotency)) is not None:
        return _answer(told.notification_id, told.answer, replayed=True)
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    wanted = await with_content(context, app_id, wanted)
    now = microseconds(context.clock.now())
    send = timed(wanted, now)
    key = Idempotency(*idempotency) if idempotency else None
    if send is not None:
        return await _create_later(context, app, wanted, send, now, key)
    body = examined(context, app, wanted.audience, wanted.said, now)
    found = await _resolve(context, app_id, wanted.audience)
    errors = _errors(found)
    whom = await context.index.recipients(app_id, found.devices)
    release = released(wanted.said, whom, now, context.config.inbox.keep_days)
    await _check_room(context, app_id, release, len(body))
    (message_id,) = await context.store.notifications.acceptor.reserve(1)
    new = NewMessage(
        app_id=app_id,
        id=message_id,
        created_at=now,
        name=wanted.name,
        audience=_encode(wanted.audience),
        body=body,
        push=None if wanted.push is None else _encode(wanted.push),
        answer=_encode(_Told(recipients=len(release.users) + release.installs, errors=errors)),
    )
    return await context.whole(_keep(context, new, release, key))


async def _create_later(
    context: Context, app: App, wanted: NewInApp, send: Send, now: float, key: Idempotency | None
) -> Answer:
    """The answer to a message with a time: a schedule, which becomes it, or a message with each occurrence."""
    zone = app.settings.time_zone
    due = first(send, accepted_at=now, app_zone=zone)
    send = begun(send, accepted_at=now, app_zone=zone)
    text = examined_later(context, app, send, wanted.said, due)
    context.index.check(app.id, wanted.audience)
    await _check_room(context, app.id, None, len(text))
    (number,) = await context.store.notifications.acceptor.reserve(1)
    once = due.at if not recurs(send) and due.nominal == due.at else None
    new = NewMessage(
        app_id=app.id,
        id=number,
        created_at=now,
        name=wanted.name,
        audience=_encode(send),
        body=text,
        push=None,
        due=due,
        recurring=recurs(send),
        answer=_encode(_Told(next_at=due.at, send_at=once)),
    )
    return await context.whole(_keep(context, new, None, key))


async def push_along(context: Context, pending: PendingPush) -> None:
    """Nothing, once the push that goes along is accepted, or it is clear that it never will be. UnavailableError."""
    audience = push_to(_audience(pending.audience))
    key = f"\x01in-app:{pending.message_id}"
    notification_id: int | None = None
    # A key that is forgotten could not tell a push that nobody finished from one that was sent.
    if context.clock.now() - pending.released_at < context.config.store.idempotency_keep_s:
        try:
            sent = await notifications.send(
                context,
                pending.app_id,
                pending.push.send(audience, pending.message_id),
                (key, sha256(key.encode()).digest()),
            )
            notification_id = msgspec.json.decode(sent.body)["id"]
        except PushdError as error:
            if error.retryable:
                raise
    now = context.clock.now()
    if await context.store.in_app.pushed(pending.app_id, pending.message_id, notification_id, now):
        await _cancel_push(context, pending.app_id, notification_id)


async def get(context: Context, app_id: int, message_id: int) -> InAppView:
    """The message as it stands, or the schedule that it, or they, will come of. NotFoundError."""
    for _ in range(LOOKS_MAX):
        stored = await context.store.in_app.get(app_id, message_id)
        if stored is not None:
            return shown(stored, context.clock.now())
        scheduled = await context.store.schedules.get(app_id, message_id, in_app=True)
        if scheduled is not None:
            return waiting(scheduled)
    raise NotFoundError("There is no such in-app message")


async def list_page(context: Context, app_id: int, *, before: int, limit: int) -> Sequence[InAppView]:
    """Messages with ids below `before`, newest first, those that wait for their one time among them."""
    now = context.clock.now()
    later = await context.store.schedules.waiting_in_app(app_id, before, limit)
    views = {each.id: waiting(each) for each in later}
    # Read after those: one whose time comes in between is in both.
    views |= {each.id: shown(each, now) for each in await context.store.in_app.list(app_id, before, limit)}
    return [views[number] for number in sorted(views, reverse=True)[:limit]]


async def change(context: Context, app_id: int, message_id: int, wanted: InAppChange) -> InAppView:
    """The message after the change. NotFoundError; ConflictError where its end cannot be brought forward to that."""
    check_text({"name": None if wanted.name is UNSET else wanted.name})
    if wanted.ends_at is not UNSET and wanted.ends_at < context.clock.now():
        raise InvalidRequestError(faults=[Fault("/ends_at", "is past: `cancel` withdraws it now")])
    done = await context.store.in_app.change(app_id, message_id, wanted, context.clock.now())
    if done is None:
        done = wanted.ends_at is UNSET
        if not done and await context.store.schedules.get(app_id, message_id, in_app=True) is None:
            raise NotFoundError("There is no such in-app message")
        name = None if wanted.name is UNSET else wanted.name
        if (
            done
            and wanted.name is not UNSET
            and not await schedules.renamed(context, app_id, message_id, name, in_app=True)
        ):
            raise NotFoundError("There is no such in-app message")
    if not done:
        raise ConflictError("It is not released, or over, or ends before that")
    await context.inbox.changed(app_id, [message_id])
    return await get(context, app_id, message_id)


async def cancel(context: Context, app_id: int, message_id: int) -> InAppView:
    """The message, withdrawn from everybody, with what of its push was not sent. NotFoundError; ConflictError: over."""
    await context.whole(_cancel(context, app_id, message_id))
    return await get(context, app_id, message_id)


async def pause(context: Context, app_id: int, message_id: int) -> InAppView:
    """The message, of which nothing more comes to anybody until it is resumed; who has it has it.

    Its push is paused with it. NotFoundError; ConflictError where all of it came.
    """
    await context.whole(_switch(context, app_id, message_id, paused=True))
    return await get(context, app_id, message_id)


async def resume(context: Context, app_id: int, message_id: int) -> InAppView:
    """The message, which goes on: what was to come meanwhile comes now. NotFoundError; ConflictError: all came."""
    await context.whole(_switch(context, app_id, message_id, paused=False))
    return await get(context, app_id, message_id)


async def recipients(
    context: Context, app_id: int, message_id: int, *, events: Sequence[InboxEvent], after: int, limit: int
) -> Sequence[tuple[int, InAppRecipient]]:
    """Who did one of these things (none given: anything) with a message, with positions. NotFoundError."""
    await get(context, app_id, message_id)
    return await context.store.inboxes.states(message_id, events, after, limit)


async def _cancel(context: Context, app_id: int, message_id: int) -> None:
    done = await context.store.in_app.cancel(app_id, message_id, context.clock.now())
    if done is None:
        raise NotFoundError("There is no such in-app message")
    if not done:
        raise ConflictError("The message is over: nobody is shown it")
    await context.inbox.changed(app_id, [message_id])
    stored = await context.store.in_app.get(app_id, message_id)
    await _cancel_push(context, app_id, None if stored is None else stored.notification_id)


async def _cancel_push(context: Context, app_id: int, notification_id: int | None) -> None:
    """Has the fan-out stop at once what the store has cancelled with the message."""
    if notification_id is not None:
        try:
            await notifications.cancel(context, app_id, notification_id)
        except (ConflictError, NotFoundError):
            return  # it is done, or aged out: nothing of it is left to cancel


async def _switch(context: Context, app_id: int, message_id: int, *, paused: bool) -> None:
    stored = None
    for _ in range(LOOKS_MAX):  # its time may come between the two looks
        done = await context.store.in_app.pause(app_id, message_id, context.clock.now(), paused=paused)
        stored = await context.store.in_app.get(app_id, message_id)
        if done is None and stored is None:
            if await schedules.switched(context, app_id, message_id, on=not paused, in_app=True):
                return
        elif done is not None:
            break
    else:
        raise NotFoundError("There is no such in-app message")
    if not done:
        raise ConflictError("All of the message came, or it is withdrawn")
    await context.inbox.changed(app_id, [message_id])
    if not paused:
        _wake(context, context.clock.now())
    if stored is not None and stored.notification_id is not None:
        # The store has decided about the push, too, and tells all nodes what holds; this one need not wait to hear it.
        (context.fanout.pause if paused else context.fanout.unpause)(stored.notification_id)


def _wake(context: Context, at: float) -> None:
    """Lets this node's scheduler hear of something that is due at an instant."""
    heard = context.store.notifications.acceptor.on_scheduled
    if heard is not None:
        heard(at)


async def _keep(context: Context, new: NewMessage, release: Release | None, key: Idempotency | None) -> Answer:
    config = context.config.inbox
    kept = await context.store.in_app.keep(new, key, release, config.push_lease_s)
    if release is not None and not kept.replayed:
        await context.inbox.changed(new.app_id, [new.id])
        if new.push is not None and (release.users or release.installs):
            await _push_now(context, new, release)
    elif new.due is not None and not kept.replayed:
        _wake(context, new.due.at)
    return _answer(kept.id, kept.answer, replayed=kept.replayed)


async def _push_now(context: Context, new: NewMessage, release: Release) -> None:
    assert new.push is not None
    push = msgspec.json.decode(new.push, type=InAppPush)
    try:
        await push_along(context, PendingPush(new.id, new.app_id, release.at, new.audience, push))
    except PushdError:
        context.inbox.woken.set()  # it is committed that it has to go: that is done in the background


async def _resolve(context: Context, app_id: int, audience: Audience) -> Resolution:
    return await resolve(context, app_id, audience, frozenset(Kind), in_app=True)


def _errors(found: Resolution) -> TargetErrors | None:
    errors = target_errors(found)
    if errors is not None and found.missing >= found.named and not found.devices:
        told = msgspec.to_builtins(errors)
        raise UnknownTargetsError("None of the devices or users named can get it", extra={"targets": told})
    return errors


async def _check_room(context: Context, app_id: int, release: Release | None, nbytes: int) -> None:
    """Returns when the app may have one more; ConflictError."""
    if release is not None and release.letters is not None:
        return
    config = context.config.inbox
    held = await context.store.in_app.held(app_id, context.clock.now())
    if release is None and held.scheduled >= config.scheduled_max:
        raise ConflictError(f"{held.scheduled:,} messages of the app wait for their time, as many as may")
    if release is not None and held.live >= config.live_max:
        raise ConflictError(f"The app shows {held.live:,} messages to many, as many as it may")
    if release is not None and held.bytes + nbytes > config.live_bytes_max:
        raise ConflictError(f"The messages to many that an app shows may have {config.live_bytes_max:,} bytes together")


def _answer(message_id: int, told: bytes, *, replayed: bool) -> Answer:
    return Answer(b'{"id":%d' % message_id + (b"}" if told == b"{}" else b"," + told[1:]), replayed)
