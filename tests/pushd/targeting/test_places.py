"""Who is where and in which fence: moves, edits and forgetting against a count by hand, with pauses in between."""

from __future__ import annotations

import math

import numpy as np
import orjson
from geographiclib.geodesic import Geodesic
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pushd.bitset import Devices
from pushd.model.geofence import FenceImage, LocationRows
from pushd.targeting.geometry import SCALE, place
from pushd.targeting.places import Places

APP, OTHER = 1, 2


def rows(*given, app=APP):
    """Of (device, revision, (latitude, longitude) in units)."""
    ids = [each[0] for each in given]
    return LocationRows(
        ids=np.array(ids, np.uint32),
        app_ids=np.full(len(ids), app, np.int32),
        revisions=np.array([each[1] for each in given], np.int32),
        latitudes=np.array([each[2][0] for each in given], np.int32),
        longitudes=np.array([each[2][1] for each in given], np.int32),
    )


def circle(latitude, longitude, radius):
    geometry = {"type": "Point", "coordinates": [longitude, latitude]}
    return orjson.dumps({"type": "Feature", "properties": {"radius": radius}, "geometry": geometry}).decode()


def box(south, west, north, east):
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return orjson.dumps({"type": "Feature", "properties": {"orderAdded": []}, "geometry": geometry}).decode()


def image(fence_id, bounds, revision=1, *, app=APP, enabled=True, **more):
    return FenceImage(id=fence_id, app_id=app, revision=revision, enabled=enabled, bounds=bounds, **more)


class World:
    """Places, and what was told to have moved."""

    def __init__(self):
        self.moved = Devices()
        self.places = Places(lambda ids: self.moved.update(Devices.of(ids)))

    def settle(self, **how):
        for _ in self.places.settle(**how):
            pass

    def members(self, fence_id, app=APP):
        known = self.places.app(app)
        fence = known.fences.get(fence_id) if known else None
        return set(fence.members) if fence else set()


PARIS, LYON, FIJI = place(48.8584, 2.2945), place(45.764, 4.8357), place(-17, 179.99)


def test_moves_are_seen_at_once_and_told():
    world = World()
    world.places.define(image(1, circle(48.8584, 2.2945, 5_000)))
    world.places.define(image(2, box(45, 4, 46, 5)))
    world.settle()
    world.places.apply(rows((7, 1, PARIS), (8, 1, LYON)))
    assert (world.members(1), world.members(2)) == ({7}, {8})
    assert set(world.moved) == {7, 8}
    world.moved.clear()
    world.places.apply(rows((7, 2, LYON)))
    assert (world.members(1), world.members(2)) == (set(), {7, 8})
    assert set(world.moved) == {7}
    world.places.apply(rows((7, 1, PARIS)))
    assert world.members(2) == {7, 8}, "an older image changes nothing"
    world.places.forget(np.array([7, 99_999], np.uint32))
    assert world.members(2) == {8}
    assert set(world.places.app(APP).located) == {8}
    assert world.places.knows(np.array([7, 8, 8, 99_999], np.uint32), np.array([2, 1, 2, 1], np.int32)).tolist() == [
        *(False, True, False, False),
    ]


def test_a_fence_over_the_antimeridian_has_its_devices_once():
    world = World()
    world.places.define(image(1, circle(-17, 179.99, 50_000)))
    world.settle()
    world.places.apply(
        rows((1, 1, FIJI), (2, 1, place(-17, -179.9)), (3, 1, place(-17, 180)), (4, 1, place(-17, -179)))
    )
    assert world.members(1) == {1, 2, 3}
    world.places.apply(rows((1, 2, place(-17, -179.99)), (2, 2, PARIS)))
    assert world.members(1) == {1, 3}


