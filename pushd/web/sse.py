"""Server-sent events out: a response that goes on for as long as its reader is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from pushd.errors import PushdError
from pushd.web.incoming import Incoming

EVENT_STREAM = "text/event-stream"
_HEADERS = {"Server": "pushd", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The last one asks proxies not to hold events back until they have a page of them."""


async def respond(
    incoming: Incoming, frames: AsyncGenerator[bytes, None], write_timeout_s: float
) -> web.StreamResponse:
    """Writes frames until they end or nobody reads them; empty ones are turns in which that is looked at.

    What goes wrong before the first is raised; later the stream ends, and its reader comes back.
    """
    async with aclosing(frames):
        frame = await anext(frames)
        response = web.StreamResponse(headers=_HEADERS | {"X-Request-Id": incoming.id})
        response.content_type = EVENT_STREAM
        response.force_close()
        await response.prepare(incoming)
        if incoming.method == "HEAD":
            return response
        try:
            while True:
                transport = incoming.transport
                if transport is None or transport.is_closing():
                    return response
                if frame:
                    async with asyncio.timeout(write_timeout_s):
                        await response.write(frame)
                frame = await anext(frames)
        except TimeoutError:
            raise ConnectionResetError("the client does not read its stream") from None
        except (StopAsyncIteration, PushdError):
            pass
    await response.write_eof()
    return response
