"""Erasures in the store: a user is gone at once; then every place that may still tell of him is gone through.

`PLACES` lists the columns that can hold what somebody wrote about a person; a test compares it with the schema, so that
a new column is a new decision. Rows are looked for by reading alone, and changed a few at a time: a long transaction
that writes would hold up the change feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from pushd.clock import Clock
from pushd.model.erasure import Erasure
from pushd.model.rows import DeviceRows, UserRows
from pushd.store.columns import DEVICE_KEYS, USER_KEYS, unpack_devices, unpack_users
from pushd.store.database import Database
from pushd.store.names import Names
from pushd.store.redaction import ERASED, Redaction
from pushd.store.times import moment, seconds, seconds_or_none

CHUNK_ROWS = 100
"""Texts that are read, and rows that are changed, at a stretch."""
DELETED_ROWS = 2_000


class Kind(Enum):
    """What is done with a text that holds a name."""

    SEND = "send"
    """It is JSON of a send: names are replaced, and what went to him alone says nothing any more."""
    JSON = "json"
    """Names in it are replaced."""
    TEXT = "text"
    """It is replaced as a whole."""
    OCTETS = "octets"
    """It is emptied."""
    ROW = "row"
    """Its row goes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A column that may hold names."""

    table: str
    column: str
    key: tuple[str, ...]
    """Columns that tell a row from others; one of `created_at` first finds its partition."""
    kind: Kind
    binary: bool = False
    """It holds UTF-8 as octets."""
    app: str = "app_id = $1"
    """What says whose a row is."""
    devices: str = ""
    """Of a send: the column of the devices that it went to, where it has them itself."""


_OF_IMPORT = "import_id IN (SELECT id FROM imports WHERE app_id = $1)"
_OF_TEMPLATE = "template_id IN (SELECT id FROM templates WHERE app_id = $1)"

PLACES: Sequence[Place] = (
    Place("notifications", "send", ("created_at", "id"), Kind.SEND, devices="devices"),
    Place("notifications", "name", ("created_at", "id"), Kind.TEXT),
    Place("schedules", "send", ("id",), Kind.SEND),
    Place("schedules", "name", ("id",), Kind.TEXT),
    Place("schedules", "in_app", ("id",), Kind.JSON),
    Place("segments", "audience", ("id",), Kind.JSON),
    Place("segments", "name", ("id",), Kind.TEXT),
    Place("geofences", "on_enter", ("id",), Kind.JSON),
    Place("geofences", "on_exit", ("id",), Kind.JSON),
    Place("idempotency", "answer", ("key",), Kind.ROW, binary=True),
    Place("idempotency", "key", ("key",), Kind.ROW),
    Place("in_app_messages", "audience", ("created_at", "id"), Kind.JSON),
    Place("in_app_messages", "body", ("created_at", "id"), Kind.JSON),
    Place("in_app_messages", "push", ("created_at", "id"), Kind.JSON),
    Place("in_app_messages", "name", ("created_at", "id"), Kind.TEXT),
    Place("events", "data", ("at", "id"), Kind.JSON),
    Place("template_versions", "body", ("template_id", "version"), Kind.JSON, app=_OF_TEMPLATE),
    Place("import_rejects", "value", ("import_id", "line"), Kind.ROW, app=_OF_IMPORT),
    Place("import_rejects", "reason", ("import_id", "line"), Kind.ROW, app=_OF_IMPORT),
    Place("imports", "head", ("id",), Kind.OCTETS, binary=True),
    Place("imports", "failure", ("id",), Kind.TEXT),
)
NUMBERED: Mapping[str, str] = {"habits": "user_id"}
"""Tables whose rows belong to a user by his number."""

# What he and his installs did with in-app messages, and what these said to him alone.
_FORGET_STATES = "DELETE FROM in_app_states WHERE recipient = ANY ($1::int[])"
_FORGET_MESSAGES = """
UPDATE in_app_messages SET body = '{"content":{},"presented_when":"never"}', push = NULL, name = NULL
WHERE app_id = $1 AND letters <> '{}' AND letters <@ $2::int[] AND NOT EXISTS (SELECT FROM schedules s
    WHERE s.app_id = $1 AND s.id = in_app_messages.id AND s.stage IS NOT NULL AND s.ended_at IS NULL)
