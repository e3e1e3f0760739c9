"""When the next connect may start: exponential back-off with full jitter, and a cap per minute."""

from __future__ import annotations

import random
from collections import deque

from pushd.config.transport import TransportConfig

MINUTE_S = 60.0


class Pace:
    """The memory of one pool's connects; times are seconds of one monotonic clock."""

    __slots__ = ("_config", "_connects", "_next_at", "failures")

    def __init__(self, config: TransportConfig) -> None:
        self._config = config
        self._connects: deque[float] = deque(maxlen=config.connects_per_minute_max)
        self._next_at = 0.0
        self.failures = 0
        """Connects in a row of which nothing good came."""

    def next_at(self, now: float) -> float:
        """When a connect may start, `now` or later."""
        at = max(now, self._next_at)
        if len(self._connects) == self._config.connects_per_minute_max:
            at = max(at, self._connects[0] + MINUTE_S)
        return at

    def started(self, now: float) -> None:
        """Counts a connect."""
        self._connects.append(now)

    def failed(self, now: float) -> None:
        """Doubles the back-off: no connection, or one that ended before the gateway accepted anything on it."""
        self.failures += 1
        config = self._config
        ceiling = min(config.connect_backoff_cap_s, config.connect_backoff_base_s * 2.0 ** min(self.failures, 30) / 2)
        # Jitter keeps half of the pause: with less, one host's pools would storm a recovering gateway.
        self._next_at = now + ceiling * random.uniform(0.5, 1.0)  # noqa: S311  jitter is no secret

    def proved(self) -> None:
        """Forgets failures: the gateway accepted something."""
        self.failures = 0
        self._next_at = 0.0
