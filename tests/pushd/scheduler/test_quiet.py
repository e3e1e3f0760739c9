"""Quiet hours: in any zone, across midnight and changes of clocks, one by one and in columns."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.model.quiet import Policy, QuietHours, check, pack, unpack
from pushd.scheduler import quiet, zones
from pushd.scheduler.quiet import Drop, Go, Hold, decide, ends

NIGHT = QuietHours(from_minute=22 * 60, to_minute=7 * 60)
LUNCH = QuietHours(from_minute=12 * 60, to_minute=13 * 60 + 30)


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("now", "zone", "quiets", "until"),
    [
        ("2026-11-21T21:59:59+01:00", "Europe/Berlin", [NIGHT], None),
        ("2026-11-21T22:00:00+01:00", "Europe/Berlin", [NIGHT], "2026-11-22T07:00+01:00"),
        ("2026-11-21T22:00:00+01:00", "Asia/Kolkata", [NIGHT], "2026-11-22T07:00+05:30"),
        ("2026-11-22T06:59:59+01:00", "Europe/Berlin", [NIGHT], "2026-11-22T07:00+01:00"),
        ("2026-11-22T07:00:00+01:00", "Europe/Berlin", [NIGHT], None),
        ("2026-11-22T12:10:00+01:00", "Europe/Berlin", [NIGHT, LUNCH], "2026-11-22T13:30+01:00"),
        ("2026-11-22T12:10:00+01:00", "Europe/Berlin", [], None),
        # Nights of 8 and 10 hours.
        ("2026-03-28T23:00:00+01:00", "Europe/Berlin", [NIGHT], "2026-03-29T07:00+02:00"),
        ("2026-10-24T23:00:00+02:00", "Europe/Berlin", [NIGHT], "2026-10-25T07:00+01:00"),
        # An end that is skipped, a begin that is skipped, an end that comes twice.
        (
            "2026-03-29T01:00:00+01:00",
            "Europe/Berlin",
            [QuietHours(from_minute=0, to_minute=150)],
            "2026-03-29T03:00+02:00",
        ),
        (
            "2026-03-29T03:00:00+02:00",
            "Europe/Berlin",
            [QuietHours(from_minute=150, to_minute=240)],
            "2026-03-29T04:00+02:00",
        ),
        ("2026-10-25T02:15:00+01:00", "Europe/Berlin", [QuietHours(from_minute=0, to_minute=150)], None),
        # A day that was left out.
        ("2011-12-29T23:00:00-10:00", "Pacific/Apia", [NIGHT], "2011-12-31T07:00+14:00"),
        # What follows on is waited for too.
        (
            "2026-11-22T06:00:00+00:00",
            "UTC",
            [NIGHT, QuietHours(from_minute=420, to_minute=480)],
            "2026-11-22T08:00+00:00",
        ),
    ],
)
def test_until_when_it_is_quiet(now, zone, quiets, until):
    assert ends(quiets, at(now), ZoneInfo(zone)) == (None if until is None else at(until))


def test_hold_or_drop_and_what_is_exempt():
    night, zone = at("2026-11-21T23:00+01:00"), ZoneInfo("Europe/Berlin")
    assert decide([NIGHT], night, zone) == Hold(at("2026-11-22T07:00+01:00"))
    assert decide([NIGHT], night, zone, policy=Policy.DROP) == Drop()
    assert decide([NIGHT], night, zone, policy=Policy.DROP, transactional=True) == Go()
    assert decide([NIGHT], night + 10 * 3600, zone, policy=Policy.DROP) == Go()


def test_a_day_has_to_have_other_hours():
    fault = check(QuietHours(from_minute=60, to_minute=60), "/settings/quiet_hours")
    assert [each.pointer for each in fault] == ["/settings/quiet_hours/to_minute"]
    assert check(NIGHT, "") == []


MINUTE = st.integers(0, 1439)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Asia/Beirut",
]


@settings(max_examples=400)
@given(MINUTE, MINUTE, st.integers(0, 40 * 31_557_600), st.sampled_from(ZONES))
def test_quiet_is_what_the_clock_says(begin, end, seconds, name):
    if begin == end:
        return
    zone, hours = ZoneInfo(name), QuietHours(from_minute=begin, to_minute=end)
    found = ends([hours], seconds, zone)
    shown = zones.shown(seconds, zone)
    minute = shown.hour * 60 + shown.minute
    by_clock = begin <= minute < end if begin < end else minute >= begin or minute < end
    steady = {shown + timedelta(hours=step) for step in range(-25, 26)} == {
        zones.shown(seconds + step * 3600, zone) for step in range(-25, 26)
    }
    if steady:  # no change of clocks near
        assert (found is not None) == by_clock
    if found is not None:
        assert seconds < found <= seconds + 86_400 + 3600
        assert ends([hours], found, zone) is None
        assert ends([hours], found - 1, zone) == found


@settings(max_examples=60)
@given(
    st.lists(st.tuples(MINUTE, MINUTE) | st.none(), min_size=1, max_size=30),
    st.tuples(MINUTE, MINUTE) | st.none(),
    st.integers(0, 40 * 31_557_600),
    st.sampled_from([0.0, 0.25, 0.999]),
    st.sampled_from(ZONES),
)
def test_columns_say_what_rows_say(own, app, seconds, fraction, name):
    zone, now = ZoneInfo(name), seconds + fraction
    hours = [None if each is None else QuietHours(from_minute=each[0], to_minute=each[1]) for each in [*own, app]]
    *users, apps = [None if each is not None and each.from_minute == each.to_minute else each for each in hours]
    column = quiet.holds(np.array([pack(each) for each in users], np.uint32), apps, now, zone)
    for until, each in zip(column.tolist(), users, strict=True):
        given_ = [one for one in (each, apps) if one is not None]
        assert until == (ends(given_, now, zone) or 0)


@pytest.mark.parametrize("name", ZONES)
def test_columns_are_right_around_every_change_of_clocks(name):
    """Every hour of three weeks around the changes of a year."""
    zone, users = ZoneInfo(name), [None, NIGHT, LUNCH, QuietHours(from_minute=0, to_minute=150)]
    packed = np.array([pack(each) for each in users], np.uint32)
    start = at("2026-01-01T00:00+00:00")
    offsets = [zones.offset(start + hour * 3600, zone) for hour in range(366 * 24)]
    changes = [hour for hour in range(1, len(offsets)) if offsets[hour] != offsets[hour - 1]] or [0]
    for change in changes:
        for hour in range(change - 11 * 24, change + 3 * 24, 5):
            now = start + hour * 3600 + 60 * (hour % 60)
            for app in (None, NIGHT):
                column = quiet.holds(packed, app, now, zone).tolist()
                assert column == [
                    ends([one for one in (each, app) if one is not None], now, zone) or 0 for each in users
                ]


def test_quiet_hours_are_a_number_and_back():
    for each in (None, NIGHT, LUNCH, QuietHours(from_minute=0, to_minute=1), QuietHours(from_minute=1439, to_minute=0)):
        assert unpack(pack(each)) == each
        assert 0 <= pack(each) < 1 << 21
