"""GeoJSON of geofences: checked, every fault at its JSON pointer, and turned into shapes (RFC 7946)."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from pushd.errors import Fault, InvalidRequestError
from pushd.targeting.geometry import (
    RADIUS_MAX_M,
    Area,
    Circle,
    NotSimpleError,
    Ring,
    Shape,
    covered,
    enclosed,
    united,
    without,
)

LONGITUDE_MAX = 360.0
"""Maps that can be dragged round the earth write 181 for -179."""


class _FaultError(Exception):
    """Something wrong at a place of the bounds."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(pointer, detail)


def shape_of(bounds: Any, *, vertices_max: int, radius_max_m: float = RADIUS_MAX_M, pointer: str = "/bounds") -> Shape:
    """The shape that a Feature bounds; InvalidRequestError that points at what is wrong with it.

    A Point has its `radius`, in metres, among its properties; a Polygon has `orderAdded` there, which editors need to
    go on with it, and which a MultiPolygon may have. Whatever else stands among properties is the caller's own.
    """
    try:
        return _Reader(vertices_max, min(radius_max_m, RADIUS_MAX_M)).shape(bounds, pointer)
    except _FaultError as error:
        raise InvalidRequestError("The bounds of the geofence are not valid", faults=[error.fault]) from None


class _Reader:
    """Reads one Feature, and counts its positions."""

    def __init__(self, vertices_max: int, radius_max_m: float) -> None:
        self._vertices_max = vertices_max
        self._radius_max_m = radius_max_m
        self._vertices = 0

    def shape(self, bounds: Any, at: str) -> Shape:
        """The shape of a Feature."""
        feature = _object(bounds, at)
        if (kind := _member(feature, "type", at)) != "Feature":
            raise _FaultError(f"{at}/type", f"is {_told(kind)}: it has to be a Feature")
        geometry = _object(_member(feature, "geometry", at), f"{at}/geometry")
        properties = _object(_member(feature, "properties", at), f"{at}/properties")
        kind = _member(geometry, "type", f"{at}/geometry")
        if kind not in ("Point", "Polygon", "MultiPolygon"):
            raise _FaultError(f"{at}/geometry/type", f"is {_told(kind)}: it has to be Point, Polygon or MultiPolygon")
        inner = _member(geometry, "coordinates", f"{at}/geometry")
        where = f"{at}/geometry/coordinates"
        if kind == "Point":
            return self._circle(inner, where, properties, f"{at}/properties")
        if kind == "Polygon" or "orderAdded" in properties:
            self._check_order(_member(properties, "orderAdded", f"{at}/properties"), f"{at}/properties/orderAdded")
        if kind == "Polygon":
            return Area(self._polygon(inner, where))
        polygons = [self._polygon(each, f"{where}/{n}") for n, each in enumerate(_array(inner, where, 1, "a polygon"))]
        return Area(united(polygons))

    def _circle(self, coordinates: Any, where: str, properties: Mapping[str, Any], at: str) -> Circle:
        longitude, latitude = _position(coordinates, where)
        radius = _member(properties, "radius", at)
        if not _is_number(radius) or not 0 < radius <= self._radius_max_m:
            most = f"{self._radius_max_m:,.0f}"
            raise _FaultError(f"{at}/radius", f"has to be a number of metres above 0 and up to {most}")
        return Circle(latitude, longitude, float(radius))

    def _check_order(self, order: Any, at: str) -> None:
        for number, each in enumerate(_array(order, at, 0, "")):
            if number >= self._vertices_max:
                raise _FaultError(at, f"may have {self._vertices_max:,} numbers")
            if isinstance(each, bool) or not isinstance(each, int) or each < 0:
                raise _FaultError(f"{at}/{number}", "has to be a whole number from 0")

    def _polygon(self, rings: Any, where: str) -> Any:
        """The area of a polygon: its first ring, without what its further rings enclose."""
        outlines = [self._ring(ring, f"{where}/{n}") for n, ring in enumerate(_array(rings, where, 1, "a ring"))]
        enclosures = [_enclosed(ring, f"{where}/{n}") for n, ring in enumerate(outlines)]
        area, holes = enclosures[0], enclosures[1:]
        for number, inside in enumerate(covered(area, holes), start=1):
            if not inside:
                raise _FaultError(f"{where}/{number}", "is a hole that does not lie inside its polygon")
        area = without(area, united(holes)) if holes else area
        if not area.area > 0:
            raise _FaultError(where, "is all holes: nothing is left of its area")
        return area

    def _ring(self, ring: Any, where: str) -> Ring:
        positions = _array(ring, where, 4, "four positions, the first again as the last")
        self._vertices += len(positions)
        if self._vertices > self._vertices_max:
            raise _FaultError(where, f"brings the geofence over {self._vertices_max:,} positions")
        read = [_position(position, f"{where}/{number}") for number, position in enumerate(positions)]
        if read[0] != read[-1]:
            raise _FaultError(f"{where}/{len(read) - 1}", "has to be the first position of the ring again")
        return read


def _enclosed(ring: Ring, where: str) -> Any:
    try:
        return enclosed(ring)
    except NotSimpleError as error:
        raise _FaultError(where, f"is a ring that encloses no simple area: {error}") from None


def _object(value: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _FaultError(at, "has to be an object")
    return value


def _member(value: Mapping[str, Any], name: str, at: str) -> Any:
    if name not in value:
        raise _FaultError(f"{at}/{name}", "is required")
    return value[name]


def _array(value: Any, at: str, least: int, of: str) -> list[Any]:
    if not isinstance(value, list):
        raise _FaultError(at, "has to be an array")
    if len(value) < least:
        raise _FaultError(at, f"has to have at least {of}")
    return value


def _position(value: Any, at: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) not in (2, 3) or not all(map(_is_number, value)):
        raise _FaultError(at, "has to be a position: longitude and latitude in degrees, and an altitude or none")
    longitude, latitude = float(value[0]), float(value[1])
    if abs(longitude) > LONGITUDE_MAX:
        raise _FaultError(f"{at}/0", "is no longitude: it has to lie between -180 and 180")
    if abs(latitude) > 90:
        raise _FaultError(f"{at}/1", "is no latitude: it has to lie between -90 and 90")
    return longitude, latitude


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _told(value: Any) -> str:
    return value[:40] if isinstance(value, str) else "not a name"
