"""Sends with a time over HTTP: kept as schedules, seen, changed, switched, cancelled; every fault at its field."""

import asyncio
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from pushd.commands.context import NoGate
from pushd.model.app import App
from pushd.model.notification import Send
from pushd.store.accepts import Accept, Due
from pushd.store.schedules import Firing
from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = {"audience": {"type": "broadcast"}, "message": {"title": "Hello"}}
FAR = 2_000_000_000
UTC_FAR = {"strategy": "utc", "send_at": FAR, "past_times": "ignore"}
DAILY = {
    "strategy": "timezone",
    "time_zone": "Europe/Berlin",
    "past_times": "ignore",
    "recurrence": {"rrule": "FREQ=DAILY;BYHOUR=9;BYMINUTE=0;BYSECOND=0", "starts_at": "2033-05-17T00:00"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


async def send(call, schedule=None, *, key="server", headers=None, **more):
    body = HELLO | ({"schedule": schedule} if schedule else {}) | more
    answer = await call("POST", "/notifications", json=body, key=key, headers=headers)
    assert answer.status == 202, answer.body
    return answer.body


async def show(call, schedule_id):
    answer = await call("GET", f"/schedules/{schedule_id}")
    assert answer.status == 200, answer.body
    return answer.body


async def change(call, schedule_id, **fields):
    return await call("PATCH", f"/schedules/{schedule_id}", json=fields)


async def stored(call, schedule_id):
    found = await call.world.context.store.schedules.get(call.world.app.id, schedule_id)
    assert found is not None
    return found


async def fire(call, schedule_id, notification_id, following=None, skipped=()):
    """What the runner does of a schedule whose time has come, without anybody that it goes to."""
    context, due = call.world.context, await stored(call, schedule_id)
    now = context.clock.now()
    start = Accept(
        app_id=due.app_id,
        send=due.send,
        targeted=call.world.context.index.resolve(due.app_id, due.send.audience, frozenset()).devices,
        node_id=context.node_id,
        created_at=now,
        released_at=now,
        expires_at=now + 60,
    )
    firing = Firing(
        due=due,
        occurrence=due.nominal,
        skipped=skipped,
        following=following,
        notification_id=notification_id,
        start=start if notification_id else None,
    )
    assert await context.store.schedules.fire([firing], context.node_id) == [True]


async def test_a_send_with_a_time_waits_and_is_seen_as_both(call):
    sent = await send(call, UTC_FAR, name="later", ttl_s=60, category="news", quiet_hours="drop", transactional=True)
    assert sent == {"id": sent["id"], "next_at": float(FAR)}
    assert call.world.fanout.released == []
    waiting = await show(call, sent["id"])
    assert waiting == waiting | {
        "id": sent["id"],
        "name": "later",
        "state": "active",
        "active": True,
        "revision": waiting["revision"],
        "next_at": float(FAR),
        "next": [float(FAR)],
        "occurred": 0,
        "skipped": 0,
        "schedule": UTC_FAR,
        "intelligent_delivery": False,
        "release_window_minutes": None,
        "audience": {"type": "broadcast"},
        "message": {"title": "Hello"},
        "transactional": True,
        "delivery": "at_least_once",
        "ttl_s": 60,
        "collapse_id": None,
        "category": "news",
        "quiet_hours": "drop",
        "ended_at": None,
        "cancelled_at": None,
    }
    view = (await call("GET", f"/notifications/{sent['id']}")).body
    assert (view["state"], view["next_at"], view["schedule"], view["name"]) == ("scheduled", FAR, UTC_FAR, "later")
    assert (view["schedule_id"], view["finished_at"], set(view["counts"].values())) == (None, None, {0})
    for path in ("devices", "releases"):
        assert (await call("GET", f"/notifications/{sent['id']}/{path}")).body == {"items": [], "next": None}
    assert (await call("PATCH", f"/notifications/{sent['id']}", json={"name": None})).body["name"] is None
    assert (await show(call, sent["id"]))["name"] is None


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        (
            {"schedule": {"strategy": "local", "send_at": "2033-05-18T09:00", "past_times": "ignore"}},
            "2033-05-17T19:00",
        ),
        (
            {"schedule": {"strategy": "intelligent", "send_at": "2033-05-18", "past_times": "ignore"}},
            "2033-05-17T10:00",
        ),
        ({"schedule": DAILY}, "2033-05-17T07:00"),
        ({"schedule": UTC_FAR | {"send_at": 5}}, None),
        ({"release_window_minutes": 60}, None),
        ({"intelligent_delivery": True}, None),
    ],
)
async def test_it_is_due_when_it_goes_out_to_the_first(call, fields, due):
    before = call.world.context.clock.now()
    sent = await send(call, **fields)
    if due is None:
        assert before - 1 < sent["next_at"] < before + 5
    else:
        assert sent["next_at"] == datetime.fromisoformat(due).replace(tzinfo=UTC).timestamp()
    assert "targeted" not in sent


