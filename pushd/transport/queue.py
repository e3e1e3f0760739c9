"""What waits in a pool: batches on their way, as loads that links take rows from."""

from __future__ import annotations

import asyncio
from collections import deque

import numpy as np
from numpy.typing import NDArray

from pushd.batch import Batch


class Sending:
    """A batch on its way, and how many of its rows have no outcome yet."""

    __slots__ = ("batch", "done", "pending")

    def __init__(self, batch: Batch, done: asyncio.Future[None]) -> None:
        self.batch = batch
        self.pending = batch.pending
        self.done = done
        if not self.pending:
            done.set_result(None)

    def settle(self, rows: NDArray[np.intp], codes: NDArray[np.uint8] | int) -> None:
        """Gives batch rows, each pending until now, their codes, and wakes the sender after the last."""
        self.batch.outcomes[rows] = codes
        self.pending -= len(rows)
        assert self.pending >= 0
        if not self.pending and not self.done.done():
            self.done.set_result(None)


class Load:
    """Rows of one batch that are encoded alike; links take them from the front."""

    __slots__ = ("at", "body_bytes", "form", "put_at", "rows", "sending", "uniform")

    def __init__(
        self, sending: Sending, rows: NDArray[np.intp], form: object, body_bytes: int, *, uniform: bool
    ) -> None:
        self.sending = sending
        self.rows = rows
        """Batch row numbers in the order of sending."""
        self.form = form
        """What the gateway's encoder needs to know about these rows."""
        self.body_bytes = body_bytes
        """Length of the longest body."""
        self.uniform = uniform
        """Whether every row takes the same number of bytes on the wire."""
        self.at = 0
        self.put_at = 0.0

    @property
    def left(self) -> int:
        """Rows that no link took yet."""
        return len(self.rows) - self.at

    def settle(self, rows: NDArray[np.intp], codes: NDArray[np.uint8] | int) -> None:
        """Gives rows of this load, by their position in it, their codes."""
        self.sending.settle(self.rows[rows], codes)

    def settle_left(self, code: int) -> int:
        """Gives every row that no link took this code; how many there were."""
        left = self.left
        if left:
            self.sending.settle(self.rows[self.at :], code)
            self.at = len(self.rows)
        return left


class Queue:
    """Loads in the order they came, and how many rows they hold together."""

    __slots__ = ("_loads", "rows")

    def __init__(self) -> None:
        self._loads: deque[Load] = deque()
        self.rows = 0

    def put(self, load: Load, now: float) -> None:
        """Appends a load."""
        load.put_at = now
        self._loads.append(load)
        self.rows += load.left

    def head(self) -> Load | None:
        """The load whose rows go next."""
        return self._loads[0] if self._loads else None

    def take(self, rows: int) -> int:
        """Takes that many rows from the head; the position in the load of the first of them."""
        load = self._loads[0]
        assert 0 < rows <= load.left
        start = load.at
        load.at += rows
        self.rows -= rows
        if not load.left:
            self._loads.popleft()
        return start

    def drop(self, sending: Sending, code: int) -> None:
        """Gives the waiting rows of one batch this code and forgets them."""
        kept: deque[Load] = deque()
        for load in self._loads:
            if load.sending is sending:
                self.rows -= load.settle_left(code)
            else:
                kept.append(load)
        self._loads = kept

    def take_all(self) -> list[Load]:
        """Every load, taken off the queue."""
        loads, self._loads, self.rows = list(self._loads), deque(), 0
        return loads

    def drop_all(self, code: int) -> None:
        """Gives every waiting row this code and forgets them all."""
        loads, self._loads, self.rows = self._loads, deque(), 0
        for load in loads:
            load.settle_left(code)
