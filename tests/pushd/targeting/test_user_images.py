"""Images of users: one by one and as columns."""

import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.model.audience import Tags, UserIds, UserNumbers
from pushd.model.device import ALERT_KINDS
from pushd.targeting import Index
from pushd.targeting.user_images import FEW_ROWS

from .naive import DeviceImage, UserImage, device_rows, user_rows

CROWD = FEW_ROWS + 8


def many(prefix="user", **fields):
    return [UserImage(key, external=f"{prefix}-{key}", **fields) for key in range(1, CROWD + 1)]


def with_devices(count):
    index = Index()
    index.apply_devices(device_rows(*(DeviceImage(key, user=(key - 1) % count + 1) for key in range(1, 2 * count + 1))))
    return index


def tagged(index, name, of="user"):
    return list(index.resolve(1, Tags(any=[name], of=of), ALERT_KINDS).devices)


@pytest.mark.parametrize("count", [1, CROWD])
def test_tags_of_users_reach_devices_that_came_before_and_after(count):
    index = with_devices(count)
    index.apply_users(user_rows(*many(tags=(1, 2))[:count]))
    index.apply_devices(device_rows(DeviceImage(1_000, user=1)))
    assert tagged(index, "news") == [*range(1, 2 * count + 1), 1_000]
    assert tagged(index, "news", "device") == []
    index.apply_users(user_rows(*many(tags=(2, 3), revision=2)[:count]))
    assert tagged(index, "news") == []
    assert tagged(index, "strasse") == tagged(index, "sport") == [*range(1, 2 * count + 1), 1_000]


@pytest.mark.parametrize("count", [1, CROWD])
def test_a_deleted_user_is_unknown_and_its_tags_leave_its_devices(count):
    index = with_devices(count)
    index.apply_users(user_rows(*many(tags=(1,))[:count]))
    index.apply_users(user_rows(*many(deleted=True, revision=2)[:count]))
    index.apply_users(user_rows(*many(tags=(1,))[:count]))
    assert tagged(index, "news") == []
    assert index.resolve(1, UserIds(["user-1"]), ALERT_KINDS).unknown["users"] == ["user-1"]
    assert index.resolve(1, UserNumbers([1]), ALERT_KINDS).unknown["user_numbers"] == [1]
    index.apply_users(user_rows(*many(tags=(1,), revision=3)[:count]))
    assert len(tagged(index, "news")) == 2 * count


@pytest.mark.parametrize("count", [1, CROWD])
def test_an_external_id_may_change_and_be_taken_by_another_user(count):
    index = with_devices(count)
    index.apply_users(user_rows(*many()[:count]))
    index.apply_users(user_rows(*many(prefix="renamed", revision=2)[:count]))
    assert index.resolve(1, UserIds(["user-1"]), ALERT_KINDS).unknown["users"] == ["user-1"]
    assert list(index.resolve(1, UserIds(["renamed-1"]), ALERT_KINDS).devices) == [1, count + 1]
    index.apply_users(user_rows(UserImage(90, external="user-1")))
    assert index.resolve(1, UserIds(["user-1"]), ALERT_KINDS).unsubscribed["users"] == ["user-1"]


@pytest.mark.parametrize("count", [1, CROWD])
def test_quiet_hours_are_the_newest_image(count):
    index = with_devices(count)
    index.apply_users(user_rows(*many(quiet=7)[:count]))
    holders = index.holders
    assert holders.have_quiet_hours(1) == count
    assert holders.has_quiet_hours(1, ["user-1"])
    assert not holders.has_quiet_hours(1, ["nobody", ""])
    assert holders.clocks(np.array([1, 2 * count, 5_000_000], np.uint32)).tolist() == [7, 7, 0]
    assert Devices.union(*holders.of_quiet_users(1, 3)) == Devices(range(1, 2 * count + 1))
    index.apply_users(user_rows(*many(quiet=9, revision=2)[:count], UserImage(500, external="one")))
    index.apply_users(user_rows(*many(quiet=3)[:count]))
    assert holders.clocks(np.array([1], np.uint32)).tolist() == [9]
    assert holders.have_quiet_hours(1) == count
    assert index.stats()["bitmap_bytes"] > 0
    index.apply_users(user_rows(*many(deleted=True, quiet=9, revision=3)[:count]))
    assert (holders.have_quiet_hours(1), holders.has_quiet_hours(1, ["user-1"])) == (0, False)
    assert holders.clocks(np.array([1], np.uint32)).tolist() == [0]


def test_quiet_hours_go_with_the_app():
    index = with_devices(2)
    index.apply_users(user_rows(*many(quiet=7)))
    index.remove_app(1)
    assert index.holders.have_quiet_hours(1) == 0
    assert index.holders.clocks(np.array([1], np.uint32)).tolist() == [0]
    index.apply_users(user_rows(*many(quiet=7, revision=2)))
    assert index.holders.have_quiet_hours(1) == 0
