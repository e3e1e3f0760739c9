"""The wall times of a rule of RFC 5545, from any point on, within bounds that no rule can lift."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from pushd.scheduler.rules import Frequency, Rule

LOOKS_MAX: Final = 16_000
"""Days and periods looked at without finding anything, after which there is nothing: some ten milliseconds."""
YEARS_MAX: Final = 400
"""How far ahead of what came last the next wall time is looked for: the calendar repeats after 400 years."""
_EPOCH: Final = datetime(1970, 1, 1)
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)


def walls(rule: Rule, start: datetime, after: datetime | None) -> Iterator[datetime]:
    """The wall times of a filled rule, ascending, not before its start and after `after`; ends where there are none.

    The cost of the first one does not depend on how long ago the start was.
    """
    number = 0 if after is None or after < start else max(0, _number(rule, start, after))
    found, idle = after or start, 0
    while idle < LOOKS_MAX:
        period = _period(rule, start, number)
        if period is None or period.year > found.year + YEARS_MAX or period.year >= 3000:
            return
        skip, looks = _barren(rule, period)
        if skip is not None:
            near = rule.frequency is Frequency.DAILY and skip - period <= _DAY
            number, idle = number + 1 if near else max(number + 1, _ceiling(rule, start, skip)), idle + 5 * looks
            continue
        idle += _cost(rule)
        for wall in _within(rule, period):
            if wall >= start and (after is None or wall > after):
                yield wall
                found, idle = wall, 0
        number += 1


def _cost(rule: Rule) -> int:
    """What looking through a period costs, in days."""
    match rule.frequency:
        case Frequency.YEARLY:
            days = len(rule.year_days) or 31 * (len(rule.months) or 12)
            return 8 + days * (3 if rule.weeks else 1)
        case Frequency.MONTHLY:
            return 39
        case Frequency.WEEKLY:
            return 15
        case _:
            return 9


def _number(rule: Rule, start: datetime, at: datetime) -> int:
    """The number of the rule's last period that begins at or before a wall time."""
    match rule.frequency:
        case Frequency.YEARLY:
            passed = at.year - start.year
        case Frequency.MONTHLY:
            passed = (at.year - start.year) * 12 + at.month - start.month
        case Frequency.WEEKLY:
            passed = (at.date() - _week(start, rule.week_start)).days // 7
        case Frequency.DAILY:
            passed = at.toordinal() - start.toordinal()
        case Frequency.HOURLY:
            passed = (at - _EPOCH) // _HOUR - (start - _EPOCH) // _HOUR
        case Frequency.MINUTELY:
            passed = (at - _EPOCH) // _MINUTE - (start - _EPOCH) // _MINUTE
    return passed // rule.interval


def _ceiling(rule: Rule, start: datetime, at: datetime) -> int:
    """The number of the rule's first period that begins at or after a wall time at which a period begins."""
    number = _number(rule, start, at)
    period = _period(rule, start, number)
    return number if period is None or period >= at else number + 1


def _period(rule: Rule, start: datetime, number: int) -> datetime | None:
    """Where a period begins; None beyond the calendar."""
    steps = number * rule.interval
    try:
        match rule.frequency:
            case Frequency.YEARLY | Frequency.MONTHLY:
                months = steps * (12 if rule.frequency is Frequency.YEARLY else 1)
                first = 0 if rule.frequency is Frequency.YEARLY else start.month - 1
                year, month = divmod(start.year * 12 + first + months, 12)
                begin = datetime(year, month + 1, 1)
            case Frequency.WEEKLY:
                begin = datetime.combine(_week(start, rule.week_start) + timedelta(weeks=steps), time())
            case Frequency.DAILY:
                begin = datetime.combine(start.date() + timedelta(days=steps), time())
            case Frequency.HOURLY:
                begin = start.replace(minute=0, second=0) + steps * _HOUR
            case Frequency.MINUTELY:
                begin = start.replace(second=0) + steps * _MINUTE
    except (ValueError, OverflowError):
        return None
    return begin


def _week(at: datetime, week_start: int) -> date:
    return at.date() - timedelta(days=(at.weekday() - week_start) % 7)


def _barren(rule: Rule, period: datetime) -> tuple[datetime | None, int]:
    """Where to look on, if nothing lies between the period's begin and there, and how many looks it took to know.

    None where something may lie there.
    """
    if rule.months and rule.frequency in {Frequency.MONTHLY, Frequency.DAILY, Frequency.HOURLY, Frequency.MINUTELY}:
        month = period.month
        while month not in rule.months:
            month = month % 12 + 1
        if month != period.month:
            year = period.year + (month < period.month)
            return datetime(year, month, 1), 1
    if rule.frequency >= Frequency.DAILY and not _fits(rule, period.date()):
        return _fitting(rule, period.date())
    if rule.frequency >= Frequency.HOURLY and rule.hours and period.hour not in rule.hours:
        later = [hour for hour in rule.hours if hour > period.hour]
        midnight = period.replace(hour=0, minute=0)
        return midnight + timedelta(hours=later[0] if later else 24), 1
    if rule.frequency is Frequency.MINUTELY and rule.minutes and period.minute not in rule.minutes:
        minutes = [minute for minute in rule.minutes if minute > period.minute]
        return period.replace(minute=0) + timedelta(minutes=minutes[0] if minutes else 60), 1
    return None, 0


