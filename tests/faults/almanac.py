"""The almanac: when schedules occur, worked out beside pushd: by dateutil's rules and Python's own zones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

MINUTE = timedelta(minutes=1)
GRACE_S = 60


def shown(at, zone):
    """What clocks show at an instant, without a zone."""
    return datetime.fromtimestamp(at, ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def instant(wall, zone):
    """The first instant at which a zone's clocks show a wall time or a later one: asked minute by minute in a gap."""
    first = wall.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    if first.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) == wall:
        return first.timestamp()
    probe = (first - timedelta(hours=4)).replace(second=0, microsecond=0)
    while shown(probe.timestamp(), zone) < wall:
        probe += MINUTE
    return probe.timestamp()


@dataclass(frozen=True)
class Entry:
    """What was asked of pushd, and when the almanac has it go out."""

    title: str
    body: dict
    """What the send says beside its audience and message."""
    times: list
    """Instants of occurrences; by phone where each goes by its own clock: (occurrence, phone, instant)."""
    by_phone: bool = False
    within_s: float = 3_600
    """How late an occurrence may be after nobody was there."""
    window: int = 0


def instants(begin, end, *, rule, zone="UTC", start, count=None):
    """Occurrences of a rule by one zone's clocks, strictly ascending."""
    walls = rrulestr(rule, dtstart=start).between(start - timedelta(seconds=1), shown(end, zone) + timedelta(days=2))
    found = sorted({instant(wall, zone) for wall in walls if wall >= start})
    found = [at for at in found if at >= begin - GRACE_S]
    return [at for at in (found[:count] if count else found) if at <= end]


def periods(begin, end, *, every_s, start, count=None):
    """Occurrences so many seconds apart."""
    found = [start + number * every_s for number in range(int((end - start) // every_s) + 1)]
    found = [at for at in found if at >= begin - GRACE_S]
    return found[:count] if count else found


def by_phones(begin, end, walls, phones, app_zone, hour=None):
    """(occurrence, phone, instant) of wall times, or days, by the clock of each phone."""
    found = []
    for wall in walls:
        for phone, zone in phones.items():
            at = instant(wall if hour is None else wall.replace(hour=hour), zone or app_zone)
            if begin - GRACE_S <= at <= end:
                found.append((wall, phone, at))
    return found
