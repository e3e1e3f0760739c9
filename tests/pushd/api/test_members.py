"""Samples and exports over HTTP: who is in an audience, a few of them or all."""

import orjson
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.commands import devices, members
from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = 1_203
EVERYONE = {"type": "broadcast"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        rows = [
            {"install_id": f"i{at}", "bundle": "example.app", "token": f"{at:064x}", "tags": ["even"] * (at % 2 == 0)}
            | ({"user_id": f"u{at % 100}"} if at < 300 else {})
            for at in range(COUNT)
        ]
        status, lines = await made.lines("/devices/bulk", b"\n".join(map(orjson.dumps, rows)))
        assert (status, lines[-1]["accepted"]) == (200, COUNT)
        await made.world.register("quiet", token=None, user_id="quiet")
        yield made


async def exported(call, audience, key="server", **more):
    body = orjson.dumps({"audience": audience, **more})
    headers = {"Authorization": f"Bearer {call.keys[key]}", "Content-Type": "application/json"}
    async with call.session.post(call.base + "/audience/export", headers=headers, data=body) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        return [orjson.loads(line) async for line in answer.content]


async def test_a_sample_can_be_drawn_again(call):
    body = {"audience": {"type": "tags", "any": ["even"]}, "size": 7}
    first = await call("POST", "/audience/sample", json=body)
    assert (first.status, first.body["devices"], first.body["errors"]) == (200, 602, None)
    assert all(item["tags"] == ["even"] for item in first.body["items"])
    ids = [item["id"] for item in first.body["items"]]
    assert len(ids) == 7
    assert ids == sorted(ids)
    again = await call("POST", "/audience/sample", json=body | {"seed": first.body["seed"]})
    assert again.body == first.body
    others = [await call("POST", "/audience/sample", json=body | {"seed": seed}) for seed in range(5)]
    assert len({tuple(item["id"] for item in each.body["items"]) for each in others}) == 5


async def test_a_sample_of_few_is_all_of_them(call):
    audience = {"type": "users", "ids": ["u7", "never"]}
    body = (await call("POST", "/audience/sample", json={"audience": audience, "size": 100})).body
    assert {item["install_id"] for item in body["items"]} == {"i7", "i107", "i207"}
    assert body["errors"] == {"unknown": {"users": ["never"]}, "count": 1}
    nobody = await call("POST", "/audience/sample", json={"audience": {"type": "tags", "any": ["none"]}, "seed": 1})
    assert nobody.body == {"seed": 1, "devices": 0, "items": [], "errors": None}


async def test_an_export_has_a_line_for_every_device(call):
    *lines, summary = await exported(call, EVERYONE)
    assert summary == {"type": "summary", "members": COUNT, "exported": COUNT}
    ids = [line["device"]["id"] for line in lines]
    assert ids == sorted(ids)
    assert {line["device"]["install_id"] for line in lines} == {f"i{at}" for at in range(COUNT)}
    shown = (await call("GET", f"/devices/{ids[0]}")).body
    assert lines[0] == {"type": "device", "device": shown}


async def test_an_export_of_users(call):
    *lines, summary = await exported(call, {"type": "tags", "any": ["even"]}, members="users")
    assert summary == {"type": "summary", "members": 50, "exported": 50}
    assert {line["user"]["external_id"] for line in lines} == {f"u{at}" for at in range(0, 100, 2)}
    assert await exported(call, {"type": "not", "of": EVERYONE}, members="users") == [
        {"type": "summary", "members": 0, "exported": 0}
    ]


async def test_who_goes_meanwhile_is_left_out_and_counted(call):
    device = await call.world.register("leaving", tags=["leaving"])
    context, app_id = call.world.context, call.world.app.id
    lines = members._device_lines(context, app_id, Devices([device.id, 2_000_000]))  # the moment between
    await devices.delete(context, app_id, device.id)
    assert [each async for each in lines] == [members.ExportSummary(members=2, exported=0)]


async def test_another_app_exports_its_own(call):
    assert await exported(call, EVERYONE, key="other") == [{"type": "summary", "members": 0, "exported": 0}]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/audience/sample", {"audience": EVERYONE, "size": 0}, "/size"),
        ("/audience/sample", {"audience": EVERYONE, "size": 101}, "/size"),
        ("/audience/sample", {"audience": EVERYONE, "seed": -1}, "/seed"),
        ("/audience/export", {"audience": EVERYONE, "members": "tokens"}, "/members"),
        ("/audience/export", {"audience": {"type": "users", "ids": ["\0"]}}, "/audience/ids/0"),
        (
            "/audience/export",
            {"audience": {"type": "outcome", "notification_id": 9, "is": "opened"}},
            "/audience/notification_id",
        ),
    ],
)
async def test_each_fault_points_at_its_field(call, path, body, pointer):
    answer = await call("POST", path, json=body)
    assert (answer.status, answer.pointers) == (400, [pointer])


@pytest.mark.parametrize("path", ["/audience/sample", "/audience/export"])
async def test_a_device_key_learns_nothing_of_others(call, path):
    assert (await call("POST", path, key="device", json={"audience": EVERYONE})).status == 403


def nested(depth):
    audience = EVERYONE
    for _ in range(depth - 1):
        audience = {"type": "not", "of": audience}
    return audience


def wide(leaves):
    rows = [{"type": "tags", "any": ["none"]}] * leaves
    return {"type": "or", "of": [{"type": "or", "of": rows[at : at + 100]} for at in range(0, leaves, 100)]}


@pytest.mark.parametrize("path", ["/audience/count", "/audience/sample", "/audience/export", "/notifications"])
@pytest.mark.parametrize("make", [nested, wide])
async def test_depth_and_leaves_are_bounded_wherever_an_audience_stands(call, path, make):
    most = 16 if make is nested else 1_000
    more = {"message": {"title": "x"}} if path == "/notifications" else {}
    allowed = await call("POST", path, json={"audience": make(most), **more})
    assert allowed.status in (200, 202), allowed.body
    refused = await call("POST", path, json={"audience": make(most + 1), **more})
    assert (refused.status, refused.body["code"]) == (400, "invalid_request")
    assert refused.pointers[0].startswith("/audience/of")
