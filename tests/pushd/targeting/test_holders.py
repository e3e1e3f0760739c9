"""Who holds devices: users, installs that belong to nobody, zones."""

from __future__ import annotations

import numpy as np

from pushd.bitset import Devices, Users
from pushd.targeting import Index
from pushd.targeting.holders import ANONYMOUS

from .naive import DeviceImage, UserImage, device_rows, user_rows


def column(*ids):
    return np.array(ids, np.uint32)


def index_of(*devices):
    index = Index()
    index.apply_users(user_rows(UserImage(1, external="ada"), UserImage(2, external="bob")))
    index.apply_devices(device_rows(*devices))
    return index


def test_a_person_is_a_user_or_an_install_of_nobody():
    index = index_of(
        DeviceImage(1, user=1, install=5),
        DeviceImage(2, user=2, install=6),
        DeviceImage(3, install=7),
        DeviceImage(4, install=7),
        DeviceImage(5, install=8),
        DeviceImage(6),
    )
    persons = index.holders.persons(column(1, 2, 4, 3, 5, 6, 900))
    assert persons.tolist() == [1, 2, ANONYMOUS | 3, ANONYMOUS | 3, ANONYMOUS | 5, ANONYMOUS | 6, ANONYMOUS | 900]
    assert index.holders.users(column(1, 3, 900)).tolist() == [1, 0, 0]
    assert index.holders.owners(1, Devices([1, 2, 3, 900])) == Users([1, 2])
    assert index.holders.owners(2, Devices([1, 2])) == Users()


def test_zones_are_spelt_as_iana_does():
    index = index_of(
        DeviceImage(1, profile=1), DeviceImage(2, profile=4), DeviceImage(3), DeviceImage(11, route=4, profile=6)
    )
    zones = {name: list(devices) for name, devices in index.holders.time_zones(1)}
    assert zones == {"America/Sao_Paulo": [1], "Europe/Berlin": [2]}
    assert [name for name, _ in index.holders.time_zones(2)] == ["America/New_York"]
    assert [*index.holders.time_zones(3)] == []
    numbers = (index.holders.clocks(column(1, 2, 3)) >> np.uint64(21)).tolist()
    assert [index.holders.zone(1, number) for number in numbers] == ["America/Sao_Paulo", "Europe/Berlin", ""]
    assert index.holders.zone(1, 99) == ""
