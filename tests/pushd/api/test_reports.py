"""Reports over HTTP: figures, series, openings, exports, comparison by push tag, and why a device got it or not."""

import csv
import io

import numpy as np
import orjson
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.model.device import GatewayName, Platform
from pushd.outcome import ACCEPTED, EXPIRED, UNREACHABLE
from pushd.store.settlements import Delta, Settlement
from tests.pushd.api.native import native
from tests.pushd.commands.world import BAD, DEAD

pytestmark = pytest.mark.asyncio(loop_scope="module")

APNS = GatewayName.APNS.number
BEGIN = 1_700_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def phones(call, prefix, count, **fields):
    """Device ids by install id."""
    return {name: (await call.world.register(name, **fields)).id for name in (f"{prefix}-{at}" for at in range(count))}


async def sent_to(call, ids, **more):
    body = {"audience": {"type": "devices", "ids": list(ids)}, "message": {"title": "Hello"}, **more}
    answer = await call("POST", "/notifications", json=body)
    assert answer.status == 202, answer.body
    return answer.body["id"]


async def settle(call, number, fates, *, done=True):
    """Outcomes by device id, as rows of a small send and bitmaps of a large one."""
    context = call.world.context
    ids, codes = np.array([*fates], np.uint32), np.array([*fates.values()], np.int16)
    rows = {
        "notifications": np.full(len(ids), number, np.int64),
        "devices": ids,
        "gateways": np.full(len(ids), APNS, np.int16),
        "codes": codes,
    }
    deltas = [
        Delta(number, part, APNS, code, piece)
        for code in sorted(set(fates.values()))
        for part, piece in Devices([each for each, had in fates.items() if had == code]).parts()
    ]
    kept = {"deltas": deltas} if len(fates) > 64 else rows
    await context.store.settlements.settle(Settlement(**kept, finished=[number] if done else []), context.node_id)


async def take(call, number, *events, at=None):
    """Receipts of (install, event, button) each."""
    rows = [
        {"id": f"{at} {place}", "notification_id": number, "event": event, "install_id": install}
        | ({"button": button} if button else {})
        | ({"at": at} if at else {})
        for place, (install, event, button) in enumerate(events)
    ]
    answer = await call("POST", "/receipts", json={"receipts": rows})
    assert answer.body == {"taken": len(rows), "repeated": 0, "unknown": 0}


@pytest.mark.parametrize("count", [12, 90], ids=["small", "large"])
async def test_a_report_counts_what_came_of_it(call, count):
    ids = await phones(call, f"r{count}", count, platform=Platform.IOS, user_id=f"ada{count}")
    names = [*ids]
    web = await call.world.register(f"web{count}", platform=Platform.ANDROID)
    number = await sent_to(call, [*ids.values(), web.id], push_tag="spring", name="Harvest")
    fates = dict.fromkeys(ids.values(), ACCEPTED.code) | {web.id: BAD.code, ids[names[0]]: DEAD.code}
    fates |= {ids[names[1]]: EXPIRED.code, ids[names[2]]: UNREACHABLE.code}
    await settle(call, number, fates)
    await take(
        call,
        number,
        *((name, "received", None) for name in names[4:8]),
        (names[4], "opened", None),
        (names[4], "clicked", "yes"),
        (names[5], "clicked", None),
        (names[6], "opened", None),
        (names[7], "dismissed", None),
    )
    await take(call, number, (names[4], "opened", None), at=BEGIN)
    for _ in range(2):
        told = (await call("GET", f"/notifications/{number}/report")).body
        assert (told["name"], told["push_tag"], told["status"], told["state"]) == (
            "Harvest",
            "spring",
            "published",
            "done",
        )
        assert told["counts"] == {
            "targeted": count + 1,
            "accepted": count - 3,
            "failed": 2,
            "expired": 1,
            "cancelled": 0,
            "suppressed": 1,
            "pending": 0,
        }
        assert told["gateways"] == [
            {"gateway": "apns", "accepted": count - 3, "failed": 2, "expired": 1, "cancelled": 0, "suppressed": 1}
        ]
        assert told["opens"] == {"total": 5, "installs": 3, "users": 1}
        assert told["events"]["opened"] == {"total": 3, "installs": 2, "users": 1}
        assert told["events"]["read"] == {"total": 0, "installs": 0, "users": 0}
        assert told["buttons"] == [
            {"button": "yes", "total": 1, "installs": 1},
            {"button": None, "total": 1, "installs": 1},
        ]
        assert told["platforms"] == [
            {"platform": "ios", "targeted": count, "opened": 3, "clicked": 2},
            {"platform": "android", "targeted": 1, "opened": 0, "clicked": 0},
        ]
        assert (told["sent"], told["received"], told["clicked"], told["closed"]) == (count - 3, 4, 2, 1)
        assert told["open_rate"] == round(3 / (count - 3), 4)
        words = {each["reason"]: each["explanation"] for each in told["reasons"]}
        assert set(words) == {"accepted", "BadTopic", "Unregistered", "expired", "no_longer_reachable"}
        assert words["BadTopic"] == "APNs refused the message (BadTopic)."
        await call.world.context.store.receipts.folder.fold(older_s=-3600)


