"""Gravitec's calls: pushes, their figures, and the aliases and tags of followers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import orjson
from msgspec import structs

from pushd.commands import installs, notifications, reports
from pushd.dialect import Call, Dialect
from pushd.dialects.gravitec import pictures, push, query, sites
from pushd.dialects.gravitec.scripts import Scripts
from pushd.dialects.gravitec.sites import Sites
from pushd.errors import (
    ConflictError,
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
from pushd.web.answer import Answer
from pushd.web.auth import basic
from pushd.web.caller import Caller
from pushd.web.incoming import Incoming

BODY_BYTES_MAX = 256 * 1024
_API = ("/api/v3/", "/api/sites/")
_ROOTS = (*_API, "/storage/", "/sw/")
TEXT = "text/plain;charset=utf-8"
_WAITING = {"scheduled": "SCHEDULED", "cancelled": "CANCELLED"}
"""The vendor's page knows one status, `SENT`, which a push that nobody was sent has not."""
_WRONG = (InvalidRequestError, NotFoundError, UnknownTargetsError, ConflictError)


class Gravitec(Dialect):
    """The server API, version 3, and what a site's pages load and call."""

    name = DialectName.GRAVITEC
    hosts = frozenset(("uapi.gravitec.net", "api.gravitec.net"))

    def calls(self) -> tuple[Call, ...]:
        """In the order of the vendor's page; then what pages ask for."""
        return (
            Call("POST", "/api/v3/alias", "Give a follower an alias", self._set_alias),
            Call("POST", "/api/v3/tag", "Tag a follower", self._add_tag),
            Call("DELETE", "/api/v3/tag", "Take a tag off a follower", self._remove_tag),
            Call("GET", "/api/v3/alias", "Look at a follower and its alias", self._alias),
            Call("POST", "/api/v3/push", "Send a push, now or later", self._push),
            Call("GET", "/api/v3/messages", "What came of a push, by the parameter campaignID", self._message),
            Call("GET", "/api/v3/messages/", "The same", self._message),
            Call("GET", "/api/v3/messages/{id}", "What came of a push", self._message),
            *map(self._safe, (*Scripts(self).calls(), *Sites(self).calls())),
        )

    def owns_path(self, path: str) -> bool:
        """Everything below the roots of servers and pages."""
        return path == "/api/v3" or path.startswith(_ROOTS)

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """403 for every key that is not good, 422 for wrong parameters, a line of text for missing ones."""
        headers = problem.headers(error) | sites.cors(incoming)
        headers.pop("WWW-Authenticate", None)
        if isinstance(error, query.MissingParameterError):
            return Answer(error.detail.encode(), status=400, content_type=TEXT)
        if isinstance(error, UnauthorizedError | ForbiddenError):
            said = error.extra.get("app_key", basic(incoming)[0])
            message = (
                f"There is no web site with appKey: {said}" if isinstance(error, UnauthorizedError) else error.detail
            )
            return _json({"status": "incomplete by bad auth", "error_message": message}, 403, headers)
        known = isinstance(error, (*_WRONG, MethodNotAllowedError, PayloadTooLargeError, UnsupportedMediaTypeError))
        status = 422 if isinstance(error, _WRONG) and incoming.route.startswith(_API) else error.status
        name = {422: "UNPROCESSABLE_ENTITY"}.get(status, error.code.upper())
        body = {
            "httpStatus": name,
            "error": "Incomplete by wrong param(s)!" if known else error.title,
            "errorDescription": "Something went wrong" if error.status == 500 else error.detail,
        }
        return _json(body, status, headers)

    def _safe(self, call: Call) -> Call:
        """The call of a page, made over HTTPS."""

        async def handler(incoming: Incoming) -> Answer:
            self._check_safe(incoming)
            return await call.handler(incoming)

        return replace(call, handler=handler)

    def _check_safe(self, incoming: Incoming) -> None:
        if not (incoming.client.secure or self.context.config.dialects.gravitec_plain_http):
            raise ForbiddenError("Calls have to be made over HTTPS")

    async def _caller(self, incoming: Incoming) -> Caller:
        self._check_safe(incoming)
        app_key, secret = basic(incoming)
        return await self.keys.caller(self.name, app_key, secret, incoming)

    async def _push(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        raw = await self.body(incoming, BODY_BYTES_MAX)
        now = self.context.clock.now()
        send = push.parse(raw, now, linked=self.context.config.dialects.gravitec_redirect_url_required)
        message = await pictures.dressed(self.context, caller.app, send.message, incoming, self.hosts)
        if message is not send.message:
            send = structs.replace(send, message=message)
        done = await notifications.sent(self.context, caller.app, send)
        return Answer(push.answer(done.id, send, now))

    async def _message(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        given = incoming.path_values[0] if incoming.path_values else query.parameters(incoming).get("campaignID", "")
        text = unquote(given)
        if not text:
            raise query.missing("campaignID")
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
        try:
            report = await reports.report(self.context, caller.app, min(number, ID_MAX))
        except NotFoundError:
            raise InvalidRequestError("There is no message with this id!") from None
        figures = {"send": report.sent, "received": report.received, "clicked": report.clicked, "closed": report.closed}
        return _json({"status": _WAITING.get(report.status, "SENT"), **figures})

    async def _set_alias(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        follower, name = query.follower(incoming), query.name_of(incoming)
        await _of_follower(installs.set_alias(self.context, caller.app, follower, name))
        return _json({})

    async def _add_tag(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        follower, name = query.follower(incoming), query.name_of(incoming)
        await _of_follower(installs.add_tag(self.context, caller.app, follower, name))
        return _json({})

    async def _remove_tag(self, incoming: Incoming) -> Answer:
        caller = await self._caller(incoming)
        follower, name = query.follower(incoming), query.name_of(incoming)
        if not await _of_follower(installs.remove_tag(self.context, caller.app, follower, name)):
            raise InvalidRequestError("The follower doesn't have this tag!")
        return _json({})

    async def _alias(self, incoming: Incoming) -> Answer:
        """Its booleans are texts (G4)."""
        caller = await self._caller(incoming)
        follower = query.follower(incoming, quotes="")
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


def _said(value: bool) -> str:
    return "true" if value else "false"


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(orjson.dumps(body), status=status, headers=headers)
