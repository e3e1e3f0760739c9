import asyncio

import numpy as np
import pytest
import pytest_asyncio

from pushd.commands import progress
from pushd.errors import UnavailableError
from pushd.model.device import GatewayName
from pushd.outcome import ACCEPTED
from pushd.store.settlements import Settlement
from tests.pushd.api.native import native
from tests.pushd.commands.world import DEAD

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = {"audience": {"type": "broadcast"}, "message": {"title": "Hello"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def send(call, audience=None, **more):
    body = HELLO | ({"audience": audience} if audience else {}) | more
    answer = await call("POST", "/notifications", json=body)
    assert answer.status == 202, answer.body
    return answer.body


async def settle(call, notification_id, outcomes=None):
    ids = np.array([*(outcomes or {})], np.uint32)
    settlement = Settlement(
        notifications=np.full(len(ids), notification_id, np.int64),
        devices=ids,
        gateways=np.full(len(ids), GatewayName.APNS.number, np.int16),
        codes=np.array([*(outcomes or {}).values()], np.int16),
        finished=[notification_id],
    )
    await call.world.context.store.settlements.settle(settlement, call.world.context.node_id)


async def test_a_send_is_accepted_shown_renamed_and_cancelled(call):
    device = await call.world.register("cycle", tags=["cycle"])
    audience = {"type": "tags", "any": ["cycle"]}
    sent = await send(call, audience, name="first", ttl_s=60, collapse_id="c", transactional=True)
    assert sent == {"id": sent["id"], "targeted": 1}
    path = f"/notifications/{sent['id']}"
    shown = await call("GET", path)
    assert shown.status == 200
    body = shown.body
    assert (body["state"], body["name"], body["audience"], body["message"]) == (
        "running",
        "first",
        audience,
        {"title": "Hello"},
    )
    assert (body["ttl_s"], body["collapse_id"], body["transactional"], body["finished_at"]) == (60, "c", True, None)
    assert body["counts"] == {
        "targeted": 1,
        "accepted": 0,
        "failed": 0,
        "expired": 0,
        "cancelled": 0,
        "suppressed": 0,
        "pending": 1,
    }
    (pending,) = (await call("GET", f"{path}/devices?outcome=pending")).body["items"]
    assert pending == {"device_id": device.id, "outcome": "pending", "gateway": None, "reason": None}
    assert (await call("PATCH", path, json={"name": "second"})).body["name"] == "second"
    assert (await call("PATCH", path, json={"name": None})).body["name"] is None
    cancelled = await call("POST", f"{path}/cancel")
    assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")
    assert (await call("POST", f"{path}/cancel")).status == 200


async def test_outcomes_and_the_devices_behind_them(call):
    devices = [await call.world.register(f"o{n}", user_id="outcomes") for n in range(5)]
    ids = [device.id for device in devices]
    sent = await send(call, {"type": "users", "ids": ["outcomes"]})
    await settle(call, sent["id"], dict.fromkeys(ids[:4], ACCEPTED.code) | {ids[4]: DEAD.code})
    path = f"/notifications/{sent['id']}"
    body = (await call("GET", path)).body
    assert (body["state"], body["counts"]["accepted"], body["counts"]["failed"]) == ("done", 4, 1)
    assert body["reasons"] == [
        {"gateway": "apns", "reason": "accepted", "outcome": "accepted", "count": 4},
        {"gateway": "apns", "reason": "Unregistered", "outcome": "unregistered", "count": 1},
    ]
    assert body["finished_at"] >= body["created_at"]
    failed = (await call("GET", f"{path}/devices?outcome=failed")).body["items"]
    assert failed == [{"device_id": ids[4], "outcome": "unregistered", "gateway": "apns", "reason": "Unregistered"}]
    assert (await call("GET", f"{path}/devices?reason=Unregistered")).body["items"] == failed
    seen, cursor = [], None
    while cursor is not None or not seen:
        parameters = {"outcome": "accepted", "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await call("GET", f"{path}/devices", params=parameters)).body
        seen += [row["device_id"] for row in page["items"]]
        cursor = page["next"]
    assert seen == ids[:4]
    history = (await call("GET", f"/devices/{ids[4]}/history")).body["items"]
    assert all(row["explanation"].endswith(".") for row in history)
    assert [(row["notification_id"], row["outcome"], row["reason"], row["gateway"]) for row in history] == [
        (sent["id"], "unregistered", "Unregistered", "apns")
    ]
    done = await call("POST", f"{path}/cancel")
    assert (done.status, done.body["code"]) == (409, "conflict")


async def test_notifications_are_listed_newest_first(call):
    sent = [(await send(call))["id"] for _ in range(3)]
    first = (await call("GET", "/notifications?limit=2")).body
    assert [each["id"] for each in first["items"]] == sent[:0:-1]
    second = (await call("GET", "/notifications", params={"limit": 2, "cursor": first["next"]})).body
    assert second["items"][0]["id"] == sent[0]


async def test_campaigns_and_transactional_sends_are_listed_apart(call, monkeypatch):
    monkeypatch.setattr(progress, "WINDOW", 3)
    monkeypatch.setattr(progress, "PASSED_MAX", 6)
    word = {"title": '"transactional":true'}
    sent = {True: [], False: []}
    for number in range(20):
        flag = number % 10 != 5  # of ten, one campaign
        body = {"audience": {"type": "broadcast"}, "message": word} | ({"transactional": True} if flag else {})
        sent[flag].insert(0, (await call("POST", "/notifications", json=body)).body["id"])
    later = {"schedule": {"strategy": "utc", "send_at": "2100-01-01T00:00:00Z", "past_times": "ignore"}}
    made = await call("POST", "/notifications", json=HELLO | {"message": word, **later})
    assert made.status == 202, made.body
    first = min(*sent[True], *sent[False])
    sent[False].insert(0, made.body["id"])
    for flag, ids in sent.items():
        for limit in (1, 2, 5, 100):
            found, pages = [], 0
            query = f"/notifications?transactional={str(flag).lower()}&limit={limit}"
            cursor = ""
            while cursor is not None and pages < 100:
                page = (await call("GET", query + cursor)).body
                assert len(page["items"]) <= limit
                found += [each["id"] for each in page["items"] if each["id"] >= first]
                pages, cursor = pages + 1, f"&cursor={page['next']}" if page["next"] else None
            assert found == ids, (flag, limit)


async def test_missing_targets_are_reported(call):
    device = await call.world.register("named")
    quiet = await call.world.register("quiet", token=None)
    sent = await send(call, {"type": "devices", "ids": [device.id, quiet.id, 6_000_000]})
    assert (sent["targeted"], sent["errors"]) == (
        1,
        {"unknown": {"devices": [6_000_000]}, "unsubscribed": {"devices": [quiet.id]}, "count": 2},
    )
    for audience in ({"type": "devices", "ids": [6_000_000]}, {"type": "users", "ids": ["nobody"]}):
        answer = await call("POST", "/notifications", json=HELLO | {"audience": audience})
        assert (answer.status, answer.body["code"]) == (400, "unknown_targets")
        assert answer.body["targets"]["count"] == 1
    theirs = await call(
        "POST", "/notifications", key="other", json=HELLO | {"audience": {"type": "devices", "ids": [device.id]}}
    )
    assert (theirs.status, theirs.body["targets"]["unknown"]) == (400, {"devices": [device.id]})


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"audience": None}, "/audience"),
        ({"audience": {"type": "everybody"}}, "/audience/type"),
        ({"message": None}, "/message"),
        ({"message": {"title": 7}}, "/message/title"),
        ({"message": {"title": "x" * 1001}}, "/message/title"),
        ({"message": {"headline": "x"}}, "/message/headline"),
        ({"message": {"title": "a\0"}}, "/message/title"),
        ({"message": {"title": "a", "data": {"k": ["\0"]}}}, "/message/data/k/0"),
        ({"message": {}}, "/message"),
        ({"message": {"title": "a", "badge": -1}}, "/message/badge"),
        ({"message": {"title": "a", "badge": 1, "badge_increment": -1}}, "/message/badge_increment"),
        ({"message": {"title": "a", "url": "javascript:alert(1)"}}, "/message/url"),
        ({"message": {"title": "a", "buttons": [{"id": "1"}]}}, "/message/buttons/0/text"),
        (
            {"message": {"title": "a", "android": {"channel": "c", "notification_type": "t"}}},
            "/message/android/notification_type",
        ),
        ({"message": {"push_type": "liveactivity"}}, "/message/live_activity"),
        ({"message": {"title": "a", "sound": {"critical": True, "volume": 2}}}, "/message/sound/volume"),
        ({"message": {"title": "a", "priority": "urgent"}}, "/message/priority"),
        ({"message": {"title": "a", "overrides": {"pager": {}}}}, "/message/overrides"),
        ({"ttl_s": -1}, "/ttl_s"),
        ({"ttl_s": 2_419_201}, "/ttl_s"),
        ({"collapse_id": ""}, "/collapse_id"),
        ({"collapse_id": "é" * 33}, "/collapse_id"),
        ({"delivery": "exactly_once"}, "/delivery"),
        ({"name": "x" * 256}, "/name"),
        ({"when": "now"}, "/when"),
    ],
)
async def test_each_fault_of_a_send_points_at_its_field(call, change, pointer):
    answer = await call("POST", "/notifications", json=HELLO | change)
    assert (answer.status, answer.body["code"], answer.pointers) == (400, "invalid_request", [pointer])
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_a_payload_over_the_limit_says_so(call):
    body = HELLO | {"message": {"title": "a", "data": {"k": "x" * 5000}}}
    answer = await call("POST", "/notifications", json=body)
    assert (answer.status, answer.body["code"]) == (400, "invalid_request")
    assert answer.pointers


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("GET", "/notifications?limit=0", None, "limit"),
        ("GET", "/notifications?cursor=forged", None, "cursor"),
        ("GET", "/notifications?state=done", None, "state"),
        ("GET", "/notifications/{id}/devices?outcome=delivered", None, "outcome"),
        ("GET", "/notifications/{id}/devices?limit=a", None, "limit"),
        ("PATCH", "/notifications/{id}", {"message": {}}, "/message"),
        ("PATCH", "/notifications/{id}", {}, "/name"),
        ("PATCH", "/notifications/{id}", {"name": "a\0"}, "/name"),
    ],
)
async def test_each_fault_of_the_other_operations_is_named(call, method, path, body, pointer):
    sent = await send(call)
    answer = await call(method, path.format(id=sent["id"]), json=body)
    assert (answer.status, answer.pointers) == (400, [pointer])


