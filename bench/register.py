"""Bulk registrations over HTTP: NDJSON to a daemon process on its embedded PostgreSQL 18, every chunk committed.

The driver (this process) streams bodies that it made before; the clock runs from the first byte to the summary line,
when all is committed and in the index. Three shapes, each round for an app of its own:

- `new`: installs that nobody knows, each with a token of 64 characters;
- `again`: the same lines once more, as every start of every app sends them;
- `social`: other new installs, each with three of 2,000 tags and a user: two devices per user, all of them new.

The ratio is the slowest shape's median rate over the stated target of 20,000 devices/s. `copy` is for comparison: the
rows of `new` by bare COPY, in transactions of 5,000, into empty copies of the two tables with all their indexes, in the
same server: what PostgreSQL alone needs to hold them, without looking anything up. CPU is user and system time by
process, per row. `loop_over_20_ms` is how many of the samples of the daemon's loop lag, taken every 10 ms, were late by
more than 20 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from bench import measure

TARGET = 20_000
CHUNK_ROWS = 5_000
BUNDLE = "com.example.shop"
SHAPES = ("new", "again", "social")
DEVICE_COLUMNS = ("id", "app_id", "install", "kind", "route_id", "flags", "token", "address", "registered_at")
READY_S = 60.0
STOP_S = 40.0
TIMEOUT_S = 300.0
LAG_BUCKET = 'pushd_loop_lag_seconds_bucket{le="0.02"}'
LAG_COUNT = "pushd_loop_lag_seconds_count"


class Daemon(NamedTuple):
    """A running daemon."""

    process: subprocess.Popen[bytes]
    port: int
    admin_key: str

    def request(self, method: str, path: str, key: str, body: bytes, kind: str = "application/json") -> bytes:
        """The body of an answer that must be a success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Authorization": f"Bearer {key}", "Content-Type": kind})
            answer = connection.getresponse()
            raw = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} was answered with {answer.status}: {raw[:500]!r}")
        return raw

    def postgres(self) -> int:
        """The process id of its PostgreSQL."""
        return next(pid for pid in _children(self.process.pid) if b"postgres" in _command(pid)[0])

    def lag(self) -> tuple[int, int]:
        """Samples of its loop lag: how many, and how many of them above 20 ms."""
        text = self.request("GET", "/metrics", self.admin_key, b"").decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("pushd_loop_lag_seconds"))
        count = int(float(values[LAG_COUNT]))
        return count, count - int(float(values[LAG_BUCKET]))


class Took(NamedTuple):
    """What one stream took."""

    seconds: float
    daemon_cpu_s: float
    postgres_cpu_s: float
    driver_cpu_s: float


def run(quick: bool) -> dict[str, Any]:
    """The figures of the three shapes; quick: about 40 s."""
    rows, rounds = (80_000, 2) if quick else (400_000, 3)
    took: dict[str, list[Took]] = {shape: [] for shape in (*SHAPES, "copy")}
    with running() as daemon:
        samples, late = daemon.lag()
        _round(daemon, 0, 10_000)
        for number in range(1, rounds + 1):
            for shape, each in _round(daemon, number, rows).items():
                took[shape].append(each)
            took["copy"].append(_copied(daemon, number, rows))
        all_samples, all_late = daemon.lag()
    rates = {shape: measure.median([rows / each.seconds for each in took[shape]]) for shape in took}
    figures = {f"{shape}_per_s": rate for shape, rate in rates.items()}
    for shape, column in ((shape, column) for shape in took for column in Took._fields[1:]):
        figures[f"{shape}_{column[:-6]}_us"] = measure.median(
            [getattr(each, column) / rows * 1e6 for each in took[shape]]
        )
    figures |= {
        "rows": rows,
        "rounds": rounds,
        "loop_samples": all_samples - samples,
        "loop_over_20_ms": all_late - late,
    }
    return {
        "ratio": min(rates[shape] for shape in SHAPES) / TARGET,
        "target": f"of {TARGET:,} devices/s by the slowest shape; the target is at least 1.0",
        "figures": figures,
        "table": [_row(shape, figures, rates) for shape in took],
    }


def _row(shape: str, figures: dict[str, float], rates: dict[str, float]) -> dict[str, Any]:
    return {
        "shape": shape,
        "devices/s": round(rates[shape]),
        "of bare COPY": rates[shape] / rates["copy"],
        "daemon µs/row": figures[f"{shape}_daemon_us"],
        "PostgreSQL µs/row": figures[f"{shape}_postgres_us"],
        "driver µs/row": figures[f"{shape}_driver_us"],
    }


def _round(daemon: Daemon, number: int, rows: int) -> dict[str, Took]:
    app = json.loads(daemon.request("POST", "/pushd/v1/apps", daemon.admin_key, b'{"name":"Orchard %d"}' % number))
    key = server_key(daemon, app["id"])
    bodies = {shape: b"".join(_lines(shape, number, rows)) for shape in ("new", "social")}
    return {shape: _streamed(daemon, key, bodies["new" if shape == "again" else shape], rows) for shape in SHAPES}


