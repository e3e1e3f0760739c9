"""Growable columns."""

import numpy as np

from pushd.targeting.columns import STEP_ROWS_MAX, Column


def test_grows_by_small_steps_and_keeps_what_is_there():
    column = Column(np.uint32)
    column.reach(1)
    column.cells[0] = 7
    for rows in (1_000, 100_000, 3_000_000):
        column.reach(rows)
        assert rows <= len(column.data) <= max(rows, rows + STEP_ROWS_MAX)
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
