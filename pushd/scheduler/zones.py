"""Wall time and instants: what a zone's clocks show, and the first instant at which they show a time or a later one."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import TZPATH, ZoneInfo

import tzdata

from pushd.errors import Fault, InvalidRequestError
from pushd.model.time_zones import is_time_zone

_EPOCH = datetime(1970, 1, 1)


class Database(NamedTuple):
    """Which time zone database answers."""

    source: str
    """`system`, or `tzdata`, the package that stands in where the system has none."""
    version: str
    """As IANA names it, such as 2026a; `unknown` where the system does not say."""


@lru_cache(maxsize=1_024)
def zone(name: str) -> ZoneInfo:
    """The zone of that name; InvalidRequestError where the database has none."""
    # Kept here: ZoneInfo itself keeps eight, and reads the others' files again and again.
    if not is_time_zone(name):
        raise InvalidRequestError(
            "The time zone is not known", faults=[Fault("/time_zone", f"names no time zone: {name[:64]!r}")]
        )
    return ZoneInfo(name)


def instant(wall: datetime, of: ZoneInfo) -> float:
    """UNIX seconds of the first instant at which the zone's clocks show this wall time or a later one.

    So a time that is skipped is the first instant after the gap, and one that comes twice is the first of the two; and
    a later wall time is never an earlier instant. Whole seconds.
    """
    naive = wall.replace(tzinfo=None, microsecond=0, fold=0)
    elapsed = (naive - _EPOCH) // timedelta(seconds=1)
    before, after = _offset(naive, of, 0), _offset(naive, of, 1)
    if after <= before:  # as always, or an overlap: the offset from before the change comes first
        return float(elapsed - before)
    # In a gap: the change lies between the instants that either offset would give.
    low, high = elapsed - after, elapsed - before
    while high - low > 1:
        middle = (low + high) // 2
        if shown(middle, of) >= naive:
            high = middle
        else:
            low = middle
    return float(high)


def shown(at: float, in_zone: ZoneInfo) -> datetime:
    """The wall time, without a zone, that the zone's clocks show at an instant, to the second."""
    return datetime.fromtimestamp(at // 1, in_zone).replace(tzinfo=None, fold=0)


def offset(at: float, in_zone: ZoneInfo) -> int:
    """Seconds by which the zone's clocks are ahead of UTC at an instant."""
    ahead = datetime.fromtimestamp(at // 1, in_zone).utcoffset()
    assert ahead is not None, "a ZoneInfo always has one"
    return ahead // timedelta(seconds=1)


def _offset(naive: datetime, of: ZoneInfo, fold: int) -> int:
    offset = naive.replace(tzinfo=of, fold=fold).utcoffset()
    assert offset is not None, "a ZoneInfo always has one"
    return offset // timedelta(seconds=1)


def utc_wall(at: float) -> datetime:
    """The wall time of UTC at an instant, to the second."""
    return datetime.fromtimestamp(at // 1, UTC).replace(tzinfo=None)


@lru_cache(maxsize=1)
def database() -> Database:
    """The time zone database in use and its version."""
    for path in map(Path, TZPATH):
        if (path / "Etc" / "UTC").is_file() or (path / "UTC").is_file():
            return Database("system", _system_version(path))
    return Database("tzdata", tzdata.IANA_VERSION)


def _system_version(path: Path) -> str:
    for name in ("+VERSION", "version", "tzdata.zi"):
        try:
            with (path / name).open(encoding="ascii", errors="replace") as file:
                found = re.search(r"\b(19|20)\d\d[a-z]{1,2}\b", file.readline(200))
        except OSError:
            continue
        if found:
            return found.group()
    return "unknown"
