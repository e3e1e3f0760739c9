"""Growable columns."""

import numpy as np

from pushd.targeting.columns import Column


def test_grows_by_small_steps_and_keeps_what_is_there():
    column = Column(np.uint32)
    column.reach(1)
    column.cells[0] = 7
    for rows in (1_000, 100_000, 3_000_000):
        column.reach(rows)
        assert rows <= len(column.data) <= rows * 17 // 16 + 1024
        assert column.cells[0] == 7
    assert not column.data[1:].any()
    assert column.nbytes == 4 * len(column.data)


def test_cells_and_data_are_the_same_rows():
    column = Column(np.int32)
    column.reach(10)
    column.data[3] = -5
    assert column.cells[3] == -5
    column.cells[4] = 9
    assert column.data[4] == 9


def test_reaching_what_is_there_changes_nothing():
    column = Column(np.uint8)
    column.reach(10)
    size = len(column.data)
    column.reach(5)
    assert len(column.data) == size


def test_rows_that_somebody_still_looks_at_stay_as_they_are():
    column = Column(np.uint32)
    column.reach(10)
    column.cells[3] = 7
    seen = column.data
    column.reach(1_000_000)
    column.cells[3] = 8
    assert (seen[3], column.data[3]) == (7, 8)
    assert not column.data[4:].any()


def test_byte_strings_are_rows_too():
    column = Column("S5")
    column.reach(2_000)
    column.data[1_999] = b"abcde"
    column.reach(9_000)
    assert column.data[1_998:2_001].tolist() == [b"", b"abcde", b""]
