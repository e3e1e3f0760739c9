"""The request timeout: one timer for all requests in progress, none per request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from pushd.errors import UnavailableError

T = TypeVar("T")

TICKS = 20
"""Sweeps per timeout: an answer is cut off at most a twentieth late."""


class Deadlines:
    """Cuts off what takes longer than one timeout, the same for all: in order of beginning is in order of ending."""

    __slots__ = ("_expired", "_running", "_timeout_s", "_timer")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._running: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, work: Awaitable[T]) -> T:
        """What the work gives; UnavailableError, after cancelling it, when it takes longer. Once at a time per task."""
        task = asyncio.current_task()
        assert task is not None
        assert task not in self._running
        loop = asyncio.get_running_loop()
        self._running[task] = loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s / TICKS, self._sweep, loop)
        try:
            return await work
        except asyncio.CancelledError:
            if task in self._expired and task.uncancel() == 0:
                raise UnavailableError("The answer took too long") from None
            raise
        finally:
            self._running.pop(task, None)
            self._expired.discard(task)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, due in list(self._running.items()):
            if due > now:
                break
            del self._running[task]
            self._expired.add(task)
            task.cancel()
        self._timer = loop.call_later(self._timeout_s / TICKS, self._sweep, loop) if self._running else None