@pytest.mark.parametrize(
    ("schedule", "coming"),
    [
        (DAILY, [1_999_926_000.0 + day * 86_400 for day in range(5)]),
        (
            {
                "strategy": "local",
                "past_times": "ignore",
                "recurrence": {"cron": "30 8 1 * *", "starts_at": "2033-06-01T00:00"},
            },
            [f"2033-{month:02}-01T08:30:00" for month in range(6, 11)],
        ),
        (
            {
                "strategy": "intelligent",
                "past_times": "ignore",
                "recurrence": {"rrule": "FREQ=WEEKLY;BYDAY=SU;COUNT=2", "starts_at": "2033-05-16T00:00"},
            },
            ["2033-05-22", "2033-05-29"],
        ),
        (
            {
                "strategy": "utc",
                "past_times": "ignore",
                "recurrence": {"every_s": 60, "starts_at": FAR, "ends_at": FAR + 90},
            },
            [float(FAR), FAR + 60.0],
        ),
        ({"strategy": "intelligent", "past_times": "ignore", "send_at": "2033-05-18"}, ["2033-05-18"]),
    ],
)
async def test_the_next_five_occurrences(call, schedule, coming):
    sent = await send(call, schedule)
    assert (await show(call, sent["id"]))["next"] == coming


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"schedule": {}}, ["/schedule/strategy", "/schedule/send_at", "/schedule/past_times"]),
        ({"schedule": {"strategy": "utc"}}, ["/schedule/send_at", "/schedule/past_times"]),
        ({"schedule": {"strategy": "soon"}}, ["/schedule/strategy"]),
        ({"schedule": UTC_FAR | {"send_at": "tomorrow"}}, ["/schedule/send_at"]),
        ({"schedule": UTC_FAR | {"send_at": FAR * 1000}}, ["/schedule/send_at"]),
        ({"schedule": UTC_FAR | {"time_zone": "Europe/Berlin"}}, ["/schedule/time_zone"]),
        (
            {"schedule": UTC_FAR | {"strategy": "timezone", "time_zone": "Mars"}},
            ["/schedule/time_zone", "/schedule/send_at"],
        ),
        ({"schedule": UTC_FAR, "intelligent_delivery": True}, ["/intelligent_delivery"]),
        ({"schedule": UTC_FAR, "release_window_minutes": 59}, ["/release_window_minutes"]),
        ({"schedule": UTC_FAR, "release_window_minutes": 1441}, ["/release_window_minutes"]),
        ({"schedule": UTC_FAR | {"recurrence": {"every_s": 60}}}, ["/schedule/send_at"]),
        ({"schedule": DAILY | {"recurrence": {}}}, ["/schedule/recurrence"]),
        ({"schedule": DAILY | {"recurrence": {"rrule": "FREQ=SECONDLY"}}}, ["/schedule/recurrence/rrule"]),
        ({"schedule": DAILY | {"recurrence": {"rrule": "FREQ=DAILY;UNTIL=20000101"}}}, ["/schedule/recurrence/rrule"]),
        ({"schedule": DAILY | {"recurrence": {"cron": "61 * * * *"}}}, ["/schedule/recurrence/cron"]),
        ({"schedule": DAILY | {"recurrence": {"every_s": 59}}}, ["/schedule/recurrence/every_s"]),
        ({"schedule": DAILY | {"missed": {"type": "run", "within_s": 0}}}, ["/schedule/missed/within_s"]),
        ({"schedule": DAILY | {"missed": {"type": "maybe"}}}, ["/schedule/missed/type"]),
        ({"schedule": UTC_FAR, "quiet_hours": "loud"}, ["/quiet_hours"]),
        ({"schedule": UTC_FAR, "category": ""}, ["/category"]),
        ({"schedule": UTC_FAR, "ttl_s": 2_419_201}, ["/ttl_s"]),
        ({"schedule": UTC_FAR, "message": {"title": "x", "url": "javascript:1"}}, ["/message/url"]),
        ({"schedule": UTC_FAR, "audience": {"type": "segment", "id": "no"}}, ["/audience/id"]),
        ({"schedule": UTC_FAR, "audience": {"type": "tags"}}, ["/audience"]),
        ({"schedule": UTC_FAR | {"at": 5}}, ["/schedule/at"]),
    ],
)
async def test_every_fault_names_its_field(call, fields, pointers):
    answer = await call("POST", "/notifications", json=HELLO | fields)
    assert (answer.status, answer.body["code"]) == (400, "invalid_request"), answer.body
    assert answer.pointers == pointers
    array = await call(
        "POST", "/notifications/batch", json={"notifications": [HELLO | {"schedule": UTC_FAR}, HELLO | fields]}
    )
    assert (array.status, array.body["accepted"]) == (202, 1)
    faults = array.body["results"][1]["problem"]["errors"]
    assert [fault["pointer"] for fault in faults] == [f"/notifications/1{pointer}" for pointer in pointers]
    sent = await send(call, DAILY)
    patched = {name: value for name, value in fields.items() if name != "schedule" or value != UTC_FAR}
    if patched and "intelligent_delivery" not in patched:
        changed = await change(call, sent["id"], **patched)
        assert (changed.status, changed.pointers) == (400, pointers), changed.body
        assert (await show(call, sent["id"]))["revision"] == 1


