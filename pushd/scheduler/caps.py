"""Frequency caps: when each person was last sent a category's messages, counted exactly, in columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pushd.model.caps import Cap
from pushd.targeting.columns import Column

Persons = NDArray[np.uint32]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]
Times = NDArray[np.uint32]

_BLOCK_BITS = 6
"""Ids come in blocks of at least 64 that belong to one app; so do rows."""


class Numbering:
    """Rows of persons: each block of 64 ids of which one was met has 64 rows."""

    __slots__ = ("_bases", "_blocks")

    def __init__(self) -> None:
        self._blocks = np.zeros(0, np.uint32)
        """Ascending."""
        self._bases = np.zeros(0, np.intp)
        """The first row of each."""

    def __len__(self) -> int:
        return len(self._blocks) << _BLOCK_BITS

    def rows(self, persons: Persons) -> Rows:
        """The row of each person, made where it is new."""
        blocks = persons >> np.uint32(_BLOCK_BITS)
        places = self._places(blocks)
        if not len(self._blocks) or (self._blocks[places] != blocks).any():
            self._meet(np.unique(blocks))
            places = self._places(blocks)
        return self._bases[places] + (persons & np.uint32((1 << _BLOCK_BITS) - 1)).astype(np.intp)

    def _places(self, blocks: Persons) -> Rows:
        return np.minimum(np.searchsorted(self._blocks, blocks), max(0, len(self._blocks) - 1))

    def _meet(self, blocks: Persons) -> None:
        new = np.setdiff1d(blocks, self._blocks, assume_unique=True)
        places = np.searchsorted(self._blocks, new)
        bases = len(self) + (np.arange(len(new)) << _BLOCK_BITS)
        self._blocks = np.insert(self._blocks, places, new)
        self._bases = np.insert(self._bases, places, bases)


class Counter:
    """When each person was last sent a category's messages: `4 n` bytes each for a cap of n.

    A row is a person's last n times, in no order, so any window is counted exactly: a message may go where the n-th
    last one was a window ago. Times are what the clock showed, whole seconds. Persons are given once each.
    """

    __slots__ = ("_numbering", "_times", "cap")

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self._numbering = Numbering()
        self._times = Column(np.uint32)

    @property
    def nbytes(self) -> int:
        """Bytes that the column takes."""
        return self._times.nbytes

    def admit(self, persons: Persons, at: float) -> Mask:
        """Who may be sent one more; for these it is counted."""
        rows, table = self._rows(persons)
        times = table[rows]
        places = times.argmin(axis=1)
        oldest = np.take_along_axis(times, places[:, None], axis=1)[:, 0].astype(np.int64)
        free: Mask = (oldest == 0) | (oldest + self.cap.window_s <= int(at))
        table[rows[free], places[free]] = max(1, int(at))
        return free

    def record(self, persons: Persons, times: Times) -> None:
        """Counts what had been sent to persons, who may repeat, each at its time."""
        order = np.lexsort((times, persons))
        persons, times = persons[order], np.maximum(times[order], 1)
        heads = np.flatnonzero(np.append(True, persons[1:] != persons[:-1])) if len(persons) else np.zeros(0, np.intp)
        sizes = np.diff(heads, append=len(persons))
        # More than fit leave no trace: only the last of each are written, one of each at a time.
        ranks = np.arange(len(persons)) - np.repeat(heads + np.maximum(sizes - self.cap.messages, 0), sizes)
        rows, table = self._rows(persons)
        for rank in range(min(self.cap.messages, int(sizes.max(initial=0)))):
            chosen = ranks == rank
            theirs, at = rows[chosen], times[chosen]
            places = table[theirs].argmin(axis=1)
            table[theirs, places] = np.maximum(table[theirs, places], at)

    def withdraw(self, persons: Persons, at: float) -> None:
        """Takes back what was counted at an instant and then not sent."""
        rows, table = self._rows(persons)
        then = table[rows] == max(1, int(at))
        there = then.any(axis=1)
        table[rows[there], then.argmax(axis=1)[there]] = 0

    def _rows(self, persons: Persons) -> tuple[Rows, NDArray[np.uint32]]:
        """The row of each, and the table of all."""
        rows = self._numbering.rows(persons)
        count = len(self._numbering)
        self._times.reach(count * self.cap.messages)
        return rows, self._times.data[: count * self.cap.messages].reshape(count, self.cap.messages)
