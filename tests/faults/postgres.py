"""A PostgreSQL that is not the daemon's own: it outlives the daemon, and can be hurt in every way that a server can."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from time import monotonic
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil

from pushd.errors import PushdError
from pushd.store.embedded import EmbeddedServer
from tests.faults.children import family

CALL_S = 10.0
END_S = 8.0
TROUBLE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
ASK_FOR_LOG = "SELECT pg_switch_wal(), pg_logical_emit_message(false, 'fill', 'one record')"
BALLAST_BYTES = 1 << 20
SETTINGS = {"max_wal_size": "64MB", "min_wal_size": "32MB", "restart_after_crash": "on"}


class PostgreSQL:
    """A server whose address stays the same from start to start; `disk_mb`: on a disk of its own, of that size."""

    def __init__(self, place, disk_mb=0):
        self._home = place / "external"
        self._home.mkdir(mode=0o711)
        self._disk_mb = disk_mb
        self._server = EmbeddedServer(self._home, settings=SETTINGS)
        self._link = place / "socket"
        self.dsn = f"postgresql://pushd@/pushd?host={self._link}"
        self.socket = str(self._link / ".s.PGSQL.5432")

    async def prepare(self):
        """Mounts its disk, if it has one: a file system in memory, which can be full like any other."""
        if self._disk_mb:
            await self._as_root("mount", "-t", "tmpfs", "-o", f"size={self._disk_mb}m,mode=0711", "tmpfs", self._home)

    async def put_away(self):
        await self.stop()
        if self._disk_mb:
            await self._as_root("umount", self._home)

    async def _as_root(self, *command):
        process = await asyncio.create_subprocess_exec(*(() if os.geteuid() == 0 else ("sudo", "-n")), *command)
        assert await asyncio.wait_for(process.wait(), CALL_S) == 0, f"{command[0]} is not permitted here: run as root"

    # Coming and going ------------------------------------------------------------------------------------------------

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

    async def kill_backend(self):
        """kill -9 of one process that serves pushd: the postmaster ends all others and recovers by itself."""
        pids = await self._fetch("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pushd%'")
        psutil.Process(pids[0]["pid"]).kill()

    async def terminate_backends(self):
        """Ends every session of pushd, as an administrator can."""
        rows = await self._fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pushd%'"
        )
        return len(rows)

    def freeze(self):
        """Stops every process of the server where it is."""
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        for process in family(self._server.pid):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    # A full disk -----------------------------------------------------------------------------------------------------

    def fill(self):
        """Leaves no byte on its disk."""
        with (self._home / "ballast").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(BALLAST_BYTES))
        with (self._home / "ballast").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1))

    def make_room(self):
        (self._home / "ballast").unlink(missing_ok=True)

    async def hold_log(self):
        """Keeps old files of the write-ahead log, as a replica that is away does: new ones cannot be made of them."""
        await self._fetch("SELECT pg_create_physical_replication_slot('away', true)")

    async def let_log_go(self):
        await self._fetch("SELECT pg_drop_replication_slot('away')")

    async def run_out_of_log(self):
        """Fills its disk, and makes the server ask for files of its log until it ends, or takes no session any more.

        Before that it recovers as often as a piece of log is left to recover into. It may also be found neither up nor
        down, in a recovery that does not get on.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._run_out_of_log(), END_S)

    async def _run_out_of_log(self):
        while self.running:
            self.fill()
            try:
                async with self.session() as connection:
                    with suppress(*TROUBLE):
                        await connection.fetch(ASK_FOR_LOG, timeout=CALL_S)
            except asyncpg.DiskFullError:
                return
            except TROUBLE:
                await asyncio.sleep(0.02)

    @property
    def running(self):
        process = self._server._process
        return process is not None and process.returncode is None

    async def revive(self):
        """Starts it again as a supervisor does, if it ended: a server that cannot write its log does, or hangs."""
        patience = monotonic() + END_S
        while True:
            with suppress(*TROUBLE):
                await self._fetch("SELECT 1")
                return
            if self.running and monotonic() > patience:
                self._server._process.kill()
                await self._server._process.wait()
            if not self.running:
                await self._server.stop()
                with suppress(PushdError):
                    await self.start()
            await asyncio.sleep(0.2)

    # Asking ----------------------------------------------------------------------------------------------------------

    async def hold_lock(self, number):
        """A session that holds a node's advisory lock, as one does whose end the server has not noticed yet."""
        connection = await asyncio.wait_for(asyncpg.connect(self.dsn), CALL_S)
        await connection.execute("SELECT pg_advisory_lock(7002, $1::int)", number, timeout=CALL_S)
        return connection

    async def nodes(self):
        """Ids of every node there ever was."""
        return [row["id"] for row in await self._fetch("SELECT id FROM nodes ORDER BY id")]

    async def _fetch(self, query):
        async with self.session() as connection:
            return await connection.fetch(query, timeout=CALL_S)

    @asynccontextmanager
    async def session(self):
        """A session of ours, not of pushd."""
        connection = await asyncio.wait_for(asyncpg.connect(self.dsn), CALL_S)
        try:
            yield connection
        finally:
            with suppress(*TROUBLE):
                await connection.close(timeout=1)
