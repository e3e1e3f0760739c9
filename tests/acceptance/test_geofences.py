"""Geofences through HTTP: devices say where they are, sends find exactly those inside, crossings send by themselves."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from msgspec import convert

from pushd.config import PlacesConfig
from pushd.daemon import Daemon
from pushd.model.audience import Audience
from pushd.model.device import Kind
from tests.acceptance.world import PATIENCE_S, Tenant, pushd, running

pytestmark = pytest.mark.asyncio(loop_scope="package")

PARK = (40.7827647, -73.9652551)
MUSEUM = (40.7776, -73.9625)
BRIDGE = (40.7061, -73.9969)
ABROAD = (48.8584, 2.2945)


def circle(place, radius, **more):
    properties = {"radius": radius, **more}
    geometry = {"type": "Point", "coordinates": [place[1], place[0]]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def box(south, west, north, east):
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": {"orderAdded": [0, 1, 2, 3, 4]}, "geometry": geometry}


async def at(tenant: Tenant, device, place, **more):
    body = {"latitude": place[0], "longitude": place[1], **more}
    return await tenant.server.ok("PUT", f"/devices/{device['id']}/location", body)


async def fence(tenant: Tenant, name, bounds, **more):
    return await tenant.server.ok("POST", "/geofences", {"name": name, "bounds": bounds, **more})


async def settled(tenant: Tenant, fence_id):
    async with asyncio.timeout(PATIENCE_S):
        while (shown := await tenant.server.ok("GET", f"/geofences/{fence_id}"))["evaluating"]:
            await asyncio.sleep(0.01)
    return shown


async def reached(tenant: Tenant, audience, devices):
    """Names of the devices that a send to the audience arrived at."""
    before = {name: tenant.arrived(device["token"]) for name, device in devices.items()}
    answer = await tenant.server("POST", "/notifications", json={"audience": audience, "message": {"title": "Hello"}})
    assert answer.status == 202, answer.body
    view = await tenant.finished(answer.body["id"])
    names = {name for name, device in devices.items() if tenant.arrived(device["token"]) > before[name]}
    assert view["counts"]["accepted"] == len(names)
    return names


async def town(tenant: Tenant):
    devices = {name: await tenant.register(name) for name in ("park", "museum", "bridge", "abroad", "nowhere")}
    for name, place in (("park", PARK), ("museum", MUSEUM), ("bridge", BRIDGE), ("abroad", ABROAD)):
        assert await at(tenant, devices[name], place) == {"kept": True}
    return devices


async def test_sends_to_geofences_reach_exactly_who_is_inside(tenant: Tenant):
    devices = await town(tenant)
    park = await fence(tenant, "Park", circle(PARK, 425), tags=["Nature", "Tourism"])
    around = await fence(tenant, "Around", box(40.76, -73.99, 40.81, -73.94), tags=["tourism"])
    bridge = await fence(tenant, "Bridge", circle(BRIDGE, 300), tags=["Works"])
    off = await fence(tenant, "France", circle(ABROAD, 5_000), enabled=False, tags=["Tourism"])
    for each in (park, around, bridge, off):
        await settled(tenant, each["id"])

    async def to(**leaf):
        return await reached(tenant, {"type": "geofence", **leaf}, devices)

    assert await to(any=True) == {"park", "museum", "bridge"}
    assert await to(ids=[park["id"]]) == {"park"}
    assert await to(ids=[park["id"], bridge["id"], off["id"]]) == {"park", "bridge"}
    assert await to(tags=["TOURISM"]) == {"park", "museum"}
    assert await to(tags=["nature", "works"]) == {"park", "bridge"}
    assert await reached(tenant, {"type": "located", "is": True}, devices) == {"park", "museum", "bridge", "abroad"}
    assert await reached(tenant, {"type": "located", "is": False}, devices) == {"nowhere"}
    both = {
        "type": "and",
        "of": [
            {"type": "geofence", "tags": ["tourism"]},
            {"type": "not", "of": {"type": "geofence", "ids": [park["id"]]}},
        ],
    }
    assert await reached(tenant, both, devices) == {"museum"}

    # Who moves is elsewhere at once; an older report changes nothing; who is forgotten is nowhere.
    await at(tenant, devices["museum"], BRIDGE)
    assert await at(tenant, devices["museum"], MUSEUM, at=1) == {"kept": False}
    await tenant.server.ok("DELETE", f"/devices/{devices['park']['id']}/location")
    assert await to(any=True) == {"museum", "bridge"}
    assert await to(ids=[bridge["id"]]) == {"museum", "bridge"}
    assert await reached(tenant, {"type": "located", "is": False}, devices) == {"nowhere", "park"}


async def test_an_edit_moves_the_fence_over_the_known_locations(tenant: Tenant):
    devices = await town(tenant)
    made = await fence(tenant, "Somewhere", circle(PARK, 100))
    await settled(tenant, made["id"])
    for change, inside in (
        ({"bounds": circle(ABROAD, 100)}, {"abroad"}),
        ({"bounds": box(40, -75, 41, -73)}, {"park", "museum", "bridge"}),
        ({"enabled": False}, set()),
        ({"enabled": True, "bounds": circle(PARK, 600_000)}, {"park", "museum", "bridge"}),
    ):
        await tenant.server.ok("PATCH", f"/geofences/{made['id']}", change)
        assert (await settled(tenant, made["id"]))["active_users"] == len(inside)
        count = await tenant.server.ok("POST", "/audience/count", {"audience": {"type": "geofence", "any": True}})
        assert count["devices"] == len(inside)
        if inside:
            assert await reached(tenant, {"type": "geofence", "any": True}, devices) == inside
    await tenant.server.ok("DELETE", f"/geofences/{made['id']}")
    answer = await tenant.server(
        "POST", "/audience/count", json={"audience": {"type": "geofence", "ids": [made["id"]]}}
    )
    assert (answer.status, answer.pointers) == (400, ["/audience/ids/0"])


async def test_entering_and_leaving_send_what_the_fence_says(tenant: Tenant):
    walker = await tenant.register("walker")
    other = await tenant.register("other")
    made = await fence(
        tenant,
        "Park",
        circle(PARK, 425),
        on_enter={"message": {"title": "Welcome"}, "min_interval_s": 3600},
        on_exit={"message": {"title": "Bye"}, "min_interval_s": 0, "name": "farewell"},
    )
    for place in (BRIDGE, PARK, MUSEUM, PARK, MUSEUM):
        await at(tenant, walker, place)
    await at(tenant, other, BRIDGE)
    async with asyncio.timeout(PATIENCE_S):
        while tenant.arrived(walker["token"]) < 3:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert tenant.arrived(walker["token"]) == 3  # entered twice within the hour: one welcome; left twice: two farewells
    assert tenant.arrived(other["token"]) == 0
    listed = await tenant.server.ok("GET", "/notifications")
    assert sorted(each["name"] for each in listed["items"]) == ["Park: enter", "farewell", "farewell"]
    stats = await tenant.server.ok("GET", f"/geofences/{made['id']}/stats")
    assert (stats["activation_count"], stats["exit_count"], stats["active_users"]) == (2, 2, 0)
    assert (await tenant.server.ok("GET", f"/geofences/{made['id']}"))["activation_count"] == 2


async def test_a_device_key_speaks_for_its_own_install(tenant: Tenant):
    one, two = await tenant.register("one"), await tenant.register("two")
    body = {"latitude": 1.5, "longitude": 2.5, "accuracy": 8}
    path = f"/devices/{one['id']}/location"
    assert await tenant.device.ok("PUT", path, body, params={"install_id": "one"}) == {"kept": True}
    shown = await tenant.device.ok("GET", path, params={"install_id": "one"})
    assert (shown["latitude"], shown["longitude"], shown["accuracy"]) == (1.5, 2.5, 8)
    assert (await tenant.device("PUT", path, json=body)).status == 400
    for method in ("PUT", "GET", "DELETE"):
        options = {"json": body} if method == "PUT" else {}
        answer = await tenant.device(method, path, params={"install_id": "two"}, **options)
        assert answer.status == 404
    assert (await tenant.server("GET", f"/devices/{two['id']}/location")).status == 404
    await tenant.device.ok("DELETE", path, params={"install_id": "one"})
    assert (await tenant.server("GET", path)).status == 404
    assert (await tenant.device("POST", "/geofences", json={"name": "x", "bounds": {}})).status == 403


async def test_a_restart_keeps_who_is_where_and_sends_what_waited():
    async with running(places=PlacesConfig(crossing_retry_s=0.2)) as world:
        tenant = await world.tenant()
        devices = await town(tenant)
        made = await fence(tenant, "Park", circle(PARK, 425), on_enter={"message": {"title": "Welcome"}})
        await fence(tenant, "Wide", box(40, -75, 41, -73), tags=["wide"])
        await settled(tenant, made["id"])
        audiences = [
            {"type": "geofence", "any": True},
            {"type": "geofence", "ids": [made["id"]]},
            {"type": "geofence", "tags": ["WIDE"]},
            {"type": "located", "is": True},
        ]

        async def members():
            index = world.daemon.index
            return [index.resolve(tenant.app_id, convert(each, Audience), {Kind.APNS}).devices for each in audiences]

        # A crossing that was noted, and not sent before the daemon ended.
        world.daemon.store.crossings.take = nothing
        await at(tenant, devices["bridge"], PARK)
        before = await members()
        assert [len(each) for each in before] == [3, 2, 3, 4]
        await world.daemon.stop()
        world.daemon = Daemon(world.daemon.config, environ={})
        await world.daemon.start()
        assert await members() == before
        async with asyncio.timeout(PATIENCE_S):
            while not tenant.arrived(devices["bridge"]["token"]):
                await asyncio.sleep(0.02)
        # It stands in the fence already: saying so again is no crossing.
        await at(tenant, devices["bridge"], PARK)
        await asyncio.sleep(0.3)
        assert tenant.arrived(devices["bridge"]["token"]) == 1


async def nothing(*_):
    return []


async def test_the_command_line_makes_shows_and_switches_geofences(tenant: Tenant, tmp_path):
    device = await tenant.register("one")
    await at(tenant, device, PARK)
    file = tmp_path / "area.geojson"
    file.write_bytes(orjson.dumps(box(40, -75, 41, -73)))

    async def run(*arguments):
        return await pushd(tenant.server, "geofence", *map(str, arguments))

    area = await run("create", "Area", file, "--tag", "wide")
    where = ("--latitude", BRIDGE[0], "--longitude", BRIDGE[1], "--radius", 250)
    spot = await run("create", "Bridge", *where, "--enter", "Welcome", "--min-interval", 60, "--disabled")
    assert spot["on_enter"] == {"message": {"title": "Welcome"}, "min_interval_s": 60}
    assert [each["name"] for each in await run("list")] == ["Area", "Bridge"]
    await settled(tenant, area["id"])
    assert (await run("stats", area["id"]))["active_devices"] == 1
    assert (await run("disable", area["id"]))["enabled"] is False
    assert (await run("enable", spot["id"]))["enabled"] is True
    assert (await run("show", spot["id"]))["bounds"]["properties"] == {"radius": 250.0}
