"""Lanes: waves queue per outlet (route, credential, lane); outlets take turns, so that none delays another."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from pushd.batch import Lane
from pushd.fanout.campaign import Wave
from pushd.model.device import Route


class OutletKey(NamedTuple):
    """What an outlet is one of: rows of one batch share all three."""

    route: Route
    credential_id: int
    lane: Lane


class Credit:
    """Rows handed to links and not yet committed as settled, of all outlets together."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class Outlet:
    """The queue of one route, credential and lane. Its campaigns take turns, a batch each."""

    __slots__ = ("_held", "_lanes", "in_flight", "key", "listed", "pause_s", "resting", "resume_at", "waves")

    def __init__(self, key: OutletKey, lanes: Lanes) -> None:
        self.key = key
        self._lanes = lanes
        self.waves: deque[Wave] = deque()
        self.in_flight = 0
        """Rows handed over and not yet settled or given back: its share of the credit."""
        self._held = False
        self.listed = False
        """Whether it stands among those that wait for their turn."""
        self.resting = False
        """Whether it stands among those that wait for the end of their pause."""
        self.resume_at = 0.0
        """Monotonic time before which nothing goes out, after a gateway did not take what we gave it."""
        self.pause_s = 0.0

    @property
    def held(self) -> bool:
        """The credential is paused: nothing goes out until it is resumed."""
        return self._held

    @held.setter
    def held(self, held: bool) -> None:
        self._held = held
        self._lanes.enlist(self)

    def acquire(self, rows: int) -> None:
        """Takes credit for rows that are handed over."""
        self.in_flight += rows
        self._lanes.credit.used += rows

    def release(self, rows: int) -> None:
        """Gives credit back for rows that are committed as settled, or wait again."""
        self.in_flight -= rows
        self._lanes.credit.used -= rows

    def add(self, wave: Wave) -> None:
        """Queues a wave behind the others."""
        wave.campaign.waves.add(wave)
        self.waves.append(wave)
        self._lanes.enlist(self)

    def turn(self) -> None:
        """Lets the next campaign have its batch, and drops waves that are used up."""
        while self.waves and not self.waves[0].left:
            self.drop(self.waves[0])
        if len(self.waves) > 1:
            self.waves.rotate(-1)

    def drop(self, wave: Wave) -> None:
        """Takes a wave out."""
        self.waves.remove(wave)
        wave.campaign.waves.discard(wave)


class Lanes:
    """Every outlet. Those that may send stand in turn order by lane; a look costs nothing for the others."""

    def __init__(self) -> None:
        self.credit = Credit()
        self._turns: dict[Lane, deque[Outlet]] = {lane: deque() for lane in Lane}
        self._resting: list[tuple[float, int, Outlet]] = []
        self._order = itertools.count()
        self._outlets: dict[OutletKey, Outlet] = {}

    def outlet(self, key: OutletKey) -> Outlet:
        """The outlet of a key, made when it is new."""
        outlet = self._outlets.get(key)
        if outlet is None:
            outlet = self._outlets[key] = Outlet(key, self)
        return outlet

    def __iter__(self) -> Iterator[Outlet]:
        return iter(list(self._outlets.values()))

    def of_credential(self, credential_id: int) -> list[Outlet]:
        """Every outlet that sends with a credential."""
        return [outlet for outlet in self._outlets.values() if outlet.key.credential_id == credential_id]

    def enlist(self, outlet: Outlet) -> None:
        """Puts an outlet that may have something to send behind the others of its lane."""
        if outlet.waves and not (outlet.held or outlet.listed or outlet.resting):
            outlet.listed = True
            self._turns[outlet.key.lane].append(outlet)

    def ready(self, lane: Lane, now: float) -> list[Outlet]:
        """The outlets of a lane with rows to send now, longest-waiting turn first."""
        ready: deque[Outlet] = deque()
        for outlet in self._turns[lane]:
            if outlet.waves and not outlet.held and outlet.resume_at <= now:
                ready.append(outlet)
                continue
            outlet.listed = False
            if outlet.resume_at > now:
                outlet.resting = True
                heapq.heappush(self._resting, (outlet.resume_at, next(self._order), outlet))
        self._turns[lane] = ready
        return list(ready)

    def wake(self, now: float) -> None:
        """Lets outlets whose pause is over take their turns again."""
        while self._resting and self._resting[0][0] <= now:
            outlet = heapq.heappop(self._resting)[2]
            outlet.resting = False
            self.enlist(outlet)

    def next_wake(self) -> float | None:
        """The monotonic time at which the next pause is over."""
        return self._resting[0][0] if self._resting else None

    def turn(self, outlet: Outlet) -> None:
        """Puts an outlet that had its batch behind the others of its lane, and its campaign behind its others."""
        outlet.turn()
        turns = self._turns[outlet.key.lane]
        turns.remove(outlet)
        turns.append(outlet)

    def prune(self, now: float) -> None:
        """Forgets outlets with nothing waiting, nothing in flight and no pause to remember.

        A pause is remembered for as long again as it took: who comes back sooner rests twice as long.
        """
        idle = [
            key
            for key, outlet in self._outlets.items()
            if not (outlet.waves or outlet.in_flight or outlet.resting) and outlet.resume_at + outlet.pause_s <= now
        ]
        for key in idle:
            del self._outlets[key]
