"""In-app messages over HTTP: sent, fetched by installs and users, reported on, withdrawn; and who may see what."""

import asyncio
import json
import time

import msgspec
import pytest
import pytest_asyncio

from pushd.commands import notifications, scheduling
from pushd.commands.in_app_keeper import InAppKeeper
from pushd.commands.scheduling import runner
from pushd.commands.users import delete as delete_user
from pushd.config.receipts import ReceiptsConfig
from pushd.errors import UnavailableError
from pushd.model.audience import Broadcast
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.reports.limits import ReceiptLimits
from tests.pushd.api.native import native

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVENTS = ("delivered", "opened", "read", "dismissed", "deleted")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(module_dsn):
    async with native(module_dsn) as made:
        yield made


def message(**more):
    body = {
        "audience": {"type": "broadcast"},
        "content": {"title": "Harvest"},
        "presented_when": "immediately",
        "ttl": {"days": 14},
    } | more
    return {name: value for name, value in body.items() if value is not None}


def users(*names):
    return {"type": "users", "ids": list(names)}


def installs(*names):
    return {"type": "installs", "ids": list(names)}


async def sent(call, *, headers=None, **more):
    answer = await call("POST", "/in-app-messages", json=message(**more), headers=headers)
    assert answer.status == 202, answer.body
    return answer.body["id"]


def of(install_id=None, user_id=None):
    """The inbox of an install or of a user."""
    return f"/installs/{install_id}/inbox" if install_id else f"/users/{user_id}/inbox"


async def fetch(call, *, key="device", install_id=None, user_id=None, **query):
    params = {name: str(value) for name, value in query.items()}
    answer = await call("GET", of(install_id, user_id), key=key, params=params)
    assert answer.status == 200, answer.body
    return answer.body["items"]


async def look(call, nodes=1):
    """Does what is due, at several nodes at once."""
    context = call.world.context
    made = [runner(context, call.world.fanout, context.gate, None) for _ in range(nodes)]
    await asyncio.gather(*(each.look() for each in made))
    await asyncio.gather(*(each.idle() for each in made))
    await asyncio.gather(*(each.stop() for each in made))
    context.store.notifications.acceptor.on_scheduled = None


async def ids(call, **whose):
    return [each["id"] for each in await fetch(call, **whose)]


async def report(call, *events, key="device", **whose):
    body = {"events": [{"message_id": number, "event": event} for number, event in events]}
    answer = await call("POST", f"{of(**whose)}/events", key=key, json=body)
    assert answer.status == 200, answer.body
    return answer.body


async def badge(call, key="device", **whose):
    return (await call("GET", f"{of(**whose)}/badge", key=key)).body


async def test_a_message_goes_round(call):
    await call.world.register("round", user_id="rita", tags=["round"])
    audience = {"type": "tags", "any": ["round"]}
    inbox = {"title": "Harvest", "subtitle": "This week", "image": "https://example.org/a.png"}
    before = time.time()
    number = await sent(call, audience=audience, data={"k": [1]}, inbox=inbox, name="First", presented_when="next_open")
    (mine,) = await fetch(call, install_id="round")
    assert before <= mine["sent_at"] <= time.time()
    assert mine["expires_at"] == pytest.approx(mine["sent_at"] + 14 * 86_400)
    assert mine["updated_at"] == mine["sent_at"]
    times = dict.fromkeys((*(f"{event}_at" for event in EVENTS), "cancelled_at"))
    assert mine == {
        "id": number,
        "presented_when": "next_open",
        "content": {"title": "Harvest"},
        "data": {"k": [1]},
        "inbox": inbox | {name: None for name in ("available_from", "available_to") if name in mine["inbox"]},
        "sent_at": mine["sent_at"],
        "expires_at": mine["expires_at"],
        "updated_at": mine["updated_at"],
        **times,
    }
    assert await fetch(call, key="server", user_id="rita") == [mine]
    one = await call("GET", f"{of('round')}/{number}", key="device")
    assert (one.status, one.body) == (200, mine)
    assert await badge(call, install_id="round") == {"unread": 1, "total": 1}
    events = [(number, "delivered"), (number, "opened"), (number, "opened"), (number + 1_000_000, "read")]
    assert await report(call, *events, install_id="round") == {"taken": 2, "repeated": 1, "unknown": 1}
    assert await badge(call, install_id="round") == {"unread": 0, "total": 1}
    (mine,) = await fetch(call, key="server", user_id="rita")
    assert mine["opened_at"] is not None
    assert mine["read_at"] is None
    assert mine["updated_at"] >= mine["opened_at"]
    view = (await call("GET", f"/in-app-messages/{number}")).body
    assert (view["state"], view["name"], view["audience"], view["content"]) == (
        "live", "First", audience, {"title": "Harvest"}
    )  # fmt: skip
    assert view["counts"] == {
        "recipients": 1, "users": 1, "delivered": 1, "opened": 1, "read": 0, "dismissed": 0, "deleted": 0,
        "suppressed": 0,
    }  # fmt: skip
    assert view["ends_at"] == pytest.approx(view["released_at"] + 365 * 86_400)
    listed = (await call("GET", f"/in-app-messages/{number}/recipients")).body["items"]
    assert [(each["user_id"], each["install_id"], each["opened_at"]) for each in listed] == [
        ("rita", None, mine["opened_at"])
    ]
    never = await call("GET", f"/in-app-messages/{number}/recipients", params={"event": "deleted"})
    assert never.body == {"items": [], "next": None}


