"""Sends with a time, through HTTP and a whole daemon to the gateway: when they go out, to whom, and what stops them."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from pushd.config import FanoutConfig
from pushd.simulator.faults import Slow
from tests.acceptance.commands import pushd
from tests.acceptance.world import PATIENCE_S, running

pytestmark = pytest.mark.asyncio(loop_scope="package")

SOON_S = 1.5
AT_ONCE_S = 0.4


def at(seconds, past_times="ignore"):
    """A schedule for so many seconds from now."""
    return {"strategy": "utc", "send_at": time.time() + seconds, "past_times": past_times}


def wall(seconds, strategy="local", past_times="ignore"):
    """A schedule for the wall time that clocks in UTC show in so many seconds."""
    shown = datetime.fromtimestamp(int(time.time()) + seconds, UTC).replace(tzinfo=None)
    return {"strategy": strategy, "send_at": shown.isoformat(), "past_times": past_times}


async def until(check):
    """What `check` says, once it says something."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await check()):
            await asyncio.sleep(0.05)
    return found


def reasons(view):
    return {each["reason"]: each["count"] for each in view["reasons"]}


async def test_it_goes_out_at_its_time_to_whoever_is_there_then(tenant):
    first = await tenant.register("first", user_id="ada")
    schedule = at(SOON_S)
    audience = {"type": "users", "ids": ["ada", "bob"]}
    sent = await tenant.send(audience, schedule=schedule)
    assert sent == {
        "id": sent["id"],
        "next_at": pytest.approx(schedule["send_at"], abs=1e-3),
        "errors": {"unknown": {"users": ["bob"]}, "count": 1},
    }
    second = await tenant.register("second", user_id="bob")
    waiting = await tenant.show(sent["id"])
    assert (waiting["state"], waiting["counts"]["targeted"]) == ("scheduled", 0)
    assert [each["id"] for each in (await tenant.server.ok("GET", "/notifications"))["items"]] == [sent["id"]]
    done = await tenant.finished(sent["id"])
    assert time.time() >= schedule["send_at"]
    assert (done["state"], done["counts"]["accepted"], done["next_at"]) == ("done", 2, None)
    assert [tenant.arrived(device["token"]) for device in (first, second)] == [1, 1]
    assert (await tenant.server("GET", f"/schedules/{sent['id']}")).status == 404
    late = await tenant.server("POST", f"/notifications/{sent['id']}/cancel")
    assert (late.status, late.code) == (409, "conflict")


async def test_what_is_past_is_counted_or_goes_out_tomorrow(tenant):
    device = await tenant.register("phone")
    ignored = await tenant.sent(schedule=at(-3600))
    assert (ignored["state"], ignored["counts"]["suppressed"], reasons(ignored)) == ("done", 1, {"time_passed": 1})
    tomorrow = await tenant.send(schedule=at(-3600, "next_day"))
    assert tomorrow["next_at"] == pytest.approx(time.time() + 23 * 3600, abs=60)
    assert tenant.arrived(device["token"]) == 0


