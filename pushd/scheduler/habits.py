"""Preferred hours of the users behind devices: their own, else their audience's, else the app's, else noon."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.model import habits
from pushd.model.habits import HOURS, UNKNOWN, Histogram, Hours
from pushd.scheduler.pauses import Pauses, pieces
from pushd.store.habits import READ_ROWS, Known
from pushd.targeting.index import Index

SLICE_ROWS = 32_768
"""Devices whose users are looked up before others may get their turn: some 2 ms."""


class Learned(Protocol):
    """What is asked of the store; `store.habits.HabitStore` is the implementation."""

    async def read(self, users: NDArray[np.uint32]) -> Known:
        """What is known of these users, up to `READ_ROWS`, ascending."""

    async def crowd(self, app_id: int, at: float) -> Histogram:
        """The opens by hour of all users of the app together, as they count at a time."""


class Habits:
    """Asked when what goes out at preferred hours is planned."""

    def __init__(self, index: Index, store: Learned) -> None:
        self._index = index
        self._store = store

    async def hours(self, app_id: int, devices: Devices, at: float) -> tuple[NDArray[np.uint32], Hours]:
        """Ids of devices, ascending, and the hour that each one's user prefers at a time. UnavailableError.

        Of whom too little is known: the hour of these devices' users together, of the app's users, or noon.
        """
        holders, pauses, ids = self._index.holders, Pauses(), devices.column()
        users, everyone = np.empty(len(ids), np.uint32), Users()
        for start, part in pieces(ids, SLICE_ROWS):
            users[start : start + len(part)] = owners = holders.users(part)
            everyone |= Users.of(owners)
            await pauses.due()
        everyone.discard(0)
        known, theirs = await self._of_users(app_id, everyone.column(), at)
        hours = np.empty(len(ids), np.int8)
        for start, part in pieces(users, SLICE_ROWS):
            places = np.minimum(np.searchsorted(known, part), len(known) - 1)
            hours[start : start + len(part)] = np.where(known[places] == part, theirs[places], theirs[0])
            await pauses.due()
        return ids, hours

    async def _of_users(self, app_id: int, users: NDArray[np.uint32], at: float) -> tuple[NDArray[np.uint32], Hours]:
        """Users, 0 (nobody) before them, and the hour of each."""
        hours = np.full(len(users) + 1, UNKNOWN, np.int8)
        together, pauses = np.zeros(HOURS), Pauses()
        for start, part in pieces(users, READ_ROWS):
            known = await self._store.read(part)
            weights = habits.decayed(known.weights, known.touched, at)
            hours[1 + start + np.searchsorted(part, known.ids)] = habits.preferred(weights)
            together += habits.crowd(weights)
            await pauses.due()
        if (hours == UNKNOWN).any():
            hours[hours == UNKNOWN] = habits.fallback(together, await self._store.crowd(app_id, at))
        return np.concatenate((np.zeros(1, np.uint32), users)), hours