async def test_state_is_the_users_on_all_his_installs(call):
    for name in ("tim-phone", "tim-tablet"):
        await call.world.register(name, user_id="tim")
    number = await sent(call, audience=installs("tim-phone"), inbox={"title": "a"})
    assert await ids(call, install_id="tim-tablet") == [number]
    await report(call, (number, "read"), install_id="tim-phone")
    assert await badge(call, install_id="tim-tablet") == {"unread": 0, "total": 1}
    await call.world.register("tim-tablet", user_id="tina")
    assert number not in await ids(call, install_id="tim-tablet")
    await call.world.register("tim-third", user_id="tim")
    assert number in await ids(call, install_id="tim-third")


async def test_what_an_install_got_without_a_user_stays_its_own(call):
    await call.world.register("guest")
    first = await sent(call, audience=installs("guest"), inbox={"title": "Welcome"})
    assert await ids(call, install_id="guest") == [first]
    await report(call, (first, "opened"), install_id="guest")
    await call.world.register("guest", user_id="gwen")
    second = await sent(call, audience=users("gwen"), inbox={"title": "Hello"})
    assert await ids(call, install_id="guest") == [second, first]
    assert await ids(call, key="server", user_id="gwen") == [second]
    (_, seen) = await fetch(call, install_id="guest")
    assert seen["opened_at"] is not None
    assert await report(call, (first, "read"), (second, "read"), install_id="guest") == {
        "taken": 2, "repeated": 0, "unknown": 0
    }  # fmt: skip
    listed = (await call("GET", f"/in-app-messages/{first}/recipients")).body["items"]
    assert [(each["user_id"], each["install_id"]) for each in listed] == [(None, "guest")]
    await call.world.register("guest", user_id=None)
    assert await ids(call, install_id="guest") == [first]


async def test_installs_without_consent_are_unsubscribed(call):
    await call.world.register("silent", in_app_consent=False, user_id="sam")
    answer = await call("POST", "/in-app-messages", json=message(audience=installs("silent", "nobody")))
    assert (answer.status, answer.body["code"]) == (400, "unknown_targets")
    assert answer.body["targets"] == {
        "unknown": {"installs": ["nobody"]}, "unsubscribed": {"installs": ["silent"]}, "count": 2
    }  # fmt: skip
    await call.world.register("loud", tags=["mixed"])
    answer = await call("POST", "/in-app-messages", json=message(audience=installs("silent", "loud")))
    assert (answer.status, answer.body["recipients"]) == (202, 1)
    assert answer.body["errors"] == {"unsubscribed": {"installs": ["silent"]}, "count": 1}
    by_user = await call("POST", "/in-app-messages", json=message(audience=users("sam", "zed")))
    assert by_user.body["targets"]["unsubscribed"] == {"users": ["sam"]}
    # No address is needed, and pushes need none of this.
    await call.world.register("loud", token=None, push_enabled=False)
    number = await sent(call, audience=installs("loud"))
    assert number in await ids(call, install_id="loud")
    await call.world.register("loud", in_app_consent=False)
    assert await ids(call, install_id="loud") == []
    assert await report(call, (number, "delivered"), install_id="loud") == {"taken": 1, "repeated": 0, "unknown": 0}
    push = {"audience": installs("silent"), "message": {"title": "a"}}
    assert (await call("POST", "/notifications", json=push)).status == 202


async def test_consent_is_a_part_of_audiences(call):
    await call.world.register("yes", tags=["asked"])
    await call.world.register("no", tags=["asked"], in_app_consent=False)
    for is_, count in ((True, 1), (False, 1)):
        asked = {"type": "and", "of": [{"type": "tags", "any": ["asked"]}, {"type": "in_app_consent", "is": is_}]}
        assert (await call("POST", "/audience/count", json={"audience": asked})).body["devices"] == count
    answer = await call("PATCH", f"/devices/{(await call.world.register('no')).id}", json={"in_app_consent": True})
    assert answer.body["in_app_consent"]
    number = await sent(call, audience={"type": "tags", "any": ["asked"]})
    assert await ids(call, install_id="no") == [number]


