"""PostgreSQL goes away in a fan-out and comes back: 503 meanwhile, nothing lost, the daemon is never restarted."""

import asyncio

import pytest

from tests.faults.history import judge
from tests.faults.kill import check
from tests.faults.world import UNSETTLED_ROWS_MAX, world

AWAY_S = 3.0


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_fan_out_waits_for_a_postgres_that_is_away(how):
    async with world(6_000, external=True) as here:
        pid = here.daemon.pid
        async with here.under_way():
            await here.broadcast()
            await here.once()
            await here.pushed(1_000)
            await (here.postgres.stop() if how == "stop" else here.postgres.kill())
            seen, refused = await here.gateway.total(), len(here.refusals)
            await asyncio.sleep(AWAY_S)
            assert await here.gateway.total() <= seen + UNSETTLED_ROWS_MAX, "sent on beyond what may be unsettled"
            told = here.refusals[refused:]
            assert told, "no send was refused"
            assert all(status == 503 and int(after) >= 1 for status, after in told)
            await here.postgres.start()
            await here.pushed(1_000)
        views = await here.done()
        verdict = judge(here.promises, await here.gateway.pushes(), here.dead)
        check(here, views, verdict)
        assert not verdict.duplicates
        assert not verdict.unsent
        assert here.daemon.running
        assert here.daemon.pid == pid
