"""Bytes between a connection and its socket: handed on in pieces, so that what never left is known."""

from __future__ import annotations

import asyncio
from collections import deque


class Outbox:
    """The writing end of a link. Offsets count the link's plaintext from its first byte."""

    __slots__ = ("_chunk", "_high_water", "_parts", "_transport", "handed", "paused", "queued")

    def __init__(self, chunk: int, high_water: int) -> None:
        self._chunk = chunk
        self._high_water = high_water
        self._parts: deque[memoryview] = deque()
        self._transport: asyncio.Transport | None = None
        self.paused = False
        """Whether the socket has enough for now (A-74)."""
        self.queued = 0
        """Offset of the end of all that was put."""
        self.handed = 0
        """Offset up to which bytes were handed to the socket: beyond it nothing left us (A-65)."""

    def open(self, transport: asyncio.Transport) -> None:
        """Begins to write to a transport."""
        self._transport = transport
        transport.set_write_buffer_limits(self._high_water)

    @property
    def full(self) -> bool:
        """Whether more rows would only wait here."""
        return self.paused or bool(self._parts)

    def put(self, data: bytes) -> None:
        """Appends bytes without writing them."""
        if data:
            self._parts.append(memoryview(data))
            self.queued += len(data)

    def flush(self) -> None:
        """Hands on what waits, as far as the socket takes it."""
        parts, transport = self._parts, self._transport
        if transport is None:
            return
        while parts and not self.paused:
            data = parts[0]
            if len(data) <= self._chunk:
                parts.popleft()
            else:
                data, parts[0] = data[: self._chunk], data[self._chunk :]
            self.handed += len(data)
            transport.write(data)

    def end(self, last: bytes, close_timeout_s: float) -> None:
        """Closes the transport after its last bytes, at the latest after the time-out; 0: at once."""
        transport, self._transport = self._transport, None
        self._parts.clear()
        if transport is None or transport.is_closing():
            return
        if last and not self.paused:
            transport.write(last)
        if close_timeout_s and not self.paused:
            transport.close()
            asyncio.get_running_loop().call_later(close_timeout_s, transport.abort)
        else:
            transport.abort()
