"""Sets of ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushd.bitset import PART_BITS, Devices, Users

IDS = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3 << PART_BITS))


@given(IDS)
def test_columns_go_in_and_come_out_ascending(ids):
    devices = Devices.of(np.array(ids, np.uint32))
    assert isinstance(devices, Devices)
    column = devices.column()
    assert column.dtype == np.uint32
    assert column.tolist() == sorted(set(ids))


@given(IDS)
def test_parts_hold_everything_once(ids):
    devices = Devices(ids)
    parts = devices.parts()
    assert Devices.union(Devices(), *(part for _, part in parts)) == devices
    assert [number for number, _ in parts] == sorted({key >> PART_BITS for key in ids})
    assert all(isinstance(part, Devices) and part for _, part in parts)
    assert all(key >> PART_BITS == number for number, part in parts for key in part)


@given(IDS)
def test_what_is_dumped_loads(ids):
    devices = Devices(ids)
    loaded = Devices.load(devices.dump())
    assert isinstance(loaded, Devices)
    assert loaded == devices


def test_runs_are_dumped_small():
    assert len(Devices(range(1_000_000)).dump()) < 300


@pytest.mark.parametrize("verb", ["__and__", "__or__", "__sub__", "__xor__"])
def test_operators_keep_the_type(verb):
    assert type(getattr(Users([1, 2]), verb)(Users([2, 3]))) is Users
    assert type(Devices.union(Devices([1]), Devices([2]))) is Devices
    assert type(Devices([1]).copy()) is Devices
