"""SIGTERM under load: a clean end in time, and neither loss nor repetition over the restart."""

import asyncio
from time import monotonic

import pytest

from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.world import SMALL, world

IMPATIENT = SMALL | {"fanout.drain_timeout_s": 4.0}
"""What waits in vain at a stop does so for a shorter time."""

STOP_S = 30.0
"""What a supervisor is told to expect."""
DEVICES = 50_000


@pytest.mark.asyncio
@pytest.mark.parametrize("fast", [False, True], ids=["simulator", "nginx"])
async def test_sigterm_in_fan_outs_drains_and_the_next_start_goes_on(fast):
    """With both kinds of delivery and single sends on their way; the simulator for its rules, nginx for speed."""
    devices, stops = (DEVICES, 2) if fast else (8_000, 1)
    async with world(devices, fast=fast) as here:
        async with here.under_way(producers=8, pause_s=0.0):
            for number in range(stops):
                before = await here.gateway.total()
                await here.broadcast()
                await here.once()
                await here.pushed(devices // 8 * (number + 1), before)
                begun = monotonic()
                assert await here.daemon.terminate() == 0
                assert monotonic() - begun < STOP_S
                seen = await here.gateway.total()
                await asyncio.sleep(0.2)
                assert await here.gateway.total() == seen, "pushes after the end"
                await here.daemon.start()
                assert await here.metric("pushd_backlog_devices"), "the fan-outs were over: nothing was shown"
        await settled(here)


@pytest.mark.asyncio
async def test_sigterm_ends_in_time_though_postgres_is_away():
    """What cannot be committed is repeated after the next start: at most what may be unsettled."""
    async with world(8_000, external=True, fast=True, settings=IMPATIENT) as here:
        async with here.under_way():
            await here.broadcast()
            await here.pushed(1_000)
            await here.postgres.stop()
            await asyncio.sleep(1)
            begun = monotonic()
            await here.daemon.terminate()
            assert monotonic() - begun < STOP_S
            await here.postgres.start()
            here.kills += 1
            await here.daemon.start()
        await settled(here, kills=1)


@pytest.mark.asyncio
async def test_sigterm_ends_in_time_though_the_gateway_is_silent():
    """Rows without an answer are not settled: the next start sends them again."""
    async with world(8_000, external=True, fast=True, proxied=True, settings=IMPATIENT) as here:
        await here.broadcast()
        await here.pushed(1_000)
        async with here.links["gateway"].silence():
            await asyncio.sleep(0.5)
            begun = monotonic()
            await here.daemon.terminate()
            assert monotonic() - begun < STOP_S
        here.kills += 1
        await here.daemon.start()
        here.drifts.append(await here.metric("pushd_ledger_drift"))
        await settled(here, kills=1)


async def settled(here, kills=0):
    """Everything promised was kept, and repeated is only what may be."""
    views = await here.done()
    verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
    check(here, views, verdict)
    assert kills or not verdict.duplicates
    assert kills or not verdict.unsent
