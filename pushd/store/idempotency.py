"""Idempotency keys: what a request that comes again was answered the first time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pushd.clock import Clock
from pushd.errors import IdempotencyMismatchError
from pushd.store.database import Database
from pushd.store.times import moment

# An update, not a look: who is told of it may rely on it, though the first request was perhaps told otherwise.
_FIND = """
UPDATE idempotency SET promised = promised OR body_hash = $4 WHERE app_id = $1 AND key = $2 AND created_at >= $3
RETURNING body_hash, notification_id, answer
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a key stands for."""

    notification_id: int
    answer: bytes


class IdempotencyStore:
    """Keys of every app. They are written by the transaction that accepts; here they are read."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find(self, app_id: int, key: str, body_hash: bytes) -> Told | None:
        """What the key was answered, promised from now on; None when it is new.

        IdempotencyMismatchError when it is another request's.
        """
        oldest = moment(self._clock.now()) - timedelta(seconds=self._database.config.idempotency_keep_s)
        row = await self._database.fetchrow(_FIND, app_id, key, oldest, body_hash)
        if row is None:
            return None
        if row["body_hash"] != body_hash:
            raise IdempotencyMismatchError
        return Told(row["notification_id"], row["answer"])
