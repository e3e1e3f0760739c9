"""Rules of RFC 5545 (section 3.3.10) read from their text, every part checked, and what a start implies filled in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from typing import Final

from pushd.model.attributes import as_time
from pushd.model.schedule import COUNT_MAX

INTERVAL_MAX: Final = 100_000
WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


class RuleError(ValueError):
    """What is wrong with a rule, as an end of the sentence that begins with its field."""


class Frequency(IntEnum):
    """What a rule counts in; SECONDLY is not offered."""

    YEARLY = 0
    MONTHLY = 1
    WEEKLY = 2
    DAILY = 3
    HOURLY = 4
    MINUTELY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule. Empty sets do not restrict; `filled` gives it what its start implies."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    """A wall time, or one of UTC where `until_is_utc`; included."""
    until_is_utc: bool = False
    months: frozenset[int] = frozenset()
    month_days: frozenset[int] = frozenset()
    year_days: frozenset[int] = frozenset()
    weeks: frozenset[int] = frozenset()
    weekdays: frozenset[tuple[int, int]] = frozenset()
    """(0 for Monday, n-th in the month or year; 0: every)."""
    hours: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    seconds: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_start: int = 0

    def filled(self, start: datetime) -> Rule:
        """The rule with what it leaves open taken from its start (RFC 5545: "derived from DTSTART")."""
        frequency, days_open = self.frequency, not (self.weeks or self.year_days or self.month_days or self.weekdays)
        rule = self
        if days_open and frequency is Frequency.YEARLY:
            rule = replace(rule, month_days=frozenset({start.day}), months=rule.months or frozenset({start.month}))
        elif days_open and frequency is Frequency.MONTHLY:
            rule = replace(rule, month_days=frozenset({start.day}))
        elif days_open and frequency is Frequency.WEEKLY:
            rule = replace(rule, weekdays=frozenset({(start.weekday(), 0)}))
        if frequency < Frequency.HOURLY and not rule.hours:
            rule = replace(rule, hours=(start.hour,))
        if frequency < Frequency.MINUTELY and not rule.minutes:
            rule = replace(rule, minutes=(start.minute,))
        return rule if rule.seconds else replace(rule, seconds=(start.second,))


_UNTIL = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?")
_WEEKDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_NUMBERS = re.compile(r"[+-]?\d{1,6}(,[+-]?\d{1,6}){0,365}")
_FIELDS: Final = {
    "BYMONTH": ("months", 1, 12, False),
    "BYMONTHDAY": ("month_days", 1, 31, True),
    "BYYEARDAY": ("year_days", 1, 366, True),
    "BYWEEKNO": ("weeks", 1, 53, True),
    "BYHOUR": ("hours", 0, 23, False),
    "BYMINUTE": ("minutes", 0, 59, False),
    "BYSECOND": ("seconds", 0, 59, False),
    "BYSETPOS": ("positions", 1, 366, True),
}
"""Part: field, least, greatest, whether negative numbers count from the end."""


def parse(text: str) -> Rule:
    """The rule of an RRULE's value, with or without `RRULE:` before it; RuleError says what is wrong."""
    fields: dict[str, object] = {}
    seen: set[str] = set()
    for part in text.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise RuleError(f"has a part that is not NAME=VALUE: {part[:40]!r}")
        if name in seen:
            raise RuleError(f"has {name} twice")
        seen.add(name)
        fields |= _part(name, value)
    if "frequency" not in fields:
        raise RuleError("has no FREQ")
    rule = Rule(**fields)  # type: ignore[arg-type]  # each part gives its own field and type
    _combine(rule, seen)
    return rule


def _part(name: str, value: str) -> dict[str, object]:
    if name in _FIELDS:
        field, least, greatest, signed = _FIELDS[name]
        numbers = _numbers(name, value, least, greatest, signed)
        ordered = field in {"hours", "minutes", "seconds", "positions"}
        return {field: tuple(sorted(numbers)) if ordered else frozenset(numbers)}
    if name not in _READERS:
        raise RuleError(f"has a part that is not known: {name[:40]!r}")
    return _READERS[name](name, value)


