"""Nothing of a notification stays in memory: counted in objects, before and after some hundreds of all sorts."""

import asyncio
import os
import signal
from itertools import count, pairwise

import orjson
import pytest

from tests.faults.counted import VARIABLE
from tests.faults.world import QUIET, world

DEVICES = 200
WARM_UP, ROUNDS = 30, 25
SENDS = 7
"""Notifications of a round."""
SETTINGS = QUIET | {"store.pool_size": 2, "memory.trim_interval_s": 1.0}
"""Few connections: each prepares every statement once, and that is over when the warm-up is."""
REST_S = 3.0
"""Timers of what has ended have passed by then."""


@pytest.mark.asyncio
async def test_nothing_of_a_notification_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "counts"))
    async with world(DEVICES, seed=1, fast=True, settings=SETTINGS, module="tests.faults.counted") as here:
        keys, seen = count(), []
        for rounds in (WARM_UP, ROUNDS, ROUNDS):
            for _ in range(rounds):
                await a_round(here, next(keys))
            seen.append(await counted(here, tmp_path / "counts"))
    # What comes once, such as a cache that is made, is in one of the two differences; what stays of each send in both.
    grown = {name: min(of_both) for name in seen[2]["types"] if min(of_both := growth(seen, name)) > 0}
    blocks = [after["blocks"] - before["blocks"] for before, after in pairwise(seen)]
    print({"sent": ROUNDS * SENDS, "blocks": blocks, "grown": grown})
    assert all(more < ROUNDS // 2 for more in grown.values()), grown
    assert min(blocks) < ROUNDS * SENDS // 2, "some text, number or array stays of each"


def growth(seen, name):
    """How many more objects of a type there were after each of the two runs."""
    return [after["types"].get(name, 0) - before["types"].get(name, 0) for before, after in pairwise(seen)]


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
