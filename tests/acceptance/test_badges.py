"""Badges that pushd counts, through the whole daemon: each device has its own count, whatever becomes of the daemon."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from pushd.simulator.faults import Answer
from tests.acceptance.world import pushd

pytestmark = pytest.mark.asyncio(loop_scope="package")

COUNTED = {"message": {"title": "One more"}, "badge_from": "device.badge"}


def shown(tenant, *devices):
    """The badge that each device was sent last."""
    return [orjson.loads(tenant.simulator.record.last(each["token"]).payload)["aps"].get("badge") for each in devices]


async def counted(tenant, device) -> int:
    return (await tenant.server.ok("GET", f"/devices/{device['id']}"))["badge"]


async def test_every_device_has_its_own_count(tenant):
    ada, bob = await tenant.register("ada", user_id="ada"), await tenant.register("bob", user_id="bob")
    for number in (1, 2, 3):
        await tenant.sent(**COUNTED)
        assert shown(tenant, ada, bob) == [number, number]
    assert (await tenant.server("PUT", f"/devices/{bob['id']}/badge", json={"count": 0})).status == 204
    await tenant.sent({"type": "users", "ids": ["ada"]}, **COUNTED)
    await tenant.sent(**COUNTED)
    assert shown(tenant, ada, bob) == [5, 1]
    await tenant.sent(**COUNTED | {"message": {"title": "Read", "badge_increment": -3}})
    assert shown(tenant, ada, bob) == [2, 0]
    assert [await counted(tenant, each) for each in (ada, bob)] == [2, 0]
    await tenant.sent(**COUNTED | {"message": {"title": "Ten", "badge_increment": 10}})
    assert shown(tenant, ada, bob) == [12, 10]
    assert "badge_increment" not in tenant.simulator.record.last(ada["token"]).payload.decode()
    many = await tenant.register_many(200)
    await tenant.sent(**COUNTED)
    payloads = [orjson.loads(tenant.simulator.record.last(token).payload) for token in many]
    assert ({each["aps"]["badge"] for each in payloads}, shown(tenant, ada, bob)) == ({1}, [13, 11])
