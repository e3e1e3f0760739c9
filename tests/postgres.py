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
from pathlib import Path
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


RESET = """
DO $$
DECLARE
    own record;
    filled boolean;
BEGIN
    FOR own IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND relname NOT IN ('migrations', 'id_frontiers')
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', own.relname) INTO filled;
        IF filled THEN
            EXECUTE format('TRUNCATE %I CASCADE', own.relname);
        END IF;
    END LOOP;
    UPDATE id_frontiers SET next_64 = 0, end_64 = 0, next_4096 = 0, end_4096 = 0, next_65536 = 0;
    FOR own IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S' LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', own.relname);
    END LOOP;
END $$
"""
SHAPE = "SELECT count(*) || ' ' || (SELECT count(*) FROM migrations) FROM pg_class"


class Server:
    """A server with a migrated template. Tests get copies of it, made clean again after each."""

    def __init__(self, loop: Loop, version: str) -> None:
        self.version = version
        self._loop = loop
        self._directory = tempfile.mkdtemp(prefix="pushd-test-")
        Path(self._directory).chmod(0o711)
        # Processes are killed in these tests, never the machine: what the system holds is durable enough.
        settings = {"fsync": "off", "max_connections": "100", "autovacuum": "off", "shared_buffers": "128MB"}
        self.embedded = EmbeddedServer(self._directory, BINDIRS[version], settings=settings)
        self._numbers = itertools.count()
        self._clean: list[str] = []
        self._shape = ""
        self.dsn = ""

    def start(self) -> None:
        self.dsn = self._loop.run(self.embedded.start())
        self._loop.run(self._make_template())

    def stop(self) -> None:
        self._loop.run(self.embedded.stop())
        shutil.rmtree(self._directory, ignore_errors=True)

    def create(self) -> str:
        """The DSN of a clean database."""
        if self._clean:
            return self.of(self._clean.pop())
        name = f"test_{next(self._numbers)}"
        self._loop.run(self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy"))
        return self.of(name)

    def drop(self, dsn: str) -> None:
        """Takes a database back."""
        self._loop.run(self._recycle(dsn))

    def of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{database}"))

    async def _recycle(self, dsn: str) -> None:
        name = urlsplit(dsn).path[1:]
        await self._execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
        connection = await asyncpg.connect(dsn)
        try:
            same = await connection.fetchval(SHAPE) == self._shape
            if same:
                await connection.execute(RESET)
        finally:
            await connection.close()
        if same:
            self._clean.append(name)
        else:
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _make_template(self) -> None:
        await self._execute(f"CREATE DATABASE {TEMPLATE}")
        database = Database(StoreConfig(pool_size=1), self.of(TEMPLATE))
        await database.start()
        await migrate(database)
        self._shape = await database.fetchval(SHAPE)
        await database.stop()

    async def _execute(self, statement: str, *args: Any) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement, *args)
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


@pytest.fixture(scope="module")
def module_dsn(postgres_servers: Servers) -> Iterator[str]:
    server = postgres_servers.get("18")
    fresh = server.create()
    yield fresh
    server.drop(fresh)


@pytest.fixture
def dsn18(postgres_servers: Servers) -> Iterator[str]:
    server = postgres_servers.get("18")
    fresh = server.create()
    yield fresh
    server.drop(fresh)