async def test_the_same_key_is_answered_as_the_first_time(call):
    headers = {"Idempotency-Key": "order 7 / reminder"}
    first = await call("POST", "/notifications", json=HELLO, headers=headers)
    again = await call("POST", "/notifications", json=HELLO, headers=headers)
    assert (first.status, again.status) == (202, 202)
    assert first.body == again.body
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await call("POST", "/notifications", json=HELLO | {"name": "x"}, headers=headers)
    assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
    theirs = await call("POST", "/notifications", key="other", json=HELLO | {"name": "x"}, headers=headers)
    assert theirs.status == 202


async def test_many_at_once_with_one_key_are_one_send(call):
    headers = {"Idempotency-Key": "at once"}
    before = len(call.world.fanout.released)
    answers = await asyncio.gather(*(call("POST", "/notifications", json=HELLO, headers=headers) for _ in range(6)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert len(call.world.fanout.released) == before + 1


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
async def test_a_key_that_cannot_be_is_refused(call, key):
    answer = await call("POST", "/notifications", json=HELLO, headers={"Idempotency-Key": key})
    assert (answer.status, answer.pointers) == (400, ["Idempotency-Key"])


async def test_a_full_daemon_says_when_to_come_back(call):
    call.world.fanout.full = UnavailableError("full", retry_after_s=12)
    try:
        answer = await call("POST", "/notifications", json=HELLO)
    finally:
        call.world.fanout.full = None
    assert (answer.status, answer.body["code"], answer.headers["Retry-After"]) == (503, "unavailable", "12")


async def test_a_device_key_never_sends(call):
    sent = await send(call)
    for method, path in (
        ("POST", "/notifications"),
        ("GET", "/notifications"),
        ("GET", f"/notifications/{sent['id']}"),
        ("PATCH", f"/notifications/{sent['id']}"),
        ("POST", f"/notifications/{sent['id']}/cancel"),
        ("GET", f"/notifications/{sent['id']}/devices"),
    ):
        answer = await call(method, path, key="device", json=HELLO)
        assert (answer.status, answer.body["code"]) == (403, "forbidden")


async def test_another_apps_notifications_are_as_absent_as_none(call):
    sent = await send(call)
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "mine"}),
        ("POST", "/cancel", None),
        ("GET", "/devices", None),
    ):
        theirs = await call(method, f"/notifications/{sent['id']}{suffix}", key="other", json=body)
        never = await call(method, f"/notifications/77777777{suffix}", key="other", json=body)
        assert theirs.status == never.status == 404
        assert theirs.body == never.body
    listed = (await call("GET", "/notifications", key="other")).body["items"]
    assert sent["id"] not in {each["id"] for each in listed}
    assert (await call("GET", f"/notifications/{sent['id']}")).body["state"] == "running"