def test_an_edit_is_visible_as_a_whole_and_moves_meanwhile_are_not_lost():
    world = World()
    count = 20_000
    world.places.apply(rows(*((device, 1, PARIS if device % 2 else LYON) for device in range(1, count + 1))))
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000)))
    world.settle()
    assert world.members(1) == set(range(1, count + 1, 2))
    world.places.define(image(1, circle(45.764, 4.8357, 1_000), revision=2))
    steps = world.places.settle()
    next(steps)
    assert len(world.members(1)) == count // 2, "the old one, until the new one is whole"
    assert 1 in world.members(1)
    # One that was looked at, one that was not, and one that goes away.
    world.places.apply(rows((2, 2, PARIS), (count - 1, 2, LYON)))
    world.places.forget(np.array([4, count], np.uint32))
    assert 2 in world.members(1)
    world.moved.clear()
    for _ in steps:
        assert len(world.members(1)) == count // 2
    assert world.members(1) == set(range(2, count + 1, 2)) - {2, 4, count} | {count - 1}
    assert len(world.moved) >= count - 2, "everyone whose part changed is told of"
    assert world.places.settled


def test_an_edit_of_an_edit_and_back_again():
    world = World()
    world.places.apply(rows((1, 1, PARIS), (2, 1, LYON)))
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000)))
    world.settle()
    world.places.define(image(1, circle(45.764, 4.8357, 1_000), revision=2))
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000), revision=3))
    assert world.places.settled, "nothing is left to work out"
    assert world.members(1) == {1}
    world.places.define(image(1, circle(45.764, 4.8357, 1_000), revision=2))
    assert world.places.settled, "an older image changes nothing"


def test_a_disabled_fence_costs_nothing_and_a_deleted_one_stays_away():
    world = World()
    world.places.apply(rows((1, 1, PARIS)))
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000), enabled=False))
    app = world.places.app(APP)
    assert not app.grid
    assert world.places.settled
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000), revision=2))
    world.settle()
    assert world.members(1) == {1}
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000), revision=3, enabled=False))
    assert (world.members(1), bool(app.grid)) == (set(), False)
    world.places.remove(1)
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000), revision=4))
    world.places.remove(2)
    world.places.define(image(2, circle(48.8584, 2.2945, 1_000)))
    assert world.places.settled
    assert not app.fences


def test_crossings_are_of_the_newest_bounds_and_of_moves_alone():
    world = World()
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000), enter_interval_s=60))
    world.places.define(image(2, box(40, 0, 50, 10)))
    world.settle()

    def crossed(before, after):
        found = world.places.crossings(APP, before, after)
        return [fence.id for fence in found.entered], [fence.id for fence in found.left]

    assert crossed(None, PARIS) == ([1, 2], [])
    assert crossed(LYON, PARIS) == ([1], [])
    assert crossed(PARIS, LYON) == ([], [1])
    assert crossed(PARIS, FIJI) == ([], [1, 2])
    assert crossed(PARIS, PARIS) == ([], [])
    assert world.places.crossings(OTHER, None, PARIS) == ([], [])
    world.places.define(image(1, circle(45.764, 4.8357, 1_000), revision=2))
    assert crossed(PARIS, LYON) == ([1], []), "as it was defined last, though it is not worked out yet"


def test_apps_do_not_see_each_other_and_one_that_is_gone_stays_gone():
    world = World()
    for app, fence_id in ((APP, 1), (OTHER, 2)):
        world.places.define(image(fence_id, circle(48.8584, 2.2945, 1_000), app=app))
    world.settle()
    world.places.apply(rows((1, 1, PARIS)))
    world.places.apply(rows((2, 1, PARIS), app=OTHER))
    assert (world.members(1), world.members(2, OTHER)) == ({1}, {2})
    world.places.remove_app(APP)
    assert world.places.app(APP) is None
    world.places.define(image(3, circle(48.8584, 2.2945, 1_000)))
    world.places.apply(rows((1, 2, PARIS)))
    assert world.places.app(APP) is None or not world.places.app(APP).located
    assert world.places.stats()["located"] == 1
    assert world.members(2, OTHER) == {2}


def test_many_are_forgotten_as_one():
    world = World()
    world.places.define(image(1, circle(48.8584, 2.2945, 1_000)))
    world.places.define(image(2, circle(45.764, 4.8357, 1_000)))
    world.settle()
    world.places.apply(rows(*((device, 1, PARIS if device % 2 else LYON) for device in range(1, 201))))
    world.moved.clear()
    world.places.forget(np.arange(50, 1_000, dtype=np.uint32))
    assert world.members(1) | world.members(2) == set(range(1, 50)) == set(world.places.app(APP).located)
    assert set(world.moved) == set(range(50, 201))
    world.places.apply(rows((60, 1, PARIS)))
    assert 60 in world.members(1), "what was forgotten has no revision"


