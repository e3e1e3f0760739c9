"""NDJSON in: a bounded reader that cuts a request's stream into batches of raw lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from pushd.errors import PayloadTooLargeError, PushdError, RequestTimeoutError


class Chunks(Protocol):
    """What lines are read from: aiohttp's StreamReader, and what tests feed."""

    async def readany(self) -> bytes:
        """What has arrived; empty at the end."""


class Lines(NamedTuple):
    """Some consecutive lines of a stream. Blank ones are left in, so that numbers stay true: skip them."""

    first: int
    """Number of the first line, from 1."""
    lines: list[bytes]


class LineReader:
    """Reads lines within limits: bytes of a line and in total, seconds of silence. Never holds more than one batch.

    Splitting whole chunks costs a few hundred nanoseconds a line; decoding is the caller's, by line.
    """

    __slots__ = ("_bytes_max", "_chunks", "_idle_s", "_line_bytes_max", "_reading", "_seen", "_tail")

    def __init__(self, chunks: Chunks, *, bytes_max: int, line_bytes_max: int, idle_s: float) -> None:
        self._chunks = chunks
        self._bytes_max = bytes_max
        self._line_bytes_max = line_bytes_max
        self._idle_s = idle_s
        self._seen = 0
        self._tail = b""
        self._reading: asyncio.Task[bytes] | None = None

    async def batches(self, rows_max: int, linger_s: float = 0.5) -> AsyncIterator[Lines]:
        """Lines in order, at most `rows_max` at a time; a slow stream's lines wait `linger_s` seconds for more.

        Raises RequestTimeoutError after too long a silence, PayloadTooLargeError past a limit; whole lines that came
        before are given first.
        """
        number, waiting, failure = 1, list[bytes](), None
        try:
            while True:
                try:
                    ended = await self._fill(waiting, linger_s)
                except PushdError as error:
                    failure, ended = error, True
                while waiting and (ended is not False or len(waiting) >= rows_max):
                    yield Lines(number, waiting[:rows_max])
                    number += min(rows_max, len(waiting))
                    del waiting[:rows_max]
                if ended:
                    break
        finally:
            if self._reading is not None:
                self._reading.cancel()
        if failure is not None:
            raise failure

    async def _fill(self, waiting: list[bytes], linger_s: float) -> bool | None:
        """Adds the lines of the next chunk; True at the end of the stream, None when the chunk lets itself wait for."""
        chunk = await self._read(linger_s if waiting else None)
        if chunk is None:
            return None
        if not chunk:
            waiting += [self._tail] if self._tail else []
            return True
        *whole, self._tail = (self._tail + chunk).split(b"\n")
        limit = self._line_bytes_max
        long = next((row for row, line in enumerate((*whole, self._tail)) if len(line) > limit), None)
        waiting += whole[:long]
        if long is not None:
            raise PayloadTooLargeError(f"A line is longer than {limit} bytes")
        return False

    async def _read(self, linger_s: float | None) -> bytes | None:
        """The next chunk, empty at the end; None when `linger_s` passed first (the read goes on)."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._next())
        if linger_s is not None:
            done, _ = await asyncio.wait((self._reading,), timeout=linger_s)
            if not done:
                return None
        chunk = await self._reading
        self._reading = None
        return chunk

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s):
                chunk = await self._chunks.readany()
        except TimeoutError:
            raise RequestTimeoutError(f"The stream was silent for {self._idle_s:g} s") from None
        self._seen += len(chunk)
        if self._seen > self._bytes_max:
            raise PayloadTooLargeError(f"The stream is longer than {self._bytes_max} bytes")
        return chunk
