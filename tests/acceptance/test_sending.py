"""A REST send becomes pushes: what arrives, and what the API tells of it."""

import asyncio

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pushd.simulator.faults import Answer, Slow
from tests.acceptance.world import BUNDLE

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_push_arrives_as_it_was_asked_for(tenant):
    device = await tenant.register("phone", user_id="ada")
    message = {"title": "Harvest", "body": "Apples", "badge": 0, "data": {"orchard": 7}, "thread": "t"}
    view = await tenant.sent({"type": "users", "ids": ["ada"]}, message, ttl_s=600, collapse_id="apples")
    assert (view["state"], view["counts"]["accepted"], view["counts"]["targeted"]) == ("done", 1, 1)
    push = tenant.simulator.record.last(device["token"])
    headers = dict(push.headers)
    assert headers["apns-topic"] == BUNDLE
    assert headers["apns-push-type"] == "alert"
    assert headers["apns-priority"] == "10"
    assert headers["apns-collapse-id"] == "apples"
    assert int(headers["apns-expiration"]) == pytest.approx(view["created_at"] + 600, abs=2)
    payload = orjson.loads(push.payload)
    assert payload["aps"]["alert"] == {"title": "Harvest", "body": "Apples"}
    assert payload["aps"]["badge"] == 0
    assert payload["data"] == {"orchard": 7}


async def test_broadcast_tags_users_and_devices_reach_whom_they_name(tenant):
    phones = {
        name: await tenant.register(name, user_id=f"user-{name}", tags=tags)
        for name, tags in (("a", ["news"]), ("b", ["news", "muted"]), ("c", []))
    }
    await tenant.server.ok("PUT", "/users/user-c", {"tags": ["News"]})
    for audience, names in (
        ({"type": "broadcast"}, "abc"),
        ({"type": "tags", "any": ["NEWS"]}, "abc"),
        ({"type": "tags", "any": ["news"], "of": "device"}, "ab"),
        ({"type": "tags", "all": ["news"], "exclude": ["muted"]}, "ac"),
        ({"type": "users", "ids": ["user-b"]}, "b"),
        ({"type": "devices", "ids": [phones["c"]["id"], phones["a"]["id"]]}, "ac"),
        ({"type": "not", "of": {"type": "users", "ids": ["user-b"]}}, "ac"),
    ):
        before = {name: tenant.arrived(phone["token"]) for name, phone in phones.items()}
        counted = await tenant.server.ok("POST", "/audience/count", {"audience": audience})
        view = await tenant.sent(audience)
        got = "".join(name for name, phone in phones.items() if tenant.arrived(phone["token"]) > before[name])
        assert got == names
        assert counted["devices"] == view["counts"]["accepted"] == len(names)
        assert len(await tenant.behind(view["id"], outcome="accepted")) == len(names)


async def test_a_broadcast_never_rings(tenant):
    alert = await tenant.register("phone")
    voip = await tenant.register("phone", kind="apns_voip")
    await tenant.sent()
    assert (tenant.arrived(alert["token"]), tenant.arrived(voip["token"])) == (1, 0)
    view = await tenant.sent(message={"push_type": "voip", "data": {"call": 1}})
    assert view["counts"]["targeted"] == 1
    assert (tenant.arrived(alert["token"]), tenant.arrived(voip["token"])) == (1, 1)
    assert dict(tenant.simulator.record.last(voip["token"]).headers)["apns-topic"] == f"{BUNDLE}.voip"


async def test_the_apps_default_title_stands_in(tenant):
    device = await tenant.register("phone")
    await tenant.sent(message={"body": "only a body"})
    payload = orjson.loads(tenant.simulator.record.last(device["token"]).payload)
    assert payload["aps"]["alert"]["title"] == "Orchard"


async def test_a_send_to_nobody_is_done_at_once(tenant):
    view = await tenant.sent({"type": "tags", "any": ["nobody"]})
    assert (view["state"], view["counts"]["targeted"]) == ("done", 0)


async def test_unknown_and_unsubscribed_targets_are_reported(tenant):
    here = await tenant.register("here", user_id="ada")
    quiet = await tenant.register("quiet", user_id="bob")
    await tenant.device.ok("PATCH", f"/devices/{quiet['id']}?install_id=quiet", {"push_enabled": False})
    sent = await tenant.send({"type": "users", "ids": ["ada", "bob", "eve"]})
    assert sent["targeted"] == 1
    assert sent["errors"] == {"unknown": {"users": ["eve"]}, "unsubscribed": {"users": ["bob"]}, "count": 2}
    await tenant.finished(sent["id"])
    assert (tenant.arrived(here["token"]), tenant.arrived(quiet["token"])) == (1, 0)
    body = {"audience": {"type": "users", "ids": ["bob", "eve"]}, "message": {"title": "Hello"}}
    refused = await tenant.server("POST", "/notifications", json=body)
    assert (refused.status, refused.code) == (400, "unknown_targets")
    assert refused.body["targets"] == {
        "unknown": {"users": ["eve"]},
        "unsubscribed": {"users": ["bob"]},
        "count": 2,
    }


