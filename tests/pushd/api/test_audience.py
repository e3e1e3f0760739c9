import pytest
import pytest_asyncio

from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def count(call, audience, **more):
    return await call("POST", "/audience/count", json={"audience": audience, **more})


async def test_a_count_says_whom_a_send_would_reach(call):
    world = call.world
    device = await world.register("a", user_id="ada", tags=["x"])
    await world.register("a", kind="apns_voip")
    quiet = await world.register("b", token=None)
    answer = await count(call, {"type": "broadcast"})
    assert (answer.status, answer.body) == (
        200,
        {
            "devices": 1,
            "platforms": {"unknown": 1},
            "kinds": {"apns": 1},
            "environments": {"production": 1},
            "skipped": {"other_kind": 1, "no_token": 1},
            "errors": None,
        },
    )
    assert (await count(call, {"type": "broadcast"}, push_type="voip")).body["kinds"] == {"apns_voip": 1}
    named = {
        "type": "or",
        "of": [{"type": "devices", "ids": [device.id, quiet.id, 5_000_000]}, {"type": "users", "ids": ["ada", "bob"]}],
    }
    assert (await count(call, named)).body["errors"] == {
        "unknown": {"devices": [5_000_000], "users": ["bob"]},
        "unsubscribed": {"devices": [quiet.id]},
        "count": 3,
    }
    assert world.fanout.released == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/audience"),
        ({"audience": {"type": "everyone"}}, "/audience/type"),
        ({"audience": {"ids": [1]}}, "/audience/type"),
        ({"audience": {"type": "devices", "ids": []}}, "/audience/ids"),
        ({"audience": {"type": "devices", "ids": [0]}}, "/audience/ids/0"),
        ({"audience": {"type": "devices", "ids": [2**31]}}, "/audience/ids/0"),
        ({"audience": {"type": "devices", "ids": ["1"]}}, "/audience/ids/0"),
        ({"audience": {"type": "users", "ids": ["ok", ""]}}, "/audience/ids/1"),
        ({"audience": {"type": "users", "ids": ["a\0"]}}, "/audience/ids/0"),
        ({"audience": {"type": "tags"}}, "/audience"),
        ({"audience": {"type": "tags", "any": ["a"], "of": "dog"}}, "/audience/of"),
        ({"audience": {"type": "tags", "any": ["a"], "some": []}}, "/audience/some"),
        ({"audience": {"type": "and", "of": []}}, "/audience/of"),
        ({"audience": {"type": "not", "of": {"type": "tags"}}}, "/audience/of"),
        ({"audience": {"type": "broadcast"}, "push_type": "pigeon"}, "/push_type"),
        ({"audience": {"type": "broadcast"}, "message": {}}, "/message"),
    ],
)
async def test_each_fault_points_at_its_field(call, body, pointer):
    answer = await call("POST", "/audience/count", json=body)
    assert (answer.status, answer.body["code"], answer.pointers) == (400, "invalid_request", [pointer])


async def test_a_deep_audience_is_refused(call):
    audience = {"type": "broadcast"}
    for _ in range(20):
        audience = {"type": "not", "of": audience}
    assert (await count(call, audience)).status == 400


async def test_a_device_key_may_not_count(call):
    answer = await call("POST", "/audience/count", key="device", json={"audience": {"type": "broadcast"}})
    assert (answer.status, answer.body["code"]) == (403, "forbidden")


async def test_another_apps_ids_count_as_unknown(call):
    device = await call.world.register("mine", user_id="mine")
    for audience, name in (
        ({"type": "devices", "ids": [device.id]}, "devices"),
        ({"type": "users", "ids": ["mine"]}, "users"),
    ):
        body = (await call("POST", "/audience/count", key="other", json={"audience": audience})).body
        assert body["devices"] == 0
        assert body["errors"] == {"unknown": {name: audience["ids"]}, "count": 1}
