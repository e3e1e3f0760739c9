"""Installs that end: gone with their devices when they said so, others not; and channels that are made where needed."""

from __future__ import annotations

import asyncio
import time

import pytest

from pushd.commands import channels, expirations
from pushd.commands.expirations import Expirer

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.fixture
def context(world):
    return world.daemon.context


async def test_an_install_goes_with_all_its_devices_when_it_is_over(context, tenant):
    over, later, never = [await tenant.register(name) for name in ("over", "later", "never")]
    await tenant.server.ok("PUT", "/devices", {"install_id": "over", "kind": "fcm", "token": "d3Fg_x:APA91b-over"})
    now = time.time()
    for name, at in (("over", now - 1), ("later", now + 3_600), ("nobody", now - 1)):
        await expirations.expire_at(context, tenant.app_id, name, at)
    assert await expirations.end_of(context, tenant.app_id, "later") == pytest.approx(now + 3_600, abs=0.001)
    assert await expirations.end_of(context, tenant.app_id, "never") is None
    assert await Expirer(context).sweep() == 2
    assert await Expirer(context).sweep() == 0
    assert (await tenant.send())["targeted"] == 2
    async with asyncio.timeout(10):
        while not (tenant.arrived(later["token"]) and tenant.arrived(never["token"])):
            await asyncio.sleep(0.01)
    assert tenant.arrived(over["token"]) == 0
    # Who comes again in time stays, and may have no end then.
    await expirations.expire_at(context, tenant.app_id, "later", None)
    assert await expirations.end_of(context, tenant.app_id, "later") is None


async def test_channels_are_made_where_there_are_none(context, tenant):
    assert not channels.is_known(context, tenant.app_id, "news")
    await asyncio.gather(*(channels.ensure(context, tenant.app_id, ["news", "games", "news"]) for _ in range(3)))
    assert channels.is_known(context, tenant.app_id, "news")
    found = await channels.list_page(context, tenant.app_id, after=0, limit=10)
    assert sorted((each.uuid, each.name) for each in found) == [("games", "games"), ("news", "news")]
