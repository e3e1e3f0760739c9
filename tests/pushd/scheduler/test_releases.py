"""What an occurrence becomes: zone by zone, hour by hour, batch by batch, what its time has passed; everyone once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.model.schedule import PastTimes, Schedule
from pushd.scheduler import releases, zones
from pushd.scheduler.releases import AtHours, Everyone, InZones, plan

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()
DAY = 86_400
NAMES = [
    "Africa/Cairo", "America/Anchorage", "America/Argentina/Buenos_Aires", "America/Caracas", "America/Chicago",
    "America/Denver", "America/Halifax", "America/Havana", "America/Los_Angeles", "America/New_York",
    "America/Noronha", "America/Santiago", "America/Sao_Paulo", "America/St_Johns", "Asia/Dhaka", "Asia/Dubai",
    "Asia/Kabul", "Asia/Karachi", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran", "Asia/Tokyo", "Asia/Yangon",
    "Atlantic/Azores", "Australia/Adelaide", "Australia/Brisbane", "Australia/Eucla", "Australia/Lord_Howe",
    "Europe/Berlin", "Europe/London", "Europe/Moscow", "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham",
    "Pacific/Honolulu", "Pacific/Kiritimati", "Pacific/Marquesas", "Pacific/Pago_Pago",
]  # fmt: skip


def said(strategy, send_at=None, past_times="ignore", **others):
    return msgspec.convert({"strategy": strategy, "send_at": send_at, "past_times": past_times} | others, Schedule)


def planned(schedule, names=(), app_zone="Europe/Berlin", now=NOW):
    return plan(schedule, names=names, app_zone=app_zone, now=now)


def local(instant, name):
    return datetime.fromtimestamp(instant, ZoneInfo(name)).strftime("%m-%d %H:%M")


def test_immediately():
    for schedule in (None, Schedule(strategy="immediate")):
        (only,) = planned(schedule).releases
        assert (only.at, only.to) == (NOW, Everyone())


@pytest.mark.parametrize(
    ("schedule", "ahead_s"),
    [
        (said("utc", NOW + 90.5), 90.5),
        (said("utc", "2026-11-21T13:00:00+00:00"), 3600),
        (said("utc", "2026-11-21 13:00"), 3600),
        (said("timezone", "2026-11-21T18:00", time_zone="Asia/Kolkata"), 1800),
        (said("utc", NOW - 59), 0),
        (said("utc", "2026-11-21T12:00"), 0),
    ],
)
def test_one_instant_for_all(schedule, ahead_s):
    found = planned(schedule)
    assert [(each.at, each.to) for each in found.releases] == [(NOW + ahead_s, Everyone())]
    assert found.passed is None


@pytest.mark.parametrize(
    ("schedule", "next_at"),
    [
        (said("utc", NOW - 61), NOW - 61 + DAY),
        (said("utc", "2026-11-21T11:00"), NOW + 23 * 3600),
        (said("utc", "2026-11-01T11:00"), NOW + 23 * 3600),
        (said("utc", "2026-11-01T13:00"), NOW + 3600),
        (said("timezone", "2026-11-21T17:00", time_zone="Asia/Kolkata"), NOW + 23.5 * 3600),
    ],
)
def test_past_times_are_ignored_or_the_next_days(schedule, next_at):
    assert planned(schedule).releases == ()
    assert planned(schedule).passed == Everyone()
    (only,) = planned(msgspec.structs.replace(schedule, past_times=PastTimes.NEXT_DAY)).releases
    assert only.at == next_at


def test_local_time_goes_out_zone_by_zone():
    wall = "2026-11-22T09:00"
    found = planned(said("local", wall), NAMES)
    assert found.passed is None
    reached = [name for each in found.releases for name in each.to.names]
    assert sorted(reached) == sorted([*NAMES, ""])
    assert [each.at for each in found.releases] == sorted({each.at for each in found.releases})
    assert len(found.releases) > 24
    for each in found.releases:
        assert {local(each.at, name or "Europe/Berlin") for name in each.to.names} == {"11-22 09:00"}
    assert found.releases[0].to == InZones(frozenset({"Pacific/Kiritimati"}))
    assert found.releases[-1].to == InZones(frozenset({"Pacific/Pago_Pago"}))
    assert {"", "Europe/Berlin"} <= next(each.to.names for each in found.releases if "" in each.to.names)


def test_zones_that_the_time_has_passed():
    names = ["Pacific/Auckland", "Asia/Tokyo", "America/New_York", "Nowhere/Known"]
    found = planned(said("local", "2026-11-21T14:00"), names)
    by_zone = {name: each.at for each in found.releases for name in each.to.names}
    # It is 13:00 in Berlin, and so for those without a zone, or with one that nobody knows.
    assert by_zone == {"": NOW + 3600, "Nowhere/Known": NOW + 3600, "America/New_York": NOW + 7 * 3600}
    assert found.passed == InZones(frozenset({"Pacific/Auckland", "Asia/Tokyo"}))
    tomorrow = planned(said("local", "2026-11-21T14:00", "next_day"), names)
    by_zone = {name: local(each.at, name) for each in tomorrow.releases for name in each.to.names if name in names[:3]}
    # In Auckland it is the 22nd already.
    assert by_zone == {
        "Pacific/Auckland": "11-22 14:00",
        "Asia/Tokyo": "11-22 14:00",
        "America/New_York": "11-21 14:00",
    }
    assert tomorrow.passed is None


def test_a_local_time_in_a_gap():
    found = planned(said("local", "2027-03-28T02:30"), ["Europe/Berlin", "Africa/Lagos"], app_zone="UTC")
    by_zone = {name: local(each.at, name) for each in found.releases for name in each.to.names if name}
    assert by_zone == {"Europe/Berlin": "03-28 03:00", "Africa/Lagos": "03-28 02:30"}
    # Berlin is half an hour ahead of Lagos then, not an hour.
    assert found.releases[1].at - found.releases[0].at == 1800


def test_who_has_been_reached_is_cumulative():
    wall = datetime(2026, 11, 22, 9)
    found = planned(said("local", "2026-11-22T09:00"), NAMES)
    seen: set[str] = set()
    for each in found.releases:
        seen |= each.to.names
        assert releases.reached(wall, names=NAMES, app_zone="Europe/Berlin", at=each.at) == seen


ZONES = st.sets(st.sampled_from(NAMES), max_size=8)
WALLS = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)).map(lambda wall: wall.replace(second=0, microsecond=0))


@settings(max_examples=200)
@given(ZONES, WALLS, st.integers(-40 * 60, 40 * 60), st.sampled_from(["ignore", "next_day"]))
def test_every_zone_has_one_instant_or_was_passed(names, wall, minutes, past_times):
    now = wall.replace(tzinfo=UTC).timestamp() + minutes * 60
    found = planned(said("local", wall.isoformat(), past_times), names, now=now)
    counted = Counter(name for each in found.releases for name in each.to.names)
    passed = found.passed.names if found.passed else frozenset()
    assert set(counted) | passed == names | {""}
    assert not set(counted) & passed
    assert set(counted.values()) <= {1}
    assert all(before.at < after.at for before, after in pairwise(found.releases))
    for each in found.releases:
        assert now <= each.at
        for name in each.to.names:
            due = zones.instant(wall, ZoneInfo(name or "Europe/Berlin"))
            days = round((each.at - due) / DAY)
            assert abs(each.at - due - days * DAY) <= 3600  # but for a change of clocks
            assert past_times == "next_day" or days == 0
            assert days == 0 or due < now
    for name in passed:
        assert zones.instant(wall, ZoneInfo(name or "Europe/Berlin")) < now - releases.GRACE_S


def every(found):
    return [(name, hour, each.at) for each in found.releases for hour, names in each.to.zones_by_hour for name in names]


def test_each_preferred_hour_of_a_day():
    found = planned(said("intelligent", "2026-11-23"), ["Asia/Kolkata", "America/New_York"])
    rows = every(found)
    assert len(rows) == 3 * 24 == len({(name, hour) for name, hour, _ in rows})
    for name, hour, at in rows:
        assert local(at, name or "Europe/Berlin") == f"11-23 {hour:02}:00"
    assert found.passed is None


def test_a_preferred_hour_is_past_when_it_is_over():
    # 12:20 UTC: in London the hour of 12 is running, that of 11 is over.
    now = NOW + 1200
    found = planned(said("intelligent", "2026-11-21"), ["Europe/London"], "Europe/London", now)
    hours = {hour: at for name, hour, at in every(found) if name}
    assert hours[12] == now
    assert min(hours) == 12
    names = frozenset({"", "Europe/London"})
    assert found.passed == AtHours(tuple((hour, names) for hour in range(12)))
    next_day = planned(said("intelligent", "2026-11-21", "next_day"), ["Europe/London"], "Europe/London", now)
    hours = {hour: local(at, "Europe/London") for name, hour, at in every(next_day) if name}
    assert hours[11] == "11-22 11:00"
    assert next_day.passed is None


@settings(max_examples=100)
@given(st.sampled_from(sorted(available_timezones())), st.dates(date(1995, 1, 1), date(2040, 1, 1)))
def test_the_hours_of_any_day_anywhere(name, day):
    found = planned(said("intelligent", day.isoformat()), [name], app_zone="UTC", now=0.0)
    midnight = datetime.combine(day, datetime.min.time())
    for _, hour, at in [each for each in every(found) if each[0]]:
        assert at == zones.instant(midnight + timedelta(hours=hour), ZoneInfo(name))


@settings(max_examples=60)
@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=4), st.integers(0, 2 * 31_557_600))
def test_as_soon_as_preferred_is_within_a_day(names, later):
    now = NOW + later
    found = releases.as_soon_as_preferred(names=names, app_zone="UTC", now=now)
    rows = every(found)
    assert len(rows) == (len(names) + 1) * 24
    for name, hour, at in rows:
        assert now <= at <= now + DAY + 2 * 3600
        shown = zones.shown(at, ZoneInfo(name or "UTC"))
        assert shown.hour == hour or (
            at - zones.instant(shown.replace(hour=hour, minute=0), ZoneInfo(name or "UTC")) == 0
        )


def test_an_occurrence_of_a_recurrence():
    schedule = said("local", recurrence={"cron": "0 9 * * *"})
    occurrence = datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp()
    found = releases.recurring(schedule, occurrence, names=["Asia/Tokyo"], app_zone="UTC", now=NOW)
    assert [(local(each.at, "Asia/Tokyo"), each.to.names) for each in found.releases] == [
        ("11-23 09:00", {"Asia/Tokyo"}),
        ("11-23 18:00", {""}),
    ]
    once = releases.recurring(said("utc", recurrence={"every_s": 60}), NOW + 60, names=[], app_zone="UTC", now=NOW)
    assert [(each.at, each.to) for each in once.releases] == [(NOW + 60, Everyone())]


@pytest.mark.parametrize("minutes", [60, 97, 1440])
def test_a_window_has_a_batch_a_minute_and_each_its_own_life(minutes):
    (whole,) = planned(said("utc", NOW + 60)).releases
    batches = list(releases.window(whole, minutes))
    assert [each.at for each in batches] == [NOW + 60 + 60 * number for number in range(minutes)]
    assert {each.batches for each in batches} == {minutes}
    assert batches[7].expires_at(300) == NOW + 60 + 7 * 60 + 300
    assert batches[7].expires_at(0) == batches[7].at
    assert list(releases.window(whole, None)) == [whole]


@settings(max_examples=100)
@given(st.sets(st.integers(0, 2**32 - 1), max_size=500), st.sampled_from([1, 2, 7, 60, 97, 1440]))
def test_parts_are_equal_and_together_the_whole(ids, batches):
    whole = Devices(ids)
    parts = [releases.part(whole, batch, batches) for batch in range(batches)]
    assert all(type(each) is Devices for each in parts)
    assert sum(len(each) for each in parts) == len(ids)
    assert Devices.union(Devices(), *parts) == whole
    sizes = {len(each) for each in parts}
    assert max(sizes) - min(sizes) <= 1
    assert parts == [releases.part(whole.copy(), batch, batches) for batch in range(batches)]


def test_a_million_devices_in_batches():
    whole = Devices.of(np.arange(65_536, 3_065_536, 3, dtype=np.uint32))
    sizes = [len(releases.part(whole, batch, 1440)) for batch in range(1440)]
    assert sum(sizes) == 1_000_000
    assert set(sizes) == {694, 695}


def test_a_device_that_changes_zone_between_releases_has_it_once():
    """The way a runner uses it: all that was reached, less whoever had it."""
    wall = datetime(2026, 11, 22, 9)
    found = planned(said("local", "2026-11-22T09:00"), NAMES)
    rng = np.random.default_rng(6)
    zone_of = {device: NAMES[int(rng.integers(len(NAMES)))] for device in range(500)}
    had: Counter[int] = Counter()
    for each in found.releases:
        for device in rng.integers(0, 500, 40).tolist():  # they travel
            zone_of[device] = NAMES[int(rng.integers(len(NAMES)))]
        reached = releases.reached(wall, names=NAMES, app_zone="Europe/Berlin", at=each.at)
        had.update(device for device, name in zone_of.items() if name in reached and not had[device])
    assert set(had.values()) == {1}
    assert len(had) == 500
    assert found.releases[-1].at - found.releases[0].at == timedelta(hours=25).total_seconds()
