"""kill -9 of a daemon in the middle of imports: they go on after its next start, and no line is carried out twice."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path

import aiohttp
import orjson
import pytest

from pushd.cli.children import free_port
from tests.acceptance.world import Client
from tests.faults.children import Daemon, scratch

PATIENCE_S = 60.0
USERS = 3_000
BAD_EVERY = 10
KILLS = 3


async def until(client: Client, import_id: int, holds):
    """The import, once something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds(view := await client.ok("GET", f"/imports/{import_id}")):
            await asyncio.sleep(0.005)
    return view


async def begin(client: Client, job, body: bytes) -> int:
    """The id of an import that was answered 202: its whole input is stored."""
    made = await client.ok("POST", "/imports", {"job": job})
    cut = body.find(b"\n", len(body) // 2) + 1
    for number, part in enumerate((body[:cut], body[cut:]), 1):
        headers = {"Content-Type": "text/csv"}
        await client.ok("PUT", f"/imports/{made['id']}/parts/{number}", data=part, headers=headers)
    return (await client.ok("POST", f"/imports/{made['id']}/start"))["id"]


async def subscribers(client: Client) -> int:
    """How many users are subscribed, by the store."""
    total, cursor = 0, ""
    while True:
        page = await client.ok("GET", f"/channels/news/subscribers?limit=1000{cursor}")
        total += len(page["items"])
        if page["next"] is None:
            return total
        cursor = f"&cursor={page['next']}"


async def written(file: Path) -> str:
    """The admin key, which the daemon writes once it is ready."""
    async with asyncio.timeout(PATIENCE_S):
        while not file.exists() or not file.read_text().endswith("\n"):
            await asyncio.sleep(0.02)
    return file.read_text().strip()


def further(stood: int, view) -> bool:
    return view["done"] > stood or view["state"] == "done"


@pytest.mark.asyncio
async def test_imports_go_on_after_kills_and_each_line_counts_once():
    with scratch() as place:
        key_file = place / "key"
        settings = {"imports.chunk_lines_max": 50, "imports.chunk_users_max": 50, "imports.poll_interval_s": 0.1}
        daemon = Daemon(place / "data", free_port(), settings, command="up")
        try:
            await daemon.start("--admin-key-file", str(key_file))
            async with aiohttp.ClientSession() as session:
                await imported(daemon, session, await written(key_file))
        finally:
            await daemon.put_away()
        assert daemon.broken_parts() == []


async def imported(daemon: Daemon, session: aiohttp.ClientSession, key: str) -> None:
    """Imports users, and then takes half of them off a channel, while the daemon is killed again and again."""
    base = f"{daemon.url}/pushd/v1"
    app = await Client(session, base, key).ok("POST", "/apps", {"name": "one"})
    client = Client(session, base, key, app["id"])
    await client.ok("POST", "/channels", {"uuid": "news"})
    lines = [
        orjson.dumps({"external_id": f"user-{number}", "subscribe": ["none" if number % BAD_EVERY == 0 else "news"]})
        for number in range(USERS)
    ]
    first = await begin(client, {"type": "users"}, b"\n".join(lines))
    names = b"".join(b"user-%d\n" % number for number in range(USERS // 2))
    second = await begin(client, {"type": "unsubscribe", "channel": "news"}, names)
    stood = 0
    for _ in range(KILLS):
        view = await until(client, first, partial(further, stood))
        stood = view["done"]
        await daemon.kill()
        await daemon.start()
        assert (await client.ok("GET", f"/imports/{first}"))["done"] >= stood
    view = await until(client, first, lambda view: view["state"] == "done")
    assert (view["lines"], view["done"], view["rejected"]) == (USERS, USERS, USERS // BAD_EVERY)
    view = await until(client, second, lambda view: view["state"] == "done")
    bad = USERS // 2 // BAD_EVERY
    assert (view["lines"], view["done"], view["rejected"]) == (USERS // 2, USERS // 2, bad)
    assert await subscribers(client) == USERS // 2 - bad
    rejects = await client.ok("GET", f"/imports/{second}/rejects?limit=1000")
    assert [int(re.sub(r"\D", "", each["value"])) for each in rejects["items"]] == list(range(0, USERS // 2, BAD_EVERY))
    # The index that was loaded at the last start, and what came after, say the same.
    for number in (1, USERS // 2 + 1, USERS // 2 + 10):
        await client.ok(
            "PUT",
            "/devices",
            {"install_id": str(number), "token": f"{number:064x}", "bundle": "x", "user_id": f"user-{number}"},
        )
    assert (await client.ok("GET", "/channels/news"))["devices"] == 1 + (USERS // 2 + 10) % 2
