"""Backendless' calls, each below `/{app_id}/{api_key}` and below `/api` of an app's own domain."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pushd.dialect import Call, Dialect, DialectKeys
from pushd.dialects.backendless import messages, registrations, templates, users, wire
from pushd.errors import MethodNotAllowedError, NotFoundError, PushdError, UnsupportedMediaTypeError
from pushd.model.vendor_key import DialectName
from pushd.web import problem
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

_APPLICATION = re.compile(r"/[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?:/|$)")
_BINARY = "/binary"
_PREFLIGHT = {
    **wire.CORS,
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "user-token, Content-Type, Accept, application-type, locale",
    "Access-Control-Max-Age": "86400",
}
_RECURRING = (messages.send, templates.send, registrations.register, users.log_in)
"""What is asked by whole apps at the same paths."""
Handler = Callable[[Dialect, Incoming], Awaitable[Answer]]


class Backendless(Dialect):
    """The part of the platform that is about push, and the users that belong to it."""

    name = DialectName.BACKENDLESS
    hosts = frozenset(("api.backendless.com", "eu-api.backendless.com", "sa-api.backendless.com"))

    def __init__(self, context: Any, keys: DialectKeys) -> None:
        super().__init__(context, keys)
        self._domains = frozenset(context.config.dialects.backendless_domains)
        for path in {path for _, path in self.router.templates}:
            self.router.add("OPTIONS", path, _preflight, brief=True)

    def calls(self) -> tuple[Call, ...]:
        """In the order in which an app makes them."""
        devices, sent = "/messaging/registrations", "/messaging/{id}"
        return (
            *self._call("GET", "/info", "What the SDK needs to know of the app", show_info),
            *self._call("POST", "/users/register", "Sign a user up", users.sign_up),
            *self._call("POST", "/users/register/guest", "Sign a guest up and in", users.sign_guest_up),
            *self._call("POST", "/users/login", "Log a user in: the answer has his token", users.log_in),
            *self._call("GET", "/users/logout", "End the user's token", users.log_out),
            *self._call("GET", "/users/isvalidusertoken/{token}", "Whether a token is good", users.check_token),
            *self._call("PUT", "/users/{id}", "Change a user: oneself, with a user token", users.change),
            *self._call("GET", "/users/restorepassword/{identity}", "Refused: there is no mail of it", users.restore),
            *self._call("POST", devices, "Register a device", registrations.register),
            *self._call("GET", f"{devices}/{{device}}", "Look at a device's registrations", registrations.show),
            *self._call("DELETE", f"{devices}/{{device}}", "Unregister a device", registrations.unregister),
            *self._call("GET", "/messaging/pushtemplates", "Templates for Apple's devices", templates.show),
            *self._call("GET", "/messaging/pushtemplates/{os}", "Templates for devices", templates.show),
            *self._call("DELETE", "/messaging/channels/{name}", "Delete a channel", registrations.delete_channel),
            *self._call("POST", "/messaging/push/{name}", "Send a push by its template", templates.send),
            *self._call("POST", sent, "Publish to a channel: now, later, again and again", messages.send),
            *self._call("GET", sent, "What has come of a message", messages.show_status),
            *self._call("DELETE", sent, "Cancel a message", messages.cancel),
            Call("POST", _BINARY, "Refused: what Android and Flutter send is no REST", partial(refuse_binary, self)),
            *self._call("POST", _BINARY, "Refused: what Android and Flutter send is no REST", refuse_binary),
        )

    def _call(self, method: str, path: str, summary: str, handler: Handler) -> tuple[Call, ...]:
        return tuple(
            Call(method, root + path, summary, partial(handler, self), recurs=handler in _RECURRING)
            for root in ("/{app_id}/{api_key}", "/api")
        )

    def owns(self, host: str, path: str) -> bool:
        """Whether a request names an application, or is for one's own domain."""
        return super().owns(host, path) or (host in self._domains and path.startswith("/api/"))

    def owns_path(self, path: str) -> bool:
        """What begins with an application id, all of which look alike."""
        return path == _BINARY or _APPLICATION.match(path) is not None

    def problem(self, error: PushdError, incoming: Incoming) -> Answer:
        """`code` and `message`, with the vendor's number where it has one; else the status is the number."""
        headers = problem.headers(error)
        headers.pop("WWW-Authenticate", None)
        detail = error.detail
        if isinstance(error, NotFoundError | MethodNotAllowedError) and not incoming.route:
            detail = f"{detail}: pushd serves info, users and messaging of this API"
        if error.status == 500:
            detail = "Something went wrong"
        elif error.faults and "code" not in error.extra:
            fault = error.faults[0]
            detail = f"{detail}: {fault.pointer.removeprefix('/')} {fault.detail}"
        body = {"code": error.extra.get("code", error.status), "message": detail, "errorData": {}}
        return wire.told(body, error.status, headers)


async def _preflight(_: Incoming) -> Answer:
    return Answer(b" ", headers=_PREFLIGHT, content_type="text/plain; charset=utf-8")


async def show_info(dialect: Dialect, incoming: Incoming) -> Answer:
    """GET info: there is no real-time server."""
    who = await wire.who(dialect, incoming)
    return wire.told({"rtURL": None, "appId": who.identity, "apiKey": who.api_key, "loggers": []})


async def refuse_binary(_: Dialect, __: Incoming) -> Answer:
    """POST binary: UnsupportedMediaTypeError, whatever is in it."""
    raise UnsupportedMediaTypeError(
        "Binary AMF is not spoken here: register devices and publish by REST, or by the JavaScript or Swift SDK"
    )
