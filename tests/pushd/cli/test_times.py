"""Options that say a time, as the body that they make; whatever they make is a time as requests say it."""

import msgspec
import pytest
import typer

from pushd.cli.times import Time
from pushd.model.schedule import When, check


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({}, {}),
        ({"window": 60}, {"release_window_minutes": 60}),
        ({"preferred_hour": True}, {"intelligent_delivery": True}),
        (
            {"at": "1800000000.5"},
            {"schedule": {"strategy": "utc", "past_times": "ignore", "send_at": 1_800_000_000.5}},
        ),
        (
            {"at": "2027-01-01T09:00", "time_zone": "Europe/Berlin", "next_day": True},
            {
                "schedule": {
                    "strategy": "timezone",
                    "time_zone": "Europe/Berlin",
                    "past_times": "next_day",
                    "send_at": "2027-01-01T09:00",
                }
            },
        ),
        (
            {"local": "2027-01-01T09:00", "window": 90},
            {
                "release_window_minutes": 90,
                "schedule": {"strategy": "local", "past_times": "ignore", "send_at": "2027-01-01T09:00"},
            },
        ),
        (
            {"day": "2027-01-01"},
            {"schedule": {"strategy": "intelligent", "past_times": "ignore", "send_at": "2027-01-01"}},
        ),
        (
            {"cron": "0 9 * * 1", "each_local": True, "ends": "2028-01-01T00:00", "count": 3},
            {
                "schedule": {
                    "strategy": "local",
                    "past_times": "ignore",
                    "recurrence": {"cron": "0 9 * * 1", "ends_at": "2028-01-01T00:00", "count": 3},
                }
            },
        ),
        (
            {"every": 3600, "starts": "1800000000"},
            {
                "schedule": {
                    "strategy": "utc",
                    "past_times": "ignore",
                    "recurrence": {"every_s": 3600, "starts_at": 1_800_000_000.0},
                }
            },
        ),
    ],
)
def test_options_make_a_time(options, body):
    time = Time(**options)
    assert time.said() == body
    assert check(msgspec.convert(body, When)) == []
    assert time.recurs == ("recurrence" in body.get("schedule", {}))


@pytest.mark.parametrize(
    "options",
    [
        {"at": "5", "local": "2027-01-01T09:00"},
        {"at": "5", "rrule": "FREQ=DAILY"},
        {"cron": "0 9 * * *", "every": 60},
        {"at": "5", "count": 3},
        {"each_local": True},
        {"time_zone": "Europe/Berlin"},
        {"next_day": True},
    ],
)
def test_what_contradicts_itself_is_no_time(options):
    with pytest.raises(typer.BadParameter):
        Time(**options).said()
