"""Habits in the store: opens folded into hours, each once, and hours read for many users at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from pushd.clock import Clock
from pushd.model import habits
from pushd.model.app import Settings
from pushd.model.habits import HOURS, Histogram, Hours, Rows, Times, Weights
from pushd.model.time_zones import is_time_zone
from pushd.store.columns import int4s
from pushd.store.database import Database
from pushd.store.literals import numbers
from pushd.store.times import moment

ROUND_DELTAS = 8
"""Deltas of one transaction: up to 2,000 opens each."""
SLICE_OPENS = 4_096
"""Opens, or users, that are worked on at a stretch: some 2 ms."""
READ_ROWS = 8_192
"""Users whose habits are read at once."""
SPREAD_MAX = 8
"""Ids that lie so close are read as a range: a scan of so many rows for each costs less than looking it up."""
FOUND_MAX = 1_000
"""Apps that are looked after in one turn."""
_WEIGHTS = np.dtype("<f4")

_DUE = "SELECT app_id FROM open_deltas GROUP BY 1 HAVING count(*) >= $1 OR min(at) < $2 LIMIT $3"
# Who folds the same elsewhere has the lock: then it is his to do.
_LOCK = "SELECT pg_try_advisory_xact_lock(7008, $1)"
_TAKE = """
DELETE FROM open_deltas WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM open_deltas WHERE app_id = $1 LIMIT $2 FOR UPDATE))
RETURNING opens
"""
_ZONES = "SELECT id, time_zone FROM profiles WHERE id = ANY ($1) AND time_zone <> ''"
_APP = "SELECT settings FROM apps WHERE id = $1"
_PACKED = """
SELECT string_agg(int4send(h.user_id), '') AS ids, string_agg(int4send(h.touched), '') AS touched,
    string_agg(h.weights, '') AS weights
FROM (SELECT * FROM habits WHERE {which} ORDER BY user_id) h
"""
_OF = _PACKED.format(which="user_id = ANY ($1::text::int[])")
_RANGE = _PACKED.format(which="user_id BETWEEN $1 AND $2")
_CROWD = "SELECT touched, weights FROM crowds WHERE app_id = $1"
_PUT = "SELECT put_habits($1::text::int[], $2::text::int[], $3)"
_PUT_CROWD = """
INSERT INTO crowds (app_id, touched, weights) SELECT $1, $2, $3
WHERE EXISTS (SELECT FROM apps WHERE id = $1 AND deleted_at IS NULL)
ON CONFLICT (app_id) DO UPDATE SET touched = excluded.touched, weights = excluded.weights
"""


class Known(NamedTuple):
    """What is known of some users, ascending by id; the others never opened anything."""

    ids: NDArray[np.uint32]
    touched: Times
    """When the weights counted so."""
    weights: Weights


class HabitStore:
    """Habits of every user."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def read(self, users: NDArray[np.uint32]) -> Known:
        """What is known of these users, up to `READ_ROWS`, ascending."""
        if not len(users):
            return _known({"ids": None, "touched": None, "weights": None})
        return await _read(self._database, users, self._database.config.bulk_timeout_s)

    async def crowd(self, app_id: int, at: float) -> Histogram:
        """The opens by hour of all users of the app together, as they count at a time."""
        touched, weights = _crowd(await self._database.fetchrow(_CROWD, app_id))
        together: Histogram = habits.decayed(weights, touched, at)[0].astype(np.float64)
        return together

    async def fold(self, deltas_min: int, older_s: float) -> int:
        """How many apps' opens were learned: of those with so many deltas, or with older ones."""
        before = moment(self._clock.now()) - timedelta(seconds=older_s)
        due = await self._database.fetch(_DUE, deltas_min, before, FOUND_MAX)
        for row in due:
            while await self._fold_app(row["app_id"]):
                pass
        return len(due)

    async def _fold_app(self, app_id: int) -> bool:
        """Whether there may be more to learn. What is taken is learned in the same transaction, or stays."""
        timeout_s = self._database.config.bulk_timeout_s
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_LOCK, app_id):
                return False
            taken = await connection.fetch(_TAKE, app_id, ROUND_DELTAS, timeout=timeout_s)
            if not taken:
                return False
            opens = int4s(b"".join(row["opens"] for row in taken)).reshape(-1, 3)
            hours = await _hours(connection, app_id, opens[:, 1], opens[:, 2].astype(np.int64))
            everyone = np.unique(opens[:, 0]).astype(np.uint32)
            for start in range(0, len(everyone), SLICE_OPENS):
                users = everyone[start : start + SLICE_OPENS]
                theirs = (opens[:, 0] >= int(users[0])) & (opens[:, 0] <= int(users[-1]))
                await _learn(connection, users, opens[theirs], hours[theirs], timeout_s)
            touched, weights = _crowd(await connection.fetchrow(_CROWD, app_id))
            together = np.zeros(len(opens), np.intp)
            weights, touched = habits.learn(weights, touched, together, hours, opens[:, 2].astype(np.int64))
            await connection.execute(_PUT_CROWD, app_id, int(touched[0]), weights.astype(_WEIGHTS).tobytes())
        return len(taken) == ROUND_DELTAS


