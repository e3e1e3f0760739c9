"""Crossings in the store: taken in batches to be sent, each by one node at a time, and deleted when that is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pushd.clock import Clock
from pushd.store.database import Database
from pushd.store.times import moment, seconds


class CrossingBatch(NamedTuple):
    """Installs that crossed one fence in one direction: one notification."""

    number: int
    """Its own for ever: what makes the notification unique."""
    app_id: int
    geofence_id: int
    entered: bool
    at: float
    """UNIX seconds of the oldest crossing."""
    crossings: int
    devices: list[int]


class CrossingStore:
    """Crossings that are to be sent."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def waiting(self) -> dict[int, int]:
        """How many wait, by app."""
        rows = await self._database.fetch("SELECT app_id, count(*)::int AS count FROM crossings GROUP BY app_id")
        return {row["app_id"]: row["count"] for row in rows}

    async def take(self, limit: int, lease_s: float) -> Sequence[CrossingBatch]:
        """Batches of at most `limit` new crossings, and such as nobody finished; nobody else gets them for a while."""
        now = self._clock.now()
        rows = await self._database.fetch(
            "SELECT * FROM take_crossings($1, $2, $3)", moment(now), moment(now + lease_s), limit
        )
        return [
            CrossingBatch(
                number=row["batch"],
                app_id=row["app_id"],
                geofence_id=row["geofence_id"],
                entered=row["entered"],
                at=seconds(row["at"]),
                crossings=row["count"],
                devices=list(row["devices"]),
            )
            for row in rows
        ]

    async def done(self, numbers: Sequence[int]) -> None:
        """Nothing, once these batches are gone: they were accepted, or nobody wants them any more."""
        await self._database.execute("DELETE FROM crossings WHERE batch = ANY($1)", list(numbers))
