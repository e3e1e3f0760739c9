"""Retry: when a row that did not make it goes out again, within the message's life and the pool's budget."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from typing import NamedTuple

import numpy as np

from pushd.config import FanoutConfig
from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.lanes import Lanes, OutletKey, PoolKey

LAST_MOMENT = 0.9
"""Of what is left of a message's life: a retry later than that could be late on the wire."""

TICK_S = 0.05
"""Retries fall due in such ticks, so that rows that failed one by one go out again together."""

STEPS = 60
"""A sliding window moves in so many steps: what it keeps does not grow with the rate of what it counts."""


class Budget:
    """Retries allowed of one pool: a share of its first attempts in a sliding window (G-06).

    After an outage there are many retries and perhaps no first attempts. So what is always allowed grows: a retry that
    is accepted earns two more, which doubles them from round to round. When more than the share of them fail it halves.
    """

    def __init__(self, config: FanoutConfig) -> None:
        self._config = config
        self._first: deque[tuple[float, int]] = deque()
        self._again: deque[tuple[float, int]] = deque()
        self._first_rows = self._again_rows = 0
        self._floor = config.retry_budget_min

    def sent(self, rows: int, now: float) -> None:
        """Counts first attempts; below 0, that such rows came back unprocessed."""
        self._count(self._first, rows, now)
        self._first_rows += rows
        self._slide(now)

    def grant(self, rows: int, now: float) -> int:
        """How many of so many retries may go now; they are counted."""
        self._slide(now)
        allowed = max(self._floor, int(self._first_rows * self._config.retry_budget_ratio))
        granted = max(0, min(rows, allowed - self._again_rows))
        if granted:
            self._count(self._again, granted, now)
            self._again_rows += granted
        return granted

    def answered(self, accepted: int, failed: int) -> None:
        """Counts how retries fared."""
        config = self._config
        if failed > config.retry_budget_ratio * (accepted + failed):
            self._floor = max(config.retry_budget_min, self._floor // 2)
        else:
            self._floor = min(config.retry_budget_max, self._floor + 2 * accepted)

    def idle(self, now: float) -> bool:
        """Whether nothing was sent within the window: it has nothing to remember."""
        self._slide(now)
        return not (self._first or self._again)

    def _count(self, window: deque[tuple[float, int]], rows: int, now: float) -> None:
        if window and now - window[-1][0] < self._config.retry_budget_window_s / STEPS:
            began, counted = window.pop()
            window.append((began, counted + rows))
        else:
            window.append((now, rows))

    def _slide(self, now: float) -> None:
        start = now - self._config.retry_budget_window_s
        while self._first and self._first[0][0] < start:
            self._first_rows -= self._first.popleft()[1]
        while self._again and self._again[0][0] < start:
            self._again_rows -= self._again.popleft()[1]


class Budgets:
    """The budget of every pool that sent something lately."""

    def __init__(self, config: FanoutConfig) -> None:
        self._config = config
        self._of: dict[PoolKey, Budget] = {}

    def __len__(self) -> int:
        return len(self._of)

    def of(self, pool: PoolKey) -> Budget:
        """The budget of a pool, made when it is new."""
        budget = self._of.get(pool)
        if budget is None:
            budget = self._of[pool] = Budget(self._config)
        return budget

    def forget_idle(self, now: float) -> None:
        """Forgets the budgets of pools that sent nothing within the window."""
        self._of = {pool: budget for pool, budget in self._of.items() if not budget.idle(now)}


class Backoff:
    """Exponential back-off with full jitter; Retry-After is obeyed up to its bound (G-05)."""

    def __init__(self, config: FanoutConfig, source: random.Random) -> None:
        self._config = config
        self._random = source

    def delay(self, attempt: int, retry_after_s: float = 0.0, left_s: float = math.inf) -> float | None:
        """Seconds to wait before the attempt after this one, so that it falls into the `left_s` of the message's life.

        None where it cannot: the gateway wants to be left alone for longer than the message lives.
        """
        asked = min(max(retry_after_s, 0.0), self._config.retry_after_max_s)
        last = (left_s - asked) * LAST_MOMENT
        if last <= 0:
            return None
        ceiling = min(self._config.retry_cap_s, self._config.retry_base_s * 2 ** min(attempt - 1, 62))
        return asked + self._random.uniform(0, min(ceiling, last))

    def pause(self, previous_s: float) -> float:
        """Seconds that an outlet rests after the gateway did not take what it was given (T-39)."""
        return min(self._config.retry_cap_s, max(self._config.unprocessed_pause_s, previous_s * 2))


class Later:
    """Waves that wait for their time, the next due first. What is alike and falls due in one tick is one wave."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        """Waves of so many rows are left as they are: a batch takes no more of them."""
        self._heap: list[tuple[float, int, OutletKey, Wave]] = []
        self._order = itertools.count()
        self._open: dict[tuple[float, OutletKey, Campaign, int], Wave] = {}
        """Waves that may still grow, by when they are due, where, of what and for which attempt."""

    def put(self, due: float, key: OutletKey, wave: Wave, latest: float = math.inf) -> None:
        """Keeps a wave until the monotonic time `due`, or up to a tick longer where that is not after `latest`."""
        campaign, tick = wave.campaign, math.ceil(due / TICK_S) * TICK_S
        due = tick if tick <= latest else due
        alike = (due, key, campaign, wave.attempt)
        known = self._open.get(alike)
        if known is not None and known in campaign.waves and len(known.ids) + wave.left <= self._rows_max:
            known.ids = np.concatenate((known.ids, wave.take(wave.left)))
            return
        self._open[alike] = wave
        campaign.waves.add(wave)
        heapq.heappush(self._heap, (due, next(self._order), key, wave))

    def next_due(self) -> float | None:
        """The monotonic time at which the next wave is due."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[tuple[OutletKey, Wave]]:
        """The waves whose time has come; those that were withdrawn meanwhile are gone."""
        out: list[tuple[OutletKey, Wave]] = []
        while self._heap and self._heap[0][0] <= now:
            due, _, key, wave = heapq.heappop(self._heap)
            alike = (due, key, wave.campaign, wave.attempt)
            if self._open.get(alike) is wave:
                del self._open[alike]
            if wave in wave.campaign.waves:
                out.append((key, wave))
        return out


class Pacing(NamedTuple):
    """What decides when rows go out: who waits where, until when, and how many may."""

    lanes: Lanes
    later: Later
    backoff: Backoff
    budgets: Budgets

    @classmethod
    def of(cls, config: FanoutConfig, source: random.Random) -> Pacing:
        """The pacing of one fan-out; `source` is for jitter."""
        return cls(Lanes(config), Later(config.batch_rows_max), Backoff(config, source), Budgets(config))
