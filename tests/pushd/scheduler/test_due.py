"""When sends are due: first, and from one occurrence to the next, by every strategy."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.errors import InvalidRequestError
from pushd.model.audience import Broadcast
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.schedule import Strategy, When, check
from pushd.scheduler import due, recurrence
from pushd.scheduler.recurrence import EAST_S

NOON = datetime.fromisoformat("2026-11-21T12:00:00.25+00:00").timestamp()


def at(text):
    return datetime.fromisoformat(text).timestamp()


def send(schedule=None, **others) -> Send:
    when = msgspec.convert({"schedule": schedule, **others} if schedule else others, When)
    assert check(when) == []
    fields = {name: getattr(when, name) for name in When.__struct_fields__}
    return Send(audience=Broadcast(), message=Message(title="x"), **fields)


def first(schedule=None, *, zone="UTC", now=NOON, **others):
    found = due.first(send(schedule, **others), accepted_at=now, app_zone=zone)
    return found.at, found.nominal


def timed(strategy, send_at, past_times="ignore", **others):
    return {"strategy": strategy, "send_at": send_at, "past_times": past_times, **others}


def test_what_says_nothing_of_its_time_is_due_at_once():
    assert first() == first({"strategy": "immediate"}) == first(release_window_minutes=60) == (NOON, NOON)
    assert first(intelligent_delivery=True) == (NOON, NOON)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (timed("utc", 1_800_000_000), 1_800_000_000),
        (timed("utc", "2026-11-25T09:00"), at("2026-11-25T09:00+00:00")),
        (timed("utc", "2026-11-25T09:00:00-05:00"), at("2026-11-25T09:00-05:00")),
        (timed("timezone", "2026-11-25T09:00", time_zone="Asia/Kolkata"), at("2026-11-25T09:00+05:30")),
        # The running minute is not past; what is, goes out tomorrow, or is looked at now to say that it does not.
        (timed("utc", NOON - 59), NOON),
        (timed("utc", NOON - 61), NOON),
        (timed("utc", "2026-11-21T11:00", "next_day"), at("2026-11-22T11:00+00:00")),
        (timed("utc", "2026-11-19T13:00", "next_day"), at("2026-11-21T13:00+00:00")),
        (timed("timezone", "2026-11-21T20:30", "next_day", time_zone="Asia/Tokyo"), at("2026-11-22T20:30+09:00")),
    ],
)
def test_one_instant_for_all(schedule, expected):
    assert first(schedule) == (expected, expected)


def test_by_the_clocks_of_devices_it_is_due_when_the_first_zone_comes_to_it():
    wall = at("2026-11-25T09:00+00:00")
    assert first(timed("local", "2026-11-25T09:00")) == (wall - EAST_S, wall)
    day = at("2026-11-25T00:00+00:00")
    assert first(timed("intelligent", "2026-11-25")) == (day - EAST_S, day)
    wall = at("2026-11-21T14:00+00:00")
    assert first(timed("local", "2026-11-21T14:00")) == (NOON, wall)


def test_a_recurrence_is_due_for_its_first_occurrence():
    weekly = {"rrule": "FREQ=WEEKLY;BYDAY=MO", "starts_at": "2026-11-01T09:00"}
    berlin = {"strategy": "timezone", "time_zone": "Europe/Berlin", "past_times": "ignore", "recurrence": weekly}
    monday = at("2026-11-23T09:00+01:00")
    assert first(berlin) == (monday, monday)
    wall = at("2026-11-23T09:00+00:00")
    assert first({"strategy": "local", "past_times": "ignore", "recurrence": weekly}) == (wall - EAST_S, wall)
    every = {"strategy": "utc", "past_times": "ignore", "recurrence": {"every_s": 3600}}
    assert first(every) == (NOON // 1 + 1, NOON // 1 + 1)


@pytest.mark.parametrize(
    ("recurrence_", "occurred", "pointer"),
    [
        ({"rrule": "FREQ=SECONDLY"}, 0, "/x/schedule/recurrence/rrule"),
        ({"cron": "a b c d e"}, 0, "/x/schedule/recurrence/cron"),
        ({"every_s": 60, "ends_at": 5}, 0, "/x/schedule/recurrence/every_s"),
        ({"every_s": 60, "count": 3}, 3, "/x/schedule/recurrence"),
    ],
)
def test_what_never_occurs_is_refused_at_its_field(recurrence_, occurred, pointer):
    asked = send({"strategy": "utc", "past_times": "ignore", "recurrence": recurrence_})
    with pytest.raises(InvalidRequestError) as refused:
        due.first(asked, accepted_at=NOON, app_zone="UTC", occurred=occurred, pointer="/x")
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


RULES = st.sampled_from(
    [
        {"every_s": 5400},
        {"rrule": "FREQ=DAILY"},
        {"rrule": "FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=2;BYMINUTE=30"},
        {"cron": "*/7 1-3 * * *"},
        {"cron": "@daily", "count": 4},
    ]
)
MOMENTS = st.integers(at("2024-01-01T00:00+00:00") // 1, at("2030-01-01T00:00+00:00") // 1).map(float)
STRATEGIES = st.sampled_from(["utc", "timezone", "local", "intelligent"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"])


@given(RULES, STRATEGIES, ZONES, MOMENTS, st.floats(0, 0.99))
def test_what_a_start_leaves_open_stays_as_it_was_at_acceptance(rule, strategy, zone, moment, fraction):
    if strategy in {"local", "intelligent"} and "every_s" in rule:
        return
    schedule = {"strategy": strategy, "past_times": "ignore", "recurrence": rule}
    asked = send(schedule | ({"time_zone": zone} if strategy == "timezone" else {}))
    accepted_at = moment + fraction
    kept = due.begun(asked, accepted_at=accepted_at, app_zone=zone)
    assert kept.schedule.recurrence.starts_at is not None
    assert check(kept) == []
    assert due.begun(kept, accepted_at=accepted_at + 1e6, app_zone="Asia/Tokyo") is kept
    as_said = recurrence.prepare(asked.schedule, accepted_at=accepted_at, app_zone=zone)
    as_kept = recurrence.prepare(kept.schedule, accepted_at=accepted_at, app_zone="Pacific/Auckland")
    assert as_kept == as_said
    assert as_kept.next(6) == as_said.next(6)


@given(RULES, STRATEGIES, ZONES, MOMENTS, st.integers(0, 3 * 86_400))
def test_following_is_the_first_that_is_still_to_come_after_what_is_settled(rule, strategy, zone, moment, later):
    if strategy in {"local", "intelligent"} and "every_s" in rule:
        return
    schedule = {"strategy": strategy, "past_times": "ignore", "recurrence": rule}
    asked = send(schedule | ({"time_zone": zone} if strategy == "timezone" else {}))
    ready = recurrence.prepare(asked.schedule, accepted_at=moment, app_zone=zone)
    begin = due.first(asked, accepted_at=moment, app_zone=zone)
    now = moment + later
    found = due.following(ready, begin.nominal, now=now, occurred=1)
    if found is None:
        assert ready.count == 1 or ready.after(max(begin.nominal, now - 86_400 * 3), 1) is None
        return
    assert found.nominal > begin.nominal
    assert found.at >= now
    behind = {"local": 12 * 3600, "intelligent": 36 * 3600}.get(strategy, 0)
    for each in ready.next(500, begin.nominal):
        if each == found.nominal:
            break
        assert each + behind < now - 60, "an earlier one was still to come"


def test_occurrences_are_told_as_people_say_them():
    moment = at("2026-11-25T09:30+00:00")
    assert due.as_said(Strategy.UTC, moment) == due.as_said(Strategy.TIMEZONE, moment) == moment
    assert due.as_said(Strategy.LOCAL, moment) == "2026-11-25T09:30:00"
    assert due.as_said(Strategy.INTELLIGENT, at("2026-11-25T00:00+00:00")) == "2026-11-25"


def test_whether_a_send_has_a_time():
    assert not due.is_timed(send())
    assert not due.is_timed(send({"strategy": "immediate"}))
    assert due.is_timed(send(timed("utc", 5)))
    assert due.is_timed(send(intelligent_delivery=True))
    assert due.is_timed(send(release_window_minutes=60))
