"""The fast path of reading: frames that repeat settle hundreds of streams by a few numpy operations.

Theory of operation. A server that answers a run says the same of many streams: HEADERS with END_STREAM; or HEADERS and
DATA in turn; or many HEADERS, then many DATA; or, where it answers before it has read the request's body, HEADERS and
RST_STREAM in turn (nginx). Such a frame or pair is the first of a pattern, which is looked for in three ways:

- in order, stream after stream, as most servers answer: by `stretches`, cheap even where refusals cut it in pieces;
- in any order: if it is like the one some strides on, the octets between are taken as a table with a row for each, and
  compared in columns: the frame header but for the stream id, and what of the block must be the same. The rows that
  match, up to the first that does not, are settled together;
- frames of the same kinds that differ in length (a Huffman-coded id, say), or too few for numpy: by a short loop.

Streams are settled only if they are in the state that the frame-by-frame path would want. All else is left to the
reader, in its place between what is taken here: a frame may change what those behind it mean. So this module decides
nothing by itself: what it takes, the reader would have taken with the same result.

Blocks may be left unread while they are stateless (see `decoding`) and begin with `:status 200`: octets behind that are
never looked at then, by either path; they cannot change what the answer means to a sender, nor any state of ours. Where
the peer keeps a table they may be left unread if the very same octets were decoded since the table last changed.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from protocols.http2 import frames
from protocols.http2.decoding import STATUS_200
from protocols.http2.guard import Guard
from protocols.http2.responses import Responses
from protocols.http2.runs import DONE, HEADED, OPEN, prefix
from protocols.http2.stretches import Pattern, Stretches
from protocols.http2.windows import ReceiveWindow

PROBE = 24
"""Strides that a pattern must repeat to be worth numpy: about where its fixed cost equals that of the loop."""
REST_FRAMES_MIN = 4
REST_FRAMES_MAX = 256
"""How many frames pass before a pattern is looked for again where none was."""
ROWS_WORTH = 16
"""A look at that many rows must settle at least one, or the next look waits."""
HEADERS_WHOLE = frames.HEADERS << 8 | frames.END_HEADERS | frames.END_STREAM
HEADERS_OPEN = frames.HEADERS << 8 | frames.END_HEADERS
HEADERS = frozenset((HEADERS_WHOLE, HEADERS_OPEN))
DATA_LAST = frames.DATA << 8 | frames.END_STREAM
RESET = frames.RST_STREAM << 8
"""Type and flags of the frames that can repeat; any other flag is left to the reader."""
RESET_BYTES = 4
"""RFC 9113 section 6.4."""
FRAME_HEAD = struct.Struct(">BHHL")
"""Length in two parts, type and flags, stream (RFC 9113 section 4.1)."""


class FastPath:
    """The fast path of one connection."""

    __slots__ = ("_frame_bytes_max", "_guard", "_receive_window", "_responses", "_rest", "_rest_next", "_stretches")

    def __init__(self, frame_bytes_max: int, responses: Responses, receive_window: ReceiveWindow, guard: Guard) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._responses = responses
        self._receive_window = receive_window
        self._guard = guard
        self._stretches = Stretches(responses, receive_window)
        self._rest = 0
        """Frames to come before a pattern is looked for again: or octets made to disappoint would cost us dearly."""
        self._rest_next = REST_FRAMES_MIN

    def begin(self) -> None:
        """A new read: looks for patterns at once."""
        self._rest, self._rest_next = 0, REST_FRAMES_MIN

    def settle(self, data: bytes, at: int) -> int:
        """Takes what is common from there on; where it stopped, which is where it began if nothing is."""
        end = len(data)
        while end - at >= frames.HEADER_BYTES:
            begin, pattern = at, self._pattern(data, at)
            if pattern is not None:
                at = self._settle_like(data, at, pattern)
            elif data[at + 3] == frames.RST_STREAM:  # of an answer that was taken before: pairs begin behind it
                at = self._settle_singly(data, at, 1)
            if at == begin:
                self._rest -= 1  # for the frame that the reader now takes
                break
        return at

    def _settle_like(self, data: bytes, at: int, pattern: Pattern) -> int:
        """Takes what is like the frame or pair there, in the first way that takes anything; where it stopped."""
        begin, at = at, self._stretches.settle(data, at, pattern)
        if at != begin:
            self._rest = PROBE  # streams stand in order here: what is too short for that is so for numpy
            return at
        if self._rest <= 0 and len(data) - at >= PROBE * frames.HEADER_BYTES:
            at = self._settle_repeated(data, at, pattern)
            if at != begin and self._rest <= 0:
                return at
        return self._settle_singly(data, at, max(self._rest, REST_FRAMES_MIN))

    def _pattern(self, data: bytes, at: int) -> Pattern | None:
        """What the frame there, with the next one, may be the first repetition of; None for what no answer is like."""
        kind, length, stream = _head(data, at)
        stride = frames.HEADER_BYTES + length
        if length > self._frame_bytes_max or stream > frames.STREAM_ID_MAX:
            return None
        if kind == DATA_LAST:
            return Pattern(stream, stride, 0, HEADED, DONE, length, 0)
        decoder = self._responses.decoder
        if kind not in HEADERS or not decoder.says_200(data[at + frames.HEADER_BYTES : at + stride]):
            return None
        after = DONE if kind == HEADERS_WHOLE else HEADED
        alone = Pattern(stream, stride, 0, OPEN, after, 0, 1 if decoder.stateless else length)
        return self._paired(data, at, alone)

    def _paired(self, data: bytes, at: int, alone: Pattern) -> Pattern:
        """The pattern of a frame, or of it and the next one if that belongs to it."""
        second, size, following = _head(data, at + alone.stride)
        if following != alone.stream or size > self._frame_bytes_max:
            return alone
        stride = alone.stride + frames.HEADER_BYTES + size
        if alone.after == DONE and second == RESET and size == RESET_BYTES and self._guard.forgiving:
            return alone._replace(stride=stride, second=alone.stride, reset=True)
        if alone.after == HEADED and second == DATA_LAST:
            return alone._replace(stride=stride, second=alone.stride, after=DONE, flow_bytes=size)
        return alone

    def _settle_repeated(self, data: bytes, at: int, pattern: Pattern) -> int:
        """Takes what repeats from there on; where it stopped."""
        repeated = self._repeating(data, at, pattern)
        if repeated is None and data[at + 3] == frames.DATA:  # of a pair whose first frame was taken before
            at = self._settle_singly(data, at, 1)
            repeated = self._repeating(data, at, self._pattern(data, at))
        if repeated is None:
            return at
        count = (len(data) - at) // repeated.stride
        streams = _streams(data, at, count, repeated)
        before, after = repeated.before, repeated.after
        rows = self._responses.advance(streams, before, after, reset=repeated.reset) if len(streams) else 0
        if rows:
            self._responses.tally.received.frames += 2 * rows if repeated.second else rows
            if repeated.flow_bytes:
                self._receive_window.consume(rows * repeated.flow_bytes)
        if rows * ROWS_WORTH < count:
            self._rest = PROBE + count // ROWS_WORTH
        else:
            self._rest, self._rest_next = 0, REST_FRAMES_MIN
        return at + rows * repeated.stride

    def _repeating(self, data: bytes, at: int, pattern: Pattern | None) -> Pattern | None:
        """What repeats from there on; if nothing does, some frames pass before the next look."""
        if pattern is None:
            self._rest = REST_FRAMES_MIN
            return None
        if not _repeats(data, at, pattern.stride):
            self._rest, self._rest_next = self._rest_next, min(2 * self._rest_next, REST_FRAMES_MAX)
            return None
        return pattern

    def _settle_singly(self, data: bytes, at: int, frames_max: int) -> int:
        """Takes at most so many common frames of one run, one by one; where it stopped."""
        responses, end = self._responses, len(data)
        unpack, longest, decoder = FRAME_HEAD.unpack_from, self._frame_bytes_max, responses.decoder
        stateless = decoder.stateless
        run = responses.run_of(int.from_bytes(data[at + 5 : at + 9], "big"))
        if run is None:
            return at
        states, first, count = run.states, run.first_stream, run.count
        answered: list[int] = []
        flow = taken = fresh = 0
        while taken < frames_max and end - at >= frames.HEADER_BYTES:
            high, low, kind, stream = unpack(data, at)
            length = high << 16 | low
            stop = at + frames.HEADER_BYTES + length
            row = (stream - first) >> 1
            if length > longest or stop > end or not stream & 1 or not 0 <= row < count:
                break
            if kind == RESET:
                if states[row] != DONE or length != RESET_BYTES or not self._guard.turn(len(answered) - fresh):
                    break
                fresh = len(answered)
            elif kind == DATA_LAST and states[row] == HEADED:
                states[row] = DONE
                answered.append(row)
                flow += length
            elif (
                kind not in HEADERS
                or not length
                or states[row] != OPEN
                or not (data[at + 9] == STATUS_200 if stateless else decoder.says_200(data[at + 9 : stop]))
            ):
                break
            elif kind == HEADERS_WHOLE:
                states[row] = DONE
                answered.append(row)
            else:
                states[row] = HEADED
            taken += 1
            at = stop
        self._rest -= taken
        responses.tally.received.frames += taken
        self._receive_window.consume(flow)
        if answered:
            responses.answered(run, answered)
        if len(answered) > fresh:
            self._guard.answered(len(answered) - fresh)
        return at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Type and flags, length and stream of a frame; zeros where there is none."""
    if at + frames.HEADER_BYTES > len(data):
        return 0, 0, 0
    high, low, kind, stream = FRAME_HEAD.unpack_from(data, at)
    return kind, high << 16 | low, stream


