"""kill -9 of the daemon: everything accepted goes out, at most the unsettled rows twice, at most once never twice."""

import asyncio
import secrets

import pytest

from tests.faults.history import judge
from tests.faults.kill import check, survive
from tests.faults.world import world


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kills", "devices", "external"),
    [(3, 20_000, False), (1, 8_000, True)],
    ids=["with-its-postgres", "beside-postgres"],
)
async def test_a_kill_at_a_random_moment_loses_nothing(kills, devices, external):
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # shown when it fails: `python -m tests.faults.kill --seed` repeats it
    report = await survive(kills, devices, seed, external=external)
    print(report)
    assert report["kills_of_running"]


@pytest.mark.asyncio
async def test_what_a_dead_node_left_is_taken_over_once_its_session_is_seen_to_have_ended():
    """A server notices late that a client is gone when its machine is: the next start comes before that."""
    async with world(3_000, external=True) as here:
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
