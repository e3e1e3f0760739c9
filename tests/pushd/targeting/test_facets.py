"""Facets and days of sight, one by one and in columns."""

from __future__ import annotations

import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.model.device import Profile
from pushd.targeting.facets import DAY_S, AppFacets, Profiles, fold


@pytest.mark.parametrize(
    ("facet", "value", "folded"),
    [
        ("locale", "pt_BR", "pt-br"),
        ("locale", "PT-br", "pt-br"),
        ("country", "BR", "br"),
        ("time_zone", "Europe/Berlin", "europe/berlin"),
        ("app_version", "1.0-RC", "1.0-RC"),
    ],
)
def test_spellings_that_are_alike_fold_to_one(facet, value, folded):
    assert fold(facet, value) == folded


def test_profiles_of_one_app_share_numbers_of_values():
    facets, profiles = {1: AppFacets(), 2: AppFacets()}, Profiles()
    profiles.learn(
        {
            7: Profile(1, "ios", "17", "1.0", "pt_BR", "BR", ""),
            9: Profile(1, "ios", "18", "1.0", "pt-br", "", "UTC"),
            11: Profile(2, "web", "18", "", "", "", ""),
        },
        facets.__getitem__,
    )
    assert profiles.numbers("locale", np.array([7, 9, 11, 0], np.int32)).tolist() == [1, 1, 0, 0]
    assert profiles.numbers("os_version", np.array([7, 9, 11, 0], np.int32)).tolist() == [1, 2, 1, 0]
    assert facets[1].values["os_version"].names == ["", "17", "18"]
    assert len(profiles) == 3
    assert profiles.nbytes > 0


def test_devices_move_between_values_singly_as_in_columns():
    single, many = AppFacets(), AppFacets()
    for facets in (single, many):
        for version in ("1", "2"):
            facets.values["app_version"].learn(version)
    devices = np.array([1, 2, 3, 4], np.uint32)
    for before, after in (([0, 0, 0, 0], [1, 1, 2, 0]), ([1, 1, 2, 0], [2, 0, 2, 1])):
        for device, old, new in zip(devices.tolist(), before, after, strict=True):
            single.move("app_version", device, old, new)
        many.move_many("app_version", devices, np.array(before, np.uint32), np.array(after, np.uint32))
    for facets in (single, many):
        values = facets.values["app_version"]
        assert (values.find("1"), values.find("2"), values.find("3")) == (Devices([4]), Devices([1, 3]), Devices())
        assert list(values.where(lambda name: name != "2")) == [Devices([4])]


def test_days_without_devices_are_given_up():
    single, many = AppFacets(), AppFacets()
    devices = np.array([1, 2], np.uint32)
    for before, after in (([0, 0], [5, DAY_S]), ([5, DAY_S], [DAY_S - 1, 0])):
        for device, old, new in zip(devices.tolist(), before, after, strict=True):
            single.see("last", device, old, new)
        many.see_many("last", devices, np.array(before, np.uint32), np.array(after, np.uint32))
    for facets in (single, many):
        assert facets.days == {"first": {}, "last": {0: Devices([1])}}
