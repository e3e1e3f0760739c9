"""What an occurrence becomes: at which instants it is released, and to whom at each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from pushd.bitset import Bitset
from pushd.model.schedule import PastTimes, Schedule, Strategy, as_date, as_instant, as_wall
from pushd.model.time_zones import is_time_zone
from pushd.scheduler import zones
from pushd.scheduler.recurrence import GRACE_S

BATCH_S: Final = 60
NO_ZONE: Final = ""
"""The zone of devices that have none: the app's own stands in."""
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Everyone:
    """The whole audience."""


@dataclass(frozen=True, slots=True)
class InZones:
    """The devices of the audience in these time zones; `NO_ZONE` are those without one."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class AtHours:
    """The devices of the audience by preferred hour of their user and by zone: (hour, zones) of each hour."""

    zones_by_hour: tuple[tuple[int, frozenset[str]], ...]


Selector = Everyone | InZones | AtHours


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Some of an occurrence's devices, from one instant on."""

    at: float
    """UNIX seconds."""
    to: Selector
    batch: int = 0
    batches: int = 1
    """Of a release window: batch so many (from 0) of so many."""

    def expires_at(self, ttl_s: int) -> float:
        """UNIX seconds at which the life of this release's rows ends: it counts from its own instant."""
        return self.at + ttl_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The releases of an occurrence, ascending and of distinct instants, and whom its time has passed."""

    releases: tuple[Release, ...]
    passed: Selector | None = None
    """They are counted as suppressed."""


def plan(schedule: Schedule | None, *, names: Iterable[str], app_zone: str, now: float) -> Plan:
    """The releases of a send with a checked schedule that does not recur, accepted at `now`.

    `names` are the zones of the app's devices, `NO_ZONE` with them; a name that the database does not know counts as
    none.
    """
    if schedule is None or schedule.strategy in {None, Strategy.IMMEDIATE}:
        return Plan(releases=(Release(at=now, to=Everyone()),))
    assert schedule.send_at is not None, "checked before"
    ignore = schedule.past_times is not PastTimes.NEXT_DAY
    if schedule.strategy is Strategy.INTELLIGENT:
        day = as_date(schedule.send_at)
        assert day is not None, "checked before"
        return at_preferred_hours(day, names=names, app_zone=app_zone, now=now, ignore=ignore)
    wall = as_wall(schedule.send_at)
    if schedule.strategy is Strategy.LOCAL:
        assert wall is not None, "checked before"
        return at_local_time(wall, names=names, app_zone=app_zone, now=now, ignore=ignore)
    of = zones.zone(schedule.time_zone or "UTC")
    if wall is None:
        at = as_instant(schedule.send_at)
        assert at is not None, "checked before"
        wall = zones.shown(at, of)
        if at >= now - GRACE_S:
            return Plan(releases=(Release(at=max(at, now), to=Everyone()),))
    return _at_one(wall, of, now, ignore)


def recurring(schedule: Schedule, occurrence: float, *, names: Iterable[str], app_zone: str, now: float) -> Plan:
    """The releases of one occurrence of a checked schedule that recurs, looked at from `now`.

    Where devices go by their own clocks the occurrence is that of UTC's clocks (`recurrence.Occurrences`).
    """
    ignore = schedule.past_times is not PastTimes.NEXT_DAY
    wall = zones.utc_wall(occurrence)
    if schedule.strategy is Strategy.LOCAL:
        return at_local_time(wall, names=names, app_zone=app_zone, now=now, ignore=ignore)
    if schedule.strategy is Strategy.INTELLIGENT:
        return at_preferred_hours(wall.date(), names=names, app_zone=app_zone, now=now, ignore=ignore)
    return Plan(releases=(Release(at=occurrence, to=Everyone()),))


def _at_one(wall: datetime, of: ZoneInfo, now: float, ignore: bool) -> Plan:
    at = zones.instant(wall, of)
    if at < now - GRACE_S:
        if ignore:
            return Plan(releases=(), passed=Everyone())
        at = _next_day(wall, of, now)
    return Plan(releases=(Release(at=max(at, now), to=Everyone()),))


def _next_day(wall: datetime, of: ZoneInfo, now: float) -> float:
    """The instant of the wall time on the first day after its own on which it is still to come."""
    days = max(1, (zones.shown(now, of).date() - wall.date()).days)
    while (at := zones.instant(wall + days * _DAY, of)) < now:
        days += 1
    return at


def at_local_time(wall: datetime, *, names: Iterable[str], app_zone: str, now: float, ignore: bool) -> Plan:
    """One release for each distinct instant at which a zone's clocks show the wall time."""
    found: dict[float, set[str]] = defaultdict(set)
    passed: set[str] = set()
    for name in {*names, NO_ZONE}:
        of = _zone(name, app_zone)
        at = zones.instant(wall, of)
        if at >= now - GRACE_S:
            found[max(at, now)].add(name)
        elif ignore:
            passed.add(name)
        else:
            found[_next_day(wall, of, now)].add(name)
    releases = tuple(Release(at=at, to=InZones(frozenset(found[at]))) for at in sorted(found))
    return Plan(releases=releases, passed=InZones(frozenset(passed)) if passed else None)


