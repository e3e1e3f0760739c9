"""Durable sends through the API of a real daemon, each to one user: their rate, their latency, and arrays of them.

The daemon (`pushd up`) is pinned to one core. On the other are its embedded PostgreSQL 18, the far side (nginx, TLS,
200 to every path) and the driver, which is this process: 64 keep-alive connections on raw asyncio protocols (uvloop),
requests made beforehand, the next one sent when the answer is there. The echo (aiohttp's own server, JSON in, the same
JSON out, nothing else) takes the daemon's place on its core and is driven by the same driver with the same requests.

- `sends_per_s` counts 202s, each answered after its commit, while every send also goes out and is settled: the clock
  stops when the far side has logged the last push, and what it logged is compared with what was promised.
- Latency is from just before a request is written until the far side has answered the push, by the far side's own
  log: nginx writes the time (ms) at which it answered and the push's apns-id, in which the notification's id stands.
  Both processes read one clock. At a fixed rate of sends, open loop: a send that is late does not delay the next.
- While a broadcast runs, only the single sends are logged: they have a priority of their own.
- `array_per_s` counts the notifications of arrays of 500, to the last 202; `array_out_per_s` to the last logged push.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from bench import measure, population
from bench.apns_wire import certificate, provider_token
from protocols.apns import apns_id_parts

CONNECTIONS = 64
USERS = 10_000
ARRAY = 500
ARRAY_CONNECTIONS = 4
LATENCY_PER_S = 200
"""Single sends a second while latency is measured: 1 % of the samples must be more than a handful."""
TARGETS = {"ratio": 0.4, "array": 40_000, "p99_ms": 100.0}
CLOCK_TICK = os.sysconf("SC_CLK_TCK")

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb'"id":(\d+)')


def run(quick: bool) -> dict[str, Any]:
    """The figures; the ratio is single sends over echoes, each side's median, runs of the two alternating."""
    measure.need("nginx", "taskset")
    import structlog
    import uvloop

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

    os.sched_setaffinity(0, {measure.CLIENT_CORE} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="pushd-bench-") as name:
        root = Path(name)
        root.chmod(0o711)  # as root, PostgreSQL runs as another user, who has to pass through
        return uvloop.run(_measure(root, quick))


async def _measure(root: Path, quick: bool) -> dict[str, Any]:
    devices, sends, rounds = (100_000, 20_000, 2) if quick else (1_000_000, 60_000, 3)
    async with _world(root, devices) as world:
        echoes, singles = [], []
        for _ in range(rounds):
            echoes.append(await _echo(world, sends))
            singles.append(await _singles(world, sends))
        alone = await _latency(world, seconds=5.0 if quick else 20.0)
        arrays = await _arrays(world, sends * 2)
        beside = await _beside_broadcast(world)
    return _result(echoes, singles, arrays, alone, beside, devices)


