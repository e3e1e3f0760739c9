"""Devices for benchmarks, written straight into PostgreSQL as registration would leave them, in seconds per million.

Device number n (from 0) is install `install-n` of user `user-(n // per_user)` with the token SHA-256("n") in hex.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pushd.model.device import Environment, Kind
from pushd.store.fold import ENVIRONMENT_NUMBERS, KIND_NUMBERS

BUNDLE = "com.example.app"
CHUNK_ROWS = 65_536

_USERS = """
INSERT INTO users (id, app_id, external_id)
SELECT n.id, $1, 'user-' || ($3 + n.row - 1)
FROM unnest(allocate_ids(2::smallint, $1, $2)) WITH ORDINALITY AS n (id, row)
RETURNING id
"""
_DEVICES = """
WITH fresh AS (
    SELECT n.id, $3::int + n.row::int - 1 AS number, nextval('installs_id_seq')::int AS install
    FROM unnest(allocate_ids(1::smallint, $1, $2)) WITH ORDINALITY AS n (id, row)
), made AS (
    INSERT INTO installs (id, app_id, name, user_id, last_seen_at)
    SELECT f.install, $1, 'install-' || f.number, ($5::int[])[f.number / $6 - $3 / $6 + 1], now() FROM fresh f
)
INSERT INTO devices (id, app_id, install, kind, route_id, user_id, flags, token, address, registered_at)
SELECT f.id, $1, f.install, $7::smallint, $4, ($5::int[])[f.number / $6 - $3 / $6 + 1], 3,
    encode(sha256(f.number::text::bytea), 'hex')::bytea, md5($1 || ' ' || f.number)::uuid, now() - interval '1 hour'
FROM fresh f
"""


async def load(connection: Any, app_id: int, devices: int, *, per_user: int = 1) -> None:
    """Writes so many devices and their users for an app that has none. The daemon is started after that."""
    kind, environment = KIND_NUMBERS[Kind.APNS], ENVIRONMENT_NUMBERS[Environment.PRODUCTION]
    route = await connection.fetchval(
        "SELECT route_of($1, $2::smallint, $3::smallint, $4, '')", app_id, kind, environment, BUNDLE
    )
    chunk = CHUNK_ROWS // per_user * per_user
    for first in range(0, devices, chunk):
        count = min(chunk, devices - first)
        users = -(-count // per_user)
        made = await connection.fetch(_USERS, app_id, users, first // per_user, timeout=600)
        owners = [row[0] for row in made]
        await connection.execute(_DEVICES, app_id, count, first, route, owners, per_user, kind, timeout=600)
    await connection.execute("ANALYZE users, installs, devices", timeout=600)


def token(number: int) -> str:
    """The token of a device by its number."""
    return hashlib.sha256(str(number).encode()).hexdigest()
