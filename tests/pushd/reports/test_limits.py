"""Buckets against arithmetic that remembers everything; limits of installs, keys and addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.config.receipts import ReceiptsConfig
from pushd.errors import TooManyRequestsError
from pushd.reports.limits import ADDRESSES_MAX, Buckets, ReceiptLimits

steps = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 30), st.integers(0, 20)), max_size=40)


@given(steps)
def test_what_leaks_out_makes_room(taken):
    buckets = Buckets(per_s=2.0, room=20, names_max=10)
    levels, now = {"a": 0.0, "b": 0.0}, 0.0
    for name, amount, pause in taken:
        now += pause
        levels = {each: max(0.0, level - 2.0 * pause) for each, level in levels.items()}
        wait = buckets.take(name, amount, now)
        assert (wait > 0) == (levels[name] >= 20)
        if wait:
            assert levels[name] - 2.0 * wait < 20
        else:
            levels[name] += amount
        assert buckets.level(name, now) == pytest.approx(levels[name])


def test_what_came_to_nothing_is_given_back():
    buckets = Buckets(per_s=1.0, room=10, names_max=10)
    assert buckets.take("a", 10, 0.0) == 0
    assert buckets.take("a", 1, 0.0) == pytest.approx(1.0)
    buckets.give_back("a", 4, 0.0)
    assert buckets.take("a", 1, 0.0) == 0
    buckets.give_back("a", 7, 0.0)
    assert len(buckets) == 0


def test_only_so_many_names_are_remembered():
    buckets = Buckets(per_s=0.1, room=1, names_max=3)
    for name in "abcd":
        assert buckets.take(name, 1, 0.0) == 0
    assert len(buckets) == 3
    assert buckets.take("d", 1, 0.0) > 0
    assert buckets.take("a", 1, 0.0) == 0  # forgotten
    assert ADDRESSES_MAX < 100_000


def test_each_limit_refuses_with_a_time_after_which_it_does_not():
    config = ReceiptsConfig(
        install_per_hour_max=10, key_per_s_max=2, beacons_per_minute_max=6, bad_signatures_per_minute_max=2
    )
    limits = ReceiptLimits(config)
    asked = [
        (lambda now: limits.admit(1, "phone", 5, now), 2),
        (lambda now: limits.admit_key(7, 10, now), 2),
        (lambda now: limits.admit_address("192.0.2.1", 3, now), 2),
    ]
    for admit, times in asked:
        for _ in range(times):
            admit(0.0)
        with pytest.raises(TooManyRequestsError) as refused:
            admit(0.0)
        admit(refused.value.retry_after_s)
    limits.admit(1, "another", 5, 0.0)
    limits.admit(2, "phone", 5, 0.0)
    limits.forget(1, "phone")
    limits.admit(1, "phone", 5, 0.0)
    for _ in range(2):
        limits.forged("198.51.100.1", 0.0)
    with pytest.raises(TooManyRequestsError):
        limits.admit_address("198.51.100.1", 1, 0.0)
    limits.admit_address("198.51.100.1", 1, 60.0)
