"""Ends of installs: said by whoever registers them, and carried out: the install and its devices go."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from pushd.commands.context import Context
from pushd.errors import UnavailableError
from pushd.service import Service

log = structlog.get_logger(__name__)

LOOK_S = 5.0
"""How often it is looked for installs that are over."""


async def expire_at(context: Context, app_id: int, install_id: str, at: float | None) -> bool:
    """Whether there is such an install, which ends at this instant (UNIX seconds), or never. NotFoundError."""
    return await context.store.expirations.set(app_id, install_id, at)


async def end_of(context: Context, app_id: int, install_id: str) -> float | None:
    """UNIX seconds of an install's end; None: it has none."""
    return await context.store.expirations.get(app_id, install_id)


class Expirer(Service):
    """Deletes installs that are over; two nodes that do the same do no harm."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    async def start(self) -> None:
        """Begins to look."""
        self.spawn(self._run(), "expirations")

    async def sweep(self) -> int:
        """How many devices went."""
        context, gone = self._context, 0
        for app_id in await context.store.expirations.apps(context.clock.now()):
            while count := await context.whole(self._delete(app_id)):
                gone += count
        return gone

    async def _delete(self, app_id: int) -> int:
        rows = await self._context.store.expirations.delete(app_id, self._context.clock.now())
        await self._context.index.take_in(devices=rows)
        return len(rows.ids)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if gone := await self.sweep():
                    log.info("installs_expired", devices=gone)
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("expiry_waits", error=type(error).__name__)
