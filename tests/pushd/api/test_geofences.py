"""Geofences over HTTP: what is taken, given back untouched, changed, and refused with a pointer to what is wrong."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from pushd.config import Config, PlacesConfig
from tests import fences
from tests.pushd.api.native import Native, native

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


CIRCLE = {**fences.CIRCLE, "properties": {"radius": 425, "note": {"any": ["thing", 1.50, None]}}}
POLYGON = fences.POLYGON


async def made(call: Native, **fields):
    answer = await call("POST", "/geofences", json={"name": "Park", "bounds": CIRCLE, **fields})
    assert answer.status == 201, answer.body
    return answer.body


async def test_what_is_made_is_given_back_untouched(call: Native):
    for bounds in (CIRCLE, POLYGON):
        body = await made(call, bounds=bounds, tags=["Tourism", "Nature"])
        assert body["bounds"] == bounds
        assert list(body["bounds"]) == list(bounds)
        assert 0 < body["id"] < 2**31
        assert (body["enabled"], body["tags"], body["on_enter"], body["on_exit"]) == (
            True,
            ["Tourism", "Nature"],
            None,
            None,
        )
        assert (body["activation_count"], body["active_users"]) == (0, 0)
        assert body["created_at"] == body["updated_at"]
        shown = await call("GET", f"/geofences/{body['id']}")
        assert shown.status == 200
        assert {**shown.body, "evaluating": True} == {**body, "evaluating": True}
        stats = await call("GET", f"/geofences/{body['id']}/stats")
        assert stats.body == {
            "activation_count": 0,
            "exit_count": 0,
            "last_activated_at": None,
            "active_users": 0,
            "active_devices": 0,
        }


async def test_they_are_listed_in_pages_changed_and_deleted(call: Native):
    ids = [(await made(call, name=f"Fence {number}"))["id"] for number in range(3)]
    page = await call("GET", "/geofences", params={"limit": 1000})
    assert [each["id"] for each in page.body["items"]][-3:] == ids
    first = await call("GET", "/geofences", params={"limit": 2})
    second = await call("GET", "/geofences", params={"limit": 2, "cursor": first.body["next"]})
    assert second.body["items"][0]["id"] > first.body["items"][1]["id"]
    trigger = {"message": {"title": "Hello"}, "min_interval_s": 60}
    changed = await call("PATCH", f"/geofences/{ids[0]}", json={"name": "New", "on_enter": trigger, "tags": ["a"]})
    assert changed.status == 200
    assert (changed.body["name"], changed.body["on_enter"], changed.body["tags"]) == ("New", trigger, ["a"])
    assert changed.body["bounds"] == CIRCLE
    assert changed.body["updated_at"] > changed.body["created_at"]
    cleared = await call("PATCH", f"/geofences/{ids[0]}", json={"on_enter": None, "enabled": False, "bounds": POLYGON})
    assert (cleared.body["on_enter"], cleared.body["enabled"], cleared.body["bounds"]) == (None, False, POLYGON)
    assert (await call("DELETE", f"/geofences/{ids[0]}")).status == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/stats")):
        assert (await call(method, f"/geofences/{ids[0]}{path}")).status == 404
    assert (await call("PATCH", f"/geofences/{ids[0]}", json={"name": "x"})).status == 404


async def test_other_apps_and_device_keys_see_nothing_of_it(call: Native):
    fence_id = (await made(call))["id"]
    for method in ("GET", "DELETE"):
        assert (await call(method, f"/geofences/{fence_id}", key="other")).status == 404
        assert (await call(method, f"/geofences/{fence_id}", key="device")).status == 403
    assert (await call("PATCH", f"/geofences/{fence_id}", key="other", json={"name": "x"})).status == 404
    other = await call(
        "POST", "/audience/count", key="other", json={"audience": {"type": "geofence", "ids": [fence_id]}}
    )
    assert (other.status, other.pointers) == (400, ["/audience/ids/0"])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"bounds": None}, "/bounds"),
        ({"bounds": {}}, "/bounds/type"),
        ({"bounds": {**CIRCLE, "properties": {}}}, "/bounds/properties/radius"),
        ({"bounds": {**CIRCLE, "properties": {"radius": 2e6}}}, "/bounds/properties/radius"),
        ({"bounds": {**POLYGON, "properties": {}}}, "/bounds/properties/orderAdded"),
        ({"bounds": {**CIRCLE, "properties": {"radius": 5, "text": "x\0"}}}, "/bounds/properties/text"),
        ({"bounds": {**CIRCLE, "properties": {"radius": 5, "text": "x" * 600_000}}}, "/bounds"),
        ({"tags": ["One", "two", "ONE"]}, "/tags/2"),
        ({"tags": [""]}, "/tags/0"),
        ({"enabled": 1}, "/enabled"),
        ({"on_enter": {}}, "/on_enter/message"),
        ({"on_enter": {"message": {}}}, "/on_enter/message"),
        ({"on_exit": {"message": {"title": "x"}, "audience": {"type": "broadcast"}}}, "/on_exit/audience"),
        ({"on_exit": {"message": {"title": "x"}, "min_interval_s": -1}}, "/on_exit/min_interval_s"),
        ({"on_exit": {"message": {"title": "x" * 5000}}}, "/on_exit/message"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_a_fault_points_at_its_field(call: Native, fields, pointer):
    answer = await call("POST", "/geofences", json={"name": "Park", "bounds": CIRCLE, **fields})
    assert answer.status == 400, answer.body
    assert answer.pointers[0].startswith(pointer), answer.body
    fence_id = (await made(call))["id"]
    changed = await call("PATCH", f"/geofences/{fence_id}", json=fields)
    assert (changed.status, changed.pointers[0]) == (400, answer.pointers[0])


async def test_an_app_has_no_more_than_it_may(call: Native):
    config = call.world.context.config
    count = len((await call("GET", "/geofences", params={"limit": 1000})).body["items"])
    object.__setattr__(call.world.context, "config", Config(places=PlacesConfig(geofences_per_app_max=count + 2)))
    try:
        body = {"name": "Park", "bounds": CIRCLE}
        answers = await asyncio.gather(*(call("POST", "/geofences", json=body) for _ in range(4)))
    finally:
        object.__setattr__(call.world.context, "config", config)
    assert sorted(answer.status for answer in answers) == [201, 201, 409, 409]


async def test_the_bounds_of_an_app_have_a_length_together(call: Native):
    context, config = call.world.context, call.world.context.config
    made = await call("POST", "/geofences", json={"name": "Park", "bounds": CIRCLE})
    path = f"/geofences/{made.body['id']}"
    most = await context.store.geofences.bounds_bytes(call.world.app.id, 0)
    longer = {**CIRCLE, "properties": {**CIRCLE["properties"], "note": "x" * 50}}
    object.__setattr__(context, "config", Config(places=PlacesConfig(bounds_bytes_per_app_max=most)))
    try:
        assert (await call("POST", "/geofences", json={"name": "More", "bounds": CIRCLE})).status == 409
        assert (await call("PATCH", path, json={"bounds": longer})).status == 409
        assert (await call("PATCH", path, json={"bounds": CIRCLE, "name": "Yard"})).status == 200
        assert (await call("POST", "/geofences", key="other", json={"name": "Theirs", "bounds": CIRCLE})).status == 201
    finally:
        object.__setattr__(context, "config", config)


@pytest.mark.parametrize(
    ("audience", "pointer"),
    [
        ({"type": "geofence"}, "/audience"),
        ({"type": "geofence", "any": True, "tags": ["x"]}, "/audience"),
        ({"type": "geofence", "any": False}, "/audience/any"),
        ({"type": "geofence", "ids": [0]}, "/audience/ids/0"),
        ({"type": "geofence", "ids": [2**31 - 1]}, "/audience/ids/0"),
        ({"type": "not", "of": {"type": "geofence", "ids": [2**31 - 1]}}, "/audience/of/ids/0"),
        ({"type": "located"}, "/audience/is"),
    ],
)
async def test_an_audience_of_places_says_what_it_means(call: Native, audience, pointer):
    answer = await call("POST", "/audience/count", json={"audience": audience})
    assert (answer.status, answer.pointers) == (400, [pointer])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"latitude": 1}, "/longitude"),
        ({"latitude": 90.1, "longitude": 0}, "/latitude"),
        ({"latitude": 0, "longitude": -180.5}, "/longitude"),
        ({"latitude": "1", "longitude": 0}, "/latitude"),
        ({"latitude": 0, "longitude": 0, "accuracy": -1}, "/accuracy"),
        ({"latitude": 0, "longitude": 0, "at": 9e9}, "/at"),
        ({"latitude": 0, "longitude": 0, "speed": 9}, "/speed"),
    ],
)
async def test_a_location_that_is_none_is_refused(call: Native, body, pointer):
    device = await call.world.register("somebody")
    answer = await call("PUT", f"/devices/{device.id}/location", json=body)
    assert (answer.status, answer.pointers) == (400, [pointer])
    assert (await call("GET", f"/devices/{device.id}/location")).status == 404


async def test_where_somebody_is_stands_in_no_log(call: Native, capsys):
    device = await call.world.register("walker")
    body = {"latitude": 12.3456789, "longitude": 98.7654321, "accuracy": 7}
    assert (await call("PUT", f"/devices/{device.id}/location", json=body)).status == 200
    assert (await call("PUT", f"/devices/{device.id}/location", json={**body, "accuracy": "x"})).status == 400
    assert (await call("DELETE", f"/devices/{device.id}/location")).status == 204
    text = "".join(capsys.readouterr())
    assert "12.34" not in text
    assert "98.76" not in text