"""

_ERASE = f"""
SELECT r.erasure, r.names, {", ".join(f"(r.images).{key} AS u_{key}" for key in USER_KEYS)}, (r.devices).*
FROM erase_user($1, $2, $3) AS r
"""  # noqa: S608  # constants
_COLUMNS = "id, cardinality(installs) AS installs, cardinality(devices) AS devices, requested_at, finished_at"
_GET = f"SELECT {_COLUMNS} FROM erasures WHERE app_id = $1 AND id = $2"  # noqa: S608  # constants
_LIST = f"SELECT {_COLUMNS} FROM erasures WHERE app_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"  # noqa: S608  # constants
_OPEN = (
    "SELECT id, app_id, user_id, installs, devices, texts FROM erasures WHERE finished_at IS NULL ORDER BY id LIMIT $1"
)
_FINISH = "UPDATE erasures SET finished_at = $2, texts = NULL WHERE id = $1 AND finished_at IS NULL"
_RECEIPTS = """
SELECT notification_id, install, event_id, created_at FROM receipts WHERE install = ANY ($2) OR user_id = $1
"""
_FORGET_RECEIPTS = """
DELETE FROM receipts r USING unnest($1::bigint[], $2::int[], $3::bigint[], $4::timestamptz[])
    AS k (notification_id, install, event_id, created_at)
WHERE r.notification_id = k.notification_id AND r.install = k.install AND r.event_id = k.event_id
    AND r.created_at = k.created_at
