"""Real PostgreSQL for tests: one server of each version per session, a fresh migrated database per test.

`dsn` runs a test on the embedded 18 and on Debian's 15; `dsn18` on the embedded one alone. A missing one is a failure.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from pushd.config import StoreConfig
from pushd.store.database import Database
from pushd.store.embedded import EmbeddedServer
from pushd.store.migrations import migrate

BINDIRS = {"18": None, "15": "/usr/lib/postgresql/15/bin"}
TEMPLATE = "template_pushd"
START_TIMEOUT_S = 60.0


class Loop:
    """An event loop in a thread of its own: servers outlive the loops of the tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="postgres", daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.begin(work).result(START_TIMEOUT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Server:
    """A server with a migrated template, of which every test gets a copy."""

    def __init__(self, loop: Loop, version: str) -> None:
        self.version = version
        self._loop = loop
        self._directory = tempfile.mkdtemp(prefix="pushd-test-")
        # Processes are killed in these tests, never the machine: what the system holds is durable enough.
        self.embedded = EmbeddedServer(
            self._directory, BINDIRS[version], settings={"fsync": "off", "max_connections": "100"}
        )
        self._numbers = itertools.count()
        self._next: Future[str] | None = None
        self.dsn = ""

    def start(self) -> None:
        self.dsn = self._loop.run(self.embedded.start())
        self._loop.run(self._make_template())

    def stop(self) -> None:
        if self._next is not None:
            self._next.result(START_TIMEOUT_S)
        self._loop.run(self.embedded.stop())
        shutil.rmtree(self._directory, ignore_errors=True)

    def create(self) -> str:
        """The DSN of a fresh database; the one after it is made meanwhile."""
        ready = self._next or self._loop.begin(self._copy())
        name: str = ready.result(START_TIMEOUT_S)
        self._next = self._loop.begin(self._copy())
        return self.of(name)

    def drop(self, dsn: str) -> None:
        self._loop.run(self._execute(f"DROP DATABASE {urlsplit(dsn).path[1:]} WITH (FORCE)"))

    def of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{database}"))

    async def _copy(self) -> str:
        name = f"test_{next(self._numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return name

    async def _make_template(self) -> None:
        await self._execute(f"CREATE DATABASE {TEMPLATE}")
        database = Database(StoreConfig(pool_size=1), self.of(TEMPLATE))
        await database.start()
        await migrate(database)
        await database.stop()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Servers:
    """The servers of a session, each started when it is first asked for."""

    def __init__(self) -> None:
        self._loop = Loop()
        self._servers: dict[str, Server] = {}

    def get(self, version: str) -> Server:
        if version not in self._servers:
            server = Server(self._loop, version)
            server.start()
            self._servers[version] = server
        return self._servers[version]

    def close(self) -> None:
        for server in self._servers.values():
            server.stop()
        self._loop.close()


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(params=list(BINDIRS))
def postgres(request: pytest.FixtureRequest, postgres_servers: Servers) -> Server:
    return postgres_servers.get(request.param)


@pytest.fixture
def dsn(postgres: Server) -> Iterator[str]:
    fresh = postgres.create()
    yield fresh
    postgres.drop(fresh)


@pytest.fixture
def dsn18(postgres_servers: Servers) -> Iterator[str]:
    server = postgres_servers.get("18")
    fresh = server.create()
    yield fresh
    server.drop(fresh)
