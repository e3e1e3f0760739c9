"""Templates in the store: a row for each with its name and newest version, and a row for every version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct

from pushd.clock import Clock
from pushd.errors import ConflictError, Fault
from pushd.model.template import NewTemplate
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.times import moment, seconds

_COLUMNS = "t.id, t.uid, v.version, v.body, t.created_at, v.created_at AS updated_at"
_CREATE = """
WITH made AS (
    INSERT INTO templates (app_id, uid, name, version, created_at)
    SELECT $1, $2, $3, 1, $5 WHERE (SELECT count(*) FROM templates WHERE app_id = $1) < $6
    RETURNING *
)
INSERT INTO template_versions (template_id, version, body, created_at) SELECT id, 1, $4, $5 FROM made
RETURNING template_id
"""
_UPDATE = """
WITH changed AS (
    UPDATE templates SET name = $4, version = version + 1 WHERE app_id = $1 AND uid = $2 AND version = $3
    RETURNING id, version
), forgotten AS (
    DELETE FROM template_versions v USING changed
    WHERE v.template_id = changed.id AND v.version <= changed.version - $7
)
INSERT INTO template_versions (template_id, version, body, created_at)
SELECT id, version, $5, $6 FROM changed RETURNING template_id
"""
_GET = f"""
SELECT {_COLUMNS} FROM templates t
    JOIN template_versions v ON v.template_id = t.id AND v.version = coalesce($3, t.version)
WHERE t.app_id = $1 AND t.uid = $2
"""  # noqa: S608  # constants
_NAMED = f"""
SELECT {_COLUMNS} FROM templates t JOIN template_versions v ON v.template_id = t.id AND v.version = t.version
WHERE t.app_id = $1 AND t.name = $2
"""  # noqa: S608  # constants
_LIST = f"""
SELECT {_COLUMNS} FROM templates t JOIN template_versions v ON v.template_id = t.id AND v.version = t.version
WHERE t.app_id = $1 AND t.id > $2 ORDER BY t.id LIMIT $3
"""  # noqa: S608  # constants
_VERSIONS = f"""
SELECT {_COLUMNS} FROM templates t JOIN template_versions v ON v.template_id = t.id AND v.version < $3::bigint
WHERE t.app_id = $1 AND t.uid = $2 ORDER BY v.version DESC LIMIT $4
"""  # noqa: S608  # constants
_DELETE = "DELETE FROM templates WHERE app_id = $1 AND uid = $2 RETURNING id"
_UIDS = "SELECT uid FROM templates WHERE app_id = $1 AND uid = $2"

_decode = msgspec.json.Decoder(NewTemplate).decode


class StoredTemplate(Struct, frozen=True):
    """A template at one of its versions."""

    id: int
    uid: str
    version: int
    body: NewTemplate
    created_at: float
    updated_at: float


class TemplateStore:
    """Templates of every app."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, app_id: int, uid: str, new: NewTemplate) -> StoredTemplate:
        """The new template. NotFoundError; ConflictError: uid or name is taken, or there are as many as may be."""
        most = self._database.config.templates_max
        values = (app_id, uid, new.name, self._text(new), moment(self._clock.now()), most)
        try:
            async with self._database.transaction() as connection:
                # One at a time, so that none is made beside the last that there may be.
                await connection.execute("SELECT lock_apps(ARRAY[$1::int])", app_id)
                made = await connection.fetchrow(_CREATE, *values)
        except asyncpg.UniqueViolationError as error:
            raise _taken(error) from error
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        if made is None:
            raise ConflictError(f"The app has {most} templates, as many as it may have")
        return await self._found(app_id, uid)

    async def update(self, app_id: int, uid: str, version: int, changed: NewTemplate) -> StoredTemplate | None:
        """The template after a change of its version; None where that is not the newest any more. ConflictError."""
        keep = self._database.config.template_versions_max
        values = (app_id, uid, version, changed.name, self._text(changed), moment(self._clock.now()), keep)
        try:
            made = await self._database.fetchrow(_UPDATE, *values)
        except asyncpg.UniqueViolationError as error:
            raise _taken(error) from error
        return None if made is None else await self._found(app_id, uid, version + 1)

    async def get(self, app_id: int, uid: str, version: int | None = None) -> StoredTemplate | None:
        """The template at a version, by default its newest; None where the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, uid, version)
        return None if row is None else _template(row)

    async def named(self, app_id: int, name: str) -> StoredTemplate | None:
        """The template of this name; None where the app has no such one."""
        row = await self._database.fetchrow(_NAMED, app_id, name)
        return None if row is None else _template(row)

    async def list(self, app_id: int, after: int, limit: int) -> Sequence[StoredTemplate]:
        """Templates with ids above `after`, ascending, each at its newest version."""
        return [_template(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def versions(self, app_id: int, uid: str, before: int, limit: int) -> Sequence[StoredTemplate] | None:
        """Its versions below `before`, the newest first; None where there is no such template."""
        rows = await self._database.fetch(_VERSIONS, app_id, uid, before, limit)
        if not rows and await self._database.fetchval(_UIDS, app_id, uid) is None:
            return None
        return [_template(row) for row in rows]

    async def delete(self, app_id: int, uid: str) -> bool:
        """Whether there was such a template: its versions go with it, what was sent by it stays as it is."""
        return await self._database.fetchrow(_DELETE, app_id, uid) is not None

    async def _found(self, app_id: int, uid: str, version: int | None = None) -> StoredTemplate:
        found = await self.get(app_id, uid, version)
        if found is None:
            raise ConflictError("The template was deleted meanwhile")
        return found

    def _text(self, new: NewTemplate) -> str:
        text = msgspec.json.encode(msgspec.structs.replace(new, uid=None))
        most = self._database.config.template_bytes_max
        if len(text) > most:
            raise ConflictError(f"A template has at most {most:,} bytes as JSON")
        return text.decode()


def _taken(error: asyncpg.UniqueViolationError) -> ConflictError:
    field = "name" if "name" in (error.constraint_name or "") else "uid"
    fault = Fault(f"/{field}", f"is the {field} of another template")
    return ConflictError(f"A template has this {field}", faults=[fault])


def _template(row: Any) -> StoredTemplate:
    return StoredTemplate(
        row["id"],
        row["uid"],
        row["version"],
        _decode(row["body"]),
        seconds(row["created_at"]),
        seconds(row["updated_at"]),
    )
