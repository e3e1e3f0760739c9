"""Cancel while it runs: what is on its way keeps its outcome, the rest goes to nobody."""

import asyncio

import pytest
import pytest_asyncio

from pushd.config import FanoutConfig
from pushd.simulator.faults import Slow
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def narrow():
    """A tenant of a daemon that has few rows on their way at once."""
    async with running(fanout=FanoutConfig(unsettled_rows_max=200, batch_rows_max=100)) as world:
        yield await world.tenant()


async def test_cancel_while_running(narrow):
    tenant, devices = narrow, 1_000
    tokens = await tenant.register_many(devices)
    tenant.fault(Slow(latency_ms=250))
    sent = await tenant.send()
    await tenant.until(sent["id"], lambda view: view["counts"]["accepted"] > 0)
    cancelled = await tenant.server.ok("POST", f"/notifications/{sent['id']}/cancel")
    assert cancelled["state"] == "cancelled"
    view = await tenant.finished(sent["id"])
    counts = view["counts"]
    assert view["state"] == "cancelled"
    assert counts["cancelled"] > 0
    assert counts["accepted"] > 0
    assert counts["accepted"] + counts["cancelled"] == counts["targeted"] == devices
    arrived = sum(tenant.arrived(token) for token in tokens)
    assert arrived == counts["accepted"]
    assert len(await tenant.behind(sent["id"], outcome="cancelled", limit=1000)) == counts["cancelled"]
    assert len(await tenant.behind(sent["id"], outcome="accepted", limit=1000)) == counts["accepted"]
    await asyncio.sleep(0.3)
    assert sum(tenant.arrived(token) for token in tokens) == arrived
    assert (await tenant.server("POST", f"/notifications/{sent['id']}/cancel")).status == 200


async def test_what_is_done_cannot_be_cancelled(tenant):
    await tenant.register("phone")
    view = await tenant.sent()
    answer = await tenant.server("POST", f"/notifications/{view['id']}/cancel")
    assert (answer.status, answer.code) == (409, "conflict")
    assert (await tenant.show(view["id"]))["state"] == "done"


async def test_only_the_name_stays_editable(tenant):
    view = await tenant.sent(name="first")
    renamed = await tenant.server.ok("PATCH", f"/notifications/{view['id']}", {"name": "second"})
    assert renamed == view | {"name": "second"}
    assert await tenant.show(view["id"]) == renamed
    other = await tenant.server("PATCH", f"/notifications/{view['id']}", json={"name": "x", "ttl_s": 1})
    assert (other.status, other.pointers) == (400, ["/ttl_s"])
