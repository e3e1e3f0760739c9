"""Tags: which devices carry one, themselves or through their user, and which tags each row carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.targeting.arena import Arena

WIDE = 1 << 31
"""Marks the place of a list of 32-bit numbers; other lists hold 16-bit ones."""
NARROW_MAX = (1 << 16) - 1
NARROW_WIDTHS = (2, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 128, 512, 2048, 32768)
WIDE_WIDTHS = (4, 8, 12, 16, 20, 24, 32, 48, 64, 128, 256, 512, 1024, 4096, 65536)
"""At most 15 of each, so that a place leaves its top bit free; the widest fit the model's limits: 1,000 tags, and 100
attributes that are lists of 100 texts."""

Pairs = tuple[NDArray[np.intp], NDArray[np.uint32]]
"""Positions of rows, and a number of each: of a tag, of an attribute."""
Side = Literal["own", "by_user"]


class TagPosting:
    """One tag of an app: its devices, and the devices whose user has it, so that no query walks users."""

    __slots__ = ("by_user", "name", "own")

    def __init__(self, name: str) -> None:
        self.name = name
        """The first spelling."""
        self.own = Devices()
        self.by_user = Devices()


class AppTags:
    """The tags of an app, numbered from 1 in the order they are met: popular ones get small numbers."""

    __slots__ = ("_numbers", "listed")

    def __init__(self) -> None:
        self.listed: list[TagPosting] = []
        self._numbers: dict[str, int] = {}

    def find(self, name: str) -> TagPosting | None:
        """The tag of this name, in any case."""
        number = self._numbers.get(name.casefold())
        return self.listed[number - 1] if number else None

    def learn(self, name: str) -> int:
        """The number of the tag of this name, which exists from now on."""
        folded = name.casefold()
        number = self._numbers.get(folded)
        if number is None:
            self.listed.append(TagPosting(name))
            number = self._numbers[folded] = len(self.listed)
        return number

    def label(self) -> int:
        """The number of a new label, which no name stands for: whoever asks for it keeps its number."""
        self.listed.append(TagPosting(""))
        return len(self.listed)

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, side: Side, device: int, numbers: Iterable[int]) -> None:
        """Puts a device under these tags."""
        for number in numbers:
            getattr(self.listed[number - 1], side).add(device)

    def discard(self, side: Side, device: int, numbers: Iterable[int]) -> None:
        """Takes a device from under these tags."""
        for number in numbers:
            getattr(self.listed[number - 1], side).discard(device)

    def add_many(self, side: Side, devices: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> None:
        """Puts each device under the tag beside it."""
        for number, chosen in by_number(devices, numbers):
            getattr(self.listed[number - 1], side).update(chosen)

    def discard_many(self, side: Side, devices: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> None:
        """Takes each device from under the tag beside it."""
        for number, chosen in by_number(devices, numbers):
            getattr(self.listed[number - 1], side).difference_update(chosen)


def groups(keys: NDArray[np.integer]) -> Iterator[tuple[int, NDArray[np.intp] | slice]]:
    """Each key with where it stands, ascending; a slice of everything when there is but one."""
    if not len(keys):
        return
    if (keys == keys[0]).all():
        yield int(keys[0]), slice(None)
        return
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    cuts = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(keys)]
    for start, end in pairwise(cuts):
        yield int(ordered[start]), order[start:end]


def by_number(devices: NDArray[np.uint32], numbers: NDArray[np.uint32]) -> Iterator[tuple[int, Devices]]:
    """Each number with the devices beside it, ascending."""
    if not len(numbers):
        return
    # A stable sort of 16-bit keys is a radix sort.
    order = np.argsort(numbers.astype(np.uint16) if numbers.max() <= NARROW_MAX else numbers, kind="stable")
    numbers, devices = numbers[order], devices[order]
    cuts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
    for number, start, end in zip(numbers[cuts[:-1]].tolist(), cuts[:-1], cuts[1:], strict=True):
        yield number, Devices.of(devices[start:end])


def merge(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several origins as one, ordered by position."""
    filled = [part for part in parts if len(part[0])]
    if len(filled) < 2:  # one is in order
        return filled[0] if filled else (np.zeros(0, np.intp), np.zeros(0, np.uint32))
    positions = np.concatenate([part[0] for part in filled])
    order = np.argsort(positions, kind="stable")
    return positions[order], np.concatenate([part[1] for part in filled])[order]


