"""Quiet hours of apps and users, by the clocks of the device: whether a message may go now, and if not, when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from pushd.model.quiet import DAY_MINUTES, Policy, QuietHours, unpack
from pushd.scheduler import zones

_DAY_S = 86_400
_ROUNDS_MAX = 8
"""Quiet hours that follow one another for longer leave no time to send; the last end is answered."""

Packed = NDArray[np.uint32]
"""Columns of quiet hours, packed (model.quiet)."""


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


def holds(packed: Packed, app: QuietHours | None, at: float, of: ZoneInfo) -> NDArray[np.float64]:
    """Until when each row of a column is to wait, 0: it may go, for devices of one zone.

    `packed` are their users' quiet hours, packed. The cost is that of the distinct ones, and of asking the zone's
    clocks once a day.
    """
    distinct, places = np.unique(packed, return_inverse=True)
    offset = _steady(of.key, int(at // _DAY_S))
    if offset is None:
        until = np.array([_until(unpack(number), app, at, of) for number in distinct.tolist()])
    else:
        until = _by_arithmetic(distinct, app, at, offset)
    return until[places]


def _until(own: QuietHours | None, app: QuietHours | None, at: float, of: ZoneInfo) -> float:
    return ends([each for each in (own, app) if each is not None], at, of) or 0.0


@lru_cache(maxsize=4_096)
def _steady(name: str, day: int) -> int | None:
    """Seconds by which a zone's clocks are ahead of UTC; None where they change about a day, counted from the epoch.

    From two days before, which quiet hours may have begun in, to as long after as they are waited for.
    """
    of, start = zones.zone(name), day * _DAY_S
    hours = range(-48, 24 * (_ROUNDS_MAX + 4), 3)
    offsets = {zones.offset(start + hour * 3600, of) for hour in hours}
    return offsets.pop() if len(offsets) == 1 else None


def _by_arithmetic(distinct: Packed, app: QuietHours | None, at: float, offset: int) -> NDArray[np.float64]:
    """What `ends` says for each, 0 for None, where the clocks do not change."""
    own = distinct.astype(np.int64) - 1
    begins = [own // DAY_MINUTES * 60, np.full(len(own), app.from_minute * 60 if app else 0)]
    ends_ = [own % DAY_MINUTES * 60, np.full(len(own), app.to_minute * 60 if app else 0)]
    there = [own >= 0, np.full(len(own), app is not None)]
    until = np.full(len(own), float(at))
    for _ in range(_ROUNDS_MAX):
        clock = (until + offset) % _DAY_S
        later = until.copy()
        for begin, end, given in zip(begins, ends_, there, strict=True):
            across = end <= begin
            inside = given & np.where(across, (clock >= begin) | (clock < end), (clock >= begin) & (clock < end))
            over = np.rint(until + (end - clock) % _DAY_S)  # a whole second
            later = np.where(inside, np.maximum(later, over), later)
        if (later == until).all():
            break
        until = later
    return np.where(until == at, 0.0, until)
