"""The pace of an FCM project: a token bucket that all of its credentials and lanes draw from (F-32, F-33).

Theory. A project may send so many messages a minute, whoever sends them. The bucket holds what one second brings; it
fills at a rate that begins low, rises while it is used, is halved when FCM says that the quota is exceeded, and climbs
back. A part of it is kept for the transactional lane, so that a campaign at full pace leaves room for a password.
"""

from __future__ import annotations

import asyncio

from prometheus_client import Counter

from pushd.batch import Lane
from pushd.clock import Clock
from pushd.config.fcm import FcmConfig
from pushd.telemetry import REGISTRY

LOWERED = Counter(
    "pushd_fcm_quota_lowered", "How often a project was slowed down because FCM said so.", registry=REGISTRY
)

START_SHARE = 0.1
"""Of the full rate, where a project begins."""
KEPT_SHARE = 0.1
"""Of the bucket, for the transactional lane."""
FLOOR_SHARE = 0.01
"""Of the full rate: however often FCM refuses, a project goes on trying."""
ROUND_S = 1.0
"""Refusals within it answer what was sent at one and the same rate: they halve it once."""
IDLE_S = 60.0
"""After so long without a message a project begins low again."""
LOOK_S = 0.1
"""How often a batch that waits looks at the bucket."""


class Quota:
    """What one project may send now."""

    def __init__(self, clock: Clock, config: FcmConfig) -> None:
        self._clock = clock
        self._config = config
        self._ceiling = config.messages_per_minute * config.quota_share / 60
        """Messages a second."""
        self._rate = self._ceiling * (START_SHARE if config.ramp_s else 1.0)
        self._filled_at = self._used_at = clock.monotonic()
        self._left = self._capacity
        self._paused_until = self._lowered_at = float("-inf")

    @property
    def rate(self) -> float:
        """Messages a second that it lets through now."""
        return self._rate

    @property
    def idle(self) -> bool:
        """Whether it has nothing to remember."""
        return self._clock.monotonic() - self._used_at > IDLE_S

    def room(self, lane: Lane) -> int:
        """How many messages of a lane may go at once."""
        self._fill()
        if self._clock.monotonic() < self._paused_until:
            return 0
        kept = 0.0 if lane is Lane.TRANSACTIONAL else self._capacity * KEPT_SHARE
        return max(0, int(self._left - kept))

    async def take(self, rows: int, lane: Lane, wait_s: float) -> bool:
        """Whether so many messages may go: when there is room, or when there was some within so many seconds.

        A batch goes whole, into debt if need be; what it took too much, the next one waits for.
        """
        until = self._clock.monotonic() + wait_s
        while not self.room(lane):
            if self._clock.monotonic() >= until:
                return False
            await asyncio.sleep(min(LOOK_S, wait_s))
        self.charge(rows)
        return True

    def charge(self, rows: int) -> None:
        """Counts messages that go whatever the bucket says."""
        self._left -= rows
        self._used_at = self._clock.monotonic()

    def exceeded(self, retry_after_s: float | None) -> None:
        """FCM said that the project is too fast: half the rate, and a pause where it named one."""
        now = self._clock.monotonic()
        if retry_after_s:
            pause_s = min(retry_after_s, self._config.quota_pause_max_s)
            self._paused_until = max(self._paused_until, now + pause_s)
        if now - self._lowered_at < ROUND_S:
            return
        self._fill()
        self._lowered_at = now
        self._rate = max(self._rate / 2, self._ceiling * FLOOR_SHARE)
        self._left = min(self._left, self._capacity)
        LOWERED.inc()

    @property
    def _capacity(self) -> float:
        return max(1.0, self._rate)

    def _fill(self) -> None:
        now = self._clock.monotonic()
        passed_s, self._filled_at = max(0.0, now - self._filled_at), now
        ramp_s = self._config.ramp_s
        if ramp_s and now - self._used_at > IDLE_S:
            self._rate = self._ceiling * START_SHARE
        elif ramp_s:
            self._rate = min(self._ceiling, self._rate + self._ceiling * passed_s / ramp_s)
        else:
            self._rate = self._ceiling
        self._left = min(self._capacity, self._left + self._rate * passed_s)


class Quotas:
    """One quota per project, whichever credential names it."""

    def __init__(self, clock: Clock, config: FcmConfig) -> None:
        self._clock = clock
        self._config = config
        self._quotas: dict[str, Quota] = {}

    def of(self, project_id: str) -> Quota:
        """The quota of a project."""
        quota = self._quotas.get(project_id)
        if quota is None:
            if len(self._quotas) >= self._config.pools_max:
                self._quotas = {known: each for known, each in self._quotas.items() if not each.idle}
            quota = self._quotas[project_id] = Quota(self._clock, self._config)
        return quota
