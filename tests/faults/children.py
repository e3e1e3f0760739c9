"""Processes that tests start: `pushd` as a child in a process group of its own, its log in a file, ended by its pid."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psutil

from tests.faults.failpoints import VARIABLE
from tests.mortal import mortal

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
STOP_S = 40.0
POLL_S = 0.05
TRACEBACK_LINES = 40


@contextmanager
def scratch():
    """A directory that is gone afterwards, and that the account of the embedded PostgreSQL can pass through."""
    place = Path(tempfile.mkdtemp(prefix="pushd-faults-"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def environment(settings):
    """Our environment with pushd's settings by dotted name, and without what a supervisor of ours may have set."""
    ours = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("PUSHD_", "NOTIFY_", "WATCHDOG_", "CREDENTIALS_"))
    }
    return ours | {f"PUSHD__{name.upper().replace('.', '__')}": str(value) for name, value in settings.items()}


async def spawn(*command, log, env, module="pushd", **options):
    """A running `pushd COMMAND` that ends with us, the leader of its own process group; its stderr goes to `log`."""
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            *mortal(sys.executable, "-m", module, *command),
            cwd=ROOT,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            **options,
        )


def family(pid):
    """A process and everything below it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def using(place):
    """Processes that name a directory on their command line, whoever their parent is."""
    everybody = psutil.process_iter(["cmdline"])
    return [each for each in everybody if any(str(place) in part for part in each.info["cmdline"] or ())]


async def gone(processes, timeout_s=10.0):
    """Those of the processes that still run after the time; waits no longer than needed."""
    return (await asyncio.to_thread(psutil.wait_procs, processes, timeout=timeout_s))[1]


async def put_away(process):
    """Makes sure that a child has ended."""
    if process is not None and process.returncode is None:
        process.kill()
        await process.wait()


class Daemon:
    """`pushd serve` that can be killed and started again on the same data directory and port."""

    def __init__(self, data_dir, port, settings, command="serve", module=""):
        self.url = f"http://127.0.0.1:{port}"
        self.log = data_dir.with_name(data_dir.name + ".log")
        self.command = command
        self.module = module or "pushd"
        self.settings = {"store.data_dir": data_dir, "http.port": port, **settings}
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process is not None and self.process.returncode is None

    async def start(self, *arguments, command=None, environ=(), wait=True, point=""):
        """Starts it; returns once it says that it is ready. `point`: where it is to kill itself, `name:hit`."""
        env = environment(self.settings) | dict(environ) | ({VARIABLE: point} if point else {})
        self.process = await spawn(
            *(command or self.command, *arguments),
            log=self.log,
            env=env,
            module="tests.faults.failpoints" if point else self.module,
            stdout=asyncio.subprocess.DEVNULL,
        )
        if wait:
            await self.ready()

    async def ready(self, timeout_s=START_S):
        async with aiohttp.ClientSession() as session, asyncio.timeout(timeout_s):
            while not await self._is_ready(session):
                assert self.running, f"pushd ended with {self.process.returncode}:\n{self.tail()}"
                await asyncio.sleep(POLL_S)

    async def _is_ready(self, session):
        try:
            async with session.get(f"{self.url}/readyz", timeout=aiohttp.ClientTimeout(total=3)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def kill(self):
        """kill -9, at once; of one that has killed itself, nothing more."""
        if self.running:
            self.process.kill()
        await self.process.wait()

    async def dies(self, timeout_s):
        """Whether it killed itself within the time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), timeout_s)
        return self.killed

    @property
    def killed(self):
        return self.process is not None and self.process.returncode == -signal.SIGKILL

    async def terminate(self):
        """The exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), STOP_S)

    async def put_away(self):
        """Ends it in whatever state it is."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            try:
                await self.terminate()
            except TimeoutError:
                await self.kill()

    def tail(self, lines=40):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def broken_parts(self):
        """Parts of the log that tell of a broken invariant: no fault from outside may cause one."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        broken = [at for at, line in enumerate(lines) if "task_failed" in line or line.startswith("Traceback")]
        return ["\n".join(lines[at : at + TRACEBACK_LINES]) for at in broken]
