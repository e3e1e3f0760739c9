"""One shape for long-lived parts: start, stop, and tasks and callbacks whose failure is never silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event is set, now or within so many seconds.

    Not by `asyncio.wait_for`: before Python 3.12 it swallows a cancel that comes in the turn in which the event is set,
    and a stop then waits for a task that goes on.
    """
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


class Contained:
    """A `with` block for what the event loop calls directly: what it raises is logged once and handed to `failed`.

    For parts whose failure is their own, such as a link: it ends, its neighbours go on. What is no `Exception` passes.
    """

    __slots__ = ("_failed", "_what")

    def __init__(self, what: str, failed: Callable[[Exception], None]) -> None:
        self._what = what
        self._failed = failed

    def __enter__(self) -> None:
        """Nothing: the block needs no name."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        log.critical("callback_failed", part=self._what, error=repr(error), exc_info=error)
        self._failed(error)
        return True


class Service:
    """A long-lived part of the daemon. Subclasses override `start` and `stop`; `spawn` runs their tasks.

    A task that fails has broken an invariant (what can fail by itself handles its own errors): `fatal` is called, by
    default logged, and the daemon sets it to its own stop, so that the supervisor restarts the process from the truth.
    """

    fatal: Callable[[BaseException], None] | None = None

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Makes the part ready; returns when it is."""

    async def stop(self) -> None:
        """Ends the part's tasks; returns when they are gone."""
        await self.cancel_tasks()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A running task of this part, cancelled by `stop`."""
        task = asyncio.create_task(self._guard(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one that is cancelled before its first step never awaited it
        return task

    async def cancel_tasks(self) -> None:
        """Cancels what `spawn` started and waits for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guard(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await work
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the one place: nothing a task raises may vanish
            log.critical("task_failed", service=type(self).__name__, error=repr(error), exc_info=error)
            if self.fatal is not None:
                self.fatal(error)
            return None