def _result(
    echoes: list[dict[str, float]],
    singles: list[dict[str, float]],
    arrays: dict[str, float],
    alone: dict[str, float],
    beside: dict[str, float],
    devices: int,
) -> dict[str, Any]:
    def middle(runs: list[dict[str, float]], key: str) -> float:
        return measure.median([each[key] for each in runs])

    echo, single = middle(echoes, "per_s"), middle(singles, "per_s")
    processes = ("daemon_us", "postgresql_us", "far_side_us", "driver_us")
    single_cpu = {key: middle(singles, key) for key in processes}
    echo_cpu = {key: middle(echoes, key) for key in ("daemon_us", "driver_us")}
    rows = [
        ("echo", echo, middle(echoes, "p50_ms"), middle(echoes, "p99_ms"), echo_cpu),
        ("sends, to the 202", single, middle(singles, "p50_ms"), middle(singles, "p99_ms"), single_cpu),
        ("sends, to the push", middle(singles, "out_per_s"), "", "", {}),
        (f"arrays of {ARRAY}, to the 202", arrays["per_s"], arrays["p50_ms"], arrays["p99_ms"], arrays),
        (f"arrays of {ARRAY}, to the push", arrays["out_per_s"], "", "", {}),
        (f"{LATENCY_PER_S}/s, to the push", alone["per_s"], alone["p50_ms"], alone["p99_ms"], {}),
        (
            f"the same, beside a broadcast to {devices:,}",
            beside["per_s"],
            beside["p50_ms"],
            beside["p99_ms"],
            {},
        ),
    ]
    return {
        "ratio": single / echo,
        "target": f"of the echo's requests per second; the target is at least {TARGETS['ratio']} (arrays: "
        f"{TARGETS['array']:,}/s; p99 beside the broadcast: {TARGETS['p99_ms']:.0f} ms)",
        "table": [
            {
                "what": what,
                "per s": rate,
                "p50 ms": p50,
                "p99 ms": p99,
                **{f"{key.removesuffix('_us').replace('_', ' ')} µs": cpu.get(key, "") for key in processes},
            }
            for what, rate, p50, p99, cpu in rows
        ],
        "echo_per_s": echo,
        "sends_per_s": single,
        **{f"send_{key}": value for key, value in single_cpu.items()},
        **{f"echo_{key}": value for key, value in echo_cpu.items()},
        **{f"array_{key}": value for key, value in arrays.items()},
        **{f"alone_{key}": value for key, value in alone.items()},
        **{f"beside_{key}": value for key, value in beside.items()},
        "broadcast_devices": devices,
    }


# -- the parts


@dataclass(kw_only=True)
class World:
    """The processes that are measured, and what the driver needs to know of them."""

    root: Path
    far: Far
    port: int
    key: str
    daemon: int
    postgres: int
    echo_port: int
    echo: int
    users: int
    sent: int = 0
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Far:
    """nginx in Apple's place."""

    port: int
    pid: int
    ca_file: Path
    log: Path


@contextlib.asynccontextmanager
async def _world(root: Path, devices: int) -> AsyncIterator[World]:
    """Everything running, pinned, warm; stopped at the end."""
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
        _, key = await store.keys.create(app.id, Role.SERVER, "bench")
        async with store.database.connection() as connection:
            await population.load(connection, app.id, devices)
        await store.stop()
        echo_port, port = measure.free_port(), measure.free_port()
        with (
            _far(root) as far,
            measure.server([sys.executable, "-m", "bench.ingest", "echo", str(echo_port)], echo_port) as echo,
            _daemon(root, far, dsn, port) as daemon,
        ):
            await _credential(port, admin, app.id)
            assert server.pid is not None
            yield World(
                root=root,
                far=far,
                port=port,
                key=key,
                daemon=daemon,
                postgres=server.pid,
                echo_port=echo_port,
                echo=echo,
                users=min(devices, USERS),
            )
    finally:
        await server.stop()


@contextlib.contextmanager
def _far(root: Path) -> Iterator[Far]:
    port, log, config = measure.free_port(), root / "pushes.log", root / "nginx.conf"
    ca_file, key_file = root / "cert.pem", root / "key.pem"
    certificate(ca_file, key_file)
    config.write_text(f"""
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/nginx.err crit;
events {{ worker_connections 256; }}
http {{
    map $http_apns_priority $single {{ 10 1; default 0; }}
    log_format push '$msec $http_apns_id';
    access_log {log} push buffer=64k flush=100ms if=$single;
    keepalive_requests 1000000000; keepalive_timeout 1h; http2_max_concurrent_streams 1000; http2_idle_timeout 1h;
    client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root};
    scgi_temp_path {root};
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {ca_file}; ssl_certificate_key {key_file};
        location / {{ return 200; }}
    }}
}}
""")
    with measure.server(["nginx", "-c", str(config)], port, core=measure.CLIENT_CORE) as pid:
        yield Far(port=port, pid=pid, ca_file=ca_file, log=log)


