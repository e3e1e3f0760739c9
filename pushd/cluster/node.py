"""A node: one process, alive for as long as its session holds an advisory lock in PostgreSQL.

Rules. Liveness is the lock, never an age: the server frees it when the session ends, and ends the session when the node
stays silent (a stopped or partitioned process is dead, too). Who claims a dead node's work fences it first; a node that
finds itself fenced never writes again and fails, so that its process starts anew under another id. A session that is
lost is taken up again with the same id, unless the node was fenced meanwhile; others give it some time for that. A
node that stops fences itself: nobody need wait for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable
from typing import Any, Protocol

import asyncpg
import structlog

from pushd.errors import PushdError, UnavailableError
from pushd.service import Service

log = structlog.get_logger(__name__)

LOCK_CLASS = 7002
"""First key of the advisory locks; the second is the node's id."""
RETRY_S = 0.5
LOCK_TIMEOUT_S = 5.0
"""For the server to notice that our lost session is gone."""
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What a session fails with. An InternalClientError, too: its connection went in the very turn in which it was used."""


class Connect(Protocol):
    """Opens a session of its own, with settings of the server for it."""

    def __call__(self, **server_settings: str) -> Awaitable[Any]:
        """A connection; UnavailableError."""


class FencedError(UnavailableError):
    """Another node has taken over what this one had: it may not write any more."""


class Node(Service):
    """This process among the nodes."""

    def __init__(self, connect: Connect, *, ping_s: float = 3.0, timeout_s: float = 12.0, name: str = "") -> None:
        super().__init__()
        self._connect = connect
        self._ping_s = ping_s
        self._timeout_s = timeout_s
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._connection: Any = None
        self.id = 0
        """By which the store knows who writes."""

    async def start(self) -> None:
        """Enters the table of nodes and holds its lock. UnavailableError."""
        self._connection = await self._session()
        try:
            self.id = await self._connection.fetchval("SELECT nextval(pg_get_serial_sequence('nodes', 'id'))")
            # The lock is there before the row: nobody can take the new node for a dead one.
            await self._hold(self._connection)
            await self._connection.execute("INSERT INTO nodes (id, name) VALUES ($1, $2)", self.id, self._name)
        except LOST as error:
            self._connection.terminate()
            raise UnavailableError("The node cannot be registered") from error
        self.spawn(self._live(), "node")
        log.info("node_started", node=self.id, name=self._name)

    async def stop(self) -> None:
        """Says goodbye and ends the session: what is left belongs to whoever claims it, at once."""
        await super().stop()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                await connection.execute(
                    "UPDATE nodes SET fenced_at = now() WHERE id = $1 AND fenced_at IS NULL", self.id, timeout=RETRY_S
                )
                await connection.close(timeout=RETRY_S)
            except LOST:
                connection.terminate()

    @property
    def alive(self) -> bool:
        """Whether the session that stands for this node is up."""
        return self._connection is not None and not self._connection.is_closed()

    async def _live(self) -> None:
        """Shows that this node lives, and takes its session up again when it was lost."""
        while True:
            await asyncio.sleep(self._ping_s)
            try:
                await self._ping()
            except (*LOST, PushdError) as error:
                if isinstance(error, FencedError):
                    raise
                log.warning("node_session_lost", node=self.id, error=type(error).__name__)
                self._connection.terminate()
                await self._return()

    async def _ping(self) -> None:
        if await self._connection.fetchval("SELECT fenced_at FROM nodes WHERE id = $1", self.id, timeout=self._ping_s):
            raise FencedError("Another node has taken over this one's work")

    async def _return(self) -> None:
        """Takes the lock again, for as long as it takes. FencedError when another node was faster."""
        while True:
            try:
                connection = await self._session()
            except UnavailableError:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self._hold(connection)
                self._connection = connection
                await self._ping()
            except LOST:
                connection.terminate()
                await asyncio.sleep(RETRY_S)
            else:
                log.info("node_session_back", node=self.id)
                return

    async def _hold(self, connection: Any) -> None:
        await connection.execute("SELECT pg_advisory_lock($1, $2::int)", LOCK_CLASS, self.id, timeout=LOCK_TIMEOUT_S)

    async def _session(self) -> Any:
        """A session that the server ends when nothing is heard from us."""
        timeout_ms = str(int(self._timeout_s * 1000))
        return await self._connect(
            application_name=f"pushd node {self._name}",
            idle_session_timeout=timeout_ms,
            tcp_user_timeout=timeout_ms,
            tcp_keepalives_idle=str(max(1, int(self._timeout_s / 3))),
            tcp_keepalives_interval=str(max(1, int(self._timeout_s / 3))),
            tcp_keepalives_count="2",
        )
