"""Wakes: who waits for events of an app hears of them from PostgreSQL; what they are is read from the table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import structlog

from pushd.errors import UnavailableError
from pushd.service import Service, is_set_within
from pushd.store.database import Database

log = structlog.get_logger(__name__)

CHANNEL = "pushd_events"
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

Wake = Callable[[], None]


class Wakes(Service):
    """One connection that hears of events, for everybody on this node. Whenever it is new, everybody is woken."""

    def __init__(self, database: Database, ping_s: float) -> None:
        super().__init__()
        self._database = database
        self._ping_s = ping_s
        self._waiting: dict[int, set[Wake]] = {}

    async def start(self) -> None:
        """Begins to listen; without a connection it tries again and again."""
        self.spawn(self._listen(), "event-wakes")

    def add(self, app_id: int, wake: Wake) -> None:
        """Calls `wake` for events of an app from now on."""
        self._waiting.setdefault(app_id, set()).add(wake)

    def remove(self, app_id: int, wake: Wake) -> None:
        """Does that no longer."""
        waiting = self._waiting.get(app_id, set())
        waiting.discard(wake)
        if not waiting:
            self._waiting.pop(app_id, None)

    def wake_all(self) -> None:
        """Wakes everybody: something may have been missed, or an end has come."""
        for app_id in list(self._waiting):
            self._wake(app_id)

    def _wake(self, app_id: int) -> None:
        for wake in list(self._waiting.get(app_id, ())):
            wake()

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (UnavailableError, *_LOST) as error:
                log.info("event_wakes_lost", error=type(error).__name__)
            await asyncio.sleep(self._database.config.retry_after_s)

    async def _hear(self) -> None:
        """Hears until the connection fails; a connection that is silently gone shows when it is tried."""
        lost = asyncio.Event()
        connection = await self._database.connect()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._told)
            self.wake_all()
            while not lost.is_set():
                if not await is_set_within(lost, self._ping_s):
                    await connection.fetchval("SELECT 1", timeout=self._ping_s)
        finally:
            connection.terminate()

    def _told(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self._wake(int(payload))
