"""Gravitec's calls: pushes, their figures, and the aliases and tags of followers."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from pushd.commands import installs, notifications, reports
from pushd.dialect import Call, Dialect
from pushd.dialects.gravitec import push
from pushd.errors import (
    ConflictError,
    Fault,
    ForbiddenError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    PushdError,
    UnauthorizedError,
    UnknownTargetsError,
    UnsupportedMediaTypeError,
)
from pushd.model.device import ID_MAX
from pushd.model.vendor_key import DialectName
from pushd.web import problem
from pushd.web.answer import JSON, Answer
from pushd.web.caller import Caller
from pushd.web.incoming import Incoming

BODY_BYTES_MAX = 256 * 1024
TEXT = "text/plain;charset=utf-8"
NAME_CHARS_MAX = 255
_TYPES = frozenset((JSON, "text/json", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"))
_WRONG = (InvalidRequestError, NotFoundError, UnknownTargetsError, ConflictError)
_PARAMETERS = {"regId": "String ", "name": "String ", "campaignID": ""}


class MissingParameterError(PushdError):
    """A parameter of the query is not there; the answer is a line of text (G7)."""

    code, status, title = "missing_parameter", 400, "A parameter is missing"


class Gravitec(Dialect):
    """The server API, version 3."""

    name = DialectName.GRAVITEC
    hosts = frozenset(("uapi.gravitec.net", "api.gravitec.net"))

    def calls(self) -> tuple[Call, ...]:
        """In the order of the vendor's page."""
        return (
            Call("POST", "/api/v3/alias", "Give a follower an alias", self._set_alias),
            Call("POST", "/api/v3/tag", "Tag a follower", self._add_tag),
            Call("DELETE", "/api/v3/tag", "Take a tag off a follower", self._remove_tag),
            Call("GET", "/api/v3/alias", "Look at a follower and its alias", self._alias),
            Call("POST", "/api/v3/push", "Send a push, now or later", self._push),
            Call("GET", "/api/v3/messages", "What came of a push, by the parameter campaignID", self._message),
            Call("GET", "/api/v3/messages/{id}", "What came of a push", self._message),
        )

    def owns_path(self, path: str) -> bool:
        """Everything below the version's root."""
        return path == "/api/v3" or path.startswith("/api/v3/")

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """403 for every key that is not good, 422 for wrong parameters, a line of text for missing ones."""
        headers = problem.headers(error)
        headers.pop("WWW-Authenticate", None)
        if isinstance(error, MissingParameterError):
            return Answer(error.detail.encode(), status=400, content_type=TEXT)
        if isinstance(error, UnauthorizedError | ForbiddenError):
            said = error.extra.get("app_key", _credentials(incoming)[0])
            message = (
                f"There is no web site with appKey: {said}" if isinstance(error, UnauthorizedError) else error.detail
            )
            return _json({"status": "incomplete by bad auth", "error_message": message}, 403, headers)
        known = isinstance(error, (*_WRONG, MethodNotAllowedError, PayloadTooLargeError, UnsupportedMediaTypeError))
        status = 422 if isinstance(error, _WRONG) and incoming.route else error.status
        name = {422: "UNPROCESSABLE_ENTITY"}.get(status, error.code.upper())
        body = {
            "httpStatus": name,
            "error": "Incomplete by wrong param(s)!" if known else error.title,
            "errorDescription": "Something went wrong" if error.status == 500 else error.detail,
        }
        return _json(body, status, headers)

    async def _caller(self, incoming: Incoming) -> Caller:
        if not (incoming.client.secure or self.context.config.dialects.gravitec_plain_http):
            raise ForbiddenError("Calls have to be made over HTTPS")
        app_key, secret = _credentials(incoming)
        return await self.keys.caller(self.name, app_key, secret, incoming)

    async def _push(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        timeout_s = self.context.config.http.body_timeout_s
        raw = await incoming.body(types=_TYPES, bytes_max=BODY_BYTES_MAX, timeout_s=timeout_s)
        now = self.context.clock.now()
        send = push.parse(raw, now)
        done = await notifications.send(self.context, caller.app, send)
        return Answer(push.answer(orjson.loads(done.body)["id"], send, now))

    async def _message(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        given = incoming.path_values[0] if incoming.path_values else _query(incoming).get("campaignID", "")
        text = unquote(given)
        if not text:
            raise _missing("campaignID")
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
        try:
            report = await reports.report(self.context, caller.app, min(number, ID_MAX))
        except NotFoundError:
            raise InvalidRequestError("There is no message with this id!") from None
        figures = {"send": report.sent, "received": report.received, "clicked": report.clicked, "closed": report.closed}
        return _json({"status": "SENT", **figures})

    async def _set_alias(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        follower, name = _follower(incoming), _name(incoming)
        await _of_follower(installs.set_alias(self.context, caller.app, follower, name))
        return _json({})

    async def _add_tag(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        follower, name = _follower(incoming), _name(incoming)
        await _of_follower(installs.add_tag(self.context, caller.app, follower, name))
        return _json({})

    async def _remove_tag(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        follower, name = _follower(incoming), _name(incoming)
        if not await _of_follower(installs.remove_tag(self.context, caller.app, follower, name)):
            raise InvalidRequestError("The follower doesn't have this tag!")
        return _json({})

    async def _alias(self, incoming: Incoming) -> Answer:
        """Its booleans are texts (G4)."""
        caller = await self._caller(incoming)
        follower = _follower(incoming, quotes="")
        try:
            install = await installs.get(self.context, caller.app, follower)
        except NotFoundError:
            return _json({"regIdExists": "false"})
        body = {
            "regIdExists": "true",
            "aliasExists": _said(install.alias is not None),
            "isActiveFollower": _said(install.reachable),
        }
        return _json(body if install.alias is None else body | {"alias": install.alias})


async def _of_follower(work: Any) -> Any:
    """What the work gives, in the vendor's words where there is no such follower."""
    try:
        return await work
    except NotFoundError:
        raise InvalidRequestError("There is no follower with this regId!") from None


def _credentials(incoming: Incoming) -> tuple[str, str]:
    """App key and secret of Basic authentication; empty where there are none."""
    scheme, _, value = incoming.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        key, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return key, secret


def _query(incoming: Incoming) -> dict[str, str]:
    """Parameters of the query; names have case, and the first of several counts."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(incoming.raw_query, keep_blank_values=True):
        found.setdefault(name, value)
    return found


def _follower(incoming: Incoming, quotes: str = '"') -> str:
    return _required(incoming, "regId", quotes)


def _name(incoming: Incoming) -> str:
    name = _required(incoming, "name", '"')
    if len(name) > NAME_CHARS_MAX:
        raise InvalidRequestError("Max alias length is 255!", faults=[Fault("name", "is longer than 255 characters")])
    return name


def _required(incoming: Incoming, name: str, quotes: str) -> str:
    value = _query(incoming).get(name, "")
    if not value:
        raise _missing(name, quotes)
    return value


def _missing(name: str, quotes: str = '"') -> MissingParameterError:
    return MissingParameterError(f"Required {_PARAMETERS[name]}parameter {quotes}{name}{quotes} is not present")


def _said(value: bool) -> str:
    return "true" if value else "false"


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(orjson.dumps(body), status=status, headers=headers)
