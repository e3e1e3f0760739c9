"""Beacons over HTTP: keys of installs under /beacon-keys, and reports without an API key at /pushd/beacons/{app}."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import structlog
from msgspec import Meta, Struct

from pushd.api.operation import EVERYONE, Operation
from pushd.api.request import Request
from pushd.commands import beacons
from pushd.commands.beacons import BEACONS_MAX, Beacon, BeaconKey
from pushd.errors import NotFoundError, PushdError
from pushd.model.device import ID_MAX, Text255
from pushd.web import problem
from pushd.web.answer import JSON, Answer
from pushd.web.caller import Caller
from pushd.web.deadlines import Deadlines
from pushd.web.decode import JsonBody
from pushd.web.incoming import Incoming
from pushd.web.proxies import network_of
from pushd.web.router import Router

if TYPE_CHECKING:
    from pushd.commands.context import Context

PATH = "/pushd/beacons/{app}"
_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}
_READABLE = {"Access-Control-Expose-Headers": "Retry-After"}
_PREFLIGHT = _ANY_ORIGIN | {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Max-Age": "86400",
}
log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class BeaconKeyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose key."""

    install_id: Text255


class BeaconsBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Beacons of one request."""

    beacons: Annotated[list[Beacon], Meta(min_length=1, max_length=BEACONS_MAX)]


_body: JsonBody[BeaconsBody] = JsonBody(BeaconsBody)


async def key(context: Context, caller: Caller, request: Request[BeaconKeyBody, None]) -> BeaconKey:
    """POST /beacon-keys."""
    return beacons.key_of(context, caller.app, request.body.install_id)


def mount(router: Router, context: Context) -> None:
    """Routes what needs no API key: the reports, and what browsers ask before those that cross origins."""
    deadlines = Deadlines(context.config.http.request_timeout_s)

    async def take(incoming: Incoming) -> Answer:
        try:
            return await taken(incoming)
        except PushdError as error:
            # Without the header a page of another origin is not shown what was wrong, nor when to come again.
            if error.status >= 500:
                log.warning("request_error", id=incoming.id, code=error.code, detail=error.detail)
            return problem.render(error, incoming.id, _ANY_ORIGIN | _READABLE)

    async def taken(incoming: Incoming) -> Answer:
        app_id = _app(incoming.path_values[0])
        # Browsers send text/plain across origins without asking first: whatever type it is said to be, it is JSON.
        raw = await incoming.body(
            types=frozenset({JSON, incoming.headers.get("Content-Type", JSON)}),
            bytes_max=context.config.receipts.beacon_body_bytes_max,
            timeout_s=context.config.http.body_timeout_s,
        )
        body = _body.decode(raw)
        network = network_of(incoming.client.address)
        counts = await deadlines.within(beacons.take(context, app_id, body.beacons, network))
        return Answer(_encode(counts), headers=_ANY_ORIGIN)

    async def preflight(incoming: Incoming) -> Answer:
        _app(incoming.path_values[0])
        return Answer(status=204, headers=_PREFLIGHT)

    router.add("POST", PATH, take)
    router.add("OPTIONS", PATH, preflight)


def _app(text: str) -> int:
    """The app of the path; NotFoundError for what is no id."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    if not 0 < number <= ID_MAX:
        raise NotFoundError("There is no such app")
    return number


OPERATIONS = (
    Operation(
        name="beaconKey",
        method="POST",
        path="/beacon-keys",
        tag="receipts",
        summary="The key with which an install signs its beacons",
        description="A service worker has no API key. With this one it signs what it reports of a notification and "
        'posts it to `path`: `{"beacons": [{"install_id", "notification_id", "event", "signature"}]}`, where '
        "`signature` is the base64url of HMAC-SHA256 over notification, event and button, with a line feed between "
        "them. The key speaks for its install alone and reads nothing.",
        handler=key,
        roles=EVERYONE,
        body=BeaconKeyBody,
        answer=BeaconKey,
        example={"install_id": "7d0c1c52-6a86-4a43-9c1b-0f3b4f0f8a55"},
    ),
)
