"""Circles and areas on the earth: which places lie in them, and the boxes of latitude and longitude around them.

Places are whole numbers of 10^-7 degrees (1.1 cm), so that what memory and database hold is the same number. A place
has one spelling (`place`): the antimeridian is -180, and the poles are at longitude 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import asin, cos, degrees, floor, radians, sin
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SCALE = 10_000_000
"""Units in a degree."""
EQUATOR_M = 6_378_137.0
FLATTENING = 1 / 298.257_223_563
"""WGS 84 (NIMA TR8350.2, table 3.1): semi-major axis and flattening."""
SQUARED_ECCENTRICITY = FLATTENING * (2 - FLATTENING)
MEAN_RADIUS_M = 6_371_008.8
"""Arithmetic mean of the semi-axes (IUGG): what chords are turned into distances with."""
CURVATURE_MIN_M = 6_335_439.3
"""The smallest radius of curvature of WGS 84, of the meridian at the equator: nowhere is a degree shorter."""
RADIUS_MAX_M = 5_000_000.0
"""Up to here a chord says the distance on the ellipsoid within 0.05 %."""
SLIVER = 1e-9
"""Degrees; less than a hundredth of a unit, so that no other place lies in it."""


class Box(NamedTuple):
    """Places from south to north and west to east, edges included; none crosses the antimeridian."""

    south: int
    west: int
    north: int
    east: int


class Points:
    """Some places as columns: degrees, and metres from the centre of the earth where a circle asks for them."""

    __slots__ = ("_xyz", "latitudes", "longitudes")

    def __init__(self, latitudes: NDArray[np.int32], longitudes: NDArray[np.int32]) -> None:
        self.latitudes: NDArray[np.float64] = latitudes / SCALE
        self.longitudes: NDArray[np.float64] = longitudes / SCALE
        self._xyz: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def xyz(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Earth-centred coordinates on the ellipsoid, in metres."""
        if self._xyz is None:
            self._xyz = earth_centred(self.latitudes, self.longitudes)
        return self._xyz


def place(latitude: float, longitude: float) -> tuple[int, int]:
    """The one spelling of a place given in degrees, in units: latitude and longitude."""
    north = round(latitude * SCALE)
    east = (round(longitude * SCALE) + 180 * SCALE) % (360 * SCALE) - 180 * SCALE
    return north, 0 if abs(north) == 90 * SCALE else east


