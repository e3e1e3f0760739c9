"""Geofences in the store: created, read, listed, changed, deleted, and loaded for the index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import msgspec
import orjson
from msgspec import UNSET

from pushd.clock import Clock
from pushd.model.geofence import FenceImage, Geofence, GeofenceChange, Trigger
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.loading import Snapshot
from pushd.store.times import moment, seconds, seconds_or_none

LOADED_ROWS = 100
"""Images read at once: of 100 KB each, at most."""

_SELECT = """
SELECT g.*, k.entered, k.left_, k.last_entered_at FROM geofences g JOIN geofence_counts k ON k.geofence_id = g.id
"""
_GET = f"{_SELECT} WHERE g.app_id = $1 AND g.id = $2"  # a constant
_LIST = f"{_SELECT} WHERE g.app_id = $1 AND g.id > $2 ORDER BY g.id LIMIT $3"  # a constant
_OTHERS = "SELECT coalesce(sum(octet_length(bounds)), 0)::bigint FROM geofences WHERE app_id = $1 AND id <> $2"
_IMAGE = "id, app_id, revision, enabled, bounds, tags, on_enter, on_exit"
_IMAGES = f"SELECT {_IMAGE} FROM geofences WHERE id = ANY($1) ORDER BY id"  # noqa: S608  # a constant
_LOAD = f"""SELECT {_IMAGE} FROM geofences g WHERE id > $1
    AND EXISTS (SELECT FROM apps a WHERE a.id = g.app_id AND a.deleted_at IS NULL) ORDER BY id LIMIT $2"""  # noqa: S608  # a constant


class GeofenceStore:
    """Geofences of every app."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, app_id: int, wanted: GeofenceChange, most: int) -> int | None:
        """The id of a new geofence, of which everything is given; None when the app has `most`. NotFoundError."""
        try:
            made = await self._database.fetchval(
                "SELECT create_geofence($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                *(moment(self._clock.now()), app_id, most, *_values(wanted)),
            )
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        return None if made is None else int(made)

    async def change(self, app_id: int, geofence_id: int, wanted: GeofenceChange) -> bool:
        """Whether there was such a geofence; it is changed."""
        mask = sum(1 << bit for bit, name in enumerate(_FIELDS) if getattr(wanted, name) is not UNSET)
        done = await self._database.fetchval(
            "SELECT change_geofence($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            *(moment(self._clock.now()), app_id, geofence_id, mask, *_values(wanted)),
        )
        return bool(done)

    async def delete(self, app_id: int, geofence_id: int) -> bool:
        """Whether there was such a geofence; it is gone, with what its crossings had still to send."""
        return bool(await self._database.fetchval("SELECT delete_geofence($1, $2)", app_id, geofence_id))

    async def bounds_bytes(self, app_id: int, beside: int) -> int:
        """How long the bounds of an app's geofences are together, as they are stored, without one of them (0: all)."""
        return int(await self._database.fetchval(_OTHERS, app_id, beside))

    async def get(self, app_id: int, geofence_id: int) -> Geofence | None:
        """The geofence; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, geofence_id)
        return None if row is None else _geofence(row)

    async def list(self, app_id: int, after: int, limit: int) -> Sequence[Geofence]:
        """Geofences with ids above `after`, ascending."""
        return [_geofence(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def images(self, ids: Sequence[int]) -> Sequence[FenceImage]:
        """What the index knows of these geofences; nothing of those that are gone."""
        return [_image(row) for row in await self._database.fetch(_IMAGES, [int(each) for each in ids])]

    async def load(self, snapshot: Snapshot) -> AsyncIterator[FenceImage]:
        """Every geofence, as of one moment."""
        after = 0
        while rows := await snapshot.connection.fetch(_LOAD, after, LOADED_ROWS):
            for row in rows:
                yield _image(row)
            after = rows[-1]["id"]


_FIELDS = ("name", "bounds", "enabled", "tags", "on_enter", "on_exit")


def _values(wanted: GeofenceChange) -> list[Any]:
    bounds = wanted.bounds
    return [
        None if wanted.name is UNSET else wanted.name,
        None if bounds is UNSET else orjson.dumps(bounds).decode(),
        None if wanted.enabled is UNSET else wanted.enabled,
        None if wanted.tags is UNSET else wanted.tags,
        *(msgspec.json.encode(each).decode() if each else None for each in (wanted.on_enter, wanted.on_exit)),
    ]


def _trigger(text: str | None) -> Trigger | None:
    return None if text is None else msgspec.json.decode(text, type=Trigger)


def _geofence(row: Any) -> Geofence:
    return Geofence(
        id=row["id"],
        app_id=row["app_id"],
        name=row["name"],
        bounds=orjson.loads(row["bounds"]),
        enabled=row["enabled"],
        tags=list(row["tags"]),
        on_enter=_trigger(row["on_enter"]),
        on_exit=_trigger(row["on_exit"]),
        activation_count=row["entered"],
        exit_count=row["left_"],
        last_activated_at=seconds_or_none(row["last_entered_at"]),
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
        revision=row["revision"],
    )


def _image(row: Any) -> FenceImage:
    enter, leave = _trigger(row["on_enter"]), _trigger(row["on_exit"])
    return FenceImage(
        id=row["id"],
        app_id=row["app_id"],
        revision=row["revision"],
        enabled=row["enabled"],
        bounds=row["bounds"],
        tags=tuple(row["tags"]),
        enter_interval_s=None if enter is None else enter.min_interval_s,
        exit_interval_s=None if leave is None else leave.min_interval_s,
    )