@contextlib.contextmanager
def _daemon(root: Path, far: Far, dsn: str, port: int) -> Iterator[int]:
    settings = {
        "PUSHD__APNS__PRODUCTION_HOST": "localhost",
        "PUSHD__APNS__PRODUCTION_PORT": str(far.port),
        "PUSHD__APNS__CA_FILE": str(far.ca_file),
    }
    command = [sys.executable, "-m", "pushd", "up", "--dsn", dsn, "--data-dir", str(root / "data")]
    command += ["--port", str(port), "--with-parent"]
    with measure.server(command, port, wait_s=120.0, environ=settings, errors=root / "daemon.log") as pid:
        yield pid


async def _credential(port: int, admin: str, app_id: int) -> None:
    private_key, _ = provider_token()
    secret = {"type": "apns_token", "team_id": "BENCHTEAM1", "key_id": "BENCHKEY01", "private_key": private_key}
    body = {"secret": secret, "environment": "production", "name": "bench"}
    headers = {"Authorization": f"Bearer {admin}", "Pushd-App": str(app_id)}
    url = f"http://127.0.0.1:{port}/pushd/v1/credentials"
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
        assert answer.status == 201, await answer.text()


# -- the measurements


async def _echo(world: World, count: int) -> dict[str, float]:
    cpu = _Cpu(daemon=[world.echo], driver=[os.getpid()])
    drive = Drive(world.echo_port, _bodies(world, count), world.key, 200)
    await drive.closed_loop(CONNECTIONS)
    return {"per_s": count / drive.seconds, **drive.percentiles(), **cpu.per(count)}


async def _singles(world: World, count: int) -> dict[str, float]:
    """Closed loop on 64 connections; CPU up to the last push, so that all of what a send costs is in it."""
    with _Pushes(world.far) as pushes:
        cpu = _Cpu(daemon=[world.daemon], postgresql=[world.postgres], far_side=[world.far.pid], driver=[os.getpid()])
        drive = Drive(world.port, _bodies(world, count), world.key, 202)
        begun = time.time()
        await drive.closed_loop(CONNECTIONS)
        answered = await pushes.wait(drive.ids)
        return {
            "per_s": count / drive.seconds,
            "out_per_s": count / (max(answered.values()) - begun),
            **drive.percentiles(),
            **cpu.per(count),
        }


async def _arrays(world: World, count: int) -> dict[str, float]:
    one_by_one = _bodies(world, count)
    bodies = [b'{"notifications":[' + b",".join(one_by_one[at : at + ARRAY]) + b"]}" for at in range(0, count, ARRAY)]
    with _Pushes(world.far) as pushes:
        cpu = _Cpu(daemon=[world.daemon], postgresql=[world.postgres], far_side=[world.far.pid], driver=[os.getpid()])
        drive = Drive(world.port, bodies, world.key, 202, path="/pushd/v1/notifications/batch")
        begun = time.time()
        await drive.closed_loop(ARRAY_CONNECTIONS)
        answered = await pushes.wait(drive.ids)
        assert len(drive.ids) == count, (len(drive.ids), count)
        return {
            "per_s": count / drive.seconds,
            "out_per_s": count / (max(answered.values()) - begun),
            **drive.percentiles(),
            **cpu.per(count),
        }


async def _latency(world: World, seconds: float, until: asyncio.Event | None = None) -> dict[str, float]:
    """At a fixed rate, from writing the request to the far side's answer to its push."""
    with _Pushes(world.far) as pushes:
        drive = Drive(world.port, _bodies(world, int(seconds * LATENCY_PER_S)), world.key, 202)
        await drive.open_loop(CONNECTIONS, LATENCY_PER_S, until)
        answered = await pushes.wait(drive.ids)
        waits = [(answered[number] - begun) * 1e3 for number, begun in drive.ids.items()]
        return {
            "per_s": len(waits) / drive.seconds,
            "p50_ms": measure.percentile(waits, 50),
            "p99_ms": measure.percentile(waits, 99),
            "max_ms": max(waits),
            "answer_p99_ms": drive.percentiles()["p99_ms"],
        }


