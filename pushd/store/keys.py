"""API keys in the store: of their secrets only SHA-256 digests are kept; known keys are remembered in memory."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import asyncpg

from pushd.model.app import Key, Role
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.remembered import Remembered
from pushd.store.times import seconds, seconds_or_none

SECRET_BYTES = 32
HINT_CHARS = 16

_COLUMNS = "id, app_id, role, name, hint, created_at, revoked_at"
# Whoever deletes the app waits for us, or we see that it is gone: it takes its keys along.
_CREATE = f"""
WITH held AS MATERIALIZED (SELECT CASE WHEN $1::int IS NOT NULL THEN lock_apps(ARRAY[$1::int]) END), made AS (
    INSERT INTO api_keys (app_id, role, name, hint, digest) SELECT $1, $2, $3, $4, $5 FROM held RETURNING *
)
SELECT {_COLUMNS}, note_change(3::smallint, app_id, ARRAY[id]) FROM made
"""  # noqa: S608  # constants
_FIND = f"SELECT {_COLUMNS} FROM api_keys WHERE digest = $1 AND revoked_at IS NULL"  # noqa: S608  # constants
_LIST = f"""
SELECT {_COLUMNS} FROM api_keys WHERE app_id IS NOT DISTINCT FROM $1 AND id > $2 ORDER BY id LIMIT $3
"""  # noqa: S608  # constants
_REVOKE = f"""
WITH gone AS (
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $2 AND app_id IS NOT DISTINCT FROM $1
    RETURNING *
)
SELECT {_COLUMNS}, note_change(3::smallint, app_id, ARRAY[id]) FROM gone
"""  # noqa: S608  # constants


class KeyStore:
    """Keys of every app, and those of the administrator, which belong to none."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Remembered[bytes, Key] = Remembered()

    async def create(self, app_id: int | None, role: Role, name: str) -> tuple[Key, str]:
        """The new key and its secret, which is never seen again. NotFoundError: there is no such app."""
        text = base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
        secret = f"pushd_{role.value}_{text}"
        try:
            row = await self._database.fetchrow(_CREATE, app_id, role.value, name, secret[:HINT_CHARS], _digest(secret))
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        return _key(row), secret

    async def authenticate(self, secret: str, digest: bytes | None = None) -> Key | None:
        """The key that has this secret and is not revoked. Keys seen before are known without the database.

        `digest`: SHA-256 of the secret, where that is known.
        """
        digest = digest or _digest(secret)
        return self._known.get(digest) or await self._known.read(digest, lambda: self._fetch(digest))

    async def _fetch(self, digest: bytes) -> Key | None:
        row = await self._database.fetchrow(_FIND, digest)
        return None if row is None else _key(row)

    async def list(self, app_id: int | None, after: int = 0, limit: int = 1000) -> Sequence[Key]:
        """Keys of an app (None: the administrator's) with ids above `after`, ascending, revoked ones too."""
        return [_key(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def revoke(self, app_id: int | None, key_id: int) -> Key | None:
        """The key, which is good for nothing now; None when the app has no such one."""
        row = await self._database.fetchrow(_REVOKE, app_id, key_id)
        self.forget()
        return None if row is None else _key(row)

    def forget(self) -> None:
        """Looks every key up again: some were changed."""
        self._known.forget()


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(row: Any) -> Key:
    return Key(
        id=row["id"],
        app_id=row["app_id"],
        role=Role(row["role"]),
        name=row["name"],
        hint=row["hint"],
        created_at=seconds(row["created_at"]),
        revoked_at=seconds_or_none(row["revoked_at"]),
    )
