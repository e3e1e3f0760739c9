"""Ends of installs in the store: when each is to go, and those that are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from pushd.model.rows import DeviceRows
from pushd.store.columns import unpack_devices
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.names import Names
from pushd.store.times import moment, seconds

ROWS = 1_000
"""Installs that go at once."""

_SET = "SELECT set_expiration($1, $2, $3)"
_GET = "SELECT expires_at FROM installs WHERE app_id = $1 AND name = $2"
# Installs of an app that is deleted go with it.
_APPS = """
SELECT DISTINCT i.app_id FROM installs i WHERE i.expires_at <= $1
    AND EXISTS (SELECT FROM apps a WHERE a.id = i.app_id AND a.deleted_at IS NULL)
"""
_DELETE = "SELECT * FROM delete_expired($1, $2, $3)"


class ExpirationStore:
    """Ends of the installs of every app."""

    def __init__(self, database: Database, names: Names) -> None:
        self._database = database
        self._names = names

    async def set(self, app_id: int, install_id: str, at: float | None) -> bool:
        """Whether there is such an install, which ends at this instant, or never. NotFoundError."""
        try:
            return bool(await self._database.fetchval(_SET, app_id, install_id, None if at is None else moment(at)))
        except asyncpg.PostgresError as error:
            raise refusal(error) from error

    async def get(self, app_id: int, install_id: str) -> float | None:
        """UNIX seconds of an install's end; None where it has none, or there is no such install."""
        found = await self._database.fetchval(_GET, app_id, install_id)
        return None if found is None else seconds(found)

    async def apps(self, now: float) -> Sequence[int]:
        """The apps of which some install is over."""
        return [row["app_id"] for row in await self._database.fetch(_APPS, moment(now))]

    async def delete(self, app_id: int, now: float) -> DeviceRows:
        """Tombstones of the devices of installs that were over, `ROWS` of these at a time; those are gone now."""
        row: Any = await self._database.fetchrow(_DELETE, moment(now), app_id, ROWS)
        return await self._names.name_devices(unpack_devices(row))
