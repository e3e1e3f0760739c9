"""Keys of the dialects in the store: found by what a request names, remembered until any key changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any

import asyncpg

from pushd.model.app import Key, Role
from pushd.model.vendor_key import DialectName, VendorKey
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.remembered import Remembered
from pushd.store.times import seconds, seconds_or_none

SECRETS_MAX = 100
"""Of one identity that are looked at."""
HINT_CHARS = 4
HINTED_CHARS_MIN = 16

_COLUMNS = "id, app_id, dialect, role, identity, name, hint, created_at, revoked_at"
_CREATE = f"SELECT {_COLUMNS} FROM create_vendor_key($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608  # constants
_FIND = f"""
SELECT {_COLUMNS}, digest, sealed FROM vendor_keys
WHERE dialect = $1 AND identity = $2 AND revoked_at IS NULL ORDER BY id DESC LIMIT {SECRETS_MAX}
"""  # noqa: S608  # constants
_LIST = f"SELECT {_COLUMNS} FROM vendor_keys WHERE app_id = $1 AND id > $2 ORDER BY id LIMIT $3"  # noqa: S608  # constants
_REVOKE = f"""
WITH gone AS (
    UPDATE vendor_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $2 AND app_id = $1 RETURNING *
)
SELECT {_COLUMNS}, note_change(3::smallint, app_id, '{{}}') FROM gone
"""  # noqa: S608  # constants


@dataclass(frozen=True, slots=True)
class Held:
    """A key as requests are compared with it."""

    key: VendorKey
    digest: bytes
    sealed: bytes | None

    def is_secret(self, secret: str) -> bool:
        """Whether this is its secret."""
        return compare_digest(self.digest, digest(secret))

    def as_key(self) -> Key:
        """The key as those of the native API are known."""
        key = self.key
        return Key(
            id=key.id,
            app_id=key.app_id,
            role=key.role,
            name=key.name,
            hint=f"{key.dialect}:{key.id}",
            created_at=key.created_at,
            revoked_at=key.revoked_at,
        )


class VendorKeyStore:
    """Keys of every app and dialect."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Remembered[tuple[DialectName, str], tuple[Held, ...]] = Remembered()
        self._proven: Remembered[bytes, Key] = Remembered()

    async def create(
        self, app_id: int, dialect: DialectName, role: Role, identity: str, secret: str, sealed: bytes | None, name: str
    ) -> VendorKey | None:
        """The new key; None when it is there already, or its identity is another app's. NotFoundError."""
        hint = secret[:HINT_CHARS] if len(secret) >= HINTED_CHARS_MIN else ""
        try:
            row = await self._database.fetchrow(
                _CREATE, app_id, dialect.value, role.value, identity, digest(secret), sealed, name, hint
            )
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        finally:  # whatever became of it: it may be committed though the answer was lost
            self.forget()
        return None if row is None else _key(row)

    async def find(self, dialect: DialectName, identity: str) -> tuple[Held, ...]:
        """The keys of an identity that are good, the newest first; those seen before without the database."""
        if "\x00" in identity:
            return ()  # PostgreSQL has no such text
        key = dialect, identity
        return self._known.get(key) or await self._known.read(key, lambda: self._fetch(dialect, identity)) or ()

    def proven(self, digest: bytes) -> Key | None:
        """The key that `prove` found for this digest before, and that is good."""
        return self._proven.get(digest)

    async def prove(self, dialect: DialectName, identity: str, secret: str, digest: bytes) -> Key | None:
        """The key of an identity that has this secret and is good, from now on known by a digest of all three."""
        return await self._proven.read(digest, lambda: self._matching(dialect, identity, secret))

    async def _matching(self, dialect: DialectName, identity: str, secret: str) -> Key | None:
        if not identity or not secret:
            return None
        for held in await self.find(dialect, identity):
            if held.is_secret(secret):
                return held.as_key()
        return None

    async def _fetch(self, dialect: DialectName, identity: str) -> tuple[Held, ...] | None:
        rows = await self._database.fetch(_FIND, dialect.value, identity)
        return tuple(Held(_key(row), bytes(row["digest"]), row["sealed"]) for row in rows) or None

    async def list(self, app_id: int, after: int = 0, limit: int = 1000) -> Sequence[VendorKey]:
        """Keys of an app with ids above `after`, ascending, revoked ones too."""
        return [_key(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def revoke(self, app_id: int, key_id: int) -> VendorKey | None:
        """The key, which is good for nothing now; None when the app has no such one."""
        row = await self._database.fetchrow(_REVOKE, app_id, key_id)
        self.forget()
        return None if row is None else _key(row)

    def forget(self) -> None:
        """Looks every key up again: some were changed."""
        self._known.forget()
        self._proven.forget()


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(row: Any) -> VendorKey:
    return VendorKey(
        id=row["id"],
        app_id=row["app_id"],
        dialect=DialectName(row["dialect"]),
        role=Role(row["role"]),
        identity=row["identity"],
        name=row["name"],
        hint=row["hint"],
        created_at=seconds(row["created_at"]),
        revoked_at=seconds_or_none(row["revoked_at"]),
    )
