"""The driver of `bench ingest`: requests made beforehand, closed or open loop, and what the far side logged of them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from bench import measure
from bench.ingest_world import Far
from protocols.apns import apns_id_parts

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb'"id":(\d+)')


class Drive:
    """Sends requests over keep-alive connections and notes when each was written and answered."""

    def __init__(
        self,
        port: int,
        bodies: Sequence[bytes],
        key: str,
        status: int,
        path: str = "/pushd/v1/notifications",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` take the place of the key's where callers say otherwise who they are."""
        named = {"Authorization": f"Bearer {key}"} if headers is None else headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{lines}".encode()
        start += b"Content-Type: application/json\r\nContent-Length: "
        self._requests = [start + b"%d\r\n\r\n" % len(body) + body for body in bodies]
        self._requests.reverse()
        self._port = port
        self.left = len(bodies)
        self.expected = b"HTTP/1.1 %d " % status
        self.waits: list[float] = []
        self.ids: dict[int, float] = {}
        """By the id of a notification: when its request was written, UNIX seconds."""
        self.seconds = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes | None:
        """The next request; None when all were sent."""
        return self._requests.pop() if self._requests else None

    def answered(self, begun: float, answer: bytes) -> None:
        """Notes an answer."""
        self.waits.append(time.time() - begun)
        if not answer.startswith(self.expected):
            self.fail(AssertionError(answer[:1000].decode()))
        for number in _ID.findall(answer):
            self.ids[int(number)] = begun
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Ends the drive."""
        if not self.done.done():
            self.done.set_exception(error)

    def percentiles(self) -> dict[str, float]:
        """Of the time to the answer, ms."""
        return {f"p{share}_ms": measure.percentile(self.waits, share) * 1e3 for share in (50, 99)}

    async def closed_loop(self, connections: int) -> None:
        """Sends everything, each connection its next request when the one before is answered."""
        links = await self._connect(connections, again=True)
        begun = time.perf_counter()
        for link in links:
            link.send()
        await self.done
        self._finish(links, begun)

    async def open_loop(self, connections: int, per_s: float, until: asyncio.Event | None) -> None:
        """Sends at a fixed rate whatever the answers do; ends with the requests, or when `until` is set."""
        links = await self._connect(connections, again=False)
        begun = time.perf_counter()
        at, sent = begun, 0
        while self._requests and not (until is not None and until.is_set()):
            at += 1 / per_s
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            # Of those that are least busy the one that rested longest: none is idle for so long that it is closed.
            link = min(links, key=lambda each: each.busy)
            links.remove(link)
            links.append(link)
            link.send()
            sent += 1
        self.left -= len(self._requests)
        if self.left:
            await self.done
        self._finish(links, begun)

    async def _connect(self, connections: int, *, again: bool) -> list[_Link]:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: _Link(self, again=again), "127.0.0.1", self._port)
            for _ in range(connections)
        ]
        return [link for _, link in made]

    def _finish(self, links: list[_Link], begun: float) -> None:
        self.seconds = time.perf_counter() - begun
        for link in links:
            link.close()


class _Link(asyncio.Protocol):
    """One connection of the driver."""

    def __init__(self, drive: Drive, *, again: bool) -> None:
        self._drive = drive
        self._again = again
        self._transport: Any = None
        self._parts = b""
        self._begun: list[float] = []

    @property
    def busy(self) -> int:
        """Requests without an answer."""
        return len(self._begun)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun:
            self._drive.fail(exc or ConnectionError("the server closed"))

    def send(self) -> None:
        """Writes the next request."""
        request = self._drive.next()
        if request is not None:
            self._begun.append(time.time())
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._parts + data
        while data:
            head = data.find(b"\r\n\r\n") + 4
            found = _LENGTH.search(data, 0, head) if head > 3 else None
            if found is None or len(data) < (end := head + int(found[1])):
                break
            self._drive.answered(self._begun.pop(0), data[:end])
            data = data[end:]
            if self._again:
                self.send()
        self._parts = data

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()


class Pushes:
    """What the far side logs from now on."""

    def __init__(self, far: Far) -> None:
        self._far = far
        self._rest = ""
        self._seen: dict[int, float] = {}

    def __enter__(self) -> Self:
        self._file = self._far.log.open()
        self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def wait(self, wanted: dict[int, float], timeout_s: float = 60.0) -> dict[int, float]:
        """When each of the notifications was answered there, UNIX seconds; AssertionError when some never were."""
        until = time.perf_counter() + timeout_s
        missing = set(wanted)
        while missing:
            assert time.perf_counter() < until, f"{len(missing)} of {len(wanted)} were promised and never pushed"
            missing -= await self._more()
        return self._seen

    async def wait_for(self, count: int, timeout_s: float = 60.0) -> dict[int, float]:
        """The same for so many notifications whose ids were not told; AssertionError where there are more, too."""
        until = time.perf_counter() + timeout_s
        while len(self._seen) < count:
            assert time.perf_counter() < until, f"{len(self._seen)} of {count} that were promised were pushed"
            await self._more()
        assert len(self._seen) == count, (len(self._seen), count)
        return self._seen

    async def _more(self) -> set[int]:
        """The notifications that were logged since the last look."""
        await asyncio.sleep(0.05)
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        more = set()
        for line in lines:
            moment, _, apns_id = line.partition(" ")
            number = apns_id_parts(apns_id)[0]
            self._seen.setdefault(number, float(moment))
            more.add(number)
        return more


class Cpu:
    """CPU time of groups of processes, from now to when it is asked for."""

    def __init__(self, **groups: list[int]) -> None:
        self._groups = groups
        self._before = {name: self._used(pids) for name, pids in groups.items()}

    def per(self, count: int) -> dict[str, float]:
        """Microseconds per item, by group."""
        return {
            f"{name}_us": (self._used(pids) - self._before[name]) / count * 1e6 for name, pids in self._groups.items()
        }

    @staticmethod
    def _used(pids: Sequence[int]) -> float:
        return sum(map(measure.cpu_of_family, pids))
