"""The local APNs as a child process, asked through its control interface."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from tests.faults.children import environment, put_away, spawn
from tests.faults.history import Pushes

BUNDLE = "com.example.orchard"
DEAD = "dead"
"""Tokens that begin so are answered 410."""
DEAD_EVERY = 97
PAGE = 10_000


class Push(NamedTuple):
    """A push that arrived."""

    at_ms: int
    token: str
    apns_id: str
    status: int


class FarSide:
    """What devices and daemon need to know of whom they push through: here, an APNs with a provider key."""

    secrets: Sequence[dict]
    """What to upload as credentials."""
    settings: Mapping[str, object]
    """Where the daemon finds it."""

    def learn(self, credential):
        """Takes note of a credential as it was made."""

    def token(self, number, dice):
        """The token of a device."""
        token = dice.randbytes(32).hex()
        return DEAD + token[len(DEAD) :] if number % DEAD_EVERY == 5 else "a" + token[1:]

    def address(self, number, token):
        """What the registration of a device says of its address."""
        return {"bundle": BUNDLE, "platform": "ios", "token": token}

    def ends(self):
        """(host, port) by the name of the link that leads there."""
        return {"gateway": (self.settings["apns.production_host"], self.settings["apns.production_port"])}

    def through(self, ports):
        """Settings that lead the daemon to other local ports instead, by the names of the links."""
        return {"apns.production_port": ports["gateway"]}


class Gateway(FarSide):
    """A running `pushd simulate`."""

    def __init__(self, process, manifest, session):
        self._process = process
        self._session = session
        self._control = f"http://{manifest['host']}:{manifest['control_port']}"
        provider = manifest["keys"][0]
        private_key = Path(manifest["key_files"][provider["key_id"]]).read_text()
        self.secrets = [apns_token(provider["team_id"], provider["key_id"], private_key)]
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


def apns_token(team_id, key_id, private_key):
    """The body of a provider key, as a credential."""
    return {"type": "apns_token", "team_id": team_id, "key_id": key_id, "private_key": private_key}