async def test_many_are_bitmaps_and_few_are_rows(call):
    await asyncio.gather(
        *(call.world.register(f"many-{at}", user_id=f"many-{at % 400}", tags=["many"]) for at in range(600))
    )
    await asyncio.gather(*(call.world.register(f"alone-{at}", tags=["many"]) for at in range(200)))
    number = await sent(call, audience={"type": "tags", "any": ["many"]}, inbox={"title": "All"})
    few = await sent(call, audience=users("many-7"), inbox={"title": "You"})
    database = call.world.context.store.database
    counts = await database.fetchrow(
        "SELECT (SELECT count(*) FROM in_app_letters WHERE message_id = $1) AS rows,"
        " (SELECT count(*) FROM in_app_parts WHERE message_id = $1) AS parts,"
        " (SELECT count(*) FROM in_app_letters WHERE message_id = $2) AS few",
        number,
        few,
    )
    assert tuple(counts) == (0, 2, 1)
    view = (await call("GET", f"/in-app-messages/{number}")).body
    assert (view["counts"]["recipients"], view["counts"]["users"]) == (600, 400)
    assert await ids(call, install_id="many-7") == await ids(call, install_id="many-407") == [few, number]
    assert await ids(call, install_id="alone-3") == [number]
    assert await report(call, (number, "read"), install_id="many-7") == {"taken": 1, "repeated": 0, "unknown": 0}
    assert await report(call, (number, "read"), install_id="many-407") == {"taken": 0, "repeated": 1, "unknown": 0}
    assert await report(call, (number, "read"), install_id="alone-3") == {"taken": 1, "repeated": 0, "unknown": 0}
    assert (await call("GET", f"/in-app-messages/{number}")).body["counts"]["read"] == 2
    answer = await call("POST", f"/in-app-messages/{number}/cancel")
    assert (answer.status, answer.body["state"]) == (200, "cancelled")
    assert await ids(call, install_id="many-7") == [few]
    late = await report(call, (number, "dismissed"), install_id="alone-3")
    assert late == {"taken": 1, "repeated": 0, "unknown": 0}


async def test_after_tells_what_changed(call):
    await call.world.register("sync", user_id="sue")
    first, second, third = [await sent(call, audience=users("sue"), inbox={"title": str(n)}) for n in range(3)]
    as_of = (await call("GET", of("sync"), key="device")).body["as_of"]
    assert as_of < time.time() - 29
    now = time.time()
    assert await ids(call, install_id="sync", after=now) == []
    await report(call, (first, "read"), (second, "deleted"), install_id="sync")
    await call("POST", f"/in-app-messages/{third}/cancel")
    assert await ids(call, install_id="sync") == [first]
    changed = {each["id"]: each for each in await fetch(call, install_id="sync", after=now)}
    assert changed.keys() == {first, second, third}
    assert changed[first]["read_at"]
    assert changed[second]["deleted_at"]
    assert changed[third]["cancelled_at"]
    gone = [await call("GET", f"{of('sync')}/{each}", key="device") for each in (second, third)]
    assert [each.status for each in gone] == [404, 404]


async def test_pages(call):
    await call.world.register("pages", user_id="pam")
    sent_ids = [await sent(call, audience=users("pam")) for _ in range(5)]
    found, cursor = [], {}
    while True:
        body = (await call("GET", of("pages"), key="device", params={"limit": "2", **cursor})).body
        found += [each["id"] for each in body["items"]]
        if body["next"] is None:
            break
        cursor = {"cursor": body["next"]}
    assert found == sent_ids[::-1]
    listed = (await call("GET", "/in-app-messages", params={"limit": "3"})).body
    assert [each["id"] for each in listed["items"]] == sent_ids[:1:-1]
    rest = (await call("GET", "/in-app-messages", params={"limit": "2", "cursor": listed["next"]})).body
    assert [each["id"] for each in rest["items"]] == sent_ids[1::-1]


async def test_recipients_are_paged_over_users_and_installs(call):
    for at in range(3):
        await call.world.register(f"page-{at}", user_id=f"page-{at}", tags=["listed"])
        await call.world.register(f"page-alone-{at}", tags=["listed"])
    number = await sent(call, audience={"type": "tags", "any": ["listed"]})
    for at in range(3):
        await report(call, (number, "opened"), install_id=f"page-{at}")
        await report(call, (number, "dismissed"), install_id=f"page-alone-{at}")
    found, cursor = [], {}
    while cursor is not None:
        answer = await call("GET", f"/in-app-messages/{number}/recipients", params={"limit": "2", **cursor})
        found += [(each["user_id"], each["install_id"]) for each in answer.body["items"]]
        cursor = answer.body["next"] and {"cursor": answer.body["next"]}
    names = [f"page-{at}" for at in range(3)]
    assert sorted(found, key=str) == sorted(
        [(name, None) for name in names] + [(None, f"page-alone-{at}") for at in range(3)], key=str
    )
    only = await call("GET", f"/in-app-messages/{number}/recipients", params={"event": "opened"})
    assert {each["user_id"] for each in only.body["items"]} == set(names)


