"""The reference for readers at /pushd/v1/docs: one page of ours, rendered in the browser from the OpenAPI document."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

import msgspec

from pushd.api import openapi
from pushd.api.operation import Operation
from pushd.api.serve import PREFIX
from pushd.web.answer import JSON, Answer
from pushd.web.incoming import Incoming
from pushd.web.router import Endpoint, Router

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page runs nothing and asks nothing that is not ours; no inline script or style either."""

FILES = {
    "/docs": ("reference.html", "text/html; charset=utf-8"),
    "/docs/reference.css": ("reference.css", "text/css; charset=utf-8"),
    "/docs/reference.js": ("reference.js", "text/javascript; charset=utf-8"),
    "/docs/markdown.js": ("markdown.js", "text/javascript; charset=utf-8"),
    "/docs/attempt.js": ("attempt.js", "text/javascript; charset=utf-8"),
}
PATHS = frozenset({"/openapi.json", *FILES})
"""Under the prefix, and not in the document: they are about it."""


def mount(router: Router, operations: Sequence[Operation]) -> None:
    """Routes the document, the page, and what the page is made of; none needs a key."""
    body = msgspec.json.encode(openapi.document(operations))
    router.add("GET", PREFIX + "/openapi.json", _constant(body, JSON))
    static = files("pushd.api") / "static"
    for path, (name, content_type) in FILES.items():
        router.add("GET", PREFIX + path, _constant((static / name).read_bytes(), content_type))


def _constant(body: bytes, content_type: str) -> Endpoint:
    """An endpoint that always gives the same bytes, or 304 to who has them."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    async def endpoint(incoming: Incoming) -> Answer:
        if incoming.headers.get("If-None-Match") == tag:
            return Answer(status=304, headers=headers)
        return Answer(body, headers=headers, content_type=content_type)

    return endpoint
