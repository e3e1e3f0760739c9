"""Keeps in-app messages going: releases those that are due, sends the pushes that go along, removes what is over."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from pushd.commands import in_app
from pushd.commands.context import Context
from pushd.errors import PushdError, UnavailableError
from pushd.service import Service, is_set_within

log = structlog.get_logger(__name__)

DUE_AT_ONCE = 64
PUSHES_AT_ONCE = 64
SWEPT_ROWS = 500


class InAppKeeper(Service):
    """Every node may: what is released, and which push is accepted, is decided in the database, once."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._config = context.config.inbox
        self._swept_at = 0.0

    async def start(self) -> None:
        """Begins to look for what is to be done."""
        self.spawn(self._run(), "in-app-keeper")

    async def work(self) -> None:
        """Nothing, once what is due is released, and pushes that nobody finished were tried."""
        while await self.release_some():
            pass
        while await self.push_some():
            pass

    async def release_some(self) -> bool:
        """Whether there may be more messages that are due now."""
        due = await self._context.store.in_app.due(self._context.clock.now(), DUE_AT_ONCE)
        late = 0
        for each in due:
            try:
                if await in_app.release_due(self._context, each):
                    log.info("in_app_released", message=each.id)
            except PushdError as error:
                # Others do not wait for one whose audience cannot be asked for now.
                late += 1
                log.warning("in_app_release_waits", message=each.id, reason=error.code)
        return len(due) == DUE_AT_ONCE and not late

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
            pause = self._config.look_s
            try:
                await self.work()
                if not self._swept_at or loop.time() - self._swept_at > self._config.sweep_interval_s:
                    await self.sweep()
                    self._swept_at = loop.time()
                following = await self._context.store.in_app.next_due()
                if following is not None:
                    pause = min(pause, max(0.0, following - self._context.clock.now()))
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("in_app_waits", error=str(error))
            await is_set_within(self._context.inbox.woken, pause)
