"""A broadcast to 1,000,000 devices in PostgreSQL: one POST to the commit of the last outcome, beside h2load.

The daemon (`pushd serve`, every setting at its default but where the gateway is) has one core for itself. On the other
are PostgreSQL 18 (the embedded one), the far side (h2o or nginx over TLS, 200 to every path) and the driver, which is
this process. h2load is the floor: requests of the same shape from the daemon's core to the same server in the same run,
its best connections and streams found first, runs of the two alternating; while it runs the far side has its core for
itself.

- The clock of a broadcast runs from before its POST until its last settlement is committed: the driver asks PostgreSQL
  for the row that says so. The ledger is then compared with what was targeted.
- `first_push_ms`: the far side logs when it began to answer the push to the first device, and that is compared with the
  driver's receipt of the 202 (one machine, one clock; a push that comes before the 202 counts as 0). Links are open
  then; `cold` is the same of the broadcast to a few hundred devices before, which opens them.
- `rss_bytes_per_device`: resident memory of the daemon that has loaded all devices, less that of one on the same
  database without devices, both idle, less 64 for the address. Users, half as many as devices, are in it.
- Loop lag is the daemon's own metric over the broadcast; as a histogram it gives the bucket's upper end.
- *mixed*: 2 % of the answers are 410, 1 % are 503, which are sent again after a back-off of up to a second and more;
  `per_s` has that wait in it, `busy_per_s` is the rate up to the commit of 97 %.
- Devices are loaded by SQL before; a broadcast to 400 devices on each far side is not timed.

The ratio is the smaller of both far sides' rates over h2load's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench import measure, population
from bench.apns_wire import certificate, provider_token
from bench.far_sides import FarSide, Load, far_side

KINDS = ("h2o", "nginx")
WARM_UP = 400
"""Devices of the broadcast that opens the links: more than the transactional lane takes."""
ADDRESS_BYTES = 64
POLL_S = 0.005
PATIENCE_S = 600.0
MESSAGE = {"title": "Hello World", "body": "from pushd, a benchmark notification", "data": {"n": 1}}
TARGETS = {"ratio": 0.85, "h2o_us": 5.0, "nginx_us": 10.0, "first_push_ms": 100.0, "bytes": 120}

_FINISHED = "SELECT 1 FROM finished WHERE notification_id = $1"
_SETTLED = "SELECT coalesce(sum(count), 0)::int FROM outcome_deltas WHERE notification_id = $1"


def run(quick: bool, devices: int | None = None, *, personalised: int = 0) -> dict[str, Any]:
    """The figures of both far sides, plain and mixed; quick: about 40 s with 100,000 devices.

    Personalised: messages that differ by device beside one that does not, in the same run.
    """
    measure.need("h2load", "h2o", "nginx", "taskset")
    count, rounds = devices or (100_000 if quick else 1_000_000), 2 if quick else 3
    measured = _measure
    if personalised:
        from bench import fanout_personal

        measured = fanout_personal.measured
    return measure.run_pinned(lambda root: measured(root, count, rounds), measure.SERVER_CORE)


async def _measure(root: Path, devices: int, rounds: int) -> dict[str, Any]:
    results: dict[str, dict[str, Any]] = {}
    ready_s, loaded, after = 0.0, 0, 0
    async with new_world(root, devices) as world:
        with world.daemon():
            await world.make_credential()
            empty = await world.resident()
        begun = time.perf_counter()
        await population.load(world.database, world.app_id, devices, per_user=2)
        await world.database.execute("CHECKPOINT")
        filled_s, begun = time.perf_counter() - begun, time.perf_counter()
        for kind in KINDS:  # a daemon for each: links remember what a server could not do
            with world.daemon():
                ready_s, loaded = ready_s or time.perf_counter() - begun, loaded or await world.resident()
                with world.far(kind, mixed=False) as far:
                    results[kind], client = await _plain(world, far, rounds)
                with world.far(kind, mixed=True) as far:
                    results[f"{kind}_mixed"] = await _mixed(world, far, client)
                after = await world.resident()
    memory = {
        "rss_empty_mb": empty / 1e6,
        "rss_loaded_mb": loaded / 1e6,
        "rss_after_mb": after / 1e6,
        "rss_bytes_per_device": (loaded - empty) / devices - ADDRESS_BYTES,
        "sql_load_s": filled_s,
        "start_to_ready_s": ready_s,
    }
    return _result(results, memory, devices, rounds)


def _result(results: dict[str, dict[str, Any]], memory: dict[str, float], devices: int, rounds: int) -> dict[str, Any]:
    ratios = {kind: results[kind]["per_s"] / results[kind]["h2load_per_s"] for kind in KINDS}
    rates: tuple[str, ...] = ("per_s", "busy_per_s", "h2load_per_s", "first_push_ms", "lag_p99_ms", "lag_max_ms")
    shown = (*rates, "daemon_us", "postgresql_us", "far_side_us", "driver_us", "h2load_us")
    return {
        "ratio": min(ratios.values()),
        "target": f"of h2load's requests per second, both far sides; the target is at least {TARGETS['ratio']} (CPU "
        f"per push: {TARGETS['h2o_us']:.0f} µs on h2o, {TARGETS['nginx_us']:.0f} on nginx; first push: "
        f"{TARGETS['first_push_ms']:.0f} ms; {TARGETS['bytes']} bytes per device)",
        "table": [{"figure": name, **{kind: found.get(name, "") for kind, found in results.items()}} for name in shown]
        + [{"figure": name, "h2o": value, **dict.fromkeys(list(results)[1:], "")} for name, value in memory.items()],
        **{f"{kind}_ratio": ratio for kind, ratio in ratios.items()},
        **{f"{kind}_{name}": value for kind, found in results.items() for name, value in found.items()},
        **memory,
        "devices": devices,
        "runs": rounds,
    }


async def _plain(world: World, far: FarSide, rounds: int) -> tuple[dict[str, Any], tuple[int, int]]:
    """Broadcasts and runs of h2load in turn, and the connections and streams that suit h2load best."""
    cold = await world.warm_up(far)
    load = world.load(far)
    client = await asyncio.to_thread(load.best, far, min(100_000, world.devices // 2))
    floors, runs = [], []
    for _ in range(rounds):
        floors.append(await asyncio.to_thread(load.run, far, world.devices, *client))
        runs.append(await world.broadcast(far))
        assert runs[-1]["accepted"] == runs[-1]["targeted"] >= 0.95 * world.devices, runs[-1]
    figures = {
        **{key: measure.median([each[key] for each in runs]) for key in runs[0]},
        "h2load_per_s": measure.median([each["rate"] for each in floors]),
        "h2load_us": measure.median([each["cpu_us"] for each in floors]),
        "h2load_server_us": measure.median([each["server_cpu_us"] for each in floors]),
        "h2load_settings": f"-c {client[0]} -m {client[1]}",
        "first_push_cold_ms": cold,
    }
    return figures, client


async def _mixed(world: World, far: FarSide, client: tuple[int, int]) -> dict[str, Any]:
    """One broadcast of which some are refused for good and some for now."""
    cold = await world.warm_up(far)
    floor = await asyncio.to_thread(world.load(far).run, far, min(200_000, world.devices), *client)
    done = await world.broadcast(far)
    dead = done["targeted"] - done["accepted"]
    assert done["failed"] == dead, done
    assert 0.015 < dead / done["targeted"] < 0.025, done
    return {
        **done,
        "busy_per_s": 0.97 * done["targeted"] / done["busy_s"],
        "h2load_per_s": floor["rate"],
        "h2load_us": floor["cpu_us"],
        "h2load_settings": f"-c {client[0]} -m {client[1]}",
        "first_push_cold_ms": cold,
    }


# -- the parts


@dataclass(kw_only=True)
class World:
    """The processes that are measured, and what the driver needs to know of them."""

    root: Path
    devices: int
    database: Any
    dsn: str
    postgres: int
    app_id: int
    admin: str
    port: int
    far_port: int
    certificate: tuple[Path, Path]
    session: aiohttp.ClientSession
    pid: int = 0

    @contextlib.contextmanager
    def daemon(self) -> Iterator[None]:
        """A `pushd serve` on the database, on its core, once it listens."""
        settings = {
            "PUSHD__STORE__DSN": self.dsn,
            "PUSHD__STORE__DATA_DIR": str(self.root / "data"),
            "PUSHD__HTTP__PORT": str(self.port),
            "PUSHD__APNS__PRODUCTION_HOST": "localhost",
            "PUSHD__APNS__PRODUCTION_PORT": str(self.far_port),
            "PUSHD__APNS__CA_FILE": str(self.certificate[0]),
        }
        command = [sys.executable, "-m", "pushd", "serve"]
        log = self.root / "daemon.log"
        with measure.server(
            command, self.port, core=measure.CLIENT_CORE, wait_s=PATIENCE_S, environ=settings, errors=log
        ) as self.pid:
            yield

    @contextlib.contextmanager
    def far(self, kind: str, *, mixed: bool) -> Iterator[FarSide]:
        """A far side at the port that the daemon sends to."""
        marked, now_ms = population.token(0), int(time.time() * 1000)
        with far_side(kind, self.root, self.far_port, self.certificate, marked, mixed=mixed, now_ms=now_ms) as far:
            yield far

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer; AssertionError unless it is a success."""
        async with self.session.request(method, f"/pushd/v1{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def make_credential(self) -> None:
        """Gives the app a provider key."""
        private_key, _ = provider_token()
        secret = {"type": "apns_token", "team_id": "BENCHTEAM1", "key_id": "BENCHKEY01", "private_key": private_key}
        await self.call("POST", "/credentials", {"secret": secret, "environment": "production", "name": "bench"})

    async def resident(self) -> int:
        """Resident bytes of the daemon once it has come to rest."""
        await asyncio.sleep(1.0)
        return measure.resident(self.pid)

    async def warm_up(self, far: FarSide) -> float:
        """Opens the links by a broadcast to a few devices; ms from its 202 to the first push."""
        users = [f"user-{number}" for number in range(WARM_UP // 2)]
        done = await self.broadcast(far, {"type": "users", "ids": users})
        return float(done["first_push_ms"])

    async def broadcast(self, far: FarSide, audience: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Figures of one notification, by default to everyone, from its POST to its last commit."""
        pids = {"daemon": self.pid, "postgresql": self.postgres, "far_side": far.pid, "driver": os.getpid()}
        lag, before = await self._lag(), {name: measure.cpu_of_family(pid) for name, pid in pids.items()}
        begun = time.perf_counter()
        body = {"audience": audience or {"type": "broadcast"}, "message": MESSAGE, **fields}
        sent = await self.call("POST", "/notifications", body)
        answered, answered_s = time.time(), time.perf_counter() - begun
        busy_s = await self._finished(sent["id"], sent["targeted"], begun)
        seconds = time.perf_counter() - begun
        used = {name: measure.cpu_of_family(pid) - before[name] for name, pid in pids.items()}
        counts = (await self.call("GET", f"/notifications/{sent['id']}"))["counts"]
        return {
            "per_s": counts["targeted"] / seconds,
            "seconds": seconds,
            "busy_s": busy_s,
            "accept_ms": answered_s * 1e3,
            "first_push_ms": max(0.0, (far.first_seen() - answered) * 1e3),
            **{f"{name}_us": value / counts["targeted"] * 1e6 for name, value in used.items()},
            **{f"{name}_cpu_s": value for name, value in used.items()},
            **_lags(lag, await self._lag()),
            "targeted": counts["targeted"],
            "accepted": counts["accepted"],
            "failed": counts["failed"],
        }

    async def _finished(self, number: int, targeted: int, begun: float) -> float:
        """Returns when the end of a notification is committed; seconds to the commit of 97 % of its outcomes."""
        busy_s, polls = 0.0, 0
        async with asyncio.timeout(PATIENCE_S):
            while not await self.database.fetchval(_FINISHED, number):
                await asyncio.sleep(POLL_S)
                polls += 1
                if not busy_s and not polls % 20:
                    settled = await self.database.fetchval(_SETTLED, number)
                    busy_s = time.perf_counter() - begun if settled >= 0.97 * targeted else 0.0
        return busy_s or time.perf_counter() - begun

    async def _lag(self) -> dict[float, float]:
        """The daemon's loop lag so far: samples at most so late, by seconds."""
        async with self.session.get("/metrics") as answer:
            text = await answer.text()
        found = re.findall(r'pushd_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', text)
        return {float(bound): float(count) for bound, count in found}

    def load(self, far: FarSide) -> Load:
        """What h2load sends: the requests that the daemon makes of the message."""
        from pushd.batch import Rendered
        from pushd.content.apns import render
        from pushd.model.app import Settings
        from pushd.model.audience import Broadcast
        from pushd.model.message import Message
        from pushd.model.notification import Send

        message = Message(**MESSAGE)  # type: ignore[arg-type]  # texts and data, as they stand above
        send = Send(audience=Broadcast(), message=message)
        rendered = render(message, send, Settings(), notification_id=1, now=time.time())
        assert isinstance(rendered, Rendered)
        headers = {
            "authorization": f"bearer {provider_token()[1]}",
            "apns-topic": population.BUNDLE,
            **dict(rendered.headers),
            "apns-id": "00000000-0001-8000-8000-000000000001",
            "apns-expiration": str(rendered.expires_at),
        }
        return Load.make(self.root, far.port, rendered.payload, headers)


def _lags(before: dict[float, float], after: dict[float, float]) -> dict[str, float]:
    """p99 and maximum of the samples between, as upper ends of buckets in ms."""
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    whole = max(counts.values())
    reached = {share: next(bound for bound, count in counts.items() if count >= share * whole) for share in (0.99, 1.0)}
    return {"lag_p99_ms": reached[0.99] * 1e3, "lag_max_ms": reached[1.0] * 1e3}


@contextlib.asynccontextmanager
async def new_world(root: Path, devices: int) -> AsyncIterator[World]:
    """A database with an app, and everything that the rest needs; stopped at the end."""
    import asyncpg

    from pushd.config import StoreConfig
    from pushd.model.app import Role, Settings
    from pushd.store.embedded import EmbeddedServer
    from pushd.store.store import Store

    data = root / "data"
    data.mkdir(mode=0o711)
    server = EmbeddedServer(data)
    dsn = await server.start()
    try:
        store = Store(StoreConfig(), dsn)
        await store.start()
        app = await store.apps.create("Bench", Settings())
        _, admin = await store.keys.create(None, Role.ADMIN, "bench")
        await store.stop()
        pair, port = (root / "cert.pem", root / "key.pem"), measure.free_port()
        certificate(*pair)
        headers = {"Authorization": f"Bearer {admin}", "Pushd-App": str(app.id)}
        database = await asyncpg.connect(dsn)
        async with aiohttp.ClientSession(base_url=f"http://127.0.0.1:{port}", headers=headers) as session:
            assert server.pid is not None
            yield World(
                root=root,
                devices=devices,
                database=database,
                dsn=dsn,
                postgres=server.pid,
                app_id=app.id,
                admin=admin,
                port=port,
                far_port=measure.free_port(),
                certificate=pair,
                session=session,
            )
        await database.close()
    finally:
        await server.stop()