async def test_unknown_targets_are_reported_and_never_refuse(call):
    device = await call.world.register("here", user_id="here")
    gone = await call.world.register("silent", token=None)
    ids = {"type": "devices", "ids": [device.id, gone.id, 7_000_000]}
    errors = (await send(call, UTC_FAR, audience=ids))["errors"]
    assert errors == {"unknown": {"devices": [7_000_000]}, "unsubscribed": {"devices": [gone.id]}, "count": 2}
    nobody = await send(call, UTC_FAR, audience={"type": "users", "ids": ["nobody"]})
    assert nobody["errors"] == {"unknown": {"users": ["nobody"]}, "count": 1}
    installs = await send(call, UTC_FAR, audience={"type": "not", "of": {"type": "installs", "ids": ["here"]}})
    assert "errors" not in installs
    assert "errors" not in await send(call, UTC_FAR, audience={"type": "users", "ids": ["here"]})
    assert "errors" not in await send(call, UTC_FAR, audience={"type": "tags", "any": ["of nobody yet"]})


async def test_a_key_makes_one_schedule(call):
    headers = {"Idempotency-Key": "once"}
    first = await send(call, UTC_FAR, headers=headers)
    again = await call("POST", "/notifications", json=HELLO | {"schedule": UTC_FAR}, headers=headers)
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (202, first, "true")
    other = await call("POST", "/notifications", json=HELLO | {"schedule": UTC_FAR | {"send_at": 5}}, headers=headers)
    assert other.status == 422
    await call("DELETE", f"/schedules/{first['id']}")
    assert (await call("POST", "/notifications", json=HELLO | {"schedule": UTC_FAR}, headers=headers)).body == first


async def test_an_array_mixes_what_waits_and_what_does_not(call):
    device = await call.world.register("mixed", user_id="mixed")
    before = len(call.world.fanout.released)
    person = {"type": "users", "ids": ["mixed"]}
    body = {
        "notifications": [
            HELLO | {"schedule": UTC_FAR},
            HELLO | {"audience": person, "message": {"title": "now"}},
            HELLO | {"audience": {"type": "users", "ids": ["nobody"]}, "schedule": DAILY},
            HELLO | {"audience": {"type": "users", "ids": ["nobody"]}},
            HELLO | {"audience": person, "release_window_minutes": 60, "ttl_s": 0},
        ]
    }
    headers = {"Idempotency-Key": "mixture"}
    answer = await call("POST", "/notifications/batch", json=body, headers=headers)
    assert (answer.status, answer.body["accepted"]) == (202, 4)
    later, now, recurring, refused, window = answer.body["results"]
    assert (later["next_at"], "targeted" in later) == (FAR, False)
    assert now == {"id": now["id"], "targeted": 1}
    assert recurring["errors"]["count"] == 1
    assert refused["problem"]["code"] == "unknown_targets"
    ((notification, _, devices),) = call.world.fanout.released[before:]
    assert (notification.id, list(devices)) == (now["id"], [device.id])
    assert [(await show(call, each["id"]))["state"] for each in (later, recurring, window)] == ["active"] * 3
    assert (await call("GET", f"/schedules/{now['id']}")).status == 404
    again = await call("POST", "/notifications/batch", json=body, headers=headers)
    assert (again.body, len(call.world.fanout.released)) == (answer.body, before + 1)


