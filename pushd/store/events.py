"""Events in the store: read below pg_snapshot_xmin in order of transactions, and the names behind their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from pushd.clock import Clock
from pushd.model.event import TYPES, EventType
from pushd.store.database import Database
from pushd.store.names import KINDS
from pushd.store.times import moment, seconds

PAGE_BYTES_MAX = 1_048_576
"""Of data, not counting the last event's, that one read brings."""

_COLUMNS = "n.id, n.xid::text::bigint AS number, n.type, n.at, n.notification_id, n.data, n.ids, n.devices"
_READ = f"""
WITH bound AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin)
SELECT e.*, bound.xmin::text::bigint AS xmin FROM bound LEFT JOIN LATERAL (
    SELECT c.* FROM (
        SELECT p.*, coalesce(sum(CASE WHEN p.id = $3 THEN 0 ELSE octet_length(p.data) END) OVER (
            ORDER BY p.number, p.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
        FROM (
            SELECT {_COLUMNS} FROM events n WHERE n.app_id = $1 AND (n.xid, n.id) >= ($2::text::xid8, $3)
                AND n.xid < bound.xmin AND (1 << n.type) & $4 <> 0
            ORDER BY n.xid, n.id LIMIT $5
        ) p
    ) c WHERE c.bytes_before < {PAGE_BYTES_MAX}
) e ON true
ORDER BY e.number, e.id
"""  # noqa: S608  # constants
# The newest decides: by the index, whatever is known of the table.
_LATE = """
SELECT n.xid >= pg_snapshot_xmin(pg_current_snapshot()) FROM events n WHERE n.app_id = $1
ORDER BY n.xid DESC, n.id DESC LIMIT 1
"""
_ONE = f"SELECT {_COLUMNS} FROM events n WHERE n.app_id = $1 AND n.id = $2"  # noqa: S608  # constants
_POSITION = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_DEVICES = """
SELECT d.id, d.kind, i.name AS install, nullif(u.external_id, '') AS user FROM devices d
    LEFT JOIN installs i ON i.id = d.install LEFT JOIN users u ON u.id = d.user_id
WHERE d.app_id = $1 AND d.id = ANY($2)
"""
_INSTALLS = "SELECT id, name FROM installs WHERE app_id = $1 AND id = ANY($2)"
# Of who was erased the name is empty for as long as the row is kept.
_USERS = "SELECT id, external_id AS name FROM users WHERE app_id = $1 AND id = ANY($2) AND external_id <> ''"
_METAS = """
SELECT id, (send::json -> 'reporting_meta')::text AS reporting, (send::json -> 'user_meta')::text AS users
FROM notifications WHERE app_id = $1 AND id = ANY($2) AND (position('"reporting_meta"' IN send) > 0
    OR position('"user_meta"' IN send) > 0)
"""


class Position(NamedTuple):
    """A place in the feed of an app: the event that was read last. Places are ordered as events are."""

    xid: int
    """The transaction that wrote it."""
    id: int
    part: int
    """Of an event that is told in several, from 0."""


START = Position(0, 0, 0)
"""Before everything."""


class EventRow(NamedTuple):
    """An event as it is kept."""

    xid: int
    id: int
    type: EventType
    at: float
    notification_id: int | None
    data: str
    ids: Sequence[int] | None
    devices: bytes | None


class Page(NamedTuple):
    """What one read gave: rows from a place on, that place's own row among them; and how far the feed can be read."""

    rows: Sequence[EventRow]
    xmin: int


class DeviceName(NamedTuple):
    """What a device is known as."""

    kind: str
    install: str | None
    user: str | None


class Meta(NamedTuple):
    """What the sender of a notification said of it, for events alone."""

    reporting: Any
    users: Mapping[str, Any]


class EventStore:
    """Events of every app."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def adopt(self) -> None:
        """Nothing, once events of another cluster, that a dump brought here, can be read."""
        await self._database.execute("SELECT adopt_events()", timeout_s=self._database.config.bulk_timeout_s)

    async def listen(self, app_id: int, types: int, keep_s: float) -> None:
        """Nothing, once events of these types (bits) are noted, for so long at least. NotFoundError by PD404."""
        until = moment(self._clock.now() + keep_s)
        await self._database.execute("SELECT listen_to($1, $2, $3)", app_id, types, until)

    async def position(self) -> Position:
        """Where the feed stands: whatever becomes readable from now on comes behind it."""
        return Position(int(await self._database.fetchval(_POSITION)), 0, 0)

    async def position_of(self, app_id: int, event_id: int, part: int) -> Position:
        """The place of an event; the start where the app has none of this id, or no longer."""
        row = await self._database.fetchrow(_ONE, app_id, event_id)
        return START if row is None else Position(row["number"], event_id, part)

    async def read(self, app_id: int, position: Position, types: int, limit: int) -> Page:
        """Events of these types (bits) from a place on, itself included, in order; none that could be overtaken."""
        rows = await self._database.fetch(_READ, app_id, str(position.xid), position.id, types, limit)
        return Page([_row(row) for row in rows if row["id"] is not None], rows[0]["xmin"])

    async def one(self, app_id: int, event_id: int) -> EventRow | None:
        """The event; None when the app has no such one, or no longer."""
        row = await self._database.fetchrow(_ONE, app_id, event_id)
        return None if row is None else _row(row)

    async def late(self, app_id: int) -> bool:
        """Whether an event is committed that may not be read yet, for an older transaction still runs."""
        return bool(await self._database.fetchval(_LATE, app_id))

    async def devices(self, app_id: int, ids: Sequence[int]) -> dict[int, DeviceName]:
        """What devices are known as; those that are gone are missing."""
        rows = await self._database.fetch(_DEVICES, app_id, list(ids)) if ids else ()
        return {row["id"]: DeviceName(KINDS[row["kind"]].value, row["install"], row["user"]) for row in rows}

    async def installs(self, app_id: int, ids: Sequence[int]) -> dict[int, str]:
        """Names of installs by their numbers."""
        return await self._names(_INSTALLS, app_id, ids)

    async def users(self, app_id: int, ids: Sequence[int]) -> dict[int, str]:
        """External ids of users by their numbers, for a while also of deleted ones."""
        return await self._names(_USERS, app_id, ids)

    async def metas(self, app_id: int, ids: Sequence[int]) -> dict[int, Meta]:
        """What senders said of their notifications; those of which nothing was said are missing."""
        rows = await self._database.fetch(_METAS, app_id, list(ids)) if ids else ()
        return {row["id"]: Meta(_loads(row["reporting"]), _loads(row["users"]) or {}) for row in rows}

    async def _names(self, query: str, app_id: int, ids: Sequence[int]) -> dict[int, str]:
        rows = await self._database.fetch(query, app_id, list(ids)) if ids else ()
        return {row["id"]: row["name"] for row in rows}


def _loads(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def _row(row: Any) -> EventRow:
    return EventRow(
        row["number"],
        row["id"],
        TYPES[row["type"]],
        seconds(row["at"]),
        row["notification_id"],
        row["data"],
        row["ids"],
        row["devices"],
    )