async def test_by_their_own_clocks_zone_by_zone(tenant):
    zones = ("Etc/UTC", "Asia/Tokyo", "America/New_York", None)
    utc, tokyo, york, nowhere = [await tenant.register(f"{zone}", time_zone=zone) for zone in zones]
    schedule = wall(2)
    sent = await tenant.send(schedule=schedule)
    view = await tenant.until(sent["id"], lambda view: view["counts"]["accepted"] == 2)
    now = datetime.now(UTC).replace(tzinfo=None)
    assert now >= datetime.fromisoformat(schedule["send_at"])
    assert (view["state"], view["counts"]["targeted"], view["counts"]["suppressed"]) == ("running", 3, 1)
    assert reasons(view) == {"accepted": 2, "time_passed": 1}
    assert [tenant.arrived(each["token"]) for each in (utc, tokyo, york, nowhere)] == [1, 0, 0, 1]
    assert view["next_at"] == pytest.approx(
        datetime.fromisoformat(schedule["send_at"]).replace(tzinfo=UTC).timestamp() + 5 * 3600
    )
    releases = (await tenant.server.ok("GET", f"/notifications/{sent['id']}/releases"))["items"]
    assert {each["state"] for each in releases} == {"open", "waiting"}
    assert sum(each["targeted"] or 0 for each in releases) == 3
    page = await tenant.server.ok("GET", f"/notifications/{sent['id']}/releases", params={"limit": 1})
    rest = await tenant.server.ok(
        "GET", f"/notifications/{sent['id']}/releases", params={"limit": 1000, "cursor": page["next"]}
    )
    assert page["items"] + rest["items"] == releases
    await tenant.server.ok("POST", f"/notifications/{sent['id']}/cancel")
    over = await tenant.finished(sent["id"])
    assert (over["state"], over["next_at"], over["counts"]["targeted"]) == ("cancelled", None, 3)
    (suppressed,) = await tenant.behind(sent["id"], outcome="suppressed")
    assert (suppressed["device_id"], suppressed["reason"]) == (tokyo["id"], "time_passed")


async def test_a_window_goes_out_in_batches_and_what_is_left_can_be_cancelled(tenant):
    tokens = await tenant.register_many(120)
    sent = await tenant.send(release_window_minutes=60, ttl_s=0)
    view = await tenant.until(sent["id"], lambda view: view["counts"]["accepted"] == 2)
    assert (view["state"], view["counts"]["targeted"], view["counts"]["pending"]) == ("running", 120, 118)
    paused = await tenant.server.ok("POST", f"/notifications/{sent['id']}/pause")
    assert (paused["state"], paused["counts"]["pending"]) == ("paused", 118)
    assert (await tenant.server.ok("POST", f"/notifications/{sent['id']}/resume"))["state"] == "running"
    await tenant.server.ok("POST", f"/notifications/{sent['id']}/cancel")
    over = await tenant.finished(sent["id"])
    assert (over["counts"]["accepted"], over["counts"]["cancelled"], over["state"]) == (2, 118, "cancelled")
    assert sum(map(tenant.arrived, tokens)) == 2
    assert len(await tenant.behind(sent["id"], outcome="cancelled", limit=1000)) == 118


async def test_each_occurrence_is_a_notification_of_its_own(tenant):
    device = await tenant.register("phone")
    recurrence = {"every_s": 60, "starts_at": time.time() + SOON_S, "count": 1}
    schedule = {"strategy": "utc", "past_times": "ignore", "recurrence": recurrence}
    sent = await tenant.send(schedule=schedule, name="again")
    path = f"/schedules/{sent['id']}"

    async def fired():
        return (await tenant.server.ok("GET", f"{path}/occurrences"))["items"]

    (occurrence,) = await until(fired)
    assert occurrence["at"] == pytest.approx(recurrence["starts_at"], abs=1e-3)
    assert (occurrence["outcome"], occurrence["notification_id"] > sent["id"]) == ("fired", True)
    done = await tenant.finished(occurrence["notification_id"])
    assert (done["schedule_id"], done["name"], done["counts"]["accepted"]) == (sent["id"], "again", 1)
    over = await tenant.server.ok("GET", path)
    assert (over["state"], over["occurred"], over["skipped"], over["next"]) == ("ended", 1, 0, [])
    assert (await tenant.show(sent["id"]))["state"] == "done"
    assert tenant.arrived(device["token"]) == 1
    assert (await tenant.server("DELETE", path)).status == 409


