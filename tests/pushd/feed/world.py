"""The API with a feed behind it, on a real store, and a receiver that its webhooks reach."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp

from pushd.api.native import OPERATIONS
from pushd.api.serve import Api
from pushd.bitset import Devices
from pushd.config import HttpConfig
from pushd.config.feed import FeedConfig
from pushd.feed.feed import Feed
from pushd.model.app import Role, Settings
from pushd.store.settlements import Delta, Settlement
from pushd.transport.resolve import Address
from pushd.web.auth import Authenticator
from pushd.web.cursor import Cursors
from pushd.web.router import Router
from pushd.web.server import HttpServer
from tests.pushd.api.native import Native
from tests.pushd.commands.world import World, new_world, stored
from tests.receiver import Receiver

MASTER_KEY = b"m" * 32


class Local:
    """Every host is this machine; those of `private.hooks.example` are what a test says."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        families = {False: socket.AF_INET, True: socket.AF_INET6}
        return [Address(families[":" in each], each, port) for each in self.answers.get(host, ["127.0.0.1"])]


class Fed(Native):
    """An app behind HTTP with a feed, and a receiver."""

    feed: Feed
    receiver: Receiver
    resolver: Local

    async def hook(self, path: str = "/one", key: str = "server", **fields: Any) -> Any:
        """A webhook that reaches the receiver, with its secret."""
        answer = await self("POST", "/webhooks", key=key, json={"url": self.receiver.url(path), **fields})
        assert answer.status == 201, answer.body
        await self.feed.deliverer.look()
        return answer.body["webhook"] | {"secret": answer.body["secret"]}

    async def show(self, webhook: Any) -> Any:
        return (await self("GET", f"/webhooks/{webhook['id']}")).body

    async def until(self, webhook: Any, holds) -> Any:
        """The webhook, once something is so."""
        async with asyncio.timeout(30):
            while not holds(view := await self.show(webhook)):
                await asyncio.sleep(0.02)
        return view

    async def happen(self, count: int = 1, app_id: int | None = None, **data: Any) -> None:
        """So many events of the app, each in a transaction of its own."""
        for _ in range(count):
            await self.world.context.store.database.execute(
                "SELECT note_event($1, 15, now(), $2)", app_id or self.world.app.id, '{"schedule_id": 1}'
            )

    async def settle(self, **fields: Any) -> None:
        """Settles rows, as the recorder does."""
        await self.world.context.store.settlements.settle(Settlement(**fields), self.world.context.node_id)

    def delta(self, notification_id: int, ids: Sequence[int], gateway: int = 1, code: int = 1) -> Delta:
        return Delta(notification_id, 0, gateway, code, Devices(ids))


def config(receiver: Receiver, **more: Any) -> FeedConfig:
    """Quick settings that let webhooks reach the receiver."""
    quick = {
        "hosts": (f"*.hooks.example:{receiver.port}", f"localhost:{receiver.port}"),
        "networks_allowed": ("127.0.0.0/8",),
        "ca_file": str(receiver.ca_file),
        "look_interval_s": 0.2,
        "backoff_base_s": 0.02,
        "backoff_cap_s": 0.1,
        "request_timeout_s": 1.0,
        "refusals_max": 3,
    }
    return FeedConfig(**(quick | more))


def feed_of(world: World, settings: FeedConfig, resolver: Local, node_id: int | None = None) -> Feed:
    context = world.context
    return Feed(
        settings,
        context.store,
        context.fanout.reasons,
        MASTER_KEY,
        clock=context.clock,
        node_id=context.node_id if node_id is None else node_id,
        resolver=resolver,
    )


@asynccontextmanager
async def fed(dsn: str, directory: Any, **settings: Any) -> AsyncIterator[Fed]:
    """All of it, in a database of its own."""
    async with Receiver(directory) as receiver, stored(dsn) as (store, node):
        world = await new_world(store, node)
        other = await store.apps.create("other", Settings())
        keys = {}
        for name, app_id in (("server", world.app.id), ("other", other.id)):
            _, keys[name] = await store.keys.create(app_id, Role.SERVER, name)
        _, keys["device"] = await store.keys.create(world.app.id, Role.DEVICE, "device")
        resolver = Local()
        feed = feed_of(world, config(receiver, **settings), resolver)
        world.context = replace(world.context, feed=feed)
        await feed.start()
        http = HttpConfig(stop_timeout_s=1)
        router = Router()
        Api(world.context, Authenticator(store.keys, 10_000), Cursors(b"k" * 32), http).mount(router, OPERATIONS)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = HttpServer(http, router, plain_socket=sock)
        await server.start()
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
                made = Fed(session, f"http://127.0.0.1:{server.port}/pushd/v1", world, keys)
                made.feed, made.receiver, made.resolver = feed, receiver, resolver
                yield made
        finally:
            await feed.streams.stop()
            await world.context.finish(5)
            await server.stop()
            await feed.stop()
