"""A leader among the nodes: whoever's session holds one advisory lock, for as long as it does.

It only spares work: what the leader does must be right when two nodes take themselves for it, as they may for a moment.
"""

from __future__ import annotations

from typing import Any

import structlog

from pushd.cluster.node import LOST, Connect
from pushd.errors import UnavailableError
from pushd.service import Service

log = structlog.get_logger(__name__)

CLOSE_S = 0.5


class Leader(Service):
    """Whether this node leads."""

    def __init__(
        self, connect: Connect, *, lock: int, what: str, ask_s: float, timeout_s: float, idle_s: float
    ) -> None:
        super().__init__()
        self._connect = connect
        self._lock = lock
        self._what = what
        self._ask_s = ask_s
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._connection: Any = None
        self._asked_at = float("-inf")
        self._leads = False

    async def leads(self, now: float) -> bool:
        """Whether this node leads, at monotonic seconds `now`; the server is asked where the last answer is too old."""
        if now - self._asked_at >= self._ask_s:
            self._asked_at = now
            held = await self._ask()
            if held != self._leads:
                log.info("leads" if held else "leads_no_more", what=self._what)
            self._leads = held
        return self._leads

    async def stop(self) -> None:
        """Ends the session: another node may lead at once."""
        await super().stop()
        self._leads = False
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=CLOSE_S)
            except LOST:
                connection.terminate()

    async def _ask(self) -> bool:
        try:
            if self._connection is None:
                self._connection = await self._session()
                self._leads = False
            query = "SELECT true" if self._leads else "SELECT pg_try_advisory_lock($1, 0)"
            given = () if self._leads else (self._lock,)
            return bool(await self._connection.fetchval(query, *given, timeout=self._timeout_s))
        except (*LOST, UnavailableError) as error:
            log.warning("leader_session_lost", what=self._what, error=type(error).__name__)
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            return False

    async def _session(self) -> Any:
        """A session that the server ends when nothing is heard from us."""
        idle_ms = str(int(self._idle_s * 1000))
        return await self._connect(
            application_name=f"pushd leader {self._what}",
            idle_session_timeout=idle_ms,
            tcp_user_timeout=idle_ms,
            tcp_keepalives_idle=str(max(1, int(self._idle_s / 3))),
            tcp_keepalives_interval=str(max(1, int(self._idle_s / 3))),
            tcp_keepalives_count="2",
        )
