"""Room: how much waits, of every app and of all, and when there is room again for what does not fit."""

from __future__ import annotations

import math

from pushd.config import FanoutConfig
from pushd.errors import PushdError, TooManyRequestsError, UnavailableError

RETRY_AFTER_MIN_S = 1.0
"""HTTP's Retry-After has whole seconds."""


class Rate:
    """Events per second, averaged over a span that forgets exponentially; it falls while nothing happens."""

    __slots__ = ("_at", "_began", "_span_s", "_sum")

    def __init__(self, span_s: float, now: float) -> None:
        self._span_s = span_s
        self._began = self._at = now
        self._sum = 0.0

    def add(self, count: int, now: float) -> None:
        """Counts events."""
        self._sum = self._sum * math.exp((self._at - now) / self._span_s) + count
        self._at = now

    def per_s(self, now: float) -> float:
        """The rate as of now; 0 before anything was counted."""
        seen = -math.expm1((self._began - now) / self._span_s)
        return self._sum * math.exp((self._at - now) / self._span_s) / (self._span_s * seen) if seen > 0 else 0.0


class Load:
    """What waits, of one app or of all, and how fast it goes."""

    __slots__ = ("campaigns", "finished", "rows", "settled")

    def __init__(self, span_s: float, now: float) -> None:
        self.rows = 0
        """Without a committed outcome."""
        self.campaigns = 0
        """Not finished."""
        self.settled = Rate(span_s, now)
        self.finished = Rate(span_s, now)


class Room:
    """Bounds on what waits. Times are monotonic seconds."""

    def __init__(self, config: FanoutConfig, now: float) -> None:
        self._config = config
        self.whole = Load(config.room_rate_span_s, now)
        self._apps: dict[int, Load] = {}

    def app(self, app_id: int) -> Load | None:
        """What waits of an app; None: nothing."""
        return self._apps.get(app_id)

    def check(self, app_id: int, rows: int, now: float) -> None:
        """Raises where so many rows more are too many: 429 of this app, 503 of all together.

        Retry-After is when this will fit at the rate of the last seconds.
        """
        config, load = self._config, self._apps.get(app_id)
        if load is not None:
            wait_s = self._wait(load, rows, config.app_backlog_rows_max, config.app_campaigns_max, now)
            if wait_s:
                raise TooManyRequestsError("Too much of this app is waiting to be sent", retry_after_s=wait_s)
        wait_s = self._wait(self.whole, rows, config.backlog_rows_max, config.campaigns_max, now)
        if wait_s:
            raise UnavailableError("The fan-out is full", retry_after_s=wait_s)

    def stopping(self) -> PushdError:
        """What a producer is told while the daemon stops."""
        return UnavailableError("pushd is stopping", retry_after_s=self._config.room_retry_after_s)

    def begin(self, app_id: int, rows: int, now: float) -> None:
        """Counts a notification that begins, with the rows that wait from now on."""
        for load in (self.whole, self._of(app_id, now)):
            load.campaigns += 1
            load.rows += rows

    def end(self, app_id: int, campaigns: int, now: float) -> None:
        """Counts the end of notifications."""
        for load in (self.whole, self._of(app_id, now)):
            load.campaigns -= campaigns
            load.finished.add(campaigns, now)
        self._forget(app_id)

    def settle(self, app_id: int, rows: int, now: float) -> None:
        """Counts rows with a committed outcome."""
        for load in (self.whole, self._of(app_id, now)):
            load.rows -= rows
            load.settled.add(rows, now)
        self._forget(app_id)

    def remove(self, app_id: int, rows: int, now: float) -> None:
        """Counts rows that are not ours any more."""
        self._of(app_id, now).rows -= rows
        self.whole.rows -= rows
        self._forget(app_id)

    def _wait(self, load: Load, rows: int, rows_max: int, campaigns_max: int, now: float) -> float:
        """Seconds until there is room; 0: there is."""
        excess = min(load.rows + rows - rows_max, load.rows)
        wait_s = self._bounded(excess, load.settled.per_s(now)) if excess > 0 else 0.0
        excess = load.campaigns + 1 - campaigns_max
        return max(wait_s, self._bounded(excess, load.finished.per_s(now))) if excess > 0 else wait_s

    def _bounded(self, over: int, per_s: float) -> float:
        config = self._config
        wait_s = over / per_s if per_s > 0 else config.room_retry_after_s
        return min(max(RETRY_AFTER_MIN_S, wait_s), config.room_retry_after_max_s)

    def _of(self, app_id: int, now: float) -> Load:
        load = self._apps.get(app_id)
        if load is None:
            load = self._apps[app_id] = Load(self._config.room_rate_span_s, now)
        return load

    def _forget(self, app_id: int) -> None:
        load = self._apps[app_id]
        if not (load.rows or load.campaigns):
            del self._apps[app_id]