async def test_what_was_cancelled_or_switched_off_stays_back(tenant):
    device = await tenant.register("phone")
    schedule = at(SOON_S)
    cancelled, deleted, off, held = [(await tenant.send(schedule=schedule))["id"] for _ in range(4)]
    assert (await tenant.server.ok("POST", f"/notifications/{cancelled}/cancel"))["state"] == "cancelled"
    assert (await tenant.server("DELETE", f"/schedules/{deleted}")).status == 204
    await tenant.server.ok("PATCH", f"/schedules/{off}", {"active": False})
    assert (await tenant.server.ok("POST", f"/notifications/{held}/pause"))["state"] == "paused"
    last = await tenant.sent(schedule=at(SOON_S + 0.3))
    assert (last["counts"]["accepted"], tenant.arrived(device["token"])) == (1, 1)
    states = [(await tenant.show(each))["state"] for each in (cancelled, deleted, off, held)]
    assert states == ["cancelled", "cancelled", "paused", "paused"]
    # Its time is judged anew: within its minute it is not past.
    resumed = await tenant.server.ok("POST", f"/notifications/{held}/resume")
    assert resumed["id"] == held
    assert (await tenant.finished(held))["counts"]["accepted"] == 1
    await tenant.server.ok("PATCH", f"/schedules/{off}", {"active": True, "schedule": at(-3600)})
    assert reasons(await tenant.finished(off)) == {"time_passed": 1}


async def test_what_is_changed_goes_out_as_it_is_then(tenant):
    device = await tenant.register("phone", tags=["b"])
    other = await tenant.register("other", tags=["a"])
    sent = await tenant.send({"type": "tags", "any": ["a"]}, schedule=at(3600), ttl_s=0)
    body = {"audience": {"type": "tags", "any": ["b"]}, "message": {"title": "Changed"}, "schedule": at(AT_ONCE_S)}
    changed = await tenant.server.ok("PATCH", f"/schedules/{sent['id']}", body)
    assert (changed["revision"], changed["ttl_s"]) == (2, 0)
    done = await tenant.finished(sent["id"])
    assert (done["message"], done["counts"]["accepted"]) == ({"title": "Changed"}, 1)
    assert [tenant.arrived(each["token"]) for each in (device, other)] == [1, 0]
    fixed = await tenant.server("PATCH", f"/schedules/{sent['id']}", json={"ttl_s": 5})
    assert (fixed.status, fixed.code) == (409, "conflict")
    at_once = await tenant.send(schedule=at(3600))
    await tenant.server.ok(
        "PATCH", f"/schedules/{at_once['id']}", {"schedule": None, "audience": {"type": "broadcast"}}
    )
    assert (await tenant.finished(at_once["id"]))["counts"]["accepted"] == 2


async def test_an_array_of_both(tenant):
    device = await tenant.register("phone", user_id="ada")
    body = {"audience": {"type": "users", "ids": ["ada"]}, "message": {"title": "x"}}
    sends = {"notifications": [body, body | {"schedule": at(AT_ONCE_S)}, body | {"schedule": at(-3600)}]}
    results = (await tenant.server.ok("POST", "/notifications/batch", sends))["results"]
    done = [await tenant.finished(each["id"]) for each in results]
    assert [(each["counts"]["accepted"], each["counts"]["suppressed"]) for each in done] == [(1, 0), (1, 0), (0, 1)]
    assert tenant.arrived(device["token"]) == 2


async def test_the_life_of_a_message_is_what_it_or_its_app_says(tenant):
    await tenant.register("phone")
    plain = await tenant.sent(ttl_s=0)
    later = await tenant.sent(schedule=at(AT_ONCE_S), ttl_s=0)
    assert [each["counts"]["accepted"] for each in (plain, later)] == [1, 1]
    settings = (await tenant.server.ok("GET", f"/apps/{tenant.app_id}"))["settings"]
    await tenant.admin.ok("PATCH", f"/apps/{tenant.app_id}", {"settings": settings | {"default_ttl_s": 28_800}})
    found = [
        (await tenant.sent())["ttl_s"],
        (await tenant.sent(schedule=at(AT_ONCE_S)))["ttl_s"],
        (await tenant.sent(ttl_s=60))["ttl_s"],
    ]
    assert found == [28_800, 28_800, 60]


@pytest_asyncio.fixture(loop_scope="package")
async def narrow():
    """A tenant of a daemon that has few rows on their way at once."""
    async with running(fanout=FanoutConfig(unsettled_rows_max=200, batch_rows_max=100)) as world:
        yield await world.tenant()


