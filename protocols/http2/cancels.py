"""Streams that we reset: their slots stay counted until the peer has shown that it saw the reset (A-67).

Theory of operation. A group of resets is followed by one PING. Its ACK proves that the peer read everything before it,
so the group's slots are free and no more frames will come for its streams. While a PING is under way further resets
gather for the next one, so that a storm of time-outs costs one PING per round trip. A dead peer frees nothing and is
not refilled.
"""

from __future__ import annotations

from protocols.http2 import frames
from protocols.http2.outbox import Outbox
from protocols.http2.runs import Registry, Run

PING_PREFIX = b"\xffreset"
"""Of our own PINGs, so that they are told from the caller's."""


class Cancels:
    """The resets of one connection that the peer has not confirmed."""

    __slots__ = ("_count", "_outbox", "_payload", "_pinged", "_registry", "_waiting")

    def __init__(self, registry: Registry, outbox: Outbox) -> None:
        self._registry = registry
        self._outbox = outbox
        self._waiting: list[tuple[Run, int]] = []
        self._pinged: list[tuple[Run, int]] = []
        self._payload = b""
        self._count = 0

    @property
    def slots(self) -> int:
        """Streams that still count against the peer's limit."""
        return len(self._waiting) + len(self._pinged)

    def reset(self, run: Run, row: int, code: int) -> None:
        """Resets the stream of an open row."""
        self._outbox.put(frames.rst_stream(run.stream(row), code))
        self._registry.drop(run, row)
        self._waiting.append((run, row))

    def ping(self) -> None:
        """Sends the PING for the resets so far, unless one is under way."""
        if self._waiting and not self._pinged:
            self._pinged, self._waiting = self._waiting, []
            self._count = (self._count + 1) & 0xFFFF
            self._payload = PING_PREFIX + self._count.to_bytes(2, "big")
            self._outbox.put(frames.frame(frames.PING, 0, 0, self._payload))

    def acknowledged(self, payload: bytes) -> bool:
        """Whether that PING was ours; frees the slots that it confirms."""
        if not self._pinged or payload != self._payload:
            return False
        confirmed, self._pinged = self._pinged, []
        for run, row in confirmed:
            self._registry.release(run, row)
        self.ping()
        return True
