"""Which images are news."""

import numpy as np

from pushd.targeting.columns import Column
from pushd.targeting.devices import DeviceTable, UserTable, newest


def chosen(ids, revisions, known):
    column = Column(np.int32)
    column.reach(10)
    for key, revision in known.items():
        column.cells[key] = revision
    return newest(np.array(ids, np.uint32), np.array(revisions, np.int32), column).tolist()


def test_ascending_ids_keep_what_is_newer():
    assert chosen([1, 2, 3], [1, 1, 5], {2: 1, 3: 4}) == [0, 2]


def test_of_repeats_the_newest_is_kept_by_ascending_id():
    assert chosen([3, 1, 3, 1], [2, 7, 9, 3], {}) == [1, 2]
    assert chosen([3, 3], [2, 4], {3: 4}) == []


def test_tables_reach_all_their_columns():
    devices, users = DeviceTable(), UserTable()
    devices.reach(5_000)
    users.reach(5_000)
    assert devices.nbytes >= 5_000 * 21
    assert users.nbytes >= 5_000 * 12
