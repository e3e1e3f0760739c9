"""What is to be done with a schedule that is due: which occurrence runs, which were missed, and when it is due next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pushd.model.notification import Send
from pushd.model.schedule import Schedule, Skip, Strategy
from pushd.scheduler.missed import allowed_s, judge
from pushd.scheduler.recurrence import EAST_S, WEST_S, Occurrences, prepare
from pushd.store.accepts import Due

PASSED_MAX: Final = 500
"""Occurrences that are judged, and reported as skipped, at a time."""
NEAR_S: Final = 0.5
"""The database keeps microseconds of an occurrence: that may be a little before its instant. The next is far away."""
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a due schedule."""

    run: float | None
    """The occurrence that runs."""
    skipped: tuple[float, ...] = ()
    """Those before it, ascending, that do not."""
    following: Due | None = None
    """When it is due again; none: it is over."""
    too_late: bool = False
    """It runs only to say that nobody gets it: a notification that has an id already cannot vanish."""


def decide(
    send: Send, *, nominal: float, accepted_at: float, occurred: int, now: float, app_zone: str = "UTC"
) -> Decision:
    """What becomes of a schedule whose occurrence `nominal` is due, after so many that fired or were skipped.

    Where devices go by their own clocks, each release is judged when it is due; an occurrence was missed when its time
    has passed in the last of the zones.
    """
    schedule = send.schedule
    if schedule is None or schedule.recurrence is None:
        late = not goes_by_devices(send) and now - nominal > allowed_s(schedule)
        return Decision(run=nominal, too_late=late)
    return _recurring(schedule, nominal, accepted_at, occurred, now, app_zone)


def goes_by_devices(send: Send) -> bool:
    """Whether each device has an instant of its own, by its zone or its user's habits."""
    if send.intelligent_delivery:
        return True
    return send.schedule is not None and send.schedule.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}


def goes_by_hours(send: Send) -> bool:
    """Whether each device has its instant by its user's habits."""
    if send.intelligent_delivery:
        return True
    return send.schedule is not None and send.schedule.strategy is Strategy.INTELLIGENT


def _recurring(
    schedule: Schedule, nominal: float, accepted_at: float, occurred: int, now: float, app_zone: str
) -> Decision:
    ready = occurrences(schedule, accepted_at, app_zone)
    by_device = ready.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}
    until = now + EAST_S if by_device else now
    passed = [nominal, *ready.passed(nominal + NEAR_S, until, occurred + 1, limit=PASSED_MAX - 1)]
    ends = _ends(ready)
    verdict = judge([each + ends for each in passed], now, schedule.missed)
    skipped = len(verdict.skipped)
    # What was cut off may hide later ones: then the last that is seen here is not the last one that was missed.
    cut = len(passed) == PASSED_MAX and bool(verdict.run) and not judge([passed[skipped] + ends], now, Skip()).run
    if not verdict.run or cut:
        skipped = len(passed)
    run = passed[skipped] if skipped < len(passed) else None
    done = skipped + (run is not None)
    following = passed[done] if done < len(passed) else ready.after(passed[done - 1] + NEAR_S, occurred + done)
    return Decision(
        run=run,
        skipped=tuple(passed[:skipped]),
        following=None if following is None else Due(ready.due(following), following),
    )


def _ends(ready: Occurrences) -> float:
    """Seconds from an occurrence to the instant at which the last zone on earth has come to it."""
    return {Strategy.LOCAL: WEST_S, Strategy.INTELLIGENT: WEST_S + DAY_S}.get(ready.strategy, 0)


@lru_cache(maxsize=1_024)
def occurrences(schedule: Schedule, accepted_at: float, app_zone: str) -> Occurrences:
    """The occurrences of a schedule that was checked when it was accepted."""
    return prepare(schedule, accepted_at=accepted_at, app_zone=app_zone)
