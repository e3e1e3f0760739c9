"""Badges that pushd counts, through the whole daemon: each device has its own count, whatever becomes of the daemon."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from pushd.simulator.faults import Answer
from tests.acceptance.test_schedules import AT_ONCE_S, at, wall
from tests.acceptance.world import pushd

pytestmark = pytest.mark.asyncio(loop_scope="package")

COUNTED = {"message": {"title": "One more"}, "badge_from": "device.badge"}


def shown(tenant, *devices):
    """The badge that each device was sent last."""
    return [orjson.loads(tenant.simulator.record.last(each["token"]).payload)["aps"].get("badge") for each in devices]


async def counted(tenant, device) -> int:
    return (await tenant.server.ok("GET", f"/devices/{device['id']}"))["badge"]


async def test_every_device_has_its_own_count(tenant):
    ada, bob = await tenant.register("ada", user_id="ada"), await tenant.register("bob", user_id="bob")
    for number in (1, 2, 3):
        await tenant.sent(**COUNTED)
        assert shown(tenant, ada, bob) == [number, number]
    assert (await tenant.server("PUT", f"/devices/{bob['id']}/badge", json={"count": 0})).status == 204
    await tenant.sent({"type": "users", "ids": ["ada"]}, **COUNTED)
    await tenant.sent(**COUNTED)
    assert shown(tenant, ada, bob) == [5, 1]
    await tenant.sent(**COUNTED | {"message": {"title": "Read", "badge_increment": -3}})
    assert shown(tenant, ada, bob) == [2, 0]
    assert [await counted(tenant, each) for each in (ada, bob)] == [2, 0]
    await tenant.sent(**COUNTED | {"message": {"title": "Ten", "badge_increment": 10}})
    assert shown(tenant, ada, bob) == [12, 10]
    assert "badge_increment" not in tenant.simulator.record.last(ada["token"]).payload.decode()
    many = await tenant.register_many(200)
    await tenant.sent(**COUNTED)
    payloads = [orjson.loads(tenant.simulator.record.last(token).payload) for token in many]
    assert ({each["aps"]["badge"] for each in payloads}, shown(tenant, ada, bob)) == ({1}, [13, 11])


async def test_counts_are_read_before_what_counts_is_accepted(tenant, world, monkeypatch):
    await tenant.register("ada")
    badges = world.daemon.store.badges
    known, apply = [], badges.apply

    async def seen(written):
        known.extend(app_id in badges._known for app_id in written)
        await apply(written)

    monkeypatch.setattr(badges, "apply", seen)
    await tenant.sent(**COUNTED)
    badges.forget(tenant.app_id)
    array = {"notifications": [{"audience": {"type": "broadcast"}, **COUNTED}] * 2}
    await tenant.server.ok("POST", "/notifications/batch", array)
    assert known == [True, True]


async def test_whatever_goes_out_counts_when_it_does_and_once(tenant):
    phone = await tenant.register("phone", user_id="ada", tags=["a"])
    ada = {"audience": {"type": "users", "ids": ["ada"]}, **COUNTED}
    headers = {"Idempotency-Key": "once"}
    for _ in range(2):
        answer = await tenant.server("POST", "/notifications", json=ada, headers=headers)
        await tenant.finished(answer.body["id"])
    assert (answer.headers["Idempotency-Replayed"], await counted(tenant, phone)) == ("true", 1)
    array = {"notifications": [ada, ada | {"message": {"title": "Two", "badge_increment": 2}}, ada]}
    for replayed in (False, True):
        answer = await tenant.server("POST", "/notifications/batch", json=array, headers={"Idempotency-Key": "array"})
        assert ("Idempotency-Replayed" in answer.headers) is replayed
        for each in answer.body["results"]:
            await tenant.finished(each["id"])
    assert await counted(tenant, phone) == 5
    scheduled = [
        await tenant.send(schedule=at(AT_ONCE_S), **COUNTED),
        await tenant.send(schedule=wall(1), **COUNTED),
    ]
    for each in scheduled:
        await tenant.until(each["id"], lambda view: view["counts"]["accepted"] == 1)
    assert (await counted(tenant, phone), tenant.arrived(phone["token"])) == (7, 6)


async def test_who_gets_nothing_is_not_counted(tenant):
    await tenant.admin.ok(
        "PATCH", f"/apps/{tenant.app_id}", {"settings": {"caps": {"news": {"messages": 1, "window_s": 3_600}}}}
    )
    phone = await tenant.register("phone", user_id="ada")
    minute = int(time.time()) // 60 % 1440
    now = {"from_minute": (minute - 60) % 1440, "to_minute": (minute + 120) % 1440}
    quiet = await tenant.register("quiet", user_id="owl", time_zone="UTC")
    await tenant.server.ok("PUT", "/users/owl", {"quiet_hours": now})
    for _ in range(2):
        await tenant.sent(category="news", quiet_hours="drop", **COUNTED)
    assert [await counted(tenant, each) for each in (phone, quiet)] == [1, 0]
    await tenant.sent(transactional=True, **COUNTED)
    assert shown(tenant, phone, quiet) == [2, 1]


async def test_a_retry_shows_the_count_as_of_then(tenant):
    phone = await tenant.register("phone", user_id="ada")
    fault = tenant.fault(Answer(status=503, reason="ServiceUnavailable"), tokens=[phone["token"]])
    first = await tenant.send(**COUNTED)
    async with asyncio.timeout(20):
        while tenant.simulator.record.count(phone["token"], status=503) < 1:
            await asyncio.sleep(0.02)
    second = await tenant.send(**COUNTED)
    tenant.simulator.faults.remove(fault)
    for each in (first, second):
        assert (await tenant.finished(each["id"]))["counts"]["accepted"] == 1
    assert (tenant.arrived(phone["token"]), shown(tenant, phone)) == (2, [2])
    assert await counted(tenant, phone) == 2


async def test_opening_begins_anew_where_the_app_does_not_say_otherwise(tenant):
    phone, tablet = [await tenant.register(name, user_id="ada") for name in ("phone", "tablet")]
    sent = await tenant.sent(**COUNTED)

    async def report(event, number):
        row = {"id": f"{event}-{number}", "notification_id": sent["id"], "event": event}
        await tenant.device.ok("POST", "/receipts", {"install_id": "phone", "receipts": [row]})

    await report("received", 1)
    assert [await counted(tenant, each) for each in (phone, tablet)] == [1, 1]
    await report("opened", 1)
    assert [await counted(tenant, each) for each in (phone, tablet)] == [0, 1]
    await tenant.sent(**COUNTED)
    await report("opened", 1)  # known already
    assert shown(tenant, phone, tablet) == [1, 2]
    assert [await counted(tenant, each) for each in (phone, tablet)] == [1, 2]
    await tenant.admin.ok("PATCH", f"/apps/{tenant.app_id}", {"settings": {"open_clears_badge": False}})
    await report("opened", 2)
    assert await counted(tenant, phone) == 1
    assert await tenant.server.ok("PUT", "/users/ada/badge", {"count": 7}) == {"devices": 2}
    await tenant.sent(**COUNTED)
    assert shown(tenant, phone, tablet) == [8, 8]
    assert (await tenant.server("PUT", "/users/nobody/badge", json={"count": 7})).status == 404


async def test_the_push_of_an_in_app_message_counts(tenant):
    phone = await tenant.register("phone", user_id="ada")
    message = {"audience": {"type": "users", "ids": ["ada"]}, "content": {"a": 1}, "presented_when": "next_open"}
    message["ttl"] = {"days": 1}
    for number in (1, 2):
        made = await tenant.server.ok("POST", "/in-app-messages", message | {"push": COUNTED})
        view = await tenant.server.ok("GET", f"/in-app-messages/{made['id']}")
        await tenant.finished(view["notification_id"])
        assert shown(tenant, phone) == [number]
    wrong = COUNTED | {"message": {"title": "x", "badge": 3}}
    refused = await tenant.server("POST", "/in-app-messages", json=message | {"push": wrong})
    assert (refused.status, refused.pointers) == (400, ["/push/message/badge"])


async def test_a_count_is_of_an_install_and_its_user(tenant):
    phone = await tenant.register("phone", user_id="ada")
    other = await tenant.register("other", user_id="bob")
    for _ in range(2):
        await tenant.sent(**COUNTED)
    moved = await tenant.register("new", user_id="eve", token=phone["token"])
    await tenant.sent(**COUNTED)
    assert [await counted(tenant, each) for each in (phone, moved, other)] == [2, 1, 3]
    await tenant.register("other", user_id="bob", token=other["token"], tags=["x"])
    assert await counted(tenant, other) == 3
    await tenant.register("other", user_id="eve", token=other["token"])
    assert await counted(tenant, other) == 0
    await tenant.sent(**COUNTED)
    await tenant.server.ok("DELETE", "/users/eve")
    assert [await counted(tenant, each) for each in (moved, other)] == [0, 0]
    await tenant.register("other", user_id="dan", token=other["token"])
    await tenant.sent(**COUNTED)
    assert (await counted(tenant, other), shown(tenant, other)) == (1, [1])
    await tenant.server.ok("POST", "/users/dan/erase")
    await tenant.server.ok("DELETE", f"/devices/{moved['id']}")
    assert (await tenant.server("GET", f"/devices/{other['id']}")).status == 404


async def test_devices_and_the_command_line_set_counts(tenant):
    phone = await tenant.register("phone")
    path = f"/devices/{phone['id']}/badge"
    assert (await tenant.device("PUT", f"{path}?install_id=phone", json={"count": 4})).status == 204
    assert await counted(tenant, phone) == 4
    assert (await tenant.device("PUT", path, json={"count": 4})).status == 400
    assert (await tenant.device("PUT", f"{path}?install_id=other", json={"count": 4})).status == 404
    assert (await tenant.device("PUT", "/users/ada/badge", json={"count": 4})).status == 403
    assert (await tenant.server("PUT", path, json={"count": 10_000})).pointers == ["/count"]
    await tenant.sent(**COUNTED | {"message": {"title": "x", "badge_increment": 9_999}})
    assert shown(tenant, phone) == [9_999]
    await pushd(tenant.server, "device", "badge", str(phone["id"]), "2")
    assert (await pushd(tenant.server, "device", "inspect", str(phone["id"])))["badge"] == 2


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"message": {"title": "x", "badge": 3}}, "/message/badge"),
        ({"message": {"title": "x", "badge_increment": 10_000}}, "/message/badge_increment"),
        ({"locales": {"de": {"badge_increment": 2}}}, "/locales/de/badge_increment"),
        ({"message": {"push_type": "background", "data": {"a": 1}}}, "/badge_from"),
        ({"badge_from": "device.locale"}, "/badge_from"),
    ],
)
async def test_what_cannot_be_counted_is_refused(tenant, more, pointer):
    await tenant.register("phone")
    refused = await tenant.server("POST", "/notifications", json={"audience": {"type": "broadcast"}, **COUNTED, **more})
    assert (refused.status, refused.pointers) == (400, [pointer])