async def test_the_inbox_opens_and_closes(call):
    await call.world.register("window", user_id="will")
    now = time.time()
    later = {"title": "Later", "available_from": now + 3_600}
    first = await sent(call, audience=users("will"), presented_when="never", ttl=None, inbox=later)
    second = await sent(call, audience=users("will"), inbox={"title": "Now", "available_to": now + 3_600})
    third = await sent(call, audience=users("will"))
    assert await ids(call, install_id="window") == [third, second, first]
    assert await ids(call, install_id="window", inbox="true") == [second]
    assert await badge(call, install_id="window") == {"unread": 1, "total": 1}
    first_view, second_view = [(await call("GET", f"/in-app-messages/{each}")).body for each in (first, second)]
    assert first_view["expires_at"] is None
    assert first_view["ends_at"] == pytest.approx(now + 3_600 + 365 * 86_400, abs=5)
    assert second_view["ends_at"] == second_view["expires_at"]


async def test_all_of_an_inbox_is_marked_as_read(call):
    await call.world.register("reader", user_id="rob")
    numbers = [await sent(call, audience=users("rob"), inbox={"title": "a"}) for _ in range(4)]
    await report(call, (numbers[0], "read"), (numbers[1], "deleted"), install_id="reader")
    assert await badge(call, install_id="reader") == {"unread": 2, "total": 3}
    answer = await call("POST", f"{of('reader')}/read", key="device")
    assert (answer.status, answer.body) == (200, {"marked": 2})
    assert (await call("POST", f"{of(user_id='rob')}/read")).body == {"marked": 0}
    assert await badge(call, install_id="reader") == {"unread": 0, "total": 3}


async def test_an_earlier_end(call):
    await call.world.register("ends", user_id="eve")
    number = await sent(call, audience=users("eve"), inbox={"title": "a"})
    path = f"/in-app-messages/{number}"
    soon = time.time() + 0.4
    answer = await call("PATCH", path, json={"ends_at": soon, "name": "Short"})
    assert (answer.status, answer.body["name"], answer.body["ends_at"]) == (200, "Short", pytest.approx(soon))
    assert answer.body["expires_at"] == answer.body["ends_at"]
    assert (await call("PATCH", path, json={"ends_at": soon + 100})).status == 409
    assert (await call("PATCH", path, json={"ends_at": 5})).pointers == ["/ends_at"]
    assert await ids(call, install_id="ends") == [number]
    await asyncio.sleep(0.5)
    assert await ids(call, install_id="ends") == []
    assert (await call("GET", path)).body["state"] == "ended"
    assert (await call("POST", f"{path}/cancel")).status == 409
    assert (await call("PATCH", path, json={"name": None})).body["name"] is None


async def test_times_are_kept_between_release_and_arrival(call):
    await call.world.register("clock", user_id="cleo")
    number = await sent(call, audience=users("cleo"))
    released = (await call("GET", f"/in-app-messages/{number}")).body["released_at"]
    events = [
        {"message_id": number, "event": "delivered", "at": 5},
        {"message_id": number, "event": "opened", "at": time.time() + 9_999},
    ]
    await call("POST", f"{of('clock')}/events", key="device", json={"events": events})
    (mine,) = await fetch(call, install_id="clock")
    assert mine["delivered_at"] == released
    assert released < mine["opened_at"] <= time.time()


async def test_a_push_goes_along(call):
    await call.world.register("push-a", user_id="pia", tags=["along"])
    await call.world.register("push-b", in_app_consent=False, tags=["along"])
    await call.world.register("push-c", token=None, tags=["along"])
    released = call.world.fanout.released
    released.clear()
    push = {"message": {"title": "Look", "data": {"k": 1}}, "collapse_id": "x", "name": "tickle"}
    number = await sent(call, audience={"type": "tags", "any": ["along"]}, push=push)
    view = (await call("GET", f"/in-app-messages/{number}")).body
    assert view["push"] == push
    ((notification, _, devices),) = released
    assert notification.id == view["notification_id"]
    assert len(devices) == 1
    assert notification.send.message.data == {"k": 1, "in_app_message_id": number}
    assert (notification.send.collapse_id, notification.send.name) == ("x", "tickle")
    assert (await call("POST", f"/in-app-messages/{number}/cancel")).status == 200
    assert notification.id in call.world.fanout.cancelled
    # To nobody who can be pushed to: the message goes out all the same.
    number = await sent(call, audience=installs("push-c"), push=push)
    assert (await call("GET", f"/in-app-messages/{number}")).body["notification_id"] is None


