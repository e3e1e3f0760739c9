"""Circles against geodesics of an independent library, areas against even-odd counting, poles and the antimeridian."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from geographiclib.geodesic import Geodesic
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pushd.targeting.geometry import SCALE, Area, Circle, NotSimpleError, Points, enclosed, place

WGS84 = Geodesic.WGS84
latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)


def points(*places):
    return Points(np.array([p[0] for p in places], np.int32), np.array([p[1] for p in places], np.int32))


def inside(shape, latitude, longitude):
    return bool(shape.contains(points(place(latitude, longitude)))[0])


def boxed(shape, latitude, longitude):
    north, east = place(latitude, longitude)
    return any(box.south <= north <= box.north and box.west <= east <= box.east for box in shape.boxes)


@settings(max_examples=200)
@given(latitudes, longitudes, st.floats(100, 5_000_000), st.floats(0, 360))
def test_a_circle_is_true_to_the_geodesic_within_a_thousandth(latitude, longitude, radius, azimuth):
    circle = Circle(latitude, longitude, radius)
    for share, expected in ((0.5, True), (0.999, True), (1.001, False), (1.5, False)):
        there = WGS84.Direct(latitude, longitude, azimuth, radius * share)
        assert inside(circle, there["lat2"], there["lon2"]) == expected, share
        assert boxed(circle, there["lat2"], there["lon2"]) or not expected


@pytest.mark.parametrize("radius", [5, 50, 425, 20_000])
def test_small_circles_are_true_to_the_centimetre_or_so(radius):
    circle = Circle(40.7827647, -73.9652551, radius)
    for azimuth in range(0, 360, 15):
        for distance, expected in ((radius - 0.03 - radius * 1e-6, True), (radius + 0.03 + radius * 1e-6, False)):
            there = WGS84.Direct(40.7827647, -73.9652551, azimuth, distance)
            assert inside(circle, there["lat2"], there["lon2"]) == expected, (azimuth, distance)


def test_a_circle_over_a_pole_and_over_the_antimeridian():
    pole = Circle(89.9, 30, 50_000)
    assert all(inside(pole, 89.95, longitude) for longitude in range(-180, 181, 20))
    assert inside(pole, 90, -170)
    assert not inside(pole, 89, 30)
    fiji = Circle(-17, 179.9, 50_000)
    assert inside(fiji, -17, -179.8)
    assert inside(fiji, -17, 180)
    assert inside(fiji, -17, -180)
    assert not inside(fiji, -17, -179.4)
    assert len(fiji.boxes) == 2


def even_odd(ring, x, y):
    """Whether a ray to the east crosses the ring an odd number of times: by hand, in plain coordinates."""
    crossings = 0
    for (x1, y1), (x2, y2) in pairwise(ring):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            crossings += 1
    return crossings % 2 == 1


@st.composite
def stars(draw):
    """Rings that do not cross themselves: corners around a centre, by angle."""
    x, y = draw(st.floats(-300, 300)), draw(st.floats(-55, 55))
    angles = sorted(draw(st.lists(st.integers(0, 359), min_size=3, max_size=12, unique=True)))
    assume(max(b - a for a, b in zip(angles, [*angles[1:], angles[0] + 360], strict=True)) < 180)
    radii = draw(st.lists(st.floats(1, 30), min_size=len(angles), max_size=len(angles)))
    corners = [
        (x + r * math.cos(math.radians(a)), y + r * math.sin(math.radians(a)))
        for a, r in zip(angles, radii, strict=True)
    ]
    return [*corners, corners[0]]


@settings(max_examples=150)
@given(stars(), st.lists(st.tuples(st.floats(-180, 180), st.floats(-89, 89)), min_size=5, max_size=30))
def test_an_area_holds_what_even_odd_counting_says_wherever_it_lies_on_the_map(ring, places):
    try:
        area = Area(enclosed(ring))
    except NotSimpleError:
        assume(False)
    xs = [x for x, _ in ring]
    near = [(min(xs) + (max(xs) - min(xs)) * (x + 180) / 360, y) for x, y in places]
    for x, y in [*places, *near]:
        spots = [place(y, x)]
        east = spots[0][1] / SCALE
        expected = any(even_odd(ring, east + 360 * turns, spots[0][0] / SCALE) for turns in range(-2, 3))
        got = bool(area.contains(points(*spots))[0])
        if got != expected:  # only within a unit of an edge: there, the two round differently
            around = [
                any(even_odd(ring, east + dx + 360 * turns, spots[0][0] / SCALE + dy) for turns in range(-2, 3))
                for dx in (-1e-6, 1e-6)
                for dy in (-1e-6, 1e-6)
            ]
            assert len(set(around)) == 2
        assert not got or boxed(area, y, x)


def test_an_edge_of_more_than_half_the_earth_goes_the_short_way():
    area = Area(enclosed([(179, -1), (-179, -1), (-179, 1), (179, 1), (179, -1)]))
    for longitude, expected in ((179.5, True), (180, True), (-180, True), (-179.5, True), (0, False), (178.9, False)):
        assert inside(area, 0, longitude) == expected, longitude
    beyond = Area(enclosed([(179, -1), (181, -1), (181, 1), (179, 1), (179, -1)]))
    assert [inside(beyond, 0, x) for x in (179.5, -179.5, 178.9, -178.9)] == [True, True, False, False]


def test_a_box_around_the_whole_map_holds_everything():
    area = Area(enclosed([(-180, -90), (180, -90), (180, 90), (-180, 90), (-180, -90)]))
    assert all(inside(area, y, x) for x in range(-180, 181, 30) for y in range(-90, 91, 30))


def test_a_ring_round_the_earth_holds_the_pole_of_its_hemisphere():
    for side in (1, -1):
        area = Area(enclosed([(0, 80 * side), (90, 80 * side), (180, 80 * side), (-90, 80 * side), (0, 80 * side)]))
        assert all(inside(area, 85 * side, x) for x in range(-180, 181, 15))
        assert all(inside(area, 90 * side, x) for x in (-180, 3, 77, 180))
        assert not any(inside(area, y * side, x) for x in range(-180, 181, 15) for y in (79, 0, -90))


def test_the_antimeridian_and_the_poles_are_one_place_each_however_they_are_written():
    assert place(5, 180) == place(5, -180)
    assert place(90, 33) == place(90, -170)
    east = Area(enclosed([(170, 0), (180, 0), (180, 10), (170, 10), (170, 0)]))
    west = Area(enclosed([(-180, 0), (-170, 0), (-170, 10), (-180, 10), (-180, 0)]))
    assert all(inside(area, 5, x) for area in (east, west) for x in (180, -180))
    assert not inside(east, 5, -179.9999)
    assert not inside(east, 11, 180)
    top = Area(enclosed([(80, 70), (90, 70), (90, 90), (80, 90), (80, 70)]))
    assert inside(top, 90, 0)
    assert inside(top, 90, -50)
    assert not inside(top, 89.99, 0)


def test_edges_and_corners_belong_to_an_area():
    area = Area(enclosed([(10, 10), (20, 10), (20, 20), (10, 20), (10, 10)]))
    assert all(inside(area, y, x) for x, y in ((10, 10), (15, 10), (20, 15), (20, 20)))
    assert not inside(area, 15, 20.0000001)


@pytest.mark.parametrize(
    "ring",
    [
        [(0, 0), (10, 10), (10, 0), (0, 10), (0, 0)],
        [(0, 0), (10, 0), (20, 0), (0, 0)],
        [(0, 0), (0, 0), (0, 0), (0, 0)],
        [(-300, 0), (200, 0), (200, 10), (-300, 10), (-300, 0)],
    ],
    ids=["crosses itself", "a line", "a point", "wider than the earth"],
)
def test_a_ring_that_encloses_no_simple_area_is_refused(ring):
    with pytest.raises(NotSimpleError):
        enclosed(ring)


@settings(max_examples=100)
@given(
    latitudes, longitudes, st.floats(1, 100_000), st.lists(st.tuples(latitudes, longitudes), min_size=1, max_size=50)
)
def test_one_place_at_a_time_or_many_is_the_same(latitude, longitude, radius, others):
    spots = [place(latitude, longitude), *(place(*each) for each in others)]
    circle = Circle(latitude, longitude, radius)
    many = circle.contains(points(*spots)).tolist()
    assert many == [bool(circle.contains(points(spot))[0]) for spot in spots]
    assert many[0]
