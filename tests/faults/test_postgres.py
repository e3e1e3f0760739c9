"""PostgreSQL in every kind of trouble in fan-outs: 503 meanwhile, nothing lost or repeated, no restart of pushd."""

import asyncio
import secrets

import psutil
import pytest

from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.outage import MEMORY_GROWTH_MAX_MB, TROUBLES, suffer
from tests.faults.world import world

AWAY = ("kill", "stop", "freeze", "disk_full", "log_disk_full")
"""Troubles in which no send can be accepted."""


@pytest.mark.asyncio
async def test_fan_outs_wait_for_a_postgres_in_trouble_and_go_on():
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # `python -m tests.faults.outage --seed` repeats it
    report = await suffer(list(TROUBLES), 10_000, seed, away_s=2.0)
    print(report)
    assert not report["lost"]
    assert all(report["refusals"][name] for name in AWAY)
    assert report["resident_mb_most"] - report["resident_mb_before"] < MEMORY_GROWTH_MAX_MB


@pytest.mark.asyncio
async def test_the_embedded_server_comes_back_when_it_is_killed():
    """Twice: what is started again is looked after, too."""
    async with world(20_000, fast=True) as here:
        pid = here.daemon.pid
        async with here.under_way():
            for _ in range(2):
                await here.broadcast()
                await here.pushed(1_000)
                (server,) = [each for each in psutil.Process(pid).children() if "postgres" in each.name()]
                refused = len(here.refusals)
                server.kill()
                async with asyncio.timeout(30):
                    while len(here.refusals) == refused:
                        await asyncio.sleep(0.02)
                await here.single()
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        assert not verdict.duplicates
        assert here.daemon.running
        assert here.daemon.pid == pid