async def test_retirements_are_counted_and_taken_back(call):
    assert (await call("GET", "/retirements")).body == {"items": []}
    assert (await call("POST", "/retirements/revive", json={"since": 0})).body == {"devices": 0}
    for body, pointer in (
        ({}, "/since"),
        ({"since": -1}, "/since"),
        ({"since": 9, "until": 8}, "/since"),
        ({"since": 0, "reason": "\0"}, "/reason"),
        ({"since": 0, "credential_id": 0}, "/credential_id"),
        ({"since": 0, "all": True}, "/all"),
    ):
        answer = await call("POST", "/retirements/revive", json=body)
        assert (answer.status, answer.pointers) == (400, [pointer])
    assert (await call("GET", "/retirements?since=x")).pointers == ["since"]
    for method, path in (("GET", "/retirements"), ("POST", "/retirements/revive")):
        assert (await call(method, path, key="device")).status == 403


def to_user(name, **message):
    return {"audience": {"type": "users", "ids": [name]}, "message": {"title": "Code", **message}}


async def send_array(call, notifications, **headers):
    return await call("POST", "/notifications/batch", json={"notifications": notifications}, headers=headers)


async def test_each_send_of_an_array_has_its_result_in_order(call):
    devices = [await call.world.register(f"array-{at}", user_id=f"array-{at}") for at in range(3)]
    before = len(call.world.fanout.released)
    answer = await send_array(
        call,
        [
            to_user("array-0", body="first"),
            to_user("nobody"),
            to_user("array-1", badge=1, badge_increment=1),
            to_user("array-1") | {"colour": 1},
            to_user("array-2"),
            to_user("array-0", body="again"),
        ],
    )
    assert answer.status == 202, answer.body
    assert answer.body["accepted"] == 3
    results = answer.body["results"]
    assert ["id" in each for each in results] == [True, False, False, False, True, True]
    assert [each["targeted"] for each in results if "id" in each] == [1, 1, 1]
    problems = [each["problem"] for each in results if "problem" in each]
    assert [each["code"] for each in problems] == ["unknown_targets", "invalid_request", "invalid_request"]
    assert [each["errors"][0]["pointer"] for each in problems] == [
        "/notifications/1",
        "/notifications/2/message/badge_increment",
        "/notifications/3/colour",
    ]
    released = call.world.fanout.released[before:]
    assert [each.id for each, _, _ in released] == [each["id"] for each in results if "id" in each]
    assert [list(targeted) for _, _, targeted in released] == [[devices[at].id] for at in (0, 2, 0)]
    assert [each.send.message.body for each, _, _ in released] == ["first", None, "again"]
    for each in results:
        if "id" in each:
            shown = await call("GET", f"/notifications/{each['id']}")
            assert (shown.status, shown.body["counts"]["targeted"]) == (200, 1)


