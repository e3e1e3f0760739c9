"""A daemon that is stopped and started again: it knows what it knew, and goes on with what it was sending."""

import pytest
import pytest_asyncio

from pushd.config import FanoutConfig
from pushd.daemon import Daemon
from pushd.simulator.faults import Slow
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def narrow():
    async with running(fanout=FanoutConfig(unsettled_rows_max=100, batch_rows_max=50)) as world:
        yield world


async def restart(world) -> None:
    await world.daemon.stop()
    world.daemon = Daemon(world.daemon.config, environ={})
    await world.daemon.start()


async def test_a_restart_in_the_middle_of_a_send_loses_and_repeats_nothing(narrow):
    tenant = await narrow.tenant()
    ada = await tenant.register("ada", user_id="ada", tags=["news"])
    headers = {"Idempotency-Key": "before"}
    body = {"audience": {"type": "users", "ids": ["ada"]}, "message": {"title": "Hello"}}
    first = await tenant.server("POST", "/notifications", json=body, headers=headers)
    await tenant.finished(first.body["id"])
    tokens = await tenant.register_many(600)
    tenant.fault(Slow(latency_ms=100))
    sent = await tenant.send()
    await tenant.until(sent["id"], lambda view: view["counts"]["accepted"] > 0)

    await restart(narrow)

    narrow.simulator.faults.clear()
    halfway = await tenant.show(sent["id"])
    assert halfway["counts"]["targeted"] == 601
    view = await tenant.finished(sent["id"])
    assert (view["state"], view["counts"]["accepted"]) == ("done", 601)
    assert [token for token in tokens if tenant.arrived(token) != 1] == []
    assert tenant.arrived(ada["token"]) == 2
    shown = await tenant.server.ok("GET", f"/devices/{ada['id']}")
    assert (shown["user_id"], shown["tags"], shown["reachable"]) == ("ada", ["news"], True)
    again = await tenant.server("POST", "/notifications", json=body, headers=headers)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    audience = {"audience": {"type": "tags", "any": ["news"]}}
    assert (await tenant.server.ok("POST", "/audience/count", audience))["devices"] == 1
    history = await tenant.server.ok("GET", f"/devices/{ada['id']}/history")
    assert [row["notification_id"] for row in history["items"]] == [sent["id"], first.body["id"]]