async def _learn(
    connection: Any, users: NDArray[np.uint32], opens: NDArray[np.int32], hours: Hours, timeout_s: float
) -> None:
    """Learns opens of these users, who ascend."""
    known = await _read(connection, users, timeout_s)
    weights, touched = np.zeros((len(users), HOURS), np.float32), np.zeros(len(users), np.int64)
    places = np.searchsorted(users, known.ids)
    weights[places], touched[places] = known.weights, known.touched
    rows: Rows = np.searchsorted(users, opens[:, 0].astype(np.uint32))
    weights, touched = habits.learn(weights, touched, rows, hours, opens[:, 2].astype(np.int64))
    packed = weights.astype(_WEIGHTS).tobytes()
    await connection.execute(_PUT, numbers(users.tolist()), numbers(touched.tolist()), packed, timeout=timeout_s)


async def _hours(connection: Any, app_id: int, profiles: NDArray[np.int32], times: Times) -> Hours:
    """The hour that the clock of each open's device showed; the app's clock where it is not known."""
    distinct = np.unique(profiles)
    names = {row["id"]: row["time_zone"] for row in await connection.fetch(_ZONES, distinct.tolist())}
    own = msgspec.json.decode(await connection.fetchval(_APP, app_id), type=Settings).time_zone
    zones: dict[str, list[int]] = {}
    for profile in distinct.tolist():
        name = names.get(profile, "")
        zones.setdefault(next(filter(is_time_zone, (name, own)), "UTC"), []).append(profile)
    hours = np.zeros(len(times), np.int8)
    for name, members in zones.items():
        there = np.isin(profiles, members)
        hours[there] = habits.local_hours(times[there], ZoneInfo(name))
        await asyncio.sleep(0)
    return hours


async def _read(source: Any, users: NDArray[np.uint32], timeout_s: float) -> Known:
    """What a connection, or the pool, says of users, who ascend."""
    low, high = int(users[0]), int(users[-1])
    limit = {"timeout_s" if isinstance(source, Database) else "timeout": timeout_s}
    if high - low < SPREAD_MAX * len(users):
        known = _known(await source.fetchrow(_RANGE, low, high, **limit))
        within = np.isin(known.ids, users, assume_unique=True)
        return Known(known.ids[within], known.touched[within], known.weights[within])
    return _known(await source.fetchrow(_OF, numbers(users.tolist()), **limit))


def _known(packed: Any) -> Known:
    weights = np.frombuffer(packed["weights"] or b"", _WEIGHTS).reshape(-1, HOURS).astype(np.float32)
    return Known(int4s(packed["ids"]).astype(np.uint32), int4s(packed["touched"]).astype(np.int64), weights)


def _crowd(row: Any) -> tuple[Times, Weights]:
    """What an app's row says; nothing where there is none."""
    if row is None:
        return np.zeros(1, np.int64), np.zeros((1, HOURS), np.float32)
    return np.array([row["touched"]], np.int64), np.frombuffer(row["weights"], _WEIGHTS)[None, :].astype(np.float32)
