"""Lanes: waves queue per outlet (route, credential, lane); apps take turns and share credit: none delays another."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from pushd.batch import Lane
from pushd.config import FanoutConfig
from pushd.fanout.campaign import Campaign, Wave
from pushd.model.device import Environment, GatewayName, Route

OUTLETS = 4
"""Within an app less need be left for a newcomer: so many times less."""
DOUBTFUL_PART = 8
"""Part of the campaigns' credit that doubtful ones may have: their link takes few rows at once."""


class PoolKey(NamedTuple):
    """What outlets share that share links: what a gateway says of one of them, it says of all."""

    gateway: GatewayName
    environment: Environment
    credential_id: int
    lane: Lane


class OutletKey(NamedTuple):
    """What an outlet is one of: rows of one batch share all three."""

    route: Route
    credential_id: int
    lane: Lane

    @property
    def pool(self) -> PoolKey:
        """The links that its rows go out on."""
        return PoolKey(self.route.kind.gateway, self.route.environment, self.credential_id, self.lane)


class Credit:
    """Rows handed to links and not yet committed as settled.

    Single sends and campaigns each keep a part of the whole from the other; doubtful campaigns have a part of theirs.
    """

    __slots__ = ("_lanes", "_max", "_whole", "used")

    def __init__(self, config: FanoutConfig) -> None:
        self._whole = config.unsettled_rows_max
        most = int(self._whole * (1 - config.transactional_credit_ratio))
        self._max = {Lane.TRANSACTIONAL: most, Lane.BULK: most, Lane.DOUBTFUL: most // DOUBTFUL_PART}
        self._lanes = [0 for _ in Lane]
        self.used = 0

    def free(self, lane: Lane) -> int:
        """Rows that a lane may still hand over."""
        free = min(self._max[lane] - self._lanes[lane], self._whole - self.used)
        if lane is Lane.TRANSACTIONAL:
            return free
        return min(free, self._max[Lane.BULK] - self._lanes[Lane.BULK] - self._lanes[Lane.DOUBTFUL])

    def most(self, lane: Lane) -> int:
        """Rows that a lane may have handed over at once."""
        return self._max[lane]

    def move(self, lane: Lane, rows: int) -> None:
        """Counts rows that were handed over; below 0, that came back."""
        self._lanes[lane] += rows
        self.used += rows


class Share:
    """What one app has of one lane, however many outlets it sends through; they take turns."""

    __slots__ = ("app_id", "in_flight", "line", "listed")

    def __init__(self, app_id: int) -> None:
        self.app_id = app_id
        self.in_flight = 0
        self.line: deque[Outlet] = deque()
        """Its outlets that wait for their turn."""
        self.listed = False
        """Whether it stands among the apps that wait for theirs."""


class Outlet:
    """The queue of one route, credential and lane. Its campaigns take turns, a batch each."""

    __slots__ = (
        "_awaited",
        "_held",
        "_lanes",
        "_since",
        "in_flight",
        "key",
        "listed",
        "pause_s",
        "resting",
        "resume_at",
        "share",
        "silent_at",
        "waves",
    )

    def __init__(self, key: OutletKey, share: Share, lanes: Lanes) -> None:
        self.key = key
        self.share = share
        self._lanes = lanes
        self.waves: deque[Wave] = deque()
        self.in_flight = 0
        """Rows handed over and not yet settled or given back: its part of the credit."""
        self._held = False
        self.listed = False
        """Whether it stands among those that wait for their turn."""
        self.resting = False
        """Whether it stands among those that wait for the end of their pause."""
        self.resume_at = 0.0
        """Monotonic time before which nothing goes out, after a gateway did not take what we gave it."""
        self.pause_s = 0.0
        self._awaited = 0
        """Rows handed over and not yet answered."""
        self._since = 0.0
        """When it was last answered, or began to wait for an answer."""
        self.silent_at: float | None = None
        """When rows were last given up without an answer, if none was answered since."""

    @property
    def held(self) -> bool:
        """The credential is paused: nothing goes out until it is resumed."""
        return self._held

    @held.setter
    def held(self, held: bool) -> None:
        if held is not self._held:
            self._held = held
            self._lanes.enlist(self)

    def acquire(self, rows: int, now: float) -> None:
        """Takes credit for rows that are handed over."""
        if not self._awaited:
            self._since = now
        self._awaited += rows
        self.in_flight += rows
        self.share.in_flight += rows
        self._lanes.credit.move(self.key.lane, rows)

    def landed(self, rows: int, now: float, *, answered: bool, lost: bool) -> None:
        """Counts rows that have an outcome: whether any of them came from the gateway, or was given up."""
        self._awaited -= rows
        if answered:
            self._since, self.silent_at = now, None
        elif lost:
            self.silent_at = now

    def silent(self, now: float, silence_s: float) -> bool:
        """Whether the gateway has stopped answering: more rows would only wait with the others."""
        return self.silent_at is not None or (self._awaited > 0 and now - self._since > silence_s)

    def release(self, rows: int) -> None:
        """Gives credit back for rows that are committed as settled, or wait again."""
        self.in_flight -= rows
        self.share.in_flight -= rows
        self._lanes.credit.move(self.key.lane, -rows)

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
    """Every outlet. Those that may send stand in turn order by lane and app; a look costs nothing for the others."""

    def __init__(self, config: FanoutConfig) -> None:
        self._config = config
        self.credit = Credit(config)
        self._turns: dict[Lane, deque[Share]] = {lane: deque() for lane in Lane}
        self._shares: dict[tuple[int, Lane], Share] = {}
        self._resting: list[tuple[float, int, Outlet]] = []
        self._order = itertools.count()
        self._outlets: dict[OutletKey, Outlet] = {}
        self._pools: dict[PoolKey, float] = {}
        """Until when a pool rests, as its gateway asked."""

    def outlet(self, key: OutletKey) -> Outlet:
        """The outlet of a key, made when it is new."""
        outlet = self._outlets.get(key)
        if outlet is None:
            whose = (key.route.app_id, key.lane)
            share = self._shares.get(whose)
            if share is None:
                share = self._shares[whose] = Share(key.route.app_id)
            outlet = self._outlets[key] = Outlet(key, share, self)
            outlet.resume_at = self._pools.get(key.pool, 0.0)
        return outlet

    def __iter__(self) -> Iterator[Outlet]:
        return iter(list(self._outlets.values()))

    def of_credential(self, credential_id: int) -> list[Outlet]:
        """Every outlet that sends with a credential."""
        return [outlet for outlet in self._outlets.values() if outlet.key.credential_id == credential_id]

    def take_out(self, campaign: Campaign) -> list[Wave]:
        """Everything of a campaign that stood in lanes, and does no more; it waits still."""
        routes = {wave.route for wave in campaign.waves}
        taken: list[Wave] = []
        for key, outlet in self._outlets.items():
            if key.route in routes:
                taken += [each for each in outlet.waves if each.campaign is campaign]
                outlet.waves = deque(each for each in outlet.waves if each.campaign is not campaign)
        return taken

    def rest(self, pool: PoolKey, until: float) -> None:
        """Lets every outlet of a pool wait until then: its gateway said so of all of them."""
        self._pools[pool] = max(until, self._pools.get(pool, 0.0))
        for outlet in self._outlets.values():
            if outlet.key.pool == pool:
                outlet.resume_at = max(outlet.resume_at, until)

    def allowance(self, outlet: Outlet, now: float) -> int:
        """Rows that an outlet may hand over now: by what its app may take, and what of that it may take itself."""
        times, least = self._config.share_of_free, self._config.probe_rows
        lane, share = outlet.key.lane, outlet.share
        few = max(least, self._config.batch_rows_max // 8)
        free = self.credit.free(lane)
        even = max(few, self.credit.most(lane) // max(1, len(self._turns[lane])))
        of_app = min(free, max(_threshold(free, share.in_flight, times, even), least - share.in_flight))
        whole = share.in_flight + of_app
        even = max(few, whole // max(1, len(share.line)))
        own = _threshold(of_app, outlet.in_flight, times * OUTLETS, even)
        own = min(of_app, max(own, least - outlet.in_flight))
        if outlet.silent(now, self._config.silence_s):
            own = min(own, least - outlet.in_flight)
        return own

    def enlist(self, outlet: Outlet) -> None:
        """Lets an outlet that may have something to send stand in line behind the others of its app."""
        if outlet.waves and not (outlet.held or outlet.listed or outlet.resting):
            outlet.listed = True
            share = outlet.share
            share.line.append(outlet)
            if not share.listed:
                share.listed = True
                self._turns[outlet.key.lane].append(share)

    def ready(self, lane: Lane, now: float) -> list[Share]:
        """The apps of a lane with rows to send now, longest-waiting turn first; so the outlets in their lines."""
        turns = self._turns[lane]
        for share in turns:
            self._clear(share, now)
            share.listed = bool(share.line)
        self._turns[lane] = ready = deque(share for share in turns if share.listed)
        return list(ready)

    def _clear(self, share: Share, now: float) -> None:
        """Takes outlets out of line that have nothing to send now."""
        line: deque[Outlet] = deque()
        for outlet in share.line:
            if outlet.waves and not outlet.held and outlet.resume_at <= now:
                line.append(outlet)
                continue
            outlet.listed = False
            if outlet.resume_at > now:
                outlet.resting = True
                heapq.heappush(self._resting, (outlet.resume_at, next(self._order), outlet))
        share.line = line

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
        """Puts an outlet that had its batch behind the others of its app, its app and its campaign likewise."""
        outlet.turn()
        share, turns = outlet.share, self._turns[outlet.key.lane]
        share.line.remove(outlet)
        share.line.append(outlet)
        turns.remove(share)
        turns.append(share)

    def prune(self, now: float) -> None:
        """Forgets outlets with nothing waiting, nothing in flight, no pause and no silence to remember.

        A pause is remembered for as long again as it took: who comes back sooner rests twice as long. A silence is
        remembered until a retry cannot be waiting any more.
        """
        self._pools = {pool: until for pool, until in self._pools.items() if until > now}
        memory_s = self._config.retry_after_max_s
        for key, outlet in list(self._outlets.items()):
            if outlet.waves or outlet.in_flight or outlet.resting or outlet.resume_at + outlet.pause_s > now:
                continue
            if outlet.silent_at is None or outlet.silent_at + memory_s <= now:
                del self._outlets[key]
        alive = {(outlet.key.route.app_id, outlet.key.lane) for outlet in self._outlets.values()}
        self._shares = {whose: share for whose, share in self._shares.items() if whose in alive}


def _threshold(free: int, held: int, times: int, even: int) -> int:
    """How many more one may take who may hold `times` what is left free after that, and no more than its even share."""
    return min((times * free - held) // (1 + times), even - held)
