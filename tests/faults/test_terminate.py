"""SIGTERM under load: a clean end in time, and neither loss nor repetition over the restart."""

import asyncio
from time import monotonic

import pytest

from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.world import world

STOP_S = 30.0
"""What a supervisor is told to expect."""


@pytest.mark.asyncio
async def test_sigterm_in_a_fan_out_drains_and_the_next_start_goes_on():
    async with world(8_000) as here:
        async with here.under_way():
            await here.broadcast()
            await here.once()
            await here.pushed(2_000)
            begun = monotonic()
            assert await here.daemon.terminate() == 0
            assert monotonic() - begun < STOP_S
            seen = await here.gateway.total()
            assert seen < 8_000, "the fan-out was over before the signal: nothing was shown"
            await asyncio.sleep(0.2)
            assert await here.gateway.total() == seen, "pushes after the end"
            await here.daemon.start()
            await here.pushed(100)
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        assert not verdict.duplicates
        assert not verdict.unsent