async def test_a_push_without_room_goes_later_and_once(call):
    await call.world.register("room", user_id="ron")
    world, keeper = call.world, InAppKeeper(call.world.context)
    world.fanout.full = UnavailableError("full", retry_after_s=1)
    try:
        number = await sent(call, audience=users("ron"), push={"message": {"title": "a"}})
    finally:
        world.fanout.full = None
    assert number in await ids(call, install_id="room")
    assert (await call("GET", f"/in-app-messages/{number}")).body["notification_id"] is None
    world.fanout.released.clear()
    await keeper.push_some()
    assert world.fanout.released == []  # it is still ours for the time of the lease
    await world.context.store.database.execute("UPDATE in_app_pushes SET taken_until = now() - interval '1 s'")
    await asyncio.gather(keeper.push_some(), keeper.push_some())
    assert len(world.fanout.released) == 1
    view = (await call("GET", f"/in-app-messages/{number}")).body
    assert view["notification_id"] == world.fanout.released[0][0].id
    # Whoever tries again after a crash in between is told what was accepted.
    await world.context.store.database.execute(
        "INSERT INTO in_app_pushes SELECT id, app_id, created_at, released_at, now() - interval '1 s'"
        " FROM in_app_messages WHERE id = $1",
        number,
    )
    await keeper.push_some()
    assert len(world.fanout.released) == 1
    assert (await call("GET", f"/in-app-messages/{number}")).body["notification_id"] == view["notification_id"]


async def test_a_push_that_is_accepted_while_its_message_is_withdrawn_is_cancelled(call, monkeypatch):
    await call.world.register("torn", user_id="tor")
    world, accept = call.world, notifications.send
    world.fanout.full = UnavailableError("full", retry_after_s=1)
    number = await sent(call, audience=users("tor"), push={"message": {"title": "a"}})
    world.fanout.full = None
    world.fanout.released.clear()

    async def send(*arguments):
        accepted = await accept(*arguments)
        assert (await call("POST", f"/in-app-messages/{number}/cancel")).status == 200
        return accepted

    monkeypatch.setattr(notifications, "send", send)
    await world.context.store.database.execute("UPDATE in_app_pushes SET taken_until = now() - interval '1 s'")
    await InAppKeeper(world.context).push_some()
    ((push, _, _),) = world.fanout.released
    assert push.id in world.fanout.cancelled


@pytest.mark.parametrize("withdrawn", ["after its push was noted", "before"])
async def test_a_message_and_its_push_are_withdrawn_by_one_commit(call, withdrawn):
    """What holds if the daemon is gone right behind that commit."""
    await call.world.register("crash", user_id="kai")
    world, store = call.world, call.world.context.store.in_app
    world.fanout.full = UnavailableError("full", retry_after_s=1) if withdrawn == "before" else None
    number = await sent(call, audience=users("kai"), push={"message": {"title": "a"}})
    world.fanout.full = None
    if withdrawn == "before":
        send = Send(audience=Broadcast(), message=Message(title="a"))
        push = json.loads((await notifications.send(world.context, world.app.id, send)).body)["id"]
        assert await store.cancel(world.app.id, number, time.time())
        assert await store.pushed(world.app.id, number, push, time.time())
    else:
        push = (await call("GET", f"/in-app-messages/{number}")).body["notification_id"]
        assert await store.cancel(world.app.id, number, time.time())
    stopped = "SELECT cancelled_at IS NOT NULL FROM runs WHERE notification_id = $1"
    assert await world.context.store.database.fetchval(stopped, push)


async def test_a_time_to_come(call):
    at = round(time.time(), 3) + 0.3
    body = message(audience={"type": "tags", "any": ["timed"]}, send_at=at, inbox={"title": "a"})
    answer = await call("POST", "/in-app-messages", json=body)
    assert (answer.status, answer.body) == (202, {"id": answer.body["id"], "next_at": at, "send_at": at})
    number = answer.body["id"]
    await call.world.register("timed", tags=["timed"])
    await look(call)
    assert (await call("GET", f"/in-app-messages/{number}")).body["state"] == "scheduled"
    assert number in [each["id"] for each in (await call("GET", "/in-app-messages")).body["items"]]
    assert await ids(call, install_id="timed") == []
    assert await report(call, (number, "read"), install_id="timed") == {"taken": 0, "repeated": 0, "unknown": 1}
    dropped = (await call("POST", "/in-app-messages", json=body)).body["id"]
    assert (await call("POST", f"/in-app-messages/{dropped}/cancel")).body["state"] == "cancelled"
    await asyncio.sleep(0.35)
    await look(call, nodes=2)
    view = (await call("GET", f"/in-app-messages/{number}")).body
    assert (view["state"], view["counts"]["recipients"], view["send_at"]) == ("live", 1, pytest.approx(at, abs=1e-5))
    assert view["released_at"] >= at - 1e-5
    assert await ids(call, install_id="timed") == [number]


