"""What a read told us: answers by run, bodies of refusals, resets, GOAWAY."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.errors import RemoteProtocolError
from protocols.http2.runs import Run

ROW = np.dtype(np.intp).char
STATUS = np.dtype(np.uint16).char
"""Types of the arrays in which answers gather: Python's, which grow, and cost little where rows come by the few."""
ALL_ROWS = array(ROW, range(4_096))
ALL_200 = array(STATUS, (200,)) * len(ALL_ROWS)
"""Rows and their statuses where all are accepted, cut to size where they are needed; never written to."""
Fields = list[tuple[bytes, bytes]]


class Answers(NamedTuple):
    """Whole responses of one run, in the order of their arrival."""

    run: Run
    rows: NDArray[np.intp]
    statuses: NDArray[np.uint16]


class GoAway(NamedTuple):
    """The peer's farewell (RFC 9113 section 6.8); `debug` is truncated."""

    last_stream: int
    code: int
    debug: bytes


@dataclass(slots=True, eq=False)
class Received:
    """All that one call of `receive` found out."""

    answers: list[Answers] = field(default_factory=list)
    bodies: dict[tuple[Run, int], bytes] = field(default_factory=dict)
    """By run and row, of answers other than 200 that had one; capped, and left out if it has a content-encoding."""
    headers: dict[tuple[Run, int], Fields] = field(default_factory=dict)
    """By run and row, of answers other than 200."""
    resets: list[tuple[Run, NDArray[np.intp], int]] = field(default_factory=list)
    """Rows that end without an answer, by error code: reset by the peer, or by us because the answer was malformed.

    REFUSED_STREAM means that the request was not processed; we never use that code ourselves.
    """
    goaway: GoAway | None = None
    unprocessed: list[tuple[Run, NDArray[np.intp]]] = field(default_factory=list)
    """Rows above GOAWAY's last stream id, each reported once; the request was not processed."""
    ping_acks: list[bytes] = field(default_factory=list)
    """Payloads of the caller's own PINGs that came back."""
    settings_changed: bool = False
    frames: int = 0


class ConnectionBrokenError(RemoteProtocolError):
    """The peer broke the protocol; `received` holds what the same read had told us before that."""

    def __init__(self, message: str, code: int, received: Received) -> None:
        super().__init__(message, code)
        self.received = received


class Column:
    """Answers of one run as they come in."""

    __slots__ = ("_rows", "_statuses", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self._rows = array(ROW)
        self._statuses = array(STATUS)

    def add(self, row: int, status: int) -> None:
        """Adds a row."""
        self._rows.append(row)
        self._statuses.append(status)

    def span(self, row: int, rows: int) -> None:
        """Adds so many rows from one on, answered 200."""
        end = row + rows
        self._rows.extend(ALL_ROWS[row:end] if end <= len(ALL_ROWS) else array(ROW, range(row, end)))
        self._accept(rows)

    def extend(self, rows: NDArray[np.intp] | list[int]) -> None:
        """Adds rows that were answered 200."""
        if isinstance(rows, list):
            self._rows.fromlist(rows)
        else:
            self._rows.frombytes(rows.tobytes())
        self._accept(len(rows))

    def answers(self) -> Answers:
        """All of them, in their order; nothing may be added after."""
        return Answers(self.run, np.frombuffer(self._rows, np.intp), np.frombuffer(self._statuses, np.uint16))

    def _accept(self, rows: int) -> None:
        self._statuses.extend(ALL_200[:rows] if rows <= len(ALL_200) else array(STATUS, (200,)) * rows)


class Tally:
    """Collects one `Received`."""

    __slots__ = ("_columns", "_resets", "received")

    def __init__(self) -> None:
        self.received = Received()
        self._columns: dict[Run, Column] = {}
        self._resets: dict[tuple[Run, int], list[int]] = {}

    def column(self, run: Run) -> Column:
        """Where the answers of a run gather."""
        column = self._columns.get(run)
        if column is None:
            column = self._columns[run] = Column(run)
        return column

    def reset(self, run: Run, row: int, code: int) -> None:
        """Notes a row that ended without an answer."""
        self._resets.setdefault((run, code), []).append(row)

    def finish(self) -> Received:
        """The result."""
        received = self.received
        received.answers = [column.answers() for column in self._columns.values()]
        received.resets = [(run, np.array(rows, np.intp), code) for (run, code), rows in self._resets.items()]
        return received