def earth_centred(
    latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Earth-centred coordinates of degrees on the WGS 84 ellipsoid, in metres."""
    phi, lam = np.radians(latitudes), np.radians(longitudes)
    sine, cosine = np.sin(phi), np.cos(phi)
    curvature = EQUATOR_M / np.sqrt(1 - SQUARED_ECCENTRICITY * sine * sine)
    across = curvature * cosine
    return across * np.cos(lam), across * np.sin(lam), curvature * (1 - SQUARED_ECCENTRICITY) * sine


def squared_chord(distance_m: float) -> float:
    """The square of the straight line through the earth between places at this distance along it.

    The error of a distance that is told by its chord is a hundredth of the difference between the two: 0.04 % of
    5,000 km, and nothing that could be measured within a town.
    """
    chord = 2 * MEAN_RADIUS_M * sin(distance_m / (2 * MEAN_RADIUS_M))
    return chord * chord


class Circle:
    """Places at most so many metres from a centre."""

    __slots__ = ("boxes", "centre", "limit")

    def __init__(self, latitude: float, longitude: float, radius_m: float) -> None:
        north, east = place(latitude, longitude)
        x, y, z = earth_centred(np.array([north / SCALE]), np.array([east / SCALE]))
        self.centre = (float(x[0]), float(y[0]), float(z[0]))
        self.limit = squared_chord(radius_m)
        self.boxes = _around(north / SCALE, east / SCALE, radius_m)

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which of the places lie in it."""
        x, y, z = (column - own for column, own in zip(points.xyz, self.centre, strict=True))
        return x * x + y * y + z * z <= self.limit


class Area:
    """Places in a shapely geometry of degrees, edges included.

    What a geometry touches at the antimeridian, or at a pole, is there on both sides, and at every longitude.
    """

    __slots__ = ("boxes", "geometry")

    def __init__(self, geometry: Any) -> None:
        shapely = _shapely()
        seams = _seams(geometry)
        self.geometry = shapely.union_all([geometry, *seams]) if seams else geometry
        self.boxes = [_outside(part.bounds) for part in parts(self.geometry)]
        shapely.prepare(self.geometry)

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which of the places lie in it."""
        inside: NDArray[np.bool_] = _shapely().intersects_xy(self.geometry, points.longitudes, points.latitudes)
        return inside

    @staticmethod
    def all_contain(geometries: NDArray[np.object_], point: Points) -> NDArray[np.bool_]:
        """Which of these geometries of areas hold the one place of `point`."""
        inside: NDArray[np.bool_] = _shapely().intersects_xy(
            geometries, float(point.longitudes[0]), float(point.latitudes[0])
        )
        return inside


Shape = Circle | Area
Ring = Sequence[tuple[float, float]]
"""Longitudes and latitudes in degrees, the first again as the last."""


class NotSimpleError(ValueError):
    """A ring that encloses no area: it crosses itself, or lies on a line."""


def enclosed(ring: Ring) -> Any:
    """What a ring encloses, as a geometry between -180 and 180 degrees; NotSimpleError.

    Edges are straight in longitude and latitude (RFC 7946 section 3.1.1). One of more than 180 degrees of longitude is
    taken the short way, across the antimeridian; one of 360, from edge to edge of the map, is left as it is. A ring
    that goes round the earth encloses the pole of its hemisphere.
    """
    shapely = _shapely()
    outline = _unwrapped(ring)
    turn = outline[-1][0] - outline[0][0]
    if abs(turn) > 180:
        pole = 90.0 if sum(latitude for _, latitude in ring) >= 0 else -90.0
        outline += [(outline[-1][0], pole), (outline[0][0], pole), outline[0]]
    polygon = shapely.Polygon(outline)
    if not shapely.is_valid(polygon) or polygon.area <= 0:
        raise NotSimpleError(shapely.is_valid_reason(polygon))
    west, _, east, _ = polygon.bounds
    if east - west > 360:
        raise NotSimpleError("it goes around the earth more than once")
    if west >= -180 and east <= 180:
        return polygon
    pieces = []
    for turns in range(floor((west + 180) / 360), floor((east + 180) / 360) + 1):
        shift = 360.0 * turns
        piece = shapely.intersection(polygon, shapely.box(shift - 180, -90, shift + 180, 90))
        pieces += parts(shapely.transform(piece, lambda given, by=shift: given - (by, 0.0)))
    return shapely.union_all(pieces)


def united(geometries: list[Any]) -> Any:
    """All of these geometries as one."""
    return geometries[0] if len(geometries) == 1 else _shapely().union_all(geometries)


def covered(area: Any, geometries: list[Any]) -> list[bool]:
    """Of each of these geometries whether it lies in the area."""
    if not geometries:
        return []
    shapely = _shapely()
    shapely.prepare(area)
    inside: list[bool] = shapely.covers(area, geometries).tolist()
    return inside


def without(area: Any, other: Any) -> Any:
    """An area without what another one encloses."""
    return _shapely().difference(area, other)


def parts(geometry: Any) -> list[Any]:
    """The polygons that a geometry consists of; lines and points, which have no area, are left out."""
    return [part for part in _shapely().get_parts(geometry) if part.geom_type == "Polygon" and part.area > 0]


def _unwrapped(ring: Ring) -> list[tuple[float, float]]:
    outline = [(float(ring[0][0]), float(ring[0][1]))]
    shift = 0.0
    for (before, _), (longitude, latitude) in pairwise(ring):
        step = longitude - before
        if 180 < abs(step) < 360:
            shift += -360.0 if step > 0 else 360.0
        outline.append((longitude + shift, float(latitude)))
    return outline


def _around(latitude: float, longitude: float, radius_m: float) -> list[Box]:
    """Boxes that hold every place within a distance, and some more."""
    angle = radius_m / CURVATURE_MIN_M * 1.001 + 1e-8
    south, north = latitude - degrees(angle), latitude + degrees(angle)
    if south <= -90 or north >= 90:
        return [_outside((-180, max(south, -90), 180, min(north, 90)))]
    # Where a great circle touches the cap: sin(difference of longitude) = sin(angle) / cos(latitude).
    aside = degrees(asin(min(1.0, sin(angle) / cos(radians(latitude))))) * 1.001 + 1e-6
    west, east = longitude - aside, longitude + aside
    if aside >= 90 or east - west >= 360:
        return [_outside((-180, south, 180, north))]
    boxes = [_outside((max(west, -180), south, min(east, 180), north))]
    if west < -180:
        boxes.append(_outside((west + 360, south, 180, north)))
    if east >= 180:
        boxes.append(_outside((-180, south, east - 360, north)))
    return boxes


def _outside(bounds: tuple[float, float, float, float]) -> Box:
    """The smallest box around west, south, east and north in degrees, with a unit more on every side."""
    west, south, east, north = bounds
    return Box(
        max(floor(south * SCALE) - 1, -90 * SCALE),
        max(floor(west * SCALE) - 1, -180 * SCALE),
        min(floor(north * SCALE) + 2, 90 * SCALE),
        min(floor(east * SCALE) + 2, 180 * SCALE),
    )


def _seams(geometry: Any) -> list[Any]:
    """Slivers where places are spelt that a geometry touches under another spelling."""
    shapely = _shapely()
    found = []
    edge = shapely.intersection(geometry, shapely.LineString([(180, -90), (180, 90)]))
    for piece in shapely.get_parts(edge):
        _, south, _, north = piece.bounds
        found.append(shapely.box(-180 - SLIVER, south - SLIVER, -180, north + SLIVER))
    found += [
        shapely.box(-SLIVER, pole - SLIVER, SLIVER, pole + SLIVER)
        for pole in (-90.0, 90.0)
        if shapely.intersects(geometry, shapely.LineString([(-180, pole), (180, pole)]))
    ]
    return found


@cache
def _shapely() -> Any:
    """The library: who has no polygon never pays for it.

    Its functions let other threads of the interpreter run meanwhile; methods of its geometries do not.
    """
    import shapely  # noqa: PLC0415  # 60 ms and 20 MB

    return shapely
