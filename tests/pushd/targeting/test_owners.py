"""Lists of devices by user."""

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.targeting import owners as module
from pushd.targeting.owners import CROWD, LIST_MAX, Owners


def new():
    owners = Owners(Devices)
    owners.reach(2_000, 2_000)
    return owners


def u32(*ids):
    return np.array(ids, np.uint32)


def pairs(owners, users):
    positions, devices = owners.of_many(u32(*users))
    return sorted(zip((users[at] for at in positions), devices.tolist(), strict=True))


def test_users_beyond_the_columns_have_nothing():
    owners = new()
    assert list(owners.of(10**6)) == []
    assert pairs(owners, [10**6, 3]) == []


def test_a_list_that_grows_long_becomes_a_bitmap_and_ends_with_its_last_device():
    owners = new()
    for device in range(1, LIST_MAX + 3):
        owners.link(5, device)
    assert owners.counts.cells[5] == CROWD
    assert list(owners.of(5)) == list(range(1, LIST_MAX + 3))
    assert not owners.following.data.any()
    for device in range(1, LIST_MAX + 3):
        owners.unlink(5, device)
    assert (owners.counts.cells[5], owners.crowds) == (0, {})
    owners.link(5, 9)
    assert list(owners.of(5)) == [9]


def test_many_devices_of_one_user_at_once_are_a_bitmap():
    owners = new()
    owners.link(7, 1_500)
    owners.link_many(np.full(1_000, 7, np.uint32), np.arange(1, 1_001, dtype=np.uint32))
    owners.link_many(np.full(100, 7, np.uint32), np.arange(1_001, 1_101, dtype=np.uint32))
    assert list(owners.of(7)) == [*range(1, 1_101), 1_500]
    owners.unlink_many(np.full(1_100, 7, np.uint32), np.arange(1, 1_101, dtype=np.uint32))
    assert list(owners.of(7)) == [1_500]
    owners.unlink_many(u32(7), u32(1_500))
    assert owners.crowds == {}


@given(st.lists(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)), max_size=20)), st.booleans())
@settings(max_examples=150)
def test_any_moves_keep_every_device_with_its_user(batches, bulk):
    owners, owner = new(), {}
    with mock.patch.object(module, "LIST_MAX", 4):
        for batch in batches:
            moves = {device: user for device, user in batch if owner.get(device, 0) != user}
            before = [(owner[device], device) for device in moves if device in owner]
            after = [(user, device) for device, user in moves.items() if user]
            if bulk:
                for verb, rows in ((owners.unlink_many, before), (owners.link_many, after)):
                    verb(u32(*(user for user, _ in rows)), u32(*(device for _, device in rows)))
            else:
                for user, device in before:
                    owners.unlink(user, device)
                for user, device in after:
                    owners.link(user, device)
            owner = {device: user for device, user in {**owner, **moves}.items() if user}
    expected = sorted((user, device) for device, user in owner.items())
    assert pairs(owners, list(range(7))) == expected
    assert sorted((user, device) for user in range(7) for device in owners.of(user)) == expected
    assert owners.nbytes > 0
