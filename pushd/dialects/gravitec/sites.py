"""What a site's pages ask for: browsers register, renew their subscriptions, and are tagged and named."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta, Struct

from pushd.commands import followers, installs
from pushd.commands.context import Context
from pushd.commands.followers import Following
from pushd.dialect import Call, Dialect
from pushd.dialects.gravitec.query import parameters
from pushd.errors import InvalidRequestError, UnauthorizedError
from pushd.model.device import Shape, Subscription, Tag, Text255
from pushd.model.vendor_key import DialectName
from pushd.web.answer import JSON, Answer
from pushd.web.incoming import Incoming
from pushd.web.proxies import network_of

ROOT = "/api/sites/followers"
BODY_BYTES_MAX = 64 * 1024
TAGS_MAX = 100
_TYPES = frozenset((JSON, "text/plain"))
_ORIGIN = re.compile(r"[!-~]{1,512}")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "86400",
}


class SiteCall(Struct, frozen=True, kw_only=True, rename={"app_key": "appKey", "reg_id": "regID", "zone": "timeZone"}):
    """The body of every call of a page; what pages add to it is passed over."""

    app_key: Annotated[str, Meta(min_length=1, max_length=128)]
    reg_id: Text255 | None = None
    subscription: Subscription | None = None
    lang: Annotated[str, Meta(max_length=255)] | None = None
    zone: Annotated[str, Meta(max_length=255)] | None = None
    tags: Annotated[list[Tag], Meta(max_length=TAGS_MAX)] = []
    tag: Tag | None = None
    alias: Text255 | None = None


_body = msgspec.json.Decoder(SiteCall)


def parse(raw: bytes) -> SiteCall:
    """The call of a body. InvalidRequestError."""
    try:
        return _body.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"The body is no such call: {error}") from None


class Sites:
    """The calls of pages; a follower proves itself by the key that it was given, `Authorization: Bearer`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    @property
    def _context(self) -> Context:
        return self._dialect.context

    def calls(self) -> tuple[Call, ...]:
        """In the order in which pages make them."""
        made = (
            Call("POST", ROOT, "A browser registers, or renews its subscription", self._follow),
            Call("DELETE", ROOT, "A browser wants no more pushes", self._leave),
            Call("GET", f"{ROOT}/identify", "A follower's own alias and tags", self._identify),
            Call("PUT", f"{ROOT}/tags", "Give a follower these tags and no others", self._set_tags),
            Call("POST", f"{ROOT}/tags", "Add tags to a follower", self._add_tags),
            Call("DELETE", f"{ROOT}/tags", "Take all tags off a follower", self._remove_tags),
            Call("DELETE", f"{ROOT}/tag", "Take a tag off a follower", self._remove_tag),
            Call("PUT", f"{ROOT}/alias", "Give a follower an alias, or none", self._set_alias),
        )
        paths = dict.fromkeys(call.path for call in made)
        return (
            *made,
            *(Call("OPTIONS", path, "What browsers ask before they call", self._preflight) for path in paths),
        )

    async def _preflight(self, incoming: Incoming) -> Answer:
        return Answer(status=204, headers=cors(incoming) | _PREFLIGHT)

    async def _follow(self, incoming: Incoming) -> Answer:
        body, app_id = await self._asked(incoming)
        if body.subscription is None:
            raise InvalidRequestError("subscription is missing")
        wanted = Following(subscription=body.subscription, locale=body.lang, time_zone=body.zone, shape=Shape.GRAVITEC)
        if body.reg_id is None:
            network = network_of(incoming.client.address)
            follower = await followers.follow(self._context, app_id, wanted, network)
        else:
            follower = await followers.renew(self._context, app_id, body.reg_id, _key(incoming), wanted)
        told = {"regID": follower.install_id, "key": follower.key, "beacons": follower.beacons}
        return _answer(incoming, told)

    async def _leave(self, incoming: Incoming) -> Answer:
        _, app_id, reg_id = await self._own(incoming)
        await followers.leave(self._context, app_id, reg_id)
        return _answer(incoming)

    async def _identify(self, incoming: Incoming) -> Answer:
        query = parameters(incoming)
        app_id = await self._app(query.get("appKey", ""), incoming)
        reg_id = query.get("regID", "")
        followers.admit(self._context, app_id, reg_id, _key(incoming))
        found = await installs.get(self._context, app_id, reg_id)
        told = {"regID": reg_id, "isActiveFollower": found.reachable, "alias": found.alias, "tags": found.tags}
        return _answer(incoming, told)

    async def _set_tags(self, incoming: Incoming) -> Answer:
        body, app_id, reg_id = await self._own(incoming)
        await installs.set_tags(self._context, app_id, reg_id, body.tags)
        return _answer(incoming)

    async def _add_tags(self, incoming: Incoming) -> Answer:
        body, app_id, reg_id = await self._own(incoming)
        await installs.add_tags(self._context, app_id, reg_id, body.tags)
        return _answer(incoming)

    async def _remove_tags(self, incoming: Incoming) -> Answer:
        _, app_id, reg_id = await self._own(incoming)
        await installs.set_tags(self._context, app_id, reg_id, [])
        return _answer(incoming)

    async def _remove_tag(self, incoming: Incoming) -> Answer:
        body, app_id, reg_id = await self._own(incoming)
        if body.tag is None:
            raise InvalidRequestError("tag is missing")
        await installs.remove_tag(self._context, app_id, reg_id, body.tag)
        return _answer(incoming)

    async def _set_alias(self, incoming: Incoming) -> Answer:
        body, app_id, reg_id = await self._own(incoming)
        await installs.set_alias(self._context, app_id, reg_id, body.alias)
        return _answer(incoming)

    async def _asked(self, incoming: Incoming) -> tuple[SiteCall, int]:
        """The body, and the app that it names."""
        timeout_s = self._context.config.http.body_timeout_s
        raw = await incoming.body(types=_TYPES, bytes_max=BODY_BYTES_MAX, timeout_s=timeout_s)
        body = parse(raw)
        return body, await self._app(body.app_key, incoming)

    async def _app(self, app_key: str, incoming: Incoming) -> int:
        try:
            return await self._dialect.keys.app(DialectName.GRAVITEC, app_key, incoming)
        except UnauthorizedError as error:
            raise UnauthorizedError(error.detail, extra={"app_key": app_key}) from None

    async def _own(self, incoming: Incoming) -> tuple[SiteCall, int, str]:
        """The body, its app, and the follower, who has proved to be that."""
        body, app_id = await self._asked(incoming)
        if body.reg_id is None:
            raise InvalidRequestError("regID is missing")
        followers.admit(self._context, app_id, body.reg_id, _key(incoming))
        return body, app_id, body.reg_id


def cors(incoming: Incoming) -> dict[str, str]:
    """What lets a page of any origin read an answer: no cookie means anything here, so nobody has to be kept out."""
    origin = incoming.headers.get("Origin", "")
    if not _ORIGIN.fullmatch(origin):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}


def _key(incoming: Incoming) -> str:
    scheme, _, value = incoming.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _answer(incoming: Incoming, body: dict[str, Any] | None = None) -> Answer:
    return Answer(orjson.dumps(body or {}), headers=cors(incoming))