def _fitting(rule: Rule, day: date) -> tuple[datetime, int]:
    """The next day that fits, or the next month, behind a day that does not; and how many days were looked at.

    A rule by hours or minutes need not count its periods for each of them.
    """
    month, looks = day.month, 1
    day += _DAY
    while rule.frequency > Frequency.DAILY and day.month == month and not _fits(rule, day):
        day += _DAY
        looks += 1
    return datetime.combine(day, time()), looks


def _within(rule: Rule, period: datetime) -> Iterator[datetime]:
    """The wall times of one period, ascending."""
    days = [day for day in _days(rule, period) if _fits(rule, day)]
    hours = (period.hour,) if rule.frequency >= Frequency.HOURLY else rule.hours
    minutes = (period.minute,) if rule.frequency is Frequency.MINUTELY else rule.minutes
    second, size = rule.seconds[0], len(hours) * len(minutes)
    if not rule.positions:
        for day in days:
            for hour in hours:
                for minute in minutes:
                    yield datetime(day.year, day.month, day.day, hour, minute, second)
        return
    whole = len(days) * size
    places = {place - 1 if place > 0 else whole + place for place in rule.positions}
    for place in sorted(places):
        if 0 <= place < whole:  # counted, not listed: a day may have 1,440 times, and none of them be chosen
            at, within = divmod(place, size)
            hour, minute = divmod(within, len(minutes))
            yield datetime.combine(days[at], time(hours[hour], minutes[minute], second))


def _days(rule: Rule, period: datetime) -> Iterator[date]:
    """The days of a period, those of other months left out where that is cheap."""
    first = period.date()
    match rule.frequency:
        case Frequency.YEARLY if rule.year_days:
            size = _year_days(first.year)
            numbers = {number if number > 0 else size + 1 + number for number in rule.year_days}
            yield from (first + timedelta(days=number - 1) for number in sorted(numbers) if 1 <= number <= size)
        case Frequency.YEARLY:
            for month in sorted(rule.months) or range(1, 13):
                yield from _month(first.year, month)
        case Frequency.MONTHLY:
            yield from _month(first.year, first.month)
        case Frequency.WEEKLY:
            yield from (first + timedelta(days=at) for at in range(7))
        case _:
            yield first


def _month(year: int, month: int) -> Iterator[date]:
    return (date(year, month, day) for day in range(1, _month_days(year, month) + 1))


def _fits(rule: Rule, day: date) -> bool:
    """Whether a day passes every BY part that is about days."""
    if rule.months and day.month not in rule.months:
        return False
    if rule.month_days and not rule.month_days & {day.day, day.day - _month_days(day.year, day.month) - 1}:
        return False
    if rule.year_days and not rule.year_days & _year_day(day):
        return False
    if rule.weeks and not rule.weeks & _week_numbers(day, rule.week_start):
        return False
    return not rule.weekdays or any(_is(rule, day, *each) for each in rule.weekdays)


def _is(rule: Rule, day: date, weekday: int, ordinal: int) -> bool:
    """Whether a day is that day of the week, and, where counted, the so-manyth of its month or year."""
    if day.weekday() != weekday:
        return False
    if not ordinal:
        return True
    if rule.frequency is Frequency.MONTHLY or rule.months:
        at, size = day.day, _month_days(day.year, day.month)
    else:
        at, size = _place_in_year(day), _year_days(day.year)
    return ordinal in {(at - 1) // 7 + 1, -((size - at) // 7 + 1)}


def _year_day(day: date) -> set[int]:
    at = _place_in_year(day)
    return {at, at - _year_days(day.year) - 1}


def _week_numbers(day: date, week_start: int) -> set[int]:
    """The number of the day's week, and that counted from the end of its year; the week that holds 4 January is 1."""
    middle = day - timedelta(days=(day.weekday() - week_start) % 7 - 3)
    at = _place_in_year(middle)
    number = (at - 1) // 7 + 1
    weeks = number + (_year_days(middle.year) - at) // 7
    return {number, number - weeks - 1}


def _place_in_year(day: date) -> int:
    """1 for the first of January."""
    return day.toordinal() - _year_begin(day.year) + 1


@lru_cache(maxsize=4_096)
def _month_days(year: int, month: int) -> int:
    return ((date(year, month, 28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day


@lru_cache(maxsize=512)
def _year_begin(year: int) -> int:
    return date(year, 1, 1).toordinal()


@lru_cache(maxsize=512)
def _year_days(year: int) -> int:
    return date(year, 12, 31).timetuple().tm_yday
