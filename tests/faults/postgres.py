"""A PostgreSQL that is not the daemon's own: it outlives the daemon, and can be stopped, killed and started again."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import asyncpg

from pushd.store.embedded import EmbeddedServer


class PostgreSQL:
    """A server whose address stays the same from start to start."""

    def __init__(self, place):
        self._server = EmbeddedServer(place / "external")
        self._link = place / "socket"
        self.dsn = f"postgresql://pushd@/pushd?host={self._link}"

    async def start(self):
        """Starts it; takes connections when this returns."""
        host = parse_qs(urlsplit(await self._server.start()).query)["host"][0]
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(host)

    async def stop(self):
        """A fast shutdown."""
        await self._server.stop()

    async def kill(self):
        """kill -9 of the postmaster; the server has to recover at its next start."""
        self._server._process.kill()
        await self._server._process.wait()
        await self._server.stop()

    async def hold_lock(self, number):
        """A session that holds a node's advisory lock, as one does whose end the server has not noticed yet."""
        connection = await asyncio.wait_for(asyncpg.connect(self.dsn), 10)
        await connection.execute("SELECT pg_advisory_lock(7002, $1::int)", number, timeout=10)
        return connection

    async def nodes(self):
        """Ids of every node there ever was."""
        connection = await asyncio.wait_for(asyncpg.connect(self.dsn), 10)
        try:
            return [row["id"] for row in await connection.fetch("SELECT id FROM nodes ORDER BY id", timeout=10)]
        finally:
            await connection.close()