async def test_what_waits_can_be_changed_in_every_part(call):
    sent = await send(call, UTC_FAR, name="first", ttl_s=60)
    changed = await change(call, sent["id"], name=None, message={"body": "Other"}, ttl_s=None, category="b")
    assert changed.status == 200, changed.body
    assert (changed.body["name"], changed.body["message"], changed.body["ttl_s"]) == (None, {"body": "Other"}, None)
    assert (changed.body["next_at"], changed.body["revision"], changed.body["category"]) == (FAR, 2, "b")
    assert await show(call, sent["id"]) == changed.body
    same = await change(call, sent["id"], category="b")
    assert same.body["revision"] == 2
    changed = await change(call, sent["id"], schedule=DAILY, audience={"type": "tags", "any": ["x"]})
    assert (len(changed.body["next"]), changed.body["schedule"]) == (5, DAILY)
    changed = await change(call, sent["id"], schedule=None, release_window_minutes=60)
    now = call.world.context.clock.now()
    assert now - 5 < changed.body["next_at"] <= now
    assert (changed.body["schedule"], changed.body["release_window_minutes"]) == (None, 60)


async def test_a_change_is_made_to_what_was_read(call):
    sent = await send(call, UTC_FAR)
    assert (await change(call, sent["id"], name="mine", revision=1)).status == 200
    late = await change(call, sent["id"], name="theirs", revision=1)
    assert (late.status, late.body["code"]) == (409, "conflict")
    assert (await show(call, sent["id"]))["name"] == "mine"
    done = await asyncio.gather(*(change(call, sent["id"], message={"title": f"{n}"}) for n in range(6)))
    assert [each.status for each in done] == [200] * 6
    assert (await show(call, sent["id"]))["revision"] == 8
    raced = await asyncio.gather(*(change(call, sent["id"], name=f"{n}", revision=8) for n in range(4)))
    assert sorted(each.status for each in raced) == [200, 409, 409, 409]


async def test_another_time_is_judged_as_of_the_change(call):
    sent = await send(call, UTC_FAR)
    before = await stored(call, sent["id"])
    past = {"strategy": "utc", "send_at": before.created_at - 3600, "past_times": "next_day"}
    changed = (await change(call, sent["id"], schedule=past)).body
    assert changed["next_at"] == pytest.approx(before.created_at - 3600 + 86_400, abs=1)
    after = await stored(call, sent["id"])
    assert after.created_at == before.created_at < after.accepted_at
    renamed = await change(call, sent["id"], name="x")
    assert renamed.body["next_at"] == changed["next_at"]
    assert (await stored(call, sent["id"])).accepted_at == after.accepted_at


async def test_off_and_on_again(call):
    sent = await send(call, DAILY)
    off = (await change(call, sent["id"], active=False)).body
    assert (off["state"], off["active"], off["next_at"], off["next"]) == ("inactive", False, None, [])
    assert (await call("GET", f"/notifications/{sent['id']}")).body["state"] == "paused"
    assert await call.world.context.store.schedules.due(FAR * 1.5, 1_000) is not None
    due = await call.world.context.store.schedules.due(FAR * 1.5, 1_000)
    assert sent["id"] not in {each.id for each in due}
    on = (await change(call, sent["id"], active=True)).body
    assert (on["state"], on["next_at"], len(on["next"])) == ("active", sent["next_at"], 5)
    resumed = await call("POST", f"/notifications/{sent['id']}/pause")
    assert (resumed.status, resumed.body["state"]) == (200, "paused")
    resumed = await call("POST", f"/notifications/{sent['id']}/resume")
    assert (resumed.status, resumed.body["state"], resumed.body["next_at"]) == (200, "scheduled", sent["next_at"])


