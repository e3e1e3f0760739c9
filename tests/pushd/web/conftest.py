"""Real servers on loopback, and a raw client for what polite ones would not send."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from pushd.config import HttpConfig
from pushd.web.answer import Answer
from pushd.web.router import Router
from pushd.web.server import HttpServer


def bound():
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


async def hello(_):
    return Answer(b'"hello"')


async def swallow(incoming):
    raw = await incoming.body(types=frozenset({"application/json"}), bytes_max=1000, timeout_s=0.3)
    return Answer(b"%d" % len(raw))


async def broken(_):
    raise RuntimeError("the secret cause")


@pytest.fixture
def serve():
    """`async with serve(header_bytes_max=…) as server`, with /hello, /swallow, /broken, and whatever else is given."""

    @asynccontextmanager
    async def serving(*, endpoints=(), **config):
        router = Router()
        router.add("GET", "/hello", hello, brief=True)
        router.add("POST", "/swallow", swallow, brief=True)
        router.add("GET", "/broken", broken, brief=True)
        for method, template, endpoint in endpoints:
            router.add(method, template, endpoint, brief=True)
        config = {"stop_timeout_s": 2, "linger_s": 0.2} | config
        server = HttpServer(
            HttpConfig(**config), router, plain_socket=bound(), tls_socket=bound() if config.get("tls") else None
        )
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    return serving


class Wire:
    """A raw connection: what is written is what the server gets."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def write(self, data):
        self.writer.write(data)

    async def head(self):
        """Status and headers of the next answer."""
        async with asyncio.timeout(60):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode().split("\r\n")[:-2]
        return int(first.split()[1]), {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }

    async def answer(self):
        """Status, headers and body of the next answer."""
        status, headers = await self.head()
        async with asyncio.timeout(60):
            return status, headers, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def closed(self):
        """What still came before the server closed."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@pytest.fixture
def connect():
    """`async with connect(port) as wire`."""

    @asynccontextmanager
    async def connecting(port, **options):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()

    return connecting


GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
