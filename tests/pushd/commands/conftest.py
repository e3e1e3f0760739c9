"""What the tests of commands share: one server, and for each an app of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from pushd.cluster.node import Node
from pushd.store.store import Store
from tests.postgres import Servers
from tests.pushd.commands.world import World, new_world, stored


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def store_and_node(postgres_servers: Servers) -> AsyncIterator[tuple[Store, Node]]:
    server = postgres_servers.get("18")
    dsn = server.create()
    async with stored(dsn) as parts:
        yield parts
    server.drop(dsn)


@pytest_asyncio.fixture(loop_scope="package")
async def world(store_and_node: tuple[Store, Node]) -> AsyncIterator[World]:
    made = await new_world(*store_and_node)
    yield made
    await made.context.finish(5)
