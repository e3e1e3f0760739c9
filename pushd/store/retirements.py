"""Retirements in the store: dead tokens counted by why and by whose answer."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from pushd.store.database import Database
from pushd.store.times import moment, seconds

_SUMMARY = """
SELECT retired_reason, retired_by, count(*) AS devices, min(retired_at) AS first_at, max(retired_at) AS last_at
FROM devices WHERE app_id = $1 AND retired_at >= $2 AND retired_at <= $3
GROUP BY 1, 2 ORDER BY devices DESC, 1, 2 LIMIT $4
"""


class Retired(Struct, frozen=True, kw_only=True):
    """Devices that are retired for one reason, by answers to one credential."""

    reason: str
    credential_id: int | None
    devices: int
    first_at: float
    """UNIX seconds of the first retirement, and below of the last."""
    last_at: float


class RetirementReader:
    """Retirements of every app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summary(self, app_id: int, since: float, until: float, limit: int) -> Sequence[Retired]:
        """Devices of the app that were retired between these times and still are, the largest group first."""
        rows = await self._database.fetch(_SUMMARY, app_id, moment(since), moment(until), limit)
        return [
            Retired(
                reason=row["retired_reason"],
                credential_id=row["retired_by"],
                devices=row["devices"],
                first_at=seconds(row["first_at"]),
                last_at=seconds(row["last_at"]),
            )
            for row in rows
        ]
