"""Fences in memory: their shapes and who is in them, and a grid of cells that finds those near a place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import orjson

from pushd.bitset import Devices
from pushd.model.geofence import FenceImage
from pushd.targeting.geojson import shape_of
from pushd.targeting.geometry import SCALE, Area, Box, Circle, Points, Shape

VERTICES_MAX = 1 << 31
"""What is stored was within the limits when it came."""
CELLS_MAX = 32
"""Cells that a box of a fence may take: fewer are too coarse, more take memory."""
CELL_BITS_MIN = 14
"""The finest cells are 2^14 units wide, some 180 metres."""
NORTH, EAST = 90 * SCALE, 180 * SCALE


class Fence:
    """One enabled fence: one shape, and the devices that are in it."""

    __slots__ = ("app_id", "bounds", "enter_interval_s", "exit_interval_s", "id", "members", "shape", "tags")

    def __init__(self, image: FenceImage) -> None:
        self.id, self.app_id, self.bounds = image.id, image.app_id, image.bounds
        self.shape: Shape = shape_in(image) if image.shape is None else image.shape
        self.members = Devices()
        """Changed in place: cells hold it too."""
        self.describe(image)

    def describe(self, image: FenceImage) -> None:
        """Takes over what may change of a fence without moving its bounds."""
        self.tags = frozenset(tag.casefold() for tag in image.tags)
        self.enter_interval_s, self.exit_interval_s = image.enter_interval_s, image.exit_interval_s


def shape_in(image: FenceImage) -> Shape:
    """The shape of a fence. One of some thousand corners takes 100 ms, in which other threads may run."""
    return shape_of(orjson.loads(image.bounds), vertices_max=VERTICES_MAX)


class Cell:
    """The fences of one cell; which of them hold a place is asked of all at once."""

    __slots__ = ("_centres", "_geometries", "_limits", "_ready", "fences", "members")

    def __init__(self) -> None:
        self.fences: list[Fence] = []
        self.members: list[Devices] = []
        """Of the fences, in their order."""
        self._ready = False

    def add(self, fence: Fence) -> None:
        """Takes a fence in."""
        self.fences.append(fence)
        self._ready = False

    def discard(self, fence: Fence) -> None:
        """Lets a fence go."""
        if fence in self.fences:
            self.fences.remove(fence)
            self._ready = False

    def holds(self, point: Points) -> list[bool]:
        """Of each of the fences, whether the one place of `point` lies in it, as its shape would say."""
        if not self._ready:
            self._prepare()
        inside: list[bool] = []
        if len(self._limits):
            x, y, z = (column - own for column, own in zip(self._centres, point.xyz, strict=True))
            inside = (x * x + y * y + z * z <= self._limits).tolist()
        if len(self._geometries):
            inside += Area.all_contain(self._geometries, point).tolist()
        return inside

    def _prepare(self) -> None:
        circles = [fence for fence in self.fences if isinstance(fence.shape, Circle)]
        areas = [fence for fence in self.fences if isinstance(fence.shape, Area)]
        self.fences = [*circles, *areas]
        self.members = [fence.members for fence in self.fences]
        centres = np.array([fence.shape.centre for fence in circles if isinstance(fence.shape, Circle)])
        self._centres = tuple(np.ascontiguousarray(column) for column in centres.reshape(-1, 3).T)
        self._limits = np.array([fence.shape.limit for fence in circles if isinstance(fence.shape, Circle)])
        self._geometries = np.array([fence.shape.geometry for fence in areas if isinstance(fence.shape, Area)], object)
        self._ready = True


class Grid:
    """Fences by cell. Each box of a fence is in cells of the size that suits it; a place looks at every size in use."""

    __slots__ = ("_sizes",)

    def __init__(self) -> None:
        self._sizes: dict[int, dict[int, Cell]] = {}
        """By the bits of a coordinate within a cell, cells by key."""

    def __bool__(self) -> bool:
        return bool(self._sizes)

    def add(self, fence: Fence) -> None:
        """Takes a fence in."""
        for bits, key in self._cells(fence):
            cell = self._sizes.setdefault(bits, {}).setdefault(key, Cell())
            if fence not in cell.fences:
                cell.add(fence)

    def discard(self, fence: Fence) -> None:
        """Lets a fence go."""
        for bits, key in self._cells(fence):
            cells = self._sizes.get(bits, {})
            if (cell := cells.get(key)) is not None:
                cell.discard(fence)
                if not cell.fences:
                    del cells[key]
                    if not cells:
                        del self._sizes[bits]

    def near(self, latitude: int, longitude: int) -> list[Cell]:
        """The cells that a place lies in; every fence that holds it is in one, and perhaps in two."""
        north, east = latitude + NORTH, longitude + EAST
        found = [cells.get(north >> bits << 32 | east >> bits) for bits, cells in self._sizes.items()]
        return [cell for cell in found if cell is not None]

    @staticmethod
    def _cells(fence: Fence) -> Iterator[tuple[int, int]]:
        for box in fence.shape.boxes:
            bits = _bits(box)
            for row in range(box.south + NORTH >> bits, (box.north + NORTH >> bits) + 1):
                for column in range(box.west + EAST >> bits, (box.east + EAST >> bits) + 1):
                    yield bits, _key(row, column)


def _key(row: int, column: int) -> int:
    return row << 32 | column


def _bits(box: Box) -> int:
    """The size of cells for a box: the finest that covers it with few enough."""
    bits = CELL_BITS_MIN
    while ((box.north - box.south >> bits) + 2) * ((box.east - box.west >> bits) + 2) > CELLS_MAX:
        bits += 1
    return bits