async def test_openings_by_install_and_user_have_the_first_time(call):
    ids = await phones(call, "o", 5)
    await phones(call, "p", 2, user_id="bob")
    number = await sent_to(call, ids.values())
    for name, at in (("o-0", 30), ("o-1", 20), ("o-0", 10), ("p-0", 50), ("p-1", 40)):
        await take(call, number, (name, "opened", None), at=BEGIN + 1e9 + at)  # the future counts as now
    pages, cursor = [], None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        answer = await call("GET", f"/notifications/{number}/install-opens", params=params)
        pages += answer.body["items"]
        cursor = answer.body["next"]
        if cursor is None:
            break
    assert [each["install_id"] for each in pages] == ["o-0", "o-1", "p-0", "p-1"]
    users = (await call("GET", f"/notifications/{number}/user-opens")).body["items"]
    assert [each["user_id"] for each in users] == ["bob"]
    assert users[0]["opened_at"] == min(each["opened_at"] for each in pages[2:])


async def test_openings_of_those_who_are_gone_end_no_page(call):
    ids = await phones(call, "g", 4, user_id="gone")
    await phones(call, "h", 1, user_id="stays")
    number = await sent_to(call, ids.values())
    await take(call, number, *((name, "opened", None) for name in [*ids, "h-0"]))
    assert (await call("DELETE", "/users/gone")).status == 204
    for device_id in [*ids.values()][:3]:
        assert (await call("DELETE", f"/devices/{device_id}")).status == 204
    found, cursor = [], ""
    while cursor is not None:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await call("GET", f"/notifications/{number}/install-opens", params=params)).body
        found, cursor = found + page["items"], page["next"]
    assert [each["install_id"] for each in found] == ["g-3", "h-0"]
    page = (await call("GET", f"/notifications/{number}/user-opens", params={"limit": 1})).body
    assert (page["items"], page["next"] is None) == ([], False)
    page = (await call("GET", f"/notifications/{number}/user-opens", params={"cursor": page["next"]})).body
    assert [each["user_id"] for each in page["items"]] == ["stays"]
    _, _, body = await lines(call, f"/notifications/{number}/export?what=install-opens")
    assert [orjson.loads(line)["install_id"] for line in body.splitlines()] == ["g-3", "h-0"]


