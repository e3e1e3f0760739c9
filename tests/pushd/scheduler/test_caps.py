"""Frequency caps: never more than so many in any window, against a list of times; restarts; clocks set back."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.scheduler.caps import Cap, Counter


def column(*rows):
    return np.array(rows, np.uint32)


def test_the_next_one_goes_a_window_after_the_first():
    counter = Counter(Cap(messages=2, window_s=3600))
    rows = column(7)
    assert counter.admit(rows, 1000).tolist() == [True]
    assert counter.admit(rows, 2000).tolist() == [True]
    assert counter.admit(rows, 4599).tolist() == [False]
    assert counter.next_free(rows).tolist() == [4600]
    assert counter.admit(rows, 4600).tolist() == [True]
    assert counter.next_free(rows).tolist() == [5600]
    assert counter.free(column(8), 4600).tolist() == [True]


def test_a_user_with_several_devices_is_one_message():
    counter = Counter(Cap(messages=1, window_s=60))
    assert counter.admit(column(3, 1, 3, 3), 100).tolist() == [True, True, True, True]
    assert counter.admit(column(3, 2, 3), 101).tolist() == [False, True, False]


def test_looking_counts_nothing_and_who_is_forgotten_starts_anew():
    counter = Counter(Cap(messages=1, window_s=60))
    rows = column(0, 5)
    assert counter.free(rows, 100).all()
    assert counter.admit(rows, 100).all()
    counter.forget(column(5))
    assert counter.free(rows, 101).tolist() == [False, True]


def test_a_clock_that_was_set_back_gives_nobody_more():
    counter = Counter(Cap(messages=2, window_s=100))
    rows = column(0)
    assert counter.admit(rows, 1000).all()
    assert counter.admit(rows, 500).all()
    assert not counter.admit(rows, 1099).any()
    assert counter.admit(rows, 1100).all()


def test_what_was_sent_before_a_restart_counts():
    counter = Counter(Cap(messages=2, window_s=100))
    counter.record(column(4, 9), 950)
    counter.record(column(9), 990)
    assert counter.admit(column(4, 9), 1000).tolist() == [True, False]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(60, 400),
    st.lists(st.tuples(st.integers(0, 120), st.lists(st.integers(0, 6), max_size=8)), max_size=60),
)
def test_never_more_in_any_window(messages, window_s, batches):
    counter, sent, now = Counter(Cap(messages=messages, window_s=window_s)), defaultdict(list), 1_000
    for later, rows in batches:
        now += later
        admitted = counter.admit(column(*rows), now)
        for row in set(rows):
            recent = [each for each in sent[row] if each > now - window_s]
            (verdict,) = {bool(each) for each, at in zip(admitted, rows, strict=True) if at == row}
            assert verdict == (len(recent) < messages)
            if verdict:
                sent[row].append(now)
    for times in sent.values():
        for begin in times:
            assert sum(begin <= each < begin + window_s for each in times) <= messages


def test_a_million_users():
    counter = Counter(Cap(messages=3, window_s=86_400))
    rows = np.arange(1_000_000, dtype=np.uint32)
    for step in range(3):
        assert counter.admit(rows, 1_000_000 + step).all()
    assert not counter.admit(rows, 1_000_003).any()
    assert counter.admit(rows[::2], 1_086_400).all()
    assert counter.nbytes <= 14 * 1_000_000
