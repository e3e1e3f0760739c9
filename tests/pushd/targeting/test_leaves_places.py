"""Leaves over places in the index: their algebra, changes between slices, retries, devices that go, who is inside."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.bitset import Devices
from pushd.model.audience import And, Broadcast, InGeofences, Located, Not, Or, UserIds
from pushd.model.device import ALERT_KINDS
from pushd.model.rows import DeviceFlag
from pushd.targeting import Index, evaluation, places, scope

from .naive import LIVE, DeviceImage, UserImage, device_rows, user_rows
from .test_evaluation import paused
from .test_places import LYON, PARIS, box, circle, image, rows

COUNT = 12
TOWNS = {1: (PARIS, circle(48.8584, 2.2945, 5_000)), 2: (LYON, circle(45.764, 4.8357, 5_000))}
FRANCE = box(42, -5, 51, 9)


def population():
    """Twelve devices of six users; Paris is fence 1, Lyon 2, France 3; fence 4 is off."""
    index = Index()
    index.apply_users(user_rows(*(UserImage(user, external=f"u{user}") for user in range(1, 7))))
    index.apply_devices(
        device_rows(*(DeviceImage(n, flags=LIVE, user=(n + 1) // 2, install=n) for n in range(1, COUNT + 1)))
    )
    for fence_id, (_, bounds) in TOWNS.items():
        index.define_geofence(image(fence_id, bounds, tags=("Town", f"town-{fence_id}")))
    index.define_geofence(image(3, FRANCE, tags=("country",)))
    index.define_geofence(image(4, FRANCE, enabled=False, tags=("country",)))
    settle(index)
    return index


def settle(index):
    for _ in index.settle_places():
        pass


def resolve(index, audience):
    return set(index.resolve(1, audience, ALERT_KINDS).devices)


def test_leaves_and_their_algebra():
    index = population()
    index.apply_locations(rows((1, 1, PARIS), (2, 1, LYON), (3, 1, PARIS), (4, 1, (0, 0))))
    everyone = set(range(1, COUNT + 1))
    assert resolve(index, InGeofences(any=True)) == {1, 2, 3}
    assert resolve(index, InGeofences(ids=[1])) == {1, 3}
    assert resolve(index, InGeofences(ids=[1, 2, 4])) == {1, 2, 3}
    assert resolve(index, InGeofences(ids=[4])) == set()
    assert resolve(index, InGeofences(tags=["TOWN-2", "nobody's"])) == {2}
    assert resolve(index, InGeofences(tags=["Country"])) == {1, 2, 3}
    assert resolve(index, Located(is_=True)) == {1, 2, 3, 4}
    assert resolve(index, Located(is_=False)) == everyone - {1, 2, 3, 4}
    assert resolve(index, Not(of=InGeofences(any=True))) == everyone - {1, 2, 3}
    assert resolve(index, And(of=[Located(is_=True), Not(of=InGeofences(tags=["town"]))])) == {4}
    assert resolve(index, Or(of=[InGeofences(ids=[2]), UserIds(ids=["u6"])])) == {2, 11, 12}


def test_an_app_without_places_has_nobody_anywhere():
    index = Index()
    index.apply_devices(device_rows(DeviceImage(1, flags=LIVE)))
    assert resolve(index, InGeofences(any=True)) == set()
    assert resolve(index, Located(is_=False)) == {1}


def test_a_device_that_goes_leaves_its_place():
    index = population()
    index.apply_locations(rows((1, 1, PARIS), (3, 1, PARIS)))
    index.apply_devices(device_rows(DeviceImage(3, revision=2, flags=int(DeviceFlag.DELETED))))
    assert resolve(index, InGeofences(any=True)) == {1}
    assert not index.places.located(3)
    index.remove_app(1)
    assert index.stats()["located"] == 0


def test_a_retry_does_not_ask_who_has_moved():
    index = population()
    index.apply_locations(rows((1, 1, PARIS), (2, 1, PARIS)))
    audience = And(of=[UserIds(ids=["u1"]), InGeofences(ids=[1]), Not(of=Located(is_=False))])
    devices = index.resolve(1, audience, ALERT_KINDS).devices
    assert set(devices) == {1, 2}
    index.apply_locations(rows((1, 2, LYON)))
    index.forget_locations(np.array([2], np.uint32))
    assert resolve(index, audience) == set()
    assert index.still(1, devices, audience, ALERT_KINDS) == devices


def test_every_change_shows_in_the_version():
    index = population()
    seen = [index.version]

    def grown():
        seen.append(index.version)
        return seen[-1] > seen[-2]

    index.apply_locations(rows((1, 1, PARIS)))
    assert grown()
    index.define_geofence(image(1, TOWNS[2][1], revision=2))
    assert grown()
    settle(index)
    assert grown()
    index.remove_geofence(1)
    assert grown()
    index.forget_locations(np.array([1], np.uint32))
    assert grown()


def test_who_is_inside_is_counted_by_user_and_by_install_where_there_is_none():
    index = population()
    index.apply_devices(
        device_rows(
            DeviceImage(21, flags=LIVE, user=0, install=90),
            DeviceImage(22, flags=LIVE, user=0, install=90),
            DeviceImage(23, flags=LIVE, user=0, install=91),
        )
    )
    index.apply_locations(rows(*((device, 1, PARIS) for device in (1, 2, 3, 21, 22, 23))))
    assert counted(index.presence(1, 1)) == (6, 4)
    assert counted(index.presence(1, 4)) == (0, 0)


def counted(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


MOVES = st.lists(st.tuples(st.integers(1, COUNT), st.sampled_from([PARIS, LYON, (0, 0), None])), max_size=12)
EDITS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([TOWNS[1][1], TOWNS[2][1], FRANCE, None])), max_size=4)
LEAVES = [InGeofences(any=True), InGeofences(ids=[1, 3]), InGeofences(tags=["town"]), Located(is_=True), Broadcast()]
AUDIENCES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.builds(lambda of: And(of=of), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda of: Or(of=of), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda of: Not(of=of), inner),
    ),
    max_leaves=6,
)


@given(MOVES, MOVES, EDITS, AUDIENCES)
@settings(max_examples=150)
def test_moves_and_edits_between_slices_are_in_the_result(before, late, edits, audience):
    index = population()
    revisions = dict.fromkeys(range(1, COUNT + 1), 0)

    def move(device, where):
        revisions[device] += 1
        if where is None:
            index.forget_locations(np.array([device], np.uint32))
        else:
            index.apply_locations(rows((device, revisions[device], where)))

    for each in before:
        move(*each)
    waiting = [*late]
    edited = [*edits]

    def change(number):
        if waiting:
            move(*waiting.pop())
        if edited:
            fence_id, bounds = edited.pop()
            index.define_geofence(
                image(fence_id, bounds or FRANCE, number + 1, enabled=bounds is not None, tags=("town",))
            )
            settle(index)

    with (
        mock.patch.object(evaluation, "SLICE_S", -1),
        mock.patch.object(evaluation, "FEW_CHANGED", 0),
        mock.patch.object(scope, "SLICE_SETS", 1),
        mock.patch.object(places, "SLICE_ROWS", 3),
    ):
        found, _ = paused(index, 1, audience, ALERT_KINDS, change)
    assert found.devices == index.resolve(1, audience, ALERT_KINDS).devices
    assert isinstance(found.devices, Devices)
