"""Live Activities over HTTP: started, updated and ended on one device, and for all subscribers of a channel at once."""

import asyncio
import json
import sys

import pytest

from pushd.model.device import Environment
from pushd.simulator.faults import Answer, Fault
from tests.acceptance.world import BUNDLE

pytestmark = pytest.mark.asyncio(loop_scope="package")

PATH = "/live-activity-channels"
MANAGED = f"/1/apps/{BUNDLE}/channels"
LISTED = f"/1/apps/{BUNDLE}/all-channels"


def update(event="update", **fields):
    return {"push_type": "channel", "live_activity": {"event": event, "content_state": {"score": "1:0"}, **fields}}


def on(*channels):
    return {"type": "devices", "ids": [each["id"] for each in channels]}


async def make(tenant, **fields):
    return await tenant.server.ok("POST", PATH, {"bundle": BUNDLE, **fields})


def broadcasts(simulator, channel):
    wanted = channel["channel_id"].encode().hex()
    return [push for push in simulator.record.pushes() if push.token == wanted]


async def test_a38_one_push_updates_all_subscribers_until_the_channel_is_deleted(world):
    tenant = await world.tenant()
    channel = await make(tenant)
    assert channel | {"bundle": BUNDLE, "environment": "production", "reachable": True, "at_apple": True} == channel
    view = await tenant.sent(on(channel), update())
    assert (view["counts"]["targeted"], view["counts"]["accepted"]) == (1, 1)
    (push,) = broadcasts(world.simulator, channel)
    headers = dict(push.headers)
    assert headers[":path"] == f"/4/broadcasts/apps/{BUNDLE}"
    assert headers["apns-channel-id"] == channel["channel_id"]
    assert (headers["apns-push-type"], headers["apns-expiration"]) == ("liveactivity", "0")
    assert "apns-topic" not in headers
    assert "apns-collapse-id" not in headers
    assert b'"event":"update"' in push.payload

    assert (await tenant.sent(on(channel), update("end", dismissal_date=2_000_000_000)))["counts"]["accepted"] == 1
    assert (await tenant.server("DELETE", f"{PATH}/{channel['id']}")).status == 204
    assert world.simulator.channels.ids(Environment.PRODUCTION, BUNDLE).count(channel["channel_id"]) == 0
    body = {"audience": on(channel), "message": update()}
    gone = await tenant.server("POST", "/notifications", json=body)
    assert (gone.status, gone.code) == (400, "unknown_targets")
    assert (await tenant.server("GET", f"{PATH}/{channel['id']}")).status == 404
    assert (await tenant.server("DELETE", f"{PATH}/{channel['id']}")).status == 404
    assert len(broadcasts(world.simulator, channel)) == 2


async def test_a_channel_that_apple_lost_is_reported_and_retired(world):
    tenant = await world.tenant()
    kept, lost = await make(tenant), await make(tenant)
    world.simulator.channels.delete(Environment.PRODUCTION, BUNDLE, lost["channel_id"])
    listed = (await tenant.server.ok("GET", PATH))["items"]
    assert {each["id"]: each["at_apple"] for each in listed} == {kept["id"]: True, lost["id"]: False}
    assert (await tenant.server.ok("GET", f"{PATH}/{lost['id']}"))["at_apple"] is False

    await asyncio.sleep(1.1)  # a registration as new as the answer would be kept: clocks differ
    view = await tenant.sent(on(kept, lost), update())
    assert (view["counts"]["accepted"], view["counts"]["failed"]) == (1, 1)
    (failed,) = await tenant.behind(view["id"], outcome="failed")
    assert (failed["device_id"], failed["reason"]) == (lost["id"], "ChannelNotRegistered")
    async with asyncio.timeout(60):
        while (await tenant.server.ok("GET", f"{PATH}/{lost['id']}"))["reachable"]:
            await asyncio.sleep(0.02)
    assert (await tenant.server.ok("GET", f"{PATH}/{kept['id']}"))["reachable"] is True
    assert (await tenant.server("DELETE", f"{PATH}/{lost['id']}")).status == 204
    assert [each["id"] for each in (await tenant.server.ok("GET", PATH))["items"]] == [kept["id"]]


async def test_a34_only_a_channel_that_stores_takes_messages_that_last(world):
    tenant = await world.tenant()
    lasting, fleeting = await make(tenant, stores=True), await make(tenant)
    assert (await tenant.server.ok("GET", f"{PATH}/{lasting['id']}"))["stores"] is True
    view = await tenant.sent(on(lasting, fleeting), update(), ttl_s=600)
    assert (view["counts"]["accepted"], view["counts"]["failed"]) == (1, 1)
    (failed,) = await tenant.behind(view["id"], outcome="failed")
    assert (failed["device_id"], failed["reason"]) == (fleeting["id"], "BadExpirationDate")