def test_a_load_takes_columns_first_and_sorts_for_all_fences():
    world, twin = World(), World()
    rng = np.random.default_rng(7)
    places = [place(*each) for each in zip(rng.uniform(40, 50, 3_000), rng.uniform(0, 10, 3_000), strict=True)]
    given = [(device, 1, where) for device, where in enumerate(places, start=1)]
    fences = [image(n, circle(40 + n, 2 * (n % 5), 90_000 * n)) for n in range(1, 8)] + [image(9, box(41, 1, 49, 3))]
    world.places.apply(rows(*given))
    for each in fences:
        world.places.define(each)
        twin.places.define(each)
    world.settle(sort=True)
    twin.settle()
    twin.places.apply(rows(*given))
    for each in fences:
        assert world.members(each.id) == twin.members(each.id)
        assert world.members(each.id)


CENTRES = [(48.85, 2.29), (45.7, 4.8), (-17.0, 179.99), (89.9, 10.0), (0.0, -180.0)]
SPOTS = [
    place(lat + dlat, lon + dlon) for lat, lon in CENTRES for dlat in (0, 0.04) for dlon in (0, 0.3) if lat + dlat <= 90
]
RADII = (500, 8_000, 60_000)


class Machine(RuleBasedStateMachine):
    """Random moves, edits and pauses; whatever is shown is what a count by hand gives."""

    @initialize()
    def begin(self):
        self.world = World()
        self.where: dict[int, tuple[int, int]] = {}
        self.revision: dict[int, int] = {}
        self.fences: dict[int, tuple[int, tuple[float, float], int, bool]] = {}
        self.shown: dict[int, tuple[tuple[float, float], int]] = {}
        self.steps = None

    @rule(device=st.integers(1, 6), spot=st.sampled_from(SPOTS))
    def move(self, device, spot):
        self.revision[device] = self.revision.get(device, 0) + 1
        self.world.places.apply(rows((device, self.revision[device], spot)))
        self.where[device] = spot

    @rule(device=st.integers(1, 6))
    def forget(self, device):
        self.world.places.forget(np.array([device], np.uint32))
        self.where.pop(device, None)

    @rule(fence_id=st.integers(1, 3), centre=st.sampled_from(CENTRES), radius=st.sampled_from(RADII), on=st.booleans())
    def define(self, fence_id, centre, radius, on):
        revision = self.fences.get(fence_id, (0,))[0] + 1
        self.fences[fence_id] = (revision, centre, radius, on)
        self.world.places.define(image(fence_id, circle(*centre, radius), revision, enabled=on))
        if not on:
            self.shown.pop(fence_id, None)

    @rule()
    def work_a_little(self):
        self.steps = self.steps or self.world.places.settle()
        if next(self.steps, self) is self:
            self.steps = None

    @rule()
    def work_it_out(self):
        self.world.settle()
        self.steps = None
        assert self.world.places.settled

    @invariant()
    def shows_what_a_count_by_hand_gives(self):
        if not hasattr(self, "world"):
            return
        app = self.world.places.app(APP)
        for fence_id, (_, centre, radius, on) in self.fences.items():
            if not on:
                assert fence_id not in app.fences
            elif fence_id not in app.coming:
                self.shown[fence_id] = (centre, radius)
        for fence_id, (centre, radius) in self.shown.items():
            inside = {device for device, spot in self.where.items() if self.within(centre, radius, spot)}
            assert self.world.members(fence_id) == inside, (fence_id, centre, radius)
        if app is not None:
            assert set(app.located) == set(self.where)

    @staticmethod
    def within(centre, radius, spot):
        line = Geodesic.WGS84.Inverse(*centre, spot[0] / SCALE, spot[1] / SCALE)
        assert not math.isclose(line["s12"], radius, rel_tol=0.01)  # too close to tell apart
        return line["s12"] <= radius


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestMachine = Machine.TestCase
