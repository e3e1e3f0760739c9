"""Folding: what receipts append of large sends, and of days, becomes one bitmap per part of 2^20 ids."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import numpy as np
import structlog

from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.errors import UnavailableError
from pushd.service import Service
from pushd.store.badge_folds import BadgeFolder
from pushd.store.database import Database
from pushd.store.habits import HabitStore
from pushd.store.times import moment

log = structlog.get_logger(__name__)

FOLD_DELTAS = 64
"""So many deltas are worth a rewrite of the bitmaps that they belong to; fewer wait until they are old."""
ROUND_DELTAS = 512
"""Deltas of one transaction: up to 2,000 ids each."""
SLICE_DELTAS = 32
"""Deltas read at a stretch, some 2 ms: then others have the event loop."""
BUTTONS_MAX = 100
"""Of one notification that have bitmaps of their own: names come from devices, and anybody may have a device. What is
clicked beyond them counts as clicked and opened."""
FOUND_MAX = 1_000
"""Notifications or days that are looked after in one turn."""

_DUE = """
SELECT notification_id, min(created_at) AS created_at FROM receipt_deltas
GROUP BY 1 HAVING count(*) >= $1 OR min(at) < $2 LIMIT $3
"""
_DAYS_DUE = """
SELECT app_id, day FROM opened_day_deltas GROUP BY 1, 2 HAVING count(*) >= $1 OR min(at) < $2 LIMIT $3
"""
# Who folds the same elsewhere has the lock: then it is his to do.
_LOCK = "SELECT pg_try_advisory_xact_lock($1, $2)"
_LOCK_NOTIFICATIONS, _LOCK_DAYS = 7004, 7005
_TAKE = """
DELETE FROM receipt_deltas WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM receipt_deltas WHERE notification_id = $1 LIMIT $2 FOR UPDATE))
RETURNING app_id, event, button, devices
"""
_BUTTONS = "SELECT DISTINCT button FROM receipt_parts WHERE notification_id = $1 AND created_at = $2 AND button <> ''"
_PARTS = """
SELECT p.part, p.event, p.button, p.devices FROM receipt_parts p
JOIN unnest($3::int[], $4::smallint[], $5::text[]) AS k (part, event, button) USING (part, event, button)
WHERE p.notification_id = $1 AND p.created_at = $2
"""
_PUT = """
INSERT INTO receipt_parts AS p (notification_id, app_id, part, event, button, count, devices, created_at)
SELECT $1, $3, k.part, k.event, k.button, k.count, k.devices, $2
FROM unnest($4::int[], $5::smallint[], $6::text[], $7::int[], $8::bytea[]) AS k (part, event, button, count, devices)
ON CONFLICT (notification_id, part, event, button, created_at)
    DO UPDATE SET count = excluded.count, devices = excluded.devices
