"""In-app messages: made, released to their recipients, changed, withdrawn, read and listed."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from pushd.bitset import Devices
from pushd.commands import notifications
from pushd.commands.audience import TargetErrors, resolve, target_errors
from pushd.commands.context import Context
from pushd.commands.in_app_times import PASSED, release_time
from pushd.commands.planning import examine
from pushd.commands.templates import with_content
from pushd.commands.text import check_text
from pushd.errors import (
    ConflictError,
    Fault,
    InvalidRequestError,
    NotFoundError,
    PushdError,
    UnknownTargetsError,
)
from pushd.model.app import App
from pushd.model.audience import And, Audience, InAppConsent
from pushd.model.device import Kind
from pushd.model.in_app import (
    DAY_S,
    LETTERS_MAX,
    InAppBody,
    InAppChange,
    InAppPush,
    InAppRecipient,
    InAppState,
    InAppView,
    InboxEvent,
    NewInApp,
    PresentedWhen,
    faults_of_ttl,
)
from pushd.store.accepts import Idempotency
from pushd.store.in_app import Due, NewMessage, PendingPush, Release, Stored
from pushd.targeting.index import Resolution

_encode = msgspec.json.Encoder().encode
_audience = msgspec.json.Decoder(Audience).decode


class InAppSent(Struct, frozen=True, omit_defaults=True):
    """The answer to a new in-app message: kept through any crash from now on."""

    id: int
    recipients: int | None = None
    """Users, and installs without one, that have it now; absent when it waits for its time."""
    send_at: float | None = None
    """When it is released; absent when it was."""
    errors: TargetErrors | None = None
    """Named targets that it cannot go to: `unsubscribed` are those that take no in-app messages."""


class _Told(Struct, frozen=True, omit_defaults=True):
    """What is kept of an answer beside the id: `InAppSent` without it."""

    recipients: int | None = None
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
    now = context.clock.now()
    due = release_time(wanted, app.settings.time_zone, now)
    wanted = msgspec.structs.replace(wanted, send_at=due, schedule=None)
    body = _examine(context, app, wanted)
    waits = due is not None and due > now
    if waits:
        context.index.check(app_id, wanted.audience)
        release, recipients, errors = None, None, None
    else:
        found = None if due == PASSED else await _resolve(context, app_id, wanted.audience)
        errors = None if found is None else _errors(found)
        release = await _release(context, app_id, body, found)
        recipients = len(release.users) + release.installs
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
        send_at=due if waits else None,
        answer=_encode(_Told(recipients=recipients, send_at=due if waits else None, errors=errors)),
    )
    return await context.whole(_keep(context, new, release, Idempotency(*idempotency) if idempotency else None))


async def release_due(context: Context, due: Due) -> bool:
    """Whether a message whose time has come is released now, and by this node."""
    try:
        found = await _resolve(context, due.app_id, _audience(due.audience))
    except InvalidRequestError:
        # What it names (a segment, a geofence) is gone since: it reaches nobody, and is seen to have.
        found = None
    release = await _release(context, due.app_id, _encode(due.body), found)
    released = await context.store.in_app.release(due.app_id, due.id, release)
    if released:
        await context.inbox.changed(due.app_id, [due.id])
    return released


async def push_along(context: Context, pending: PendingPush) -> None:
    """Nothing, once the push that goes along is accepted, or it is clear that it never will be. UnavailableError."""
    audience = And(of=[_audience(pending.audience), InAppConsent(is_=True)])
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
    await context.store.in_app.pushed(pending.app_id, pending.message_id, notification_id)


async def get(context: Context, app_id: int, message_id: int) -> InAppView:
    """The message as it stands. NotFoundError."""
    return _view(await _stored(context, app_id, message_id), context.clock.now())


async def list_page(context: Context, app_id: int, *, before: int, limit: int) -> Sequence[InAppView]:
    """Messages with ids below `before`, newest first."""
    now = context.clock.now()
    return [_view(stored, now) for stored in await context.store.in_app.list(app_id, before, limit)]


async def change(context: Context, app_id: int, message_id: int, wanted: InAppChange) -> InAppView:
    """The message after the change. NotFoundError; ConflictError where its end cannot be brought forward to that."""
    check_text({"name": None if wanted.name is UNSET else wanted.name})
    if wanted.ends_at is not UNSET and wanted.ends_at < context.clock.now():
        raise InvalidRequestError(faults=[Fault("/ends_at", "is past: `cancel` withdraws it now")])
    done = await context.store.in_app.change(app_id, message_id, wanted, context.clock.now())
    if done is None:
        raise NotFoundError("There is no such in-app message")
    if not done:
        raise ConflictError("It is not released, or over, or ends before that")
    await context.inbox.changed(app_id, [message_id])
    return await get(context, app_id, message_id)


async def cancel(context: Context, app_id: int, message_id: int) -> InAppView:
    """The message, withdrawn from everybody, with what of its push was not sent. NotFoundError; ConflictError: over."""
    await context.whole(_cancel(context, app_id, message_id))
    return await get(context, app_id, message_id)


async def recipients(
    context: Context, app_id: int, message_id: int, *, events: Sequence[InboxEvent], after: int, limit: int
) -> Sequence[tuple[int, InAppRecipient]]:
    """Who did one of these things (none given: anything) with a message, with positions. NotFoundError."""
    await _stored(context, app_id, message_id)
    return await context.store.inboxes.states(message_id, events, after, limit)


async def _cancel(context: Context, app_id: int, message_id: int) -> None:
    done = await context.store.in_app.cancel(app_id, message_id, context.clock.now())
    if done is None:
        raise NotFoundError("There is no such in-app message")
    if not done:
        raise ConflictError("The message is over: nobody is shown it")
    await context.inbox.changed(app_id, [message_id])
    stored = await _stored(context, app_id, message_id)
    if stored.notification_id is not None:
        try:
            await notifications.cancel(context, app_id, stored.notification_id)
        except (ConflictError, NotFoundError):
            return  # it is done, or aged out: nothing of it is left to cancel


async def _keep(context: Context, new: NewMessage, release: Release | None, key: Idempotency | None) -> Answer:
    config = context.config.inbox
    kept = await context.store.in_app.keep(new, key, release, config.push_lease_s)
    if release is not None and not kept.replayed:
        await context.inbox.changed(new.app_id, [new.id])
        if new.push is not None and (release.users or release.installs):
            await _push_now(context, new, release)
    elif release is None:
        context.inbox.woken.set()
    return _answer(kept.id, kept.answer, replayed=kept.replayed)


async def _push_now(context: Context, new: NewMessage, release: Release) -> None:
    assert new.push is not None
    push = msgspec.json.decode(new.push, type=InAppPush)
    try:
        await push_along(context, PendingPush(new.id, new.app_id, release.at, new.audience, push))
    except PushdError:
        context.inbox.woken.set()  # it is committed that it has to go: that is done in the background


def _examine(context: Context, app: App, wanted: NewInApp) -> bytes:
    """What recipients are given, as JSON, when all but the audience is in order; else InvalidRequestError."""
    check_text(wanted)
    faults = []
    if wanted.ttl is not None and (wrong := faults_of_ttl(wanted.ttl)):
        faults.append(Fault("/ttl", wrong))
    presented = wanted.presented_when is not PresentedWhen.NEVER
    if presented and wanted.ttl is None:
        faults.append(Fault("/ttl", "is required of a message that is presented"))
    if not presented and wanted.inbox is None:
        faults.append(Fault("/inbox", "is required of a message that is never presented"))
    inbox = wanted.inbox
    if inbox is not None and inbox.available_to is not None:
        if inbox.available_to <= (inbox.available_from or 0):
            faults.append(Fault("/inbox/available_to", "is not after `available_from`"))
        elif inbox.available_to <= max(context.clock.now(), wanted.send_at or 0):
            faults.append(Fault("/inbox/available_to", "is over when the message is released"))
    if faults:
        raise InvalidRequestError("The message is not valid", faults=faults)
    body = _encode(
        InAppBody(
            content=msgspec.Raw(_encode(wanted.content)),
            presented_when=wanted.presented_when,
            data=msgspec.Raw(_encode(wanted.data)),
            ttl=wanted.ttl,
            inbox=inbox,
            template=wanted.template,
        )
    )
    if len(body) > context.config.inbox.message_bytes_max:
        raise InvalidRequestError(
            faults=[
                Fault("/content", f"is too long: with data and inbox {context.config.inbox.message_bytes_max:,} bytes")
            ]
        )
    if wanted.push is not None:
        _examine_push(context, app, wanted.audience, wanted.push)
    return body


def _examine_push(context: Context, app: App, audience: Audience, push: InAppPush) -> None:
    send = push.send(And(of=[audience, InAppConsent(is_=True)]), 2**31 - 1)
    try:
        examine(context, app, send)
    except InvalidRequestError as error:
        faults = [Fault(f"/push{fault.pointer}", fault.detail) for fault in error.faults]
        raise InvalidRequestError(error.detail, faults=faults) from None
    context.index.check(app.id, send.audience)


async def _resolve(context: Context, app_id: int, audience: Audience) -> Resolution:
    return await resolve(context, app_id, audience, frozenset(Kind), in_app=True)


def _errors(found: Resolution) -> TargetErrors | None:
    errors = target_errors(found)
    if errors is not None and found.missing >= found.named and not found.devices:
        told = msgspec.to_builtins(errors)
        raise UnknownTargetsError("None of the devices or users named can get it", extra={"targets": told})
    return errors


async def _release(context: Context, app_id: int, body: bytes, found: Resolution | None) -> Release:
    """A release now to whom was found, with the times that follow from what it says."""
    said = msgspec.json.decode(body, type=InAppBody)
    whom = await context.index.recipients(app_id, Devices() if found is None else found.devices)
    now = context.clock.now()
    expires = inbox_from = inbox_to = None
    if said.presented_when is not PresentedWhen.NEVER and said.ttl is not None:
        expires = now + said.ttl.seconds
    if said.inbox is not None:
        inbox_from = max(now, said.inbox.available_from or 0)
        inbox_to = said.inbox.available_to or inbox_from + context.config.inbox.keep_days * DAY_S
    return Release(
        at=now,
        expires_at=expires,
        inbox_from=inbox_from,
        inbox_to=inbox_to,
        ends_at=max(expires or 0, inbox_to or 0),
        users=whom.users,
        devices=whom.devices,
        installs=len(whom.installs),
        letters=whom.numbers if len(whom) <= LETTERS_MAX else None,
    )


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


async def _stored(context: Context, app_id: int, message_id: int) -> Stored:
    stored = await context.store.in_app.get(app_id, message_id)
    if stored is None:
        raise NotFoundError("There is no such in-app message")
    return stored


def _view(stored: Stored, now: float) -> InAppView:
    if stored.cancelled_at is not None:
        state = InAppState.CANCELLED
    elif stored.ends_at is None:
        state = InAppState.SCHEDULED
    else:
        state = InAppState.LIVE if stored.ends_at > now else InAppState.ENDED
    body, raw = stored.body, _raw
    return InAppView(
        id=stored.id,
        name=stored.name,
        state=state,
        audience=raw(stored.audience),
        content=body.content,
        template=body.template,
        presented_when=body.presented_when,
        ttl=body.ttl,
        data=body.data,
        inbox=body.inbox,
        push=None if stored.push is None else raw(stored.push),
        created_at=stored.created_at,
        send_at=stored.send_at,
        released_at=stored.released_at,
        expires_at=stored.expires_at,
        ends_at=stored.ends_at,
        cancelled_at=stored.cancelled_at,
        updated_at=stored.updated_at,
        notification_id=stored.notification_id,
        counts=stored.counts,
    )


def _raw(text: bytes) -> Any:
    return msgspec.Raw(text)


def _answer(message_id: int, told: bytes, *, replayed: bool) -> Answer:
    return Answer(b'{"id":%d' % message_id + (b"}" if told == b"{}" else b"," + told[1:]), replayed)
