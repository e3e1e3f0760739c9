"""What is noted of an app, and how it is told: page by page, as a stream, with names, metas and parts."""

import asyncio
import time
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest

from pushd.outcome import UNREACHABLE
from pushd.store.settlements import Retirement
from tests.pushd.feed.world import fed

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def stream(call, query="", **headers):
    """Events of a stream, one by one."""
    sent = {"Authorization": f"Bearer {call.keys['server']}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    async with call.session.get(call.base + "/events/stream" + query, headers=sent) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"

        async def frames():
            held = b""
            async for chunk in answer.content.iter_any():
                *whole, held = (held + chunk).split(b"\n\n")
                for frame in whole:
                    fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
                    if b"data" in fields:
                        event = orjson.loads(fields[b"data"])
                        assert fields[b"id"].decode() == event["id"]
                        assert fields[b"event"].decode() == event["type"]
                        yield event

        yield frames()


async def take(frames, count):
    async with asyncio.timeout(20):
        return [await anext(frames) for _ in range(count)]


async def everything(call, after=None, **more):
    found = []
    while True:
        params = {"limit": "50", **({} if after is None else {"after": after}), **more}
        page = (await call("GET", "/events", params=params)).body
        found += page["items"]
        if page["last"] is None:
            return found
        after = page["last"]


async def send(call, **more):
    body = {"audience": {"type": "broadcast"}, "message": {"title": "Hello"}, **more}
    answer = await call("POST", "/notifications", json=body)
    assert answer.status == 202, answer.body
    return answer.body["id"]


def rows(notification_id, *outcomes):
    """Settled rows of a small send: (device, gateway, code)."""
    devices, gateways, codes = zip(*outcomes, strict=True)
    return {
        "notifications": np.full(len(devices), notification_id, np.int64),
        "devices": np.array(devices, np.uint32),
        "gateways": np.array(gateways, np.int16),
        "codes": np.array(codes, np.int16),
    }


async def test_nothing_is_noted_for_an_app_to_which_nobody_listens(dsn, tmp_path):
    async with fed(dsn, tmp_path) as call:
        device = await call.world.register("phone", user_id="ada")
        number = await send(call)
        await call.settle(**rows(number, (device.id, 0, 1)), finished=[number])
        await call("DELETE", "/users/ada")
        database = call.world.context.store.database
        assert await database.fetchval("SELECT count(*) FROM events") == 0
        assert await database.fetchval("SELECT last_value = 1 AND NOT is_called FROM event_ids")
        hook = await call.hook(types=["notification.finished"])
        number = await send(call)
        await call.settle(**rows(number, (device.id, 0, 1)), finished=[number])
        assert await database.fetchval("SELECT array_agg(type) FROM events") == [3]
        await call("DELETE", f"/webhooks/{hook['id']}")
        await send(call)
        assert await database.fetchval("SELECT count(*) FROM listeners") == 0
        assert await database.fetchval("SELECT count(*) FROM events") == 1


async def test_a_small_send_from_its_acceptance_to_its_receipts(dsn, tmp_path):
    async with fed(dsn, tmp_path) as call:
        assert await everything(call) == []
        phone = await call.world.register("phone", user_id="ada")
        pad = await call.world.register("pad")
        meta = {"reporting_meta": {"campaign": "Summer"}, "user_meta": {"ada": {"step": 3}}}
        number = await send(call, name="one", **meta)
        dead = Retirement(
            ids=np.array([pad.id], np.uint32),
            revisions=np.array([1], np.int32),
            at_ms=np.array([int(time.time() * 1000) + 1000], np.int64),
            reason="Unregistered",
        )
        await call.settle(**rows(number, (phone.id, 0, 1)))
        await call.settle(**rows(number, (pad.id, 0, 64)), retired=[dead], finished=[number])
        receipts = [
            {"id": "1", "notification_id": number, "event": "opened", "install_id": "phone", "at": time.time() + 99},
            {"id": "2", "notification_id": number, "event": "clicked", "button": "yes", "install_id": "phone"},
            {"id": "3", "notification_id": number, "event": "clicked", "install_id": "pad"},
        ]
        for _ in range(2):  # what is known already is no event
            await call("POST", "/receipts", json={"receipts": receipts})
        found = await everything(call)
        told = {}
        for each in found:
            told.setdefault(each["type"], []).append(each["data"])
        assert [each["type"] for each in found] == [
            *("device.registered", "device.registered", "notification.accepted", "notification.released"),
            *("notification.outcomes", "notification.outcomes", "notification.finished", "device.retired"),
            *("receipt.opened", "receipt.clicked"),
        ]
        common = {"notification_id": number, "reporting_meta": {"campaign": "Summer"}}
        assert told["notification.accepted"] == [{**common, "name": "one", "targeted": 2}]
        assert told["notification.released"] == [{**common, "release": 0, "targeted": 2}]
        taken = {"gateway": "apns", "outcome": "accepted", "reason": "accepted", "count": 1}
        gone = {"gateway": "apns", "outcome": "unregistered", "reason": "Unregistered", "count": 1}
        assert told["notification.outcomes"] == [{**common, "outcomes": [taken]}, {**common, "outcomes": [gone]}]
        counts = dict.fromkeys(("expired", "cancelled", "suppressed", "pending"), 0)
        assert told["notification.finished"] == [
            {
                **common,
                "cancelled": False,
                "counts": counts | {"targeted": 2, "accepted": 1, "failed": 1},
                "reasons": [taken, gone],
            }
        ]
        known = {"device_id": pad.id, "kind": "apns", "install_id": "pad", "user_id": None}
        assert told["device.retired"] == [{"reason": "Unregistered", "devices": [known]}]
        await call.world.context.store.devices.revive(call.world.app.id, 0)
        (revived,) = await everything(call, type="device.revived")
        assert revived["data"] == {"devices": [known]}
        (opened,) = told["receipt.opened"][0]["receipts"]
        assert opened.pop("at") <= time.time()
        assert opened == {"install_id": "phone", "user_id": "ada", "user_meta": {"step": 3}}
        assert told["receipt.clicked"][0]["reporting_meta"] == {"campaign": "Summer"}
        assert [each.get("button") for each in told["receipt.clicked"][0]["receipts"]] == ["yes", None]
        assert [each["install_id"] for each in told["receipt.clicked"][0]["receipts"]] == ["phone", "pad"]


async def test_outcomes_of_a_large_send_device_by_device_for_who_asks(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, part_items=30) as call:
        hook = await call.hook(types=["notification.device_outcomes", "notification.outcomes", "notification.finished"])
        ids = [(await call.world.register(f"i{each}", user_id=f"u{each % 2}")).id for each in range(100)]
        number = await send(call, user_meta={"u1": {"odd": True}})
        await call.settle(deltas=[call.delta(number, ids[:70], 0, 1)])
        await call.settle(deltas=[call.delta(number, ids[70:], 0, UNREACHABLE.code)], finished=[number])
        receiver = call.receiver
        await receiver.until(lambda: [e for e in receiver.events("/one") if e["type"] == "notification.finished"])
        events = receiver.events("/one")
        assert hook["types"] == ["notification.finished", "notification.outcomes", "notification.device_outcomes"]
        parts = [each for each in events if each["type"] == "notification.device_outcomes"]
        assert [len(each["data"]["devices"]) for each in parts] == [30, 30, 10, 30]
        assert [each["id"].partition(".")[2] for each in parts] == ["", "1", "2", ""]
        seen = [device for each in parts for device in each["data"]["devices"]]
        assert [device["device_id"] for device in seen] == ids
        assert all(device["user_id"] == f"u{at % 2}" for at, device in enumerate(seen))
        assert all(device.get("user_meta") == ({"odd": True} if at % 2 else None) for at, device in enumerate(seen))
        assert [(each["data"]["outcome"], each["data"]["reason"]) for each in parts] == [
            *[("accepted", "accepted")] * 3,
            ("suppressed", "no_longer_reachable"),
        ]
        counts = events[-1]["data"]["counts"]
        assert (counts["targeted"], counts["accepted"], counts["suppressed"]) == (100, 70, 30)
        again = await everything(call, after=parts[1]["id"], type="notification.device_outcomes")
        assert [each["id"] for each in again] == [each["id"] for each in parts[2:]]


async def test_subscriptions_switches_and_deleted_users(dsn, tmp_path):
    async with fed(dsn, tmp_path) as call:
        await everything(call)
        await call.world.register("phone", user_id="ada")
        user = (await call("GET", "/users/ada")).body
        await call("POST", "/channels", json={"uuid": "news"})
        await call("POST", "/channels", json={"uuid": "deals"})
        for verb, body in (("subscribe", ["ada", "ada"]), ("subscribe", ["ada"]), ("unsubscribe", ["ada"])):
            assert (await call("POST", f"/channels/news/{verb}", json={"users": body})).status == 204
        await call("PATCH", "/users/ada/channels", json={"subscribe": ["deals", "news"]})
        await call("PATCH", "/users/ada/channels", json={"unsubscribe": ["news"]})
        await call.world.register("phone", push_enabled=False)
        await call.world.register("phone", push_enabled=False)
        await call.world.register("phone", push_enabled=True)
        for verb in ("subscribe", "unsubscribe", "unsubscribe"):
            await call("POST", f"/channels/deals/{verb}", json={"installs": ["phone"]})
        await call("DELETE", "/users/ada")
        found = [each["data"] for each in await everything(call, type="subscription.changed")]
        switches = [each for each in found if "push_enabled" in each]
        assert [each["push_enabled"] for each in switches] == [False, True]
        assert switches[0] == {"of": "installs", "push_enabled": False, "installs": ["phone"]}
        joined = [(each["subscribed"], each["unsubscribed"]) for each in found if each.get("users") == ["ada"]]
        assert joined == [(["news"], []), ([], ["news"]), (["news", "deals"], []), ([], ["news"])]
        joined = [each for each in found if each.get("installs") and "subscribed" in each]
        assert joined == [
            {"of": "installs", "subscribed": ["deals"], "unsubscribed": [], "installs": ["phone"]},
            {"of": "installs", "subscribed": [], "unsubscribed": ["deals"], "installs": ["phone"]},
        ]
        (deleted,) = await everything(call, type="user.deleted")
        assert deleted["data"] == {"id": user["id"], "user_id": "ada"}
        await call("DELETE", "/channels/news")
        (gone,) = await everything(call, type="channel.deleted")
        assert gone["data"] == {"channel": "news"}


async def test_an_erased_user_is_told_by_number_and_never_again_by_name(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        await everything(call)
        device = await call.world.register("phone", user_id="ada")
        user = (await call("GET", "/users/ada")).body
        number = await send(call, user_meta={"ada": {"step": 1}})
        await call.settle(**rows(number, (device.id, 0, 1)), finished=[number])
        receipt = {"id": "1", "notification_id": number, "event": "opened", "install_id": "phone"}
        assert (await call("POST", "/receipts", json={"receipts": [receipt]})).status == 200
        assert (await call("POST", "/users/ada/erase")).status == 202
        told = await everything(call, type="user.deleted")
        assert [each["data"] for each in told] == [{"id": user["id"], "user_id": None}]
        opened = await everything(call, type="receipt.opened")
        assert [each["user_id"] for told in opened for each in told["data"]["receipts"]] == [None]


async def test_in_app_messages_and_what_is_done_with_them(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        await everything(call)
        await call.world.register("phone", user_id="ada")
        await call.world.register("pad")
        body = {
            "audience": {"type": "installs", "ids": ["phone", "pad"]},
            "content": {"title": "Harvest"},
            "presented_when": "immediately",
            "ttl": {"days": 1},
        }
        sent = await call("POST", "/in-app-messages", json=body)
        assert sent.status == 202, sent.body
        number = sent.body["id"]
        for _ in range(2):  # only the first time of each is told
            for where in ("/installs/pad/inbox/events", "/users/ada/inbox/events"):
                done = {"events": [{"message_id": number, "event": event} for event in ("delivered", "opened")]}
                assert (await call("POST", where, json=done)).status == 200
        found = [each for each in await everything(call) if each["type"].startswith("in_app.")]
        assert found[0]["type"] == "in_app.released"
        assert found[0]["data"]["users"] + found[0]["data"]["installs"] == 2
        opened = [each["data"] for each in found if each["type"] == "in_app.opened"]
        assert all(each["message_id"] == number for each in opened)
        recipients = [recipient for each in opened for recipient in each["recipients"]]
        assert sorted(recipient.get("install_id") or recipient["user_id"] for recipient in recipients) == ["ada", "pad"]
        assert all(abs(recipient["at"] - time.time()) < 60 for recipient in recipients)


async def test_a_stream_goes_on_where_it_was_and_ends_with_the_daemon(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, stream_keep_alive_s=0.1, streams_per_app_max=2) as call:
        async with stream(call) as frames:
            await call.happen(3)
            first = await take(frames, 3)
        await call.happen(4)
        async with stream(call, Last_Event_ID=first[0]["id"]) as frames:
            rest = await take(frames, 6)
            assert [each["id"] for each in rest[:2]] == [each["id"] for each in first[1:]]
            await call.happen(1)
            rest += await take(frames, 1)
            listed = await everything(call, after=first[0]["id"])
            assert listed == rest
            async with stream(call, "?after=0&type=user.deleted"):
                refused = await call("GET", "/events/stream")
                assert refused.status == 429
                assert int(refused.headers["Retry-After"]) > 0
            for _ in range(50):  # a reader that left makes room
                await asyncio.sleep(0.1)
                if call.feed.streams._open[call.world.app.id] == 1:
                    break
            else:
                raise AssertionError("the stream of a reader that left is still open")
            await call.feed.streams.stop()
            with pytest.raises(StopAsyncIteration):
                await take(frames, 1)
        assert (await call("GET", "/events/stream")).status == 503


async def test_a_stream_ends_after_its_life_and_keeps_alive_until_then(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, stream_keep_alive_s=0.2, stream_life_s=1.5) as call:
        head = await call("HEAD", "/events/stream")
        assert (head.status, head.body) == (200, "")
        headers = {"Authorization": f"Bearer {call.keys['server']}"}
        async with call.session.get(call.base + "/events/stream", headers=headers) as answer:
            text = await asyncio.wait_for(answer.text(), 20)
        assert text.startswith("retry: 2000\n\n")
        assert text.count(": keep-alive\n\n") >= 1


async def test_what_commits_late_is_told_and_in_no_order_but_that_of_transactions(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        hook = await call.hook()
        database, app_id = call.world.context.store.database, call.world.app.id
        note = "SELECT note_event($1, 15, now(), $2)"
        async with stream(call) as frames, database.connection() as slow:
            transaction = slow.transaction()
            await transaction.start()
            await slow.execute(note, app_id, '{"which": "late"}')
            await call.happen(3)
            await asyncio.sleep(0.3)
            assert not call.receiver.requests, "nothing overtakes a transaction that is older"
            await transaction.commit()
            told = await take(frames, 4)
            assert told[0]["data"] == {"which": "late"}
            await call.receiver.until(lambda: len(call.receiver.ids("/one")) == 4)
            assert call.receiver.ids("/one") == [each["id"] for each in told]
        assert (await call.show(hook))["failure"] is None


async def test_events_of_another_cluster_are_read_after_a_restore(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        hook = await call.hook()
        await call("POST", f"/webhooks/{hook['id']}/pause")
        async with asyncio.timeout(20):  # a turn that began before may send one request more
            while any(each.running for each in call.feed.deliverer._endpoints.values()):
                await asyncio.sleep(0.01)
        await call.happen(5)
        database = call.world.context.store.database
        far = 1_000_000 + await database.fetchval("SELECT pg_current_xact_id()::text::bigint")
        await database.execute("UPDATE events SET xid = ($1::bigint + id)::text::xid8", far)
        # No daemon runs while a dump is restored: a turn that is under way here must not move the place.
        place = "at_xid = ($1::bigint + 2)::text::xid8, at_id = 2, revision = revision + 1"
        await database.execute(f"UPDATE webhooks SET {place}", far)
        assert await everything(call) == []
        await call.world.context.store.events.adopt()
        await call("POST", f"/webhooks/{hook['id']}/resume", json={})
        await call.receiver.until(lambda: call.receiver.ids("/one") == ["3", "4", "5"])
        assert [each["id"] for each in await everything(call)] == ["1", "2", "3", "4", "5"]


async def test_ids_that_are_none_and_apps_that_are_others(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        await everything(call)
        await call.happen(2)
        for after in ("x", "1.", "1.2.3", "-1", "9" * 40):
            assert (await call("GET", "/events", params={"after": after})).status == 400
        assert (await call("GET", "/events/stream", headers={"Last-Event-ID": "x"})).status == 400
        assert (await call("GET", "/events", params={"type": "no.such"})).status == 400
        assert (await call("GET", "/events", key="other")).body == {"items": [], "last": None}
        assert (await call("GET", "/events", key="device")).status == 403
        assert len(await everything(call, after="4711")) == 2, "an id that is no longer kept: from the oldest"