async def test_one_that_cannot_be_released_now_keeps_no_other(call, monkeypatch):
    await call.world.register("waits", tags=["waits"])
    audience, at = {"type": "tags", "any": ["waits"]}, time.time() + 0.05
    first, second = [
        (await call("POST", "/in-app-messages", json=message(audience=audience, send_at=at))).body["id"]
        for _ in range(2)
    ]
    await asyncio.sleep(0.06)
    resolve = scheduling.resolve

    async def troubled(context, *arguments, **options):
        monkeypatch.setattr(scheduling, "resolve", resolve)
        raise UnavailableError("too slow", retry_after_s=0.01)

    monkeypatch.setattr(scheduling, "resolve", troubled)
    await look(call)
    states = {each: (await call("GET", f"/in-app-messages/{each}")).body["state"] for each in (first, second)}
    assert sorted(states.values()) == ["live", "scheduled"]
    await look(call)
    assert set(await ids(call, install_id="waits")) == {first, second}


async def test_a_schedule_names_one_instant(call):
    await call.world.register("zoned", tags=["zoned"])
    audience = {"type": "tags", "any": ["zoned"]}

    async def due(**schedule):
        answer = await call("POST", "/in-app-messages", json=message(audience=audience, schedule=schedule))
        assert answer.status == 202, answer.body
        return answer.body

    wall = {"send_at": "2101-07-01T09:00", "past_times": "ignore"}
    berlin = await due(strategy="timezone", time_zone="Europe/Berlin", **wall)
    assert (await due(strategy="utc", **wall))["send_at"] == berlin["send_at"] + 2 * 3_600
    assert (await due(strategy="immediate"))["recipients"] == 1
    past = wall | {"send_at": "2001-01-01T09:00"}
    ignored = (await due(strategy="utc", **past))["id"]
    await look(call)
    view = (await call("GET", f"/in-app-messages/{ignored}")).body
    assert (view["state"], view["counts"]["recipients"], view["counts"]["suppressed"]) == ("ended", 0, 1)
    assert (
        time.time()
        < (await due(strategy="utc", **(past | {"past_times": "next_day"})))["send_at"]
        < time.time() + 2 * 86_400
    )
    assert (await call("GET", f"/in-app-messages/{berlin['id']}")).body["state"] == "scheduled"
    for schedule, more, pointers in (
        ({"strategy": "timezone", **wall}, {}, ["/schedule/time_zone"]),
        ({"strategy": "local", **wall}, {"intelligent_delivery": True}, ["/intelligent_delivery"]),
        (
            {"strategy": "utc", "past_times": "ignore", "recurrence": {"cron": "@daily"}},
            {"inbox": {"title": "a", "available_to": 4_000_000_000}},
            ["/inbox/available_to"],
        ),
        ({"strategy": "utc", **wall}, {"send_at": 4_000_000_000}, ["/send_at"]),
    ):
        answer = await call("POST", "/in-app-messages", json=message(audience=audience, schedule=schedule, **more))
        assert (answer.status, answer.pointers) == (400, pointers)


async def test_what_is_due_and_names_what_is_gone_reaches_nobody(call):
    segment = {"name": "s", "audience": {"type": "broadcast"}}
    uuid = (await call("POST", "/segments", json=segment)).body["uuid"]
    body = message(audience={"type": "segment", "id": uuid}, send_at=time.time() + 0.05)
    number = (await call("POST", "/in-app-messages", json=body)).body["id"]
    await call("DELETE", f"/segments/{uuid}")
    await asyncio.sleep(0.06)
    await look(call)
    view = (await call("GET", f"/in-app-messages/{number}")).body
    assert (view["state"], view["counts"]["recipients"]) == ("live", 0)


async def test_a_request_that_comes_again_is_answered_as_before(call):
    await call.world.register("again", user_id="amy")
    headers = {"Idempotency-Key": "in-app-1"}
    body = message(audience=users("amy"), push={"message": {"title": "a"}})
    first = await call("POST", "/in-app-messages", json=body, headers=headers)
    second = await call("POST", "/in-app-messages", json=body, headers=headers)
    assert first.body == second.body
    assert second.headers["Idempotency-Replayed"] == "true"
    other = await call("POST", "/in-app-messages", json=message(audience=users("amy")), headers=headers)
    assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
    racing = await asyncio.gather(
        *(call("POST", "/in-app-messages", json=body, headers={"Idempotency-Key": "race"}) for _ in range(5))
    )
    assert len({each.body["id"] for each in racing}) == 1
    assert len(await ids(call, install_id="again")) == 2


