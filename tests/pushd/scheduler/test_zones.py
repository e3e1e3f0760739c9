"""Wall time to instant: the documented rule for gaps and overlaps, in a dozen zones and in all, against their files."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from calendar import Calendar
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from io import BytesIO
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.errors import InvalidRequestError
from pushd.scheduler import zones


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("name", "wall", "instant"),
    [
        # Gaps: the first instant after them.
        ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T03:00+02:00"),
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T03:00+02:00"),
        ("Europe/Berlin", "2026-03-29T02:59:59", "2026-03-29T03:00+02:00"),
        ("Europe/Berlin", "2026-03-29T03:00", "2026-03-29T03:00+02:00"),
        ("America/New_York", "2026-03-08T02:15", "2026-03-08T03:00-04:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-04T02:30+11:00"),
        ("Pacific/Auckland", "2026-09-27T02:30", "2026-09-27T03:00+13:00"),
        ("America/Santiago", "2026-09-06T00:30", "2026-09-06T01:00-03:00"),
        ("Asia/Beirut", "2026-03-29T00:10", "2026-03-29T01:00+03:00"),
        ("Africa/Cairo", "2026-04-24T00:00", "2026-04-24T01:00+03:00"),
        ("Pacific/Apia", "2011-12-30T00:00", "2011-12-31T00:00+14:00"),
        ("Pacific/Apia", "2011-12-30T15:00", "2011-12-31T00:00+14:00"),
        ("Pacific/Kwajalein", "1993-08-21T12:00", "1993-08-22T00:00+12:00"),
        ("Africa/Monrovia", "1972-01-07T00:20", "1972-01-07T00:44:30+00:00"),
        # Overlaps: the first of the two.
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T02:30+02:00"),
        ("Europe/Berlin", "2026-10-25T03:00", "2026-10-25T03:00+01:00"),
        ("America/Sao_Paulo", "2019-02-16T23:30", "2019-02-16T23:30-02:00"),
        ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-05T01:45+11:00"),
        ("Europe/Dublin", "2026-10-25T01:30", "2026-10-25T01:30+01:00"),
        ("America/Havana", "2026-11-01T00:30", "2026-11-01T00:30-04:00"),
        # Neither.
        ("Asia/Kolkata", "2026-03-29T02:30", "2026-03-29T02:30+05:30"),
        ("Asia/Kathmandu", "2026-11-21T09:00", "2026-11-21T09:00+05:45"),
        ("Pacific/Chatham", "2026-07-01T12:00", "2026-07-01T12:00+12:45"),
        ("America/St_Johns", "2026-07-01T12:00", "2026-07-01T12:00-02:30"),
        ("Etc/GMT+12", "2026-07-01T12:00", "2026-07-01T12:00-12:00"),
        ("UTC", "2096-02-29T23:59:59", "2096-02-29T23:59:59+00:00"),
    ],
)
def test_the_documented_rule(name, wall, instant):
    found = zones.instant(datetime.fromisoformat(wall), zones.zone(name))
    assert datetime.fromtimestamp(found, UTC).isoformat() == datetime.fromtimestamp(at(instant), UTC).isoformat()


FOOTER = re.compile(r"(?:[A-Za-z]+|<[^>]+>)([-+\d:]+)(?:(?:[A-Za-z]+|<[^>]+>)([-+\d:]*),([^,]+),([^,]+))?")


def seconds(text):
    """Of [+-]hh[:mm[:ss]]."""
    hours, minutes, rest = [*map(int, text.lstrip("+-").split(":")), 0, 0][:3]
    return (-1 if text.startswith("-") else 1) * (hours * 3600 + minutes * 60 + rest)


def turn(text, year):
    """When a rule's change comes, as seconds of a clock that shows the offset before it."""
    day, _, at = text.partition("/")
    if day.startswith("M"):
        month, week, weekday = map(int, day[1:].split("."))
        days = [each[weekday] for each in Calendar(6).monthdatescalendar(year, month) if each[weekday].month == month]
        date = days[-1] if week == 5 else days[week - 1]
    elif day.startswith("J"):  # 29 February never counts
        date = datetime(2025, 1, 1).date() + timedelta(days=int(day[1:]) - 1)
        date = date.replace(year=year)
    else:
        date = datetime(year, 1, 1).date() + timedelta(days=int(day))
    return (date - datetime(1970, 1, 1).date()).days * 86_400 + seconds(at or "2")


