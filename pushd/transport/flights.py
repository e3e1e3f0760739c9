"""Flights of a link: runs of rows on the wire, their deadlines, and what becomes of them when it ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.http2 import Received, Run
from pushd import outcome
from pushd.outcome import Reason
from pushd.transport.queue import Load

REFUSED_STREAM = 7
"""RFC 9113 section 7: the request was not processed."""


class Flight:
    """What one write put on one link: a run of streams, and the rows of a load that they carry."""

    __slots__ = ("alone", "begin", "deadline", "end", "load", "run", "start")

    def __init__(self, load: Load, start: int, deadline: float) -> None:
        self.load = load
        self.start = start
        """Position in the load of the run's first row."""
        self.deadline = deadline
        """When rows without an answer are given up, in seconds of the loop's clock."""
        self.run: Run
        """While it has rows without an outcome. A run's tag is its flight, and two that hold each other would keep
        their batch until the garbage collector looks."""
        self.begin = self.end = 0
        """Where the write that holds the run lies in the link's byte stream."""
        self.alone = False
        """Whether it holds no other run."""

    def settle(self, rows: NDArray[np.intp], codes: NDArray[np.uint8] | int) -> None:
        """Gives rows of the run their codes."""
        self.load.settle(rows + self.start, codes)

    def unsettled(self) -> NDArray[np.intp]:
        """Rows of the run without a code: also those whose answer came and was not understood."""
        codes = self.load.sending.batch.outcomes[self.load.rows[self.start : self.start + self.run.count]]
        return np.flatnonzero(codes == 0)

    def batch_row(self, row: int) -> int:
        """The row of the batch that a row of the run is."""
        return int(self.load.rows[self.start + row])

    def unwritten_from(self, handed: int) -> int:
        """The first row of the run of which no byte lies below this offset of the link's byte stream (A-65).

        Where rows differ in length, a write that was begun counts for all of them.
        """
        if handed <= self.begin:
            return 0
        if handed >= self.end or not (self.load.uniform and self.alone):
            return self.run.count
        return -(-(handed - self.begin) * self.run.count // (self.end - self.begin))


class Flights:
    """The flights of one link in the order of writing."""

    __slots__ = ("_by_run",)

    def __init__(self) -> None:
        self._by_run: dict[Run, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_run)

    @property
    def rows(self) -> int:
        """Rows without an outcome."""
        return sum(run.open for run in self._by_run)

    @property
    def deadline(self) -> float | None:
        """When the oldest rows are given up."""
        for flight in self._by_run.values():
            return flight.deadline
        return None

    def add(self, flight: Flight) -> None:
        """Counts a flight whose run is made."""
        self._by_run[flight.run] = flight

    def landed(self, run: Run) -> None:
        """Forgets a run when all of its rows are answered."""
        if not run.open and (flight := self._by_run.pop(run, None)) is not None:
            del flight.run

    def refused(self, received: Received, unprocessed: int) -> None:
        """Settles what the peer reset, and with code `unprocessed` what a GOAWAY says that it never looked at."""
        for run, rows, code in received.resets:
            reason = outcome.REFUSED_STREAM if code == REFUSED_STREAM else outcome.STREAM_RESET
            self._settle(run, rows, reason.code)
        for run, rows in received.unprocessed:
            self._settle(run, rows, unprocessed)

    def overdue(self, now: float) -> list[tuple[Run, NDArray[np.intp]]]:
        """Settles the rows whose deadline has passed as lost; which they were, for the resets."""
        late = [flight for flight in self._by_run.values() if flight.deadline <= now]
        given_up = []
        for flight in late:
            rows = flight.run.outstanding()
            flight.settle(rows, outcome.RESPONSE_TIMEOUT.code)
            del self._by_run[flight.run]
            if len(rows):
                given_up.append((flight.run, rows))
            del flight.run
        return given_up

    def lose(self, handed: int, lost: Reason) -> None:
        """Settles every row when the link is gone: lost up to that offset of its byte stream, unprocessed beyond."""
        flights, self._by_run = list(self._by_run.values()), {}
        for flight in flights:
            rows = flight.unsettled()
            unwritten = rows >= flight.unwritten_from(handed)
            codes = np.where(unwritten, np.uint8(outcome.NOT_WRITTEN.code), np.uint8(lost.code))
            flight.settle(rows, codes)
            del flight.run

    def _settle(self, run: Run, rows: NDArray[np.intp], code: int) -> None:
        flight = run.tag
        assert isinstance(flight, Flight)
        flight.settle(rows, code)
        self.landed(run)
