"""Imports over HTTP: a file of users subscribed to a channel by a daemon process on its embedded PostgreSQL 18.

The driver (this process) uploads the parts of each file and starts it; the clock runs from there to the moment in which
the import is done: every line committed, with its progress, and in the index. Of an app whose users have a device each:

- `subscribe`: every user by a line of his own, to a channel that nobody is subscribed to;
- `unsubscribe`: half of them off it again;
- `users`: NDJSON of as many users who are new, each with a tag and the channel.

CPU is user and system time by process, per line. `loop_over_20_ms` is how many of the samples of the daemon's loop lag,
taken every 10 ms, were late by more than 20 ms. The ratio is the lines of `subscribe` per second over 10,000.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from bench.register import Daemon, cpu, running, server_key

TARGET = 10_000
PART_BYTES = 1 << 20
POLL_S = 0.2
NDJSON = "application/x-ndjson"
LINES = {False: 1_000_000, True: 40_000}


def run(quick: bool, devices: int | None = None) -> dict[str, Any]:
    """The figures of the three shapes; quick: about 30 s. `devices`: lines in place of a million."""
    lines = devices or LINES[quick]
    shapes: dict[str, tuple[Any, int, Callable[[int], bytes]]] = {
        "subscribe": ({"type": "subscribe", "channel": "news"}, lines, lambda n: b"user-%07d\n" % n),
        "unsubscribe": ({"type": "unsubscribe", "channel": "news"}, lines // 2, lambda n: b"user-%07d\n" % n),
        "users": ({"type": "users"}, lines // 4 if not quick else lines, _user),
    }
    with running() as daemon:
        app = json.loads(daemon.request("POST", "/pushd/v1/apps", daemon.admin_key, b'{"name":"Orchard"}'))
        key = server_key(daemon, app["id"])
        daemon.request("POST", "/pushd/v1/channels", key, b'{"uuid":"news"}')
        _register(daemon, key, lines)
        took = {shape: _imported(daemon, key, *given) for shape, given in shapes.items()}
        shown = json.loads(daemon.request("GET", "/pushd/v1/channels/news", key, b""))
    assert shown["devices"] == lines - lines // 2, shown
    figures = {f"{shape}_{name}": value for shape, row in took.items() for name, value in row.items()}
    return {
        "ratio": took["subscribe"]["per_s"] / TARGET,
        "target": f"of {TARGET:,} lines/s by subscribe",
        "figures": figures,
        "table": [{"shape": shape, **row} for shape, row in took.items()],
    }


def _user(number: int) -> bytes:
    return b'{"external_id":"new-%07d","tags":["tag-%d"],"subscribe":["news"]}\n' % (number, number % 100)


def _register(daemon: Daemon, key: str, rows: int) -> None:
    """Registers an iPhone for each user."""
    for first in range(0, rows, 100_000):
        body = b"".join(
            b'{"install_id":"phone-%07d","token":"%064x","bundle":"com.example.shop","user_id":"user-%07d"}\n'
            % (number, number, number)
            for number in range(first, min(first + 100_000, rows))
        )
        daemon.request("POST", "/pushd/v1/devices/bulk", key, body, NDJSON)


def _imported(daemon: Daemon, key: str, job: Any, lines: int, line: Callable[[int], bytes]) -> dict[str, Any]:
    """What a file of so many lines took."""
    body = b"".join(map(line, range(lines)))
    made = json.loads(daemon.request("POST", "/pushd/v1/imports", key, json.dumps({"job": job}).encode()))
    path = f"/pushd/v1/imports/{made['id']}"
    before, (samples, late), begun = cpu(daemon), daemon.lag(), time.perf_counter()
    part = start = 0
    while start < len(body):
        end = body.rfind(b"\n", start, start + PART_BYTES) + 1
        part += 1
        daemon.request("PUT", f"{path}/parts/{part}", key, body[start:end], "application/octet-stream")
        start = end
    uploaded = time.perf_counter()
    daemon.request("POST", f"{path}/start", key, b"")
    while (view := json.loads(daemon.request("GET", path, key, b"")))["state"] in {"waiting", "running"}:
        time.sleep(POLL_S)
    done = time.perf_counter()
    assert (view["state"], view["done"], view["rejected"]) == ("done", lines, 0), view
    after, (all_samples, all_late) = cpu(daemon), daemon.lag()
    daemon_s, postgres_s, _ = (end - start for start, end in zip(before, after, strict=True))
    return {
        "lines": lines,
        "per_s": lines / (done - begun),
        "upload_s": uploaded - begun,
        "seconds": done - begun,
        "daemon_us": daemon_s / lines * 1e6,
        "postgres_us": postgres_s / lines * 1e6,
        "loop_samples": all_samples - samples,
        "loop_over_20_ms": all_late - late,
    }
