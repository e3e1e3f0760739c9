"""The native API over HTTP with a real store and index behind it, and keys of two apps."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import orjson

from pushd.api import beacons
from pushd.api.native import OPERATIONS
from pushd.api.serve import Api
from pushd.config import HttpConfig
from pushd.model.app import Role
from pushd.web.auth import Authenticator
from pushd.web.cursor import Cursors
from pushd.web.router import Router
from pushd.web.server import HttpServer
from tests.pushd.commands.world import World, new_world, stored


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Any
    body: Any

    @property
    def pointers(self) -> list[str]:
        """Where a problem says that something is wrong."""
        return [fault.get("pointer", fault.get("parameter")) for fault in self.body.get("errors", ())]


class Native:
    """An app behind HTTP: `server` and `device` are its keys, `other` a server key of another app."""

    def __init__(self, session: aiohttp.ClientSession, base: str, world: World, keys: dict[str, str]) -> None:
        self.session, self.base, self.world, self.keys = session, base, world, keys

    async def __call__(self, method: str, path: str, *, key: str = "server", headers: Any = None, **options) -> Answer:
        sent = {"Authorization": f"Bearer {self.keys[key]}", **(headers or {})}
        if key == "admin":
            sent["Pushd-App"] = str(self.world.app.id)
        async with self.session.request(method, self.base + path, headers=sent, **options) as answer:
            body = await answer.json(content_type=None) if "json" in answer.content_type else await answer.text()
            return Answer(answer.status, answer.headers, body)

    async def lines(self, path: str, data: Any, *, key: str = "server") -> tuple[int, list[Any]]:
        """Status and decoded lines of the answer to an NDJSON stream."""
        headers = {"Authorization": f"Bearer {self.keys[key]}", "Content-Type": "application/x-ndjson"}
        async with self.session.post(self.base + path, headers=headers, data=data) as answer:
            if answer.content_type != "application/x-ndjson":
                return answer.status, [await answer.json(content_type=None)]
            return answer.status, [orjson.loads(line) async for line in answer.content]


@asynccontextmanager
async def native(dsn: str) -> AsyncIterator[Native]:
    """All of it, in a database of its own."""
    async with stored(dsn) as (store, node):
        world = await new_world(store, node)
        other = await store.apps.create("other", world.app.settings)
        keys = {}
        for name, role, app_id in (
            ("server", Role.SERVER, world.app.id),
            ("device", Role.DEVICE, world.app.id),
            ("other", Role.SERVER, other.id),
            ("admin", Role.ADMIN, None),
        ):
            _, keys[name] = await store.keys.create(app_id, role, name)
        config = HttpConfig(stop_timeout_s=1)
        router = Router()
        Api(world.context, Authenticator(store.keys, 10_000), Cursors(b"k" * 32), config).mount(router, OPERATIONS)
        beacons.mount(router, world.context)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = HttpServer(config, router, plain_socket=sock)
        await server.start()
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Native(session, f"http://127.0.0.1:{server.port}/pushd/v1", world, keys)
        await world.context.finish(5)
        await server.stop()
