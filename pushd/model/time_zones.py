"""Names of the IANA time zone database."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import available_timezones


def is_time_zone(name: str) -> bool:
    """Whether the time zone database has a zone of exactly this name."""
    return name in _names()


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones())
