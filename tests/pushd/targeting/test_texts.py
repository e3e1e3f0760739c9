"""Texts at numbers: one number for all who have a text, free again when nobody has it."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.targeting import identities
from pushd.targeting.texts import Texts

WORDS = st.sampled_from(["a", "b", "Straße", "c" * 300, "d"])


@given(st.lists(st.tuples(st.booleans(), st.lists(st.tuples(st.sampled_from([1, 2]), WORDS), max_size=6)), max_size=12))
@settings(max_examples=60)
def test_texts_are_found_as_long_as_somebody_has_them(steps):
    texts, takers, numbers = Texts(), Counter(), {}
    with mock.patch.object(identities, "FEW_IDS", 0):
        for taking, rows in steps:
            if taking:
                taken = texts.take_many(np.array([app for app, _ in rows], np.int32), [text for _, text in rows])
                for row, number in zip(rows, taken.tolist(), strict=True):
                    assert numbers.setdefault(row, number) == number
                    takers[row] += 1
            else:
                leaving = [row for row in rows if takers[row] >= rows.count(row)]
                texts.drop_many(np.array([numbers[row] for row in leaving], np.uint32))
                for row in leaving:
                    takers[row] -= 1
                    if not takers[row]:
                        del numbers[row]
    for app in (1, 2):
        for text in ("a", "b", "Straße", "c" * 300, "d"):
            assert texts.find(app, text) == numbers.get((app, text), 0)
    assert len(texts) == len(numbers)
    assert all(texts.text(number) == text for (_, text), number in numbers.items())


def test_a_text_is_taken_as_often_as_it_is_said_to_be():
    texts = Texts()
    (number,) = texts.take_many(np.array([1], np.int32), ["x"], np.array([3])).tolist()
    texts.drop_many(np.array([number, number], np.uint32))
    assert texts.find(1, "x") == number
    texts.drop_many(np.array([number, 0], np.uint32))
    assert (texts.find(1, "x"), len(texts)) == (0, 0)
    assert texts.take(1, "y") == number


@pytest.mark.parametrize("count", [10, 5_000])
def test_bytes_are_counted(count):
    texts = Texts()
    texts.take_many(np.ones(count, np.int32), [f"text {number}" for number in range(count)])
    assert texts.text_nbytes > 0
    assert texts.nbytes > 4 * count
    assert len(texts) == count
