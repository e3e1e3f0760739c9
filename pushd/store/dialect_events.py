"""Events of dialects in the store; they come with their notifications, whose schedules say what is to come of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pushd.clock import Clock
from pushd.model.dialect_event import DialectEvent, Told
from pushd.model.vendor_key import DialectName
from pushd.service import Service
from pushd.store.accept_rows import encode
from pushd.store.database import Database
from pushd.store.reserve import Reserve
from pushd.store.sweeping import SWEPT_ROWS, sweep
from pushd.store.times import moment, seconds

KEPT_S = 400 * 86_400
"""After its last change an event of which nothing is to come is kept so long."""

_decode = msgspec.json.Decoder(Told).decode

# What does not recur has no schedule any more once it was sent.
_SELECT = """
SELECT e.*, coalesce(s.occurred, 1) AS occurred,
    coalesce(s.active AND s.ended_at IS NULL, false) AS active
FROM dialect_events e LEFT JOIN LATERAL (SELECT k.occurred, k.active, k.ended_at FROM schedules k
        WHERE k.app_id = e.app_id AND k.id = e.notification_id OFFSET 0) s ON true
WHERE e.app_id = $1 AND e.dialect = $2
"""
_GET = f"{_SELECT} AND e.id = $3"
_PAGE = f"{_SELECT} AND e.user_id = $3 ORDER BY e.id DESC OFFSET $4 LIMIT $5"
_COUNT = "SELECT count(*) FROM dialect_events WHERE app_id = $1 AND dialect = $2 AND user_id = $3"
_UPDATE = "UPDATE dialect_events SET told = $3, updated_at = $4 WHERE app_id = $1 AND id = $2"
_DELETE = "DELETE FROM dialect_events WHERE app_id = $1 AND id = $2"
_PURGE = """
DELETE FROM dialect_events WHERE id IN (
    SELECT e.id FROM dialect_events e WHERE e.created_at < $1 AND e.updated_at < $1 AND NOT EXISTS (
        SELECT FROM schedules s WHERE s.app_id = e.app_id AND s.id = e.notification_id AND s.ended_at IS NULL) LIMIT $2)
"""


class DialectEventStore(Service):
    """Events of every app and dialect."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._ids = Reserve(database, "dialect_event_ids")

    async def start(self) -> None:
        """Begins to delete events that have long been over."""
        self.spawn(sweep("dialect_events", self.purge, self._clock), "dialect_events")

    async def ids(self, count: int) -> list[int]:
        """So many ids that no event has had, ascending."""
        return await self._ids.take(count)

    async def get(self, app_id: int, dialect: DialectName, event_id: int) -> DialectEvent | None:
        """The event; None where the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, dialect.value, event_id)
        return None if row is None else _event(row)

    async def page(
        self, app_id: int, dialect: DialectName, user_id: int, *, offset: int, limit: int
    ) -> tuple[Sequence[DialectEvent], int]:
        """A user's events, the newest first, and how many he has."""
        rows = await self._database.fetch(_PAGE, app_id, dialect.value, user_id, offset, limit)
        return [_event(row) for row in rows], await self._database.fetchval(_COUNT, app_id, dialect.value, user_id)

    async def update(self, event: DialectEvent) -> None:
        """Nothing, once what is told of it is what stands here."""
        told = encode(event.told).decode()
        await self._database.execute(_UPDATE, event.app_id, event.id, told, moment(event.updated_at))

    async def delete(self, app_id: int, event_id: int) -> None:
        """Nothing, once the event is gone."""
        await self._database.execute(_DELETE, app_id, event_id)

    async def purge(self, now: float) -> bool:
        """Whether more may be left of the events that are to be deleted."""
        status = await self._database.execute(_PURGE, moment(now - KEPT_S), SWEPT_ROWS)
        return status.endswith(f" {SWEPT_ROWS}")


def _event(row: Any) -> DialectEvent:
    same = ("id", "app_id", "user_id", "notification_id", "occurred", "active")
    return DialectEvent(
        **{name: row[name] for name in same},
        dialect=DialectName(row["dialect"]),
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
        told=_decode(row["told"]),
    )
