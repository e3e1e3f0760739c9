"""The earth: phones in many zones, daemons on one database whose clock the test sets, and what Apple saw and when."""

import base64
import hashlib
import secrets
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import aiohttp
import asyncpg
import orjson

from protocols.apns import apns_id_parts
from pushd.cli.children import free_port
from pushd.simulator.simulator import Simulator
from tests.faults import clockwork, failpoints
from tests.faults.children import Daemon, scratch
from tests.faults.clockwork import Clockwork
from tests.faults.gateway import BUNDLE, apns_token
from tests.faults.postgres import PostgreSQL
from tests.faults.waiting import until
from tests.faults.world import BRISK

SETTINGS = BRISK | {
    "scheduler.look_s": 0.02,
    "scheduler.lead_s": 0.1,
    "scheduler.retry_s": 0.1,
    "store.node_ping_s": 0.3,
    "store.node_grace_s": 1.0,
}
"""A clock that stands still wakes nobody: who waits for a time looks often."""
PATIENCE_S = 60.0
_LEFT = """
SELECT (SELECT count(*) FROM schedules WHERE active AND next_at <= $1)
    + (SELECT count(*) FROM rollouts WHERE next_at <= $1) + (SELECT count(*) FROM runs)
"""


class Arrival(NamedTuple):
    """A push that arrived."""

    at: float
    """UNIX seconds, by the clock that the test sets."""
    phone: str
    notification: int
    title: str


