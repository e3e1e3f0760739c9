"""Templates over HTTP: made, changed, shown, previewed and sent; absent for the keys of other apps."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.pushd.api.native import Native, native

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def test_round_trip(call: Native):
    await call.world.register("a", user_id="ada", locale="de-AT")
    body = {
        "name": "Delivery",
        "uid": "delivery",
        "message": {"title": "On its way", "body": '{{ user.name | default: "you" }}, {{ item }} left'},
        "locales": {"de": {"body": "{{ item }} ist unterwegs"}},
        "audience": {"type": "users", "ids": ["ada"]},
        "device_templates": {"ios": {"name": "Delivery", "sound": "bell"}},
    }
    made = await call("POST", "/templates", json=body)
    assert made.status == 201, made.body
    assert {name: made.body[name] for name in body} == body
    assert made.body["required_tags"] == ["item"]
    assert made.body["user_attributes"] == ["name"]
    assert (await call("GET", "/templates/delivery")).body == made.body
    assert (await call("GET", "/templates", params={"name": "Delivery"})).body["items"] == [made.body]
    assert (await call("POST", "/templates", json=body)).status == 409

    changed = await call("PATCH", "/templates/delivery", json={"audience": None, "message": {"body": "{{ item }}"}})
    assert (changed.status, changed.body["version"], changed.body["audience"]) == (200, 2, None)
    assert (await call("GET", "/templates/delivery", params={"version": 1})).body == made.body
    listed = await call("GET", "/templates/delivery/versions", params={"limit": 1})
    assert [each["version"] for each in listed.body["items"]] == [2]
    rest = await call("GET", "/templates/delivery/versions", params={"cursor": listed.body["next"]})
    assert rest.body["items"] == [made.body]

    shown = await call("POST", "/templates/delivery/preview", json={"user": "ada", "content_tags": {"item": "It"}})
    assert (shown.body["locale"], shown.body["message"]["body"]) == ("de", "It ist unterwegs")
    assert shown.body["platforms"]["apns"]["payload"]["aps"]["alert"]["body"] == "It ist unterwegs"

    missing = await call(
        "POST", "/notifications", json={"audience": {"type": "broadcast"}, "template": {"uid": "delivery"}}
    )
    assert (missing.status, missing.pointers) == (400, ["/content_tags/item"])
    whole = {"audience": {"type": "broadcast"}, "template": {"uid": "delivery"}, "content_tags": {"item": "It"}}
    assert (await call("POST", "/notifications", json=whole)).status == 202
    sent = {"audience": {"type": "users", "ids": ["ada"]}, "content_tags": {"item": "It"}}
    first = await call("POST", "/templates/delivery/send", json=sent, headers={"Idempotency-Key": "k"})
    again = await call("POST", "/templates/delivery/send", json=sent, headers={"Idempotency-Key": "k"})
    assert (first.status, first.body["targeted"]) == (202, 1)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")

    assert (await call("DELETE", "/templates/delivery")).status == 204
    assert (await call("GET", "/templates/delivery")).status == 404
    assert (await call("POST", "/notifications", json=whole)).status == 404


async def test_templates_of_another_app_are_not_there(call: Native):
    await call("POST", "/templates", json={"name": "mine", "uid": "mine", "message": {"body": "a"}})
    absent = (await call("GET", "/templates/none", key="other")).body
    for method, path, body in (
        ("GET", "/templates/mine", None),
        ("GET", "/templates/mine/versions", None),
        ("PATCH", "/templates/mine", {"ttl_s": 1}),
        ("POST", "/templates/mine/preview", {}),
        ("POST", "/templates/mine/send", {"audience": {"type": "broadcast"}}),
        ("DELETE", "/templates/mine", None),
        ("POST", "/notifications", {"audience": {"type": "broadcast"}, "template": {"uid": "mine"}}),
    ):
        answer = await call(method, path, key="other", json=body)
        assert (answer.status, answer.body["type"]) == (404, absent["type"]), (method, path, answer.body)
    assert (await call("GET", "/templates", key="other")).body["items"] == []
    assert (await call("GET", "/templates/mine", key="device")).status == 403


async def test_faults_point_at_their_texts(call: Native):
    bad = {"name": "bad", "message": {"title": "{{ a", "data": {"x/y": "{% bad %}"}}}
    answer = await call("POST", "/templates", json=bad)
    assert (answer.status, sorted(answer.pointers)) == (400, ["/message/data/x~1y", "/message/title"])


async def test_in_app_messages_take_templates(call: Native):
    content = {"title": "{{ title }}", "blocks": [{"text": "{{ text | default: 'none' }}"}]}
    await call("POST", "/templates", json={"name": "in", "uid": "in", "kind": "in_app", "content": content})
    await call(
        "POST", "/templates", json={"name": "own", "uid": "own", "kind": "in_app", "content": {"a": "{{ user.id }}"}}
    )
    await call.world.register("b", user_id="bob", in_app_consent=True)
    body = {
        "audience": {"type": "users", "ids": ["bob"]},
        "template": {"uid": "in"},
        "content": {"blocks": None, "more": 1},
        "presented_when": "immediately",
        "ttl": {"days": 1},
    }
    missing = await call("POST", "/in-app-messages", json=body)
    assert (missing.status, missing.pointers) == (400, ["/content_tags/title"]), missing.body
    sent = await call("POST", "/in-app-messages", json={**body, "content_tags": {"title": "T"}})
    assert sent.status == 202, sent.body
    shown = await call("GET", f"/in-app-messages/{sent.body['id']}")
    assert shown.body["content"] == {"title": "T", "more": 1}
    own = await call("POST", "/in-app-messages", json={**body, "template": {"uid": "own"}})
    assert own.status == 202, own.body
    inbox = (await call("GET", "/installs/b/inbox")).body["items"]
    assert [each["content"] for each in inbox] == [{"a": "bob", "more": 1}, {"title": "T", "more": 1}]
    none = await call("POST", "/in-app-messages", json={**body, "template": {"uid": "none"}})
    assert none.status == 404
