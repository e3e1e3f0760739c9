"""Octets waiting to be sent: replies ahead of requests, except where their order matters.

Two rules stand against sending every control frame first. An acknowledgement of SETTINGS follows what was encoded under
the old ones, or the peer would hold that against its new limits. An RST_STREAM follows the frames of its stream.
"""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.http2.frames import ErrorCode

Chunk = bytes | memoryview


class Outbox:
    """What `data_to_send` will return."""

    __slots__ = ("_ordered", "_replies", "_reply_bytes", "_reply_bytes_max")

    def __init__(self, reply_bytes_max: int) -> None:
        self._replies: list[bytes] = []
        self._ordered: list[Chunk] = []
        self._reply_bytes = 0
        self._reply_bytes_max = reply_bytes_max

    def put(self, chunk: Chunk) -> None:
        """Frames in their order."""
        self._ordered.append(chunk)

    def reply(self, frame: bytes, *, overtakes: bool = True) -> None:
        """A frame that the peer made us send; RemoteProtocolError if it makes us and does not read them (T-32)."""
        self._reply_bytes += len(frame)
        if self._reply_bytes > self._reply_bytes_max:
            raise RemoteProtocolError("it makes us answer and does not read", ErrorCode.ENHANCE_YOUR_CALM)
        (self._replies if overtakes else self._ordered).append(frame)

    def drain(self) -> bytes:
        """Everything, in the order of the wire."""
        if not self._replies and len(self._ordered) == 1:
            chunk = self._ordered[0]
            out = chunk if isinstance(chunk, bytes) else chunk.tobytes()
        else:
            out = b"".join((*self._replies, *self._ordered))
        self._replies.clear()
        self._ordered.clear()
        self._reply_bytes = 0
        return out
