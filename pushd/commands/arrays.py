"""Arrays of sends: many notifications by one request, each accepted or refused by itself, committed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from pushd.bitset import Devices
from pushd.commands.audience import resolve
from pushd.commands.context import Context
from pushd.commands.notifications import Answer, carried, release
from pushd.commands.personal import Known, prepared
from pushd.commands.planning import Plan, accept_of, examine, plan_later, plan_of, waits
from pushd.content.kinds import kinds
from pushd.errors import Fault, InvalidRequestError, NotFoundError, PushdError
from pushd.model.app import App
from pushd.model.audience import UserIds
from pushd.model.message import PushType
from pushd.model.notification import Send
from pushd.scheduler.due import recurs
from pushd.store.notifications import Idempotency
from pushd.targeting.index import Resolution

SENDS_MAX = 1_000
"""Sends of one array."""
SLICE = 250
"""Sends that are prepared before others get their turn."""

_encode = msgspec.json.Encoder().encode

Describe = Callable[[PushdError], bytes]
"""An error as the JSON that stands in the place of a result."""


async def send_array(
    context: Context,
    app_id: int,
    wanted: Sequence[Send | PushdError],
    describe: Describe,
    idempotency: tuple[str, bytes] | None = None,
) -> Answer:
    """The answer to an array once it is committed: a result for each send, in order; each goes out as if sent alone.

    What cannot be sent (or could not be read: an error in its place) is refused by itself; when nothing is left,
    InvalidRequestError with all of it. One key covers the array. IdempotencyMismatchError, UnavailableError.
    """
    if idempotency is not None and (told := await context.store.idempotency.find(app_id, *idempotency)) is not None:
        return Answer(told.answer, True)
    app = await context.store.apps.get(app_id)
    if app is None:
        raise NotFoundError("There is no such app")
    plans = await _plans(context, app, wanted)
    accepted = [plan for plan in plans if isinstance(plan, Plan)]
    if not accepted:
        raise _nothing_left([plan for plan in plans if isinstance(plan, PushdError)])
    at_once = [len(plan.devices) for plan in accepted if plan.due is None]
    if at_once:
        context.fanout.check_room(sum(at_once), app_id)
    acceptor = context.store.notifications.acceptor
    ids = await acceptor.reserve(len(accepted))
    body = _results(plans, ids, describe)
    now = context.clock.now()
    accepts = [accept_of(context, plan, now, None, b"") for plan in accepted]
    key = Idempotency(*idempotency) if idempotency else None
    kept = await carried(
        lambda then: acceptor.accept_array(accepts, ids, key, body, then),
        lambda committed: release(context, committed, accepted),
    )
    return Answer(kept.answer, kept.replayed)


async def _plans(context: Context, app: App, wanted: Sequence[Send | PushdError]) -> list[Plan | PushdError]:
    """A plan or an error for each; users are found a slice at a time, other audiences that repeat are resolved once."""
    plans: list[Plan | PushdError] = []
    others, known = _Others(context, app), Known()
    for start in range(0, len(wanted), SLICE):
        if start:
            await asyncio.sleep(0)
        part = await prepared(context, app.id, wanted[start : start + SLICE], known)
        people, version = _people(context, app, part), context.index.version
        for at, (each, devices) in enumerate(zip(part, people, strict=True), start):
            if isinstance(each, PushdError):
                plans.append(_placed(each, at))
                continue
            try:
                text = examine(context, app, each)
                if waits(context, app, each):
                    if recurs(each):
                        await asyncio.sleep(0)  # looking for the first occurrence of a rule may take a slice of its own
                    plans.append(await plan_later(context, app, each, text))
                elif devices is None:
                    found = await others.resolve(each)
                    plans.append(plan_of(app, each, text, found, context.index.version))
                else:
                    reach = kinds(each.message.push_type)
                    plans.append(Plan(app, each, text, devices, reach, None, version=version))
            except PushdError as error:
                plans.append(_placed(error, at))
    return plans


def _people(context: Context, app: App, part: Sequence[Send | PushdError]) -> list[Devices | None]:
    """The devices of those sends that name one user all of whose devices can be reached; None for the others."""
    found: list[Devices | None] = [None] * len(part)
    by_type: dict[PushType, tuple[list[int], list[str]]] = {}
    for at, each in enumerate(part):
        if type(each) is Send and type(each.audience) is UserIds and len(each.audience.ids) == 1:
            rows, names = by_type.setdefault(each.message.push_type, ([], []))
            rows.append(at)
            names.append(each.audience.ids[0])
    for push_type, (rows, names) in by_type.items():
        for at, devices in zip(rows, context.index.each_user(app.id, names, kinds(push_type)), strict=True):
            found[at] = devices
    return found


class _Others:
    """Audiences of an array that are more than one user, each resolved once while nothing changes."""

    def __init__(self, context: Context, app: App) -> None:
        self._context = context
        self._app = app
        self._version = context.index.version
        self._found: dict[bytes, Resolution] = {}

    async def resolve(self, wanted: Send) -> Resolution:
        """Whom the send reaches; errors as those of `audience.resolve`."""
        if self._context.index.version != self._version:
            self._found, self._version = {}, self._context.index.version
        key = _encode((wanted.message.push_type, wanted.audience))
        known = self._found.get(key)
        if known is None:
            reach = kinds(wanted.message.push_type)
            known = self._found[key] = await resolve(self._context, self._app.id, wanted.audience, reach)
        return known


def _placed(error: PushdError, at: int) -> PushdError:
    """The error with its faults under the index of its send."""
    faults = error.faults or (Fault("", error.detail),)
    error.faults = tuple(Fault(f"/notifications/{at}{fault.pointer}", fault.detail) for fault in faults)
    return error


def _results(plans: Sequence[Plan | PushdError], ids: Sequence[int], describe: Describe) -> bytes:
    """The body of the answer."""
    left, results = iter(ids), []
    for plan in plans:
        if isinstance(plan, Plan):
            results.append(b'{"id":%d,' % next(left) + plan.told()[1:])
        else:
            results.append(b'{"problem":' + describe(plan) + b"}")
    return b'{"accepted":%d,"results":[' % len(ids) + b",".join(results) + b"]}"


def _nothing_left(errors: Sequence[PushdError]) -> PushdError:
    """What is told of an array of which nothing can be sent: the faults of all."""
    if not errors:
        return InvalidRequestError(faults=[Fault("/notifications", "holds no notification")])
    return InvalidRequestError(
        "None of the notifications can be sent", faults=[fault for error in errors for fault in error.faults]
    )
