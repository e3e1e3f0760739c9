"""Plans of sends: checked, with the devices found that they go to, or the time at which those will be looked for."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from pushd.bitset import Devices
from pushd.commands.audience import TargetErrors, resolve, target_errors
from pushd.commands.context import Context
from pushd.commands.past import asks
from pushd.commands.personal import prepare, samples
from pushd.commands.text import NUL, check_text
from pushd.content.check import validate, validate_time
from pushd.content.kinds import kinds
from pushd.content.life import lasting, tried_until
from pushd.content.plain import is_plain
from pushd.errors import UnknownTargetsError
from pushd.model.app import App
from pushd.model.audience import DeviceIds, Installs
from pushd.model.device import Kind
from pushd.model.dialect_event import KeptEvent
from pushd.model.notification import Send
from pushd.scheduler.due import begun, first, is_timed
from pushd.store.accepts import Due
from pushd.store.literals import microseconds
from pushd.store.notifications import Accept, Idempotency
from pushd.targeting.audiences import walk
from pushd.targeting.index import Resolution
from pushd.targeting.leaves_names import NAMING

_encode = msgspec.json.Encoder().encode
_NAMED = (DeviceIds, Installs, *NAMING)
_NO_DEVICES = Devices()


class _Told(Struct, frozen=True, omit_defaults=True):
    """What is told of a send that is accepted, beside its id."""

    targeted: int | None = None
    next_at: float | None = None
    errors: TargetErrors | None = None


class Plan(Struct, frozen=True, gc=False):
    """A send that may be accepted: checked, and with its devices found, or with its time."""

    app: App
    send: Send
    text: bytes
    """The send as JSON."""
    devices: Devices
    """None of a send with a time: they are looked for when that comes."""
    kinds: frozenset[Kind]
    errors: TargetErrors | None
    due: Due | None = None
    accepted_at: float = 0.0
    """As of when `due` was worked out."""
    version: int = -1
    """The index's when the devices were found."""

    def told(self) -> bytes:
        """What is told of it beside the id, as JSON."""
        if self.due is not None:
            return _encode(_Told(next_at=self.due.at, errors=self.errors))
        if self.errors is None:
            return b'{"targeted":%d}' % len(self.devices)
        return _encode(_Told(targeted=len(self.devices), errors=self.errors))


def examine(context: Context, app: App, wanted: Send) -> bytes:
    """The send as JSON, when all but its audience is in order; else InvalidRequestError."""
    text = _encode(wanted)
    if NUL in text:
        check_text(wanted)
    sites = context.keyring.url_formats(app.id) if wanted.message.url is not None else []
    if any(sites) or not is_plain(wanted, text, app.settings):
        each = next(samples(wanted))  # variants were checked when the send was prepared
        formats = context.keyring.url_formats(app.id) if each is wanted else ()
        validate(each, app.settings, context.keyring.gateways(app.id), formats, context.index.shapes(app.id))
    elif wanted.schedule is not None:
        validate_time(wanted)
    return text


def waits(context: Context, app: App, wanted: Send) -> bool:
    """Whether a send is kept as a schedule: it has a time, or quiet hours or a cap may concern it."""
    return is_timed(wanted) or context.gate.concerns(app, wanted)


def plan_of(app: App, wanted: Send, text: bytes, found: Resolution, version: int) -> Plan:
    """The plan of a send that was examined, to the devices found at a version of the index; UnknownTargetsError."""
    errors = target_errors(found)
    if errors is not None and found.missing >= found.named and not found.devices:
        told = msgspec.to_builtins(errors)
        raise UnknownTargetsError("None of the devices or users named can be reached", extra={"targets": told})
    return Plan(app, wanted, text, found.devices, kinds(wanted.message.push_type), errors, version=version)


async def plan_send(context: Context, app: App, wanted: Send) -> Plan:
    """The plan of a send on its own: checked, and with its devices found where it goes out now.

    InvalidRequestError, UnknownTargetsError, UnavailableError.
    """
    wanted = await prepare(context, app.id, wanted)
    text = examine(context, app, wanted)
    if waits(context, app, wanted):
        return await plan_later(context, app, wanted, text)
    found = await resolve(context, app.id, wanted.audience, kinds(wanted.message.push_type))
    return plan_of(app, wanted, text, found, context.index.version)


async def plan_later(context: Context, app: App, wanted: Send, text: bytes) -> Plan:
    """The plan of a send that waits, and was examined; who of those named is not there now does not matter yet.

    InvalidRequestError where its rule is none, and where its audience is not valid.
    """
    reach = kinds(wanted.message.push_type)
    errors = await missing(context, app.id, wanted)
    now = microseconds(context.clock.now())
    zone = app.settings.time_zone
    due = first(wanted, accepted_at=now, app_zone=zone)
    kept = begun(wanted, accepted_at=now, app_zone=zone)
    return Plan(app, kept, text if kept is wanted else _encode(kept), _NO_DEVICES, reach, errors, due, now)


async def missing(context: Context, app_id: int, wanted: Send) -> TargetErrors | None:
    """What the audience of a send names that could not be reached now; errors as those of `audience.resolve`.

    An audience that names nobody is only checked: it is resolved when it is released.
    """
    reach = kinds(wanted.message.push_type)
    if context.index.one_user(app_id, wanted.audience, reach) is not None:
        return None
    expanded = context.index.expand(app_id, wanted.audience)
    if asks(expanded) or any(isinstance(node, _NAMED) for node, _, _ in walk(expanded, "")):
        return target_errors(await resolve(context, app_id, wanted.audience, reach))
    context.index.check(app_id, wanted.audience)
    return None


def accept_of(
    context: Context, plan: Plan, now: float, key: Idempotency | None, answer: bytes, event: KeptEvent | None = None
) -> Accept:
    """The plan as the store takes it: released now, or kept until it is due. `event`: what it is in a dialect."""
    if plan.due is not None:
        return Accept(
            app_id=plan.app.id,
            send=plan.send,
            text=plan.text,
            targeted=_NO_DEVICES,
            node_id=context.node_id,
            created_at=plan.accepted_at,
            released_at=plan.accepted_at,
            idempotency=key,
            answer=answer,
            due=plan.due,
            event=event,
        )
    wanted, text = plan.send, plan.text
    if wanted.ttl_s is None:
        wanted = lasting(wanted, plan.app.settings)
        if wanted is not plan.send:
            text = _encode(wanted)
    end = tried_until(wanted, now)
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
        event=event,
    )