class Earth:
    """One app, its phones, and daemons that send to them."""

    def __init__(self, place, clock, session, apple, postgres, daemons):
        self.clock, self.apple, self.postgres, self.daemons = clock, apple, postgres, daemons
        self.arrivals = []
        self.kills = 0
        self.armed = None
        """A daemon that will kill itself at a point, wherever that comes: it is started again then."""
        self.well = False
        self._place, self._session = place, session
        self._phones = {}
        self._headers = {}
        self._last = 0
        self._asking = None

    # Setting up ---------------------------------------------------------------------------------------------------

    async def settle_in(self, phones):
        """Makes an app with Apple's key, and registers phones: their zones by name."""
        first, key_file = self.daemons[0], self._place / "admin.key"
        await self.start(first, "--admin-key-file", str(key_file), command="up")
        await until(lambda: key_file.exists() and key_file.read_text().endswith("\n"))
        self._headers = {"Authorization": f"Bearer {key_file.read_text().strip()}"}
        app = await self.call("POST", "/apps", {"name": "Orchard", "settings": {"time_zone": "Europe/Berlin"}})
        self._headers["Pushd-App"] = str(app["id"])
        identity = self.apple.identity
        (key,) = identity.keys.values()
        secret = apns_token(key.team_id, key.key_id, identity.pem(key.key_id))
        await self.call("POST", "/credentials", {"secret": secret, "environment": "production", "name": "test"})
        for name, zone in phones.items():
            await self.register(name, zone)
        for other in self.daemons[1:]:
            await self.start(other)

    async def register(self, name, zone, **fields):
        """Registers a phone, or says that it is in another zone now."""
        token = hashlib.sha256(name.encode()).hexdigest()
        self._phones[token] = name
        body = {"install_id": name, "user_id": f"user of {name}", "bundle": BUNDLE, "platform": "ios", "token": token}
        await self.call("PUT", "/devices", body | {"time_zone": zone} | fields)

    async def start(self, daemon, *arguments, command=None, point="", wait=True):
        """Starts a daemon under the clock; `point`: where it is to kill itself, `name:hit`."""
        environ = {clockwork.VARIABLE: str(self._place / "clock")}
        if point:
            environ[failpoints.VARIABLE] = point
        await daemon.start(*arguments, command=command, environ=environ, wait=wait)

    # Asking ---------------------------------------------------------------------------------------------------------

    async def call(self, method, path, body=None, **query):
        """The decoded answer of a request to the first daemon that runs; it has to succeed."""
        daemon = next(each for each in self.daemons if each.running)
        data = None if body is None else orjson.dumps(body)
        headers = self._headers | ({"Content-Type": "application/json"} if data else {})
        url = f"{daemon.url}/pushd/v1{path}"
        async with self._session.request(method, url, data=data, params=query, headers=headers) as answer:
            text = await answer.read()
            assert answer.status < 300, (method, path, answer.status, text)
            return orjson.loads(text) if text else None

    async def send(self, title, audience=None, **said):
        """The id of a send; what it says is all that is known of it on the phones."""
        body = {"audience": audience or {"type": "broadcast"}, "message": {"title": title}, **said}
        return (await self.call("POST", "/notifications", body))["id"]

    async def quiet(self):
        """Returns when nothing is due, by the clock, and nothing is on its way."""
        try:
            await until(self._is_quiet, PATIENCE_S, pause_s=0.004)
        except TimeoutError:
            raise AssertionError(await self._what_is_left()) from None
        self.harvest()

    async def _what_is_left(self):
        """What does not get on."""
        async with self.postgres.session() as session:
            now = datetime.fromtimestamp(self.clock.now(), UTC)
            tables = {
                "schedules": "SELECT id, next_at, nominal, revision FROM schedules WHERE active AND next_at <= $1",
                "rollouts": "SELECT notification_id, next_at, revision FROM rollouts WHERE next_at <= $1",
                "runs": "SELECT notification_id, release, node_id, claimed, $1::timestamptz AS now FROM runs",
                "nodes": "SELECT id, name, fenced_at, $1::timestamptz AS now FROM nodes",
            }
            rows = {name: await session.fetch(f"{query} LIMIT 5", now) for name, query in tables.items()}
        return "\n".join(f"{name}: {[dict(row) for row in found]}" for name, found in rows.items())

    async def _is_quiet(self):
        if self.armed is not None and self.armed.killed:
            await self.revive()
        for daemon in self.daemons:
            assert daemon.running, f"{daemon.url} has ended by itself:\n{daemon.tail()}"
            assert not daemon.broken_parts(), daemon.broken_parts()[0]
        try:
            if self._asking is None:
                self._asking = await asyncpg.connect(self.postgres.dsn)
            now = datetime.fromtimestamp(self.clock.now(), UTC)
            return await self._asking.fetchval(_LEFT, now, timeout=5) == 0
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            self._asking = None
            return False

    def harvest(self):
        """Takes in what has arrived."""
        while pushes := self.apple.record.pushes(None, since=self._last, limit=5_000):
            for push in pushes:
                assert push.payload is not None, "the record has forgotten what a push said"
                alert = orjson.loads(push.payload)["aps"]["alert"]
                title = alert if isinstance(alert, str) else alert["title"]
                notification, _ = apns_id_parts(push.apns_id)
                self.arrivals.append(Arrival(push.at_ms / 1000, self._phones[push.token], notification, title))
            self._last = pushes[-1].number

    def by_title(self):
        """Arrivals by what they said."""
        found = defaultdict(list)
        for each in self.arrivals:
            found[each.title].append(each)
        return found

    # Breaking -------------------------------------------------------------------------------------------------------

    async def kill(self, daemon):
        """kill -9."""
        self.kills += 1
        await daemon.kill()

    async def revive(self):
        """Starts the armed daemon again, which has killed itself."""
        daemon, self.armed = self.armed, None
        self.kills += 1
        await self.start(daemon)

    def tell(self):
        """Says what the daemons said last, where something went wrong."""
        for daemon in self.daemons if not self.well else ():
            print(f"--- {daemon.url}\n{daemon.tail()}")


@asynccontextmanager
async def earth(phones, at, *, speed=0.0, daemons=1, settings=None):
    """An earth with these phones, by their zones, on which it is a time."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(scratch())
        clock = Clockwork(place / "clock")
        clock.set(at, speed)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)))
        apple = Simulator(place / "apns", clock=clock)
        await apple.start()
        stack.push_async_callback(apple.stop)
        postgres = PostgreSQL(place)
        await postgres.prepare()
        stack.push_async_callback(postgres.put_away)
        await postgres.start()
        master_key = place / "master.key"
        master_key.touch(mode=0o600)
        master_key.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
        known = SETTINGS | {
            "apns.production_host": apple.host,
            "apns.production_port": apple.port,
            "apns.ca_file": apple.ca_file,
            "secrets.master_key_file": master_key,
            "store.dsn": postgres.dsn,
        }
        made = [
            Daemon(place / f"data-{number}", free_port(), known | (settings or {}), module="tests.faults.clockwork")
            for number in range(daemons)
        ]
        here = Earth(place, clock, session, apple, postgres, made)
        for daemon in made:
            stack.push_async_callback(daemon.put_away)
        stack.callback(here.tell)
        await here.settle_in(phones)
        yield here
        here.well = True
