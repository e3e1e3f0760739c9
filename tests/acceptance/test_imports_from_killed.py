"""kill -9 of the command while it uploads, and of the daemon while it imports: the rest goes on, no row comes twice."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import aiohttp
import orjson
import pytest

from pushd.cli.children import free_port
from tests.acceptance.test_imports_killed import further, until, written
from tests.acceptance.world import Client
from tests.faults.children import Daemon, scratch
from tests.mortal import mortal

ROWS = 4_000
BAD_EVERY = 100
PAD = "x" * 900
"""So that there are several parts to upload."""


def table() -> str:
    """Installs of Kumulos; one in a hundred has a token that cannot be."""
    tokens = ("bad" if number % BAD_EVERY == 0 else f"{number:064x}" for number in range(ROWS))
    rows = (f"i-{at},u-{at % 500},{token},1,com.example,news,{PAD}\n" for at, token in enumerate(tokens))
    return "installId,userId,pushToken,platformType,bundleId,channels,alias\n" + "".join(rows)


class Command:
    """`pushd import --from kumulos` as a process of its own."""

    def __init__(self, daemon: Daemon, key: Path, file: Path) -> None:
        self.arguments = ["--from", "kumulos", str(file), "--map", "alias=attributes.pad", "--app", "1", "--json"]
        self.arguments += ["--url", daemon.url, "--key-file", str(key)]

    async def start(self, *more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *mortal(sys.executable, "-m", "pushd", "import", *self.arguments, *more),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )

    async def finish(self, *more: str):
        """What it tells at its end."""
        process = await self.start(*more)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err
        return orjson.loads(out)


@pytest.mark.asyncio
async def test_an_import_goes_on_after_kills_of_the_command_and_of_the_daemon():
    with scratch() as place:
        settings = {"imports.chunk_records_max": 100, "imports.poll_interval_s": 0.1}
        daemon = Daemon(place / "data", free_port(), settings, command="up")
        file, bad = place / "installs.csv", place / "bad.csv"
        file.write_text(table())
        try:
            await daemon.start("--admin-key-file", str(place / "key"))
            key = await written(place / "key")
            async with aiohttp.ClientSession() as session:
                admin = Client(session, f"{daemon.url}/pushd/v1", key)
                client = Client(session, admin.base, key, (await admin.ok("POST", "/apps", {"name": "one"}))["id"])
                command = Command(daemon, place / "key", file)
                number = await broken_off(client, command)
                view = await carried_out(daemon, client, command, number, bad)
                assert (view["rows"], view["rejected"]) == (ROWS, ROWS // BAD_EVERY)
                assert view["reasons"].popitem()[1] == ROWS // BAD_EVERY
                await counted(client)
            assert len(bad.read_text().splitlines()) == ROWS // BAD_EVERY + 1
        finally:
            await daemon.put_away()
        assert daemon.broken_parts() == []


async def broken_off(client: Client, command: Command) -> int:
    """The number of an import whose command was killed after some of its parts were there."""
    process = await command.start()
    async with asyncio.timeout(60):
        while not (found := (await client.ok("GET", "/imports"))["items"]) or found[0]["parts"] < 2:
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    (view,) = (await client.ok("GET", "/imports"))["items"]
    assert view["state"] == "uploading", "the command was through before it was killed: make the file longer"
    return int(view["id"])


async def carried_out(daemon: Daemon, client: Client, command: Command, number: int, bad: Path):
    """What a command tells that went on, while the daemon was killed, and another one that went on after it."""
    before = (await client.ok("GET", f"/imports/{number}"))["parts"]
    process = await command.start("--resume", str(number))
    stood = (await until(client, number, lambda view: view["done"] > 0))["done"]
    assert (await client.ok("GET", f"/imports/{number}"))["parts"] > before
    await daemon.kill()
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (1, b"")
    assert re.search(rf"go on with\s+--resume {number}".encode(), err), err
    await daemon.start()
    await until(client, number, partial(further, stood))
    await daemon.kill()
    await daemon.start()
    return await command.finish("--resume", str(number), "--rejects", str(bad))


async def counted(client: Client) -> None:
    """Every good row came once: each install has one device, and each of its users' devices is subscribed."""
    good = ROWS - ROWS // BAD_EVERY
    assert (await client.ok("GET", "/channels/news"))["devices"] == good
    found = await client.ok("POST", "/audience/count", {"audience": {"type": "broadcast"}})
    assert found["devices"] == good
    (view,) = (await client.ok("GET", "/imports"))["items"]
    assert (view["lines"], view["done"], view["rejected"], view["state"]) == (ROWS, ROWS, ROWS // BAD_EVERY, "done")
