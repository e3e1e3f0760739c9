"""Quiet hours of apps and users, by the clocks of the device: whether a message may go now, and if not, when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from pushd.errors import Fault
from pushd.scheduler import zones

DAY_MINUTES = 24 * 60
NONE = 0xFFFF
"""In columns of minutes: no quiet hours."""
_ROUNDS_MAX = 8
"""Quiet hours that follow one another for longer leave no time to send; the last end is answered."""

Minute = Annotated[int, Meta(ge=0, lt=DAY_MINUTES)]
Minutes = NDArray[np.uint16]


class QuietHours(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a minute of the day, included, to another, not included; across midnight where that is the smaller one."""

    from_minute: Minute
    """Minutes after midnight by the device's clock: 22:30 is 1350."""
    to_minute: Minute


class Policy(StrEnum):
    """What quiet hours do to a message."""

    HOLD = "hold"
    """It waits until they end."""
    DROP = "drop"
    """It is not sent, and counted as suppressed."""


@dataclass(frozen=True, slots=True)
class Go:
    """The message may go."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The message waits."""

    until: float
    """UNIX seconds."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The message is not sent."""


def check(quiet: QuietHours, pointer: str) -> list[Fault]:
    """The faults of quiet hours: a day has to have others."""
    same = quiet.from_minute == quiet.to_minute
    return (
        [Fault(f"{pointer}/to_minute", "is the same as `from_minute`: that is no time, or all of it")] if same else []
    )


def decide(
    quiets: Iterable[QuietHours], at: float, of: ZoneInfo, *, policy: Policy = Policy.HOLD, transactional: bool = False
) -> Go | Hold | Drop:
    """What becomes of a message at an instant, for a device in a zone, under its app's and its user's quiet hours.

    Whoever holds it until then asks again: hours and zones may have changed. Transactional messages always go.
    """
    end = None if transactional else ends(quiets, at, of)
    if end is None:
        return Go()
    return Drop() if policy is Policy.DROP else Hold(end)


def ends(quiets: Iterable[QuietHours], at: float, of: ZoneInfo) -> float | None:
    """UNIX seconds of the first instant that is quiet for none of them; None: that is now."""
    given = tuple(quiets)
    moment = at
    for _ in range(_ROUNDS_MAX):
        later = [end for quiet in given if (end := _end(quiet, moment, of)) is not None]
        if not later:
            break
        moment = max(later)
    return None if moment == at else moment


def _end(quiet: QuietHours, at: float, of: ZoneInfo) -> float | None:
    """When the quiet hours that an instant lies in end; None where it lies in none.

    They go from the first instant at which the clocks show their begin, to the first at which they show their end: a
    clock that is set back over the end does not make it quiet again, and a begin that is skipped begins after the gap.
    """
    today = zones.shown(at, of).date()
    across = timedelta(days=int(quiet.to_minute <= quiet.from_minute))
    for day in (today - timedelta(days=1), today):
        midnight = datetime.combine(day, time())
        begin = zones.instant(midnight + timedelta(minutes=quiet.from_minute), of)
        end = zones.instant(midnight + across + timedelta(minutes=quiet.to_minute), of)
        if begin <= at < end:
            return end
    return None


def holds(begins: Minutes, ends_: Minutes, app: QuietHours | None, at: float, of: ZoneInfo) -> NDArray[np.float64]:
    """Until when each row of a column is to wait, 0: it may go, for devices of one zone.

    `begins` and `ends_` are their users' quiet hours, in minutes of the day, `NONE` where a user has none. The cost
    is that of the distinct ones.
    """
    pairs, places = np.unique(begins.astype(np.uint32) << 16 | ends_, return_inverse=True)
    until = np.zeros(len(pairs))
    for number, pair in enumerate(pairs.tolist()):
        begin, end = pair >> 16, pair & 0xFFFF
        own = () if NONE in {begin, end} or begin == end else (QuietHours(from_minute=begin, to_minute=end),)
        until[number] = ends((*own, app) if app else own, at, of) or 0.0
    return until[places]
