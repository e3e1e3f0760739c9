"""Events through a whole daemon: webhooks and a stream of what real sends come to, and through kills in the middle."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

import aiohttp
import orjson
import pytest

from pushd.cli.children import free_port
from pushd.config import FeedConfig
from tests.acceptance.test_imports_killed import written
from tests.acceptance.world import Client, pushd, running
from tests.faults.children import Daemon, scratch
from tests.receiver import OK, Receiver

PATIENCE_S = 60.0
KILLS = 2
DEVICES = 80


def settings(receiver: Receiver) -> dict[str, object]:
    return {
        "hosts": (f"localhost:{receiver.port}",),
        "networks_allowed": ("127.0.0.0/8", "::1/128"),
        "ca_file": str(receiver.ca_file),
        "look_interval_s": 0.2,
        "backoff_base_s": 0.05,
        "backoff_cap_s": 0.2,
    }


@pytest.mark.asyncio
async def test_a_campaign_is_told_as_it_happens(tmp_path):
    async with Receiver(tmp_path) as receiver, running(feed=FeedConfig(**settings(receiver))) as world:
        tenant = await world.tenant()
        body = {
            "url": receiver.url("/hook", "localhost"),
            "types": ["notification.finished", "notification.device_outcomes"],
        }
        await tenant.server.ok("POST", "/webhooks", body)
        assert await tenant.server.ok("GET", "/events") == {"items": [], "last": None}
        tokens = await tenant.register_many(300)
        view = await tenant.sent(reporting_meta={"campaign": "autumn"})
        events = await receiver.until(
            lambda: [e for e in receiver.events("/hook") if e["type"] == "notification.finished"]
        )
        (finished,) = events
        assert finished["data"]["notification_id"] == view["id"]
        assert finished["data"]["reporting_meta"] == {"campaign": "autumn"}
        assert finished["data"]["counts"] == view["counts"]
        parts = [e for e in receiver.events("/hook") if e["type"] == "notification.device_outcomes"]
        named = [each["install_id"] for part in parts for each in part["data"]["devices"]]
        assert sorted(named) == sorted(tokens)
        listed = (await tenant.server.ok("GET", "/events"))["items"]
        by_type = defaultdict(list)
        for each in listed:
            by_type[each["type"]].append(each["data"])
        assert len(by_type["notification.accepted"]) == len(by_type["notification.released"]) == 1
        counted = sum(each["count"] for data in by_type["notification.outcomes"] for each in data["outcomes"])
        assert counted == 300
        # The command line shows the same.
        (hook,) = await pushd(tenant.server, "webhook", "list")
        assert (hook["state"], hook["failure"]) == ("active", None)
        assert await pushd(tenant.server, "webhook", "test", str(hook["id"])) == {"delivered": True, "failure": None}
        first = await pushd(tenant.server, "events", "--after", "0", "--count", "1", "--type", "notification.accepted")
        assert first["type"] == "notification.accepted"


class Follower:
    """A reader of the stream, which comes back for as long as it takes."""

    def __init__(self, session: aiohttp.ClientSession, url: str, client: Client) -> None:
        self._session, self._url = session, url
        self._headers = {"Authorization": f"Bearer {client.key}", **client._headers}
        self.events: list[dict] = []
        self.streams = 0

    async def follow(self) -> None:
        while True:
            headers = dict(self._headers)
            if self.events:
                headers["Last-Event-ID"] = self.events[-1]["id"]
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with self._session.get(self._url, params={"after": "0"}, headers=headers) as answer:
                    assert answer.status in (200, 503), answer.status
                    self.streams += answer.status == 200
                    held = b""
                    async for chunk in answer.content.iter_any():
                        *frames, held = (held + chunk).split(b"\n\n")
                        for frame in frames:
                            data = frame.partition(b"data: ")[2]
                            self.events += [orjson.loads(data)] if data else []
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
async def test_kills_in_the_middle_lose_nothing_and_repeat_only_under_the_same_ids(tmp_path):
    async with Receiver(tmp_path) as receiver:

        async def slow(reader, writer):
            await asyncio.sleep(0.05)
            await OK(reader, writer)

        receiver.behave["/hook"] = [slow]
        with scratch() as place:
            key_file = place / "key"
            ours = {f"feed.{name}": orjson.dumps(value).decode() for name, value in settings(receiver).items()}
            ours["feed.ca_file"] = str(receiver.ca_file)
            daemon = Daemon(place / "data", free_port(), ours, command="up")
            try:
                await daemon.start("--admin-key-file", str(key_file))
                async with aiohttp.ClientSession() as session:
                    await told_through_kills(daemon, session, await written(key_file), receiver)
            finally:
                await daemon.put_away()
            assert daemon.broken_parts() == []


async def told_through_kills(daemon: Daemon, session: aiohttp.ClientSession, key: str, receiver: Receiver) -> None:
    """Registers devices while the daemon is killed again and again; each is told of to everybody."""
    base = f"{daemon.url}/pushd/v1"
    app = await Client(session, base, key).ok("POST", "/apps", {"name": "one"})
    client = Client(session, base, key, app["id"])
    await client.ok("POST", "/webhooks", {"url": receiver.url("/hook", "localhost"), "batch_max": 2})
    follower = Follower(session, f"{base}/events/stream", client)
    following = asyncio.create_task(follower.follow())
    try:
        installs = []
        for life in range(KILLS + 1):
            for number in range(DEVICES * life, DEVICES * (life + 1)):
                body = {"install_id": f"i{number}", "token": f"{number:064x}", "bundle": "example.app"}
                await client.ok("PUT", "/devices", body)
                installs.append(body["install_id"])
            if life < KILLS:
                assert len(receiver.ids("/hook")) < len(installs), "the kill comes in the middle of deliveries"
                await daemon.kill()
                await daemon.start()
        wanted = sorted(installs)
        await receiver.until(lambda: named(receiver.events("/hook")) == wanted, PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while named(follower.events) != wanted:
                await asyncio.sleep(0.05)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert follower.streams > KILLS
    streamed = [each["id"] for each in follower.events]
    assert len(streamed) == len(set(streamed)), "a stream repeats nothing"
    bodies: dict[str, dict] = {}
    for request in receiver.of("/hook"):
        for each in request.events:
            assert bodies.setdefault(each["id"], each) == each
    assert sorted(bodies) == sorted(streamed)
    repeats = len(receiver.ids("/hook")) - len(bodies)
    assert repeats <= 2 * KILLS, "no more comes again than was under way"


def named(events: list[dict]) -> list[str]:
    """Installs that events of registrations name."""
    return sorted(each["install_id"] for event in events for each in event["data"].get("devices", ()))
