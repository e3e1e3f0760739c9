"""Frequency caps: at most so many messages for each user in any window of time, counted exactly, in columns."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

MESSAGES_MAX = 100
WINDOW_MAX_S = 366 * 86_400

Rows = NDArray[np.uint32]
Mask = NDArray[np.bool_]


class Cap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most so many messages of a category for a user in any window of so many seconds."""

    messages: Annotated[int, Meta(ge=1, le=MESSAGES_MAX)]
    window_s: Annotated[int, Meta(ge=60, le=WINDOW_MAX_S)]


class Counter:
    """When each row (a user, as the caller numbers them) was last sent a category's messages: `4 n + 1` bytes a row.

    A row is a ring of its last n times, so any window is counted exactly: a message may go where the n-th last one
    was a window ago. A notification counts once for its user, however many devices it goes to.
    """

    __slots__ = ("_next", "_times", "cap")

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self._times = np.zeros((0, cap.messages), np.uint32)
        self._next = np.zeros(0, np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take."""
        return self._times.nbytes + self._next.nbytes

    def reach(self, rows: int) -> None:
        """Makes room for at least so many rows."""
        size = len(self._next)
        if rows > size:
            more = max(rows, size + max(size >> 3, 1_024)) - size
            self._times = np.concatenate([self._times, np.zeros((more, self.cap.messages), np.uint32)])
            self._next = np.concatenate([self._next, np.zeros(more, np.uint8)])

    def free(self, rows: Rows, at: float) -> Mask:
        """Which rows may be sent one more at an instant; nothing is counted."""
        self._room(rows)
        oldest = self._times[rows, self._next[rows]].astype(np.int64)
        free: Mask = (oldest == 0) | (oldest + self.cap.window_s <= int(at))
        return free

    def admit(self, rows: Rows, at: float) -> Mask:
        """Which rows may be sent one more, and counts it for them; a row that repeats is one message, in all places."""
        distinct, places = np.unique(rows, return_inverse=True)
        free = self.free(distinct, at)
        self.record(distinct[free], at)
        admitted: Mask = free[places]
        return admitted

    def record(self, rows: Rows, at: float) -> None:
        """Counts a message for each of these distinct rows, as a restart does for what had been sent.

        Times come in order; a clock that was set back is held at the row's last time.
        """
        self._room(rows)
        places = self._next[rows]
        latest = self._times[rows, (places.astype(np.int16) - 1) % self.cap.messages]
        self._times[rows, places] = np.maximum(latest, max(1, int(at)))
        self._next[rows] = (places + 1) % self.cap.messages

    def next_free(self, rows: Rows) -> NDArray[np.int64]:
        """UNIX seconds from which on each row may be sent one more; 0 where it never was full."""
        self._room(rows)
        oldest = self._times[rows, self._next[rows]].astype(np.int64)
        return np.where(oldest == 0, 0, oldest + self.cap.window_s)

    def forget(self, rows: Rows) -> None:
        """Empties rows, for users that are deleted."""
        self._room(rows)
        self._times[rows] = 0
        self._next[rows] = 0

    def _room(self, rows: Rows) -> None:
        if len(rows):
            self.reach(int(rows.max()) + 1)
