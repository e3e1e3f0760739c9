"""Safari's web service as pages of Kumulos's name it: packages for visitors of the app whose API key is in the path.

A page registers what Safari gave it with an event of its own install, so registrations by Safari itself are passed
over: whichever came last would have the token. Who takes the permission back is found out by the next push to him.
"""

from __future__ import annotations

import secrets
from urllib.parse import unquote

from pushd.commands.safari_service import SafariService
from pushd.dialect import Call, Dialect
from pushd.dialects.kumulos import wire
from pushd.errors import NotFoundError
from pushd.model.safari import UserInfo
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

ROOT = "/safari/{key}/v2"
ZIP = "application/zip"


class Safari:
    """The service of the apps of all API keys. Its tokens are never asked for again, so that any key makes them."""

    def __init__(self, kumulos: Dialect) -> None:
        self._kumulos = kumulos
        self._service: SafariService | None = None

    async def package(self, incoming: Incoming) -> Answer:
        """POST …/pushPackages/{websitePushId}: what the page tells of its visitor is not believed."""
        app_id = await self._app(incoming)
        await wire.raw(self._kumulos, incoming)
        if self._service is None:
            self._service = SafariService(self._kumulos.context, secrets.token_bytes(32))
        made = await self._service.package(app_id, wire.path_text(incoming, 1), UserInfo(), None)
        return Answer(made, headers={"Cache-Control": "no-store"}, content_type=ZIP)

    async def passed_over(self, incoming: Incoming) -> Answer:
        """What Safari says beside; 404 for an app that is not there."""
        await self._app(incoming)
        await wire.raw(self._kumulos, incoming)
        return Answer()

    async def _app(self, incoming: Incoming) -> int:
        held = await self._kumulos.keys.signers(wire.NAME, unquote(incoming.path_values[0]), incoming)
        if not held:
            raise NotFoundError("There is no such app")
        return held[0].key.app_id


def calls(kumulos: Dialect) -> tuple[Call, ...]:
    """The requests that Safari makes."""
    service = Safari(kumulos)
    registration = f"{ROOT}/devices/{{token}}/registrations/{{site}}"
    return (
        Call("POST", f"{ROOT}/pushPackages/{{site}}", "A push package for Safari 15 and older", service.package),
        Call("POST", registration, "Taken: the page's own event registers", service.passed_over),
        Call("DELETE", registration, "Taken: the next push finds it out", service.passed_over),
        Call("POST", f"{ROOT}/log", "Taken, and not kept", service.passed_over),
    )
