"""Fitted pictures in the store: put by who fits them, read by who serves them, deleted when nobody wants them."""

from __future__ import annotations

from datetime import timedelta

from pushd.store.database import Database
from pushd.store.times import moment

PURGED_ROWS = 1_000

_PUT = """
INSERT INTO pictures (app_id, name, body, used_at) SELECT id, $2, $3, $4 FROM apps WHERE id = $1 AND deleted_at IS NULL
ON CONFLICT (app_id, name) DO UPDATE SET used_at = greatest(pictures.used_at, excluded.used_at)
"""
_GET = """
SELECT p.body FROM pictures p JOIN apps a ON a.id = p.app_id WHERE a.id = $1 AND a.deleted_at IS NULL AND p.name = $2
"""
_PURGE = (
    "DELETE FROM pictures WHERE ctid = ANY (ARRAY(SELECT ctid FROM pictures WHERE used_at < $1 LIMIT $2)) RETURNING 1"
)


class PictureStore:
    """Fitted pictures of every app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, app_id: int, name: str, body: bytes, now: float) -> None:
        """Nothing, once the picture is there and wanted as of now; nothing either for an app that is gone."""
        await self._database.execute(_PUT, app_id, name, body, moment(now))

    async def get(self, app_id: int, name: str) -> bytes | None:
        """The picture; None where the app has no such one."""
        body: bytes | None = await self._database.fetchval(_GET, app_id, name)
        return body

    async def purge(self, now: float, keep_days: int) -> bool:
        """Whether there may be more to delete of what was not wanted for so long."""
        rows = await self._database.fetch(_PURGE, moment(now) - timedelta(days=keep_days), PURGED_ROWS)
        return len(rows) == PURGED_ROWS
