"""What a push of Gravitec's shows where it says nothing: the site's icon and address; and its pictures, fitted."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from msgspec.structs import replace

from pushd.commands.context import Context
from pushd.commands.pictures import path_of
from pushd.content.pictures import Frame
from pushd.model.message import Message
from pushd.web.incoming import Incoming


async def dressed(
    context: Context, app_id: int, message: Message, incoming: Incoming, not_ours: Collection[str]
) -> Message:
    """The message with the site's own icon and address where it names none, and with pictures that fit.

    `not_ours` are hosts that calls are made to and browsers must not be sent to: they reach the vendor there.
    """
    app = await context.store.apps.get(app_id)
    if app is not None:
        icon, url = message.icon or app.settings.icon, message.url or app.settings.site_url
        if icon != message.icon or url != message.url:
            message = replace(message, icon=icon, url=url)
    if not (message.icon or message.image):
        return message
    base = _base(context, incoming, not_ours)
    if context.pictures is None or not base:
        return message

    async def fitted(url: str | None, frame: Frame) -> str | None:
        name = await context.pictures.fit(app_id, url, frame) if context.pictures and url else None
        return url if name is None else base + path_of(app_id, name)

    icon, image = await asyncio.gather(fitted(message.icon, Frame.ICON), fitted(message.image, Frame.IMAGE))
    return replace(message, icon=icon, image=image)


def _base(context: Context, incoming: Incoming, not_ours: Collection[str]) -> str:
    """Where browsers reach this daemon; "" where that is not known."""
    if context.config.pictures.public_url:
        return context.config.pictures.public_url.rstrip("/")
    host = incoming.headers.get("Host", "").lower()
    if not host or host.partition(":")[0] in not_ours:
        return ""
    return f"{'https' if incoming.client.secure else 'http'}://{host}"
