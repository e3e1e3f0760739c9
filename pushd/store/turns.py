"""Turns of large writes: those of one app are written in the order they came, and prepared while others are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SLICE_ROWS = 1_000
"""Rows that are prepared at a stretch, some 5 ms: then others have the event loop."""
HANDOVER_S = 0.001
"""Between a write and what its writer does with the answer: whoever is next sends his to PostgreSQL meanwhile."""


class Turn:
    """A place in the queue of an app."""

    __slots__ = ("_previous",)

    def __init__(self, previous: asyncio.Future[None] | None) -> None:
        self._previous = previous

    async def begin(self) -> None:
        """Returns when everybody before has ended, in a slice of its own."""
        if self._previous is None or self._previous.done():
            await asyncio.sleep(0)
        else:
            await asyncio.wait((self._previous,))


class Turns:
    """The queues of every app."""

    def __init__(self) -> None:
        self._last: dict[int, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def of(self, app_id: int) -> AsyncIterator[Turn]:
        """The next turn of an app, which ends with the block: prepare, `begin`, write, and no more."""
        previous = self._last.get(app_id)
        ended = self._last[app_id] = asyncio.get_running_loop().create_future()
        ended.add_done_callback(lambda _: self._forget(app_id, ended))
        try:
            yield Turn(previous)
        finally:
            # One that gave up early still leaves nobody before those that came before it.
            if previous is None or previous.done():
                ended.set_result(None)
            else:
                previous.add_done_callback(lambda _: ended.set_result(None))
        await asyncio.sleep(HANDOVER_S)

    def _forget(self, app_id: int, ended: asyncio.Future[None]) -> None:
        if self._last.get(app_id) is ended:
            del self._last[app_id]
