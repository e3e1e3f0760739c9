"""Wall and monotonic time as one replaceable part."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Ages and deadlines are monotonic; what is stored or signed is wall time."""

    def now(self) -> float:
        """Seconds since the epoch, by the wall clock, which can jump."""

    def monotonic(self) -> float:
        """Seconds since some start, which never jump."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some start."""
        return time.monotonic()