"""


class Begun(NamedTuple):
    """A user who is gone now: names of his installs, and images that changed."""

    erasure: Erasure
    installs: Sequence[str]
    users: UserRows
    devices: DeviceRows


class Open(NamedTuple):
    """An erasure that is not finished, with what is looked for."""

    id: int
    app_id: int
    user_id: int
    installs: Sequence[int]
    devices: Sequence[int]
    texts: Sequence[str]


class ErasureStore:
    """Erasures of every app."""

    def __init__(self, database: Database, names: Names, clock: Clock) -> None:
        self._database = database
        self._names = names
        self._clock = clock
        self.begun = asyncio.Event()
        """Set when there may be something to look for."""

    async def begin(self, app_id: int, external_id: str) -> Begun | None:
        """What changed when the user went, committed; None when there was no such one."""
        row = await self._database.fetchrow(_ERASE, moment(self._clock.now()), app_id, external_id)
        if row["erasure"] is None:
            return None
        users = unpack_users({key: row[f"u_{key}"] for key in USER_KEYS})
        await self._names.name_tags(users.tags)
        devices = await self._names.name_devices(unpack_devices({key: row[key] for key in DEVICE_KEYS}))
        self.begun.set()
        erasure = await self.get(app_id, row["erasure"])
        assert erasure is not None
        return Begun(erasure, row["names"], users, devices)

    async def get(self, app_id: int, erasure_id: int) -> Erasure | None:
        """The erasure; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, erasure_id)
        return _erasure(row) if row else None

    async def list(self, app_id: int, before: int, limit: int) -> Sequence[Erasure]:
        """Erasures with ids below `before`, the newest first."""
        return [_erasure(row) for row in await self._database.fetch(_LIST, app_id, before, limit)]

    async def open(self, limit: int) -> Sequence[Open]:
        """Those that are not finished, the oldest first."""
        return [Open(*row) for row in await self._database.fetch(_OPEN, limit)]

    async def sweep(self, erasure: Open) -> None:
        """Goes through every place; what it finds there is gone when it returns. Done again it finds nothing."""
        await self._forget_receipts(erasure)
        for table, column in NUMBERED.items():
            await self._database.execute(
                f"DELETE FROM {table} WHERE {column} = $1",  # noqa: S608  # constants
                erasure.user_id,
            )
        recipients = [erasure.user_id, *(-install for install in erasure.installs)]
        await self._database.execute(_FORGET_STATES, recipients)
        await self._database.execute(_FORGET_MESSAGES, erasure.app_id, recipients)
        redaction = Redaction(erasure.texts)
        for place in PLACES:
            await self._clear(place, erasure, redaction)

    async def finish(self, erasure: Open) -> None:
        """Forgets also what was looked for."""
        await self._database.execute(_FINISH, erasure.id, moment(self._clock.now()))

    async def _forget_receipts(self, erasure: Open) -> None:
        timeout_s = self._database.config.bulk_timeout_s
        rows = await self._database.fetch(_RECEIPTS, erasure.user_id, erasure.installs, timeout_s=timeout_s)
        for start in range(0, len(rows), DELETED_ROWS):
            part = rows[start : start + DELETED_ROWS]
            await self._database.execute(_FORGET_RECEIPTS, *([row[at] for row in part] for at in range(4)))

    async def _clear(self, place: Place, erasure: Open, redaction: Redaction) -> None:
        column = f"convert_from({place.column}, 'UTF8')" if place.binary else place.column
        key = ", ".join(place.key)
        own = place.devices or "NULL::int[]"
        alone = f"{own} <> '{{}}' AND {own} <@ $3::int[]"
        query = f"""
            SELECT {key} FROM {place.table} WHERE {place.app} AND ({column} LIKE ANY ($2) OR ({alone}))
        """  # noqa: S608  # constants
        keys = await self._database.fetch(
            query,
            *(erasure.app_id, redaction.patterns(), erasure.devices),
            timeout_s=self._database.config.bulk_timeout_s,
        )
        for start in range(0, len(keys), CHUNK_ROWS):
            for row in keys[start : start + CHUNK_ROWS]:
                await self._clear_row(place, erasure, redaction, tuple(row))
            await asyncio.sleep(0)

    async def _clear_row(self, place: Place, erasure: Open, redaction: Redaction, key: tuple[Any, ...]) -> None:
        """Changes one row, unless it changed meanwhile: then it is looked at again."""
        where = " AND ".join(f"{column} = ${at}" for at, column in enumerate(place.key, 2))
        where = f"{place.app} AND {where}"
        if place.kind is Kind.ROW:
            await self._database.execute(
                f"DELETE FROM {place.table} WHERE {where}",  # noqa: S608  # constants
                *(erasure.app_id, *key),
            )
            return
        devices = f"{place.devices or 'NULL::int[]'} AS devices"
        changed = f"UPDATE {place.table} SET {place.column} = $%d WHERE {where} AND {place.column} = $%d" % (  # noqa: S608
            len(key) + 2,
            len(key) + 3,
        )
        while True:
            row = await self._database.fetchrow(
                f"SELECT {place.column} AS value, {devices} FROM {place.table} WHERE {where}",  # noqa: S608  # constants
                *(erasure.app_id, *key),
            )
            value = (
                None
                if row is None or row["value"] is None
                else _cleared(place, row["value"], row["devices"], erasure, redaction)
            )
            if value is None:
                return
            status = await self._database.execute(changed, erasure.app_id, *key, value, row["value"])
            if status != "UPDATE 0":
                return


def _cleared(place: Place, value: Any, devices: Any, erasure: Open, redaction: Redaction) -> Any:
    """What is to stand in place of a value; None: it stays."""
    match place.kind:
        case Kind.SEND:
            return redaction.send(value, alone=bool(devices) and set(devices) <= set(erasure.devices))
        case Kind.JSON:
            return redaction.json(value)
        case Kind.OCTETS:
            return b"" if value else None
    return ERASED if redaction.text(value) != value else None


def _erasure(row: Any) -> Erasure:
    return Erasure(
        id=row["id"],
        installs=row["installs"],
        devices=row["devices"],
        requested_at=seconds(row["requested_at"]),
        finished_at=seconds_or_none(row["finished_at"]),
    )
