"""Keeps places true in the background: fences worked out in slices, locations forgotten at their age."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

import asyncpg
import numpy as np
import structlog

from pushd.clock import Clock
from pushd.commands import geofences
from pushd.config.places import PlacesConfig
from pushd.errors import UnavailableError
from pushd.service import Service
from pushd.store.loading import Snapshot
from pushd.store.store import Store
from pushd.targeting.index import Index

log = structlog.get_logger(__name__)

SLICE_S = 0.008
"""Work on a fence before others get their turn."""
APPLIED_ROWS = 128
"""Locations taken in at once where there are fences: some 10 ms. To forget takes no time to speak of."""
IMAGES_MAX = 2_000
"""Locations fetched at once."""


class PlaceKeeper(Service):
    """The one that loads, refreshes and sweeps."""

    def __init__(self, store: Store, index: Index, clock: Clock, config: PlacesConfig) -> None:
        super().__init__()
        self._store = store
        self._index = index
        self._clock = clock
        self._config = config
        self._wake = asyncio.Event()

    async def load(self, snapshot: Snapshot) -> None:
        """Nothing, once every location and every fence of a snapshot is in the index."""
        async for rows in self._store.locations.load(snapshot):
            self._index.load_locations(rows)
            await asyncio.sleep(0)
        async for image in self._store.geofences.load(snapshot):
            self._index.define_geofence(image)

    async def settle(self) -> None:
        """Nothing, once every fence that was loaded knows its members."""
        for _ in self._index.settle_places(sort=True):
            await asyncio.sleep(0)

    async def start(self) -> None:
        """Begins to work out fences that come, and to forget what is old."""
        self._index.places.arrived = self._wake.set
        self._wake.set()
        self.spawn(self._settle(), "fences")
        self.spawn(self._sweep(), "places-sweep")

    async def geofences_changed(self, ids: Sequence[int]) -> None:
        """Takes in geofences that were made, changed or deleted, here or elsewhere."""
        await geofences.refresh(self._store, self._index, [*{int(each) for each in ids}])

    async def locations_changed(self, ids: Sequence[int]) -> None:
        """Takes in where these devices are."""
        for start in range(0, len(ids), IMAGES_MAX):
            rows = await self._store.locations.images(np.array(ids[start : start + IMAGES_MAX], np.uint32))
            # At once: a report that comes while others have their turn is newer, and nothing in the image would say so.
            self._index.forget_locations(rows.ids[rows.revisions == 0])
            known = np.flatnonzero(rows.revisions)
            rows = rows.of(rows.ids[known], known)
            for at in range(0, len(rows), APPLIED_ROWS):
                self._index.apply_locations(rows.part(at, at + APPLIED_ROWS))
                await asyncio.sleep(0)

    async def forget_old(self) -> int:
        """How many devices' locations were too old, and are forgotten."""
        keep_s = self._config.location_keep_s
        count = 0
        while keep_s:
            before = self._clock.now() - keep_s
            ids = await self._store.locations.forget_before(before, self._config.sweep_rows_max)
            if not len(ids):
                break
            count += len(ids)
            self._index.forget_locations(ids)
            await asyncio.sleep(0)
        return count

    async def _settle(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            begun = perf_counter()
            for _ in self._index.settle_places():
                if perf_counter() - begun > SLICE_S:
                    await asyncio.sleep(0)
                    begun = perf_counter()

    async def _sweep(self) -> None:
        while True:
            try:
                if count := await self.forget_old():
                    log.info("locations_forgotten", devices=count)
                late = self._clock.now() - self._config.crossing_life_s
                dropped, more = 0, True
                while more:
                    swept, more = await self._store.locations.sweep(late, self._config.sweep_rows_max)
                    dropped += swept
                if dropped:
                    log.warning("crossings_too_old", count=dropped)
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("places_sweep_waits", error=str(error))
            await asyncio.sleep(self._config.sweep_interval_s)
