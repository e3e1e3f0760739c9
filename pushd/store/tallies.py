"""Tallies: who was counted for a frequency cap, kept by the transaction that sends, and read back after a start."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pushd.bitset import Persons
from pushd.store.database import Database
from pushd.store.times import moment, seconds

FETCH_BYTES = 4 * 1024 * 1024
FETCH_ROWS_MAX = 4_096

_KEEP = """
WITH kept AS (
    INSERT INTO tallies (id, app_id, category, at, node_id, persons, notification_id)
    SELECT t.id, t.app, t.category, t.at, $1, t.persons, nullif(t.notification, 0)
    FROM unnest($2::bigint[], $3::int[], $4::text[], $5::timestamptz[], $6::bytea[], $7::bigint[])
        AS t (id, app, category, at, persons, notification)
    RETURNING app_id
)
SELECT note_change(16::smallint, k.app_id, '{}') FROM (SELECT DISTINCT app_id FROM kept) k
"""
_POSITION = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_LOAD = """
SELECT id, at, persons, xid::text::bigint >= $4 AS late FROM tallies
WHERE app_id = $1 AND category = $2 AND at > $3 ORDER BY at
"""
_SINCE = """
WITH bound AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin)
SELECT t.id, t.at, t.persons, t.xid >= bound.xmin AS late, bound.xmin::text::bigint AS xmin FROM bound LEFT JOIN (
    SELECT * FROM tallies WHERE app_id = $1 AND category = $2 AND xid >= $3::text::xid8 AND node_id <> $4 AND at > $5
) t ON true ORDER BY t.at
"""
_COUNTED = "SELECT persons FROM tallies WHERE notification_id = $1"


@dataclass(slots=True, eq=False, weakref_slot=True)
class Tally:
    """Who is counted for a category by one release."""

    app_id: int
    category: str
    at: float
    """UNIX seconds."""
    notification_id: int = 0
    """Where there may be more releases of it; else 0."""
    persons: Persons = field(default_factory=Persons)
    id: int = field(default_factory=lambda: secrets.randbits(62))
    """By which it is known again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A tally as it was kept."""

    id: int
    at: float
    persons: Persons
    late: bool
    """It is above the position that the next reading goes on from, and comes again then."""


async def keep(connection: Any, node_id: int, tallies: Sequence[Tally]) -> None:
    """Keeps tallies in a transaction of the caller's, and lets other nodes hear of them once that is committed."""
    if tallies:
        await connection.execute(
            _KEEP,
            node_id,
            [tally.id for tally in tallies],
            [tally.app_id for tally in tallies],
            [tally.category for tally in tallies],
            [moment(tally.at) for tally in tallies],
            [tally.persons.dump() for tally in tallies],
            [tally.notification_id for tally in tallies],
        )


class TallyStore:
    """Tallies of every app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self) -> int:
        """Where the tallies stand: everything below is visible to whoever looks from now on."""
        return int(await self._database.fetchval(_POSITION))

    async def load(
        self, app_id: int, category: str, since: float, position: int
    ) -> AsyncGenerator[Sequence[Kept], None]:
        """What was counted after a time, by its own time, a few megabytes at once; as of one moment.

        `position` is one that was asked for before: what lies above it is `late`.
        """
        timeout_s = self._database.config.bulk_timeout_s
        async with self._database.transaction("repeatable_read", readonly=True) as connection:
            cursor = await connection.cursor(_LOAD, app_id, category, moment(since), position, timeout=timeout_s)
            rows = 16
            while found := await cursor.fetch(rows, timeout=timeout_s):
                yield [_kept(row) for row in found]
                size = sum(len(row["persons"]) for row in found) // len(found)
                rows = max(1, min(2 * rows, FETCH_BYTES // max(1, size), FETCH_ROWS_MAX))

    async def counted(self, notification_id: int) -> Persons:
        """Who was counted for a notification, by all releases so far that said of which one they are."""
        rows = await self._database.fetch(_COUNTED, notification_id)
        return Persons.union(Persons(), *(Persons.load(row["persons"]) for row in rows))

    async def since(
        self, app_id: int, category: str, position: int, node_id: int, oldest: float
    ) -> tuple[Sequence[Kept], int]:
        """What other nodes than this one counted from a position on, after a time, and where to go on from."""
        rows = await self._database.fetch(_SINCE, app_id, category, str(position), node_id, moment(oldest))
        return [_kept(row) for row in rows if row["id"] is not None], max(position, rows[0]["xmin"])


def _kept(row: Any) -> Kept:
    return Kept(row["id"], seconds(row["at"]), Persons.load(row["persons"]), row["late"])
