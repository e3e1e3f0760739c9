import pytest
import pytest_asyncio

from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "0123456789abcdef" * 4
BODY = {"install_id": "install", "bundle": "example.app", "token": TOKEN}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def registered(call, install_id="install", key="server", **more):
    body = {"install_id": install_id, "bundle": "example.app", "token": call.world.token(), **more}
    answer = await call("PUT", "/devices", key=key, json=body)
    assert answer.status == 200, answer.body
    return answer.body


async def test_a_device_is_registered_read_changed_and_deleted(call):
    made = await registered(call, "cycle", user_id="ada", tags=["news"], platform="ios", time_zone="Europe/Berlin")
    path = f"/devices/{made['id']}"
    assert "token" not in made
    assert (made["reachable"], made["user_id"], made["tags"], made["platform"]) == (True, "ada", ["news"], "ios")
    assert (await call("GET", path)).body == made
    changed = await call("PATCH", path, json={"push_enabled": False, "user_id": None, "tags": []})
    assert (changed.status, changed.body["reachable"], changed.body["user_id"], changed.body["tags"]) == (
        200,
        False,
        None,
        [],
    )
    assert (await call("GET", f"{path}/history")).body == {"items": []}
    assert (await call("DELETE", path)).status == 204
    assert (await call("GET", path)).status == 404
    assert (await call("DELETE", path)).status == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"install_id": ""}, "/install_id"),
        ({"install_id": "x" * 256}, "/install_id"),
        ({"install_id": None}, "/install_id"),
        ({"token": "xyz"}, "/token"),
        ({"token": ""}, "/token"),
        ({"bundle": ""}, "/bundle"),
        ({"bundle": "a b"}, "/bundle"),
        ({"kind": "pigeon"}, "/kind"),
        ({"environment": "staging"}, "/environment"),
        ({"platform": "toaster"}, "/platform"),
        ({"tags": ["a", ""]}, "/tags/1"),
        ({"tags": ["a"] * 1001}, "/tags"),
        ({"tags": None}, "/tags"),
        ({"user_id": ""}, "/user_id"),
        ({"user_id": "a\0"}, "/user_id"),
        ({"locale": "!!"}, "/locale"),
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"push_enabled": "yes"}, "/push_enabled"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_each_fault_of_a_registration_points_at_its_field(call, change, pointer):
    answer = await call("PUT", "/devices", json=BODY | change)
    assert (answer.status, answer.body["code"], answer.pointers) == (400, "invalid_request", [pointer])
    assert TOKEN not in str(answer.body)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"token": TOKEN}, "/token"),
        ({"install_id": "x"}, "/install_id"),
        ({"time_zone": "nowhere"}, "/time_zone"),
        ({"push_enabled": None}, "/push_enabled"),
        ({"tags": [7]}, "/tags/0"),
    ],
)
async def test_each_fault_of_a_change_points_at_its_field(call, change, pointer):
    made = await registered(call, "changing")
    answer = await call("PATCH", f"/devices/{made['id']}", json=change)
    assert (answer.status, answer.pointers) == (400, [pointer])


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=x", "cursor"),
        ("user=ada", "user"),
        ("user_id=", "user_id"),
    ],
)
async def test_each_fault_of_a_parameter_names_it(call, query, pointer):
    answer = await call("GET", f"/devices?{query}")
    assert (answer.status, answer.pointers) == (400, [pointer])


