"""Templates through the whole daemon: each device gets its own, over a restart and whatever became of the template."""

from __future__ import annotations

import orjson
import pytest
import pytest_asyncio

from pushd.config import FanoutConfig
from pushd.simulator.faults import Slow
from tests.acceptance.test_restarting import restart
from tests.acceptance.world import pushd, running

pytestmark = pytest.mark.asyncio(loop_scope="package")

TEMPLATE = {
    "name": "Harvest",
    "uid": "harvest",
    "message": {
        "title": 'For {{ user.first_name | default: "you" }}',
        "body": "{{ item }} in {{ place }}, {{ user.points }} points",
        "data": {"deep": ["{{ user.id }}"]},
        "overrides": {"apns": {"mine": "{{ place }}"}},
    },
    "locales": {"pt": {"title": "Para {{ user.first_name }}"}},
}
TAGS = {"item": 'The "first" apples', "place": "Kyiv"}


@pytest_asyncio.fixture(loop_scope="package")
async def narrow():
    async with running(fanout=FanoutConfig(unsettled_rows_max=100, batch_rows_max=50)) as world:
        yield world


def told(tenant, token: str):
    """What a device was told last."""
    return orjson.loads(tenant.simulator.record.last(token).payload)


async def test_each_device_gets_its_own_over_a_restart(narrow):
    tenant = await narrow.tenant()
    tokens = {}
    for number in range(4):
        device = await tenant.register(f"named-{number}", user_id=f"u{number}", locale="pt-BR" if number % 2 else "de")
        attributes = {"first_name": f'N"{number}"', "points": number} if number else {}
        await tenant.server.ok("PUT", f"/users/u{number}", {"attributes": attributes})
        tokens[number] = device["token"]
    many = await tenant.register_many(500)
    await tenant.server.ok("POST", "/templates", TEMPLATE)
    tenant.fault(Slow(latency_ms=100))
    more = {"template": {"uid": "harvest"}, "content_tags": TAGS, "user_data": {"u3": {"place": "Lviv"}}}
    body = {"audience": {"type": "broadcast"}, **more}
    sent = await tenant.server.ok("POST", "/notifications", body)
    await tenant.until(sent["id"], lambda view: view["counts"]["accepted"] > 0)
    await tenant.server.ok("DELETE", "/templates/harvest")

    await restart(narrow)

    narrow.simulator.faults.clear()
    view = await tenant.finished(sent["id"])
    assert (view["state"], view["counts"]["accepted"]) == ("done", 504)
    assert [token for token in [*many, *tokens.values()] if tenant.arrived(token) != 1] == []
    titles = ["For you", 'Para N"1"', 'For N"2"', 'Para N"3"']
    for number, token in tokens.items():
        payload = told(tenant, token)
        place, points = "Lviv" if number == 3 else "Kyiv", number or ""
        body = f'The "first" apples in {place}, {points} points'
        assert payload["aps"]["alert"] == {"title": titles[number], "body": body}
        assert (payload["data"], payload["mine"]) == ({"deep": [f"u{number}"]}, place)
    assert told(tenant, many[0])["aps"]["alert"]["title"] == "For you"


async def test_rows_that_are_too_large_end_alone(tenant):
    small, large = [await tenant.register(name, user_id=name) for name in ("small", "large")]
    message = {"title": "a", "body": "{{ text }}"}
    own = {"small": {"text": "fits"}, "large": {"text": "x" * 5_000}}
    body = {
        "audience": {"type": "users", "ids": ["small", "large"]},
        "message": message,
        "liquid": True,
        "user_data": own,
    }
    sent = await tenant.server.ok("POST", "/notifications", body)
    view = await tenant.finished(sent["id"])
    assert (view["counts"]["accepted"], view["counts"]["failed"]) == (1, 1)
    assert [reason["reason"] for reason in view["reasons"] if reason["outcome"] == "rejected"] == ["payload_too_large"]
    assert told(tenant, small["token"])["aps"]["alert"]["body"] == "fits"
    assert tenant.arrived(large["token"]) == 0


async def test_badges_are_numbers_of_each_device(tenant):
    tokens = {}
    for name, unread in (("ada", 4), ("bob", 0), ("eve", None)):
        tokens[name] = (await tenant.register(name, user_id=name))["token"]
        await tenant.server.ok("PUT", f"/users/{name}", {"attributes": {} if unread is None else {"unread": unread}})
    message = {"title": "a", "badge_increment": 1}
    body = {"audience": {"type": "broadcast"}, "message": message, "badge_from": "user.unread"}
    sent = await tenant.server.ok("POST", "/notifications", body)
    await tenant.finished(sent["id"])
    payloads = {name: told(tenant, token) for name, token in tokens.items()}
    assert {name: payload["aps"].get("badge") for name, payload in payloads.items()} == {
        "ada": 5,
        "bob": 1,
        "eve": None,
    }
    increments = {name: payload["pushd"].get("badge_increment") for name, payload in payloads.items()}
    assert increments == {"ada": None, "bob": None, "eve": 1}


async def test_the_command_line_keeps_templates(tenant, tmp_path):
    file = tmp_path / "template.json"
    file.write_bytes(orjson.dumps(TEMPLATE))
    made = await pushd(tenant.server, "template", "create", str(file))
    assert made["required_tags"] == ["item", "place"]
    file.write_bytes(orjson.dumps({"audience": {"type": "broadcast"}}))
    assert (await pushd(tenant.server, "template", "change", "harvest", str(file)))["version"] == 2
    tags = ("--tag", "item=Apples", "--tag", "place=Kyiv")
    shown = await pushd(tenant.server, "template", "preview", "harvest", "--locale", "pt-PT", *tags)
    assert shown["message"]["title"] == "Para "
    device = await tenant.register("phone")
    sent = await pushd(tenant.server, "template", "send", "harvest", *tags)
    await tenant.finished(sent["id"])
    assert told(tenant, device["token"])["mine"] == "Kyiv"
    assert [each["version"] for each in await pushd(tenant.server, "template", "versions", "harvest")] == [2, 1]
    (listed,) = await pushd(tenant.server, "template", "list")
    assert (listed["uid"], listed["version"]) == ("harvest", 2)
