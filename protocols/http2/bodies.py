"""Bodies of a run that differ in one place only: octets that all rows share, around a column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """The bodies of a run's rows, all of one length: a head, each row's own octets, a tail."""

    head: bytes
    column: NDArray[np.uint8]
    """(rows, width) octets, at least one wide."""
    tail: bytes

    def __len__(self) -> int:
        """Octets of each body."""
        return len(self.head) + int(self.column.shape[1]) + len(self.tail)

    @property
    def rows(self) -> int:
        """How many bodies there are."""
        return len(self.column)

    @property
    def template(self) -> bytes:
        """One body with zeros where rows differ, which is from the end of `head` on."""
        return self.head + bytes(int(self.column.shape[1])) + self.tail

    def row(self, row: int) -> bytes:
        """The body of one row."""
        octets: bytes = self.column[row].tobytes()
        return self.head + octets + self.tail

    def part(self, begin: int, end: int | None = None) -> Bodies:
        """The bodies of some rows."""
        return Bodies(self.head, self.column[begin:end], self.tail)
