"""When a notification is to go out: what a producer says, and what is wrong with it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from pushd.errors import Fault
from pushd.model.attributes import as_time
from pushd.model.time_zones import is_time_zone

YEARS = range(1970, 3000)
INSTANT_MAX = 32_503_679_999.0
"""The last second of the year 2999; milliseconds of today lie far beyond, and are refused."""
COUNT_MAX = 1_000_000_000
EVERY_MIN_S = 60
"""The shortest period of a recurrence, and the step of rules and cron."""
EVERY_MAX_S = 100 * 31_557_600
LATE_MAX_S = 7 * 86_400

# Wall time without a zone: "2026-11-21T09:00", "2026-11-21 09:00:00".
_WALL = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")

TimeZoneName = Annotated[str, Meta(min_length=1, max_length=64)]
TimeText = Annotated[str, Meta(min_length=1, max_length=40)]
Seconds = Annotated[float, Meta(ge=0, le=INSTANT_MAX)]


class Strategy(StrEnum):
    """Whose clock the time of a schedule is read from."""

    IMMEDIATE = "immediate"
    UTC = "utc"
    """One instant for all."""
    TIMEZONE = "timezone"
    """The wall time of one zone, one instant for all."""
    LOCAL = "local"
    """Each device at that wall time in its own zone; those without one by the app's."""
    INTELLIGENT = "intelligent"
    """Each user on that day at his preferred hour."""


class PastTimes(StrEnum):
    """What becomes of devices for which the time is over when the schedule is accepted."""

    IGNORE = "ignore"
    """They are counted as suppressed."""
    NEXT_DAY = "next_day"
    """They get it at that wall time tomorrow."""


class RunLate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="run"):
    """A missed occurrence is still sent, if it is at most so late."""

    within_s: Annotated[int, Meta(ge=1, le=LATE_MAX_S)] = 3_600


class Skip(Struct, frozen=True, forbid_unknown_fields=True, tag="skip"):
    """A missed occurrence is not sent, and reported as skipped."""


Missed = RunLate | Skip


class Recurrence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a schedule repeats: by exactly one of `every_s`, `rrule` and `cron`."""

    every_s: Annotated[int, Meta(ge=EVERY_MIN_S, le=EVERY_MAX_S)] | None = None
    """Seconds from one occurrence to the next, whatever the clocks of people do; the first is at `starts_at`."""
    rrule: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    """The value of an RRULE (RFC 5545, section 3.3.10), such as `FREQ=WEEKLY;BYDAY=MO,TH`."""
    cron: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """Five fields: minute, hour, day of the month, month, day of the week."""
    time_zone: TimeZoneName | None = None
    """Whose wall time `rrule` and `cron` speak of; UTC where absent."""
    starts_at: Seconds | TimeText | None = None
    """Nothing occurs before; a wall time where the schedule is by wall time. Absent: when it is accepted."""
    ends_at: Seconds | TimeText | None = None
    """Nothing occurs after."""
    count: Annotated[int, Meta(ge=1, le=COUNT_MAX)] | None = None
    """It ends after so many occurrences, those counted that were missed."""


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """At what time, by whose clock, and how often."""

    strategy: Strategy | None = None
    send_at: Seconds | TimeText | None = None
    """Of `utc`: UNIX seconds, a time of RFC 3339, or a wall time of UTC; of `timezone` and `local`: a wall time
    without a zone, 2026-11-21T09:00; of `intelligent`: a date. A recurrence says `starts_at` instead."""
    time_zone: TimeZoneName | None = None
    """IANA name, of `timezone` only."""
    past_times: PastTimes | None = None
    recurrence: Recurrence | None = None
    missed: Missed | None = None
    """What becomes of an occurrence that nobody was there to send.

    Absent: it runs within an hour where it is one of several, within a week where there is but one.
    """


class When(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a send says of its time; nothing: immediately."""

    schedule: Schedule | None = None
    intelligent_delivery: bool = False
    """As soon as possible at each user's preferred hour; not together with `schedule`."""
    release_window_minutes: Annotated[int, Meta(ge=60, le=1440)] | None = None
    """It goes out in equal batches, one a minute, over so many minutes."""


def check(when: When, pointer: str = "") -> list[Fault]:
    """The faults of a send's time, each at its field; whether a rule is one is `scheduler.recurrence`'s to say."""
    if when.schedule is None:
        return []
    at = f"{pointer}/schedule"
    faults = []
    if when.intelligent_delivery:
        faults.append(Fault(f"{pointer}/intelligent_delivery", "excludes `schedule`: say one or the other"))
    return faults + _schedule(when.schedule, at)


def _schedule(schedule: Schedule, at: str) -> list[Fault]:
    if schedule.strategy is None:
        return [Fault(f"{at}/strategy", "is missing"), *_required(schedule, at)]
    if schedule.strategy is Strategy.IMMEDIATE:
        given = ("send_at", "time_zone", "past_times", "recurrence", "missed")
        return [
            Fault(f"{at}/{name}", "is not for `immediate`") for name in given if getattr(schedule, name) is not None
        ]
    faults = _required(schedule, at) + _zones(schedule, at)
    if schedule.recurrence is not None:
        faults += _recurrence(schedule, schedule.recurrence, f"{at}/recurrence")
    if schedule.send_at is not None and schedule.recurrence is None:
        faults += time_faults(schedule.send_at, schedule.strategy, f"{at}/send_at")
    return faults


