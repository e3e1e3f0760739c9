"""Maintenance: partitions made before they are needed and dropped when they are old, short-lived rows purged."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import structlog

from pushd.clock import Clock
from pushd.errors import UnavailableError
from pushd.service import Service, is_set_within
from pushd.store.database import Database
from pushd.store.times import moment

log = structlog.get_logger(__name__)

INTERVAL_S = 86_400.0
RETRY_S = 60.0
PURGE_ROWS = 5_000
"""Rows of a table that one transaction deletes."""
SWEPT_ROWS = 1_000
"""Users, or installs, that one transaction takes off a channel that was deleted."""
PURGE_PAUSE_S = 0.1
OUTCOMES = ("targets", "finished", "outcomes", "outcome_parts")
OPENS = ("receipts", "receipt_parts", "opened_days")
EVENTS = ("events",)
"""Partitioned tables that may go earlier than the notifications that they are about."""


class Maintenance(Service):
    """Runs at start and once a day. Every node may: the server lets one at a time."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._woken = asyncio.Event()

    async def start(self) -> None:
        """Makes sure that there are partitions for now; the rest goes on in the background."""
        await self.make_partitions()
        self.spawn(self._run(), "maintenance")

    async def make_partitions(self) -> int:
        """How many partitions were missing for this month and those ahead, and are there now."""
        made = await self._database.fetchval(
            "SELECT make_partitions($1, $2)", moment(self._clock.now()), self._database.config.partitions_ahead
        )
        return int(made)

    async def drop_partitions(self) -> int:
        """How many partitions were older than they may be, by what they hold, and are gone now."""
        config, now = self._database.config, moment(self._clock.now())
        dropped = 0
        if config.history_keep_days:
            before = now - timedelta(days=config.history_keep_days)
            dropped += int(await self._database.fetchval("SELECT drop_partitions($1)", before))
        kept = (OUTCOMES, config.outcomes_keep_days), (OPENS, config.opens_keep_days), (EVENTS, config.events_keep_days)
        for tables, keep_days in kept:
            if keep_days:
                before = now - timedelta(days=keep_days)
                dropped += int(await self._database.fetchval("SELECT drop_partitions_of($1, $2)", [*tables], before))
        return dropped

    async def purge(self) -> None:
        """Deletes tombstones, changes, idempotency keys and rows of deleted apps that are past their time."""
        config = self._database.config
        now = moment(self._clock.now())
        feed, idempotency = (
            now - timedelta(seconds=config.feed_keep_s),
            now - timedelta(seconds=config.idempotency_keep_s),
        )
        history = now - timedelta(days=config.history_keep_days) if config.history_keep_days else None
        more = True
        while more:
            more = await self._database.fetchval("SELECT purge($1, $2, $3, $4)", feed, idempotency, history, PURGE_ROWS)
            await asyncio.sleep(PURGE_PAUSE_S)

    async def sweep_channels(self) -> None:
        """Takes everyone off the channels that were deleted."""
        more = True
        while more:
            more = await self._database.fetchval("SELECT sweep_channels($1)", SWEPT_ROWS)
            await asyncio.sleep(PURGE_PAUSE_S)

    def wake(self) -> None:
        """Looks for what is left to do soon, not only when the day is over."""
        self._woken.set()

    async def _run(self) -> None:
        while True:
            pause = INTERVAL_S
            self._woken.clear()
            try:
                await self.make_partitions()
                await self.drop_partitions()
                await self.sweep_channels()
                await self.purge()
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("maintenance_failed", error=str(error))
                pause = RETRY_S
            await is_set_within(self._woken, pause)
