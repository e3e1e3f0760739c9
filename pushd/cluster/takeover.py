"""Takes over what dead nodes left, at the start and from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from pushd.errors import UnavailableError
from pushd.service import Service

log = structlog.get_logger(__name__)


class Takeover(Service):
    """Takes over what dead nodes left, at the start and from then on.

    A death may show late: PostgreSQL keeps the session of a machine that vanished for a while. A claim that breaks off
    half-way is gone on with at the next look.
    """

    def __init__(
        self,
        resume: Callable[[], Awaitable[None]],
        trouble: Callable[[], Awaitable[list[str]]],
        interval_s: float,
    ) -> None:
        super().__init__()
        self._resume = resume
        self._trouble = trouble
        self._interval_s = interval_s

    async def start(self) -> None:
        """Takes over once, and then whenever there is something left."""
        await self._resume()
        self.spawn(self._watch(), "takeover")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if not await self._trouble():
                try:
                    await self._resume()
                except UnavailableError as error:
                    log.warning("takeover_waits", error=error.detail)
