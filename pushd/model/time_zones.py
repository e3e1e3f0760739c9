"""Names of the IANA time zone database."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import available_timezones


def is_time_zone(name: str) -> bool:
    """Whether the time zone database has a zone of exactly this name."""
    return name in _names()


def canonical(folded: str) -> str:
    """The database's own spelling of a name in lower case; empty where it has no such zone."""
    return _spellings().get(folded, "")


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    return {name.lower(): name for name in _names()}


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones())
