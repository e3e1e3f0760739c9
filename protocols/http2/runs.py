"""Streams and runs: which stream is which row, and how far each has come.

Theory of operation. A run is an unbroken range of stream ids, so that a stream id is a row number, and one octet per
row holds its state:

    OPEN ──200, no END_STREAM──► HEADED ──END_STREAM──► DONE
      │ any other header block      │ DATA without END_STREAM
      ▼                             ▼
    DETAILED (a Response exists) ◄──┘ ──END_STREAM──► DONE
    OPEN, HEADED, DETAILED ──RST_STREAM of the peer──► DONE
    OPEN, HEADED, DETAILED ──reset by us; above GOAWAY's last id──► DROPPED ──PING ACK──► DONE

States below DONE are *open*: the row has no answer. Frames for a DROPPED stream are tolerated, their header blocks
decoded and their windows counted (T-06, T-08); frames for a DONE one are errors, but for those that RFC 9113 section
5.1 allows. A run is forgotten when none of its rows is open or dropped; a stream id below the next one that no run
knows is DONE.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from protocols.http2.frames import STREAM_ID_MAX

ROWS_PER_GROUP_MIN = 8
"""Streams per run of one `split` below which frames one by one are faster."""

OPEN = 0
HEADED = 1
DETAILED = 2
DONE = 3
DROPPED = 4


class Run:
    """Consecutive streams opened by one call; `tag` is the caller's."""

    __slots__ = ("_view", "count", "dropped", "first_stream", "open", "states", "tag")

    def __init__(self, first_stream: int, count: int, tag: object) -> None:
        self.first_stream = first_stream
        self.count = count
        self.tag = tag
        self.open = count
        """Rows without an answer."""
        self.dropped = 0
        """Rows whose stream the peer may still talk about although we gave it up."""
        self.states = bytearray(count)
        self._view: NDArray[np.uint8] | None = None

    @property
    def view(self) -> NDArray[np.uint8]:
        """The states as an array over the same memory."""
        if self._view is None:
            self._view = np.frombuffer(self.states, np.uint8)
        return self._view

    def outstanding(self) -> NDArray[np.intp]:
        """Rows without an answer, in order."""
        return np.flatnonzero(self.view < DONE)

    def stream(self, row: int) -> int:
        """The stream id of a row."""
        return self.first_stream + 2 * row


def prefix(flags: NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    if not len(flags):
        return 0
    at = int(flags.argmin())
    return len(flags) if flags[at] else at


class Registry:
    """The runs of a connection that still matter, and the next stream id."""

    __slots__ = ("_firsts", "_hint", "_runs", "next_stream", "open")

    def __init__(self, first_stream: int) -> None:
        self.next_stream = first_stream
        self.open = 0
        """Rows without an answer, of all runs."""
        self._runs: list[Run] = []
        self._firsts: list[int] = []
        self._hint = Run(first_stream, 0, None)

    @property
    def ids_left(self) -> int:
        """How many more streams can be opened (RFC 9113 section 5.1.1)."""
        return max(0, (STREAM_ID_MAX - self.next_stream) // 2 + 1)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The remembered runs, oldest first."""
        return tuple(self._runs)

    def add(self, count: int, tag: object) -> Run:
        """A run on the next stream ids."""
        run = Run(self.next_stream, count, tag)
        self._runs.append(run)
        self._firsts.append(run.first_stream)
        self.next_stream += 2 * count
        self.open += count
        return run

    def find(self, stream: int) -> Run | None:
        """The remembered run of a client's stream id."""
        hint = self._hint
        if 0 <= stream - hint.first_stream < 2 * hint.count and (hint.open or hint.dropped):
            return hint
        at = bisect_right(self._firsts, stream) - 1
        if at >= 0 and stream - self._firsts[at] < 2 * self._runs[at].count:
            self._hint = self._runs[at]
            return self._hint
        return None

    def is_idle(self, stream: int) -> bool:
        """Whether no such stream was ever opened: even ids are the server's, and push is off."""
        return stream >= self.next_stream or not stream & 1

    def finish(self, run: Run, row: int) -> None:
        """An open row becomes DONE."""
        run.states[row] = DONE
        self.settled(run, 1)

    def settled(self, run: Run, rows: int) -> None:
        """Counts open rows that became DONE."""
        run.open -= rows
        self.open -= rows
        if not run.open:
            self._forget(run)

    def drop(self, run: Run, row: int) -> None:
        """An open row becomes DROPPED."""
        run.states[row] = DROPPED
        run.dropped += 1
        run.open -= 1
        self.open -= 1

    def release(self, run: Run, row: int) -> None:
        """A DROPPED row becomes DONE."""
        run.states[row] = DONE
        run.dropped -= 1
        self._forget(run)

    def split(self, streams: NDArray[np.int64], state: int) -> list[tuple[Run, NDArray[np.intp]]]:
        """The rows of stream ids by run, up to the first id that is even, unknown, or in another state.

        Nothing if an id stands twice, or if they are in no order and of so many runs that one by one is faster.
        """
        first, count = int(streams[0]), len(streams)
        if prefix(streams == np.arange(first, first + 2 * count, 2)) == count:
            return self._split_ordered(first, count, state) if first & 1 else []
        odd = prefix((streams & 1) == 1)
        return self._split_scattered(streams[:odd], state) if odd else []

    def _split_ordered(self, first: int, count: int, state: int) -> list[tuple[Run, NDArray[np.intp]]]:
        """The same of ids that follow one another."""
        found = []
        while count and (run := self.find(first)) is not None:
            row = (first - run.first_stream) >> 1
            own = good = min(count, run.count - row)
            if run.states.count(state, row, row + own) < own:
                good = prefix(run.view[row : row + own] == state)
            if good:
                found.append((run, np.arange(row, row + good)))
            if good < own:
                break
            first, count = first + 2 * own, count - own
        return found

    def _split_scattered(self, streams: NDArray[np.int64], state: int) -> list[tuple[Run, NDArray[np.intp]]]:
        good = np.zeros(len(streams), np.bool_)
        found = []
        for run, mask in self._groups(streams):
            ids = streams if mask is None else streams[mask]
            rows = (ids - run.first_stream) >> 1
            if prefix(rows[1:] > rows[:-1]) < len(rows) - 1 and len(np.unique(rows)) != len(rows):
                return []
            good[slice(None) if mask is None else mask] = run.view[rows] == state
            found.append((run, rows))
        whole = prefix(good)
        if whole == len(good):
            return found
        return self._split_scattered(streams[:whole], state) if whole else []

    def _groups(self, streams: NDArray[np.int64]) -> list[tuple[Run, NDArray[np.bool_] | None]]:
        """The remembered runs of stream ids, with the mask of each; None stands for all."""
        run = self.find(int(streams[0]))
        if run is None:
            return []
        if streams.min() >= run.first_stream and streams.max() < run.first_stream + 2 * run.count:
            return [(run, None)]
        at = np.searchsorted(np.array(self._firsts, np.int64), streams, "right") - 1
        which = np.unique(at)
        if len(which) * ROWS_PER_GROUP_MIN > len(streams):
            return []
        found = []
        for index in which[which >= 0].tolist():
            run = self._runs[index]
            found.append((run, (at == index) & (streams < run.first_stream + 2 * run.count)))
        return found

    def _forget(self, run: Run) -> None:
        if run.open or run.dropped:
            return
        at = bisect_right(self._firsts, run.first_stream) - 1
        if at >= 0 and self._runs[at] is run:
            del self._runs[at], self._firsts[at]
