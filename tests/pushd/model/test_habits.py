"""Preferred hours: synthetic people with known habits, who move, change, stay away, and are many."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.model import habits
from pushd.model.habits import ASSUMED_HOUR, EVIDENCE_MIN, HALF_LIFE_S, HOURS, UNKNOWN, local_hours

DAY = 86_400
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Learned:
    """Rows that learn, and an app of all of them, as the store keeps them."""

    def __init__(self, rows):
        self.weights, self.touched = np.zeros((rows, HOURS), np.float32), np.zeros(rows, np.int64)
        self.app_weights, self.app_touched = np.zeros((1, HOURS), np.float32), np.zeros(1, np.int64)

    def observe(self, rows, hours, at):
        rows, times = rows.astype(np.intp), np.full(len(rows), int(at), np.int64)
        self.weights, self.touched = habits.learn(self.weights, self.touched, rows, hours, times)
        together = np.zeros(len(rows), np.intp)
        self.app_weights, self.app_touched = habits.learn(self.app_weights, self.app_touched, together, hours, times)

    def app(self, at):
        return habits.decayed(self.app_weights, self.app_touched, at)[0].astype(np.float64)

    def crowd(self, rows, at):
        return habits.crowd(habits.decayed(self.weights[rows], self.touched[rows], at))

    def best(self, rows, at, crowd=None):
        own = habits.preferred(habits.decayed(self.weights[rows], self.touched[rows], at))
        crowds = [self.app(at)] if crowd is None else [crowd, self.app(at)]
        return np.where(own == UNKNOWN, habits.fallback(*crowds), own)


def column(*rows):
    return np.array(rows, np.uint32)


def hours(*each):
    return np.array(each, np.int8)


def apart(found, true):
    """How many hours lie between, round the clock."""
    return np.minimum((found - true) % 24, (true - found) % 24)


def live(learned, rows, wanted, days, rng, start=START, spread=1.2, noise=0.2):
    """Every row opens about once a day, around its habit, one in five times whenever."""
    for day in range(days):
        opens = rng.random(len(rows)) < 0.8
        around = np.rint(wanted + rng.normal(0, spread, len(rows))) % 24
        anyhow = rng.integers(0, 24, len(rows))
        at = np.where(rng.random(len(rows)) < noise, anyhow, around).astype(np.int8)
        learned.observe(rows[opens], at[opens], start + day * DAY)
    return start + days * DAY


def test_habits_are_learned():
    rng, rows = np.random.default_rng(1), np.arange(2_000, dtype=np.uint32)
    wanted = rng.integers(0, 24, len(rows))
    learned = Learned(len(rows))
    now = live(learned, rows, wanted, 42, rng)
    away = apart(learned.best(rows, now), wanted)
    assert (away <= 1).mean() > 0.95
    assert (away <= 2).mean() > 0.99


def test_the_night_is_round():
    learned = Learned(1_000)
    for hour in (23, 23, 0, 0, 0, 1, 1):
        learned.observe(column(0), hours(hour), START)
    assert learned.best(column(0), START).tolist() == [0]


def test_neighbours_stand_by_each_other():
    learned = Learned(1_000)
    for hour in (7, 8, 8, 9, 20, 20):
        learned.observe(column(0), hours(hour), START)
    assert learned.best(column(0), START).tolist() == [8]


def test_of_equal_hours_the_earlier():
    learned = Learned(1_000)
    learned.observe(column(0, 0, 0, 0), hours(18, 6, 18, 6), START)
    assert learned.best(column(0), START).tolist() == [6]


def test_new_habits_replace_old_ones():
    rng, rows = np.random.default_rng(2), np.arange(500, dtype=np.uint32)
    before, after = np.full(500, 8), np.full(500, 20)
    learned = Learned(1_000)
    now = live(learned, rows, before, 120, rng)
    assert (apart(learned.best(rows, now), before) <= 1).mean() > 0.97
    now = live(learned, rows, after, 45, rng, start=now)
    assert (apart(learned.best(rows, now), after) <= 1).mean() > 0.95


def test_what_is_old_is_no_evidence():
    learned = Learned(1_000)
    learned.observe(column(0, 0, 0, 0), hours(6, 6, 6, 6), START)
    assert learned.best(column(0), START).tolist() == [6]
    # Others keep the app's hour fresh.
    later = START + 2 * HALF_LIFE_S
    learned.observe(column(*range(1, 9)), hours(*[21] * 8), later)
    assert learned.best(column(0), later).tolist() == [21]


def test_few_opens_fall_back_to_the_segments_and_then_the_apps_hour():
    learned = Learned(1_000)
    assert learned.best(column(0, 999), START).tolist() == [ASSUMED_HOUR] * 2
    for row in range(10, 30):
        learned.observe(column(row, row, row), hours(19, 19, 19), START)
    for row in range(30, 34):
        learned.observe(column(row, row, row), hours(7, 7, 7), START)
    learned.observe(column(1, 1), hours(3, 3), START)
    assert learned.best(column(1, 5, 10), START).tolist() == [19, 19, 19]
    early = learned.crowd(column(30, 31, 32, 33, 1), START)
    assert learned.best(column(1, 5, 10), START, early).tolist() == [7, 7, 19]
    nobody = learned.crowd(column(500, 501), START)
    assert learned.best(column(1), START, nobody).tolist() == [19]


def test_one_who_opens_all_day_is_not_the_crowd():
    learned = Learned(1_000)
    learned.observe(np.zeros(5_000, np.uint32), np.full(5_000, 3, np.int8), START)
    for row in range(1, 6):
        learned.observe(column(row, row, row), hours(18, 18, 18), START)
    crowd = learned.crowd(np.arange(6, dtype=np.uint32), START)
    assert int(crowd.argmax()) == 18
    assert crowd.sum() == pytest.approx(6 * EVIDENCE_MIN)


def test_repeats_and_very_many_opens_are_counted():
    learned = Learned(1_000)
    for _ in range(40):
        learned.observe(np.zeros(5_000, np.uint32), np.full(5_000, 3, np.int8), START)
    assert learned.best(column(0), START).tolist() == [3]
    assert learned.app(START)[3] == 200_000


def test_a_clock_that_was_set_back_changes_nothing():
    learned = Learned(1_000)
    learned.observe(column(0, 0, 0), hours(9, 9, 9), START)
    learned.observe(column(0), hours(9), START - 300 * DAY)
    assert learned.best(column(0), START).tolist() == [9]
    assert learned.app(START)[9] == pytest.approx(3 + 2 ** (-300 / 28), abs=1e-5)


def test_who_moves_keeps_his_hour():
    """Opens at eight in the morning: half a year in Berlin, through its change of clocks, then in Tokyo."""
    learned = Learned(1_000)
    at = START
    for day in range(200):
        zone = ZoneInfo("Europe/Berlin" if day < 180 else "Asia/Tokyo")
        wall = datetime.fromtimestamp(START + day * DAY, zone).replace(hour=8, minute=10)
        at = wall.timestamp()
        learned.observe(column(0), local_hours(np.array([int(at)]), zone), at)
    assert learned.best(column(0), at).tolist() == [8]
    assert learned.crowd(column(0), at)[8] == pytest.approx(EVIDENCE_MIN)


@given(
    st.lists(st.integers(0, 4_000_000_000), min_size=1, max_size=30),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]),
)
def test_local_hours_are_those_of_the_clock(instants, name):
    zone = ZoneInfo(name)
    expected = [datetime.fromtimestamp(each, zone).hour for each in instants]
    assert local_hours(np.array(instants), zone).tolist() == expected


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 23), st.integers(0, 200 * DAY), st.integers(0, 9)), max_size=60
    ),
    st.integers(200 * DAY, 400 * DAY),
)
def test_the_method_as_it_is_documented(opens, now):
    """An open adds 1, all of it halves every 28 days; in whatever order, and in whatever portions, it is learned."""
    weights, touched = np.zeros((4, HOURS), np.float32), np.zeros(4, np.int64)
    for portion in range(10):
        taken = [each for each in opens if each[3] == portion]
        if taken:
            rows, hours_, times, _ = zip(*taken, strict=True)
            weights, touched = habits.learn(
                weights, touched, np.array(rows, np.intp), np.array(hours_, np.int8), np.array(times, np.int64)
            )
    found = habits.decayed(weights, touched, now)
    expected = np.zeros((4, HOURS))
    for row, hour, at, _ in opens:
        expected[row, hour] += 0.5 ** ((now - at) / HALF_LIFE_S)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for row, hour in enumerate(habits.preferred(found).tolist()):
        mine = found[row].astype(float)
        scores = [mine[h] + (mine[h - 1] + mine[(h + 1) % 24]) / 2 for h in range(24)]
        assert (hour == UNKNOWN) == (found[row].sum() < EVIDENCE_MIN)
        if hour != UNKNOWN:
            assert scores[hour] >= max(scores) - 3e-3 * mine.max()


def test_a_million_users():
    rng, rows = np.random.default_rng(3), np.arange(1_000_000, dtype=np.intp)
    wanted = rng.integers(0, 24, len(rows)).astype(np.int8)
    weights, touched = np.zeros((len(rows), HOURS), np.float32), np.zeros(len(rows), np.int64)
    times = np.full(3 * len(rows), int(START), np.int64)
    weights, touched = habits.learn(weights, touched, np.tile(rows, 3), np.tile(wanted, 3), times)
    assert (habits.preferred(weights) == wanted).all()
