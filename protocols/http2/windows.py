"""Flow control: credit to send, bodies that wait for it, and credit that we give back.

Theory of operation. The connection's send window is reserved for a whole body before its HEADERS are made (A-71), so
`window` is what is left for new requests. A stream's window matters only while a body does not fit into it: such a body
becomes an *upload*, which sends pieces as WINDOW_UPDATE or a larger INITIAL_WINDOW_SIZE lets it. An upload keeps
credit minus octets sent; what it may send is INITIAL_WINDOW_SIZE plus that, which may be negative (RFC 9113 section
6.9.2), and a change of the setting costs nothing per stream. An upload may outlive its row: the peer answered before it
read all; it then still holds a stream slot ("lingering").
"""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.http2 import frames
from protocols.http2.frames import WINDOW_MAX, ErrorCode
from protocols.http2.outbox import Outbox

RETURN_BYTES = 1_048_576
"""Received octets after which connection credit is given back in one WINDOW_UPDATE (T-05); the window is 2^31-1."""


class Upload:
    """A body of which a part waits for stream credit."""

    __slots__ = ("balance", "body", "lingering", "sent")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.sent = 0
        self.balance = 0
        """Credit by WINDOW_UPDATE minus octets sent."""
        self.lingering = False


class SendWindows:
    """The peer's credit to us."""

    __slots__ = ("_ready", "_unsent", "initial", "lingering", "uploads", "window")

    def __init__(self) -> None:
        self.window = frames.WINDOW_DEFAULT
        """Octets of the connection's window that no body has reserved."""
        self.initial = frames.WINDOW_DEFAULT
        """The peer's INITIAL_WINDOW_SIZE."""
        self.lingering = 0
        """Streams that are answered but not yet sent."""
        self.uploads: dict[int, Upload] = {}
        self._unsent = 0
        self._ready: dict[int, None] = {}

    def credit(self, increment: int) -> None:
        """Takes connection credit; RemoteProtocolError above 2^31-1 (RFC 9113 section 6.9.1)."""
        if self.window + self._unsent + increment > WINDOW_MAX:
            raise RemoteProtocolError("connection window above 2^31-1", ErrorCode.FLOW_CONTROL_ERROR)
        self.window += increment

    def credit_stream(self, stream: int, increment: int) -> bool:
        """Takes stream credit; False if that passes 2^31-1. A stream that has sent its body needs none."""
        upload = self.uploads.get(stream)
        if upload is None:
            return True
        upload.balance += increment
        self._ready[stream] = None
        return self.initial + upload.balance <= WINDOW_MAX

    def resize(self, initial: int) -> None:
        """Takes a new INITIAL_WINDOW_SIZE; RemoteProtocolError if a stream's window passes 2^31-1 by it."""
        if initial == self.initial:
            return
        if any(initial + upload.balance > WINDOW_MAX for upload in self.uploads.values()):
            raise RemoteProtocolError("stream window above 2^31-1", ErrorCode.FLOW_CONTROL_ERROR)
        self.initial = initial
        self._ready.update(dict.fromkeys(self.uploads))

    def begin(self, stream: int, body: bytes) -> None:
        """Queues a body that is larger than its stream's window; its connection window is reserved already."""
        self.uploads[stream] = Upload(body)
        self._unsent += len(body)
        self._ready[stream] = None

    def send(self, outbox: Outbox, frame_bytes_max: int) -> None:
        """Puts into the outbox what stream credit allows."""
        for stream in self._ready:
            upload = self.uploads[stream]
            left = len(upload.body) - upload.sent
            size = min(left, self.initial + upload.balance)
            if size <= 0:
                continue
            piece = upload.body[upload.sent : upload.sent + size]
            outbox.put(frames.data(stream, piece, end_stream=size == left, frame_bytes_max=frame_bytes_max))
            upload.sent += size
            upload.balance -= size
            self._unsent -= size
            if size == left:
                self._remove(stream)
        self._ready.clear()

    def linger(self, stream: int) -> None:
        """The stream is answered; if its body is not sent, it keeps its slot until it is."""
        upload = self.uploads.get(stream)
        if upload is not None:
            upload.lingering = True
            self.lingering += 1

    def cancel(self, stream: int) -> None:
        """Stops a body; connection credit that it had reserved and did not use is free again."""
        upload = self.uploads.get(stream)
        if upload is not None:
            left = len(upload.body) - upload.sent
            self.window += left
            self._unsent -= left
            self._remove(stream)
            self._ready.pop(stream, None)

    def _remove(self, stream: int) -> None:
        if self.uploads.pop(stream).lingering:
            self.lingering -= 1


class ReceiveWindow:
    """Our connection credit to the peer: opened wide at first, given back in bulk (T-05, A-72)."""

    __slots__ = ("_consumed", "_outbox")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._consumed = 0

    def open(self) -> None:
        """Raises the window from its default to 2^31-1."""
        self._outbox.put(frames.window_update(0, WINDOW_MAX - frames.WINDOW_DEFAULT))

    def consume(self, octets: int) -> None:
        """Counts the whole payload of a DATA frame, padding too."""
        self._consumed += octets
        if self._consumed >= RETURN_BYTES:
            self._outbox.reply(frames.window_update(0, self._consumed))
            self._consumed = 0