def _numbers(name: str, value: str, least: int, greatest: int, signed: bool) -> set[int]:
    if not value.isascii() or not _NUMBERS.fullmatch(value):
        raise RuleError(f"has a {name} that is no list of numbers")
    numbers = set(map(int, value.split(",")))
    for number in numbers:
        if not least <= (abs(number) if signed else number) <= greatest:
            raise RuleError(f"has {number} in {name}, which goes from {least} to {greatest}")
    return numbers


def _number(name: str, value: str, greatest: int) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 12 or not 1 <= int(value) <= greatest:
        raise RuleError(f"has a {name} that is no number from 1 to {greatest}")
    return int(value)


def _frequency(name: str, value: str) -> dict[str, object]:
    if value not in Frequency.__members__:
        raise RuleError(f"has a {name} that is none of {', '.join(Frequency.__members__)}: {value[:40]!r}")
    return {"frequency": Frequency[value]}


def _interval(name: str, value: str) -> dict[str, object]:
    return {"interval": _number(name, value, INTERVAL_MAX)}


def _count(name: str, value: str) -> dict[str, object]:
    return {"count": _number(name, value, COUNT_MAX)}


def _week_start(name: str, value: str) -> dict[str, object]:
    if value not in WEEKDAYS:
        raise RuleError(f"has a {name} that is no day of the week")
    return {"week_start": WEEKDAYS.index(value)}


def _weekdays(name: str, value: str) -> dict[str, object]:
    found = [_WEEKDAY.fullmatch(each) if each.isascii() else None for each in value.split(",", 400)]
    days = {(WEEKDAYS.index(each[2]), int(each[1] or 0)) for each in found if each}
    counted_badly = any(each and each[1] and not 1 <= abs(int(each[1])) <= 53 for each in found)
    if None in found or counted_badly:
        raise RuleError(f"has a {name} that is no list of days of the week")
    return {"weekdays": frozenset(days)}


def _until(name: str, value: str) -> dict[str, object]:
    """A day, included, a wall time or a time of UTC."""
    found = _UNTIL.fullmatch(value) if value.isascii() else None
    if found is None:
        raise RuleError(f"has an {name} that is neither a day (20261121) nor a time (20261121T090000Z)")
    year, month, day, *time = found.groups()
    hour, minute, second = time[:3] if time[0] else ("23", "59", "59")
    text = f"{year}-{month}-{day}T{hour}:{minute}:{second}"
    if as_time(text + "Z") is None:
        raise RuleError(f"has an {name} that no calendar has")
    return {"until": datetime.fromisoformat(text), "until_is_utc": time[3] == "Z"}


_READERS: Final[dict[str, Callable[[str, str], dict[str, object]]]] = {
    "FREQ": _frequency,
    "INTERVAL": _interval,
    "COUNT": _count,
    "UNTIL": _until,
    "WKST": _week_start,
    "BYDAY": _weekdays,
}


def _combine(rule: Rule, seen: set[str]) -> None:
    """What RFC 5545 does not allow together."""
    frequency = rule.frequency
    if {"COUNT", "UNTIL"} <= seen:
        raise RuleError("has both COUNT and UNTIL, which exclude each other")
    if rule.weeks and frequency is not Frequency.YEARLY:
        raise RuleError("has BYWEEKNO, which is for YEARLY only")
    if rule.year_days and frequency in {Frequency.MONTHLY, Frequency.WEEKLY, Frequency.DAILY}:
        raise RuleError(f"has BYYEARDAY, which is not for {frequency.name}")
    if rule.month_days and frequency is Frequency.WEEKLY:
        raise RuleError("has BYMONTHDAY, which is not for WEEKLY")
    counted = any(ordinal for _, ordinal in rule.weekdays)
    if counted and (frequency > Frequency.MONTHLY or rule.weeks):
        raise RuleError("counts days of the week in BYDAY, which is for MONTHLY, and YEARLY without BYWEEKNO")
    if rule.positions and not {part for part in seen if part.startswith("BY")} - {"BYSETPOS"}:
        raise RuleError("has BYSETPOS without another BY part to choose from")
    if len(rule.seconds) > 1:
        raise RuleError("has several seconds in BYSECOND; once a minute is the most")
