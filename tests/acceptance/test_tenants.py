"""A tenant sees nothing of another's: what is asked for with the wrong key is as absent as what never was."""

import asyncio
import time

import pytest
import pytest_asyncio

from tests.acceptance.world import BUNDLE

pytestmark = pytest.mark.asyncio(loop_scope="package")

NEVER = 2_000_000_000


@pytest_asyncio.fixture(loop_scope="package")
async def other(world):
    return await world.tenant()


async def test_ids_of_another_are_as_absent_as_none(world, tenant, other):
    device = await tenant.register("phone", user_id="ada")
    view = await tenant.sent(name="secret")
    credential = (await tenant.server.ok("GET", "/credentials"))["items"][0]
    key = (await tenant.server.ok("GET", "/keys"))["items"][0]
    asked = [
        ("GET", "/devices/{}", device["id"], None),
        ("PATCH", "/devices/{}", device["id"], {"tags": ["stolen"]}),
        ("DELETE", "/devices/{}", device["id"], None),
        ("GET", "/devices/{}/history", device["id"], None),
        ("GET", "/notifications/{}", view["id"], None),
        ("GET", "/notifications/{}/devices", view["id"], None),
        ("PATCH", "/notifications/{}", view["id"], {"name": "stolen"}),
        ("POST", "/notifications/{}/cancel", view["id"], None),
        ("GET", "/users/{}", "ada", None),
        ("DELETE", "/users/{}", "ada", None),
        ("GET", "/credentials/{}", credential["id"], None),
        ("DELETE", "/credentials/{}", credential["id"], None),
        ("PUT", "/credentials/{}", credential["id"], {"secret": world.credential()["secret"]}),
        ("POST", "/credentials/{}/pause", credential["id"], None),
        ("POST", "/credentials/{}/resume", credential["id"], None),
        ("POST", "/keys/{}/revoke", key["id"], None),
        ("GET", "/apps/{}", tenant.app_id, None),
    ]
    for method, path, own, body in asked:
        theirs = await other.server(method, path.format(own), json=body)
        never = await other.server(method, path.format(NEVER), json=body)
        assert theirs.status == never.status == 404, path
        assert theirs.body == never.body, path
        assert theirs.body["detail"] != "There is nothing at this path"
    assert await tenant.show(view["id"]) == view
    assert await tenant.server.ok("GET", f"/devices/{device['id']}") | {"token": device["token"]} == device
    assert (await tenant.server.ok("GET", "/users/ada"))["external_id"] == "ada"


async def test_listings_hold_ones_own_only(tenant, other):
    await tenant.register("phone", user_id="ada")
    await tenant.sent()
    for path in ("/devices", "/users", "/notifications"):
        assert (await other.server.ok("GET", path))["items"] == []
        assert len((await tenant.server.ok("GET", path))["items"]) == 1
    page = await tenant.server.ok("GET", "/devices?limit=1")
    stolen = await other.server("GET", "/devices", params={"limit": 1, "cursor": page["next"]})
    assert (stolen.status, stolen.pointers) == (400, ["cursor"])


async def test_sends_reach_ones_own_only(tenant, other):
    mine = await tenant.register("phone", user_id="ada", tags=["news"])
    theirs = await other.register("phone", user_id="ada", tags=["news"])
    for audience in ({"type": "broadcast"}, {"type": "tags", "any": ["news"]}, {"type": "users", "ids": ["ada"]}):
        assert (await other.sent(audience))["counts"]["targeted"] == 1
    assert (tenant.arrived(mine["token"]), tenant.arrived(theirs["token"])) == (0, 3)
    body = {"audience": {"type": "devices", "ids": [mine["id"]]}, "message": {"title": "Hello"}}
    stolen = await other.server("POST", "/notifications", json=body)
    assert (stolen.status, stolen.body["targets"]) == (400, {"unknown": {"devices": [mine["id"]]}, "count": 1})
    never = await other.server("POST", "/notifications", json=body | {"audience": {"type": "devices", "ids": [NEVER]}})
    assert {**stolen.body, "targets": None} == {**never.body, "targets": None}


async def test_the_same_token_in_two_apps_is_two_devices(tenant, other):
    mine = await tenant.register("phone")
    theirs = await other.register("phone", token=mine["token"])
    assert mine["id"] != theirs["id"]
    assert (await tenant.server.ok("GET", f"/devices/{mine['id']}"))["reachable"]
    await tenant.sent()
    assert tenant.arrived(mine["token"]) == 1


async def test_an_admin_acts_on_the_app_that_he_names(world, tenant, other):
    device = await tenant.register("phone")
    assert (await tenant.admin.ok("GET", f"/devices/{device['id']}"))["id"] == device["id"]
    assert (await other.admin("GET", f"/devices/{device['id']}")).status == 404
    unnamed = await world.admin("GET", "/devices")
    assert (unnamed.status, unnamed.pointers) == (400, ["Pushd-App"])
    absent = await world.client(world.admin_key, NEVER)("GET", "/devices")
    assert absent.status == 404
    posing = await tenant.server("GET", "/devices", headers={"Pushd-App": str(other.app_id)})
    assert posing.status == 404


async def test_an_app_that_is_deleted_takes_its_devices_along(world, tenant):
    device = await tenant.register("phone")
    assert (await world.admin("DELETE", f"/apps/{tenant.app_id}")).status == 204
    gone = await tenant.server(
        "POST", "/notifications", json={"audience": {"type": "broadcast"}, "message": {"title": "x"}}
    )
    assert gone.status == 401
    assert (await tenant.admin("GET", f"/devices/{device['id']}")).status == 404
    body = {"install_id": "phone", "bundle": BUNDLE, "token": tenant.token()}
    assert (await tenant.device("PUT", "/devices", json=body)).status == 401


async def test_what_a_deleted_app_had_under_way_ends_at_once(world):
    tenant = await world.tenant()
    for name in ("phone", "pad"):
        await tenant.register(name)
    (credential,) = (await tenant.server.ok("GET", "/credentials"))["items"]
    await tenant.server.ok("POST", f"/credentials/{credential['id']}/pause")
    held = await tenant.send()
    paused = await tenant.send()
    batches = await tenant.send(release_window_minutes=60)
    for each in (paused, batches):
        await tenant.server.ok("POST", f"/notifications/{each['id']}/pause")
    for _ in range(3):
        later = {"strategy": "utc", "send_at": time.time() + 3_600, "past_times": "ignore"}
        await tenant.send(schedule=later)
    database, fanout = world.daemon.store.database, world.daemon.fanout
    assert (await world.admin("DELETE", f"/apps/{tenant.app_id}")).status == 204
    async with asyncio.timeout(15):
        while await database.fetchval("SELECT count(*) FROM runs WHERE app_id = $1", tenant.app_id):
            await asyncio.sleep(0.05)
    assert [fanout.counts(each["id"]) for each in (held, paused, batches)] == [None] * 3
    waiting = "SELECT count(*) FROM schedules WHERE app_id = $1 AND (ended_at IS NULL OR next_at IS NOT NULL)"
    assert await database.fetchval(waiting, tenant.app_id) == 0
