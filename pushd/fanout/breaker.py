"""The mass-deletion breaker: when too many tokens look dead at once, none is retired (G-04)."""

from __future__ import annotations

from collections import deque

from pushd.config import FanoutConfig
from pushd.fanout.retry import STEPS


class RetireBreaker:
    """Judges one credential. A wrong topic or environment makes every token look dead, so a high share is suspect."""

    def __init__(self, config: FanoutConfig) -> None:
        self._config = config
        self._window: deque[tuple[float, int, int]] = deque()
        self._dead = self._accepted = 0
        self.open = False
        self.withheld = 0
        """Retirements held back since the breaker opened."""

    def seen(self, now: float, *, dead: int, accepted: int) -> None:
        """Counts answers and judges anew."""
        self._count(now, dead, accepted)
        self._dead += dead
        self._accepted += accepted
        while self._window and self._window[0][0] < now - self._config.retire_breaker_window_s:
            _, old_dead, old_accepted = self._window.popleft()
            self._dead -= old_dead
            self._accepted -= old_accepted
        total = self._dead + self._accepted
        share_is_high = total >= self._config.retire_breaker_min and (
            self._dead > total * self._config.retire_breaker_ratio
        )
        none_accepted = self._dead >= self._config.retire_unproven_max and not self._accepted
        self.open = share_is_high or none_accepted

    def idle(self, now: float) -> bool:
        """Whether the window has passed since the last answer: it has nothing to judge by."""
        return not self._window or self._window[-1][0] < now - self._config.retire_breaker_window_s

    def _count(self, now: float, dead: int, accepted: int) -> None:
        if self._window and now - self._window[-1][0] < self._config.retire_breaker_window_s / STEPS:
            began, before_dead, before_accepted = self._window.pop()
            self._window.append((began, before_dead + dead, before_accepted + accepted))
        else:
            self._window.append((now, dead, accepted))

    def withhold(self, rows: int) -> None:
        """Counts retirements that did not happen."""
        self.withheld += rows