async def _beside_broadcast(world: World) -> dict[str, float]:
    """Latency from the broadcast's 202 to its last settled row."""
    async with aiohttp.ClientSession(
        base_url=f"http://127.0.0.1:{world.port}", headers={"Authorization": f"Bearer {world.key}"}
    ) as session:
        done = asyncio.Event()
        body = {
            "audience": {"type": "broadcast"},
            "message": {"title": "Everyone", "body": "From a benchmark", "priority": "normal"},
        }
        async with session.post("/pushd/v1/notifications", json=body) as answer:
            assert answer.status == 202, await answer.text()
            sent = await answer.json()
        begun = time.perf_counter()
        watch = asyncio.ensure_future(_until_done(session, sent["id"], done))
        figures = await _latency(world, 600.0, done)
        seconds = await watch - begun
    return {**figures, "broadcast_s": seconds, "broadcast_per_s": sent["targeted"] / seconds}


async def _until_done(session: aiohttp.ClientSession, number: int, done: asyncio.Event) -> float:
    while True:
        async with session.get(f"/pushd/v1/notifications/{number}") as answer:
            view = await answer.json()
        if view["state"] == "done":
            assert view["counts"]["accepted"] == view["counts"]["targeted"], view
            done.set()
            return time.perf_counter()
        await asyncio.sleep(0.1)


def _bodies(world: World, count: int) -> list[bytes]:
    """Sends to one user each, user after user, no two bodies alike."""
    made = []
    for _ in range(count):
        number = world.sent
        world.sent += 1
        made.append(
            b'{"audience":{"type":"users","ids":["user-%d"]},"message":{"title":"Your code","body":"It is %06d","data":'
            b'{"n":%d},"priority":"high"}}' % (number * 7919 % world.users, number % 1_000_000, number)
        )
    return made


# -- the driver


