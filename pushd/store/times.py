"""UNIX seconds, as pushd counts, to PostgreSQL's timestamps and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=256)  # the rows of a transaction share theirs
def moment(seconds: float) -> datetime:
    """The timestamp of so many seconds since the epoch, to the microsecond."""
    return _EPOCH + timedelta(microseconds=round(seconds * 1_000_000))


def seconds(at: datetime) -> float:
    """Seconds since the epoch."""
    return at.timestamp()


def seconds_or_none(at: datetime | None) -> float | None:
    """Seconds since the epoch, or None for None."""
    return None if at is None else at.timestamp()


def moment_or_none(at: float | None) -> datetime | None:
    """The timestamp of so many seconds, or None for None."""
    return None if at is None else moment(at)
