"""The pool of connections to PostgreSQL: a deadline on every call, trouble as UnavailableError, recovery by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import structlog

from pushd.config import StoreConfig
from pushd.errors import PushdError, UnavailableError
from pushd.service import Service

log = structlog.get_logger(__name__)

# SQLSTATE classes and codes that are the server's trouble, not the statement's (PostgreSQL manual, appendix A).
_TROUBLE_CLASSES = ("08", "53", "57", "58")
_TROUBLE_CODES = frozenset({"40001", "40P01", "55P03", "25006"})
"""Serialization failure, deadlock, lock not available, and a standby that does not take writes."""

LOOKED_AFTER = 256
"""One in so many uses of a connection ends with the pool."""
_POOL_CLOSED = "the store is closed"

if TYPE_CHECKING:
    Record: TypeAlias = asyncpg.Record


class OutcomeUnknownError(UnavailableError):
    """The connection went away while a statement ran: it may have been committed, or may still be."""


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that goes back to the pool without a round trip: nothing here leaves session state behind."""

    __slots__ = ()

    def get_reset_query(self) -> str:
        return ""


class Database(Service):
    """PostgreSQL as the store uses it. Every call has a deadline; a broken connection is replaced at the next call."""

    def __init__(self, config: StoreConfig, dsn: str) -> None:
        super().__init__()
        self.config = config
        self._dsn = dsn
        self._pool: Any = None
        self._returning: set[asyncio.Task[None]] = set()
        self._kept: list[Any] = []
        """Connections that the pool holds to be in use, and that nobody uses: the next ones take them."""
        self._wanting = 0
        """Who waits for the pool."""
        self._uses = 0

    async def start(self) -> None:
        """Opens the pool. UnavailableError while the server cannot be reached."""
        with self._translated(lost_is_unknown=False):
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,  # a floor would be restored in the background, with a traceback for every failure
                max_size=self.config.pool_size,
                connection_class=_Connection,
                max_inactive_connection_lifetime=0,
                **self._connect_options(),
            )
            await self._pool.release(await self._pool.acquire(timeout=self.config.connect_timeout_s))

    async def stop(self) -> None:
        """Closes every connection, those in use by force after a while."""
        await super().stop()
        if self._pool is not None:
            pool, self._pool = self._pool, None
            kept, self._kept = self._kept, []
            try:
                for connection in kept:
                    await pool.release(connection)
                await asyncio.wait_for(pool.close(), self.config.acquire_timeout_s)
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pool.terminate()

    async def connect(self, **server_settings: str) -> Any:
        """A connection of its own, outside the pool, for session locks and LISTEN. UnavailableError."""
        with self._translated(lost_is_unknown=False):
            return await asyncpg.connect(self._dsn, **self._connect_options(**server_settings))

    async def fetch(self, query: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        """The rows of a statement in a transaction of its own."""
        async with self.connection() as connection:
            with self._translated():
                rows: list[Any] = await connection.fetch(query, *args, timeout=timeout_s)
                return rows

    async def fetchrow(self, query: str, *args: Any, timeout_s: float | None = None) -> Any:
        """The first row of a statement in a transaction of its own; None without one."""
        async with self.connection() as connection:
            with self._translated():
                return await connection.fetchrow(query, *args, timeout=timeout_s)

    async def fetchval(self, query: str, *args: Any, timeout_s: float | None = None) -> Any:
        """The first value of the first row of a statement in a transaction of its own; None without one."""
        async with self.connection() as connection:
            with self._translated():
                return await connection.fetchval(query, *args, timeout=timeout_s)

    async def execute(self, query: str, *args: Any, timeout_s: float | None = None) -> str:
        """The command tag of a statement in a transaction of its own."""
        async with self.connection() as connection:
            with self._translated():
                tag: str = await connection.execute(query, *args, timeout=timeout_s)
                return tag

    @asynccontextmanager
    async def transaction(self, isolation: str = "read_committed", *, readonly: bool = False) -> AsyncIterator[Any]:
        """A connection in a transaction, committed at the end of the block. UnavailableError, OutcomeUnknownError."""
        async with self.connection() as connection:
            with self._translated():
                async with connection.transaction(isolation=isolation, readonly=readonly):
                    yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection of the pool. One on which a call ran out of time is thrown away. UnavailableError."""
        if self._pool is None:
            raise UnavailableError(_POOL_CLOSED, retry_after_s=self.config.retry_after_s)
        connection = self._take_kept()
        if connection is None:
            with self._translated(lost_is_unknown=False):
                self._wanting += 1
                try:
                    connection = await self._pool.acquire(timeout=self.config.acquire_timeout_s)
                finally:
                    self._wanting -= 1
        whole = False
        try:
            yield connection
            whole = True
        except (asyncpg.PostgresError, PushdError) as error:
            # The server answered, or it was not asked: the connection itself is sound.
            whole = not isinstance(error, UnavailableError)
            raise
        finally:
            if not whole:
                with suppress(asyncpg.InterfaceError):  # a broken one may be back with the pool already
                    connection.terminate()
            if self._pool is not None:
                self._keep(connection, whole)

    def _take_kept(self) -> Any:
        """The connection that was used last, for what it knows of statements is at hand; None where none is free."""
        while self._kept:
            connection = self._kept.pop()
            with suppress(asyncpg.InterfaceError):  # it ended meanwhile, and its place is with the pool again
                if not connection.is_closed():
                    return connection
            self._give_back(connection)
        return None

    def _keep(self, connection: Any, whole: bool) -> None:
        """Keeps a connection for the next one, since the pool's own way costs as much as a statement.

        It goes back to the pool where that has to look after it, or somebody waits there; now and then in any case, for
        the pool replaces connections after some fifty thousand statements.
        """
        self._uses += 1
        if whole and not self._wanting and self._uses % LOOKED_AFTER:
            with suppress(asyncpg.InterfaceError):  # it ended in our hands
                if not (connection.is_closed() or connection.is_in_transaction()):
                    self._kept.append(connection)
                    return
        self._give_back(connection)

    def _give_back(self, connection: Any) -> None:
        """Returns a connection to the pool behind the caller's back: that takes turns of the event loop, no waiting."""
        pool = self._pool  # the store may be closed by the time it is this task's turn

        async def release() -> None:
            with suppress(UnavailableError), self._translated(lost_is_unknown=False):
                await pool.release(connection)

        task = asyncio.get_running_loop().create_task(release())
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    @contextmanager
    def _translated(self, *, lost_is_unknown: bool = True) -> Iterator[None]:
        """Turns trouble with the server into UnavailableError; errors of statements stay what they are."""
        try:
            yield
        except asyncpg.PostgresError as error:
            if not is_trouble(error):
                raise
            lost = isinstance(error, asyncpg.PostgresConnectionError)
            raise self._unavailable(error, unknown=lost and lost_is_unknown) from error
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise self._unavailable(error, unknown=lost_is_unknown) from error

    def _unavailable(self, error: Exception, *, unknown: bool) -> UnavailableError:
        log.warning("database_trouble", error=type(error).__name__, sqlstate=getattr(error, "sqlstate", None))
        kind = OutcomeUnknownError if unknown else UnavailableError
        return kind("The database cannot be reached or does not take this now", retry_after_s=self.config.retry_after_s)

    def _connect_options(self, **server_settings: str) -> dict[str, Any]:
        config = self.config
        settings = {"application_name": "pushd", "jit": "off", "TimeZone": "UTC"} | server_settings
        options: dict[str, Any] = {
            "timeout": config.connect_timeout_s,
            "command_timeout": config.statement_timeout_s,
            "server_settings": settings,
        }
        if config.password_file:
            options["password"] = Path(config.password_file).read_text(encoding="utf-8").strip()
        return options


def is_trouble(error: asyncpg.PostgresError) -> bool:
    """Whether an error is about the server's state (away, full, overloaded) and not about the statement."""
    sqlstate: str = error.sqlstate or ""
    return sqlstate.startswith(_TROUBLE_CLASSES) or sqlstate in _TROUBLE_CODES
