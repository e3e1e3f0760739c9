"""A device's life through the API: re-registered, moved to another user, retired and revived."""

import asyncio
import time

import pytest

from pushd.simulator.faults import Answer

OLD_ENOUGH_S = 1.1
"""A registration younger than a second may be younger than the death that Apple reports: it is kept (A-50)."""

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_device_that_registers_again_gets_pushes_on_its_new_token_only(tenant):
    old = await tenant.register("phone", user_id="ada", tags=["news"])
    new = await tenant.register("phone")
    assert (new["id"], new["user_id"], new["tags"]) == (old["id"], "ada", ["news"])
    await tenant.sent({"type": "users", "ids": ["ada"]})
    assert (tenant.arrived(old["token"]), tenant.arrived(new["token"])) == (0, 1)


async def test_a_device_that_moves_to_another_user_never_gets_the_first_ones_messages(tenant):
    phone = await tenant.register("phone", user_id="ada")
    await tenant.register("phone", user_id="bob", token=phone["token"])
    body = {"audience": {"type": "users", "ids": ["ada"]}, "message": {"title": "For Ada"}}
    refused = await tenant.server("POST", "/notifications", json=body)
    assert (refused.status, refused.body["targets"]["unsubscribed"]) == (400, {"users": ["ada"]})
    await tenant.sent({"type": "users", "ids": ["bob"]})
    assert tenant.arrived(phone["token"]) == 1


async def test_the_newest_install_of_a_token_wins_with_its_user(tenant):
    first = await tenant.register("sold phone", user_id="ada")
    second = await tenant.register("new owner", user_id="bob", token=first["token"])
    assert second["id"] != first["id"]
    shown = await tenant.server.ok("GET", f"/devices/{first['id']}")
    assert (shown["reachable"], shown["token_hint"]) == (False, "")
    view = await tenant.sent()
    assert view["counts"]["targeted"] == 1
    assert [row["device_id"] for row in await tenant.behind(view["id"])] == [second["id"]]
    assert tenant.arrived(first["token"]) == 1


async def test_a_dead_token_is_retired_once_and_revived_by_an_operator(tenant):
    dead = await tenant.register("dead")
    alive = await tenant.register("alive")
    since = time.time()
    await asyncio.sleep(OLD_ENOUGH_S)
    fault = tenant.fault(Answer(reason="Unregistered"), tokens=[dead["token"]])
    view = await tenant.sent()
    assert (view["counts"]["accepted"], view["counts"]["failed"]) == (1, 1)
    shown = await tenant.server.ok("GET", f"/devices/{dead['id']}")
    assert (shown["reachable"], shown["retired_reason"]) == (False, "Unregistered")
    assert shown["retired_at"] >= since - 1
    second = await tenant.sent()
    assert (second["counts"]["targeted"], tenant.arrived(alive["token"])) == (1, 2)
    counted = await tenant.server.ok("POST", "/audience/count", {"audience": {"type": "broadcast"}})
    assert (counted["devices"], counted["skipped"]) == (1, {"retired": 1})

    (group,) = (await tenant.server.ok("GET", f"/retirements?since={since - 1}"))["items"]
    assert (group["reason"], group["devices"]) == ("Unregistered", 1)
    tenant.simulator.faults.remove(fault)
    body = {"since": since - 1, "reason": "Unregistered", "credential_id": group["credential_id"]}
    assert await tenant.server.ok("POST", "/retirements/revive", body) == {"devices": 1}
    assert (await tenant.server.ok("GET", f"/devices/{dead['id']}"))["reachable"]
    third = await tenant.sent()
    assert third["counts"]["accepted"] == 2
    assert tenant.arrived(dead["token"]) == 1
    history = await tenant.server.ok("GET", f"/devices/{dead['id']}/history")
    assert [(row["notification_id"], row["outcome"]) for row in history["items"]] == [
        (third["id"], "accepted"),
        (view["id"], "unregistered"),
    ]


async def test_a_retired_device_that_registers_again_is_alive(tenant):
    await tenant.register("alive")
    dead = await tenant.register("dead")
    await asyncio.sleep(OLD_ENOUGH_S)
    fault = tenant.fault(Answer(reason="Unregistered"), tokens=[dead["token"]])
    await tenant.sent()
    assert not (await tenant.server.ok("GET", f"/devices/{dead['id']}"))["reachable"]
    tenant.simulator.faults.remove(fault)
    again = await tenant.register("dead", token=dead["token"])
    assert (again["id"], again["reachable"], again["retired_at"]) == (dead["id"], True, None)
    await tenant.sent({"type": "devices", "ids": [dead["id"]]})
    assert tenant.arrived(dead["token"]) == 1


async def test_a50_a_token_that_was_registered_after_its_death_is_kept(tenant):
    await tenant.register("alive")
    reborn = await tenant.register("reborn")
    hour_ago = int((time.time() - 3600) * 1000)
    tenant.fault(Answer(reason="Unregistered", timestamp=hour_ago), tokens=[reborn["token"]])
    view = await tenant.sent()
    assert view["counts"]["failed"] == 1
    shown = await tenant.server.ok("GET", f"/devices/{reborn['id']}")
    assert (shown["reachable"], shown["retired_at"]) == (True, None)


async def test_an_opted_out_or_deleted_device_gets_nothing(tenant):
    out = await tenant.register("out")
    gone = await tenant.register("gone")
    here = await tenant.register("here")
    await tenant.device.ok("PATCH", f"/devices/{out['id']}?install_id=out", {"push_enabled": False})
    assert (await tenant.device("DELETE", f"/devices/{gone['id']}?install_id=gone")).status == 204
    await tenant.sent()
    assert [tenant.arrived(phone["token"]) for phone in (out, gone, here)] == [0, 0, 1]
    await tenant.device.ok("PATCH", f"/devices/{out['id']}?install_id=out", {"push_enabled": True})
    await tenant.sent()
    assert [tenant.arrived(phone["token"]) for phone in (out, gone, here)] == [1, 0, 2]


async def test_a_device_key_registers_and_reports_and_never_sends(tenant):
    body = {"install_id": "mine", "bundle": "com.example.orchard", "token": tenant.token()}
    mine = await tenant.device.ok("PUT", "/devices", body)
    for method, path, sent in (
        ("POST", "/notifications", {"audience": {"type": "broadcast"}, "message": {"title": "Spam"}}),
        ("POST", "/audience/count", {"audience": {"type": "broadcast"}}),
        ("GET", "/devices", None),
        ("GET", f"/devices/{mine['id']}/history", None),
        ("GET", "/users", None),
        ("POST", "/retirements/revive", {"since": 0}),
    ):
        answer = await tenant.device(method, path, json=sent)
        assert (answer.status, answer.code) == (403, "forbidden"), path
    other = await tenant.register("other")
    stolen = await tenant.device("GET", f"/devices/{other['id']}?install_id=mine")
    absent = await tenant.device("GET", "/devices/2000000000?install_id=mine")
    assert (stolen.status, stolen.body) == (absent.status, absent.body) == (404, absent.body)
