"""Backendless' messages: published, asked about, and cancelled."""

from __future__ import annotations

from typing import Any

from pushd.commands import channels, client_sends, notifications, progress
from pushd.dialect import Dialect
from pushd.dialects.backendless import publish, wire
from pushd.dialects.backendless.wire import Code, Who
from pushd.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnknownTargetsError,
)
from pushd.model.app import Role
from pushd.model.device import ID_MAX
from pushd.model.notification import NotificationView, Send, State
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

PURPOSE = int.from_bytes(b"bmsg")
"""Of handles that name messages."""
NOTHING, NOBODY = 0, 2**32 - 1
"""In the place of a notification's id: there was no push in it; there was nobody whom it named."""
PREFIX = "message:"
RESERVED = frozenset(("registrations", "push", "pushtemplates", "channels", "email", "emailtemplates"))
"""Neither channels nor messages."""
_GONE = "None of the devices is registered"


async def send(dialect: Dialect, incoming: Incoming) -> Answer:
    """POST messaging/{channel}."""
    who = await wire.who(dialect, incoming)
    body = await wire.body(dialect, incoming)
    asked = publish.parse(body, _named(incoming), dialect.context.clock.now())
    await admit(dialect, who, asked.channel)
    if asked.channel and not channels.is_known(dialect.context, who.app_id, asked.channel):
        if not asked.is_scheduled:
            return _status(dialect, who, NOTHING, "scheduled")
        await channels.ensure(dialect.context, who.app_id, [asked.channel])  # somebody may come by then
    if asked.send is None:
        return _status(dialect, who, NOTHING, "scheduled")
    return await sent(dialect, who, asked.send)


async def sent(dialect: Dialect, who: Who, wanted: Send) -> Answer:
    """The answer to a push that is sent here; nobody of those it names being there, it has failed."""
    try:
        done = await notifications.sent(dialect.context, who.app_id, wanted)
    except UnknownTargetsError:
        return _status(dialect, who, NOBODY, "failed", _GONE)
    return _status(dialect, who, done.id, "scheduled")


async def show_status(dialect: Dialect, incoming: Incoming) -> Answer:
    """GET messaging/{id}."""
    who = await wire.who(dialect, incoming)
    said = _named(incoming)
    number, _ = _read(dialect, who, said) or (None, 0)
    if number == NOTHING:
        return wire.told(_shown(said, "published"))
    if number == NOBODY:
        return wire.told(_shown(said, "failed", _GONE))
    try:
        view = await progress.get(dialect.context, who.app_id, number or ID_MAX)
    except NotFoundError:
        return wire.told(_shown(said, "unknown", "There is no such message"))
    return wire.told(_shown(said, *_state(view)))


async def cancel(dialect: Dialect, incoming: Incoming) -> Answer:
    """DELETE messaging/{id}: apps cancel what their user published."""
    who = await wire.who(dialect, incoming)
    said = _named(incoming)
    gone = wire.coded(InvalidRequestError("Message has already been canceled or does not exist"), Code.CANCEL)
    number, of = _read(dialect, who, said) or (NOTHING, 0)
    if number in (NOTHING, NOBODY):
        raise gone
    if who.role is Role.DEVICE and of != (who.user_id or -1):
        raise _forbidden("This message is another's")
    try:
        if (await progress.get(dialect.context, who.app_id, number)).state is State.CANCELLED:
            raise gone
        await notifications.cancel(dialect.context, who.app_id, number)
    except (NotFoundError, ConflictError):
        raise gone from None
    return wire.told(_shown(said, "cancelled"))


def _named(incoming: Incoming) -> str:
    """The channel or message of the path; NotFoundError for what stands for something else."""
    (said,) = wire.values(incoming)
    if said in RESERVED:
        raise NotFoundError(f"There is nothing at messaging/{said}: pushd serves pushes and their templates")
    return said


async def admit(dialect: Dialect, who: Who, channel: str | None) -> None:
    """Nothing where this caller may send, which is counted; ForbiddenError 5007, TooManyRequestsError."""
    try:
        await client_sends.admit(dialect.context, who.app_id, who.role, who.user_id, channel=channel)
    except ForbiddenError as error:
        raise _forbidden(error.detail) from None


def _forbidden(detail: str) -> ForbiddenError:
    said = f"User does not have the permission to publish messages: {detail}"
    return wire.coded(ForbiddenError(said), Code.PERMISSION)


# Messages by their ids --------------------------------------------------------------------------------------------


def _status(dialect: Dialect, who: Who, number: int, status: str, error: str | None = None) -> Answer:
    handle = dialect.context.handles.make(PURPOSE, who.app_id, number, who.user_id or 0)
    return wire.told(_shown(PREFIX + handle, status, error))


def _shown(message_id: str, status: str, error: str | None = None) -> dict[str, Any]:
    return {"errorMessage": error, "messageId": message_id, "status": status}


def _read(dialect: Dialect, who: Who, said: str) -> tuple[int, int] | None:
    """Number and publisher of a message id; None where it is none of this app's."""
    return dialect.context.handles.read(PURPOSE, who.app_id, said.removeprefix(PREFIX))


def _state(view: NotificationView) -> tuple[str, str | None]:
    """The vendor's word for where a notification stands, and what went wrong."""
    if view.state is State.CANCELLED:
        return "cancelled", None
    if view.state is State.SCHEDULED:
        return "scheduled", None
    failed = view.counts.targeted and view.counts.failed == view.counts.targeted
    return ("failed", "No device could be reached") if failed else ("published", None)
