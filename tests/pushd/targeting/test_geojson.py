"""GeoJSON of geofences: what is taken, and where a fault points."""

from __future__ import annotations

import numpy as np
import pytest

from pushd.errors import InvalidRequestError
from pushd.targeting.geojson import shape_of
from pushd.targeting.geometry import Points, place

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]


def feature(kind, coordinates, **properties):
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


def polygon(*rings):
    return feature("Polygon", list(rings), orderAdded=[0, 1, 2, 3, 4])


def holds(shape, longitude, latitude):
    north, east = place(latitude, longitude)
    return bool(shape.contains(Points(np.array([north], np.int32), np.array([east], np.int32)))[0])


def refused(bounds, **limits):
    with pytest.raises(InvalidRequestError) as caught:
        shape_of(bounds, **{"vertices_max": 100, "radius_max_m": 1000, **limits})
    (fault,) = caught.value.faults
    return fault.pointer


def test_the_circle_and_the_polygon_of_the_documentation_are_taken():
    circle = {
        "type": "Feature",
        "properties": {"radius": 425},
        "geometry": {"type": "Point", "coordinates": [-73.9652551, 40.7827647]},
    }
    assert holds(shape_of(circle, vertices_max=10), -73.9652551, 40.7827647)
    corners = [
        [-73.95815849304199, 40.80065354924362],
        [-73.98193359375, 40.76802920702854],
        [-73.97309303283691, 40.76432383634019],
        [-73.9493179321289, 40.796949998204596],
        [-73.95815849304199, 40.80065354924362],
    ]
    park = feature("Polygon", [corners], orderAdded=[0, 1, 2, 3, 4], markerLocation=[40.783102, -73.965074])
    assert holds(shape_of(park, vertices_max=10), -73.965074, 40.783102)
    assert not holds(shape_of(park, vertices_max=10), -73.99, 40.783102)


def test_holes_and_several_polygons():
    shape = shape_of(polygon(SQUARE, HOLE), vertices_max=100)
    assert [holds(shape, x, x) for x in (1, 2, 3, 4, 5, 11)] == [True, True, False, True, True, False]
    away = [[x + 100, y] for x, y in SQUARE]
    both = shape_of(feature("MultiPolygon", [[SQUARE, HOLE], [away]]), vertices_max=100)
    assert [holds(both, x, 3) for x in (1, 3, 101, 103, 50)] == [True, False, True, True, False]
    # A hole over the antimeridian, written on the other side of it than its polygon.
    wide = [[170, -10], [190, -10], [190, 10], [170, 10], [170, -10]]
    gap = [[-181, -1], [-179, -1], [-179, 1], [-181, 1], [-181, -1]]
    pacific = shape_of(polygon(wide, gap), vertices_max=100)
    assert [holds(pacific, x, 0) for x in (171, 180, -180, -179.5, -178, -169)] == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]


def test_overlapping_polygons_are_one_area():
    shifted = [[x + 5, y] for x, y in SQUARE]
    shape = shape_of(feature("MultiPolygon", [[SQUARE], [shifted]]), vertices_max=100)
    assert [holds(shape, x, 5) for x in (1, 7, 14, 16)] == [True, True, True, False]


def test_orientation_altitude_and_foreign_members_do_not_matter():
    turned = [[*position, 300] for position in reversed(SQUARE)]
    bounds = polygon(turned) | {"id": 7, "bbox": [0, 0, 10, 10], "note": "mine"}
    assert holds(shape_of(bounds, vertices_max=100), 5, 5)


@pytest.mark.parametrize(
    ("bounds", "pointer"),
    [
        ([], "/bounds"),
        ({}, "/bounds/type"),
        (feature("Point", [0, 0], radius=5) | {"type": "Circle"}, "/bounds/type"),
        ({"type": "Feature", "properties": {}}, "/bounds/geometry"),
        ({"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 0]}}, "/bounds/properties"),
        ({"type": "Feature", "geometry": {"type": "Point"}, "properties": None}, "/bounds/properties"),
        (feature("LineString", [[0, 0], [1, 1]]), "/bounds/geometry/type"),
        (feature("Point", [0, 0]), "/bounds/properties/radius"),
        (feature("Point", [0, 0], radius=0), "/bounds/properties/radius"),
        (feature("Point", [0, 0], radius=True), "/bounds/properties/radius"),
        (feature("Point", [0, 0], radius="425"), "/bounds/properties/radius"),
        (feature("Point", [0, 0], radius=1001), "/bounds/properties/radius"),
        (feature("Point", [0], radius=5), "/bounds/geometry/coordinates"),
        (feature("Point", ["0", 0], radius=5), "/bounds/geometry/coordinates"),
        (feature("Point", [0, 0, 0, 0], radius=5), "/bounds/geometry/coordinates"),
        (feature("Point", [361, 0], radius=5), "/bounds/geometry/coordinates/0"),
        (feature("Point", [40.78, -93.96], radius=5), "/bounds/geometry/coordinates/1"),
        (feature("Point", [float("nan"), 0], radius=5), "/bounds/geometry/coordinates"),
        (feature("Polygon", [SQUARE]), "/bounds/properties/orderAdded"),
        (feature("Polygon", [SQUARE], orderAdded=None), "/bounds/properties/orderAdded"),
        (feature("Polygon", [SQUARE], orderAdded=[0, 1.5]), "/bounds/properties/orderAdded/1"),
        (feature("Polygon", [SQUARE], orderAdded=[0, -1]), "/bounds/properties/orderAdded/1"),
        (feature("MultiPolygon", [[SQUARE]], orderAdded="0"), "/bounds/properties/orderAdded"),
        (polygon(), "/bounds/geometry/coordinates"),
        (polygon(SQUARE[:3]), "/bounds/geometry/coordinates/0"),
        (polygon(SQUARE[:4]), "/bounds/geometry/coordinates/0/3"),
        (polygon([[0, 0], [1, "1"], [1, 0], [0, 0]]), "/bounds/geometry/coordinates/0/1"),
        (polygon([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]), "/bounds/geometry/coordinates/0"),
        (polygon(SQUARE, [[20, 20], [21, 20], [21, 21], [20, 20]]), "/bounds/geometry/coordinates/1"),
        (polygon(SQUARE, SQUARE), "/bounds/geometry/coordinates"),
        (feature("MultiPolygon", []), "/bounds/geometry/coordinates"),
        (feature("MultiPolygon", [[SQUARE], [SQUARE, [[0, 0]]]]), "/bounds/geometry/coordinates/1/1"),
    ],
)
def test_a_fault_points_at_its_place(bounds, pointer):
    assert refused(bounds) == pointer


def test_positions_are_counted_over_all_rings():
    assert refused(polygon(SQUARE, HOLE), vertices_max=9) == "/bounds/geometry/coordinates/1"
    shape_of(polygon(SQUARE, HOLE), vertices_max=10)


def test_the_pointer_begins_where_the_caller_says():
    with pytest.raises(InvalidRequestError) as caught:
        shape_of({}, vertices_max=9, pointer="/boundsGeoJson")
    assert caught.value.faults[0].pointer == "/boundsGeoJson/type"