async def test_an_array_of_which_nothing_can_be_sent_is_an_error(call):
    answer = await send_array(call, [to_user("nobody"), {"message": {}}, to_user("none")])
    assert answer.status == 400
    assert answer.pointers == ["/notifications/0", "/notifications/1/audience", "/notifications/2"]
    assert (await send_array(call, [])).pointers == ["/notifications"]
    assert (await call("POST", "/notifications/batch", json={})).pointers == ["/notifications"]
    assert (await call("POST", "/notifications/batch", json=[])).status == 400
    twice = await call(
        "POST",
        "/notifications/batch",
        data=b'{"notifications": [], "notifications": []}',
        headers={"Content-Type": "application/json"},
    )
    assert twice.pointers == ["/notifications"]
    assert "twice" in twice.body["errors"][0]["detail"]


async def test_an_array_has_a_thousand_sends_at_most(call):
    await call.world.register("thousand", user_id="thousand")
    whole = await send_array(call, [to_user("thousand", body=str(at)) for at in range(1000)])
    assert whole.status == 202
    ids = [each["id"] for each in whole.body["results"]]
    assert ids == sorted(set(ids))
    assert len(ids) == 1000
    more = await send_array(call, [to_user("thousand")] * 1001)
    assert (more.status, more.pointers) == (400, ["/notifications"])


async def test_a_key_covers_an_array(call):
    await call.world.register("keyed", user_id="keyed")
    before = len(call.world.fanout.released)
    sends = [to_user("keyed", body="1"), to_user("nobody"), to_user("keyed", body="2")]
    answers = await asyncio.gather(*(send_array(call, sends, **{"Idempotency-Key": "array"}) for _ in range(5)))
    answers.append(await send_array(call, sends, **{"Idempotency-Key": "array"}))
    assert {answer.status for answer in answers} == {202}
    assert all(answer.body == answers[0].body for answer in answers)
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count("true") == 5
    assert len(call.world.fanout.released) == before + 2
    listed = await call("GET", "/notifications", params={"limit": "4"})
    assert sum(each["audience"] == {"type": "users", "ids": ["keyed"]} for each in listed.body["items"]) == 2
    other = await send_array(call, sends[:1], **{"Idempotency-Key": "array"})
    assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
    single = await call("POST", "/notifications", json=sends[0], headers={"Idempotency-Key": "array"})
    assert single.status == 422


async def test_a_full_fan_out_says_when_to_bring_an_array_again(call, monkeypatch):
    await call.world.register("full", user_id="full")
    monkeypatch.setattr(call.world.fanout, "full", UnavailableError("the fan-out is full", retry_after_s=7.2))
    answer = await send_array(call, [to_user("full")] * 3)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "8")
    single = await call("POST", "/notifications", json=to_user("full"))
    assert (single.status, single.headers["Retry-After"]) == (503, "8")
