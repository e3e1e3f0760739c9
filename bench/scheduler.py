"""Schedules in a real daemon: a million that wait, what each costs, and ten thousand that are due in one second.

The daemon (`pushd up`) is pinned to one core; PostgreSQL 18, the far side (nginx, TLS, 200 to every path) and the
driver share the other. Every schedule is a send to one user, accepted over HTTP in arrays of 500 and committed.

- `insert` counts schedules whose time is days or months away, to the last 202; CPU is user and system time by process.
- `find_us` is what PostgreSQL takes to say what is due now, among those that wait; `find_pages` how many pages of 8 KB
  it touches for that. `idle_ms_per_s` is what daemon and PostgreSQL use while they wait; `_before` without schedules.
- `due` is 10,000 sends with one and the same time: from that time until the far side has answered the push, by the far
  side's own log (ms). `last_s` is the last one's, the ratio's number. None may be early.
- `timer` is a single send while nothing else is due.
- `cancel` counts single requests over 32 connections, each its own transaction.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from bench import measure
from bench.ingest_drive import Cpu, Drive, Pushes
from bench.ingest_world import World, running

TARGET_S = 2.0
DUE = 10_000
ARRAY = 500
ARRAY_CONNECTIONS = 4
CANCEL_CONNECTIONS = 32
AHEAD_S = 5.0
"""Between the first request and the time of those that are due together."""
DAY_S = 86_400
_FIND = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM due_schedules($1, 500, NULL, NULL)"


def run(quick: bool) -> dict[str, Any]:
    """The figures; the ratio is two seconds over the time of the last of 10,000, the median of the rounds."""
    measure.need("nginx", "taskset")
    return measure.run_pinned(lambda root: _measure(root, quick), measure.CLIENT_CORE)


async def _measure(root: Path, quick: bool) -> dict[str, Any]:
    pending, rounds, cancelled = (60_000, 1, 400) if quick else (1_000_000, 3, 4_000)
    async with running(root, DUE) as world:
        before = await _idle(world, 2.0 if quick else 10.0)
        ids, insert = await _insert(world, pending)
        find = await _find(world, 100)
        idle = await _idle(world, 2.0 if quick else 10.0)
        timer = await _timer(world, 8 if quick else 40)
        due = [await _due(world) for _ in range(rounds)]
        cancel = await _cancel(world, random.Random(7).sample(ids, cancelled))
    last = measure.median([each["last_s"] for each in due])
    return {
        "ratio": TARGET_S / last,
        "target": f"of {TARGET_S:.0f} s for the last of {DUE:,} that are due together; the target is at least 1.0",
        "figures": {
            "pending": pending,
            **{f"insert_{name}": value for name, value in insert.items()},
            **find,
            "idle_ms_per_s_before": before,
            "idle_ms_per_s": idle,
            **{f"timer_{name}": value for name, value in timer.items()},
            **{f"due_{name}": measure.median([each[name] for each in due]) for name in due[0]},
            **{f"cancel_{name}": value for name, value in cancel.items()},
        },
        "table": [
            _row(f"inserting, to {pending:,}", insert),
            _row(f"firing {DUE:,} that are due together", due[0]),
            _row("cancelling", cancel),
            {
                "what": "finding what is due",
                "per s": 1e6 / find["find_us"],
                "daemon µs": "",
                "PostgreSQL µs": find["find_us"],
            },
        ],
    }


def _row(what: str, took: dict[str, float]) -> dict[str, Any]:
    return {
        "what": what,
        "per s": took["per_s"],
        "daemon µs": took["daemon_us"],
        "PostgreSQL µs": took["postgresql_us"],
    }


async def _insert(world: World, count: int) -> tuple[list[int], dict[str, float]]:
    """Schedules of the next year, but not of its first days."""
    now, dice = time.time(), random.Random(1)
    times = [now + dice.uniform(2 * DAY_S, 365 * DAY_S) for _ in range(count)]
    drive, took = await _sent(world, times)
    return list(drive.ids), took


async def _sent(world: World, times: Sequence[float]) -> tuple[Drive, dict[str, float]]:
    """What arrays of sends at these times took, to the last 202."""
    bodies = []
    for first in range(0, len(times), ARRAY):
        sends = b",".join(_body(world, at) for at in times[first : first + ARRAY])
        bodies.append(b'{"notifications":[' + sends + b"]}")
    drive = Drive(world.port, bodies, world.key, 202, path="/pushd/v1/notifications/batch")
    cpu = Cpu(daemon=[world.daemon], postgresql=[world.postgres], driver=[os.getpid()])
    await drive.closed_loop(ARRAY_CONNECTIONS)
    return drive, {"per_s": len(times) / drive.seconds, **cpu.per(len(times))}


def _body(world: World, at: float) -> bytes:
    number = world.sent
    world.sent += 1
    return (
        b'{"audience":{"type":"users","ids":["user-%d"]},"message":{"title":"Your reminder","body":"It is %06d",'
        b'"priority":"high"},"schedule":{"strategy":"utc","send_at":%.3f,"past_times":"ignore"}}'
        % (number * 7919 % world.users, number % 1_000_000, at)
    )


async def _due(world: World) -> dict[str, float]:
    """Ten thousand at one time: when the far side answered the pushes."""
    with Pushes(world.far) as pushes:
        at = round(time.time() + AHEAD_S)
        drive, _ = await _sent(world, [at] * DUE)
        assert time.time() < at, "they took longer to be accepted than there was time"
        await asyncio.sleep(at - 0.5 - time.time())
        cpu = Cpu(daemon=[world.daemon], postgresql=[world.postgres], far_side=[world.far.pid])
        answered = await pushes.wait(drive.ids)
        late = sorted(answered[number] - at for number in drive.ids)
        assert len(late) == DUE
        assert late[0] > -0.002, f"one was {-late[0]:.3f} s early"
        await asyncio.sleep(1.0)  # the last outcomes are committed
        return {
            "first_s": late[0],
            "median_s": measure.median(late),
            "last_s": late[-1],
            "per_s": DUE / late[-1],
            **cpu.per(DUE),
        }


async def _timer(world: World, count: int) -> dict[str, float]:
    """Single sends, one every quarter of a second: how late each was pushed."""
    with Pushes(world.far) as pushes:
        start = time.time() + 1.5
        times = [round(start + number / 4, 3) for number in range(count)]
        drives = [Drive(world.port, [_body(world, at)], world.key, 202) for at in times]
        for drive in drives:
            await drive.closed_loop(1)
        wanted = {number: at for drive, at in zip(drives, times, strict=True) for number in drive.ids}
        answered = await pushes.wait(wanted)
        late = [(answered[number] - at) * 1e3 for number, at in wanted.items()]
    assert min(late) > -2.0, f"one was {-min(late):.1f} ms early"
    return {"p50_ms": measure.percentile(late, 50), "max_ms": max(late)}


async def _find(world: World, times: int) -> dict[str, float]:
    """What it takes PostgreSQL to say what is due."""
    connection = await asyncpg.connect(world.dsn)
    try:
        plans = [orjson.loads(await connection.fetchval(_FIND, datetime.now(UTC)))[0] for _ in range(times)]
    finally:
        await connection.close()
    pages = [plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] for plan in plans]
    return {
        "find_us": measure.median([plan["Execution Time"] * 1e3 for plan in plans]),
        "find_pages": measure.median(pages),
    }


async def _idle(world: World, seconds: float) -> float:
    """CPU milliseconds that daemon and PostgreSQL use in a second in which nothing is due."""
    await asyncio.sleep(1.0)
    cpu = Cpu(both=[world.daemon, world.postgres])
    await asyncio.sleep(seconds)
    return cpu.per(1)["both_us"] / 1e3 / seconds


async def _cancel(world: World, ids: Sequence[int]) -> dict[str, float]:
    left = iter(ids)
    cpu = Cpu(daemon=[world.daemon], postgresql=[world.postgres], driver=[os.getpid()])

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {world.key}\r\nContent-Length: 0\r\n\r\n"
        for number in left:
            writer.write(f"POST /pushd/v1/notifications/{number}/cancel HTTP/1.1\r\n{head}".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = (
                int(answer.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]) if b"content-length" in answer else 0
            )
            body = await reader.readexactly(length)
            assert answer.startswith(b"http/1.1 20"), (answer, body)
        writer.close()

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CANCEL_CONNECTIONS):
            group.create_task(connection())
    return {"per_s": len(ids) / (time.perf_counter() - begun), **cpu.per(len(ids))}
