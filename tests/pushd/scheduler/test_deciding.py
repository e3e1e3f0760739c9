"""What becomes of due schedules: late ones, many that were missed, those that go by the clocks of devices."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from msgspec import convert, json

from pushd.model.notification import Send
from pushd.scheduler.deciding import PASSED_MAX, decide, goes_by_devices, goes_by_hours
from pushd.scheduler.due import first
from pushd.scheduler.recurrence import EAST_S, WEST_S

DAY = 86_400
MINUTE = 60


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


ACCEPTED = at("2026-03-01T12:00")


def send(**when):
    said = {"audience": {"type": "broadcast"}, "message": {"title": "Pears"}, **when}
    return convert(json.decode(json.encode(said)), Send)


def recurring(strategy="utc", missed=None, **rule):
    schedule = {"strategy": strategy, "past_times": "ignore", "recurrence": rule}
    return send(schedule=schedule | ({"missed": missed} if missed else {}))


def decided(wanted, nominal, now, occurred=0):
    return decide(wanted, nominal=nominal, accepted_at=ACCEPTED, occurred=occurred, now=now)


@pytest.mark.parametrize(
    ("missed", "late_s", "too_late"),
    [
        (None, 0, False),
        (None, 7 * DAY, False),
        (None, 7 * DAY + 1, True),
        ({"type": "skip"}, 60, False),
        ({"type": "skip"}, 61, True),
        ({"type": "run", "within_s": 600}, 600, False),
        ({"type": "run", "within_s": 600}, 601, True),
        ({"type": "run", "within_s": 5}, 60, False),
    ],
)
def test_one_that_goes_out_once_runs_late_or_says_that_it_did_not(missed, late_s, too_late):
    wanted = send(schedule={"strategy": "utc", "send_at": ACCEPTED + DAY, "past_times": "ignore", "missed": missed})
    found = decided(wanted, ACCEPTED + DAY, ACCEPTED + DAY + late_s)
    assert (found.run, found.skipped, found.following) == (ACCEPTED + DAY, (), None)
    assert found.too_late is too_late


def test_what_has_no_time_may_wait_a_week_for_its_turn():
    assert not decided(send(), ACCEPTED, ACCEPTED + 7 * DAY).too_late
    assert decided(send(), ACCEPTED, ACCEPTED + 8 * DAY).too_late


def test_releases_by_zones_and_hours_are_judged_when_they_are_due():
    local = send(schedule={"strategy": "local", "send_at": "2026-03-02T09:00", "past_times": "ignore"})
    hours = send(intelligent_delivery=True)
    assert not decided(local, at("2026-03-02T09:00"), ACCEPTED + 30 * DAY).too_late
    assert not decided(hours, ACCEPTED, ACCEPTED + 30 * DAY).too_late
    assert goes_by_devices(local)
    assert not goes_by_hours(local)
    assert goes_by_devices(hours)
    assert goes_by_hours(hours)
    assert not goes_by_devices(send())


def test_an_occurrence_runs_and_the_next_one_is_due():
    wanted = recurring(every_s=DAY, starts_at=ACCEPTED + 100)
    found = decided(wanted, ACCEPTED + 100, ACCEPTED + 100.5)
    assert (found.run, found.skipped) == (ACCEPTED + 100, ())
    assert (found.following.at, found.following.nominal) == (ACCEPTED + 100 + DAY,) * 2


def test_the_last_of_a_count_ends_it_and_missed_ones_count():
    wanted = recurring(every_s=DAY, starts_at=ACCEPTED, count=5)
    late = decided(wanted, ACCEPTED, ACCEPTED + 3 * DAY + 10)
    assert late.run == ACCEPTED + 3 * DAY
    assert len(late.skipped) == 3
    assert late.following.nominal == ACCEPTED + 4 * DAY
    assert decided(wanted, ACCEPTED + 4 * DAY, ACCEPTED + 4 * DAY, occurred=4).following is None


def test_those_on_time_run_one_after_the_other():
    wanted = recurring(every_s=30 * 60, starts_at=ACCEPTED, missed={"type": "skip"})
    found = decided(wanted, ACCEPTED, ACCEPTED + 3600 + 59)
    assert (found.run, found.skipped) == (ACCEPTED + 3600, (ACCEPTED, ACCEPTED + 1800))
    rule = recurring(cron="* * * * *", missed={"type": "skip"})
    both = decided(rule, ACCEPTED, ACCEPTED + 60)
    assert (both.run, both.skipped) == (ACCEPTED, ())
    assert both.following.nominal == ACCEPTED + 60


def test_more_than_can_be_judged_at_once_are_skipped_piece_by_piece():
    wanted = recurring(every_s=MINUTE, starts_at=ACCEPTED)
    now, nominal, occurred, skipped, runs = ACCEPTED + DAY + 30, ACCEPTED, 0, [], []
    while nominal <= now:
        found = decided(wanted, nominal, now, occurred)
        assert len(found.skipped) <= PASSED_MAX
        skipped += found.skipped
        occurred += len(found.skipped) + (found.run is not None)
        runs += [found.run] if found.run is not None else []
        nominal = found.following.nominal
    assert skipped == [ACCEPTED + number * MINUTE for number in range(1440)]
    assert runs == [ACCEPTED + DAY]


def test_by_device_an_occurrence_is_planned_before_the_first_zone_and_missed_behind_the_last():
    wanted = recurring("local", rrule="FREQ=DAILY", starts_at="2026-03-02T09:00")
    nominal = at("2026-03-02T09:00")
    due = first(wanted, accepted_at=ACCEPTED, app_zone="UTC")
    assert (due.at, due.nominal) == (nominal - EAST_S, nominal)
    found = decided(wanted, nominal, nominal - EAST_S)
    assert (found.run, found.skipped) == (nominal, ())
    assert (found.following.at, found.following.nominal) == (nominal + DAY - EAST_S, nominal + DAY)
    # 11 hours later it goes on in the west, and the next day has begun in the east.
    found = decided(wanted, nominal, nominal + 11 * 3600)
    assert (found.run, found.skipped, found.following.nominal) == (nominal, (), nominal + DAY)
    found = decided(wanted, nominal, nominal + WEST_S + 3601)
    assert (found.run, found.skipped) == (nominal + DAY, (nominal,))


def test_an_occurrence_is_not_found_again_for_the_microseconds_that_the_database_keeps():
    dice = random.Random(5)
    for _ in range(300):
        start = ACCEPTED + dice.random() * 1_000
        wanted = recurring(every_s=600, starts_at=start)
        nominal, seen = start, []
        for number in range(5):
            nominal = datetime.fromtimestamp(nominal, UTC).timestamp() + dice.choice([0, 0.9e-6, -0.9e-6])
            found = decided(wanted, nominal, nominal + 1, number)
            seen.append(found.run)
            nominal = found.following.nominal
        assert [round(each - start) for each in seen] == [0, 600, 1_200, 1_800, 2_400]


SAID = [
    {"every_s": 5_000, "count": 1_000},
    {"rrule": "FREQ=WEEKLY;BYDAY=MO,TH", "time_zone": "Europe/Berlin", "starts_at": "2026-03-01T02:30"},
    {"rrule": "FREQ=DAILY;BYHOUR=1,2;BYMINUTE=0,30", "time_zone": "Australia/Lord_Howe"},
    {"cron": "*/20 * * * *", "time_zone": "America/New_York", "ends_at": "2026-06-01T00:00"},
]


@pytest.mark.parametrize("strategy", ["utc", "local"])
@pytest.mark.parametrize("missed", [None, {"type": "skip"}, {"type": "run", "within_s": 7 * DAY}])
def test_each_occurrence_is_decided_about_once_however_clock_and_daemon_jump(strategy, missed):
    """The clock stands still, leaps and goes back; a decision that loses its commit is made again."""
    dice = random.Random(f"{strategy} {missed}")
    for said in SAID:
        rule = dict(said)
        if strategy == "local":
            if "every_s" in rule:
                continue
            rule.pop("time_zone", None)
        wanted = recurring(strategy, missed, **rule)
        due = first(wanted, accepted_at=ACCEPTED, app_zone="UTC")
        begun, now, occurred, told = due, ACCEPTED, 0, []
        while due is not None and now < ACCEPTED + 40 * DAY:
            now += dice.choice([20, 60, 3_000, 90_000, 400_000, -5_000])
            while due is not None and due.at <= now:
                found = decided(wanted, due.nominal, now, occurred)
                if dice.random() < 0.3:
                    continue  # its commit was lost: nothing of it is true
                assert found.run is None or found.run not in told
                told += [*found.skipped, *([found.run] if found.run is not None else [])]
                occurred = len(told)
                due = found.following
        assert told == sorted(set(told))
        expected, at_ = [begun.nominal], begun
        while len(expected) < len(told):
            at_ = decided(wanted, at_.nominal, at_.at, len(expected) - 1).following
            expected.append(at_.nominal)
        assert told == expected
