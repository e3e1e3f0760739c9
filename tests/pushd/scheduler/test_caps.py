"""Frequency caps: never more than so many in any window, against a list of times; restarts; clocks set back."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.model.caps import Cap
from pushd.scheduler.caps import Counter, Numbering


def column(*persons):
    return np.array(persons, np.uint32)


def test_the_next_one_goes_a_window_after_the_first():
    counter = Counter(Cap(messages=2, window_s=3600))
    persons = column(7)
    assert counter.admit(persons, 1000).tolist() == [True]
    assert counter.admit(persons, 2000).tolist() == [True]
    assert counter.admit(persons, 4599).tolist() == [False]
    assert counter.admit(persons, 4600).tolist() == [True]
    assert counter.admit(persons, 5599).tolist() == [False]
    assert counter.admit(persons, 5600).tolist() == [True]
    assert counter.admit(column(8), 4600).tolist() == [True]


def test_who_is_let_through_is_said_of_each():
    counter = Counter(Cap(messages=1, window_s=60))
    assert counter.admit(column(1, 3), 100).tolist() == [True, True]
    assert counter.admit(column(1, 2, 3, 1 << 31), 101).tolist() == [False, True, False, True]


def test_what_lies_ahead_of_a_clock_that_was_set_back_counts_as_sent():
    counter = Counter(Cap(messages=2, window_s=100))
    persons = column(0)
    assert counter.admit(persons, 1000).all()
    assert counter.admit(persons, 500).all()
    assert not counter.admit(persons, 599).any()
    assert counter.admit(persons, 600).all()
    assert not counter.admit(persons, 690).any()


def test_what_was_sent_before_a_restart_counts():
    counter = Counter(Cap(messages=2, window_s=100))
    counter.record(column(4, 9, 9), column(950, 950, 990))
    assert counter.admit(column(4, 9), 1000).tolist() == [True, False]


def test_what_is_taken_back_was_never_sent():
    counter = Counter(Cap(messages=2, window_s=100))
    assert counter.admit(column(1, 2), 1000).all()
    assert counter.admit(column(1), 1010).all()
    counter.withdraw(column(1, 2), 1000)
    assert counter.admit(column(1, 2), 1020).tolist() == [True, True]
    assert counter.admit(column(1, 2), 1030).tolist() == [False, True]
    assert counter.admit(column(1, 2), 1110).tolist() == [True, False]


def test_rows_are_met_in_blocks_in_any_order():
    numbering, rng = Numbering(), np.random.default_rng(1)
    known: dict[int, int] = {}
    for _ in range(50):
        persons = np.unique(rng.integers(0, 1 << 32, 20, dtype=np.uint64) % 3_000).astype(np.uint32)
        persons = np.concatenate([persons, persons | np.uint32(1 << 31)])
        for person, row in zip(persons.tolist(), numbering.rows(persons).tolist(), strict=True):
            assert known.setdefault(person, row) == row
    assert len(set(known.values())) == len(known)
    assert max(known.values()) < len(numbering) <= 64 * 2 * (3_000 // 64 + 1)


BATCHES = st.lists(
    st.tuples(
        st.integers(0, 120),
        st.lists(st.integers(0, 6), max_size=8, unique=True),
        st.sampled_from(["sent", "sent", "sent", "withdrawn", "loaded"]),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(st.integers(1, 5), st.integers(60, 400), BATCHES)
def test_never_more_in_any_window(messages, window_s, batches):
    """Against a list of times; some are taken back, and now and then all is read from what was kept."""
    counter, sent, now = Counter(Cap(messages=messages, window_s=window_s)), defaultdict(list), 1_000
    for later, persons, fate in batches:
        now += later
        if fate == "loaded":
            kept = sorted((at, person) for person, times in sent.items() for at in times if at > now - window_s)
            counter = Counter(Cap(messages=messages, window_s=window_s))
            counter.record(column(*(person for _, person in kept)), column(*(at for at, _ in kept)))
        admitted = counter.admit(column(*persons), now).tolist()
        for person, free in zip(persons, admitted, strict=True):
            recent = [each for each in sent[person] if each > now - window_s]
            assert free == (len(recent) < messages)
            if free and fate != "withdrawn":
                sent[person].append(now)
        if fate == "withdrawn":
            counter.withdraw(column(*(each for each, free in zip(persons, admitted, strict=True) if free)), now)
    for times in sent.values():
        for begin in times:
            assert sum(begin <= each < begin + window_s for each in times) <= messages


def test_a_million_users():
    counter = Counter(Cap(messages=3, window_s=86_400))
    persons = np.arange(1_000_000, dtype=np.uint32)
    for step in range(3):
        assert counter.admit(persons, 1_000_000 + step).all()
    assert not counter.admit(persons, 1_000_003).any()
    assert counter.admit(persons[::2], 1_086_400).all()
    assert counter.nbytes <= 13 * 1_000_000