def _repeats(data: bytes, at: int, stride: int) -> bool:
    """Whether the frame's header stands again one stride on and some strides on, all of it within the octets."""
    last = at + (PROBE - 1) * stride
    head = data[at : at + 5]
    return last + stride <= len(data) and data[at + stride : at + stride + 5] == head == data[last : last + 5]


def _streams(data: bytes, at: int, count: int, pattern: Pattern) -> NDArray[np.int64]:
    """The stream ids of the repetitions, up to the first that differs from the one at the beginning."""
    stride = pattern.stride
    same = _heads(data, at, count, stride)
    if pattern.head_bytes:
        same &= _blocks(data, at + frames.HEADER_BYTES, count, stride, pattern.head_bytes)
    streams = _ids(data, at, count, stride)
    if pattern.second:
        same &= _heads(data, at + pattern.second, count, stride)
        same &= streams == _ids(data, at + pattern.second, count, stride)
    return streams[: prefix(same)]


def _heads(data: bytes, at: int, count: int, stride: int) -> NDArray[np.bool_]:
    """Where length, type and flags are those of the first frame."""
    heads = np.ndarray((count,), ">u8", data, at, (stride,)) >> 24
    same: NDArray[np.bool_] = heads == int.from_bytes(data[at : at + 5], "big")
    return same


def _blocks(data: bytes, at: int, count: int, stride: int, size: int) -> NDArray[np.bool_]:
    """Where so many octets are those of the first block."""
    if size == 1:
        alike: NDArray[np.bool_] = np.ndarray((count,), np.uint8, data, at, (stride,)) == data[at]
        return alike
    blocks = np.ndarray((count, size), np.uint8, data, at, (stride, 1))
    same: NDArray[np.bool_] = np.logical_and.reduce(blocks == blocks[0], axis=1)
    return same


def _ids(data: bytes, at: int, count: int, stride: int) -> NDArray[np.int64]:
    """With the reserved bit, which nobody sets: an id that has it is unknown here, and left to the reader."""
    return np.ndarray((count,), ">u4", data, at + 5, (stride,)).astype(np.int64)
