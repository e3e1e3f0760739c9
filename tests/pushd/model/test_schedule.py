"""What a producer says of its time: every rule, with the pointer of what breaks it, read as requests are."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.model.schedule import INSTANT_MAX, RunLate, Skip, When, as_date, as_instant, as_wall, check

UTC = {"strategy": "utc", "past_times": "ignore"}
LOCAL = {"strategy": "local", "past_times": "next_day"}


def pointers(schedule=None, **others):
    body = {"schedule": schedule, **others} if schedule is not None else others
    return [fault.pointer for fault in check(msgspec.convert(body, When))]


@pytest.mark.parametrize(
    "schedule",
    [
        {"strategy": "immediate"},
        UTC | {"send_at": 1795253534},
        UTC | {"send_at": 1795253534.5},
        UTC | {"send_at": "2026-11-21T17:50:00-05:00"},
        UTC | {"send_at": "2026-11-21T17:50:00Z"},
        UTC | {"send_at": "2026-11-21 17:50"},
        LOCAL | {"send_at": "2026-11-21T17:50"},
        LOCAL | {"send_at": "2026-11-21 17:50:30"},
        {"strategy": "timezone", "past_times": "ignore", "send_at": "2026-11-21T17:50", "time_zone": "Asia/Kolkata"},
        {"strategy": "intelligent", "past_times": "next_day", "send_at": "2028-02-29"},
        UTC | {"recurrence": {"every_s": 86400, "starts_at": 1795253534, "ends_at": 1795339934}},
        UTC | {"recurrence": {"rrule": "FREQ=DAILY", "time_zone": "Europe/Berlin", "starts_at": "2026-11-21T09:00"}},
        LOCAL | {"recurrence": {"cron": "0 9 * * *", "count": 5}, "missed": {"type": "skip"}},
        LOCAL | {"recurrence": {"rrule": "FREQ=DAILY", "starts_at": "2026-11-21T09:00"}},
        {
            "strategy": "timezone",
            "past_times": "ignore",
            "time_zone": "Asia/Kolkata",
            "recurrence": {"rrule": "FREQ=DAILY", "time_zone": "Asia/Kolkata"},
        },
        {"strategy": "intelligent", "past_times": "ignore", "recurrence": {"rrule": "FREQ=WEEKLY"}},
    ],
)
def test_what_is_right(schedule):
    assert pointers(schedule, release_window_minutes=60) == []


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, ["/schedule/strategy", "/schedule/send_at", "/schedule/past_times"]),
        ({"strategy": "utc"}, ["/schedule/send_at", "/schedule/past_times"]),
        ({"strategy": "utc", "send_at": 5}, ["/schedule/past_times"]),
        ({"strategy": "immediate", "send_at": 5, "missed": {"type": "run"}}, ["/schedule/send_at", "/schedule/missed"]),
        (UTC | {"send_at": "2026-11-21"}, ["/schedule/send_at"]),
        (UTC | {"send_at": "2026-02-30T09:00"}, ["/schedule/send_at"]),
        (UTC | {"send_at": "2026-02-28T24:00:00Z"}, ["/schedule/send_at"]),
        (UTC | {"send_at": "1969-12-31T23:59:59Z"}, ["/schedule/send_at"]),
        (UTC | {"send_at": "3000-01-01T00:00"}, ["/schedule/send_at"]),
        (UTC | {"send_at": "٢٠٢٦-11-21T09:00"}, ["/schedule/send_at"]),
        (UTC | {"send_at": 5, "time_zone": "Asia/Kolkata"}, ["/schedule/time_zone"]),
        (LOCAL | {"send_at": 1795253534}, ["/schedule/send_at"]),
        (LOCAL | {"send_at": "2026-11-21T17:50:00Z"}, ["/schedule/send_at"]),
        ({"strategy": "timezone", "past_times": "ignore", "send_at": "2026-11-21T17:50"}, ["/schedule/time_zone"]),
        (
            {"strategy": "timezone", "past_times": "ignore", "send_at": "2026-11-21T17:50", "time_zone": "Berlin"},
            ["/schedule/time_zone"],
        ),
        ({"strategy": "intelligent", "past_times": "ignore", "send_at": "2026-11-21T17:50"}, ["/schedule/send_at"]),
        (UTC | {"send_at": 5, "recurrence": {"every_s": 60}}, ["/schedule/send_at"]),
        (UTC | {"recurrence": {}}, ["/schedule/recurrence"]),
        (UTC | {"recurrence": {"every_s": 60, "cron": "* * * * *"}}, ["/schedule/recurrence"]),
        (UTC | {"recurrence": {"every_s": 60, "starts_at": "x"}}, ["/schedule/recurrence/starts_at"]),
        (UTC | {"recurrence": {"every_s": 60, "starts_at": 9, "ends_at": 8}}, ["/schedule/recurrence/ends_at"]),
        (UTC | {"recurrence": {"rrule": "x", "time_zone": "Mars"}}, ["/schedule/recurrence/time_zone"]),
        (LOCAL | {"recurrence": {"every_s": 86400}}, ["/schedule/recurrence/every_s"]),
        (LOCAL | {"recurrence": {"rrule": "x", "starts_at": 5}}, ["/schedule/recurrence/starts_at"]),
        (LOCAL | {"recurrence": {"rrule": "x", "time_zone": "UTC"}}, ["/schedule/recurrence/time_zone"]),
        (
            {
                "strategy": "timezone",
                "past_times": "ignore",
                "time_zone": "Asia/Kolkata",
                "recurrence": {"rrule": "x", "time_zone": "Asia/Tokyo"},
            },
            ["/schedule/recurrence/time_zone"],
        ),
    ],
)
def test_what_is_wrong_is_pointed_at(schedule, expected):
    assert pointers(schedule) == expected


def test_intelligent_delivery_excludes_a_schedule():
    assert pointers(intelligent_delivery=True) == []
    assert pointers({"strategy": "immediate"}, intelligent_delivery=True) == ["/intelligent_delivery"]
    at = check(msgspec.convert({"schedule": {}}, When), "/0")
    assert at[0].pointer == "/0/schedule/strategy"


@pytest.mark.parametrize(
    "body",
    [
        {"release_window_minutes": 59},
        {"release_window_minutes": 1441},
        {"schedule": UTC | {"send_at": 1795253534270}},
        {"schedule": UTC | {"send_at": -1}},
        {"schedule": UTC | {"recurrence": {"every_s": 59}}},
        {"schedule": UTC | {"recurrence": {"every_s": 86400, "count": 0}}},
        {"schedule": UTC | {"missed": {"type": "run", "within_s": 0}}},
        {"schedule": {"strategy": "tomorrow"}},
        {"schedule": {"sendAt": 5}},
    ],
)
def test_bounds_are_the_types_own(body):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, When)


def test_missed_occurrences_have_a_policy():
    when = msgspec.convert({"schedule": UTC | {"send_at": 5, "missed": {"type": "run", "within_s": 60}}}, When)
    assert when.schedule.missed == RunLate(within_s=60)
    assert msgspec.json.decode(b'{"schedule":{"missed":{"type":"skip"}}}', type=When).schedule.missed == Skip()
    assert msgspec.json.decode(msgspec.json.encode(when), type=When) == when


@given(st.one_of(st.text(max_size=30), st.floats(0, INSTANT_MAX), st.datetimes().map(str), st.dates().map(str)))
def test_any_text_is_at_most_one_kind_of_time(value):
    kinds = [as_instant(value), as_wall(value), as_date(value)]
    assert sum(kind is not None for kind in kinds) <= 1