class Drive:
    """Sends requests over keep-alive connections and notes when each was written and answered."""

    def __init__(
        self, port: int, bodies: Sequence[bytes], key: str, status: int, path: str = "/pushd/v1/notifications"
    ) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: "
        start = head.encode()
        self._requests = [start + b"%d\r\n\r\n" % len(body) + body for body in bodies]
        self._requests.reverse()
        self._port = port
        self.left = len(bodies)
        self.expected = b"HTTP/1.1 %d " % status
        self.waits: list[float] = []
        self.ids: dict[int, float] = {}
        """By the id of a notification: when its request was written, UNIX seconds."""
        self.seconds = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes | None:
        """The next request; None when all were sent."""
        return self._requests.pop() if self._requests else None

    def answered(self, begun: float, answer: bytes) -> None:
        """Notes an answer."""
        self.waits.append(time.time() - begun)
        if not answer.startswith(self.expected):
            self.fail(AssertionError(answer[:1000].decode()))
        for number in _ID.findall(answer):
            self.ids[int(number)] = begun
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Ends the drive."""
        if not self.done.done():
            self.done.set_exception(error)

    def percentiles(self) -> dict[str, float]:
        """Of the time to the answer, ms."""
        return {f"p{share}_ms": measure.percentile(self.waits, share) * 1e3 for share in (50, 99)}

    async def closed_loop(self, connections: int) -> None:
        """Sends everything, each connection its next request when the one before is answered."""
        links = await self._connect(connections, again=True)
        begun = time.perf_counter()
        for link in links:
            link.send()
        await self.done
        self._finish(links, begun)

    async def open_loop(self, connections: int, per_s: float, until: asyncio.Event | None) -> None:
        """Sends at a fixed rate whatever the answers do; ends with the requests, or when `until` is set."""
        links = await self._connect(connections, again=False)
        begun = time.perf_counter()
        at, sent = begun, 0
        while self._requests and not (until is not None and until.is_set()):
            at += 1 / per_s
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            link = min(links, key=lambda each: each.busy)
            link.send()
            sent += 1
        self.left -= len(self._requests)
        if self.left:
            await self.done
        self._finish(links, begun)

    async def _connect(self, connections: int, *, again: bool) -> list[_Link]:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: _Link(self, again=again), "127.0.0.1", self._port)
            for _ in range(connections)
        ]
        return [link for _, link in made]

    def _finish(self, links: list[_Link], begun: float) -> None:
        self.seconds = time.perf_counter() - begun
        for link in links:
            link.close()


class _Link(asyncio.Protocol):
    """One connection of the driver."""

    def __init__(self, drive: Drive, *, again: bool) -> None:
        self._drive = drive
        self._again = again
        self._transport: Any = None
        self._parts = b""
        self._begun: list[float] = []

    @property
    def busy(self) -> int:
        """Requests without an answer."""
        return len(self._begun)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun:
            self._drive.fail(exc or ConnectionError("the server closed"))

    def send(self) -> None:
        """Writes the next request."""
        request = self._drive.next()
        if request is not None:
            self._begun.append(time.time())
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._parts + data
        while data:
            head = data.find(b"\r\n\r\n") + 4
            found = _LENGTH.search(data, 0, head) if head > 3 else None
            if found is None or len(data) < (end := head + int(found[1])):
                break
            self._drive.answered(self._begun.pop(0), data[:end])
            data = data[end:]
            if self._again:
                self.send()
        self._parts = data

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()


class _Pushes:
    """What the far side logs from now on."""

    def __init__(self, far: Far) -> None:
        self._far = far
        self._seen: dict[int, float] = {}

    def __enter__(self) -> Self:
        self._file = self._far.log.open()
        self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def wait(self, wanted: dict[int, float], timeout_s: float = 60.0) -> dict[int, float]:
        """When each of the notifications was answered there, UNIX seconds; AssertionError when some never were."""
        until, rest = time.perf_counter() + timeout_s, ""
        missing = set(wanted)
        while missing:
            assert time.perf_counter() < until, f"{len(missing)} of {len(wanted)} were promised and never pushed"
            await asyncio.sleep(0.05)
            *lines, rest = (rest + self._file.read()).split("\n")
            for line in lines:
                moment, _, apns_id = line.partition(" ")
                number = apns_id_parts(apns_id)[0]
                self._seen.setdefault(number, float(moment))
                missing.discard(number)
        return self._seen


class _Cpu:
    """CPU time of groups of processes, from now to when it is asked for."""

    def __init__(self, **groups: list[int]) -> None:
        self._groups = groups
        self._before = {name: self._used(pids) for name, pids in groups.items()}

    def per(self, count: int) -> dict[str, float]:
        """Microseconds per item, by group."""
        return {
            f"{name}_us": (self._used(pids) - self._before[name]) / count * 1e6 for name, pids in self._groups.items()
        }

    @staticmethod
    def _used(pids: Sequence[int]) -> float:
        return sum(_with_children(pid) for pid in pids)


def _with_children(pid: int) -> float:
    """CPU seconds of a process and of its children, the ended ones included; PostgreSQL is many processes."""
    total = 0.0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / CLOCK_TICK if pid != os.getpid() else measure.cpu_of(pid)
        if pid != os.getpid():
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                total += _with_children(int(child))
    return total


def _serve_echo(port: int) -> None:
    """A bare aiohttp server: JSON in, the same JSON out."""
    import orjson
    import uvloop
    from aiohttp import web

    async def echo(request: web.BaseRequest) -> web.Response:
        return web.Response(body=orjson.dumps(orjson.loads(await request.read())), content_type="application/json")

    async def serve() -> None:
        server = web.Server(echo, access_log=None)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port)
        await listener.serve_forever()

    uvloop.run(serve())


if __name__ == "__main__":
    _serve_echo(int(sys.argv[2]))