async def test_what_was_reported_by_time(call):
    ids = await phones(call, "s", 3)
    number = await sent_to(call, ids.values())
    hour = 3_600
    begin = (await call("GET", f"/notifications/{number}")).body["created_at"]
    await call.world.context.store.database.execute(
        "UPDATE notifications SET created_at = created_at - interval '6 hours' WHERE id = $1", number
    )
    for name, ago in (("s-0", 4), ("s-1", 4), ("s-0", 2)):
        await take(call, number, (name, "opened", None), at=begin - ago * hour)
    await take(call, number, ("s-2", "clicked", "yes"), at=begin - 2 * hour)
    told = (await call("GET", f"/notifications/{number}/series")).body
    assert told["step_s"] == hour
    starts = [int((begin - ago * hour) // hour * hour) for ago in (4, 2)]
    assert [(each["start"], each["event"], each["total"]) for each in told["points"]] == [
        (starts[0], "opened", 2),
        (starts[1], "opened", 1),
        (starts[1], "clicked", 1),
    ]
    assert told["first_opens"] == [{"start": starts[0], "installs": 2}, {"start": starts[1], "installs": 1}]
    late = await call("GET", f"/notifications/{number}/series?since={begin - 3 * hour}&step=day")
    assert sum(each["total"] for each in late.body["points"]) == 2
    assert (await call("GET", f"/notifications/{number}/series?since=5&until=4")).pointers == ["until"]
    assert (await call("GET", f"/notifications/{number}/series?since=5&step=minute")).pointers == ["step"]


async def lines(call, path, key="server"):
    headers = {"Authorization": f"Bearer {call.keys[key]}"}
    async with call.session.get(call.base + path, headers=headers) as answer:
        return answer.status, answer.content_type, await answer.read()


@pytest.mark.parametrize("count", [3, 80], ids=["small", "large"])
async def test_exports_as_lines_of_json_and_as_csv(call, count):
    ids = await phones(call, f"=x{count}", count, user_id="eve")
    names = [*ids]
    number = await sent_to(call, ids.values())
    await settle(call, number, dict.fromkeys([*ids.values()][:-1], ACCEPTED.code), done=False)
    await take(call, number, (names[0], "clicked", "-1+1"))
    _, kind, body = await lines(call, f"/notifications/{number}/export")
    rows = [orjson.loads(line) for line in body.splitlines()]
    assert kind == "application/x-ndjson"
    assert [each["device_id"] for each in rows] == sorted(ids.values())
    assert [each["outcome"] for each in rows] == ["accepted"] * (count - 1) + ["pending"]
    assert {each["user_id"] for each in rows} == {"eve"}
    _, kind, body = await lines(call, f"/notifications/{number}/export?what=receipts&format=csv")
    assert kind == "text/csv"
    (row,) = csv.DictReader(io.StringIO(body.decode()))
    assert (row["install_id"], row["user_id"], row["event"], row["button"]) == (
        f"'{names[0]}",
        "eve",
        "clicked",
        "'-1+1",
    )
    for what, column, value in (("install-opens", "install_id", f"'{names[0]}"), ("user-opens", "user_id", "eve")):
        _, _, body = await lines(call, f"/notifications/{number}/export?what={what}&format=csv")
        (row,) = csv.DictReader(io.StringIO(body.decode()))
        assert row[column] == value
        assert float(row["opened_at"]) > BEGIN
    _, _, body = await lines(call, f"/notifications/{number}/export?format=csv")
    rows = [*csv.DictReader(io.StringIO(body.decode()))]
    assert len(rows) == count
    assert (rows[-1]["outcome"], rows[-1]["gateway"], rows[0]["gateway"]) == ("pending", "", "apns")
    assert (await lines(call, f"/notifications/{number}/export", key="other"))[0] == 404


async def test_push_tags_are_compared(call):
    ids = await phones(call, "t", 6)
    many = await phones(call, "u", 70)
    sends = [("red", ids), ("red", many), ("blue", ids)]
    for tag, devices in sends:
        number = await sent_to(call, devices.values(), push_tag=tag)
        await settle(call, number, dict.fromkeys(devices.values(), ACCEPTED.code))
        names = [*devices]
        await take(call, number, (names[0], "opened", None), (names[1], "clicked", "a"), (names[2], "dismissed", None))
    body = {"audience": {"type": "broadcast"}, "message": {"title": "x", "data": {"push_tag": "fake"}}}
    assert (await call("POST", "/notifications", json=body)).status == 202
    listed = (await call("GET", "/push-tags")).body["items"]
    assert {each["push_tag"]: each["notifications"] for each in listed if each["push_tag"] in ("red", "blue")} == {
        "red": 2,
        "blue": 1,
    }
    assert not any(each["push_tag"] == "fake" for each in listed)
    red, blue, none = (await call("GET", "/push-tags/compare?tag=red&tag=blue&tag=none")).body["items"]
    assert (red["push_tag"], red["notifications"], red["targeted"], red["accepted"]) == ("red", 2, 76, 76)
    assert (red["received"], red["opened"], red["clicked"], red["closed"]) == (6, 4, 2, 2)
    assert red["open_rate"] == round(4 / 76, 4)
    assert (blue["targeted"], blue["opened"]) == (6, 2)
    assert (none["notifications"], none["open_rate"]) == (0, None)
    assert (await call("GET", "/push-tags/compare?tag=red&newest=1")).body["items"][0]["notifications"] == 1
    assert (await call("GET", "/push-tags/compare?tag=red", key="other")).body["items"][0]["notifications"] == 0
    assert (await call("GET", "/push-tags?until=5")).body["items"] == []
    assert [each["push_tag"] for each in (await call("GET", "/push-tags?after=blue&limit=1")).body["items"]] == ["red"]
    assert (await call("GET", "/push-tags/compare")).status == 400


@pytest.mark.parametrize("count", [8, 80], ids=["small", "large"])
async def test_why_a_device_got_it_or_did_not(call, count):
    ids = await phones(call, f"w{count}", count, tags=[f"tag{count}"])
    names = [*ids]
    outside = await call.world.register(f"outside{count}")
    off = await call.world.register(f"off{count}", push_enabled=False, tags=[f"tag{count}"])
    body = {"audience": {"type": "tags", "any": [f"tag{count}"]}, "message": {"title": "Hello"}}
    number = (await call("POST", "/notifications", json=body)).body["id"]
    fates = dict.fromkeys([*ids.values()][:-1], ACCEPTED.code) | {ids[names[0]]: DEAD.code, ids[names[1]]: EXPIRED.code}
    await settle(call, number, fates, done=False)
    await take(call, number, (names[2], "opened", None), (names[2], "clicked", "yes"))
    later = await call.world.register(f"later{count}", tags=[f"tag{count}"])
    await call.world.context.store.database.execute(
        "UPDATE devices SET first_seen = first_seen + 10 WHERE id = $1", later.id
    )

    async def told(device_id):
        answer = await call("GET", f"/notifications/{number}/devices/{device_id}")
        assert answer.status == 200
        return answer.body

    dead = await told(ids[names[0]])
    assert (dead["targeted"], dead["outcome"], dead["gateway"], dead["reason"]) == (
        True,
        "unregistered",
        "apns",
        "Unregistered",
    )
    assert dead["explanation"].startswith("APNs says that the address is dead (Unregistered)")
    assert (await told(ids[names[1]]))["explanation"] == "Its life ended before it could be sent."
    opened = await told(ids[names[2]])
    assert (opened["outcome"], [each["event"] for each in opened["events"]]) == ("accepted", ["opened", "clicked"])
    waiting = await told(ids[names[-1]])
    assert (waiting["targeted"], waiting["outcome"], waiting["gateway"]) == (True, "pending", None)
    for device_id, text in (
        (outside.id, "and does not hold it now"),
        (off.id, "push is switched off"),
        (later.id, "first seen after that"),
    ):
        never = await told(device_id)
        assert (never["targeted"], never["outcome"]) == (False, None)
        assert text in never["explanation"]
    await call("PATCH", f"/devices/{outside.id}", json={"tags": [f"tag{count}"]})
    assert "it would now" in (await told(outside.id))["explanation"]
    assert (await call("GET", f"/notifications/{number}/devices/2000000000")).status == 404
    other = await call("GET", f"/notifications/{number}/devices/{outside.id}", key="other")
    assert (other.status, other.body["detail"]) == (404, "There is no such notification")


async def test_what_is_yet_to_come_has_nothing_to_tell(call):
    (device_id,) = (await phones(call, "yet", 1)).values()
    later = {"strategy": "utc", "send_at": "2100-01-01T00:00:00Z", "past_times": "ignore"}
    number = await sent_to(call, [device_id], schedule=later, push_tag="later")
    told = (await call("GET", f"/notifications/{number}/report")).body
    assert (told["status"], told["state"], told["push_tag"]) == ("scheduled", "scheduled", "later")
    assert (told["counts"]["targeted"], told["opens"]["total"], told["platforms"]) == (0, 0, [])
    why = (await call("GET", f"/notifications/{number}/devices/{device_id}")).body
    assert (why["targeted"], why["explanation"]) == (
        False,
        "Its time has not come: whom it goes to is settled when it does.",
    )
    for path in ("series", "install-opens", "user-opens", "export"):
        assert (await call("GET", f"/notifications/{number}/{path}")).status == 404
