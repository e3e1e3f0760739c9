"""Webhooks against a receiver that fails, stalls, redirects and lies: nothing lost, nothing twice under another id."""

import asyncio
import re
import textwrap
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

import pushd
from pushd.cluster.node import Node
from pushd.feed.delivery import Endpoint, Lane
from tests.pushd.feed.world import fed, feed_of
from tests.receiver import OK, STALL, answer, octets

pytestmark = pytest.mark.asyncio

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it"
LIES = {
    "fails": answer(500),
    "busy": answer(503, Retry_After="0"),
    "redirects": answer(302, Location="https://b.hooks.example/elsewhere"),
    "half": octets(HALF),
    "wrong_length": octets(b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}"),
    "two_lengths": octets(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "no_http": octets(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "hangs_up": octets(),
    "endless_head": octets(*[b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 4_000 + b"\r\n"] * 8], end=False),
    "stalls": STALL,
    "stalls_in_body": octets(HALF, end=False),
    "drips": octets(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n", *[b"x"] * 90, pause_s=0.05, end=False),
}


async def test_events_arrive_signed_and_in_order(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        hook = await call.hook()
        await call.happen(250)
        receiver = call.receiver
        await receiver.until(lambda: len(receiver.ids("/one")) == 250)
        ids = receiver.ids("/one")
        assert ids == sorted(ids, key=int)
        assert len(receiver.of("/one")) < 200  # several go in one request
        for request in receiver.of("/one"):
            assert Webhook(hook["secret"]).verify(request.body, request.headers) == {"events": request.events}
            assert len(request.ids) <= 100
            assert request.headers["content-type"] == "application/json"
        forged = request.body.replace(b"schedule_id", b"schedule_no")
        with pytest.raises(WebhookVerificationError):
            Webhook(hook["secret"]).verify(forged, request.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(hook["secret"]).verify(request.body, request.headers | {"webhook-timestamp": "1700000000"})
        view = await call.until(hook, lambda view: view["delivered_at"])
        assert (view["state"], view["attempts"], view["failure"], view["letters"]) == ("active", 0, None, 0)


def recipe():
    """The function that the page on events shows."""
    page = (Path(pushd.__file__).parent / "docs/events.md").read_text()
    code = re.search(r"^    import base64.*?(?=^\S)", page, re.DOTALL | re.MULTILINE)
    names = {}
    exec(textwrap.dedent(code[0]), names)
    return names["verified"]


async def test_the_recipe_of_the_page_on_events_verifies(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        hook = await call.hook()
        await call("POST", f"/webhooks/{hook['id']}/test")
        request = call.receiver.requests[-1]
        verified = recipe()
        assert verified(hook["secret"], request.headers, request.body)
        assert not verified(hook["secret"], request.headers, request.body + b" ")
        assert not verified(hook["secret"], request.headers | {"webhook-timestamp": "1700000000"}, request.body)
        fresh = (await call("POST", f"/webhooks/{hook['id']}/secret")).body["secret"]
        assert not verified(fresh, request.headers, request.body)


@pytest.mark.parametrize("lie", LIES)
async def test_nothing_is_lost_and_nothing_has_two_ids_whatever_a_receiver_does(dsn18, tmp_path, lie):
    async with fed(dsn18, tmp_path, request_timeout_s=0.4) as call:
        receiver = call.receiver
        receiver.behave["/one"] = [LIES[lie], LIES[lie], OK, LIES[lie], OK]
        hook = await call.hook(batch_max=10)
        await call.happen(30)
        await receiver.until(lambda: len(receiver.events("/one")) == 30)
        seen: dict[str, bytes] = {}
        for request in receiver.of("/one"):
            again = seen.setdefault(request.headers["webhook-id"], request.body)
            assert again == request.body, "an id of a request stands for one body"
        bodies = {}
        for request in receiver.of("/one"):
            for each in request.events:
                assert bodies.setdefault(each["id"], each) == each
        view = await call.until(hook, lambda view: not view["attempts"])
        assert (view["state"], view["failure"], view["letters"]) == ("active", None, 0)
        assert not receiver.of("/elsewhere")


async def test_other_tenants_are_not_delayed_by_receivers_that_stall(dsn18, tmp_path):
    bounds = {"requests_max": 6, "doubtful_requests_max": 2, "request_timeout_s": 600.0}
    async with fed(dsn18, tmp_path, **bounds) as call:
        receiver = call.receiver
        other_id = (await call.world.context.store.apps.list())[1].id
        await call.hook("/good", key="other")
        await call.happen(1, app_id=other_id)
        await receiver.until(lambda: receiver.ids("/good"))
        for number in range(12):
            receiver.behave[f"/bad{number}"] = [STALL]
            await call.hook(f"/bad{number}")
        await call.happen(5)
        await receiver.until(lambda: [path for path in receiver.began if path.startswith("/bad")])
        # No stall ends before this test does.
        for count in range(2, 12):
            await call.happen(1, app_id=other_id)
            await receiver.until(lambda count=count: len(receiver.ids("/good")) == count)
        # A new one shares the requests of those that are doubtful, and has its turn all the same.
        await call.hook("/new", key="other")
        await call.happen(1, app_id=other_id)
        await receiver.until(lambda: receiver.ids("/new"))
        assert len(set(receiver.ids("/good"))) == len(receiver.ids("/good"))


async def test_apps_take_turns_in_a_lane_and_none_has_all_of_it():
    lane = Lane(16)
    waiting = [Endpoint(number, app) for app, count in ((1, 20), (2, 1), (3, 2)) for number in range(count)]
    for endpoint in waiting:
        lane.put(endpoint)
    taken = []
    while (endpoint := lane.take()) is not None:
        lane.running[endpoint.app_id] += 1
        taken.append(endpoint)
    assert [each.app_id for each in taken] == [1, 2, 3, 1, 3], "one in eight requests of a lane for each app"
    lane.done(taken[0])
    assert lane.take().app_id == 1
    full = Lane(2)
    for app in range(4):
        full.put(Endpoint(app, app))
        full.running[100 + app] += 1
    assert full.take() is None


async def test_an_event_that_is_refused_ends_alone_among_the_dead_letters_and_comes_back_under_its_id(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        receiver = call.receiver
        taken = []

        async def picky(reader, writer):
            request = receiver.of("/one")[-1]
            poison = any(each["data"].get("poison") for each in request.events)
            if not poison:
                taken.extend(request.ids)
            await (answer(422) if poison else OK)(reader, writer)

        receiver.behave["/one"] = [picky]
        hook = await call.hook()
        await call.feed.deliverer.look()
        await call("POST", f"/webhooks/{hook['id']}/pause")
        await call.happen(20)
        await call.world.context.store.database.execute(
            "SELECT note_event($1, 15, now(), $2)", call.world.app.id, '{"poison": true}'
        )
        await call.happen(20)
        await call("POST", f"/webhooks/{hook['id']}/resume", json={})
        await receiver.until(lambda: len(set(taken)) == 40)
        assert len(taken) == 40
        view = await call.until(hook, lambda view: view["letters"])
        assert view["letters"] == 1
        letters = (await call("GET", f"/webhooks/{hook['id']}/letters")).body["items"]
        (letter,) = letters
        assert (letter["failure"], letter["type"], letter["attempts"]) == ("status_422", "schedule.fired", 3)
        receiver.behave["/one"] = [answer(400), OK]
        replayed = await call("POST", f"/webhooks/{hook['id']}/letters/{letter['id']}/replay")
        assert replayed.body == {"letters": 1}
        await receiver.until(lambda: receiver.of("/one")[-1].ids == [letter["event_id"]])
        await asyncio.sleep(0.1)
        (letter,) = (await call("GET", f"/webhooks/{hook['id']}/letters")).body["items"]
        assert (letter["failure"], letter["attempts"], letter["replaying"]) == ("status_400", 4, False)
        assert (await call("POST", f"/webhooks/{hook['id']}/letters/replay")).body == {"letters": 1}
        await call.until(hook, lambda view: not view["letters"])
        assert receiver.of("/one")[-1].ids == [letter["event_id"]]
        assert (await call("POST", f"/webhooks/{hook['id']}/letters/{letter['id']}/replay")).status == 404


async def test_long_failure_disables_and_tells_the_other_webhooks_and_resuming_loses_nothing(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, disable_after_s=0.3, refusals_max=100) as call:
        receiver = call.receiver
        receiver.behave["/bad"] = [answer(500)]
        bad, good = await call.hook("/bad", name="bad"), await call.hook("/good")
        await call.happen(3)
        view = await call.until(bad, lambda view: view["state"] == "disabled")
        assert view["reason"] == "failing: status_500"
        await receiver.until(lambda: len(receiver.events("/good")) == 4)
        (told,) = [each for each in receiver.events("/good") if each["type"] == "webhook.disabled"]
        assert told["data"] == {"webhook_id": bad["id"], "name": "bad", "reason": "failing: status_500"}
        await call.happen(2)
        await receiver.until(lambda: len(receiver.events("/good")) == 6)
        seen = len(receiver.of("/bad"))
        await asyncio.sleep(0.3)
        assert len(receiver.of("/bad")) == seen, "a disabled one is left alone"
        receiver.behave["/bad"] = [OK]
        await call("POST", f"/webhooks/{bad['id']}/resume", json={"skip": False})
        await receiver.until(lambda: {each["id"] for each in receiver.events("/bad")} >= set(receiver.ids("/good")))
        assert (await call.show(good))["state"] == "active"


async def test_410_disables_at_once_and_skipping_leaves_out_what_waited(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        receiver = call.receiver
        receiver.behave["/one"] = [answer(410), OK]
        hook = await call.hook()
        await call.happen()
        view = await call.until(hook, lambda view: view["state"] == "disabled")
        assert (view["reason"], len(receiver.of("/one"))) == ("status_410", 1)
        await call.happen(3)
        assert (await call("POST", f"/webhooks/{hook['id']}/letters/replay")).status == 409
        await call("POST", f"/webhooks/{hook['id']}/resume", json={"skip": True})
        await call.happen(2)
        await receiver.until(lambda: len(receiver.ids("/one")) == 3)
        assert len(set(receiver.ids("/one"))) == 3


async def test_w43_a_name_that_becomes_private_is_not_connected_to(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, networks_allowed=("127.0.0.0/30",)) as call:
        receiver, resolver = call.receiver, call.resolver
        hook = await call.hook()
        for address in ("10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "127.0.0.9"):
            resolver.answers["a.hooks.example"] = [address]
            tried = await call("POST", f"/webhooks/{hook['id']}/test")
            assert tried.body == {"delivered": False, "failure": "forbidden"}
        resolver.answers["a.hooks.example"] = ["127.0.0.1", "10.0.0.1"]
        await call.happen()
        await call.until(hook, lambda view: view["failure"] == "forbidden")
        assert not receiver.requests
        resolver.answers.clear()
        await receiver.until(lambda: receiver.ids("/one"))
        assert (await call("POST", f"/webhooks/{hook['id']}/test")).body == {"delivered": True, "failure": None}
        assert receiver.of("/one")[-1].events[0]["type"] == "webhook.test"
        receiver.behave["/one"] = [STALL]
        tries = await asyncio.gather(*(call("POST", f"/webhooks/{hook['id']}/test") for _ in range(5)))
        assert sorted(each.status for each in tries) == [200, 200, 429, 429, 429]
        assert {each.body["failure"] for each in tries if each.status == 200} == {"timeout"}
        assert not call.feed.tests


URLS = [
    *("http://a.hooks.example/", "https://127.0.0.1/", "https://[::1]/", "https://10.1/", "https://u@x.example/"),
    *("https://localhost/", "https://intranet/", "https://x.example:8443/", "https://x.example/#a", "https:///x"),
    *("https://2130706433/", "https://x.example\\@y.example/", "https://ex ample/", "ftp://x.example/"),
]


async def test_w42_urls_that_are_refused(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        hook = await call.hook()
        for url in URLS:
            refused = await call("POST", "/webhooks", json={"url": url})
            assert (refused.status, refused.pointers) == (400, ["/url"])
            assert (await call("PATCH", f"/webhooks/{hook['id']}", json={"url": url})).pointers == ["/url"]


async def test_both_secrets_sign_after_a_rotation_and_only_the_newer_one_after_a_while(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, secret_overlap_s=1.0) as call:
        receiver = call.receiver
        hook = await call.hook()
        fresh = (await call("POST", f"/webhooks/{hook['id']}/secret")).body["secret"]
        assert fresh != hook["secret"]
        await call("POST", f"/webhooks/{hook['id']}/test")
        request = receiver.requests[-1]
        for secret in (hook["secret"], fresh):
            Webhook(secret).verify(request.body, request.headers)
        await asyncio.sleep(1.1)
        await call("POST", f"/webhooks/{hook['id']}/test")
        request = receiver.requests[-1]
        Webhook(fresh).verify(request.body, request.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(hook["secret"]).verify(request.body, request.headers)
        stored = await call.world.context.store.database.fetchval("SELECT sealed FROM webhooks")
        assert fresh.encode() not in bytes(stored)


async def test_a_node_that_lost_its_session_loses_its_webhooks_and_moves_nothing_any_more(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, request_timeout_s=2.0) as call:
        receiver, store = call.receiver, call.world.context.store
        hook = await call.hook(batch_max=3)
        await call.happen(3)
        await receiver.until(lambda: len(receiver.ids("/one")) == 3)
        other = Node(store.database.connect)
        await other.start()
        assert await store.webhooks.claim(other.id, 10) == {}, "it is the first one's, which lives"

        async def late(reader, writer):
            await asyncio.sleep(1.0)
            await OK(reader, writer)

        receiver.behave["/one"] = [late, OK]
        sent = len(receiver.of("/one"))
        await call.happen(9)
        await receiver.until(lambda: len(receiver.of("/one")) == sent + 1)
        before = await store.webhooks.own(call.world.context.node_id, hook["id"])
        # The node hangs: its session is gone, and its request is under way still.
        database, pid = store.database, "(SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1)"
        await database.fetchval(f"SELECT pg_terminate_backend({pid})", call.world.context.node_id)
        second = feed_of(call.world, call.feed.config, call.resolver, other.id)
        await second.start()
        try:
            await receiver.until(lambda: len(set(receiver.ids("/one"))) == 12)
            await asyncio.sleep(1.2)  # until the first one's request is answered, too
            after = await store.webhooks.own(other.id, hook["id"])
            assert after.position > before.position
            assert not await store.webhooks.advance(
                call.world.context.node_id, after, before.position, delivered=True
            ), "a node that was fenced moves nothing"
            await call.happen(2)
            await receiver.until(lambda: len(set(receiver.ids("/one"))) == 14)
            repeats = {id_ for id_, count in Counter(receiver.ids("/one")).items() if count > 1}
            assert repeats <= set(receiver.of("/one")[sent].ids), "what was under way comes again, and nothing else"
        finally:
            await second.stop()
            await other.stop()


async def test_deliveries_and_streams_go_on_when_postgresql_ended_every_session(dsn18, tmp_path):
    async with fed(dsn18, tmp_path) as call:
        receiver, app_id = call.receiver, call.world.app.id
        ours = await asyncpg.connect(dsn18)
        await call.hook()
        headers = {"Authorization": f"Bearer {call.keys['server']}"}
        streamed = []
        async with call.session.get(call.base + "/events/stream?after=0", headers=headers) as answer:

            async def read():
                async for chunk in answer.content.iter_any():
                    streamed.extend(re.findall(r"^id: (\S+)$", chunk.decode(), re.MULTILINE))

            reading = asyncio.create_task(read())
            for round_ in range(1, 3):
                for _ in range(3):
                    await ours.execute("SELECT note_event($1, 15, now(), $2)", app_id, '{"schedule_id": 1}')
                await receiver.until(lambda most=3 * round_: len(set(receiver.ids("/one"))) == most)
                await ours.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND application_name NOT LIKE 'pushd node%'"
                )
            await receiver.until(lambda: len(streamed) == 6)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await ours.close()
        assert streamed == sorted(set(receiver.ids("/one")), key=int)


async def test_there_is_an_end_to_webhooks_and_strangers_see_none(dsn18, tmp_path):
    async with fed(dsn18, tmp_path, webhooks_per_app_max=2) as call:
        hooks = [await call.hook(), await call.hook("/two", types=["receipt.opened"], batch_max=1)]
        assert (await call("POST", "/webhooks", json={"url": call.receiver.url("/three")})).status == 409
        assert hooks[1]["types"] == ["receipt.opened"]
        assert "notification.device_outcomes" not in hooks[0]["types"]
        listed = (await call("GET", "/webhooks")).body["items"]
        assert [each["id"] for each in listed] == [each["id"] for each in hooks]
        assert not any("secret" in each for each in listed)
        path = f"/webhooks/{hooks[0]['id']}"
        strange = [
            *(("GET", path, None), ("PATCH", path, {"name": "x"}), ("DELETE", path, None)),
            *(("POST", f"{path}/{verb}", {} if verb == "resume" else None) for verb in ("pause", "resume", "test")),
            *(
                ("POST", f"{path}/secret", None),
                ("GET", f"{path}/letters", None),
                ("POST", f"{path}/letters/replay", None),
            ),
            *(("POST", f"{path}/letters/1/replay", None), ("DELETE", f"{path}/letters/1", None)),
        ]
        for method, where, body in strange:
            answers = [
                await call(method, at, key=key, **({} if body is None else {"json": body}))
                for at, key in ((where, "other"), (where.replace(path, "/webhooks/999"), "server"))
            ]
            assert [each.status for each in answers] == [404, 404], where
            assert answers[0].body == answers[1].body
            assert (await call(method, where, key="device", **({} if body is None else {"json": body}))).status == 403
        assert (await call("PATCH", path, json={"name": "renamed", "types": None})).body["name"] == "renamed"
        assert (await call("DELETE", path)).status == 204
        assert (await call("GET", path)).status == 404
