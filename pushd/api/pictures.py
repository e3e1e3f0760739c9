"""Fitted pictures over HTTP, for browsers, which have no key: /pushd/pictures/{app}/{name}."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pushd.errors import NotFoundError
from pushd.model.device import ID_MAX
from pushd.web.answer import Answer
from pushd.web.deadlines import Deadlines
from pushd.web.incoming import Incoming
from pushd.web.router import Router

if TYPE_CHECKING:
    from pushd.commands.context import Context

PATH = "/pushd/pictures/{app}/{name}"
_NAME = re.compile(r"[0-9a-f]{40}\.(png|jpg)")
_TYPES = {"png": "image/png", "jpg": "image/jpeg"}
_HEADERS = {
    # A name is made of what is in the picture: what it stands for never changes.
    "Cache-Control": "public, max-age=31536000, immutable",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


def mount(router: Router, context: Context) -> None:
    """Routes the pictures of every app."""
    deadlines = Deadlines(context.config.http.request_timeout_s)

    async def show(incoming: Incoming) -> Answer:
        app, name = incoming.path_values
        match = _NAME.fullmatch(name)
        app_id = int(app) if app.isascii() and app.isdigit() and len(app) <= 10 else 0
        if match is None or not 0 < app_id <= ID_MAX or context.pictures is None:
            raise NotFoundError("There is no such picture")
        body = await deadlines.within(context.pictures.body(app_id, name))
        return Answer(body, headers=_HEADERS, content_type=_TYPES[match[1]])

    router.add("GET", PATH, show)