def _required(schedule: Schedule, at: str) -> list[Fault]:
    faults = []
    if schedule.recurrence is None and schedule.send_at is None:
        faults.append(Fault(f"{at}/send_at", "is missing"))
    if schedule.recurrence is not None and schedule.send_at is not None:
        faults.append(Fault(f"{at}/send_at", "is said by `starts_at` of a recurrence"))
    if schedule.past_times is None:
        faults.append(Fault(f"{at}/past_times", "is missing"))
    return faults


def _zones(schedule: Schedule, at: str) -> list[Fault]:
    if schedule.strategy is not Strategy.TIMEZONE:
        return [Fault(f"{at}/time_zone", "is for `timezone` only")] if schedule.time_zone is not None else []
    if schedule.time_zone is None:
        return [Fault(f"{at}/time_zone", "is missing: `timezone` needs one")]
    return _zone(schedule.time_zone, f"{at}/time_zone")


def _zone(name: str, pointer: str) -> list[Fault]:
    return [] if is_time_zone(name) else [Fault(pointer, "is not a name of the IANA time zone database")]


def _recurrence(schedule: Schedule, recurrence: Recurrence, at: str) -> list[Fault]:
    faults = []
    kinds = [name for name in ("every_s", "rrule", "cron") if getattr(recurrence, name) is not None]
    if len(kinds) != 1:
        faults.append(Fault(at, "needs exactly one of `every_s`, `rrule` and `cron`"))
    by_wall = schedule.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}
    if by_wall and recurrence.every_s is not None:
        faults.append(Fault(f"{at}/every_s", f"counts seconds, and `{schedule.strategy}` goes by days: say `rrule`"))
    if recurrence.time_zone is not None:
        pointer = f"{at}/time_zone"
        if by_wall:
            faults.append(Fault(pointer, f"is not for `{schedule.strategy}`, which goes by the zones of devices"))
        elif schedule.time_zone not in {None, recurrence.time_zone}:
            faults.append(Fault(pointer, "differs from the schedule's"))
        faults += _zone(recurrence.time_zone, pointer)
    # A rule's start and end may be instants, or wall times of its zone.
    strategy = Strategy.LOCAL if by_wall else Strategy.UTC
    bounds = {name: getattr(recurrence, name) for name in ("starts_at", "ends_at")}
    wrong = [
        fault
        for name, bound in bounds.items()
        if bound is not None
        for fault in time_faults(bound, strategy, f"{at}/{name}")
    ]
    order = [] if wrong or None in bounds.values() else [ordering(bound) for bound in bounds.values()]
    if order and order[1] < order[0]:
        wrong.append(Fault(f"{at}/ends_at", "is before `starts_at`"))
    return faults + wrong


def time_faults(value: float | str, strategy: Strategy, pointer: str) -> list[Fault]:
    """What is wrong with a time as the strategy takes it: none or one fault."""
    wall, day = as_wall(value), as_date(value)
    if strategy is Strategy.UTC:
        fine = as_instant(value) is not None or wall is not None
        what = "is neither UNIX seconds, nor a time of RFC 3339, nor a wall time such as 2026-11-21T09:00"
    elif strategy is Strategy.INTELLIGENT:
        fine, what = day is not None, "is not a date such as 2026-11-21"
    else:
        fine, what = wall is not None, "is not a wall time without a zone, such as 2026-11-21T09:00"
    return [] if fine else [Fault(pointer, what)]


def as_instant(value: float | str) -> float | None:
    """UNIX seconds of a number, or of a time of RFC 3339 with its offset; None of other texts."""
    if isinstance(value, str):
        seconds = as_time(value)
        return seconds if seconds is not None and 0 <= seconds <= INSTANT_MAX else None
    return float(value)


def as_wall(value: float | str) -> datetime | None:
    """The wall time, without a zone, that a text names; None of numbers, of other texts, and outside `YEARS`."""
    if not isinstance(value, str) or not value.isascii() or not _WALL.fullmatch(value):
        return None
    try:
        wall = datetime.fromisoformat(value.upper())
    except ValueError:  # the 30th of February, 25 o'clock
        return None
    return wall if wall.year in YEARS else None


def as_date(value: float | str) -> date | None:
    """The day that a text names; None of numbers, of other texts, and outside `YEARS`."""
    if not isinstance(value, str) or not value.isascii() or not _DATE.fullmatch(value):
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        return None
    return day if day.year in YEARS else None


def ordering(value: float | str) -> float:
    """What start and end are compared by: UNIX seconds, wall times taken as those of UTC."""
    instant = as_instant(value)
    if instant is not None:
        return instant
    wall = as_wall(value)
    assert wall is not None, "checked before"
    return wall.replace(tzinfo=UTC).timestamp()
