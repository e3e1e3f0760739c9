"""Nothing of a notification stays in memory: counted in objects, before and after some hundreds of all sorts."""

import asyncio
import os
import signal
from itertools import count

import orjson
import pytest

from tests.faults.counted import VARIABLE
from tests.faults.world import QUIET, world

DEVICES = 200
ROUNDS, WINDOWS_MAX = 25, 8
SENDS = 7
"""Notifications of a round."""
SETTINGS = QUIET | {"store.pool_size": 2, "memory.trim_interval_s": 1.0}
"""Few connections: each prepares every statement once."""
REST_S = 3.0
"""Timers of what has ended have passed by then."""


@pytest.mark.asyncio
async def test_nothing_of_a_notification_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "counts"))
    async with world(DEVICES, seed=1, fast=True, settings=SETTINGS, module="tests.faults.counted") as here:
        keys, before, windows = count(), None, []
        while not windows or not settled(windows):
            assert len(windows) < WINDOWS_MAX, f"something stays of each: {windows}"
            for _ in range(ROUNDS):
                await a_round(here, next(keys))
            after = await counted(here, tmp_path / "counts")
            if before is not None:
                windows.append(growth(before, after))
            before = after
    print(windows)


def settled(windows):
    """Whether nothing grows by what was sent: caches fill in some windows and not in others, what stays does in all."""
    stays = {name: min(window.get(name, 0) for window in windows) for name in windows[-1]}
    blocks = stays.pop("blocks")
    return blocks < ROUNDS * SENDS // 2 and all(more < ROUNDS // 2 for more in stays.values())


def growth(before, after):
    """How many more objects there are, by type, and blocks of memory beside."""
    more = {name: here - before["types"].get(name, 0) for name, here in after["types"].items()}
    return {name: each for name, each in more.items() if each > 0} | {"blocks": after["blocks"] - before["blocks"]}


async def a_round(here, number):
    """A send of every sort, all of them over at the end."""
    await here.broadcast()
    await here.once()
    await here.single()
    message = {"title": "Pears", "body": f"round {number}"}  # another one in each: nothing is remembered by it
    everyone = {"audience": {"type": "broadcast"}, "message": message}
    held = await here.call("POST", "/notifications", everyone)
    for decision in ("pause", "resume", "cancel"):
        url = f"{here.daemon.url}/pushd/v1/notifications/{held['id']}/{decision}"
        async with here.session.post(url, headers=here._headers) as answer:
            assert answer.status in {200, 409}, "it may be over by now"
    personal = {"title": "{{ user.id }}", "body": "Plums"}  # parsed texts are remembered, a thousand of them
    await here.call("POST", "/notifications", everyone | {"message": personal, "liquid": True})
    one = {"audience": {"type": "users", "ids": ["user-1"]}, "message": message, "transactional": True}
    await here.call("POST", "/notifications", one)
    at = {"strategy": "utc", "send_at": "2100-01-01T00:00:00Z", "past_times": "ignore"}
    later = await here.call("POST", "/notifications", everyone | {"schedule": at})
    await here.call("DELETE", f"/schedules/{later['id']}")
    while await here.metric("pushd_backlog_devices"):
        await asyncio.sleep(0.01)


async def counted(here, path):
    """What the daemon holds, once it has come to rest."""
    await asyncio.sleep(REST_S)
    path.unlink(missing_ok=True)
    os.kill(here.daemon.pid, signal.SIGUSR2)
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.05)
    return orjson.loads(path.read_bytes())
