"""What comes next: periods, rules and cron in zones, across changes of clocks, counted, bounded, and gone on with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.errors import InvalidRequestError
from pushd.model.schedule import Schedule, check
from pushd.model.schedule import When as Time
from pushd.scheduler import zones
from pushd.scheduler.recurrence import EAST_S, NEXT_MAX, WEST_S, prepare

ACCEPTED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def recurring(strategy="utc", *, accepted_at=ACCEPTED, app_zone="Europe/Berlin", time_zone=None, **recurrence):
    said = {"strategy": strategy, "past_times": "ignore", "recurrence": recurrence}
    if time_zone is not None:
        (said if strategy == "timezone" else recurrence)["time_zone"] = time_zone
    schedule = msgspec.convert(said, Schedule)
    assert check(Time(schedule=schedule)) == []
    return prepare(schedule, accepted_at=accepted_at, app_zone=app_zone)


def at(text):
    return datetime.fromisoformat(text).timestamp()


def texts(instants, zone="UTC"):
    return [datetime.fromtimestamp(each, ZoneInfo(zone)).strftime("%m-%d %H:%M%z") for each in instants]


@pytest.mark.parametrize("every_s", [60, 3600, 86_400, 604_800, 2_592_000, 31_557_600])
def test_fixed_periods_count_seconds(every_s):
    start = at("2026-03-28T09:30+01:00")
    ready = recurring(every_s=every_s, starts_at=start)
    assert ready.next(3) == [start, start + every_s, start + 2 * every_s]
    assert ready.after(start) == start + every_s
    assert ready.after(start + every_s - 0.25) == start + every_s
    assert ready.after(start - 1_000_000) == start
    # Asked again after ten thousand years of minutes would be: no walk.
    far = start + 400 * 31_557_600
    assert far < ready.after(far) <= far + every_s


def test_a_period_ends_with_its_end_included():
    start = at("2026-11-21T09:00+00:00")
    ready = recurring(every_s=86_400, starts_at=start, ends_at=start + 2 * 86_400)
    assert ready.next(10) == [start, start + 86_400, start + 2 * 86_400]
    assert ready.after(start + 2 * 86_400) is None
    assert recurring(every_s=3_600, ends_at="2026-01-01T02:30").next(9) == [ACCEPTED, ACCEPTED + 3600, ACCEPTED + 7200]


def test_a_daily_rule_keeps_its_wall_time_through_gap_and_overlap():
    ready = recurring(rrule="FREQ=DAILY", time_zone="Europe/Berlin", starts_at="2026-03-28T02:30")
    assert texts(ready.next(3), "Europe/Berlin") == ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]
    autumn = ready.next(3, at("2026-10-24T02:30+02:00"))
    assert texts(autumn, "Europe/Berlin") == ["10-25 02:30+0200", "10-26 02:30+0100", "10-27 02:30+0100"]


def test_a_rule_that_starts_in_a_gap_keeps_the_time_that_it_names():
    ready = recurring(rrule="FREQ=DAILY", time_zone="Europe/Berlin", starts_at="2026-03-29T02:30")
    assert texts(ready.next(2), "Europe/Berlin") == ["03-29 03:00+0200", "03-30 02:30+0200"]


@pytest.mark.parametrize("pattern", [{"rrule": "FREQ=MINUTELY;INTERVAL=15"}, {"cron": "*/15 * * * *"}])
def test_two_wall_times_of_a_gap_fire_once_and_those_of_an_overlap_too(pattern):
    ready = recurring(time_zone="Europe/Berlin", starts_at="2026-01-01T00:00", **pattern)
    spring = texts(ready.next(4, at("2026-03-29T01:30+01:00")), "Europe/Berlin")
    assert spring == ["03-29 01:45+0100", "03-29 03:00+0200", "03-29 03:15+0200", "03-29 03:30+0200"]
    autumn = texts(ready.next(3, at("2026-10-25T02:30+02:00")), "Europe/Berlin")
    assert autumn == ["10-25 02:45+0200", "10-25 03:00+0100", "10-25 03:15+0100"]
    # From within the second pass of the hour.
    assert texts([ready.after(at("2026-10-25T02:20+01:00"))], "Europe/Berlin") == ["10-25 03:00+0100"]


def test_a_skipped_day_fires_once_when_the_next_begins():
    started = at("2011-12-01T00:00+00:00")
    ready = recurring(
        cron="0 9 * * *", time_zone="Pacific/Apia", starts_at="2011-12-29T00:00", accepted_at=started, ends_at=ACCEPTED
    )
    found = texts(ready.next(3), "Pacific/Apia")
    assert found == ["12-29 09:00-1000", "12-31 00:00+1400", "12-31 09:00+1400"]


def test_half_an_hour_in_lord_howe():
    ready = recurring(cron="15 2 * * *", time_zone="Australia/Lord_Howe")
    assert texts(ready.next(2, at("2026-10-03T12:00+00:00")), "Australia/Lord_Howe") == [
        "10-04 02:30+1100",
        "10-05 02:15+1100",
    ]


def test_month_ends_and_leap_days():
    monthly = recurring(rrule="FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=8;BYMINUTE=0;BYSECOND=0")
    assert texts(monthly.next(3)) == ["01-31 08:00+0000", "02-28 08:00+0000", "03-31 08:00+0000"]
    leap = recurring(cron="0 8 29 2 *")
    assert [datetime.fromtimestamp(each, UTC).year for each in leap.next(3)] == [2028, 2032, 2036]


def test_count_is_a_counter_beside_the_rule():
    ready = recurring(rrule="FREQ=DAILY;COUNT=3", starts_at="2026-01-05T00:00", count=5)
    assert ready.count == 3
    assert len(ready.next(10)) == 3
    assert len(ready.next(10, at("2026-01-06T00:00+00:00"), occurred=2)) == 1
    assert ready.after(None, occurred=3) is None
    assert recurring(every_s=60, count=2).next(9) == [ACCEPTED, ACCEPTED + 60]


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("20260103T100000Z", "01-03 09:00+0100"),
        ("20260103T085959", "01-02 09:00+0100"),
        ("20260103", "01-03 09:00+0100"),
    ],
)
def test_until_is_an_instant_or_a_wall_time_or_a_whole_day(until, last):
    ready = recurring(
        rrule=f"FREQ=DAILY;UNTIL={until}",
        time_zone="Europe/Berlin",
        starts_at="2026-01-01T09:00",
        ends_at="2027-01-01T00:00",
    )
    assert texts(ready.next(10), "Europe/Berlin")[-1] == last


def test_without_a_start_it_starts_when_it_is_accepted():
    ready = recurring(rrule="FREQ=HOURLY", accepted_at=ACCEPTED + 100.4)
    assert ready.next(2) == [ACCEPTED + 101, ACCEPTED + 3701]


def test_by_local_time_occurrences_are_wall_times():
    ready = recurring("local", rrule="FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0", app_zone="Pacific/Auckland")
    # It is 13:00 of the first of January there.
    assert texts(ready.next(1)) == ["01-02 09:00+0000"]
    spring = recurring("local", cron="30 2 29 3 *", app_zone="Europe/Berlin")
    assert zones.utc_wall(spring.after(None)) == datetime(2026, 3, 29, 2, 30)


def test_a_start_in_the_running_minute_is_not_missed():
    ready = recurring(every_s=86_400, starts_at=ACCEPTED - 45)
    assert ready.first(ACCEPTED) == ACCEPTED - 45
    assert recurring(every_s=86_400, starts_at=ACCEPTED - 62).first(ACCEPTED) == ACCEPTED - 62 + 86_400
    assert ready.due(ACCEPTED) == ACCEPTED


def test_by_local_time_an_occurrence_is_planned_before_the_first_zone_comes_to_it():
    ready = recurring("local", cron="0 9 * * *", starts_at="2025-12-30T00:00")
    # At midnight of New Year in UTC it is noon of the last day of the year in the last zone.
    assert texts([ready.first(ACCEPTED)]) == ["01-01 09:00+0000"]
    assert texts([ready.first(ACCEPTED - 3 * 3600 - 60)]) == ["12-31 09:00+0000"]
    nine = at("2026-01-01T09:00+00:00")
    assert ready.due(nine) == zones.instant(datetime(2026, 1, 1, 9), ZoneInfo("Pacific/Kiritimati"))


def test_no_zone_is_further_ahead_or_behind():
    now = datetime(2026, 7, 1, tzinfo=UTC)
    for month in (1, 7):
        offsets = {now.replace(month=month).astimezone(ZoneInfo(name)).utcoffset() for name in available_timezones()}
        assert max(offsets) <= timedelta(seconds=EAST_S)
        assert min(offsets) >= timedelta(seconds=-WEST_S)


def test_by_preferred_hour_an_occurrence_is_a_day():
    ready = recurring("intelligent", cron="0 9,18 * * MON", starts_at="2026-01-05T12:00")
    assert texts(ready.next(2)) == ["01-05 00:00+0000", "01-12 00:00+0000"]
    assert ready.first(ACCEPTED) == ready.next(1)[0]
    assert texts([ready.first(at("2026-01-06T11:00+00:00"))]) == ["01-05 00:00+0000"]
    assert texts([ready.first(at("2026-01-06T13:00+00:00"))]) == ["01-12 00:00+0000"]
    assert texts([ready.due(ready.first(ACCEPTED))]) == ["01-04 10:00+0000"]


def test_what_downtime_missed():
    ready = recurring(every_s=3600, starts_at=ACCEPTED)
    assert ready.passed(ACCEPTED, ACCEPTED + 3 * 3600) == [ACCEPTED + 3600, ACCEPTED + 7200, ACCEPTED + 10800]
    assert ready.passed(ACCEPTED, ACCEPTED + 3599) == []
    assert len(ready.passed(ACCEPTED, ACCEPTED + 10**9)) == NEXT_MAX


@pytest.mark.parametrize(
    ("field", "text", "what"),
    [
        ("rrule", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "does not occur"),
        ("rrule", "FREQ=DAILY;UNTIL=20251231", "does not occur"),
        ("rrule", "FREQ=SECONDLY", "none of YEARLY"),
        ("cron", "* * * *", "five fields"),
        ("cron", "* * * * * *", "five fields"),
        ("cron", "60 * * * *", "Bad minute"),
        ("cron", "* * 31 2 *", "Bad day-of-month"),
        ("cron", "0 0 * * MON#9", "Bad day-of-week"),
        ("cron", "0 0 * * ²L", "cron"),
        ("cron", "@often", "five fields"),
    ],
)
def test_rules_that_are_none_or_never_occur_are_refused(field, text, what):
    with pytest.raises(InvalidRequestError) as caught:
        recurring(**{field: text})
    (fault,) = caught.value.faults
    assert fault.pointer == f"/schedule/recurrence/{field}"
    assert what in fault.detail


def test_macros_of_cron():
    assert texts(recurring(cron="@weekly").next(1)) == ["01-04 00:00+0000"]


NAMES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Auckland", "America/Santiago"]
NAMES += ["Asia/Kolkata", "Asia/Beirut", "Africa/Casablanca", "America/Havana", "Pacific/Apia", "America/St_Johns"]
CRONS = st.builds(
    "{} {} {} {} {}".format,
    st.sampled_from(["0", "30", "*/20", "15,45", "7-9", "*"]),
    st.sampled_from(["*", "2", "*/6", "0,23", "1-3"]),
    st.sampled_from(["*", "1", "31", "L", "*/10", "29"]),
    st.sampled_from(["*", "2", "3,10", "JAN", "*/4"]),
    st.sampled_from(["*", "MON", "SUN#2", "5L", "1-5"]),
)
MOMENTS = st.integers(int(ACCEPTED), int(ACCEPTED) + 20 * 31_557_600)


@settings(max_examples=150)
@given(CRONS, st.sampled_from(NAMES), MOMENTS, st.integers(0, 5))
def test_any_cron_in_any_zone_ascends_and_goes_on_from_anywhere(expression, name, moment, skipped):
    try:
        ready = recurring(cron=expression, time_zone=name)
    except InvalidRequestError:
        return
    whole = ready.next(8, moment)
    assert all(before < after for before, after in pairwise([moment, *whole]))
    assert ready.next(8, whole[skipped])[: 7 - skipped] == whole[skipped + 1 :]
    # Independently: cron's wall times of UTC's calendar, each at the first instant that shows it or a later one.
    wall = zones.shown(moment, ZoneInfo(name)) - timedelta(days=2)
    expected: list[float] = []
    for each in CronSim(expression, wall):
        instant = zones.instant(each, ZoneInfo(name))
        if instant > moment and instant not in expected:
            expected.append(instant)
        if len(expected) == 8:
            break
    assert whole == expected[: len(whole)]


RULES = st.builds(
    "FREQ={};INTERVAL={}{}".format,
    st.sampled_from(["DAILY", "WEEKLY", "HOURLY", "MINUTELY", "MONTHLY", "YEARLY"]),
    st.integers(1, 40),
    st.sampled_from(["", ";BYMONTH=3,10", ";BYDAY=SU", ";BYHOUR=1,2,3", ";BYMINUTE=0,29,30,59"]),
)


@settings(max_examples=150)
@given(RULES, st.sampled_from(NAMES), MOMENTS)
def test_any_rule_in_any_zone_ascends_and_misses_nothing(text, name, moment):
    try:
        ready = recurring(rrule=text, time_zone=name, starts_at="2026-01-01T02:30")
    except InvalidRequestError:
        return
    whole = ready.next(6, moment)
    assert all(before < after for before, after in pairwise([moment, *whole]))
    at_, one_by_one = float(moment), []
    while len(one_by_one) < len(whole):
        at_ = ready.after(at_)
        one_by_one.append(at_)
    assert one_by_one == whole
    for before, after in pairwise([moment, *whole]):
        assert ready.after((before + after) / 2) == after
