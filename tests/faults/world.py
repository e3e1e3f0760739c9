"""A world to break: a local APNs, a daemon as a child process, producers that never give up, what they were told."""

import asyncio
import random
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import aiohttp
import orjson

from pushd.cli.children import free_port
from pushd.config import FanoutConfig
from tests.faults.chaos import Proxy
from tests.faults.children import Daemon, scratch
from tests.faults.gateway import DEAD, Gateway
from tests.faults.history import Promise
from tests.faults.nginx import Nginx
from tests.faults.postgres import PostgreSQL

ONCE_TAG = "once"
"""Every fourth device has it: the audience of what goes out at most once."""
PATIENCE_S = 120.0
REGISTER_S = 600.0
"""For up to a million devices."""
IN_FLIGHT_S = 0.05
"""What a dead daemon wrote last has arrived by then."""
CHUNK = 2_000
QUIET = {
    "http.auth_failures_per_minute_max": 1_000_000,
    "telemetry.log_format": "json",
    "telemetry.log_level": "warning",
}
"""Everything else as in production."""
SMALL = QUIET | {"fanout.unsettled_rows_max": 2_000, "fanout.batch_rows_max": 250}
"""A small bound on what a kill may repeat, so that it is seen to hold."""


BRISK = SMALL | {
    "fanout.retry_base_s": 0.1,
    "fanout.retry_cap_s": 1.0,
    "fanout.retry_budget_ratio": 10.0,
    "store.statement_timeout_s": 10.0,
    "store.write_timeout_s": 4.0,
    "store.acquire_timeout_s": 2.0,
    "store.connect_timeout_s": 2.0,
    "transport.connect_timeout_s": 2.0,
    "transport.settings_timeout_s": 2.0,
    "transport.response_timeout_s": 4.0,
    "transport.window_timeout_s": 4.0,
    "transport.queue_timeout_s": 4.0,
    "transport.ping_after_s": 2.0,
    "transport.ping_timeout_s": 2.0,
    "transport.connect_backoff_base_s": 0.1,
    "transport.connect_backoff_cap_s": 1.0,
    "transport.connects_per_minute_max": 6_000,
}
"""Short deadlines, so that many of them pass within a test; and retries as many as it takes (G-06 has its own test)."""


