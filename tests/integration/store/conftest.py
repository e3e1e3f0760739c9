"""A store on a fresh database of each PostgreSQL, an app in it, and a node that writes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from pushd.cluster.node import Node
from pushd.config import StoreConfig
from pushd.model.app import App, Settings
from pushd.store.store import Store


@pytest_asyncio.fixture
async def store(dsn: str) -> AsyncIterator[Store]:
    store = Store(StoreConfig(pool_size=6, retry_after_s=0.2, feed_poll_ms=100), dsn)
    await store.start()
    yield store
    await store.stop()


@pytest_asyncio.fixture
async def app(store: Store) -> App:
    return await store.apps.create("one", Settings(locale="de"))


@pytest_asyncio.fixture
async def other(store: Store) -> App:
    return await store.apps.create("other", Settings())


@pytest_asyncio.fixture
async def node(store: Store) -> AsyncIterator[Node]:
    node = Node(store.database.connect)
    await node.start()
    yield node
    await node.stop()
