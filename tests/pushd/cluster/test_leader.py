"""A leader: one at a time, another one as soon as its session ends."""

from __future__ import annotations

from contextlib import asynccontextmanager

import asyncpg
import pytest

from pushd.cluster.leader import Leader
from pushd.errors import UnavailableError

pytestmark = pytest.mark.asyncio
LOCK = 7_006


def leader(connect):
    return Leader(connect, lock=LOCK, what="pears", ask_s=1.0, timeout_s=5.0, idle_s=30.0)


@asynccontextmanager
async def leaders(dsn, count):
    async def connect(**settings):
        return await asyncpg.connect(dsn, server_settings=settings)

    made = [leader(connect) for _ in range(count)]
    yield made
    for each in made:
        await each.stop()


async def test_one_leads_until_it_stops(dsn18):
    async with leaders(dsn18, 2) as (one, two):
        assert await one.leads(0.0)
        assert not await two.leads(0.0)
        assert await one.leads(5.0)
        await one.stop()
        assert not await two.leads(0.5)  # it is not asked again yet
        assert await two.leads(1.0)
        assert not await one.leads(10.0)


async def test_whoever_lost_its_session_leads_no_more_and_another_does(dsn18):
    async with leaders(dsn18, 2) as (one, two):
        assert await one.leads(0.0)
        held = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1"
        session = await asyncpg.connect(dsn18)
        assert await session.fetchval(held, LOCK)
        assert await two.leads(0.0)
        assert not await one.leads(1.0)
        assert not await one.leads(2.0)
        await two.stop()
        assert await one.leads(3.0)
        await session.close()


async def test_while_the_server_is_away_nobody_leads():
    async def connect(**settings):
        raise UnavailableError

    alone = leader(connect)
    assert not await alone.leads(0.0)
    await alone.stop()
