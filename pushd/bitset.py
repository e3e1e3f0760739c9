"""Sets of devices, of users and of persons, as roaring bitmaps of types that never mix."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

PART_BITS = 20
"""An outcome bitmap is stored in parts of 2^20 ids, so that one device's history reads one part per campaign."""


class Bitset(BitMap):
    """A set of 32-bit ids. The operators of two bitsets of one type give that type."""

    __slots__ = ()

    @classmethod
    def of(cls, ids: NDArray[np.uint32]) -> Self:
        """The set of the ids in a column, in any order, repeats allowed."""
        return cls(array("I", ids.astype(np.uint32, copy=False).tobytes()))

    def column(self) -> NDArray[np.uint32]:
        """The ids, ascending, as a column of their own."""
        return np.frombuffer(self.to_array(), dtype=np.uint32)

    def parts(self) -> list[tuple[int, Self]]:
        """The set cut into (part number, ids of that part), ascending; the ids stay absolute."""
        cut: list[tuple[int, Self]] = []
        at = self.next_set_bit(0) if self else None
        while at is not None:
            part = at >> PART_BITS
            end = (part + 1) << PART_BITS
            piece = self & type(self)(range(part << PART_BITS, end))
            cut.append((part, piece))
            at = self.next_set_bit(end) if end <= self.max() else None
        return cut

    @property
    def nbytes(self) -> int:
        """Bytes of its containers."""
        kinds = self.get_statistics()
        return int(
            kinds["n_bytes_array_containers"] + kinds["n_bytes_run_containers"] + kinds["n_bytes_bitset_containers"]
        )

    def dump(self) -> bytes:
        """The portable roaring serialisation, run-compressed."""
        compact = self.copy()
        compact.run_optimize()
        return bytes(compact.serialize())

    @classmethod
    def load(cls, data: bytes) -> Self:
        """The set that `dump` wrote."""
        return cls.deserialize(data)


class Devices(Bitset):
    """A set of device ids: a device's database id is its bit."""

    __slots__ = ()


class Users(Bitset):
    """A set of user ids, a bit space of its own."""

    __slots__ = ()


class Persons(Bitset):
    """Users, and beside them installs that belong to none, by a device of theirs above 2^31."""

    __slots__ = ()


def without(devices: Devices, groups: Sequence[tuple[Devices, int]]) -> Devices:
    """The devices that are in none of the groups, which come with the codes of reasons: these get nothing."""
    return devices - Devices.union(Devices(), *(some for some, _ in groups)) if groups else devices