class World:
    """One app on one daemon. Everything random comes from the seed."""

    def __init__(self, place, seed, session, gateway, daemon, postgres):
        self.dice = random.Random(seed)
        self.place = place
        self.session = session
        self.gateway = gateway
        self.daemon = daemon
        self.postgres = postgres
        self.links = {}
        """Proxies, by what they lead to: `gateway` and `postgres`."""
        self.promises = []
        self.refusals = []
        """(status, Retry-After) of every send that was refused for the time being."""
        self.tokens = []
        self.drifts = []
        """Samples of `pushd_ledger_drift`."""
        self.sends = []
        """Sends on their way that nobody waits for."""
        self.unsettled_rows_max = daemon.settings.get("fanout.unsettled_rows_max", FanoutConfig().unsettled_rows_max)
        """What one kill may repeat."""
        self.well = False
        self.kills = 0
        self.births_ms = []
        """When the second and later lives of the daemon began, ms since the epoch."""
        self.app_id = None
        self._headers = {}
        self._keys = count()

    # Setting up ---------------------------------------------------------------------------------------------------

    async def put_proxies_between(self, stack):
        """Leads every link of the daemon through a proxy."""
        for name, upstream in (*self.gateway.ends().items(), ("postgres", self.postgres.socket)):
            proxy = self.links[name] = Proxy(upstream, random.Random(self.dice.random()))
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        ports = {name: proxy.port for name, proxy in self.links.items()}
        dsn = f"postgresql://pushd@127.0.0.1:{ports['postgres']}/pushd"
        self.daemon.settings |= self.gateway.through(ports) | {"store.dsn": dsn}

    async def settle_in(self, devices, point=""):
        """Makes an app with the gateway's provider key, and registers devices."""
        key_file = self.place / "admin.key"
        await self.daemon.start("--admin-key-file", str(key_file), command="up", point=point)
        async with asyncio.timeout(10):  # it serves first, and writes the key then
            while not key_file.exists() or not key_file.read_text().endswith("\n"):
                await asyncio.sleep(0.01)
        self._headers = {"Authorization": f"Bearer {key_file.read_text().strip()}"}
        app = await self.call("POST", "/apps", {"name": "Orchard"})
        self.app_id = app["id"]
        self._headers["Pushd-App"] = str(app["id"])
        for secret in self.gateway.secrets:
            body = {"secret": secret, "environment": "production", "name": "test"}
            self.gateway.learn(await self.call("POST", "/credentials", body))
        await self._register(devices)

    async def _register(self, devices):
        self.tokens = [self.gateway.token(number, self.dice) for number in range(devices)]
        self._everyone, self._some = frozenset(self.tokens), frozenset(self.tokens[::4])

        async def lines():
            for start in range(0, devices, CHUNK):
                rows = (self._registration(number) for number in range(start, min(devices, start + CHUNK)))
                yield b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)

        url, headers = (
            f"{self.daemon.url}/pushd/v1/devices/bulk",
            self._headers | {"Content-Type": "application/x-ndjson"},
        )
        limit = aiohttp.ClientTimeout(total=REGISTER_S)
        async with self.session.post(url, data=lines(), headers=headers, timeout=limit) as answer:
            said = [orjson.loads(line) async for line in answer.content if line.strip()]
        assert said[-1]["type"] == "summary", f"{said[-1]}\n{self.daemon.tail()}"
        assert said[-1]["accepted"] == devices, said[-1]

    def _registration(self, number):
        body = {
            "install_id": f"install-{number}",
            "user_id": f"user-{number}",
            **self.gateway.address(number, self.tokens[number]),
        }
        return body | ({"tags": [ONCE_TAG]} if number % 4 == 0 else {})

    @property
    def dead(self):
        """Tokens that the gateway calls unregistered."""
        return frozenset(token for token in self.tokens if token.startswith(DEAD))

    # Asking -------------------------------------------------------------------------------------------------------

    async def call(self, method, path, body=None, **query):
        """The decoded answer of a request that has to succeed."""
        data = None if body is None else orjson.dumps(body)
        kind = {"Content-Type": "application/json"} if data else {}
        async with (
            asyncio.timeout(PATIENCE_S),
            self.session.request(
                method, f"{self.daemon.url}/pushd/v1{path}", data=data, params=query, headers=self._headers | kind
            ) as answer,
        ):
            text = await answer.read()
            assert answer.status < 300, (method, path, answer.status, text)
            return orjson.loads(text) if text else None

    async def views(self):
        """Every notification by id, as the daemon shows them."""
        found, query = {}, {"limit": 1000}
        while True:
            page = await self.call("GET", "/notifications", **query)
            found.update((view["id"], view) for view in page["items"])
            if not page.get("next"):
                return found
            query["cursor"] = page["next"]

    async def metric(self, name):
        """A sample of a metric, labels in its name; None while the daemon is away, 0 while there is none yet."""
        return None if (known := await self.metrics()) is None else known.get(name, 0.0)

    async def metrics(self):
        """Every metric by its name with labels; None while the daemon is away."""
        try:
            async with self.session.get(f"{self.daemon.url}/metrics", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None
        pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    # Sending ------------------------------------------------------------------------------------------------------

    async def broadcast(self):
        """A promise to every device, at least once."""
        return await self.send({"type": "broadcast"}, self._everyone)

    async def once(self):
        """A promise to every fourth device, at most once."""
        audience = {"type": "tags", "any": [ONCE_TAG]}
        return await self.send(audience, self._some, delivery="at_most_once")

    async def single(self):
        """A promise to one device that lives."""
        number = self.dice.randrange(len(self.tokens))
        while self.tokens[number].startswith(DEAD):
            number = self.dice.randrange(len(self.tokens))
        return await self.send({"type": "users", "ids": [f"user-{number}"]}, [self.tokens[number]])

    async def send(self, audience, tokens, **more):
        """The promise, however often it takes: repeated under one Idempotency-Key until there is a 202."""
        key = f"key-{next(self._keys)}"
        body = orjson.dumps({"audience": audience, "message": {"title": "Pears", "body": key}, **more})
        headers = self._headers | {"Content-Type": "application/json", "Idempotency-Key": key}
        async with asyncio.timeout(PATIENCE_S):
            while (told := await self._try(body, headers)) is None:
                await asyncio.sleep(0.05)
        promise = Promise(told["id"], frozenset(tokens), more.get("delivery") == "at_most_once")
        self.promises.append(promise)
        return promise

    async def _try(self, body, headers):
        try:
            async with self.session.post(
                f"{self.daemon.url}/pushd/v1/notifications", data=body, headers=headers
            ) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return None  # nobody was promised anything
        if answer.status == 503:
            self.refusals.append((answer.status, answer.headers.get("Retry-After")))
            return None
        assert answer.status == 202, (answer.status, text)
        return orjson.loads(text)

    @asynccontextmanager
    async def under_way(self, producers=2, pause_s=0.02):
        """Meanwhile single sends go on all the time, and the ledger is looked at."""
        over = asyncio.Event()

        async def produce():
            while not over.is_set():
                await self.single()
                await asyncio.sleep(pause_s)

        async def watch():
            while not over.is_set():
                if (drift := await self.metric("pushd_ledger_drift")) is not None:
                    self.drifts.append(drift)
                await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            for _ in range(producers):
                group.create_task(produce())
            group.create_task(watch())
            try:
                yield
            finally:
                over.set()

    def tell(self):
        """Says what the daemon said last, where something went wrong."""
        if not self.well:
            process = self.daemon.process
            state = "runs" if self.daemon.running else f"ended with {process.returncode}" if process else "never began"
            broken = "\n".join(self.daemon.broken_parts()[:3])
            print(f"pushd {state}; its log:\n{broken}\n…\n{self.daemon.tail()}", file=sys.stderr)

    # Breaking and waiting -----------------------------------------------------------------------------------------

    async def kill(self, pause_s=0.0, point="", *, ready=True):
        """kill -9 of the daemon, and its next start. Its embedded PostgreSQL goes down with it."""
        self.kills += 1
        await self.daemon.kill()
        await asyncio.sleep(max(pause_s, IN_FLIGHT_S))
        self.births_ms.append(int(time.time() * 1000))
        await self.daemon.start(wait=False, point=point)
        if ready and not point:
            await self.daemon.ready()

    async def pushed(self, rows, since=None, timeout_s=PATIENCE_S):
        """Returns when the gateway has seen so many pushes more than now, or than `since`."""
        goal = rows + (await self.gateway.total() if since is None else since)
        async with asyncio.timeout(timeout_s):
            while await self.gateway.total() < goal:
                assert self.daemon.running, self.daemon.tail()
                await asyncio.sleep(0.002)

    async def done(self):
        """Every notification by id, once nothing of any is pending: however long that takes, as long as it gets on."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self.sends)
        await self._drained()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                views = await self.views()
                if all(view["state"] == "done" for view in views.values()):
                    return views
                await asyncio.sleep(0.1)

    async def _drained(self):
        least, until = float("inf"), time.monotonic() + PATIENCE_S
        while (left := await self.metric("pushd_backlog_devices")) != 0:
            assert self.daemon.running, self.daemon.tail()
            if left is not None and left < least:
                least, until = left, time.monotonic() + PATIENCE_S
            assert time.monotonic() < until, f"{left} rows wait, and for {PATIENCE_S:.0f} s none has gone"
            await asyncio.sleep(0.1)


@asynccontextmanager
async def world(
    devices,
    *,
    seed=0,
    external=False,
    settings=SMALL,
    disk_mb=0,
    fast=False,
    proxied=False,
    point="",
    module="",
    far_side=None,
):
    """A world with so many devices.

    `external`: on a PostgreSQL that is not the daemon's own; `disk_mb`: with a disk of its own. `fast`: nginx is the
    gateway, which checks nothing. `proxied`: every link of the daemon goes through a proxy. `point`: where the daemon's
    first life ends. `module`: what is run in place of `pushd`. `far_side`: who starts the gateway, in its place.
    """
    async with AsyncExitStack() as stack:
        place = stack.enter_context(scratch())
        timeout = aiohttp.ClientTimeout(total=30)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        gateway = await _far_side(place, session, seed, far_side, fast=fast)
        stack.push_async_callback(gateway.stop)
        known = gateway.settings | settings
        postgres = None
        if external:
            postgres = PostgreSQL(place, disk_mb)
            await postgres.prepare()
            stack.push_async_callback(postgres.put_away)
            await postgres.start()
            known["store.dsn"] = postgres.dsn
        daemon = Daemon(place / "data", free_port(), known, module=module)
        made = World(place, seed, session, gateway, daemon, postgres)
        if proxied:
            await made.put_proxies_between(stack)
        stack.push_async_callback(daemon.put_away)
        stack.callback(made.tell)
        await made.settle_in(devices, point)
        yield made
        made.well = True


def _far_side(place, session, seed, far_side, *, fast):
    if far_side is not None:
        return far_side(place)
    return Nginx.start(place) if fast else Gateway.start(place, session, seed)
