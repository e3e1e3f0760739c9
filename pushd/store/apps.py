"""Apps in the store: created, read, listed, changed and deleted.

Every send asks for its app, so apps that were read are remembered. The change feed says when another node changed one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import msgspec
import structlog

from pushd.errors import UnavailableError
from pushd.model.app import App, Settings
from pushd.store.database import Database
from pushd.store.remembered import Remembered
from pushd.store.times import seconds

log = structlog.get_logger(__name__)

ENDED_AT_ONCE = 2_000
"""Schedules, or runs, of a deleted app that are ended by one transaction, which takes about 0.1 s."""
OVER_POLL_S = 0.01
_COLUMNS = "id, name, settings, created_at"
_CREATE = f"""
WITH made AS (INSERT INTO apps (name, settings) VALUES ($1, $2) RETURNING *)
SELECT {_COLUMNS}, note_change(5::smallint, id, ARRAY[id]) FROM made
"""  # noqa: S608  # constants
_UPDATE = f"""
WITH changed AS (
    UPDATE apps SET name = coalesce($2, name), settings = coalesce($3, settings) WHERE id = $1 AND deleted_at IS NULL
    RETURNING *
)
SELECT {_COLUMNS}, note_change(5::smallint, id, ARRAY[id]) FROM changed
"""  # noqa: S608  # constants
_GET = f"SELECT {_COLUMNS} FROM apps WHERE id = $1 AND deleted_at IS NULL"  # noqa: S608  # constants
_LIST = f"SELECT {_COLUMNS} FROM apps WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2"  # noqa: S608  # constants
_GONE = """
SELECT id FROM apps a WHERE deleted_at IS NOT NULL AND (EXISTS (SELECT FROM routes r WHERE r.app_id = a.id)
    OR EXISTS (SELECT FROM users u WHERE u.app_id = a.id AND u.deleted_at IS NULL)) ORDER BY id
"""
# Transactions that have written nothing yet are not waited for: these look for the app later.
_BEGUN = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_OVER = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1"
_END = ("SELECT end_schedules($1, $2, $3)", "SELECT end_runs($1, $2, $3)")


class AppStore:
    """Every app."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Remembered[int, App] = Remembered()

    async def create(self, name: str, settings: Settings) -> App:
        """The new app."""
        return _app(await self._database.fetchrow(_CREATE, name, msgspec.json.encode(settings).decode()))

    async def get(self, app_id: int) -> App | None:
        """The app; None when there is no such one. Apps seen before are known without the database.

        What another node changed is seen once the change feed has brought it; our own changes, at once.
        """
        return self._known.get(app_id) or await self._known.read(app_id, lambda: self._fetch(app_id))

    async def _fetch(self, app_id: int) -> App | None:
        row = await self._database.fetchrow(_GET, app_id)
        return None if row is None else _app(row)

    async def list(self, after: int = 0, limit: int = 1000) -> Sequence[App]:
        """Apps with ids above `after`, ascending."""
        return [_app(row) for row in await self._database.fetch(_LIST, after, limit)]

    async def gone(self) -> Sequence[int]:
        """Ids of apps that were deleted and whose devices and users may not be purged yet: nobody is to know these."""
        return [row["id"] for row in await self._database.fetch(_GONE)]

    async def update(self, app_id: int, name: str | None = None, settings: Settings | None = None) -> App | None:
        """The changed app; None when there is no such one."""
        text = None if settings is None else msgspec.json.encode(settings).decode()
        try:
            row = await self._database.fetchrow(_UPDATE, app_id, name, text)
        finally:  # whatever became of it: it may be committed though the answer was lost
            self.forget((app_id,))
        return None if row is None else _app(row)

    async def delete(self, app_id: int) -> bool:
        """Whether there was such an app.

        It is gone at once, with its keys and credentials; what it sends is cancelled; its rows are purged later.
        """
        try:
            found = bool(await self._database.fetchval("SELECT delete_app($1)", app_id))
        finally:
            self.forget((app_id,))
        if found:
            await self._end(app_id)
        return found

    async def _end(self, app_id: int) -> None:
        """Ends what a deleted app has under way. What is left where that fails falls due in vain, or finds nobody."""
        try:
            await self._outlast_accepts()
            for statement in _END:
                after: int | None = 0
                while after is not None:
                    after = await self._database.fetchval(statement, app_id, after, ENDED_AT_ONCE)
        except UnavailableError as error:
            log.warning("deleted_app_not_ended", app=app_id, error=error.detail)

    async def _outlast_accepts(self) -> None:
        """Returns when what found the app, and went on without a lock, is committed, or after `delete_wait_s`."""
        begun = await self._database.fetchval(_BEGUN)
        until = monotonic() + self._database.config.delete_wait_s
        while not await self._database.fetchval(_OVER, begun):
            if monotonic() >= until:
                return
            await asyncio.sleep(OVER_POLL_S)

    def forget(self, app_ids: Iterable[int]) -> None:
        """Looks these apps up again: they were changed."""
        self._known.forget(app_ids)


def _app(row: Any) -> App:
    return App(
        id=row["id"],
        name=row["name"],
        settings=msgspec.json.decode(row["settings"], type=Settings),
        created_at=seconds(row["created_at"]),
    )
