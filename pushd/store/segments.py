"""Segments in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from pushd.clock import Clock
from pushd.errors import ConflictError, Fault
from pushd.model.audience import Audience
from pushd.model.segment import NewSegment, Segment
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.times import moment, seconds

_COLUMNS = "id, uuid, name, audience, created_at, updated_at"
_CREATE = f"""
WITH made AS (
    INSERT INTO segments (app_id, uuid, name, audience, created_at, updated_at)
    SELECT $1, $2, $3, $4, $5, $5 WHERE (SELECT count(*) FROM segments WHERE app_id = $1) < $6
    RETURNING *
)
SELECT {_COLUMNS}, note_change(6::smallint, app_id, ARRAY[id]) FROM made
"""  # noqa: S608  # constants
_UPDATE = f"""
WITH changed AS (
    UPDATE segments SET name = coalesce($3, name), audience = coalesce($4, audience), updated_at = $5
    WHERE app_id = $1 AND uuid = $2 RETURNING *
)
SELECT {_COLUMNS}, note_change(6::smallint, app_id, ARRAY[id]) FROM changed
"""  # noqa: S608  # constants
_DELETE = """
WITH gone AS (DELETE FROM segments WHERE app_id = $1 AND uuid = $2 RETURNING id, app_id)
SELECT id, note_change(6::smallint, app_id, ARRAY[id]) FROM gone
"""
_GET = f"SELECT {_COLUMNS} FROM segments WHERE app_id = $1 AND uuid = $2"  # noqa: S608  # constants
_LIST = f"SELECT {_COLUMNS} FROM segments WHERE app_id = $1 AND id > $2 ORDER BY id LIMIT $3"  # noqa: S608  # constants
_OTHERS = "SELECT coalesce(sum(octet_length(audience)), 0)::bigint FROM segments WHERE app_id = $1 AND uuid <> $2"
_AUDIENCES = "SELECT app_id, uuid, audience FROM segments WHERE $1::int[] IS NULL OR app_id = ANY($1)"

SLICE_CHARS = 262_144
"""Of audiences that are decoded before others get their turn, a few ms; each counts `SMALL_CHARS` more."""
SMALL_CHARS = 512

_audience = msgspec.json.Decoder(Audience).decode


class SegmentStore:
    """Segments of every app."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, app_id: int, uuid: str, new: NewSegment) -> Segment:
        """The new segment. NotFoundError; ConflictError where the uuid is taken, or the app has as many as it may."""
        most, text = self._database.config.segments_max, _json(new.audience)
        try:
            async with self._database.transaction() as connection:
                await self._check_room(connection, app_id, uuid, text)
                row = await connection.fetchrow(
                    _CREATE, *(app_id, uuid, new.name, text, moment(self._clock.now()), most)
                )
        except asyncpg.UniqueViolationError as error:
            fault = Fault("/uuid", "is the uuid of another segment")
            raise ConflictError("A segment has this uuid", faults=[fault]) from error
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        if row is None:
            raise ConflictError(f"The app has {most} segments, as many as it may have")
        return _segment(row)

    async def update(self, app_id: int, uuid: str, name: str | None, audience: Audience | None) -> Segment | None:
        """The changed segment; None when there is no such one. Arguments that are None leave what they name.

        ConflictError where the app's audiences would be too long together.
        """
        text = None if audience is None else _json(audience)
        try:
            async with self._database.transaction() as connection:
                if text is not None:
                    await self._check_room(connection, app_id, uuid, text)
                row = await connection.fetchrow(_UPDATE, app_id, uuid, name, text, moment(self._clock.now()))
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        return None if row is None else _segment(row)

    async def delete(self, app_id: int, uuid: str) -> bool:
        """Whether there was such a segment."""
        return await self._database.fetchrow(_DELETE, app_id, uuid) is not None

    async def get(self, app_id: int, uuid: str) -> Segment | None:
        """The segment; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, uuid)
        return None if row is None else _segment(row)

    async def list(self, app_id: int, after: int, limit: int) -> Sequence[Segment]:
        """Segments with ids above `after`, ascending."""
        return [_segment(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def audiences(self, app_ids: Sequence[int] | None) -> Mapping[int, Mapping[str, Audience]]:
        """By app, the audience of each segment by its uuid; of every app where none is named."""
        found: dict[int, dict[str, Audience]] = {app_id: {} for app_id in app_ids or ()}
        decoded = 0
        for row in await self._database.fetch(_AUDIENCES, None if app_ids is None else list(app_ids)):
            found.setdefault(row["app_id"], {})[row["uuid"]] = _audience(row["audience"])
            decoded += SMALL_CHARS + len(row["audience"])
            if decoded > SLICE_CHARS:
                decoded = 0
                await asyncio.sleep(0)
        return found

    async def _check_room(self, connection: Any, app_id: int, uuid: str, text: str) -> None:
        """Returns when the audiences of an app's segments, with this one, are not longer than they may be together.

        Whoever else asks for the same app waits for the end of the caller's transaction.
        """
        most = self._database.config.segments_bytes_max
        await connection.execute("SELECT lock_apps(ARRAY[$1::int])", app_id)
        if await connection.fetchval(_OTHERS, app_id, uuid) + len(text.encode()) > most:
            raise ConflictError(f"The audiences of the app's segments may have {most:,} bytes together")


def _json(audience: Audience) -> str:
    return msgspec.json.encode(audience).decode()


def _segment(row: Any) -> Segment:
    return Segment(
        id=row["id"],
        uuid=row["uuid"],
        name=row["name"],
        audience=_audience(row["audience"]),
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
    )
