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
- `--dialect NAME`: sends in a vendor's words against native ones that say the same to the same audience, in turns.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import aiohttp

from bench import measure
from bench.ingest_dialects import CONNECTIONS, SPEECHES, compared, natively, through
from bench.ingest_drive import Cpu, Drive, Pushes
from bench.ingest_world import World, running

ARRAY = 500
ARRAY_CONNECTIONS = 4
LATENCY_PER_S = 200
"""Single sends a second while latency is measured: 1 % of the samples must be more than a handful."""
TARGETS = {"ratio": 0.4, "array": 40_000, "p99_ms": 100.0}


def run(quick: bool, dialect: str = "") -> dict[str, Any]:
    """The figures; the ratio is single sends over echoes, each side's median, runs of the two alternating.

    With a dialect it is sends through that over native ones.
    """
    measure.need("nginx", "taskset")
    if dialect:
        return measure.run_pinned(lambda root: _compare(root, quick, dialect), measure.CLIENT_CORE)
    return measure.run_pinned(lambda root: _measure(root, quick), measure.CLIENT_CORE)


async def _compare(root: Path, quick: bool, dialect: str) -> dict[str, Any]:
    devices, sends, rounds = (100_000, 10_000, 2) if quick else (100_000, 40_000, 3)
    async with running(root, devices) as world:
        speech = await SPEECHES[dialect](world)
        native = natively(world, speech)
        for each in (native, speech):
            await through(world, each, _numbers(world, sends // 4))  # what is read once has been read
        natives, others = [], []
        for _ in range(rounds):
            natives.append(await through(world, native, _numbers(world, sends)))
            others.append(await through(world, speech, _numbers(world, sends)))
    return compared(dialect, natives, others)


async def _measure(root: Path, quick: bool) -> dict[str, Any]:
    devices, sends, rounds = (100_000, 20_000, 2) if quick else (1_000_000, 60_000, 3)
    async with running(root, devices) as world:
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


# -- the measurements


async def _echo(world: World, count: int) -> dict[str, float]:
    cpu = Cpu(daemon=[world.echo], driver=[os.getpid()])
    drive = Drive(world.echo_port, _bodies(world, count), world.key, 200)
    await drive.closed_loop(CONNECTIONS)
    return {"per_s": count / drive.seconds, **drive.percentiles(), **cpu.per(count)}


async def _singles(world: World, count: int) -> dict[str, float]:
    """Closed loop on 64 connections; CPU up to the last push, so that all of what a send costs is in it."""
    with Pushes(world.far) as pushes:
        cpu = Cpu(daemon=[world.daemon], postgresql=[world.postgres], far_side=[world.far.pid], driver=[os.getpid()])
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
    with Pushes(world.far) as pushes:
        cpu = Cpu(daemon=[world.daemon], postgresql=[world.postgres], far_side=[world.far.pid], driver=[os.getpid()])
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
    with Pushes(world.far) as pushes:
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
    return [
        b'{"audience":{"type":"users","ids":["user-%d"]},"message":{"title":"Your code","body":"It is %06d","data":'
        b'{"n":%d},"priority":"high"}}' % (number * 7919 % world.users, number % 1_000_000, number)
        for number in _numbers(world, count)
    ]


def _numbers(world: World, count: int) -> range:
    """Numbers of sends, each used once."""
    world.sent += count
    return range(world.sent - count, world.sent)