async def test_occurrences_are_counted_and_told(call):
    sent = await send(call, DAILY)
    first, second, third, *_ = (await show(call, sent["id"]))["next"]
    store = call.world.context.store
    (one, two) = await store.notifications.acceptor.reserve(2)
    await fire(call, sent["id"], one, Due(second, second))
    await fire(call, sent["id"], 0, Due(third, third))
    view = await show(call, sent["id"])
    assert (view["occurred"], view["skipped"], view["next"][0]) == (1, 1, third)
    path = f"/schedules/{sent['id']}/occurrences"
    found = (await call("GET", path)).body["items"]
    assert [(each["at"], each["outcome"], each["notification_id"]) for each in found] == [
        (second, "skipped", None),
        (first, "fired", one),
    ]
    assert (await call("GET", f"/notifications/{one}")).body["schedule_id"] == sent["id"]
    page = (await call("GET", path, params={"limit": 1})).body
    rest = (await call("GET", path, params={"limit": 1, "cursor": page["next"]})).body
    assert [each["at"] for each in page["items"] + rest["items"]] == [second, first]
    await fire(call, sent["id"], two)
    over = await show(call, sent["id"])
    assert (over["state"], over["occurred"], over["next"], over["next_at"]) == ("ended", 2, [], None)
    for asked in (
        change(call, sent["id"], message={"title": "x"}),
        change(call, sent["id"], active=False),
        call("DELETE", f"/schedules/{sent['id']}"),
        call("POST", f"/notifications/{sent['id']}/cancel"),
        call("POST", f"/notifications/{sent['id']}/pause"),
    ):
        answer = await asked
        assert (answer.status, answer.body["code"]) == (409, "conflict"), answer.body
    assert (await change(call, sent["id"], name="over")).body["name"] == "over"


async def test_what_was_sent_once_keeps_its_id_and_can_only_be_renamed(call):
    await call.world.register("once", user_id="once")
    sent = await send(call, UTC_FAR, audience={"type": "users", "ids": ["once"]})
    await fire(call, sent["id"], sent["id"])
    assert (await call("GET", f"/schedules/{sent['id']}")).status == 404
    view = (await call("GET", f"/notifications/{sent['id']}")).body
    assert (view["id"], view["schedule_id"], view["schedule"]) == (sent["id"], None, UTC_FAR)
    for asked in (change(call, sent["id"], ttl_s=5), call("DELETE", f"/schedules/{sent['id']}")):
        answer = await asked
        assert (answer.status, answer.body["code"]) == (409, "conflict")
    renamed = await call("PATCH", f"/notifications/{sent['id']}", json={"name": "sent"})
    assert (renamed.status, renamed.body["name"]) == (200, "sent")


async def test_cancelling_what_waits(call):
    for path, method in (("/notifications/{}/cancel", "POST"), ("/schedules/{}", "DELETE")):
        sent = await send(call, UTC_FAR)
        for _ in range(2):
            assert (await call(method, path.format(sent["id"]))).status in {200, 204}
        view = await show(call, sent["id"])
        assert (view["state"], view["next_at"], view["cancelled_at"] is not None) == ("cancelled", None, True)
        told = (await call("GET", f"/notifications/{sent['id']}")).body
        assert (told["state"], told["finished_at"]) == ("cancelled", view["cancelled_at"])
        assert (await change(call, sent["id"], active=True)).status == 409
        assert (await call("POST", f"/notifications/{sent['id']}/resume")).status == 409
        assert (await change(call, sent["id"], name="gone")).body["name"] == "gone"


async def test_listings(call):
    made = [(await send(call, UTC_FAR, name=f"{n}"))["id"] for n in range(3)]
    await call("DELETE", f"/schedules/{made[1]}")
    await change(call, made[2], active=False)
    page = (await call("GET", "/schedules", params={"limit": 2})).body
    assert [each["id"] for each in page["items"]] == [made[2], made[1]]
    assert [each["next"] for each in page["items"]] == [[], []]
    more = (await call("GET", "/schedules", params={"limit": 2, "cursor": page["next"]})).body
    assert more["items"][0]["id"] == made[0]
    active = (await call("GET", "/schedules", params={"active": "true"})).body["items"]
    over = (await call("GET", "/schedules", params={"active": "false"})).body["items"]
    assert made[0] in {each["id"] for each in active}
    assert {made[1], made[2]} <= {each["id"] for each in over}
    assert not {each["id"] for each in active} & {each["id"] for each in over}


async def test_pausing_what_runs(call):
    await call.world.register("running", user_id="running")
    sent = await send(call, audience={"type": "users", "ids": ["running"]})
    path = f"/notifications/{sent['id']}"
    for _ in range(2):
        paused = await call("POST", f"{path}/pause")
        assert (paused.status, paused.body["state"], paused.body["counts"]["pending"]) == (200, "paused", 1)
    assert sent["id"] in call.world.fanout.paused
    call.world.fanout.paused[:] = [sent["id"]]
    resumed = await call("POST", f"{path}/resume")
    assert (resumed.status, resumed.body["state"], call.world.fanout.paused) == (200, "running", [])
    await call("POST", f"{path}/pause")
    cancelled = await call("POST", f"{path}/cancel")
    assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")


