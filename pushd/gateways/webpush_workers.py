"""Encryption off the event loop: worker processes that do jobs of rows in turn, and are replaced when they die.

Rules. Jobs wait in one bounded queue; a worker has two at a time, so that it never waits for us. A worker that ends, or
is late, is replaced after a pause, and what it had goes to another; a job that two of them did not survive is done in
place, as is everything while no worker lives. Jobs are answered whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter

from pushd.config.webpush import WebPushConfig
from pushd.gateways.webpush_seal import KEY_CHARS, KeyPairs, body_bytes, seal
from pushd.gateways.webpush_worker import ANSWER, ROW, job
from pushd.service import Service
from pushd.telemetry import REGISTRY

log = structlog.get_logger(__name__)

DEATHS = Counter("pushd_encrypt_worker_deaths", "Encrypting processes that ended or were late.", registry=REGISTRY)
ROWS = Counter("pushd_encrypted_rows", "Web Push messages encrypted, by where.", ("where",), registry=REGISTRY)

JOBS_AHEAD = 2
"""Jobs that one worker has: one that it does and one that waits in its pipe."""
TRIES = 2
PATIENCE = 3
"""Worker time-outs that a caller waits before it encrypts its rows itself."""
SLICE_ROWS = 64
"""Rows encrypted in place between two turns of the event loop: about 5 ms."""
PAIRS_PER_SLICE = 32
FILL_PAUSE_S = 0.005
WORKERS_MAX = 4
STREAM_BYTES = 1 << 22


@dataclass(slots=True, eq=False)
class _Job:
    keys: bytes
    text: bytes
    padding: int
    done: asyncio.Future[tuple[bytes, list[int]] | None]
    """None: no worker could do it."""
    tries: int = 0


class Encryptor(Service):
    """Encrypts rows that share a text: few in place, many in worker processes."""

    def __init__(self, config: WebPushConfig) -> None:
        super().__init__()
        self._config = config
        self._pairs = KeyPairs(config.key_pairs_ahead)
        self._waiting: deque[_Job] = deque()
        self._room = asyncio.Semaphore(config.jobs_max)
        self._arrived = asyncio.Event()
        self._wanted = min(os.cpu_count() or 1, WORKERS_MAX) if config.encrypt_workers < 0 else config.encrypt_workers
        self._running: set[asyncio.Task[None]] = set()
        self._alive = 0
        self._filling: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def workers(self) -> int:
        """Processes that are there to take jobs."""
        return self._alive

    async def stop(self) -> None:
        """Ends the workers; jobs that wait are done in place by whoever waits for them."""
        self._stopped = True
        if self._filling is not None:
            self._filling.cancel()
        await self.cancel_tasks()
        self._give_all_back()

    async def encrypt(self, keys: bytes, text: bytes, padding: int) -> tuple[NDArray[np.uint8], list[int]]:
        """The bodies as a matrix of octets, a row each, and the rows whose keys are bad; `keys` as for `seal`."""
        rows = len(keys) // KEY_CHARS
        done = None
        if rows > self._config.inline_rows_max and self._wanted and not self._stopped:
            async with self._room:
                done = await self._by_worker(keys, text, padding)
        where = "in_place" if done is None else "worker"
        bodies, bad = await self._in_place(keys, text, padding) if done is None else done
        ROWS.labels(where).inc(rows)
        return np.frombuffer(bodies, np.uint8).reshape(rows, body_bytes(text, padding)), bad

    async def _by_worker(self, keys: bytes, text: bytes, padding: int) -> tuple[bytes, list[int]] | None:
        if self._stopped:
            return None
        self._start_workers()
        mine = _Job(keys, text, padding, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._arrived.set()
        try:
            async with asyncio.timeout(PATIENCE * self._config.worker_timeout_s):
                return await mine.done
        except TimeoutError:
            return None

    async def _in_place(self, keys: bytes, text: bytes, padding: int) -> tuple[bytes, list[int]]:
        """The same here, in slices that let the event loop go on."""
        parts: list[bytes] = []
        bad: list[int] = []
        step = SLICE_ROWS * KEY_CHARS
        for at in range(0, len(keys), step):
            if at:
                await asyncio.sleep(0)
            bodies, faults = seal(keys[at : at + step], text, padding, self._pairs)
            parts.append(bodies)
            bad += [at // KEY_CHARS + row for row in faults]
        self._fill_later()
        return b"".join(parts), bad

    # -- pairs for what is done in place

    def _fill_later(self) -> None:
        if self._filling is None and not self._pairs.full and not self._stopped:
            self._filling = asyncio.get_running_loop().call_later(FILL_PAUSE_S, self._fill)

    def _fill(self) -> None:
        self._filling = None
        self._pairs.fill(PAIRS_PER_SLICE)
        self._fill_later()

    # -- workers

    def _start_workers(self) -> None:
        self._running = {task for task in self._running if not task.done()}
        while len(self._running) < self._wanted:
            task = self.spawn(self._keep_worker(), "encrypt-worker")
            self._running.add(task)

    async def _keep_worker(self) -> None:
        """Runs one worker after another until none is needed for a while."""
        while True:
            try:
                process = await self._launch()
            except OSError as error:
                log.warning("encrypt_worker_failed", error=error.strerror)
                self._give_all_back()
            else:
                if await self._run(process):
                    if not self._waiting:
                        return
                    continue  # a job came while the idle process ended
            DEATHS.inc()
            await asyncio.sleep(self._config.worker_restart_s)

    async def _launch(self) -> asyncio.subprocess.Process:
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        config = self._config
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pushd.gateways.webpush_worker",
            str(config.key_pairs_ahead),
            str(config.worker_niceness),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=STREAM_BYTES,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    async def _run(self, process: asyncio.subprocess.Process) -> bool:
        """Feeds a worker until it dies (False) or nothing has come for long (True)."""
        mine: deque[_Job] = deque()
        self._alive += 1
        try:
            return await self._feed(process, mine)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            log.warning("encrypt_worker_died", why=type(error).__name__, jobs=len(mine))
            return False
        finally:
            self._alive -= 1
            if process.returncode is None:
                process.kill()
            for each in mine:
                self._again(each)
            if not self._alive:
                self._give_all_back()
            await process.wait()

    async def _feed(self, process: asyncio.subprocess.Process, mine: deque[_Job]) -> bool:
        assert process.stdin is not None
        number = 0
        while True:
            if not mine and not await self._something_waits():
                return True
            while self._waiting and len(mine) < JOBS_AHEAD:
                each = self._waiting.popleft()
                mine.append(each)
                process.stdin.write(job(number + len(mine) - 1, each.keys, each.text, each.padding))
            if not mine:
                continue  # another worker was faster
            async with asyncio.timeout(self._config.worker_timeout_s):
                await process.stdin.drain()
                result = await _read(process, number)
            number += 1
            each = mine.popleft()
            if not each.done.done():
                each.done.set_result(result)

    async def _something_waits(self) -> bool:
        """Whether a job came; False after a long time without one."""
        while not self._waiting:
            self._arrived.clear()
            try:
                async with asyncio.timeout(self._config.worker_idle_s):
                    await self._arrived.wait()
            except TimeoutError:
                return False
        return True

    def _again(self, each: _Job) -> None:
        """Another worker's turn, unless this job ended two of them."""
        each.tries += 1
        if each.tries >= TRIES or self._stopped:
            self._give_back(each)
        else:
            self._waiting.append(each)
            self._arrived.set()

    def _give_back(self, each: _Job) -> None:
        if not each.done.done():
            each.done.set_result(None)

    def _give_all_back(self) -> None:
        while self._waiting:
            self._give_back(self._waiting.popleft())


async def _read(process: asyncio.subprocess.Process, number: int) -> tuple[bytes, list[int]]:
    assert process.stdout is not None
    answered, bad, length = ANSWER.unpack(await process.stdout.readexactly(ANSWER.size))
    if answered != number:
        raise ConnectionError("an answer to another job")
    rows = await process.stdout.readexactly(bad * ROW.size) if bad else b""
    return await process.stdout.readexactly(length), [row for (row,) in ROW.iter_unpack(rows)]