class Carried:
    """Lists of tag numbers at one 32-bit place each, 0 for the empty list: what to take away when a row changes."""

    __slots__ = ("_narrow", "_wide")

    def __init__(self) -> None:
        self._narrow = Arena(NARROW_WIDTHS)
        self._wide = Arena(WIDE_WIDTHS)

    def put(self, numbers: Sequence[int]) -> int:
        """The place of a new list."""
        if not numbers:
            return 0
        if max(numbers) <= NARROW_MAX:
            return self._narrow.put(np.array(numbers, np.uint16).tobytes())
        return self._wide.put(np.array(numbers, np.uint32).tobytes()) | WIDE

    def get(self, place: int) -> list[int]:
        """The list at a place."""
        if not place:
            return []
        if place & WIDE:
            raw = self._wide.get(place & ~WIDE)
            return memoryview(raw.ljust(-(-len(raw) // 4) * 4, b"\0")).cast("I").tolist()
        raw = self._narrow.get(place)
        return memoryview(raw + b"\0" if len(raw) & 1 else raw).cast("H").tolist()

    def free(self, place: int) -> None:
        """Gives a place up."""
        if place & WIDE:
            self._wide.free(place & ~WIDE)
        else:
            self._narrow.free(place)

    def put_many(self, numbers: NDArray[np.uint32], counts: NDArray[np.intp]) -> NDArray[np.uint32]:
        """The places of new lists, given one after the other with their lengths."""
        places = np.zeros(len(counts), np.uint32)
        starts = np.cumsum(counts) - counts
        for count in np.flatnonzero(np.bincount(counts, minlength=1)).tolist():
            if not count:
                continue
            rows = np.flatnonzero(counts == count)
            matrix = numbers[starts[rows, None] + np.arange(count)]
            wide = matrix.max(axis=1) > NARROW_MAX
            places[rows[~wide]] = self._narrow.put_many(_packed(matrix[~wide].astype(np.uint16)))
            places[rows[wide]] = self._wide.put_many(_packed(matrix[wide])) | np.uint32(WIDE)
        return places

    def get_many(self, places: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        """Pairs (position in `places`, tag number)."""
        positions, numbers = [np.zeros(0, np.intp)], [np.zeros(0, np.uint32)]
        wide = places >= WIDE
        for rows, arena, width in (
            (np.flatnonzero((places > 0) & ~wide), self._narrow, np.uint16),
            (np.flatnonzero(wide), self._wide, np.uint32),
        ):
            if len(rows):
                packed = arena.get_many(places[rows] & np.uint32(WIDE - 1))
                matrix = packed.view(width).reshape(len(rows), -1)
                at, column = np.nonzero(matrix)
                positions.append(rows[at])
                numbers.append(matrix[at, column].astype(np.uint32))
        return np.concatenate(positions), np.concatenate(numbers)

    def free_many(self, places: NDArray[np.uint32]) -> None:
        """Gives places up."""
        wide = places >= WIDE
        self._narrow.free_many(places[~wide])
        self._wide.free_many(places[wide] & np.uint32(WIDE - 1))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._narrow.nbytes + self._wide.nbytes


def _packed(matrix: NDArray[np.uint16] | NDArray[np.uint32]) -> NDArray[np.bytes_]:
    width = matrix.shape[1] * matrix.itemsize
    return np.ascontiguousarray(matrix).view(f"S{width}").reshape(len(matrix))