@pytest.mark.parametrize(
    ("more", "pointers"),
    [
        ({"ttl": None}, ["/ttl"]),
        ({"ttl": {"days": 1, "hours": 1}}, ["/ttl"]),
        ({"ttl": {}}, ["/ttl"]),
        ({"ttl": {"days": 366}}, ["/ttl/days"]),
        ({"presented_when": "never"}, ["/inbox"]),
        ({"presented_when": "soon"}, ["/presented_when"]),
        ({"content": "text"}, ["/content"]),
        ({"content": {"a": "x" * 70_000}}, ["/content"]),
        ({"content": {"a": ["\0"]}}, ["/content/a/0"]),
        ({"inbox": {"title": ""}}, ["/inbox/title"]),
        ({"inbox": {"title": "a", "available_from": 9, "available_to": 9}}, ["/inbox/available_to"]),
        ({"inbox": {"title": "a", "available_to": 9}}, ["/inbox/available_to"]),
        ({"push": {"message": {"title": "a", "badge": 1, "badge_increment": 1}}}, ["/push/message/badge_increment"]),
        ({"push": {}}, ["/push/message"]),
        ({"audience": {"type": "segment", "id": "none"}}, ["/audience/id"]),
        ({"audience": {"type": "segment", "id": "none"}, "send_at": 4_000_000_000}, ["/audience/id"]),
        ({"send_at": 4_000_000_000_000}, ["/send_at"]),
        ({"colour": "red"}, ["/colour"]),
    ],
)
async def test_each_fault_points_at_its_field(call, more, pointers):
    answer = await call("POST", "/in-app-messages", json=message(**more))
    assert (answer.status, answer.pointers) == (400, pointers)


async def test_device_keys_speak_for_the_install_that_they_name(call):
    await call.world.register("mine", user_id="max")
    number = await sent(call, audience=users("max"))
    for method, path, options in (
        ("POST", "/in-app-messages", {"json": message()}),
        ("GET", "/in-app-messages", {}),
        ("GET", f"/in-app-messages/{number}", {}),
        ("GET", f"/in-app-messages/{number}/recipients", {}),
        ("POST", f"/in-app-messages/{number}/cancel", {}),
        ("PATCH", f"/in-app-messages/{number}", {"json": {"name": "a"}}),
    ):
        assert (await call(method, path, key="device", **options)).status == 403
    event = {"events": [{"message_id": number, "event": "read"}]}
    for method, path, options in (
        ("GET", "", {}),
        ("GET", "/badge", {}),
        ("GET", f"/{number}", {}),
        ("POST", "/read", {}),
        ("POST", "/events", {"json": event}),
    ):
        assert (await call(method, of(user_id="max") + path, key="device", **options)).status == 403
        assert (await call(method, of("mine") + path, key="device", **options)).status == 200
        assert (await call(method, of("nobody") + path, key="device", **options)).status == 404


async def test_a_device_key_reports_so_many_a_second(call):
    await call.world.register("eager", user_id="ed")
    number = await sent(call, audience=users("ed"))
    context, before = call.world.context, call.world.context.limits
    object.__setattr__(context, "limits", ReceiptLimits(ReceiptsConfig(key_per_s_max=1)))
    try:
        await report(call, *[(number, "read")] * 20, install_id="eager")
        body = {"events": [{"message_id": number, "event": "opened"}]}
        answer = await call("POST", f"{of('eager')}/events", key="device", json=body)
        assert (answer.status, answer.body["code"]) == (429, "too_many_requests")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await report(call, (number, "opened"), key="server", install_id="eager"))["taken"] == 1
    finally:
        object.__setattr__(context, "limits", before)


async def test_another_apps_key_finds_nothing(call):
    await call.world.register("secret", user_id="sid")
    number = await sent(call, audience=users("sid"))
    absent = 2_000_000_000
    for method, path, options in (
        ("GET", "/in-app-messages/{}", {}),
        ("GET", "/in-app-messages/{}/recipients", {}),
        ("PATCH", "/in-app-messages/{}", {"json": {"name": "a"}}),
        ("POST", "/in-app-messages/{}/cancel", {}),
    ):
        theirs, never = [await call(method, path.format(each), key="other", **options) for each in (number, absent)]
        assert theirs.status == never.status == 404
        assert theirs.body == never.body
    event = {"events": [{"message_id": number, "event": "read"}]}
    for base in (of("secret"), of(user_id="sid")):
        for method, path, options in (
            ("GET", "", {}),
            ("GET", "/badge", {}),
            ("GET", f"/{number}", {}),
            ("POST", "/read", {}),
            ("POST", "/events", {"json": event}),
        ):
            assert (await call(method, base + path, key="other", **options)).status == 404
    answer = await call("GET", "/in-app-messages", key="other")
    assert answer.body["items"] == []
    assert await ids(call, install_id="secret") == [number]


