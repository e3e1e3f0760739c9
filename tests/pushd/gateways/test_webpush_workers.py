"""Encryption in worker processes: what they make, and what happens when they die."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocols import aes128gcm, jwt
from pushd.config.webpush import WebPushConfig
from pushd.gateways.webpush_seal import KEY_CHARS, KeyPairs, seal
from pushd.gateways.webpush_worker import job
from pushd.gateways.webpush_workers import Encryptor

PAIRS = [aes128gcm.new_pair() for _ in range(16)]
AUTHS = [bytes([n]) * 16 for n in range(16)]
LINES = [jwt.encode(pair.public) + b"." + jwt.encode(auth) for pair, auth in zip(PAIRS, AUTHS, strict=True)]


def keys(rows):
    return b"".join(LINES[row % 16] for row in range(rows))


def read(body, row):
    return aes128gcm.decrypt(bytes(body), PAIRS[row % 16].private, AUTHS[row % 16])


class Encrypting:
    def __init__(self, **settings):
        self.encryptor = Encryptor(WebPushConfig(**{"inline_rows_max": 10, "worker_restart_s": 0.05, **settings}))

    async def __aenter__(self):
        return self.encryptor

    async def __aexit__(self, *_):
        await self.encryptor.stop()


def children():
    """Processes that we started and that live."""
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if b"webpush_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def test_w09_a_key_pair_is_given_out_once_and_made_ahead_within_bounds():
    """There is no option to use one twice: nothing is kept of a pair that was given out, nor of a secret."""
    pairs = KeyPairs(20)
    pairs.fill(100)
    assert len(pairs) == 20
    assert pairs.full
    assert len({pairs.take().public for _ in range(30)}) == 30
    assert not pairs.full
    rows = b"".join(LINES[0] for _ in range(50))
    bodies, _ = seal(rows, b"text", 0, pairs)
    size = len(bodies) // 50
    assert len({bodies[at + 21 : at + 86] for at in range(0, len(bodies), size)}) == 50, "one subscription, 50 keys"
    assert len({bodies[at : at + 16] for at in range(0, len(bodies), size)}) == 50, "and 50 salts"
    assert not {name for name in WebPushConfig.__struct_fields__ if "reuse" in name}


@pytest.mark.parametrize(
    "bad",
    [
        b"A" * 87 + b"." + b"A" * 22,
        *(
            LINES[1][:at] + b"!" * count + LINES[1][at + count :]
            for at in (0, 40, 88, 100)
            for count in (1, 2, 3, 4, 8)
        ),
        b"\x00" * KEY_CHARS,
    ],
)
def test_rows_with_bad_keys_are_named_and_the_others_sealed(bad):
    bodies, faults = seal(LINES[0] + bad + LINES[2], b"text", 5, KeyPairs(0))
    assert faults == [1]
    size = len(bodies) // 3
    assert size == 103 + 4 + 5
    assert read(bodies[:size], 0) == read(bodies[2 * size :], 2) == b"text"
    assert len(LINES[0]) == KEY_CHARS


@pytest.mark.asyncio
@pytest.mark.parametrize("workers", [0, 1, 2])
async def test_bodies_come_back_in_order_from_wherever(workers):
    async with Encrypting(encrypt_workers=workers) as encryptor:
        jobs = [encryptor.encrypt(keys(rows), b"text %d" % rows, rows % 3) for rows in (1, 5, 11, 200, 64, 65, 256)]
        for rows, (bodies, bad) in zip((1, 5, 11, 200, 64, 65, 256), await asyncio.gather(*jobs), strict=True):
            assert bodies.shape == (rows, 103 + len(b"text %d" % rows) + rows % 3)
            assert not bad
            assert all(read(bodies[row], row) == b"text %d" % rows for row in (0, rows // 2, rows - 1))
        assert encryptor.workers == workers == len(children())
    assert not children()


@pytest.mark.asyncio
async def test_small_batches_start_no_process():
    async with Encrypting(encrypt_workers=2) as encryptor:
        await encryptor.encrypt(keys(10), b"x", 0)
        assert not children()


@pytest.mark.asyncio
async def test_x26_a_worker_that_is_killed_is_replaced_and_its_rows_are_done_again():
    async with Encrypting(encrypt_workers=1) as encryptor:
        await encryptor.encrypt(keys(50), b"first", 0)
        (pid,) = children()
        jobs = [asyncio.create_task(encryptor.encrypt(keys(400), b"job %d" % n, 0)) for n in range(6)]
        await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        for n, (bodies, bad) in enumerate(await asyncio.wait_for(asyncio.gather(*jobs), 60)):
            assert not bad
            assert read(bodies[399], 399) == b"job %d" % n
        await encryptor.encrypt(keys(50), b"after", 0)
        for _ in range(100):
            if children():
                break
            await asyncio.sleep(0.02)
        (successor,) = children()
        assert successor != pid


def test_x26_a_worker_whose_daemon_was_killed_ends_without_a_word():
    """Nobody reads its answer any more: that is the end of its input, too, and no failure."""
    command = (sys.executable, "-m", "pushd.gateways.webpush_worker", "10", "0")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        worker.stdout.close()
        _, said = worker.communicate(job(1, keys(4), b"text", 0), timeout=20)
    assert (worker.returncode, said) == (0, b"")


@pytest.mark.asyncio
async def test_a_worker_that_stands_still_is_given_up():
    async with Encrypting(encrypt_workers=1, worker_timeout_s=1.5) as encryptor:
        await encryptor.encrypt(keys(50), b"first", 0)
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        bodies, _ = await asyncio.wait_for(encryptor.encrypt(keys(50), b"second", 0), 60)
        assert read(bodies[7], 7) == b"second"
        assert time.monotonic() - begun < 8
        assert pid not in children()


@pytest.mark.asyncio
async def test_idle_workers_end():
    async with Encrypting(encrypt_workers=1, worker_idle_s=0.1) as encryptor:
        await encryptor.encrypt(keys(50), b"first", 0)
        for _ in range(100):
            if not children():
                break
            await asyncio.sleep(0.02)
        assert not children()
        bodies, _ = await encryptor.encrypt(keys(50), b"again", 0)
        assert read(bodies[0], 0) == b"again"


@pytest.mark.asyncio
async def test_after_a_stop_rows_are_still_encrypted_in_place():
    encryptor = Encryptor(WebPushConfig(encrypt_workers=1))
    waiting = [asyncio.create_task(encryptor.encrypt(keys(100), b"x", 0)) for _ in range(4)]
    await asyncio.sleep(0)
    await encryptor.stop()
    for bodies, _ in await asyncio.wait_for(asyncio.gather(*waiting), 60):
        assert read(bodies[99], 99) == b"x"
    assert not children()


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_harms_nobody():
    async with Encrypting(encrypt_workers=1) as encryptor:
        jobs = [asyncio.create_task(encryptor.encrypt(keys(200), b"%d" % n, 0)) for n in range(8)]
        await asyncio.sleep(0.01)
        for job in jobs[::2]:
            job.cancel()
        done = await asyncio.gather(*jobs, return_exceptions=True)
        for n in range(1, 8, 2):
            assert read(done[n][0][0], 0) == b"%d" % n
