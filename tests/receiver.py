"""A receiver of webhooks on a TLS socket of its own, which behaves as badly as it is told to, path by path."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

import orjson

from tests.pushd.transport.far_sides import certificate

PATIENCE_S = 30.0

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Request(NamedTuple):
    """What arrived whole."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def events(self) -> list[dict[str, Any]]:
        return orjson.loads(self.body)["events"]

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in self.events]


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """A whole answer."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return behave


def octets(*pieces: bytes, pause_s: float = 0.0, end: bool = True) -> Behaviour:
    """Octets as they are, with pauses between pieces; then the connection ends, or nothing happens any more."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if not end:
            await asyncio.sleep(3_600)
        raise ConnectionResetError

    return behave


OK = answer(204)
STALL = octets(end=False)


class Receiver:
    """Takes requests. `behave[path]` is a list of behaviours for the requests to come; the last one stays."""

    def __init__(self, directory) -> None:
        self.ca_file = certificate(directory, names=("localhost", "*.hooks.example"), label="receiver")
        self.behave: dict[str, list[Behaviour]] = defaultdict(lambda: [OK])
        self.requests: list[Request] = []
        self.began: dict[str, int] = defaultdict(int)
        self.port = 0
        self._arrived = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.ca_file)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str, host: str = "a.hooks.example") -> str:
        return f"https://{host}:{self.port}{path}"

    def of(self, path: str) -> list[Request]:
        return [each for each in self.requests if each.path == path]

    def ids(self, path: str) -> list[str]:
        """Ids of all events that arrived at a path, in order, repeats too."""
        return [id_ for each in self.of(path) for id_ in each.ids]

    def events(self, path: str) -> list[dict[str, Any]]:
        """Events that arrived at a path, the first of each id."""
        found: dict[str, dict[str, Any]] = {}
        for request in self.of(path):
            for each in request.events:
                found.setdefault(each["id"], each)
        return list(found.values())

    async def until(self, holds: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """What `holds` gives, once that is true."""
        async with asyncio.timeout(patience_s):
            while not (found := holds()):
                self._arrived.clear()
                try:
                    await asyncio.wait_for(self._arrived.wait(), 0.1)
                except TimeoutError:
                    continue
            return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                await self._take(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        path = first.split(" ")[1]
        self.began[path] += 1
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Request(path, headers, body, asyncio.get_running_loop().time()))
        self._arrived.set()
        behaviours = self.behave[path]
        behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        await behaviour(reader, writer)
