"""Ranges of ids cover every used id once, in chunks of bounded size."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pushd.store.loading import _ranges

blocks = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 64)), max_size=30).map(
    lambda pairs: [(place * 64, place * 64 + used) for place, (_, used) in enumerate(pairs)]
)


@given(blocks, st.integers(64, 500))
def test_every_used_id_is_in_one_range(given_blocks, rows_max):
    ranges = _ranges(given_blocks, rows_max)
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
    for start, stop in given_blocks:
        for number in range(start, stop):
            assert sum(begin <= number < end for begin, end in ranges) == 1
    for begin, end in ranges:
        assert sum(max(0, min(stop, end) - max(start, begin)) for start, stop in given_blocks) <= rows_max