def server_key(daemon: Daemon, app_id: int) -> str:
    """A new server key of an app."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {daemon.admin_key}", "Pushd-App": str(app_id)}
        headers["Content-Type"] = "application/json"
        connection.request("POST", "/pushd/v1/keys", b'{"role":"server","name":"bench"}', headers)
        secret: str = json.loads(connection.getresponse().read())["secret"]
        return secret


def _lines(shape: str, round_number: int, rows: int) -> Iterator[bytes]:
    for number in range(rows):
        digest = hashlib.sha256(f"{shape} {round_number} {number}".encode()).hexdigest()
        line: dict[str, Any] = {
            "install_id": f"{shape}-{digest[:24]}",
            "bundle": BUNDLE,
            "token": digest,
            "platform": "ios",
        }
        if shape == "social":
            draw = int(digest[:12], 16)
            line["user_id"] = f"customer-{round_number}-{number // 2:07}"
            line["tags"] = [f"tag-{draw >> shift & 0x7FF}" for shift in (0, 12, 24)]
        yield json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _streamed(daemon: Daemon, key: str, body: bytes, rows: int) -> Took:
    before, begun = cpu(daemon), time.perf_counter()
    answer = daemon.request("POST", "/pushd/v1/devices/bulk", key, body, "application/x-ndjson")
    seconds, after = time.perf_counter() - begun, cpu(daemon)
    summary = json.loads(answer.splitlines()[-1])
    if (summary["type"], summary["accepted"], summary["rejected"]) != ("summary", rows, 0):
        raise RuntimeError(f"not all was taken: {summary}")
    return Took(seconds, *(end - start for start, end in zip(before, after, strict=True)))


def _copied(daemon: Daemon, number: int, rows: int) -> Took:
    """The floor: COPY into the same tables, indexes and all."""
    return asyncio.run(_copy(daemon, number, rows))


async def _copy(daemon: Daemon, number: int, rows: int) -> Took:
    now = "2026-11-01 00:00:00+00"
    installs, devices = [], []
    for at in range(rows):
        token = hashlib.sha256(f"copy {number} {at}".encode()).hexdigest()
        installs.append(f"{at}\t1\tnew-{token[:24]}\t1\t{now}\n".encode())
        devices.append(f"{at}\t1\t{at}\t0\t1\t3\t\\\\x{token.encode().hex()}\t{token[:32]}\t{now}\n".encode())
    connection = await asyncpg.connect(_dsn(daemon.postgres()))
    try:
        for table in ("installs", "devices"):
            await connection.execute(f"CREATE TABLE floor_{table} (LIKE {table} INCLUDING ALL)")
        before, begun = cpu(daemon), time.perf_counter()
        for first in range(0, rows, CHUNK_ROWS):
            async with connection.transaction():
                await _copy_chunk(connection, installs[first : first + CHUNK_ROWS], devices[first : first + CHUNK_ROWS])
        seconds, after = time.perf_counter() - begun, cpu(daemon)
        await connection.execute("DROP TABLE floor_installs, floor_devices")
    finally:
        await connection.close()
    return Took(seconds, *(end - start for start, end in zip(before, after, strict=True)))


async def _copy_chunk(connection: Any, installs: list[bytes], devices: list[bytes]) -> None:
    for table, lines, columns in (
        ("floor_installs", installs, ("id", "app_id", "name", "profile_id", "last_seen_at")),
        ("floor_devices", devices, DEVICE_COLUMNS),
    ):

        async def source(raw: bytes = b"".join(lines)) -> Any:
            yield raw

        await connection.copy_to_table(table, source=source(), columns=columns)


@contextlib.contextmanager
def running() -> Iterator[Daemon]:
    """A daemon in a directory of its own, which is gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="pushd-bench-"))
    place.chmod(0o711)  # as root, PostgreSQL runs as another user, who has to pass through
    port, key_file = measure.free_port(), place / "key"
    options = ["--data-dir", str(place / "data"), "--port", str(port), "--admin-key-file", str(key_file)]
    settings = {"PUSHD__TELEMETRY__LOOP_LAG_INTERVAL_MS": "10", "PUSHD__TELEMETRY__LOG_LEVEL": "warning"}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pushd", "up", "--with-parent", *options],
            cwd=measure.ROOT,
            env=os.environ | settings,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        _await_key(process, key_file, place / "log")
        yield Daemon(process, port, key_file.read_text().strip())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(place, ignore_errors=True)


def _await_key(process: subprocess.Popen[bytes], key_file: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not (key_file.exists() and key_file.read_text().endswith("\n")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the daemon did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def cpu(daemon: Daemon) -> tuple[float, float, float]:
    """CPU seconds so far of the daemon, of PostgreSQL with all its backends, and of this process."""
    server = daemon.postgres()
    backends = sum(measure.cpu_of(pid) for pid in (server, *_children(server))) + _reaped(server)
    times = os.times()
    return measure.cpu_of(daemon.process.pid), backends, times.user + times.system


def _reaped(pid: int) -> float:
    """CPU seconds of children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _dsn(server: int) -> str:
    command = _command(server)
    return f"postgresql://pushd@/pushd?host={command[command.index(b'-k') + 1].decode()}"