class File:
    """A zone's file (RFC 9636), read by hand: instants of changes up to 2040, and the offset from each on."""

    def __init__(self, data):
        first = struct.unpack(">6l", data[20:44])
        utc, standard, leaps, times, types, letters = first
        second = 44 + times * 5 + types * 6 + letters + leaps * 8 + standard + utc
        _, _, _, times, types, _ = struct.unpack(">6l", data[second + 20 : second + 44])
        at = second + 44
        self.changes = list(struct.unpack(f">{times}q", data[at : at + 8 * times]))
        kinds = data[at + 8 * times : at + 9 * times]
        at += 9 * times
        offsets = [struct.unpack(">l", data[at + 6 * each : at + 6 * each + 4])[0] for each in range(types)]
        self.offsets = [offsets[0], *(offsets[kind] for kind in kinds)]
        self.go_on(data.rstrip(b"\n").rsplit(b"\n", 1)[1].decode())

    def go_on(self, footer):
        """Adds the changes of the rule at the file's end: `EET-2EEST,M3.5.0/3,M10.5.0/4`."""
        found = FOOTER.fullmatch(footer)
        assert found, footer
        standard, summer, begin, end = found.groups()
        if begin is None:
            return
        winter_s = -seconds(standard)
        summer_s = -seconds(summer) if summer else winter_s + 3600
        listed = self.changes[-1] if self.changes else -(2**62)
        for year in range(1970, 2041):
            yearly = [(turn(begin, year) - winter_s, summer_s), (turn(end, year) - summer_s, winter_s)]
            for change, offset in sorted(yearly):
                if change > listed:
                    self.changes.append(change)
                    self.offsets.append(offset)

    def first(self, wall):
        """The first instant that shows a wall time or a later one: the least of all stretches between changes."""
        elapsed = (wall - datetime(1970, 1, 1)) // timedelta(seconds=1)
        begins, ends = [-(2**62), *self.changes], [*self.changes, 2**62]
        stretches = zip(begins, ends, self.offsets, strict=True)
        found = (max(begin, elapsed - offset) for begin, end, offset in stretches if elapsed - offset < end)
        return min(found)

    def shown(self, instant):
        offset = self.offsets[bisect_right(self.changes, instant)]
        return datetime(1970, 1, 1) + timedelta(seconds=instant + offset)


@cache
def both(name):
    """A zone of the package, as the library reads it and as we do."""
    data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    return ZoneInfo.from_file(BytesIO(data), name), File(data)


NAMES = resources.files("tzdata").joinpath("zones").read_text().split()
CHANGING = [name for name in NAMES if any(each > 0 for each in both(name)[1].changes)]
WALLS = st.datetimes(datetime(1900, 1, 1), datetime(2037, 6, 1)).map(lambda wall: wall.replace(microsecond=0))


@settings(max_examples=600)
@given(st.sampled_from(NAMES), WALLS)
def test_any_wall_time_of_any_zone_is_the_first_instant_that_shows_it_or_a_later_one(name, wall):
    of, file = both(name)
    assert zones.instant(wall, of) == file.first(wall)


@settings(max_examples=600)
@given(st.data(), st.sampled_from(CHANGING), st.integers(-4 * 3600, 4 * 3600))
def test_wall_times_around_changes(data, name, away):
    of, file = both(name)
    change = data.draw(st.sampled_from([each for each in file.changes if each > 0]))
    wall = file.shown(change) + timedelta(seconds=away)
    assert zones.instant(wall, of) == file.first(wall)


def test_every_change_of_every_zone():
    assert len(CHANGING) > 300
    for name in CHANGING:
        of, file = both(name)
        for change in file.changes[-12:]:
            for wall in (file.shown(change), file.shown(change - 1), file.shown(change) - timedelta(minutes=29)):
                assert zones.instant(wall, of) == file.first(wall), (name, wall)


def test_no_zones_clocks_change_twice_in_a_day():
    """Planning preferred hours takes a day of 24 hours for one without changes."""
    for name in NAMES:
        changes = [each for each in both(name)[1].changes if each > 0]
        assert all(after - before > 26 * 3600 for before, after in pairwise(changes)), name


@settings(max_examples=300)
@given(st.sampled_from(NAMES), WALLS, st.integers(0, 2 * 86_400))
def test_later_wall_times_are_never_earlier_instants(name, wall, seconds):
    of, _ = both(name)
    assert zones.instant(wall, of) <= zones.instant(wall + timedelta(seconds=seconds), of)


@pytest.mark.parametrize("name", ["", "Europe/berlin", "Mars/Base", "../etc/passwd", "Europe/Berlin\0", "posixrules"])
def test_names_that_are_none(name):
    with pytest.raises(InvalidRequestError) as caught:
        zones.zone(name)
    assert caught.value.faults[0].pointer == "/time_zone"


def test_the_database_says_what_it_is():
    found = zones.database()
    assert found.source in {"system", "tzdata"}
    assert found.version[:4].isdigit()
    assert found.version[4:].isalpha()


def test_the_package_stands_in_for_the_systems(monkeypatch):
    monkeypatch.setattr(zones, "TZPATH", ())
    zones.database.cache_clear()
    try:
        assert zones.database().source == "tzdata"
        assert int(zones.database().version[:4]) >= 2025
    finally:
        zones.database.cache_clear()
