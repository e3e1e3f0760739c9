"""Keeps in-app messages going: sends the pushes that go along with them, and removes what is over."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from pushd.commands import in_app
from pushd.commands.context import Context
from pushd.errors import PushdError, UnavailableError
from pushd.service import Service, is_set_within

log = structlog.get_logger(__name__)

PUSHES_AT_ONCE = 64
SWEPT_ROWS = 500


class InAppKeeper(Service):
    """Every node may: which push is accepted is decided in the database, once."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._config = context.config.inbox
        self._swept_at = 0.0

    async def start(self) -> None:
        """Begins to look for what is to be done."""
        self.spawn(self._run(), "in-app-keeper")

    async def work(self) -> None:
        """Nothing, once pushes that nobody finished were tried."""
        while await self.push_some():
            pass

    async def push_some(self) -> bool:
        """Whether there may be more pushes that can go now."""
        now = self._context.clock.now()
        pending = await self._context.store.in_app.take_pushes(now, self._config.push_lease_s, PUSHES_AT_ONCE)
        for each in pending:
            try:
                await in_app.push_along(self._context, each)
            except PushdError as error:
                log.info("in_app_push_waits", message=each.message_id, reason=error.code)
        return len(pending) == PUSHES_AT_ONCE

    async def sweep(self) -> None:
        """Nothing, once what is over is no longer listed as shown, and nothing is left of apps that are gone."""
        keep_s = self._config.cancelled_keep_s
        more = True
        while more:
            more = await self._context.store.in_app.sweep(self._context.clock.now(), keep_s, SWEPT_ROWS)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._context.inbox.woken.clear()
            try:
                await self.work()
                if not self._swept_at or loop.time() - self._swept_at > self._config.sweep_interval_s:
                    await self.sweep()
                    self._swept_at = loop.time()
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("in_app_waits", error=str(error))
            await is_set_within(self._context.inbox.woken, self._config.look_s)
