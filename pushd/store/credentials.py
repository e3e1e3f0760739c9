"""Gateway credentials in the store: sealed before they come here, never opened by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from pushd.errors import ConflictError
from pushd.model.credential import Credential, CredentialState
from pushd.model.device import Environment, GatewayName
from pushd.store.database import Database
from pushd.store.times import seconds

_COLUMNS = "id, app_id, gateway, environment, name, summary, state, paused_reason, created_at, updated_at"
_PUT = f"""
WITH put AS (
    INSERT INTO credentials (id, app_id, gateway, environment, name, summary, sealed)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (id) DO UPDATE SET gateway = excluded.gateway, environment = excluded.environment, name = excluded.name,
        summary = excluded.summary, sealed = excluded.sealed, state = 'active', paused_reason = NULL, updated_at = now()
        WHERE credentials.app_id = excluded.app_id
    RETURNING *
)
SELECT {_COLUMNS}, note_change(4::smallint, app_id, ARRAY[id]) FROM put
"""  # noqa: S608  # constants
_GET = f"SELECT {_COLUMNS} FROM credentials WHERE app_id = $1 AND id = $2"  # noqa: S608  # constants
_LIST = f"SELECT {_COLUMNS} FROM credentials WHERE app_id = $1 AND id > $2 ORDER BY id LIMIT $3"  # noqa: S608  # constants
_DELETE = """
WITH gone AS (DELETE FROM credentials WHERE app_id = $1 AND id = $2 RETURNING id, app_id)
SELECT id, note_change(4::smallint, app_id, ARRAY[id]) FROM gone
"""
_SET_STATE = f"""
WITH changed AS (
    UPDATE credentials SET state = $3, paused_reason = $4, updated_at = now()
    WHERE app_id = $1 AND id = $2 AND ($5::bytea IS NULL OR sealed = $5) RETURNING *
)
SELECT {_COLUMNS}, note_change(4::smallint, app_id, ARRAY[id]) FROM changed
"""  # noqa: S608  # constants
_LOAD = f"SELECT {_COLUMNS}, sealed FROM credentials ORDER BY id"  # noqa: S608  # constants

Seal = Callable[[int], bytes]
"""Seals a secret for the credential id that it gets: the id is part of what is authenticated."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A credential and its sealed secret."""

    credential: Credential
    sealed: bytes


class CredentialStore:
    """Credentials of every app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self,
        app_id: int,
        gateway: GatewayName,
        environment: Environment,
        name: str,
        summary: Mapping[str, str],
        seal: Seal,
        *,
        credential_id: int | None = None,
    ) -> Credential | None:
        """The credential, in use: a new one, or the one of this id replaced; None when the app has no such one.

        ConflictError when the app has another of this name for this gateway and environment.
        """
        place = (app_id, gateway.value, environment.value, name)
        text = orjson.dumps(dict(summary)).decode()
        async with self._database.transaction() as connection:
            await connection.execute("SELECT lock_apps(ARRAY[$1::int])", app_id)
            number = credential_id
            if number is None:
                number = await connection.fetchval("SELECT nextval('credentials_id_seq')::int")
            elif not await connection.fetchval(
                "SELECT 1 FROM credentials WHERE app_id = $1 AND id = $2", app_id, number
            ):
                return None
            try:
                row = await connection.fetchrow(_PUT, number, *place, text, seal(number))
            except asyncpg.UniqueViolationError:
                raise ConflictError("There is another credential of this name") from None
        return _credential(row)

    async def get(self, app_id: int, credential_id: int) -> Credential | None:
        """The credential; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, credential_id)
        return None if row is None else _credential(row)

    async def list(self, app_id: int, after: int = 0, limit: int = 1000) -> Sequence[Credential]:
        """Credentials of an app with ids above `after`, ascending."""
        return [_credential(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def delete(self, app_id: int, credential_id: int) -> bool:
        """Whether the app had such a credential, which is gone now."""
        return await self._database.fetchrow(_DELETE, app_id, credential_id) is not None

    async def set_state(
        self, app_id: int, credential_id: int, state: CredentialState, reason: str | None, sealed: bytes | None = None
    ) -> Credential | None:
        """The credential in its new state; None when the app has no such one, or another secret than `sealed`."""
        row = await self._database.fetchrow(_SET_STATE, app_id, credential_id, state.value, reason, sealed)
        return None if row is None else _credential(row)

    async def load_active(self) -> Sequence[Sealed]:
        """Every credential of every app that is not deleted, paused ones too."""
        return [Sealed(_credential(row), row["sealed"]) for row in await self._database.fetch(_LOAD)]


def _credential(row: Any) -> Credential:
    return Credential(
        id=row["id"],
        app_id=row["app_id"],
        gateway=GatewayName(row["gateway"]),
        environment=Environment(row["environment"]),
        name=row["name"],
        summary=orjson.loads(row["summary"]),
        state=CredentialState(row["state"]),
        paused_reason=row["paused_reason"],
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
    )
