"""Idempotency keys: what a request that comes again was answered the first time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pushd.clock import Clock
from pushd.errors import IdempotencyMismatchError
from pushd.store.database import Database
from pushd.store.times import moment

_FIND = """
SELECT body_hash, notification_id, answer FROM idempotency WHERE app_id = $1 AND key = $2 AND created_at >= $3
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
        """What the key was answered; None when it is new. IdempotencyMismatchError when it is another request's."""
        oldest = moment(self._clock.now()) - timedelta(seconds=self._database.config.idempotency_keep_s)
        row = await self._database.fetchrow(_FIND, app_id, key, oldest)
        if row is None:
            return None
        if row["body_hash"] != body_hash:
            raise IdempotencyMismatchError
        return Told(row["notification_id"], row["answer"])