def reached(wall: datetime, *, names: Iterable[str], app_zone: str, at: float) -> frozenset[str]:
    """The zones whose clocks have shown the wall time by an instant.

    A release goes to all of them, less whoever had it or was passed: so a device that moves east between two releases
    is not left out, and one that moves west has it once.
    """
    return frozenset(name for name in {*names, NO_ZONE} if zones.instant(wall, _zone(name, app_zone)) <= at)


def at_preferred_hours(day: date, *, names: Iterable[str], app_zone: str, now: float, ignore: bool) -> Plan:
    """One release for each distinct instant at which some zone's preferred hour of the day begins, or goes on.

    An hour is past when it is over; devices whose hour is past are ignored, or have it at that hour of the next day.
    """
    found: _Hours = defaultdict(lambda: defaultdict(set))
    passed: dict[int, set[str]] = defaultdict(set)
    for begins, group in _alike(day, names, app_zone).items():
        for hour in range(24):
            if begins[hour + 1] > now:
                found[max(begins[hour], now)][hour] |= group
            elif ignore:
                passed[hour] |= group
            else:
                for name in group:
                    wall = datetime.combine(day, time(hour))
                    found[_next_day(wall, _zone(name, app_zone), now)][hour].add(name)
    return Plan(releases=_by_hour(found), passed=_at_hours(passed) if passed else None)


def as_soon_as_preferred(*, names: Iterable[str], app_zone: str, now: float) -> Plan:
    """One release for each distinct instant from `now` on at which a zone comes to a preferred hour, or is in it."""
    found: _Hours = defaultdict(lambda: defaultdict(set))
    left = [(name, zones.shown(now, _zone(name, app_zone)).date()) for name in {*names, NO_ZONE}]
    for today in {day for _, day in left}:
        here = [name for name, day in left if day == today]
        for begins, group in _alike(today, here, app_zone, only=True).items():
            tomorrow = _alike(today + _DAY, group, app_zone, only=True)
            for hour in range(24):
                if begins[hour + 1] > now:
                    found[max(begins[hour], now)][hour] |= group
                    continue
                for next_begins, names_alike in tomorrow.items():
                    found[next_begins[hour]][hour] |= names_alike
    return Plan(releases=_by_hour(found))


def _alike(day: date, names: Iterable[str], app_zone: str, *, only: bool = False) -> dict[tuple[float, ...], set[str]]:
    """Zones by the instants at which the hours of a day begin there, the next day's first among them.

    `only` these, else `NO_ZONE` too.
    """
    found: dict[tuple[float, ...], set[str]] = defaultdict(set)
    for name in set(names) if only else {*names, NO_ZONE}:
        found[_hours(day, _zone(name, app_zone))].add(name)
    return found


def _hours(day: date, of: ZoneInfo) -> tuple[float, ...]:
    begin = datetime.combine(day, time())
    first, last = zones.instant(begin, of), zones.instant(begin + _DAY, of)
    if last - first == 24 * 3600:  # no zone's clocks change twice in a day
        return tuple(first + hour * 3600 for hour in range(25))
    return tuple(zones.instant(begin + hour * _HOUR, of) for hour in range(25))


_Hours = dict[float, dict[int, set[str]]]


def _by_hour(found: _Hours) -> tuple[Release, ...]:
    return tuple(Release(at=at, to=_at_hours(found[at])) for at in sorted(found))


def _at_hours(names: dict[int, set[str]]) -> AtHours:
    return AtHours(tuple((hour, frozenset(names[hour])) for hour in sorted(names)))


def _zone(name: str, app_zone: str) -> ZoneInfo:
    return zones.zone(name if name and is_time_zone(name) else app_zone)


def window(release: Release, minutes: int | None) -> Iterator[Release]:
    """The batches of a release window, one a minute from its instant on; the release itself without a window."""
    for batch in range(minutes or 1):
        yield replace(release, at=release.at + batch * BATCH_S, batch=batch, batches=minutes or 1)


Set = TypeVar("Set", bound=Bitset)


def part(ids: Set, batch: int, batches: int) -> Set:
    """One of so many equal parts of a set, by rank: sizes differ by one at most, and together they are the set.

    The set is the one that was resolved when the window began; the same set gives the same parts.
    """
    begin, end = batch * len(ids) // batches, (batch + 1) * len(ids) // batches
    if begin == end:
        return type(ids)()
    return ids & type(ids)(range(ids[begin], ids[end - 1] + 1))
