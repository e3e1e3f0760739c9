"""Places in memory: what a location update costs with 200 fences, and an edit of a fence over everyone's location.

`update_us` is the median of single updates through `Index.apply_locations`, membership in all fences included, of
devices that walk through a region; `fences_each` says in how many fences they are then. The fences are, by name:

- `spread`: half circles, half polygons of 50 corners, of 100 m to 100 km, in a region of 300 km;
- `circles`, `polygons`: 200 of them one over the other, so that every update asks every fence.

`edit_ms` is all the work on a fence whose bounds are new, over every located device; `slice_ms` the longest that the
event loop was held by it. Times are CPU times of this process, so that other work on the machine does not count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from pushd.model.geofence import FenceImage, LocationRows
from pushd.targeting import Index

SEED = 7
FENCES = 200
CHUNK_ROWS = 8_192
UPDATES = 2_000
SOUTH, NORTH, WEST, EAST = 40.0, 55.0, -10.0, 20.0
TOWN = (50.0, 10.0)


def figures(devices: int) -> dict[str, dict[str, float]]:
    """Figures by sort of fences, with so many located devices of one app."""
    made: dict[str, Callable[[np.random.Generator, int], str]] = {
        "spread": _spread,
        "circles": lambda random, _: _circle(*_near(random), 20_000),
        "polygons": lambda random, _: _polygon(random, *_near(random), 0.3),
    }
    return {name: _measured(devices, make) for name, make in made.items()}


def _measured(devices: int, make: Callable[[np.random.Generator, int], str]) -> dict[str, float]:
    random = np.random.default_rng(SEED)
    index = Index()
    began = time.process_time()
    for start in range(1, devices + 1, CHUNK_ROWS):
        ids = np.arange(start, min(start + CHUNK_ROWS, devices + 1))
        index.apply_locations(
            _rows(ids, random.uniform(SOUTH, NORTH, len(ids)), random.uniform(WEST, EAST, len(ids)), 1)
        )
    load_s = time.process_time() - began
    for number in range(1, FENCES + 1):
        index.define_geofence(_image(number, make(random, number)))
    began = time.process_time()
    for _ in index.settle_places(sort=True):
        pass
    start_s = time.process_time() - began
    took = _walk(index, random, devices)
    app = index.places.app(1)
    assert app is not None
    members = sum(len(fence.members) for fence in app.fences.values() if fence.members)
    inside = sum(device in fence.members for fence in app.fences.values() for device in range(1, 101)) / 100
    edit_ms, slice_ms = _edit(index, make(random, 1))
    return {
        "load_per_s": devices / load_s,
        "start_s": start_s,
        "members": members,
        "fences_each": inside,
        "update_us": statistics.median(took) * 1e6,
        "update_p99_us": statistics.quantiles(took, n=100)[98] * 1e6,
        "edit_ms": edit_ms,
        "slice_ms": slice_ms,
    }


def _walk(index: Index, random: np.random.Generator, devices: int) -> list[float]:
    """Seconds of each of some updates: devices come to the town, and walk on a little."""
    took = []
    for number in range(UPDATES):
        device = 1 + number % min(devices, UPDATES // 2)
        latitude, longitude = _near(random, 0.05)
        rows = _rows(np.array([device]), np.array([latitude]), np.array([longitude]), 2 + number)
        began = time.process_time()
        index.apply_locations(rows)
        took.append(time.process_time() - began)
    return took


def _edit(index: Index, bounds: str) -> tuple[float, float]:
    """Milliseconds of all work on one fence that moved, and of its longest slice."""
    slices = []
    began = time.process_time()
    index.define_geofence(_image(1, bounds, revision=2))
    for _ in index.settle_places():
        slices.append(time.process_time() - began - sum(slices))
    slices.append(time.process_time() - began - sum(slices))
    return sum(slices) * 1e3, max(slices) * 1e3


def _rows(ids: Any, latitudes: Any, longitudes: Any, revision: int) -> LocationRows:
    count = len(ids)
    return LocationRows(
        ids=np.asarray(ids, np.uint32),
        app_ids=np.ones(count, np.int32),
        revisions=np.full(count, revision, np.int32),
        latitudes=np.round(latitudes * 1e7).astype(np.int32),
        longitudes=np.round(longitudes * 1e7).astype(np.int32),
    )


def _image(number: int, bounds: str, revision: int = 1) -> FenceImage:
    return FenceImage(id=number, app_id=1, revision=revision, enabled=True, bounds=bounds)


def _near(random: np.random.Generator, degrees: float = 0.01) -> tuple[float, float]:
    return TOWN[0] + float(random.normal()) * degrees, TOWN[1] + float(random.normal()) * degrees


def _spread(random: np.random.Generator, number: int) -> str:
    latitude, longitude = TOWN[0] + float(random.uniform(-1.5, 1.5)), TOWN[1] + float(random.uniform(-1.5, 1.5))
    radius = float(10 ** random.uniform(2, 5))
    return _circle(latitude, longitude, radius) if number % 2 else _polygon(random, latitude, longitude, radius / 1e5)


def _circle(latitude: float, longitude: float, radius: float) -> str:
    geometry = {"type": "Point", "coordinates": [longitude, latitude]}
    return orjson.dumps({"type": "Feature", "properties": {"radius": radius}, "geometry": geometry}).decode()


def _polygon(random: np.random.Generator, latitude: float, longitude: float, degrees: float) -> str:
    angles = np.sort(random.uniform(0, 2 * np.pi, 50))
    ring = np.c_[longitude + degrees * np.cos(angles), latitude + degrees * np.sin(angles)].tolist()
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    return orjson.dumps({"type": "Feature", "properties": {"orderAdded": []}, "geometry": geometry}).decode()


if __name__ == "__main__":
    print(orjson.dumps(figures(1_000_000), option=orjson.OPT_INDENT_2).decode())