async def test_nothing_is_left_of_a_user_who_is_deleted(call):
    await call.world.register("leaves", user_id="leo")
    await call.world.register("stays", user_id="lea")
    number = await sent(call, audience=users("leo", "lea"), inbox={"title": "a"})
    for name in ("leaves", "stays"):
        await report(call, (number, "read"), install_id=name)
    database = call.world.context.store.database
    rows = "SELECT (SELECT count(*) FROM in_app_letters WHERE message_id = $1),"
    rows += " (SELECT count(*) FROM in_app_states WHERE message_id = $1)"
    assert tuple(await database.fetchrow(rows, number)) == (2, 2)
    await delete_user(call.world.context, call.world.app.id, "leo")
    assert tuple(await database.fetchrow(rows, number)) == (1, 1)
    assert await ids(call, install_id="leaves") == []
    assert (await call("GET", of(user_id="leo"))).status == 404
    assert (await call("GET", f"/in-app-messages/{number}")).body["counts"]["read"] == 2
    await call.world.register("leaves", user_id="leo")
    assert await ids(call, install_id="leaves") == []
    device = await call.world.register("alone")
    number = await sent(call, audience=installs("alone"))
    await report(call, (number, "read"), install_id="alone")
    assert (await call("DELETE", f"/devices/{device.id}")).status == 204
    assert tuple(await database.fetchrow(rows, number)) == (0, 0)


async def test_an_app_shows_so_many_messages_to_many(call):
    await asyncio.gather(*(call.world.register(f"cap-{at}", user_id=f"cap-{at}", tags=["cap"]) for at in range(510)))
    audience = {"type": "tags", "any": ["cap"]}
    first = await sent(call, audience=audience)
    context = call.world.context
    live = (await context.store.in_app.held(call.world.app.id, time.time())).live
    config = msgspec.structs.replace(context.config, inbox=msgspec.structs.replace(context.config.inbox, live_max=live))
    object.__setattr__(context, "config", config)
    answer = await call("POST", "/in-app-messages", json=message(audience=audience))
    assert (answer.status, answer.body["code"]) == (409, "conflict")
    assert (await call("POST", "/in-app-messages", json=message(audience=users("cap-1")))).status == 202
    await call("PATCH", f"/in-app-messages/{first}", json={"ends_at": time.time() + 0.05})
    await asyncio.sleep(0.06)
    assert (await call("POST", "/in-app-messages", json=message(audience=audience))).status == 202


async def test_each_reader_is_told_what_is_his(call):
    for name, locale, fruit in (("ada", "de-AT", "Birnen"), ("bob", "en", None), ("eve", "pt-BR", "peras")):
        await call.world.register(f"reads-{name}", user_id=name, tags=["reads"], locale=locale)
        if fruit is not None:
            await call("PUT", f"/users/{name}", json={"attributes": {"fruit": fruit}})
    said = {
        "audience": {"type": "tags", "any": ["reads"]},
        "content": {"title": "{{ shop }}: {{ user.fruit | default: 'fruit' }}", "n": 1},
        "data": {"for": "{{ user.id }}"},
        "inbox": {"title": "Fruit for {{ user.id | upcase }}"},
        "liquid": True,
        "content_tags": {"shop": "Orchard"},
        "locales": {"de": {"content": {"title": "{{ user.fruit }} da"}, "inbox": {"title": "Obst"}}},
    }
    number = await sent(call, **said)
    told = {}
    for name in ("ada", "bob", "eve"):
        (mine,) = [each for each in await fetch(call, install_id=f"reads-{name}") if each["id"] == number]
        told[name] = (mine["content"]["title"], mine["inbox"]["title"], mine["data"], mine["content"]["n"])
        one = (await call("GET", f"{of(user_id=name)}/{number}")).body
        assert one["content"] == mine["content"]
    assert told == {
        "ada": ("Birnen da", "Obst", {"for": "ada"}, 1),
        "bob": ("Orchard: fruit", "Fruit for BOB", {"for": "bob"}, 1),
        "eve": ("Orchard: peras", "Fruit for EVE", {"for": "eve"}, 1),
    }
    await call("PUT", "/users/nobody-yet", json={"attributes": {"fruit": "plums"}})
    for more, pointers in (
        ({"content": {"a": "{{ user }}"}}, ["/content/a"]),
        ({"content": {"a": "{{ other }}"}}, ["/content_tags/other"]),
        ({"content": {"a": "{{ user_data.x }}"}}, ["/content"]),
        ({"locales": {"de": {"inbox": {"title": ""}}}}, ["/locales/de/inbox"]),
        ({"locales": {"de": {}, "DE": {}}}, ["/locales/DE"]),
    ):
        answer = await call("POST", "/in-app-messages", json=message(**(said | more)))
        assert (answer.status, answer.pointers) == (400, pointers), more
    hostile = "{% for a in (1..100) %}{% for b in (1..100) %}{{ user.id }}{% endfor %}{% endfor %}"
    bad = await sent(call, **(said | {"content": {"a": hostile}, "locales": {}}))
    assert bad not in await ids(call, install_id="reads-bob")  # it goes past the limit, and keeps no other
    assert number in await ids(call, install_id="reads-bob")
