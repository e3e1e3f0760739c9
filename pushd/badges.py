"""Badges that pushd counts: a column of counts by device, and the steps that move them, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import PART_BITS, Devices, without
from pushd.model.notification import Send

COUNTED = "device.badge"
"""What `badge_from` says where the count is pushd's own."""
COUNT_MAX = 9_999
"""Counts stay between 0 and this."""
FEW = 64
"""Up to so many devices of a step are kept as a list, more as bitmaps."""
_LAST = (1 << PART_BITS) - 1
"""Of the places of a part."""


class Step(NamedTuple):
    """What becomes of the counts of some devices."""

    amount: int
    """Added to each; or what each is from now on."""
    sets: bool
    devices: Devices | NDArray[np.uint32]
    """All of one part; or a list, in which one that is there twice is counted twice."""

    def parts(self) -> list[int]:
        """The parts in which they lie."""
        if isinstance(self.devices, Devices):
            return [self.devices.min() >> PART_BITS] if self.devices else []
        found: list[int] = np.unique(self.devices >> np.uint32(PART_BITS)).tolist()
        return found

    def dump(self) -> bytes:
        """The devices as they are kept."""
        return self.devices.dump() if isinstance(self.devices, Devices) else self.devices.astype(">u4").tobytes()

    @property
    def packed(self) -> bool:
        """Whether they are kept as a list."""
        return not isinstance(self.devices, Devices)


class Increment(NamedTuple):
    """That a message which counts went to devices of an app."""

    app_id: int
    amount: int
    devices: Devices


def amount_of(send: Send) -> int | None:
    """By how much a send moves the counts of those whom it goes to; None: it has nothing to do with them."""
    if send.badge_from != COUNTED:
        return None
    increment = send.message.badge_increment
    return 1 if increment is None else min(max(increment, -COUNT_MAX), COUNT_MAX)


def increment(
    app_id: int, send: Send, targeted: Devices, suppressed: Sequence[tuple[Devices, int]]
) -> Increment | None:
    """What a message that goes out now counts: one more for everybody who gets one; None: nothing."""
    amount = amount_of(send)
    return None if amount is None else Increment(app_id, amount, without(targeted, suppressed))


def read_step(amount: int, sets: bool, packed: bool, devices: bytes) -> Step:
    """The step that was kept so."""
    if packed:
        return Step(amount, sets, np.frombuffer(devices, ">u4").astype(np.uint32))
    return Step(amount, sets, Devices.load(devices))


def steps(increments: Iterable[Increment]) -> list[tuple[int, Step]]:
    """By app, what increments come to, in their order: small ones that follow each other are one step."""
    made: list[tuple[int, Step]] = []
    few: dict[int, tuple[int, list[int]]] = {}

    def close(app_id: int) -> None:
        if app_id in few:
            amount, ids = few.pop(app_id)
            made.append((app_id, Step(amount, False, np.array(ids, np.uint32))))

    for app_id, amount, devices in increments:
        if app_id not in few or few[app_id][0] != amount or len(devices) > FEW:
            close(app_id)
        if len(devices) > FEW:
            made += [(app_id, Step(amount, False, piece)) for _, piece in devices.parts()]
        elif devices:
            few.setdefault(app_id, (amount, []))[1].extend(devices)
    for app_id in list(few):
        close(app_id)
    return made


class Badges:
    """Counts by device, of all apps, two bytes each: in parts of 2^20 ids, which come with the first count in them."""

    def __init__(self) -> None:
        self._parts: dict[int, NDArray[np.uint16]] = {}

    def of(self, ids: NDArray[np.uint32]) -> NDArray[np.uint16]:
        """The count of each device, in their order."""
        found = np.zeros(len(ids), np.uint16)
        if self._parts:
            for part, rows in _by_part(ids):
                if (counts := self._parts.get(part)) is not None:
                    found[rows] = counts[ids[rows] & np.uint32(_LAST)]
        return found

    def move(self, step: Step) -> None:
        """Carries a step out: some 2 ms for a million devices."""
        if isinstance(step.devices, Devices):
            if step.devices:
                self._move(step.devices.min() >> PART_BITS, step, step.devices.column())
            return
        ids, times = np.unique(step.devices, return_counts=True)
        for part, rows in _by_part(ids):
            self._move(part, step, ids[rows], times[rows])

    def put(self, ids: NDArray[np.uint32], counts: NDArray[np.uint16]) -> None:
        """Takes in what was counted of devices of one part."""
        if len(ids):
            self._counts(int(ids[0]) >> PART_BITS)[ids & np.uint32(_LAST)] = counts

    def take(self, other: Badges, start: int, stop: int) -> None:
        """Replaces the counts of a range of ids by those of another."""
        for part in range(start >> PART_BITS, (stop + _LAST) >> PART_BITS):
            first = part << PART_BITS
            places = slice(max(start - first, 0), stop - first)
            if (theirs := other._parts.get(part)) is not None:
                self._counts(part)[places] = theirs[places]
            elif (counts := self._parts.get(part)) is not None:
                counts[places] = 0

    def counted(self, start: int, stop: int) -> tuple[Devices, NDArray[np.uint16]]:
        """The devices of a range of ids, within one part, that have a count above 0, and these counts."""
        part = start >> PART_BITS
        counts = self._counts(part)[start & _LAST : ((stop - 1) & _LAST) + 1]
        places = np.flatnonzero(counts != 0)
        return Devices.of(places.astype(np.uint32) + np.uint32(start)), counts[places]

    def _move(self, part: int, step: Step, ids: NDArray[np.uint32], times: NDArray[np.int64] | None = None) -> None:
        """Moves devices of one part, ascending."""
        counts, first, last = self._counts(part), int(ids[0]) & _LAST, int(ids[-1]) & _LAST
        whole = last - first + 1 == len(ids)
        places: slice | NDArray[np.intp] = slice(first, last + 1) if whole else (ids & np.uint32(_LAST)).astype(np.intp)
        if step.sets:
            counts[places] = step.amount
            return
        by = np.uint16(abs(step.amount)) if times is None else np.minimum(abs(step.amount) * times, COUNT_MAX)
        now = counts[places]
        if step.amount < 0:
            counts[places] = now - np.minimum(now, by)
        else:
            counts[places] = np.minimum(now + by, COUNT_MAX)

    def _counts(self, part: int) -> NDArray[np.uint16]:
        counts = self._parts.get(part)
        if counts is None:
            counts = self._parts[part] = np.zeros(_LAST + 1, np.uint16)
        return counts

    @property
    def nbytes(self) -> int:
        """What they hold, at most: pages that nobody wrote to are not there."""
        return sum(counts.nbytes for counts in self._parts.values())


def _by_part(ids: NDArray[np.uint32]) -> Iterator[tuple[int, slice | NDArray[np.bool_]]]:
    """The parts that ids lie in, and which rows are of each."""
    if not len(ids):
        return
    parts = ids >> np.uint32(PART_BITS)
    first, last = int(parts.min()), int(parts.max())
    if first == last:
        yield first, slice(None)
        return
    for part in np.unique(parts).tolist():
        yield part, parts == part
