"""Folding of badges: steps are carried out, in their order, on the counts of the parts that they concern."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pushd.badges import Badges, read_step
from pushd.bitset import PART_BITS, Devices
from pushd.clock import Clock
from pushd.store.badges import read_counts
from pushd.store.database import Database
from pushd.store.times import moment

ROUND_STEPS = 128
"""Steps of one transaction: up to 128 kB each."""
RANGE = 1 << 17
"""Ids whose counts are packed at a stretch, some 2 ms."""
FOUND_MAX = 1_000
"""Apps that are looked after in one turn."""

_DUE = "SELECT app_id FROM badge_deltas GROUP BY 1 HAVING count(*) >= $1 OR min(at) < $2 LIMIT $3"
# Who folds the same elsewhere has the lock: then it is his to do.
_LOCK = "SELECT pg_try_advisory_xact_lock(7009, $1)"
# Steps are numbered in the order of their commits: the first that are seen are the first that there are.
_TAKE = """
WITH taken AS (
    DELETE FROM badge_deltas WHERE app_id = $1
        AND seq < (SELECT min(seq) FROM badge_deltas WHERE app_id = $1) + $2::int RETURNING *
)
SELECT * FROM taken ORDER BY seq
"""
_PARTS = "SELECT devices, counts FROM badge_parts WHERE app_id = $1 AND part = $2"
_PUT = """
INSERT INTO badge_parts (app_id, part, devices, counts) VALUES ($1, $2, $3, $4)
ON CONFLICT (app_id, part) DO UPDATE SET devices = excluded.devices, counts = excluded.counts
"""
_REMOVE = "DELETE FROM badge_parts WHERE app_id = $1 AND part = $2"


class BadgeFolder:
    """A fold is one transaction: who joins both forms sees it before or after."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def fold(self, deltas_min: int, older_s: float) -> int:
        """How many apps were folded: those with so many steps, or with older ones."""
        before = moment(self._clock.now()) - timedelta(seconds=older_s)
        due = await self._database.fetch(_DUE, deltas_min, before, FOUND_MAX)
        for row in due:
            while await self._fold(row["app_id"]):
                pass
        return len(due)

    async def _fold(self, app_id: int) -> bool:
        """Whether there may be more to fold."""
        timeout_s = self._database.config.bulk_timeout_s
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_LOCK, app_id):
                return False
            rows = await connection.fetch(_TAKE, app_id, ROUND_STEPS, timeout=timeout_s)
            steps = [read_step(row["amount"], row["sets"], row["packed"], row["devices"]) for row in rows]
            badges, parts = Badges(), sorted({part for step in steps for part in step.parts()})
            for part in parts:
                row = await connection.fetchrow(_PARTS, app_id, part, timeout=timeout_s)
                if row is not None:
                    badges.put(Devices.load(row["devices"]).column(), read_counts(row["counts"]))
            for step in steps:
                badges.move(step)
                await asyncio.sleep(0)
            for part in parts:
                devices, counts = await _packed(badges, part)
                if devices:
                    await connection.execute(_PUT, app_id, part, devices.dump(), counts, timeout=timeout_s)
                else:
                    await connection.execute(_REMOVE, app_id, part, timeout=timeout_s)
        return len(rows) == ROUND_STEPS


async def _packed(badges: Badges, part: int) -> tuple[Devices, bytes]:
    """Whose count in a part is above 0, and these counts."""
    devices, counts = Devices(), []
    first = part << PART_BITS
    for start in range(first, first + (1 << PART_BITS), RANGE):
        some, their = badges.counted(start, start + RANGE)
        devices |= some
        counts.append(their.astype("<u2").tobytes())
        await asyncio.sleep(0)
    return devices, b"".join(counts)
