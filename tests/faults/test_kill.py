"""kill -9 of the daemon: everything accepted goes out, at most the unsettled rows twice, at most once never twice."""

import asyncio
import secrets

import pytest

from tests.faults.failpoints import POINTS
from tests.faults.history import judge
from tests.faults.kill import check, survive
from tests.faults.world import world


@pytest.mark.asyncio
async def test_x26_a_kill_at_any_point_or_moment_loses_nothing():
    """Its PostgreSQL goes down with the daemon. Every fail point has its turn, between kills at random moments."""
    report = await reported(kills=0, devices=50_000)
    assert report["kills"] >= 20
    assert report["points"] == len(POINTS)
    assert report["of_a_running_fan_out"]


@pytest.mark.asyncio
async def test_a_kill_beside_a_postgres_that_lives_on_loses_nothing():
    """What the dead daemon had under way in the server may still commit."""
    report = await reported(kills=6, devices=20_000, external=True)
    assert not report["points_missed"]


async def reported(**options):
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # shown when it fails: `python -m tests.faults.kill --seed` repeats it
    report = await survive(**options, seed=seed)
    print(report)
    return report


@pytest.mark.asyncio
async def test_what_a_dead_node_left_is_taken_over_once_its_session_is_seen_to_have_ended():
    """A server notices late that a client is gone when its machine is: the next start comes before that."""
    async with world(20_000, external=True, fast=True) as here:
        await here.broadcast()
        await here.pushed(500)
        (node,) = await here.postgres.nodes()
        await here.daemon.kill()
        async with asyncio.timeout(10):
            session = await here.postgres.hold_lock(node)
        await here.daemon.start()
        assert await here.metric("pushd_backlog_devices") == 0
        await session.close()
        views = await here.done()
        here.kills += 1
        here.drifts.append(await here.metric("pushd_ledger_drift"))
        check(here, views, judge(here.promises, await here.gateway.pushes(), here.dead))
