"""What comes next: the occurrences of fixed periods, rules and cron expressions, as instants or as wall times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pushd.errors import Fault, InvalidRequestError
from pushd.model.schedule import INSTANT_MAX, Recurrence, Schedule, Strategy, as_instant, as_wall
from pushd.scheduler import zones
from pushd.scheduler.expansion import walls
from pushd.scheduler.rules import Rule, RuleError, parse

NEXT_MAX: Final = 100
"""Occurrences that are told in advance."""
MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""Names that crontab(5) has for cron expressions."""
GRACE_S: Final = 60
"""A start within the minute that runs is not past: requests take a moment."""
EAST_S: Final = 14 * 3600
WEST_S: Final = 12 * 3600
"""How far ahead of UTC the first zone on earth is, and how far behind the last."""
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrences:
    """A recurrence made ready: its pattern, its zone, and where it starts and ends.

    Occurrences are UNIX seconds. Where each device goes by its own clock they stand for wall times: those that UTC
    shows at that instant; and where each user has his own hour, for days, by their midnight.
    """

    strategy: Strategy
    pattern: int | Rule | str
    """Seconds, a filled rule, or a cron expression."""
    zone: ZoneInfo
    start: datetime
    """What the zone's clocks are to show at the start; in a gap that is not what they show at `starts_at`."""
    starts_at: float
    ends_at: float | None
    count: int | None

    def after(self, at: float | None, occurred: int = 0) -> float | None:
        """The first occurrence after an instant (None: of all), where so many have been; None: there is none left.

        The cost does not depend on how long ago it started.
        """
        if self.count is not None and occurred >= self.count:
            return None
        return next(self._instants(at), None)

    def first(self, accepted_at: float) -> float | None:
        """The first occurrence of a schedule accepted at an instant, the running minute's counted; None: there is none.

        Where devices go by their own clocks: the first that is still to come somewhere.
        """
        behind = {Strategy.LOCAL: WEST_S, Strategy.INTELLIGENT: WEST_S + 86_400}.get(self.strategy, 0)
        return self.after(accepted_at - behind - GRACE_S - 1)

    def due(self, occurrence: float) -> float:
        """UNIX seconds at which an occurrence is to be planned: its instant, or when it comes to the first zone."""
        by_device = self.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}
        return occurrence - EAST_S if by_device else occurrence

    def next(self, number: int, at: float | None = None, occurred: int = 0) -> list[float]:
        """The next few occurrences after an instant; fewer where it ends before."""
        left = number if self.count is None else min(number, max(0, self.count - occurred))
        return list(islice(self._instants(at), min(left, NEXT_MAX)))

    def passed(self, since: float | None, until: float, occurred: int = 0, limit: int = NEXT_MAX) -> list[float]:
        """The occurrences after `since` up to and with `until`, at most so many: what downtime may have missed."""
        left = limit if self.count is None else min(limit, max(0, self.count - occurred))
        return list(takewhile(lambda each: each <= until, islice(self._instants(since), left)))

    def _instants(self, at: float | None) -> Iterator[float]:
        """The occurrences after an instant, strictly ascending, `count` aside."""
        last = at
        for each in self._periods(at) if isinstance(self.pattern, int) else self._by_wall(at):
            if each > (INSTANT_MAX if self.ends_at is None else self.ends_at):
                return
            # Two wall times of a gap are one instant.
            if each >= self.starts_at and (last is None or each > last):
                last = each
                yield each

    def _periods(self, at: float | None) -> Iterator[float]:
        assert isinstance(self.pattern, int)
        number = 0 if at is None or at < self.starts_at else int((at - self.starts_at) // self.pattern) + 1
        while True:
            yield self.starts_at + number * self.pattern
            number += 1

    def _by_wall(self, at: float | None) -> Iterator[float]:
        # Whatever the clocks have shown by `at` was reached by then. After an overlap they show some of it again, and
        # `_instants` drops what comes of that.
        after = None if at is None or at < self.starts_at else zones.shown(at, self.zone)
        if isinstance(self.pattern, Rule):
            found = walls(self.pattern, self.start, after)
        else:
            found = _cron(str(self.pattern), self.start - _SECOND if after is None else after)
        if self.strategy is Strategy.INTELLIGENT:
            found = (wall.replace(hour=0, minute=0, second=0) for wall in found)
        return (zones.instant(wall, self.zone) for wall in found)


def prepare(schedule: Schedule, *, accepted_at: float, app_zone: str, pointer: str = "/schedule") -> Occurrences:
    """The occurrences of a schedule that recurs and that `model.schedule.check` found nothing wrong with.

    InvalidRequestError where its rule is none, or nothing occurs from its acceptance on.
    """
    recurrence = schedule.recurrence
    assert recurrence is not None, "only for schedules that recur"
    by_device = schedule.strategy in {Strategy.LOCAL, Strategy.INTELLIGENT}
    name = "UTC" if by_device else recurrence.time_zone or schedule.time_zone or "UTC"
    zone = zones.zone(name)
    now = -(-accepted_at // 1)
    first = zones.shown(now, zones.zone(app_zone) if by_device else zone)
    start, starts_at = _bound(recurrence.starts_at, zone) or (first, zones.instant(first, zone) if by_device else now)
    if schedule.strategy is Strategy.INTELLIGENT:  # goes by days
        start = start.replace(hour=0, minute=0, second=0)
        starts_at = zones.instant(start, zone)
    _, ends_at = _bound(recurrence.ends_at, zone) or (None, None)
    field = next(each for each in ("every_s", "rrule", "cron") if getattr(recurrence, each) is not None)
    try:
        pattern, until, count = _pattern(recurrence, start, zone)
    except RuleError as error:
        raise _invalid(f"{pointer}/recurrence/{field}", str(error)) from None
    assert schedule.strategy is not None, "checked before"
    ready = Occurrences(
        strategy=schedule.strategy,
        pattern=pattern,
        zone=zone,
        start=start,
        starts_at=starts_at,
        ends_at=min((each for each in (ends_at, until) if each is not None), default=None),
        count=min((each for each in (recurrence.count, count) if each is not None), default=None),
    )
    if ready.first(accepted_at) is None:
        raise _invalid(f"{pointer}/recurrence/{field}", "does not occur from now on")
    return ready


def _pattern(
    recurrence: Recurrence, start: datetime, zone: ZoneInfo
) -> tuple[int | Rule | str, float | None, int | None]:
    """What repeats, and the end and count that are part of it; RuleError says what is wrong."""
    if recurrence.every_s is not None:
        return recurrence.every_s, None, None
    if recurrence.rrule is not None:
        rule = parse(recurrence.rrule)
        of = zones.zone("UTC") if rule.until_is_utc else zone
        until = None if rule.until is None else zones.instant(rule.until, of)
        return rule.filled(start), until, rule.count
    expression = recurrence.cron or ""
    expression = MACROS.get(expression.strip().lower(), expression)
    if len(expression.split()) != 5:
        raise RuleError("has not five fields: minute, hour, day of the month, month, day of the week")
    try:
        CronSim(expression, start)
    except (CronSimError, ValueError, AssertionError) as error:
        raise RuleError(f"is no cron expression: {str(error)[:80] or 'a field is not understood'}") from None
    return expression, None, None


def _cron(expression: str, after: datetime) -> Iterator[datetime]:
    """The wall times of a cron expression after one, for as long as fifty years do not pass without any."""
    # Without a zone, so that gaps and overlaps are ours to settle, as they are for rules.
    yield from CronSim(expression, after)


def _bound(value: float | str | None, zone: ZoneInfo) -> tuple[datetime, float] | None:
    """A start or end as the zone's wall time and as an instant."""
    if value is None:
        return None
    at = as_instant(value)
    if at is not None:
        return zones.shown(at, zone), at
    wall = as_wall(value)
    assert wall is not None, "checked before"
    return wall, zones.instant(wall, zone)


def _invalid(pointer: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError("The recurrence is not valid", faults=[Fault(pointer, detail)])