async def test_each_outcome_has_its_count_its_reason_and_its_devices(tenant):
    fates = {"Unregistered": 2, "DeviceTokenNotForTopic": 3, "PayloadEmpty": 1}
    tokens = await tenant.register_many(90)
    expected: dict[str, set[str]] = {}
    at = 0
    for reason, count in fates.items():
        expected[reason] = set(tokens[at : at + count])
        tenant.fault(Answer(reason=reason), tokens=tokens[at : at + count])
        at += count
    expected["accepted"] = set(tokens[at:])
    view = await tenant.sent()
    assert view["counts"]["targeted"] == 90
    assert view["counts"]["accepted"] == 90 - at
    assert view["counts"]["failed"] == at
    told = {row["reason"]: row["count"] for row in view["reasons"]}
    assert sorted(told.values()) == sorted(len(each) for each in expected.values())
    devices = (await tenant.server.ok("GET", "/devices?limit=1000"))["items"]
    by_id = {device["id"]: device["install_id"] for device in devices}
    for row in view["reasons"]:
        behind = await tenant.behind(view["id"], reason=row["reason"], limit=7)
        assert len(behind) == row["count"]
        assert {by_id[each["device_id"]] for each in behind} in expected.values()
        history = await tenant.server.ok("GET", f"/devices/{behind[0]['device_id']}/history")
        assert [(each["notification_id"], each["reason"]) for each in history["items"]] == [(view["id"], row["reason"])]
    failed = await tenant.behind(view["id"], outcome="failed", limit=4)
    assert {by_id[each["device_id"]] for each in failed} == set(tokens[:at])
    assert await tenant.behind(view["id"], outcome="pending") == []


async def test_the_ledger_adds_up_whenever_it_is_looked_at(tenant):
    await tenant.register_many(600)
    tenant.fault(Slow(latency_ms=30, jitter_ms=150))
    sent = await tenant.send()
    seen = []
    async with asyncio.timeout(60):
        while True:
            view = await tenant.show(sent["id"])  # asserts that it adds up
            seen.append(view["counts"]["pending"])
            if view["finished_at"] is not None:
                break
    assert any(pending > 0 for pending in seen)
    assert seen == sorted(seen, reverse=True)
    assert view["counts"]["accepted"] == 600


async def test_the_same_idempotency_key_sends_once(tenant):
    device = await tenant.register("phone")
    body = {"audience": {"type": "broadcast"}, "message": {"title": "Once"}}
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(tenant.server("POST", "/notifications", json=body, headers=headers) for _ in range(5))
    )
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["id"] for answer in answers}) == 1
    await tenant.finished(answers[0].body["id"])
    again = await tenant.server("POST", "/notifications", json=body, headers=headers)
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (202, answers[0].body, "true")
    mismatch = await tenant.server("POST", "/notifications", json=body | {"name": "x"}, headers=headers)
    assert (mismatch.status, mismatch.code) == (422, "idempotency_mismatch")
    assert tenant.arrived(device["token"]) == 1


async def test_what_has_no_credential_fails_and_says_so(world):
    tenant = await world.tenant(credential=False)
    device = await tenant.register("phone")
    view = await tenant.sent()
    assert view["counts"]["failed"] == 1
    assert [(row["reason"], row["outcome"]) for row in view["reasons"]] == [("no_credential", "misconfigured")]
    assert tenant.arrived(device["token"]) == 0
    await tenant.server.ok("POST", "/credentials", world.credential())
    assert (await tenant.sent())["counts"]["accepted"] == 1


async def test_what_a_refused_credential_holds_goes_out_once_it_is_replaced(world):
    tenant = await world.tenant(credential=False)
    other_key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    wrong = world.credential()
    wrong["secret"] |= {"private_key": other_key.decode()}
    made = await tenant.server.ok("POST", "/credentials", wrong)
    device = await tenant.register("phone")
    sent = await tenant.send()
    async with asyncio.timeout(60):
        while (shown := await tenant.server.ok("GET", f"/credentials/{made['id']}"))["state"] != "paused":
            await asyncio.sleep(0.02)
    assert shown["paused_reason"] == "InvalidProviderToken"
    assert (await tenant.show(sent["id"]))["counts"]["pending"] == 1
    right = {"secret": world.credential()["secret"]}
    await tenant.server.ok("PUT", f"/credentials/{made['id']}", right)
    assert (await tenant.finished(sent["id"]))["counts"]["accepted"] == 1
    assert tenant.arrived(device["token"]) == 1
