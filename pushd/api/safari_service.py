"""Safari's web service over HTTP, as Apple's document has it, for each app: /pushd/safari/{app}/v2/… (S-05)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from pushd.commands.safari_service import SafariService
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.device import ID_MAX
from pushd.model.safari import UserInfo
from pushd.web.answer import JSON, Answer
from pushd.web.auth import Authenticator
from pushd.web.deadlines import Deadlines
from pushd.web.incoming import Incoming
from pushd.web.router import Router

if TYPE_CHECKING:
    from pushd.commands.context import Context

PREFIX = "/pushd/safari/{app}/v2"
ZIP = "application/zip"
TYPES = frozenset({JSON})

T = TypeVar("T")


class _Logged(Struct, frozen=True):
    """The body of a request to the log."""

    logs: list[str] = []


def mount(router: Router, context: Context, auth: Authenticator, key: bytes) -> None:
    """Routes the four requests that Safari makes. `key` is 32 bytes of the daemon's."""
    endpoints = _Endpoints(context, auth, SafariService(context, key))
    registration = PREFIX + "/devices/{token}/registrations/{website_push_id}"
    router.add("POST", PREFIX + "/pushPackages/{website_push_id}", endpoints.package)
    router.add("POST", registration, endpoints.register)
    router.add("DELETE", registration, endpoints.unregister)
    router.add("POST", PREFIX + "/log", endpoints.log)


class _Endpoints:
    def __init__(self, context: Context, auth: Authenticator, service: SafariService) -> None:
        self._config = context.config
        self._auth = auth
        self._service = service
        self._deadlines = Deadlines(context.config.http.request_timeout_s)

    async def package(self, incoming: Incoming) -> Answer:
        app, site = incoming.path_values
        app_id = _app(app)
        info = await self._body(incoming, self._config.safari.user_info_bytes_max, UserInfo)
        key = None if info.key is None else await self._auth.known(info.key, incoming)
        made = await self._deadlines.within(self._service.package(app_id, _text(site), info, key))
        return Answer(made, headers={"Cache-Control": "no-store"}, content_type=ZIP)

    async def register(self, incoming: Incoming) -> Answer:
        app, token, site = incoming.path_values
        authorization = incoming.headers.get("Authorization", "")
        await self._deadlines.within(self._service.register(_app(app), _text(site), _text(token), authorization))
        return Answer()

    async def unregister(self, incoming: Incoming) -> Answer:
        app, token, site = incoming.path_values
        authorization = incoming.headers.get("Authorization", "")
        await self._deadlines.within(self._service.unregister(_app(app), _text(site), _text(token), authorization))
        return Answer()

    async def log(self, incoming: Incoming) -> Answer:
        (app,) = incoming.path_values
        app_id = _app(app)
        logged = await self._body(incoming, self._config.safari.log_body_bytes_max, _Logged)
        await self._service.log(app_id, logged.logs)
        return Answer()

    async def _body(self, incoming: Incoming, bytes_max: int, type_: type[T]) -> T:
        """The decoded body, of whatever content type: Apple's document names none. An empty one says nothing."""
        timeout_s = self._config.http.body_timeout_s
        sent = frozenset({*TYPES, incoming.headers.get("Content-Type", JSON)})
        raw: Any = await incoming.body(types=sent, bytes_max=bytes_max, timeout_s=timeout_s)
        try:
            return msgspec.json.decode(raw or b"{}", type=type_)
        except msgspec.DecodeError as error:
            raise InvalidRequestError(f"The body is not what Safari sends: {error}") from None


def _text(segment: str) -> str:
    """A part of the path, decoded; NotFoundError for what cannot be text that we store."""
    text = unquote(segment)
    if "\0" in text:
        raise NotFoundError
    return text


def _app(text: str) -> int:
    """The app of the path; NotFoundError for what is no id."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    if not 0 < number <= ID_MAX:
        raise NotFoundError("There is no such app")
    return number
