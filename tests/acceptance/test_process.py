"""The daemon as a process: what a supervisor hears of it, one daemon per data directory, the admin key shown once."""

import asyncio
import re
import signal
import socket
import sys
from contextlib import asynccontextmanager
from itertools import pairwise
from time import monotonic

import pytest

from pushd.cli.children import free_port
from tests.faults.children import ROOT, Daemon, environment, put_away, scratch
from tests.mortal import mortal

WATCHDOG_S = 2.0
PATIENCE_S = 60.0
KEY = re.compile(r"pushd_admin_[A-Za-z0-9_-]{43}")
BLOCKED = """
import asyncio, sys, time
from pushd.cli.process import run
from pushd.cli.settings import Setup
config = Setup().load().config
sys.exit(run(config, announce=lambda _: asyncio.get_running_loop().call_later(4, time.sleep, 5)))
"""
"""A daemon whose event loop stands still for five seconds, four seconds after it is ready."""


class Supervisor:
    """systemd's side of sd_notify(3)."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        self.heard = []

    def listen(self):
        """Messages so far, each with the moment in which it was read."""
        while True:
            try:
                self.heard += [(monotonic(), line) for line in self._socket.recv(4096).decode().splitlines()]
            except BlockingIOError:
                return [line for _, line in self.heard]

    async def hears(self, wanted, timeout_s=PATIENCE_S, *, times=1):
        """Returns when it has heard a message that often."""
        async with asyncio.timeout(timeout_s):
            while self.listen().count(wanted) < times:
                await asyncio.sleep(0.02)

    async def pings(self, seconds):
        """How often the watchdog is fed in so many seconds from now."""
        before = self.listen().count("WATCHDOG=1")
        await asyncio.sleep(seconds)
        return self.listen().count("WATCHDOG=1") - before

    def close(self):
        self._socket.close()


@asynccontextmanager
async def supervised():
    """A supervisor and a daemon that is not started yet."""
    with scratch() as place:
        supervisor = Supervisor(place / "notify")
        daemon = Daemon(place / "data", free_port(), {"telemetry.log_format": "json"})
        try:
            yield supervisor, daemon
        finally:
            await daemon.put_away()
            supervisor.close()


@pytest.mark.asyncio
async def test_a_supervisor_hears_of_readiness_reload_watchdog_and_end():
    async with supervised() as (supervisor, daemon):
        await daemon.start(environ=supervisor.environ, wait=False)
        await supervisor.hears("READY=1")
        await daemon.ready(timeout_s=1)  # it serves when it says so
        await supervisor.hears("WATCHDOG=1", 2 * WATCHDOG_S, times=2)

        daemon.process.send_signal(signal.SIGHUP)
        await supervisor.hears("READY=1", 10, times=2)
        heard = supervisor.listen()
        assert heard.index("RELOADING=1") > heard.index("READY=1")
        assert any(re.fullmatch(r"MONOTONIC_USEC=[0-9]+", line) for line in heard)
        assert daemon.running

        daemon.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)  # a stop takes effect within a moment, not at once
        assert await supervisor.pings(WATCHDOG_S) == 0
        daemon.process.send_signal(signal.SIGCONT)
        await supervisor.hears("WATCHDOG=1", 2 * WATCHDOG_S, times=supervisor.listen().count("WATCHDOG=1") + 1)

        assert await daemon.terminate() == 0
        assert supervisor.listen()[-1] == "STOPPING=1"
        assert not daemon.broken_parts()


@pytest.mark.asyncio
async def test_a_blocked_event_loop_starves_the_watchdog():
    async with supervised() as (supervisor, daemon):
        env = environment(daemon.settings) | supervisor.environ
        with daemon.log.open("ab") as log:
            daemon.process = await asyncio.create_subprocess_exec(
                *mortal(sys.executable, "-c", BLOCKED),
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await supervisor.hears("WATCHDOG=1")
        before = len(supervisor.heard)
        await supervisor.hears("WATCHDOG=1", 20, times=supervisor.listen().count("WATCHDOG=1") + 4)
        fed = [at for at, line in supervisor.heard[before - 1 :] if line == "WATCHDOG=1"]
        silence = max(later - earlier for earlier, later in pairwise(fed))
        assert silence > WATCHDOG_S, "a supervisor would not have noticed"


@pytest.mark.asyncio
async def test_a_daemon_that_cannot_start_says_why_and_does_not_say_ready():
    async with supervised() as (supervisor, daemon):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            daemon.settings["http.port"] = taken.getsockname()[1]
            await daemon.start(environ=supervisor.environ, wait=False)
            assert await asyncio.wait_for(daemon.process.wait(), PATIENCE_S) != 0
        assert "READY=1" not in supervisor.listen()
        assert str(daemon.settings["http.port"]) in daemon.tail()
        assert not daemon.broken_parts()


async def up(place, port):
    """A running `pushd up`."""
    with (place / "up.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *mortal(sys.executable, "-m", "pushd", "up", "--data-dir", place / "data", "--port", port),
            cwd=ROOT,
            env=environment({}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


@pytest.mark.asyncio
async def test_up_shows_the_admin_key_once_and_refuses_a_second_daemon_on_its_data():
    with scratch() as place:
        printed, processes = [], []
        try:
            first = await up(place, free_port())
            processes.append(first)
            printed.append(await asyncio.wait_for(first.stdout.readuntil(b"will use it.\n"), PATIENCE_S))

            second = await up(place, free_port())
            processes.append(second)
            said, _ = await asyncio.wait_for(second.communicate(), PATIENCE_S)
            assert second.returncode == 78  # EX_CONFIG: a restart would not help
            assert not said
            log = (place / "up.log").read_text()
            assert f"Another pushd uses {place / 'data'}" in log
            assert "Traceback" not in log
            assert first.returncode is None

            first.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(first.wait(), PATIENCE_S) == 0
            third = await up(place, free_port())
            processes.append(third)
            printed.append(await asyncio.wait_for(third.stdout.readline(), PATIENCE_S))
            third.send_signal(signal.SIGINT)
            rest, _ = await asyncio.wait_for(third.communicate(), PATIENCE_S)
            printed.append(rest)
            assert third.returncode == 0
        finally:
            for process in processes:
                await put_away(process)
        keys = KEY.findall(b"".join(printed).decode())
        assert len(keys) == 1
        assert not [path for path in place.rglob("*") if path.is_file() and keys[0].encode() in path.read_bytes()]
