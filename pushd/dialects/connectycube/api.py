"""ConnectyCube's calls, each with `.json` and without: sessions, users, subscriptions, and events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from pushd.commands import audience, client_sends, dialect_events
from pushd.dialect import Call, Dialect, DialectKeys
from pushd.dialects.connectycube import events, payloads, recipients, search, sessions, subscriptions, users, wire
from pushd.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    PushdError,
    UnknownTargetsError,
)
from pushd.model.app import Role
from pushd.model.device import Kind
from pushd.model.dialect_event import DialectEvent
from pushd.model.vendor_key import DialectName
from pushd.web import problem
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

PER_PAGE, PER_PAGE_MAX, PAGE_MAX = 10, 100, 10_000_000
_ROOTS = frozenset(("session", "login", "users", "subscriptions", "events"))
_WRONG = (InvalidRequestError, UnknownTargetsError, ConflictError)
_PREFLIGHT = {
    **wire.CORS,
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "CB-Token, CB-AuthKey, CB-SDK, Content-Type, ConnectyCube-REST-API-Version",
    "Access-Control-Max-Age": "86400",
}
_FIELDS = {"message": "message", "schedule": "date", "audience": "user", "name": "name"}
"""What the vendor calls parts of a send."""


class ConnectyCube(Dialect):
    """The part of the platform API that is about push."""

    name = DialectName.CONNECTYCUBE
    hosts = frozenset(("api.connectycube.com",))

    def __init__(self, context: Any, keys: DialectKeys) -> None:
        super().__init__(context, keys)
        for path in {path for _, path in self.router.templates}:
            self.router.add("OPTIONS", path, _preflight, brief=True)

    def calls(self) -> tuple[Call, ...]:
        """In the order in which an app makes them."""
        return (
            *self._call("POST", "/session", "Open a session, of a user or of nobody yet", sessions.open_session),
            *self._call("GET", "/session", "Look at the session", sessions.show_session),
            *self._call("DELETE", "/session", "End the session", sessions.close_session),
            *self._call("DELETE", "/session/list", "End the user's other sessions", sessions.close_others),
            *self._call("DELETE", "/session/{id}", "End a session of the user's", sessions.close_one),
            *self._call("POST", "/login", "Log a user in: the session becomes his", sessions.log_in),
            *self._call("DELETE", "/login", "Log the user out", sessions.log_out),
            *self._call("POST", "/users", "Sign a user up", users.sign_up),
            *self._call("GET", "/users", "List users, with filters", search.show_page),
            *self._call("GET", "/users/v2", "Find users by id, login, e-mail, external id or tag", search.show_v2),
            *self._call("GET", "/users/by_login", "Find a user by login", search.show_by_login),
            *self._call("GET", "/users/by_email", "Find a user by e-mail address", search.show_by_email),
            *self._call("GET", "/users/by_tags", "Find users by tag", search.show_tagged),
            *self._call("GET", "/users/external/{id}", "Find a user by external id", search.show_external),
            *self._call("GET", "/users/{id}", "Look at oneself", users.show_user),
            *self._call("PUT", "/users/{id}", "Change oneself: names, password, tags", users.change_user),
            *self._call("DELETE", "/users/{id}", "Delete oneself", users.delete_user),
            *self._call("POST", "/subscriptions", "Subscribe a device to pushes", subscriptions.create),
            *self._call("GET", "/subscriptions", "List one's subscriptions", subscriptions.show_all),
            *self._call("DELETE", "/subscriptions/{id}", "Take back a subscription", subscriptions.delete),
            *self._call("POST", "/events", "Send a push or a mail: now, later, or again and again", _create),
            *self._call("GET", "/events", "List one's events", _page),
            *self._call("GET", "/events/{id}", "Look at an event", _show),
            *self._call("PUT", "/events/{id}", "Change an event", _edit),
            *self._call("POST", "/events/{id}", "Change an event", _edit),
            *self._call("DELETE", "/events/{id}", "Delete an event", _delete),
        )

    def _call(
        self, method: str, path: str, summary: str, handler: Callable[[Dialect, Incoming], Awaitable[Answer]]
    ) -> tuple[Call, ...]:
        # An id takes its ending along; what reads it takes that off.
        paths = (path,) if path.endswith("}") else (path, f"{path}.json")
        return tuple(Call(method, each, summary, partial(handler, self)) for each in paths)

    def owns_path(self, path: str) -> bool:
        """The vendor's collections and what is in them."""
        return path.split("/", 2)[1].removesuffix(".json") in _ROOTS

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """`errors`: texts, or texts by field, with the very words that the SDKs know."""
        status = 422 if isinstance(error, _WRONG) and incoming.route else error.status
        headers = problem.headers(error)
        headers.pop("WWW-Authenticate", None)
        return wire.told({"errors": _errors(error)}, status, headers)


