"""The SDK of a site: the script of its pages, with the site's keys in it, and that of its service worker."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources
from urllib.parse import unquote

import orjson

from pushd.commands import followers
from pushd.dialect import Call, Dialect
from pushd.errors import NotFoundError, UnauthorizedError
from pushd.model.credential import VapidKeys
from pushd.model.vendor_key import DialectName
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

LIFE_S = 300
"""How long browsers keep a script before they ask again whether it has changed."""
SITES_MAX = 1_024
"""Sites whose script is kept ready."""
_TYPE = "text/javascript; charset=utf-8"
_HEADERS = {
    "Cache-Control": f"public, max-age={LIFE_S}",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


class Scripts:
    """The two scripts of every site."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._ready: dict[str, tuple[VapidKeys | None, bytes]] = {}

    def calls(self) -> tuple[Call, ...]:
        """Where pages and workers find them."""
        return (
            Call("GET", "/storage/{appKey}/client.js", "The script of a site's pages", self._client),
            Call("GET", "/sw/worker.js", "The script that a site's service worker imports", self._worker),
        )

    async def _client(self, incoming: Incoming) -> Answer:
        app_key = unquote(incoming.path_values[0])
        try:
            app_id = await self._dialect.keys.app(DialectName.GRAVITEC, app_key, incoming)
        except UnauthorizedError:
            raise NotFoundError("There is no such site") from None
        secret = followers.push_keys(self._dialect.context, app_id)
        held = self._ready.get(app_key)
        if held is None or held[0] is not secret:
            site = {"appKey": app_key, "publicKey": followers.public_text(secret) if secret else ""}
            held = secret, b"%s(%s);\n" % (_source("client.js"), orjson.dumps(site))
            if len(self._ready) >= SITES_MAX:
                self._ready.clear()
            self._ready[app_key] = held
        return _answer(incoming, held[1])

    async def _worker(self, incoming: Incoming) -> Answer:
        return _answer(incoming, _source("worker.js"))


@cache
def _source(name: str) -> bytes:
    return (resources.files("pushd.dialects.gravitec") / "static" / name).read_bytes().rstrip()


def _answer(incoming: Incoming, script: bytes) -> Answer:
    tag = f'"{sha256(script).hexdigest()[:32]}"'
    if tag in incoming.headers.get("If-None-Match", ""):
        return Answer(status=304, headers=_HEADERS | {"ETag": tag})
    return Answer(script, headers=_HEADERS | {"ETag": tag}, content_type=_TYPE)
