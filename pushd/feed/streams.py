"""Streams: an app's events as server-sent events, from any point on, for as long as somebody reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator

from pushd.config.feed import FeedConfig
from pushd.errors import TooManyRequestsError, UnavailableError
from pushd.feed.render import Renderer, Told
from pushd.feed.wakes import Wakes
from pushd.service import Service, is_set_within
from pushd.store.events import EventStore

TICK_S = 1.0
"""How often a stream without events lets go of its turn, so that one whose reader left is noticed."""
RETRY_MS = 2_000
"""What readers are told to wait before they come back."""
STOP_S = 2.0


class Streams(Service):
    """The streams of this node."""

    def __init__(self, config: FeedConfig, events: EventStore, renderer: Renderer, wakes: Wakes) -> None:
        super().__init__()
        self._config = config
        self._events = events
        self._renderer = renderer
        self._wakes = wakes
        self._open: Counter[int] = Counter()
        self._ended = False
        self._none = asyncio.Event()
        self._none.set()

    async def stop(self) -> None:
        """Ends every stream; readers come back to another daemon, or to the next one, and miss nothing."""
        self._ended = True
        self._wakes.wake_all()
        await is_set_within(self._none, STOP_S)
        await super().stop()

    async def frames(self, app_id: int, types: int, after: tuple[int, int] | None) -> AsyncGenerator[bytes, None]:
        """Octets of a stream of events of these types (bits) behind one of them (number, part), or from now on.

        Empty ones where there is nothing to say. TooManyRequestsError, UnavailableError before the first.
        """
        self._check_room(app_id)
        wake = asyncio.Event()
        self._open[app_id] += 1
        self._none.clear()
        self._wakes.add(app_id, wake.set)
        try:
            async for each in self._frames(app_id, types, after, wake):
                yield each
        finally:
            self._wakes.remove(app_id, wake.set)
            self._open[app_id] -= 1
            if not self._open[app_id]:
                del self._open[app_id]
            if not self._open:
                self._none.set()

    def _check_room(self, app_id: int) -> None:
        if self._ended or self._open.total() >= self._config.streams_max:
            raise UnavailableError("This node has as many streams as it may have", retry_after_s=2)
        if self._open[app_id] >= self._config.streams_per_app_max:
            most = self._config.streams_per_app_max
            raise TooManyRequestsError(f"The app has {most} streams here, as many as it may have", retry_after_s=5)

    async def _frames(
        self, app_id: int, types: int, after: tuple[int, int] | None, wake: asyncio.Event
    ) -> AsyncGenerator[bytes, None]:
        loop, config = asyncio.get_running_loop(), self._config
        await self._events.listen(app_id, types, config.listener_keep_s)
        now = listened = said = loop.time()
        end = now + config.stream_life_s
        position = await self._events.position() if after is None else await self._events.position_of(app_id, *after)
        yield b"retry: %d\n\n" % RETRY_MS
        again = True
        while not self._ended and now < end:
            told: list[Told] = []
            if again or wake.is_set():
                wake.clear()
                with contextlib.suppress(UnavailableError):  # then it is tried again
                    if now - listened > config.listener_keep_s / 4:
                        await self._events.listen(app_id, types, config.listener_keep_s)
                        listened = now
                    told, position = await self._renderer.page(app_id, position, types, config.page_events)
                    again = bool(told) or await self._events.late(app_id)
            now = loop.time()
            if told:
                said = now
                yield b"".join(map(_frame, told))
                continue
            await is_set_within(wake, TICK_S / 10 if again else TICK_S)
            silent = now - said >= config.stream_keep_alive_s
            said, again = (now, True) if silent else (said, again)
            yield b": keep-alive\n\n" if silent else b""


def _frame(event: Told) -> bytes:
    """An event as a stream has it (HTML Living Standard, 9.2.6)."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.type.value.encode(), event.body)