def _errors(error: PushdError) -> Any:
    if "errors" in error.extra:
        return error.extra["errors"]
    if error.status == 500:
        return {"base": ["Something went wrong"]}
    told: dict[str, list[str]] = {}
    for fault in error.faults:
        field = fault.pointer.removeprefix("/").partition("/")[0]
        told.setdefault(_FIELDS.get(field, field or "base"), []).append(fault.detail)
    return told or {"base": [error.detail]}


async def _preflight(_: Incoming) -> Answer:
    return Answer(b" ", headers=_PREFLIGHT, content_type="text/plain; charset=utf-8")


# Events -----------------------------------------------------------------------------------------------------------


async def _create(cube: Dialect, incoming: Incoming) -> Answer:
    own = await wire.session(cube, incoming)
    now = cube.context.clock.now()
    asked = events.parse(await wire.body(cube, incoming), now)
    try:
        # Before it is known whom it reaches: who may not send learns nothing of others.
        await client_sends.admit(cube.context, own.app_id, own.role, own.user_id)
        if asked.date is not None and asked.named:
            await _check_anybody(cube, own.app_id, asked)
        made = await dialect_events.send(
            cube.context,
            own.app_id,
            wire.NAME,
            user_id=own.user_id,
            wanted=[asked.event(each, now) for each in asked.channels],
            only_reached=asked.date is None,
        )
    except UnknownTargetsError:
        raise recipients.nobody(asked.named) from None
    except ForbiddenError as error:
        raise ForbiddenError("Forbidden. Need user." if own.user_id is None else error.detail) from None
    told = [events.shown(each) for each in made]
    by_sdk = incoming.headers.get("CB-SDK") or incoming.headers.get("ConnectyCube-REST-API-Version")
    return wire.told(told if by_sdk or asked.universal is not None else told[0], 201)


async def _check_anybody(cube: Dialect, app_id: int, asked: events.Asked) -> None:
    """What waits for its time goes to all channels, unless it names only who has none of them."""
    for channel in asked.channels:
        kind = Kind.EMAIL if channel == "email" else subscriptions.CHANNELS[channel]
        if await audience.kinds_reached(cube.context, app_id, asked.audience_of(channel), frozenset({kind})):
            return
    raise recipients.nobody(asked.named)


async def _page(cube: Dialect, incoming: Incoming) -> Answer:
    own = await wire.session(cube, incoming)
    query = dict(parse_qsl(incoming.raw_query, keep_blank_values=True))
    number = min(max(wire.number(query.get("page"), "page") or 1, 1), PAGE_MAX)
    size = min(max(wire.number(query.get("per_page"), "per_page") or PER_PAGE, 1), PER_PAGE_MAX)
    found, total = await dialect_events.page(cube.context, own.app_id, wire.NAME, own.user_id, number=number, size=size)
    items = [events.shown(each) for each in found]
    return wire.told({"current_page": number, "per_page": size, "total_entries": total, "items": items})


async def _show(cube: Dialect, incoming: Incoming) -> Answer:
    return wire.told(events.shown(await _event(cube, incoming)))


async def _edit(cube: Dialect, incoming: Incoming) -> Answer:
    event = await _event(cube, incoming, changed=True)
    given = wire.inside(await wire.body(cube, incoming), "event")
    message = None
    if given.get("message") is not None:
        said = events.message_of(given)
        message = (
            payloads.made_for(event.told.channel, payloads.universal(said))
            if event.told.universal
            else payloads.for_channel(event.told.channel, said)
        )
    times = {name: given[name] for name in ("date", "period") if given.get(name) is not None}
    date, period, schedule = event.told.date, event.told.period, None
    if times:
        before = {"date": date, "period": period, "end_date": event.told.end_date}
        date, end_date, period = events.time_of(before | times, cube.context.clock.now())
        schedule = events.schedule(date, end_date, period)
    change = dialect_events.Edit(
        message=None if message is None else (message.told, message.message),
        schedule=schedule,
        date=date,
        period=period,
        name=events.name_of(given),
        active=wire.truth(given.get("active"), "active"),
    )
    return wire.told(events.shown(await dialect_events.edit(cube.context, event, change)))


async def _delete(cube: Dialect, incoming: Incoming) -> Answer:
    await dialect_events.delete(cube.context, await _event(cube, incoming, changed=True))
    return wire.done()


async def _event(cube: Dialect, incoming: Incoming, *, changed: bool = False) -> DialectEvent:
    """The app's event of the path; where it is changed, by whom it is of, or by a server."""
    own = await wire.session(cube, incoming)
    try:
        event = await dialect_events.get(cube.context, own.app_id, wire.NAME, wire.path_number(incoming))
    except NotFoundError:
        raise NotFoundError("Event not found") from None
    if changed and own.role is Role.DEVICE and event.user_id != own.user_id:
        raise ForbiddenError("Forbidden. This is another user's event.")
    return event