async def test_pause_and_resume_while_it_runs(narrow):
    tenant, devices = narrow, 1_000
    tokens = await tenant.register_many(devices)
    tenant.fault(Slow(latency_ms=250))
    sent = await tenant.send()
    path = f"/notifications/{sent['id']}"
    await tenant.until(sent["id"], lambda view: view["counts"]["accepted"] > 0)
    assert (await tenant.server.ok("POST", f"{path}/pause"))["state"] == "paused"
    on_its_way = sum(map(tenant.arrived, tokens))
    still = await tenant.until(
        sent["id"], lambda view: view["counts"]["pending"] == devices - sum(map(tenant.arrived, tokens))
    )
    await asyncio.sleep(0.6)
    view = await tenant.show(sent["id"])
    assert view["counts"] == still["counts"], "it went on"
    assert view["counts"]["accepted"] <= on_its_way + 200
    assert 0 < view["counts"]["pending"] < devices
    assert (view["state"], view["finished_at"]) == ("paused", None)
    assert (await tenant.server.ok("POST", f"{path}/resume"))["state"] == "running"
    done = await tenant.finished(sent["id"])
    assert (done["state"], done["counts"]["accepted"]) == ("done", devices)
    assert all(tenant.arrived(token) == 1 for token in tokens)
    late = await tenant.server("POST", f"{path}/pause")
    assert (late.status, late.code) == (409, "conflict")


async def test_what_is_paused_can_be_cancelled_and_expires(narrow):
    tenant, devices = narrow, 600
    await tenant.register_many(devices)
    tenant.fault(Slow(latency_ms=250))
    one, two = await tenant.send(), await tenant.send(ttl_s=2)
    for each in (one, two):
        await tenant.server.ok("POST", f"/notifications/{each['id']}/pause")
    cancelled = await tenant.server.ok("POST", f"/notifications/{one['id']}/cancel")
    assert cancelled["state"] == "cancelled"
    counts = (await tenant.finished(one["id"]))["counts"]
    assert counts["accepted"] + counts["cancelled"] == devices
    assert counts["cancelled"] > 0
    counts = (await tenant.finished(two["id"]))["counts"]
    assert counts["accepted"] + counts["expired"] == devices
    assert counts["expired"] > 0


async def test_the_command_line(tenant):
    await tenant.register("phone", tags=["news"])
    client = tenant.server
    when = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()
    sent = await pushd(client, "send", "--tag", "news", "--at", when, "--name", "later", "Hello")
    number = str(sent["id"])
    assert (await pushd(client, "schedule", "show", number))["name"] == "later"
    assert [each["id"] for each in await pushd(client, "schedule", "list", "--active")] == [sent["id"]]
    changed = await pushd(client, "schedule", "change", number, "--cron", "0 9 * * 1", "--each-local", "--count", "3")
    assert (changed["schedule"]["strategy"], len(changed["next"])) == ("local", 3)
    assert (await pushd(client, "schedule", "off", number))["state"] == "inactive"
    assert (await pushd(client, "schedule", "on", number))["state"] == "active"
    assert await pushd(client, "schedule", "occurrences", number) == []
    assert (await pushd(client, "notification", "pause", number))["state"] == "paused"
    assert (await pushd(client, "notification", "resume", number))["state"] == "scheduled"
    assert (await pushd(client, "notification", "cancel", number))["state"] == "cancelled"
    assert (await pushd(client, "notification", "show", number))["state"] == "cancelled"
    soon = str(time.time() + 2)
    done = await pushd(
        client, "send", "--broadcast", "--at", soon, "--category", "a", "--push-tag", "t", "--wait", "Hello"
    )
    assert (done["state"], done["counts"]["accepted"], done["category"], done["push_tag"]) == ("done", 1, "a", "t")
    assert await pushd(client, "notification", "releases", str(done["id"])) == []
    assert [each["id"] for each in await pushd(client, "notification", "list")] == [done["id"]]
