"""The store without a daemon around it, for commands that work on the database itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pushd.config import Config
from pushd.store.embedded import EmbeddedServer

if TYPE_CHECKING:
    from pushd.store.store import Store


@asynccontextmanager
async def offline_server(config: Config) -> AsyncIterator[str]:
    """The DSN of the configured server, or of the embedded one, started for as long as it is needed."""
    if config.store.dsn:
        yield config.store.dsn
        return
    server = EmbeddedServer(Path(config.store.data_dir), config=config.store)
    dsn = await server.start()
    try:
        yield dsn
    finally:
        await server.stop()


@asynccontextmanager
async def offline_store(config: Config) -> AsyncIterator[Store]:
    """An opened, migrated store."""
    from pushd.store.store import Store  # noqa: PLC0415  # a quarter of the start of commands that need none

    async with offline_server(config) as dsn:
        store = Store(config.store, dsn)
        await store.start()
        try:
            yield store
        finally:
            await store.stop()
