"""Missed occurrences: late, skipped, never twice; and four months of a daemon that is away at random."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.model.schedule import RunLate, Schedule, Skip
from pushd.scheduler.missed import ON_TIME_S, judge
from pushd.scheduler.recurrence import prepare

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("ages", "policy", "run", "skipped"),
    [
        ([], None, [], []),
        ([0.2], Skip(), [0.2], []),
        ([60], Skip(), [60], []),
        ([61], Skip(), [], [61]),
        ([3600], None, [3600], []),
        ([3601], None, [], [3601]),
        ([7200, 3600, 1800], RunLate(within_s=3600), [1800], [7200, 3600]),
        ([7200, 3600, 1800], Skip(), [], [7200, 3600, 1800]),
        ([120, 60, 0], RunLate(within_s=3600), [60, 0], [120]),
        ([30], RunLate(within_s=1), [30], []),
    ],
)
def test_run_late_or_skip(ages, policy, run, skipped):
    found = judge([NOW - age for age in ages], NOW, policy)
    assert [NOW - each for each in found.run] == pytest.approx(run)
    assert [NOW - each for each in found.skipped] == pytest.approx(skipped)


@given(st.lists(st.floats(0, 10_000), unique=True), st.sampled_from([None, Skip(), RunLate(within_s=5000)]))
def test_each_is_run_or_skipped(ages, policy):
    passed = sorted(NOW - age for age in ages)
    found = judge(passed, NOW, policy)
    assert [*found.skipped, *found.run] == passed
    assert all(NOW - each <= max(ON_TIME_S, 5000) for each in found.run)


SAID = [
    {"every_s": 86_400, "starts_at": "2026-01-01T09:00"},
    {"every_s": 5_000, "count": 4_000},
    {"rrule": "FREQ=WEEKLY;BYDAY=MO,TH", "time_zone": "Europe/Berlin", "starts_at": "2026-01-01T02:30"},
    {"rrule": "FREQ=DAILY;BYHOUR=1,2;BYMINUTE=0,30", "time_zone": "Australia/Lord_Howe"},
    {"rrule": "FREQ=MONTHLY;BYMONTHDAY=-1", "time_zone": "America/Santiago", "starts_at": "2026-01-01T00:30"},
    {"cron": "*/30 * * * *", "time_zone": "America/New_York", "ends_at": "2026-12-01T00:00"},
]


@pytest.mark.parametrize("seed", range(2))
def test_four_months_with_a_daemon_that_is_away_at_random(seed):
    """What a runner keeps is one instant and one count for each schedule; nothing else survives its deaths."""
    rng = random.Random(seed)
    now = accepted = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    end = accepted + 120 * 86_400
    said = [msgspec.convert({"strategy": "utc", "past_times": "ignore", "recurrence": each}, Schedule) for each in SAID]
    kept: list[tuple[float, int]] = [(accepted - 1, 0)] * len(said)
    log: list[list[float]] = [[] for _ in said]
    skipped = 0
    while now < end:
        ready = [prepare(each, accepted_at=accepted, app_zone="UTC") for each in said]  # a new life
        for _ in range(rng.randrange(1, 100)):
            waiting = [
                due
                for each, (last, count) in zip(ready, kept, strict=True)
                if (due := each.after(last, count)) is not None
            ]
            now = max(now, min(waiting, default=end)) + rng.random() * 2
            for number, each in enumerate(ready):
                last, count = kept[number]
                passed = each.passed(last, now, count)
                verdict = judge(passed, now, Skip())
                log[number] += [*verdict.skipped, *verdict.run]
                skipped += len(verdict.skipped)
                if passed:
                    kept[number] = passed[-1], count + len(passed)
        now += rng.choice([0, 30, 4_000, 300_000])
    for number, each in enumerate(ready):
        expected, last = [], accepted - 1
        while (due := each.after(last, len(expected))) is not None and due <= kept[number][0]:
            expected.append(due)
            last = due
        assert log[number] == expected
        assert kept[number][1] == len(expected)
    assert skipped > 50
    assert sum(map(len, log)) > 3_000
