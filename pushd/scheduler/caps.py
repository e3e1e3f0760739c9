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
    """When each person was last sent a category's messages: `4 n + 1` bytes each for a cap of n.

    A row is a ring of its last n times, so any window is counted exactly: a message may go where the n-th last one
    was a window ago. Persons are given once each.
    """

    __slots__ = ("_next", "_numbering", "_times", "cap")

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self._numbering = Numbering()
        self._times = Column(np.uint32)
        self._next = Column(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take."""
        return self._times.nbytes + self._next.nbytes

    def admit(self, persons: Persons, at: float) -> Mask:
        """Who may be sent one more; for these it is counted."""
        rows = self._rows(persons)
        oldest = self._times.data[self._cells(rows)].astype(np.int64)
        free: Mask = (oldest == 0) | (oldest + self.cap.window_s <= int(at))
        self._record(rows if free.all() else rows[free], np.uint32(max(1, int(at))))
        return free

    def record(self, persons: Persons, times: Times) -> None:
        """Counts what had been sent to persons, who may repeat, each at its time; ascending.

        Times come in order; a clock that was set back is held at the person's last time.
        """
        order = np.argsort(persons, kind="stable")
        persons, times = persons[order], times[order]
        heads = np.flatnonzero(np.append(True, persons[1:] != persons[:-1])) if len(persons) else np.zeros(0, np.intp)
        sizes = np.diff(heads, append=len(persons))
        ranks = np.arange(len(persons)) - np.repeat(heads, sizes)
        rows = self._rows(persons)
        # More than fit leave no trace: only the last of them are written.
        ranks -= np.repeat(np.maximum(sizes - self.cap.messages, 0), sizes)
        for rank in range(min(self.cap.messages, int(sizes.max(initial=0)))):
            chosen = ranks == rank
            self._record(rows[chosen], np.maximum(times[chosen], 1))

    def withdraw(self, persons: Persons, at: float) -> None:
        """Takes back what was counted at an instant and then not sent."""
        rows, messages = self._rows(persons), self.cap.messages
        ages = (self._next.data[rows][:, None].astype(np.intp) + np.arange(messages)) % messages
        cells = rows[:, None] * messages + ages
        times = self._times.data[cells]  # from the oldest
        later = times >= max(1, int(at))
        gone = np.where(later.any(axis=1), later.argmax(axis=1), -1)
        shifted = np.zeros_like(times)
        shifted[:, 1:] = times[:, :-1]
        self._times.data[cells] = np.where(np.arange(messages) <= gone[:, None], shifted, times)

    def _rows(self, persons: Persons) -> Rows:
        rows = self._numbering.rows(persons)
        self._next.reach(len(self._numbering))
        self._times.reach(len(self._numbering) * self.cap.messages)
        return rows

    def _cells(self, rows: Rows) -> Rows:
        """Where the oldest time of each row stands."""
        cells: Rows = rows * self.cap.messages + self._next.data[rows]
        return cells

    def _record(self, rows: Rows, at: Times | np.uint32) -> None:
        places, messages = self._next.data[rows], self.cap.messages
        latest = self._times.data[rows * messages + (places.astype(np.intp) - 1) % messages]
        self._times.data[rows * messages + places] = np.maximum(latest, at)
        self._next.data[rows] = (places + 1) % messages
