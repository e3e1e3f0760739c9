"""The local APNs as a child process, asked through its control interface."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import orjson

from tests.faults.children import environment, put_away, spawn
from tests.faults.history import Pushes

DEAD = "dead"
"""Tokens that begin so are answered 410."""
PAGE = 10_000


class Push(NamedTuple):
    """A push that arrived."""

    at_ms: int
    token: str
    apns_id: str
    status: int


class Gateway:
    """A running `pushd simulate`."""

    def __init__(self, process, manifest, session):
        self._process = process
        self._session = session
        self._control = f"http://{manifest['host']}:{manifest['control_port']}"
        provider = manifest["keys"][0]
        self.secret = {
            "type": "apns_token",
            "team_id": provider["team_id"],
            "key_id": provider["key_id"],
            "private_key": Path(manifest["key_files"][provider["key_id"]]).read_text(),
        }
        self.settings = {
            "apns.production_host": manifest["host"],
            "apns.production_port": manifest["production_port"],
            "apns.ca_file": manifest["ca_file"],
        }

    @classmethod
    async def start(cls, place, session, seed, *arguments):
        """A gateway that keeps its state in `place`."""
        ports = ("--port", "0", "--sandbox-port", "0", "--control-port", "0")
        fault = {"token_prefix": DEAD, "action": {"type": "answer", "reason": "Unregistered"}}
        process = await spawn(
            *("simulate", "--state", str(place / "apns"), *ports, "--seed", str(seed), "--apns-only"),
            *("--with-parent", "--json", "--fault", orjson.dumps(fault).decode(), *arguments),
            log=place / "apns.log",
            env=environment({}),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 60)
            return cls(process, orjson.loads(line), session)
        except BaseException:
            await put_away(process)
            raise

    async def stop(self):
        await put_away(self._process)

    async def ask(self, path, **query):
        async with self._session.get(self._control + path, params=query) as answer:
            return orjson.loads(await answer.read())

    async def total(self):
        """How many pushes arrived so far."""
        return (await self.ask("/summary"))["pushes"]

    async def pushes(self):
        """Everything that arrived, as columns; what a client must not do has not been done."""
        assert not (await self.ask("/summary"))["violations"]
        found, last = [], 0
        while rows := (page := await self.ask("/pushes", since=last, limit=PAGE))["pushes"]:
            found += [Push(row["at_ms"], row["token"], row["apns_id"], row["status"]) for row in rows]
            last = page["last"]
        return Pushes.of(found)
