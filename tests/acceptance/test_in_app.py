"""In-app messages through a whole daemon: with the push that goes along, over a restart, and on the command line."""

import asyncio
import json
import time
from functools import partial

import pytest
import pytest_asyncio

from pushd.config import InboxConfig
from pushd.daemon import Daemon
from tests.acceptance.commands import pushd as command
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def own():
    async with running(inbox=InboxConfig(look_s=0.2)) as world:
        yield world


async def restart(world) -> None:
    await world.daemon.stop()
    world.daemon = Daemon(world.daemon.config, environ={})
    await world.daemon.start()


def message(audience, **more):
    body = {"audience": audience, "content": {"title": "Harvest"}, "presented_when": "immediately", "ttl": {"days": 1}}
    return body | {"inbox": {"title": "Harvest"}} | more


async def test_what_was_sent_and_done_outlives_a_restart_and_what_waits_is_released(own):
    tenant = await own.tenant()
    ada = await tenant.register("ada", user_id="ada", tags=["news"])
    await tenant.register_many(600, tags=["news"])
    tagged = {"type": "tags", "any": ["news"]}
    push = {"message": {"title": "Look"}}
    many = await tenant.server.ok("POST", "/in-app-messages", message(tagged, push=push))
    assert many["recipients"] == 601
    few = await tenant.server.ok("POST", "/in-app-messages", message({"type": "users", "ids": ["ada"]}))
    at = time.time() + 1.5
    due = await tenant.server.ok("POST", "/in-app-messages", message(tagged, send_at=at, push=push))
    view = await tenant.server.ok("GET", f"/in-app-messages/{many['id']}")
    await tenant.finished(view["notification_id"])
    arrived = json.loads(own.simulator.record.last(ada["token"]).payload)
    assert arrived["data"] == {"in_app_message_id": many["id"]}
    events = [{"message_id": many["id"], "event": "opened"}, {"message_id": few["id"], "event": "deleted"}]
    await tenant.device.ok("POST", "/installs/ada/inbox/events", {"events": events})
    before = (await tenant.device.ok("GET", "/installs/ada/inbox"))["items"]
    assert [each["id"] for each in before] == [many["id"]]
    assert await tenant.device.ok("GET", "/installs/ada/inbox/badge") == {"unread": 0, "total": 1}

    await restart(own)

    after = (await tenant.device.ok("GET", "/installs/ada/inbox?inbox=true"))["items"]
    assert [each for each in after if each["id"] != due["id"]] == before
    async with asyncio.timeout(20):
        while (view := await tenant.server.ok("GET", f"/in-app-messages/{due['id']}"))["notification_id"] is None:
            await asyncio.sleep(0.05)
    assert (view["state"], view["counts"]["recipients"]) == ("live", 601)
    assert view["released_at"] >= at
    await tenant.finished(view["notification_id"])
    assert tenant.arrived(ada["token"]) == 2
    ids = [each["id"] for each in (await tenant.device.ok("GET", "/installs/ada/inbox"))["items"]]
    assert ids == [due["id"], many["id"]]


async def test_on_the_command_line(world, tenant):
    await tenant.register("bob", user_id="bob")
    pushd = partial(command, tenant.server)
    content = ("--content", '{"title": "Hello"}')
    sent = await pushd("in-app", "send", "--user", "bob", *content, "--days", "3", "--title", "Hi", "--name", "first")
    assert sent["recipients"] == 1
    (shown,) = await pushd("in-app", "inbox", "--install", "bob", "--inbox")
    assert (shown["id"], shown["content"]) == (sent["id"], {"title": "Hello"})
    assert await pushd("in-app", "badge", "--user", "bob") == {"unread": 1, "total": 1}
    assert await pushd("in-app", "read", "--user", "bob") == {"marked": 1}
    (who,) = await pushd("in-app", "recipients", str(sent["id"]), "--event", "read")
    assert who["user_id"] == "bob"
    (listed,) = await pushd("in-app", "list")
    assert listed["name"] == "first"
    ended = await pushd("in-app", "end", str(sent["id"]), str(time.time() + 60))
    assert ended["ends_at"] < time.time() + 61
    assert (await pushd("in-app", "cancel", str(sent["id"])))["state"] == "cancelled"
    assert (await pushd("in-app", "show", str(sent["id"])))["counts"]["read"] == 1
    assert await pushd("in-app", "inbox", "--user", "bob") == []
