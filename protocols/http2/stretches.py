"""Stretches of alike frames on streams that follow one another: compared as a whole with the octets that they would be.

Theory of operation. A server that answers a run in order says of stream after stream what it said of the first: its
octets can be foretold, but for those that nobody reads. So tables of them are kept, by kind of frame and block, with a
row for each of the next streams, and what came is compared with their rows in one operation, the two frames of a pair
in one each. The rows before the first difference are settled by slices of the run's states, up to the first stream that
is not in the state that the frame-by-frame path would want. So it costs little more if a stretch is cut in pieces by
frames of another kind, refusals say: that is what this is for. What comes in no order is left to `fastpath`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.http2 import frames
from protocols.http2.responses import Responses
from protocols.http2.windows import ReceiveWindow

ROWS = 256
"""Rows of a table, and so of what is settled at once."""
PROBE = 8
"""Strides on which there must be what is foretold to be worth a comparison: about where its cost equals the loop's."""
SAME_MAX = 64
"""Octets of a block that are compared; of longer ones not many are the same."""
TABLES_MAX = 8
"""Tables that a connection keeps; a server uses two or three at a time."""
KIND_BYTES = 5
"""Length, type and flags of a frame: what comes before its stream (RFC 9113 section 4.1)."""


class Pattern(NamedTuple):
    """Frames that may repeat from here on."""

    stream: int
    """Of the first."""
    stride: int
    """Octets of one repetition."""
    second: int
    """Offset of the second frame of a pair, 0 if there is one frame."""
    before: int
    """State that each stream must be in."""
    after: int
    """State that it then is in."""
    flow_bytes: int
    """Octets of DATA in each repetition."""
    head_bytes: int
    """Octets that must be the same at the beginning of each block; 0 if the first frame is not HEADERS."""
    reset: bool = False
    """Whether the second frame is RST_STREAM: its code does not matter after an answer (X-16)."""


class Table:
    """The octets that frames like one would be, a row for each of so many streams that follow one another."""

    __slots__ = ("_first", "_ids", "_rows")

    def __init__(self, kind: bytes, block: bytes) -> None:
        row = np.frombuffer(kind + bytes(4) + block, np.uint8)
        self._rows: NDArray[np.uint8] = np.tile(row, (ROWS, 1))
        self._ids: NDArray[np.uint32] = np.ndarray((ROWS,), ">u4", self._rows, KIND_BYTES, (len(row),))
        self._first = -2 * ROWS
        """The stream of the first row."""

    def of(self, stream: int, count: int) -> NDArray[np.uint8]:
        """The rows of so many streams from one on, at most as many as there are."""
        row = (stream - self._first) >> 1
        if row < 0 or row + count > ROWS:
            self._first, row = stream, 0
            self._ids[:] = np.arange(stream, stream + 2 * ROWS, 2)
        return self._rows[row : row + count]


class Stretches:
    """The stretches of one connection."""

    __slots__ = ("_receive_window", "_responses", "_tables")

    def __init__(self, responses: Responses, receive_window: ReceiveWindow) -> None:
        self._responses = responses
        self._receive_window = receive_window
        self._tables: dict[tuple[bytes, bytes], Table] = {}

    def settle(self, data: bytes, at: int, pattern: Pattern) -> int:
        """Takes what is alike from there on, on streams that follow one another; where it stopped."""
        stream, stride, second = pattern.stream, pattern.stride, pattern.second
        probe = at + PROBE * stride
        head = data[at : at + KIND_BYTES] + (stream + 2 * PROBE).to_bytes(4, "big")
        if data[probe : probe + frames.HEADER_BYTES] != head or pattern.head_bytes > SAME_MAX:
            return at
        run = self._responses.run_of(stream) if stream & 1 else None
        if run is None:
            return at
        row = (stream - run.first_stream) >> 1
        count = min((len(data) - at) // stride, run.count - row, ROWS)
        count = self._alike(data, at, pattern, pattern.head_bytes, count)
        if second and count:
            count = self._alike(data, at + second, pattern, 0, count)
        count = self._responses.advance_rows(run, row, count, pattern.before, pattern.after, reset=pattern.reset)
        self._responses.tally.received.frames += 2 * count if second else count
        if pattern.flow_bytes:
            self._receive_window.consume(count * pattern.flow_bytes)
        return at + count * stride

    def _alike(self, data: bytes, at: int, pattern: Pattern, same: int, count: int) -> int:
        """How many of the frames a stride apart, the first of them there, are as the table of that one has them."""
        key = data[at : at + KIND_BYTES], data[at + frames.HEADER_BYTES : at + frames.HEADER_BYTES + same]
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= TABLES_MAX:
                self._tables.clear()
            table = self._tables[key] = Table(*key)
        expected = table.of(pattern.stream, count)
        found = np.ndarray(expected.shape, np.uint8, data, at, (pattern.stride, 1)) == expected
        miss = int(found.argmin())
        return miss // found.shape[1] if miss or not found[0, 0] else count
