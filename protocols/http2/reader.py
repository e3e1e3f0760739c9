"""The octet stream from the peer, cut into frames and handed out; the fast path takes what it can (T-03)."""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.http2 import frames
from protocols.http2.control import Control
from protocols.http2.fastpath import FastPath
from protocols.http2.frames import STREAM_ID_MAX, ErrorCode
from protocols.http2.guard import Guard
from protocols.http2.responses import Responses
from protocols.http2.runs import Registry
from protocols.http2.settings import ConnectionSettings
from protocols.http2.windows import ReceiveWindow, SendWindows

PRIORITY_BYTES = 5
"""RFC 9113 section 6.3; parsed and ignored (T-11)."""
OF_ANSWERS = frozenset((frames.HEADERS, frames.DATA))
OF_CONNECTION = frozenset((frames.SETTINGS, frames.PING, frames.GOAWAY, frames.WINDOW_UPDATE))


class Reader:
    """Cuts frames out of reads of any size; keeps what a frame lacks, at most one frame and one header block."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_frames",
        "_block_stream",
        "_control",
        "_fast_path",
        "_guard",
        "_kept",
        "_need",
        "_registry",
        "_responses",
        "_settings",
        "_windows",
        "receive_window",
    )

    def __init__(
        self,
        settings: ConnectionSettings,
        registry: Registry,
        responses: Responses,
        control: Control,
        guard: Guard,
        windows: SendWindows,
        receive_window: ReceiveWindow,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._responses = responses
        self._control = control
        self._guard = guard
        self._windows = windows
        self.receive_window = receive_window
        self._fast_path = FastPath(settings.frame_bytes_max, responses, receive_window, guard)
        self._kept = bytearray()
        self._need = 0
        """Octets that `_kept` must have before it is worth looking at."""
        self._block = bytearray()
        self._block_stream = 0
        """The stream whose header block is unfinished, 0 for none."""
        self._block_flags = 0
        self._block_frames = 0

    def read(self, data: bytes) -> None:
        """Handles every whole frame; RemoteProtocolError when the peer breaks the protocol."""
        if self._kept:
            self._kept += data
            if len(self._kept) < self._need:
                return
            data = bytes(self._kept)
            self._kept.clear()
        at = self._frames(data)
        if at < len(data):
            self._kept += data[at:] if at else data

    def _frames(self, data: bytes) -> int:
        """Handles whole frames; where the first unfinished one begins."""
        at, end = 0, len(data)
        self._fast_path.begin()
        while True:
            if self._may_hurry():
                at = self._fast_path.settle(data, at)
            if end - at < frames.HEADER_BYTES:
                break
            length = int.from_bytes(data[at : at + 3], "big")
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & STREAM_ID_MAX
            self._check(length, kind, flags, stream)
            stop = at + frames.HEADER_BYTES + length
            if stop > end:
                self._need = stop - at
                return at
            self._responses.tally.received.frames += 1
            self._frame(kind, flags, stream, data[at + frames.HEADER_BYTES : stop])
            at = stop
        self._need = frames.HEADER_BYTES
        return at

    def _may_hurry(self) -> bool:
        """Whether frames may be settled in bulk: nothing is unfinished that one of them could bear on."""
        return not self._block_stream and not self._windows.uploads

    def _check(self, length: int, kind: int, flags: int, stream: int) -> None:
        """Judges a frame by its header, before its payload is waited for."""
        if not self._control.settings_seen and (kind != frames.SETTINGS or flags & frames.ACK):
            raise RemoteProtocolError("the first frame is not SETTINGS")
        if length > self._settings.frame_bytes_max:
            raise RemoteProtocolError("frame too long", ErrorCode.FRAME_SIZE_ERROR)
        if self._block_stream and (kind != frames.CONTINUATION or stream != self._block_stream):
            raise RemoteProtocolError("a header block is interrupted")

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Hands a whole frame to whom it concerns."""
        if kind in OF_ANSWERS and not self._registry.is_idle(stream):  # first, as nearly all are
            if kind == frames.DATA:
                self._data(flags, stream, payload)
            else:
                self._headers(flags, stream, payload)
        elif kind > frames.CONTINUATION:
            self._guard.nuisance()  # unknown types are ignored: RFC 9113 section 5.5
        elif kind in OF_CONNECTION:
            self._of_connection(kind, flags, stream, payload)
        elif kind == frames.PRIORITY:
            self._priority(stream, payload)
        elif kind == frames.PUSH_PROMISE:
            raise RemoteProtocolError("PUSH_PROMISE although push is off")
        elif self._registry.is_idle(stream):  # stream 0 is even, as a server's are
            raise RemoteProtocolError("a frame for a stream that we did not open")
        elif kind == frames.CONTINUATION:
            self._continuation(flags, payload)
        else:
            self._rst_stream(stream, payload)

    def _of_connection(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            if stream and self._registry.is_idle(stream):
                raise RemoteProtocolError("WINDOW_UPDATE for an idle stream")
            self._control.window_update(stream, payload)
        elif stream:
            raise RemoteProtocolError("a frame of the connection on a stream")
        elif kind == frames.SETTINGS:
            self._control.settings(flags, payload)
        elif kind == frames.PING:
            self._control.ping_received(flags, payload)
        else:
            self._control.goaway(payload)

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        self.receive_window.consume(len(payload))
        body = frames.unpadded(payload, flags)
        self._responses.data(stream, body, len(payload), end_stream=bool(flags & frames.END_STREAM))

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        block = frames.unpadded(payload, flags)
        if flags & frames.HAS_PRIORITY:
            if len(block) < PRIORITY_BYTES:
                raise RemoteProtocolError("HEADERS too short for its priority", ErrorCode.FRAME_SIZE_ERROR)
            block = block[PRIORITY_BYTES:]
        if flags & frames.END_HEADERS:
            self._responses.headers(stream, block, end_stream=bool(flags & frames.END_STREAM))
            return
        self._block_stream, self._block_flags, self._block_frames = stream, flags, 1
        self._block += block
        self._check_block()

    def _continuation(self, flags: int, payload: bytes) -> None:
        if not self._block_stream:
            raise RemoteProtocolError("CONTINUATION without HEADERS")
        self._guard.nuisance()
        self._block += payload
        self._block_frames += 1
        self._check_block()
        if flags & frames.END_HEADERS:
            stream, block = self._block_stream, bytes(self._block)
            self._block_stream = 0
            self._block.clear()
            self._responses.headers(stream, block, end_stream=bool(self._block_flags & frames.END_STREAM))

    def _check_block(self) -> None:
        """RemoteProtocolError for a header block that goes on and on (T-30)."""
        settings = self._settings
        if self._block_frames > settings.continuation_frames_max or len(self._block) > settings.header_list_bytes_max:
            raise RemoteProtocolError("a header block without end", ErrorCode.ENHANCE_YOUR_CALM)

    def _priority(self, stream: int, payload: bytes) -> None:
        if not stream:
            raise RemoteProtocolError("PRIORITY on stream 0")
        if len(payload) != PRIORITY_BYTES:
            raise RemoteProtocolError("PRIORITY of a broken length", ErrorCode.FRAME_SIZE_ERROR)
        self._guard.nuisance()

    def _rst_stream(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise RemoteProtocolError("RST_STREAM of a broken length", ErrorCode.FRAME_SIZE_ERROR)
        self._responses.reset_by_peer(stream, int.from_bytes(payload, "big"))