async def test_pages_cover_everything_once(call):
    ids = [(await registered(call, f"page-{n}", user_id="pager"))["id"] for n in range(5)]
    seen, cursor = [], None
    while True:
        parameters = {"limit": 2, "user_id": "pager"} | ({"cursor": cursor} if cursor else {})
        page = (await call("GET", "/devices", params=parameters)).body
        seen += [device["id"] for device in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ids
    assert [each["id"] for each in (await call("GET", "/devices?install_id=page-3")).body["items"]] == [ids[3]]


async def test_a_device_key_touches_the_install_that_it_names(call):
    made = await registered(call, "mine", key="device")
    path = f"/devices/{made['id']}"
    for method, body in (("GET", None), ("PATCH", {"tags": ["a"]}), ("DELETE", None)):
        unnamed = await call(method, path, key="device", json=body)
        assert (unnamed.status, unnamed.pointers) == (400, ["install_id"])
        wrong = await call(method, f"{path}?install_id=other", key="device", json=body)
        absent = await call(method, "/devices/99999999?install_id=mine", key="device", json=body)
        assert wrong.status == absent.status == 404
        assert wrong.body == absent.body
    named = f"{path}?install_id=mine"
    assert (await call("GET", named, key="device")).body == made
    assert (await call("PATCH", named, key="device", json={"tags": ["a"]})).body["tags"] == ["a"]
    assert (await call("DELETE", named, key="device")).status == 204


async def test_a_device_key_neither_lists_nor_loads(call):
    for method, path in (("GET", "/devices"), ("GET", "/devices/1/history"), ("POST", "/devices/bulk")):
        answer = await call(method, path, key="device")
        assert (answer.status, answer.body["code"]) == (403, "forbidden")


async def test_a_stream_registers_and_rejects_by_line(call):
    rows = [{"install_id": f"s{n}", "bundle": "b", "token": call.world.token(), "tags": ["stream"]} for n in range(4)]
    rows[2]["token"] = "zz"
    text = "\n".join([*(str(row).replace("'", '"') for row in rows), "{", '{"install_id":"x","wrong":1}'])
    status, lines = await call.lines("/devices/bulk?ids=true", text)
    assert status == 200
    assert [(line["line"], line["pointer"]) for line in lines if line["type"] == "reject"] == [
        (3, "/token"),
        (5, ""),
        (6, "/wrong"),
    ]
    progress, summary = lines[-2:]
    assert (progress["type"], progress["accepted"], progress["rejected"], len(progress["ids"])) == ("progress", 3, 3, 3)
    assert (summary["type"], summary["lines"], summary["accepted"], summary["rejected"]) == ("summary", 6, 3, 3)
    audience = {"audience": {"type": "tags", "all": ["stream"]}}
    assert (await call("POST", "/audience/count", json=audience)).body["devices"] == 3


async def test_a_long_stream_is_in_the_index_chunk_by_chunk(call):
    token = call.world.token

    async def stream():
        for first in range(0, 12_000, 500):
            yield b"".join(
                b'{"install_id":"l%d","bundle":"b","token":"%s","tags":["long"]}\n' % (number, token().encode())
                for number in range(first, first + 500)
            )

    status, lines = await call.lines("/devices/bulk", stream())
    assert status == 200
    assert [line["accepted"] for line in lines] == [4_000, 8_000, 12_000, 12_000]
    audience = {"audience": {"type": "tags", "all": ["long"]}}
    assert (await call("POST", "/audience/count", json=audience)).body["devices"] == 12_000


async def test_a_stream_of_another_type_is_refused(call):
    answer = await call("POST", "/devices/bulk", data=b"a,b", headers={"Content-Type": "text/csv"})
    assert answer.status == 415


async def test_another_apps_devices_are_as_absent_as_none(call):
    made = await registered(call, "secret")
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"tags": ["x"]}),
        ("DELETE", "", None),
        ("GET", "/history", None),
    ):
        theirs = await call(method, f"/devices/{made['id']}{suffix}", key="other", json=body)
        never = await call(method, f"/devices/88888888{suffix}", key="other", json=body)
        assert theirs.status == never.status == 404
        assert theirs.body == never.body
    assert (await call("GET", "/devices", key="other")).body["items"] == []
    assert (await call("GET", f"/devices/{made['id']}")).body == made


async def test_an_admin_names_the_app(call):
    made = await registered(call, "by-admin", key="admin")
    assert (await call("GET", f"/devices/{made['id']}", key="admin")).body == made