async def test_a_broadcast_that_apple_could_not_take_is_sent_again_and_still_not_stored(world):
    tenant = await world.tenant()
    channel = await make(tenant)
    away = Answer(reason="Service Unavailable", retry_after="0")
    tenant.fault(away, tokens=[channel["channel_id"]], topic=BUNDLE, count=2)
    assert (await tenant.sent(on(channel), update()))["counts"]["accepted"] == 1
    pushes = broadcasts(world.simulator, channel)
    assert [push.status for push in pushes] == [503, 503, 200]
    assert {dict(push.headers)["apns-expiration"] for push in pushes} == {"0"}
    assert len({push.apns_id for push in pushes}) == 1


async def test_a_creation_that_is_repeated_with_its_key_makes_one_channel(world):
    tenant = await world.tenant()
    before = len(world.simulator.channels.ids(Environment.PRODUCTION, BUNDLE))
    body, headers = {"bundle": BUNDLE}, {"Idempotency-Key": "match-7"}
    first = await tenant.server("POST", PATH, json=body, headers=headers)
    again = await tenant.server("POST", PATH, json=body, headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert again.body["id"] == first.body["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await tenant.server("POST", PATH, json=body | {"stores": True}, headers=headers)
    assert (other.status, other.code) == (422, "idempotency_mismatch")
    headers = {"Idempotency-Key": "match-8"}
    many = await asyncio.gather(*(tenant.server("POST", PATH, json=body, headers=headers) for _ in range(5)))
    assert len({answer.body["id"] for answer in many}) == 1
    assert len(world.simulator.channels.ids(Environment.PRODUCTION, BUNDLE)) == before + 2


async def test_a_channel_of_apples_is_taken_over(world):
    tenant = await world.tenant()
    channel_id = world.simulator.channels.create(Environment.PRODUCTION, BUNDLE, stores=True)
    channel = await make(tenant, channel_id=channel_id)
    assert (channel["channel_id"], channel["stores"]) == (channel_id, True)
    assert (await make(tenant, channel_id=channel_id))["id"] == channel["id"]
    assert (await tenant.sent(on(channel), update()))["counts"]["accepted"] == 1
    unknown = await tenant.server("POST", PATH, json={"bundle": BUNDLE, "channel_id": "AAAA"})
    assert (unknown.status, unknown.code) == (404, "not_found")


async def test_lists_are_paged_and_tenants_apart(world):
    tenant, other = await world.tenant(), await world.tenant()
    made = [await make(tenant) for _ in range(3)]
    first = await tenant.server.ok("GET", PATH, params={"limit": 2})
    second = await tenant.server.ok("GET", PATH, params={"limit": 2, "cursor": first["next"]})
    assert [each["id"] for each in first["items"] + second["items"]] == [each["id"] for each in made]
    assert (await tenant.server.ok("GET", PATH, params={"environment": "sandbox"}))["items"] == []
    assert (await other.server.ok("GET", PATH))["items"] == []
    for method in ("GET", "DELETE"):
        assert (await other.server(method, f"{PATH}/{made[0]['id']}")).status == 404
    assert (await tenant.device("GET", PATH)).status == 403


async def test_what_apple_refuses_is_said_and_nothing_is_kept(world):
    tenant, bare = await world.tenant(), await world.tenant(credential=False)
    simulator = world.simulator
    body = {"bundle": BUNDLE}
    full = simulator.faults.add(Fault(action=Answer(reason="CannotCreateChannelConfig"), topic=MANAGED))
    answer = await tenant.server("POST", PATH, json=body)
    assert (answer.status, answer.code, answer.body["reason"], answer.body["limit"]) == (
        409,
        "conflict",
        "CannotCreateChannelConfig",
        10_000,
    )
    simulator.faults.remove(full)
    away = simulator.faults.add(Fault(action=Answer(reason="Service Unavailable", retry_after="9"), topic=MANAGED))
    answer = await tenant.server("POST", PATH, json=body)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "9")
    simulator.faults.remove(away)
    simulator.channels.not_enabled.add("com.example.plain")
    answer = await tenant.server("POST", PATH, json={"bundle": "com.example.plain"})
    assert (answer.status, answer.body["reason"]) == (409, "FeatureNotEnabled")
    answer = await bare.server("POST", PATH, json=body)
    assert (answer.status, answer.code) == (409, "conflict")
    answer = await tenant.server("POST", PATH, json={"bundle": "a/b"})
    assert (answer.status, answer.pointers) == (400, ["/bundle"])
    assert (await tenant.server.ok("GET", PATH))["items"] == []

    channel = await make(tenant)
    silent = simulator.faults.add(Fault(action=Answer(status=502, html=True), topic=LISTED))
    (shown,) = (await tenant.server.ok("GET", PATH))["items"]
    assert (shown["id"], shown["at_apple"]) == (channel["id"], None)
    simulator.faults.remove(silent)
    gone = simulator.faults.add(Fault(action=Answer(status=502, html=True), topic=MANAGED))
    assert (await tenant.server("DELETE", f"{PATH}/{channel['id']}")).status == 503
    assert (await tenant.server.ok("GET", f"{PATH}/{channel['id']}"))["at_apple"] is None
    simulator.faults.remove(gone)
    assert (await tenant.server.ok("GET", f"{PATH}/{channel['id']}"))["at_apple"] is True


async def test_a_live_activity_is_started_updated_and_ended_on_a_device(world):
    tenant = await world.tenant()
    channel = await make(tenant)
    start = await tenant.register("phone", kind="apns_liveactivity")
    begin = {
        "push_type": "liveactivity",
        "title": "Kick-off",
        "body": "It begins",
        "live_activity": {
            "event": "start",
            "content_state": {"score": "0:0"},
            "attributes_type": "Match",
            "attributes": {"teams": ["a", "b"]},
            "input_channel": channel["channel_id"],
        },
    }
    device = {"type": "devices", "ids": [start["id"]]}
    assert (await tenant.sent(device, begin))["counts"]["accepted"] == 1
    push = world.simulator.record.last(start["token"])
    headers = dict(push.headers)
    assert headers["apns-topic"] == f"{BUNDLE}.push-type.liveactivity"
    assert headers["apns-push-type"] == "liveactivity"
    assert f'"input-push-channel":"{channel["channel_id"]}"'.encode() in push.payload
    begin["live_activity"] = begin["live_activity"] | {"input_token": True}
    refused = await tenant.server("POST", "/notifications", json={"audience": device, "message": begin})
    assert (refused.status, refused.pointers) == (400, ["/message/live_activity/input_token"])

    running = await tenant.register("activity", kind="apns_liveactivity", token="ab" * 80)
    activity = {"type": "devices", "ids": [running["id"]]}
    for event in ("update", "end"):
        message = update(event) | {"push_type": "liveactivity"}
        assert (await tenant.sent(activity, message))["counts"]["accepted"] == 1
        assert f'"event":"{event}"'.encode() in world.simulator.record.last(running["token"]).payload


async def test_a_channel_takes_updates_and_ends_only(world):
    tenant = await world.tenant()
    channel = await make(tenant)
    started = update("start", attributes_type="A", attributes={}) | {"title": "t", "body": "b"}
    refused = await tenant.server("POST", "/notifications", json={"audience": on(channel), "message": started})
    assert (refused.status, refused.pointers) == (400, ["/message/live_activity/event"])
    big = update() | {"live_activity": {"event": "update", "content_state": {"x": "y" * 5_100}}}
    refused = await tenant.server("POST", "/notifications", json={"audience": on(channel), "message": big})
    assert (refused.status, refused.pointers) == (400, ["/message/live_activity"])
    view = await tenant.sent({"type": "broadcast"}, {"title": "Hello"})
    assert view["counts"]["targeted"] == 0  # an alert is not for channels


async def test_the_command_line_makes_shows_and_deletes_channels(world, tmp_path):
    tenant = await world.tenant()
    key_file = tmp_path / "key"
    key_file.write_text(world.admin_key)
    key_file.chmod(0o600)

    async def run(*words):
        where = (
            "--app",
            str(tenant.app_id),
            "--key-file",
            str(key_file),
            "--url",
            world.base.removesuffix("/pushd/v1"),
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pushd", "live-activity-channel", *words, *where),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors.decode()
        return json.loads(output) if output else None

    made = await run("create", BUNDLE, "--stores", "--json")
    assert (await run("list", "--bundle", BUNDLE, "--json")) == [made]
    assert (await run("inspect", str(made["id"]), "--json"))["at_apple"] is True
    await run("delete", str(made["id"]))
    assert (await tenant.server.ok("GET", PATH))["items"] == []