"""
_TAKE_DAY = """
DELETE FROM opened_day_deltas WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM opened_day_deltas WHERE app_id = $1 AND day = $2 LIMIT $3 FOR UPDATE))
RETURNING devices
"""
_DAY_PARTS = "SELECT part, devices FROM opened_days WHERE app_id = $1 AND day = $2 AND part = ANY ($3)"
_PUT_DAY = """
INSERT INTO opened_days (app_id, day, part, count, devices)
SELECT $1, $2, k.part, k.count, k.devices FROM unnest($3::int[], $4::int[], $5::bytea[]) AS k (part, count, devices)
ON CONFLICT (app_id, day, part) DO UPDATE SET count = excluded.count, devices = excluded.devices
"""

Key: TypeAlias = tuple[int, int, str]
"""Part, event, button."""


class Folder(Service):
    """Runs every few seconds. A fold is one transaction: readers, who join both forms, see it before or after."""

    def __init__(self, database: Database, clock: Clock, habits: HabitStore, badges: BadgeFolder) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._habits = habits
        self._badges = badges

    async def start(self) -> None:
        """Begins to fold."""
        self.spawn(self._run(), "receipt-folding")

    async def fold(self, deltas_min: int = FOLD_DELTAS, older_s: float | None = None) -> int:
        """How many notifications, days, habits and badges of apps were folded: with many deltas, or older ones."""
        config = self._database.config
        age = config.receipt_fold_age_s if older_s is None else older_s
        before = moment(self._clock.now()) - timedelta(seconds=age)
        due = await self._database.fetch(_DUE, deltas_min, before, FOUND_MAX)
        for row in due:
            while await self._fold_notification(row["notification_id"], row["created_at"]):
                pass
        days = await self._database.fetch(_DAYS_DUE, deltas_min, before, FOUND_MAX)
        for row in days:
            while await self._fold_day(row["app_id"], row["day"]):
                pass
        folded = len(due) + len(days)
        return folded + await self._habits.fold(deltas_min, age) + await self._badges.fold(deltas_min, age)

    async def _fold_notification(self, notification_id: int, created_at: datetime) -> bool:
        """Whether there may be more to fold."""
        timeout_s = self._database.config.bulk_timeout_s
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_LOCK, _LOCK_NOTIFICATIONS, notification_id):
                return False
            rows = await connection.fetch(_TAKE, notification_id, ROUND_DELTAS, timeout=timeout_s)
            if not rows:
                return False
            buttons = dict.fromkeys(row["button"] for row in rows if row["button"])
            if buttons:
                there = [row["button"] for row in await connection.fetch(_BUTTONS, notification_id, created_at)]
                buttons = dict.fromkeys(list(dict.fromkeys([*there, *buttons]))[:BUTTONS_MAX])
            sets = await _joined(
                [((row["event"], row["button"] if row["button"] in buttons else ""), row["devices"]) for row in rows]
            )
            pieces: dict[Key, Devices] = {
                (part, event, button): piece
                for (event, button), devices in sets.items()
                for part, piece in devices.parts()
            }
            known = await connection.fetch(_PARTS, notification_id, created_at, *_by_place(pieces), timeout=timeout_s)
            for row in known:
                pieces[row["part"], row["event"], row["button"]] |= Devices.load(row["devices"])
            await connection.execute(
                _PUT,
                *(notification_id, created_at, rows[0]["app_id"]),
                *_by_place(pieces),
                [len(each) for each in pieces.values()],
                [each.dump() for each in pieces.values()],
                timeout=timeout_s,
            )
        return len(rows) == ROUND_DELTAS

    async def _fold_day(self, app_id: int, day: datetime) -> bool:
        """Whether there may be more to fold."""
        timeout_s = self._database.config.bulk_timeout_s
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_LOCK, _LOCK_DAYS, app_id):
                return False
            rows = await connection.fetch(_TAKE_DAY, app_id, day, ROUND_DELTAS, timeout=timeout_s)
            if not rows:
                return False
            sets = await _joined([(0, row["devices"]) for row in rows])
            pieces = dict(sets[0].parts())
            for row in await connection.fetch(_DAY_PARTS, app_id, day, list(pieces), timeout=timeout_s):
                pieces[row["part"]] |= Devices.load(row["devices"])
            await connection.execute(
                _PUT_DAY,
                *(app_id, day, list(pieces)),
                [len(each) for each in pieces.values()],
                [each.dump() for each in pieces.values()],
                timeout=timeout_s,
            )
        return len(rows) == ROUND_DELTAS

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._database.config.receipt_fold_interval_s)
            try:
                await self.fold()
            except (UnavailableError, asyncpg.PostgresError) as error:
                # Nothing is lost by it: the deltas are there, and are read as they are.
                log.warning("receipt_folding_failed", error=str(error))


def read_delta(packed: bytes) -> Devices:
    """The devices of a delta."""
    return Devices.of(np.frombuffer(packed, ">u4").astype(np.uint32))


async def _joined(deltas: Sequence[tuple[Any, bytes]]) -> dict[Any, Devices]:
    """The devices of deltas with the same key, together."""
    joined: dict[Any, Devices] = defaultdict(Devices)
    for start in range(0, len(deltas), SLICE_DELTAS):
        sets: dict[Any, list[Devices]] = defaultdict(list)
        for key, packed in deltas[start : start + SLICE_DELTAS]:
            sets[key].append(read_delta(packed))
        for key, some in sets.items():
            joined[key] |= some[0] if len(some) == 1 else Devices.union(*some)
        await asyncio.sleep(0)
    return joined


def _by_place(keys: Iterable[Key]) -> list[list[Any]]:
    """Keys as columns."""
    return [[key[place] for key in keys] for place in range(3)]