async def test_what_is_anothers_is_as_absent_as_none(call):
    one = (await send(call, UTC_FAR))["id"]
    two = (await send(call, DAILY))["id"]
    asked = [
        ("GET", "/schedules/{}", None),
        ("PATCH", "/schedules/{}", {"name": "mine"}),
        ("PATCH", "/schedules/{}", {"active": False}),
        ("DELETE", "/schedules/{}", None),
        ("GET", "/schedules/{}/occurrences", None),
        ("GET", "/notifications/{}", None),
        ("PATCH", "/notifications/{}", {"name": "mine"}),
        ("GET", "/notifications/{}/devices", None),
        ("GET", "/notifications/{}/releases", None),
        ("POST", "/notifications/{}/pause", None),
        ("POST", "/notifications/{}/resume", None),
        ("POST", "/notifications/{}/cancel", None),
    ]
    for method, path, body in asked:
        for number in (one, two):
            theirs = await call(method, path.format(number), json=body, key="other")
            never = await call(method, path.format(2_000_000_000), json=body, key="other")
            assert theirs.status == never.status == 404, (path, theirs.body)
            assert theirs.body == never.body
        assert (await call(method, path.format(one), json=body, key="device")).status == 403
    assert (await call("GET", "/schedules", key="other")).body == {"items": [], "next": None}
    assert [(await show(call, number))["revision"] for number in (one, two)] == [1, 1]
    stolen = (await call("GET", "/schedules", params={"limit": 1})).body["next"]
    assert (await call("GET", "/schedules", params={"cursor": stolen}, key="other")).pointers == ["cursor"]


class Quiet:
    """Quiet hours that may concern every send that is not transactional."""

    def concerns(self, _: App, asked: Send, /) -> bool:
        return not asked.transactional


async def test_what_quiet_hours_may_concern_is_kept_as_a_schedule(call):
    object.__setattr__(call.world.context, "gate", Quiet())
    try:
        kept = await send(call)
        assert (await show(call, kept["id"]))["state"] == "active"
        assert "targeted" in await send(call, transactional=True)
    finally:
        object.__setattr__(call.world.context, "gate", NoGate())


async def test_content_of_templates_is_kept_as_it_came_out_and_said_anew(call):
    for uid in ("one", "two"):
        body = {"name": uid, "uid": uid, "message": {"title": uid, "body": "Hello {{ name }}"}}
        assert (await call("POST", "/templates", json=body)).status == 201
    ada = {"template": {"uid": "one"}, "content_tags": {"name": "Ada"}, "message": {}}
    sent = await send(call, UTC_FAR, **ada)
    assert (await show(call, sent["id"]))["message"] == {"title": "one", "body": "Hello Ada"}
    alone = await change(call, sent["id"], content_tags={"name": "Bob"})
    assert (alone.status, alone.pointers) == (400, ["/content_tags"])
    both = await change(call, sent["id"], template={"uid": "one"}, content_tags={"name": "Bob"})
    assert both.body["message"] == {"title": "one", "body": "Hello Bob"}
    anew = {"template": {"uid": "two"}, "content_tags": {"name": "Eve"}, "message": {"title": "T"}}
    other = await change(call, sent["id"], **anew)
    assert other.body["message"] == {"title": "T", "body": "Hello Eve"}
    missing = await change(call, sent["id"], template={"uid": "one"}, content_tags={})
    assert missing.status == 400, missing.body
    plain = await change(call, sent["id"], template=None, message={"title": "plain"}, ttl_s=5)
    assert (plain.body["message"], plain.body["template"]) == ({"title": "plain"}, None)
    assert (await show(call, sent["id"]))["message"] == {"title": "plain"}


async def test_where_a_badge_comes_from_can_be_changed_alone(call):
    sent = await send(call, UTC_FAR)
    changed = await change(call, sent["id"], badge_from="user.unread")
    assert (changed.status, changed.body["badge_from"], changed.body["message"]) == (
        200,
        "user.unread",
        {"title": "Hello"},
    )
    assert (await change(call, sent["id"], badge_from="9")).pointers == ["/badge_from"]
