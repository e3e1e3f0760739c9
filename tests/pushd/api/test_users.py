import json

import pytest
import pytest_asyncio

from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def test_a_user_is_written_read_and_deleted(call):
    body = {"email": "ada@example.com", "tags": ["Beta"], "attributes": {"plan": "pro", "age": 36}}
    made = await call("PUT", "/users/ada%2Flovelace", json=body)
    assert made.status == 200
    assert {name: made.body[name] for name in body} == body
    assert made.body["external_id"] == "ada/lovelace"
    assert (await call("GET", "/users/ada%2Flovelace")).body == made.body
    changed = (await call("PUT", "/users/ada%2Flovelace", json={"email": None})).body
    assert (changed["id"], changed["email"], changed["tags"]) == (made.body["id"], None, ["Beta"])
    assert (await call("DELETE", "/users/ada%2Flovelace")).status == 204
    assert (await call("GET", "/users/ada%2Flovelace")).status == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"email": 7}, "/email"),
        ({"email": "x" * 255}, "/email"),
        ({"tags": [""]}, "/tags/0"),
        ({"tags": None}, "/tags"),
        ({"attributes": []}, "/attributes"),
        ({"attributes": {"a": {"b": "\0"}}}, "/attributes/a/b"),
        ({"quiet_hours": {"from_minute": 1440, "to_minute": 0}}, "/quiet_hours/from_minute"),
        ({"quiet_hours": {"from_minute": 60, "to_minute": 60}}, "/quiet_hours/to_minute"),
        ({"quiet_hours": {"from_minute": 60}}, "/quiet_hours/to_minute"),
        ({"external_id": "x"}, "/external_id"),
        ([], ""),
    ],
)
async def test_each_fault_points_at_its_field(call, body, pointer):
    answer = await call("PUT", "/users/bob", json=body)
    assert (answer.status, answer.pointers) == (400, [pointer])


async def test_an_id_that_cannot_be_is_not_there(call):
    assert (await call("GET", f"/users/{'x' * 256}")).status == 404
    assert (await call("PUT", f"/users/{'x' * 256}", json={})).status == 404
    assert (await call("GET", "/users/a%00b")).status == 404
    assert (await call("DELETE", "/users/a%00b")).status == 404


async def test_pages_cover_everything_once(call):
    for number in range(5):
        assert (await call("PUT", f"/users/page-{number}", json={})).status == 200
    seen, cursor = [], None
    while cursor is not None or not seen:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await call("GET", "/users", params=parameters)).body
        seen += [user["external_id"] for user in page["items"]]
        cursor = page["next"]
    assert len(seen) == len(set(seen))
    assert {f"page-{number}" for number in range(5)} <= set(seen)


async def test_a_stream_writes_and_rejects_by_line(call):
    text = '{"external_id":"s1","tags":["s"]}\n{"tags":[]}\n\n{"external_id":"s2"}\n{"external_id":"s\\u00003"}\n'
    status, lines = await call.lines("/users/bulk?ids=true", text)
    assert status == 200
    assert [(line["line"], line["pointer"]) for line in lines if line["type"] == "reject"] == [
        (2, "/external_id"),
        (5, "/external_id"),
    ]
    assert (lines[-1]["type"], lines[-1]["accepted"], lines[-1]["rejected"]) == ("summary", 2, 2)
    assert lines[-2]["ids"] == [(await call("GET", f"/users/{name}")).body["id"] for name in ("s1", "s2")]


async def test_quiet_hours_are_written_singly_and_in_bulk(call):
    night = {"from_minute": 1320, "to_minute": 420}
    assert (await call("PUT", "/users/owl", json={"quiet_hours": night})).body["quiet_hours"] == night
    assert (await call("PUT", "/users/owl", json={"tags": ["x"]})).body["quiet_hours"] == night
    bad = {"from_minute": 0, "to_minute": 0}
    people = [{"external_id": "owl", "quiet_hours": None}, {"external_id": "lark", "quiet_hours": bad}]
    text = "".join(json.dumps(each) + "\n" for each in people)
    _, lines = await call.lines("/users/bulk", text)
    assert [(line["line"], line["pointer"]) for line in lines if line["type"] == "reject"] == [
        (2, "/quiet_hours/to_minute")
    ]
    assert (await call("GET", "/users/owl")).body["quiet_hours"] is None


async def test_a_device_key_has_no_business_with_users(call):
    for method, path in (
        ("GET", "/users"),
        ("GET", "/users/ada"),
        ("PUT", "/users/ada"),
        ("DELETE", "/users/ada"),
        ("POST", "/users/bulk"),
    ):
        assert (await call(method, path, key="device")).status == 403


async def test_another_apps_users_are_as_absent_as_none(call):
    made = (await call("PUT", "/users/eve", json={"email": "eve@example.com"})).body
    for method in ("GET", "DELETE"):
        theirs = await call(method, "/users/eve", key="other")
        never = await call(method, "/users/never", key="other")
        assert theirs.status == never.status == 404
        assert theirs.body == never.body
    assert (await call("GET", "/users", key="other")).body["items"] == []
    mine = (await call("PUT", "/users/eve", key="other", json={})).body
    assert mine["id"] != made["id"]
    assert mine["email"] is None
    assert (await call("GET", "/users/eve")).body == made
