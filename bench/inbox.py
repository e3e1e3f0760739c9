"""One inbox among many over HTTP: a daemon process on its embedded PostgreSQL 18, users with one install each.

Fifty messages are shown, to everybody or to whoever carries certain of eight tags (each user has half of them), so that
every inbox holds some of them, from bitmaps of users; some users have opened and read some. Then the driver (this
process) asks for inboxes of installs drawn by chance, one after the other over one connection: `fetch` is the first
page of 100, whole, `badge` the number of unread ones, `after` what changed in the last minute.

The ratio is 5 ms over what a fetch takes of the daemon and PostgreSQL together: user and system time, which others on
the machine change little. `p50` and `p99` are times from the first byte of the request to the whole answer. `cold_ms`
is the very first fetch, which reads messages and recipients into memory; `release_ms` what sending one takes.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any, Self

from bench import measure
from bench.register import BUNDLE, Daemon, Took, cpu, running, server_key

TARGET_MS = 5.0
MESSAGES = 50
TAGS = [f"t{number}" for number in range(8)]
CONTENT = {"layout": "card", "title": "Harvest", "text": "apples " * 40, "picture": "https://example.org/a.jpg"}


def run(quick: bool) -> dict[str, Any]:
    """The figures of fetching, counting and asking for changes; quick: about 40 s."""
    users, requests = (100_000, 1_000) if quick else (1_000_000, 5_000)
    chance = random.Random(7)
    with running() as daemon:
        app = json.loads(daemon.request("POST", "/pushd/v1/apps", daemon.admin_key, b'{"name":"Orchard"}'))
        key = server_key(daemon, app["id"])
        daemon.request("POST", "/pushd/v1/devices/bulk", key, b"".join(_lines(users)), "application/x-ndjson")
        samples, late = daemon.lag()
        release_ms = [_send(daemon, key, audience) for audience in _audiences()]
        with _Connection(daemon, key) as ask:
            begun = time.perf_counter()
            first = json.loads(ask.get(_path(chance.randrange(users))))
            cold_ms = (time.perf_counter() - begun) * 1e3
            _touch(daemon, key, users, [each["id"] for each in first["items"]])
            shapes = {"fetch": "?limit=100", "badge": "/badge", "after": f"?after={time.time() - 60:.3f}"}
            took = {name: _asked(daemon, ask, chance, users, requests, query) for name, query in shapes.items()}
        all_samples, all_late = daemon.lag()
    figures: dict[str, Any] = {"users": users, "messages": MESSAGES, "requests": requests, "cold_ms": cold_ms}
    figures["release_ms"] = measure.median(release_ms)
    for name, (each, times, items) in took.items():
        times.sort()
        figures[f"{name}_p50_ms"] = times[len(times) // 2] * 1e3
        figures[f"{name}_p99_ms"] = times[len(times) * 99 // 100] * 1e3
        figures[f"{name}_items"] = items / requests
        for column in Took._fields[1:]:
            figures[f"{name}_{column[:-6]}_ms"] = getattr(each, column) / requests * 1e3
    figures |= {"loop_samples": all_samples - samples, "loop_over_20_ms": all_late - late}
    return {
        "ratio": TARGET_MS / (figures["fetch_daemon_ms"] + figures["fetch_postgres_ms"]),
        "target": f"of {TARGET_MS:g} ms of daemon and PostgreSQL for a fetch; the target is at least 1.0",
        "figures": figures,
        "table": [
            {
                "request": name,
                "p50 ms": figures[f"{name}_p50_ms"],
                "p99 ms": figures[f"{name}_p99_ms"],
                "messages": figures[f"{name}_items"],
                "daemon ms": figures[f"{name}_daemon_ms"],
                "PostgreSQL ms": figures[f"{name}_postgres_ms"],
            }
            for name in shapes
        ],
    }


def _lines(users: int) -> Iterator[bytes]:
    chance = random.Random(1)
    for number in range(users):
        tags = ",".join(f'"{tag}"' for tag in TAGS if chance.random() < 0.5)
        line = f'{{"install_id":"phone-{number}","bundle":"{BUNDLE}","user_id":"user-{number}","tags":[{tags}]}}\n'
        yield line.encode()


def _audiences() -> Iterator[dict[str, Any]]:
    chance = random.Random(2)
    for number in range(MESSAGES):
        if number % 5 == 0:
            yield {"type": "broadcast"}
        else:
            yield {"type": "tags", "all": chance.sample(TAGS, 1 + number % 2)}


def _send(daemon: Daemon, key: str, audience: dict[str, Any]) -> float:
    """Milliseconds that sending a message took."""
    body = {"audience": audience, "content": CONTENT, "presented_when": "next_open", "ttl": {"days": 14}}
    body["inbox"] = {"title": "Harvest", "subtitle": "This week"}
    begun = time.perf_counter()
    daemon.request("POST", "/pushd/v1/in-app-messages", key, json.dumps(body).encode())
    return (time.perf_counter() - begun) * 1e3


def _touch(daemon: Daemon, key: str, users: int, messages: list[int]) -> None:
    """Has some users open and read some messages."""
    chance = random.Random(3)
    for number in chance.sample(range(users), min(users // 10, 2_000)):
        events = [
            {"message_id": each, "event": event}
            for each in chance.sample(messages, min(5, len(messages)))
            for event in ("opened", "read")
        ]
        daemon.request("POST", f"{_path(number)}/events", key, json.dumps({"events": events}).encode())


def _path(number: int) -> str:
    return f"/pushd/v1/installs/phone-{number}/inbox"


def _asked(
    daemon: Daemon, ask: _Connection, chance: random.Random, users: int, requests: int, query: str
) -> tuple[Took, list[float], int]:
    """What so many requests took: by process, each for itself, and how many messages they had."""
    paths = [_path(chance.randrange(users)) + query for _ in range(requests)]
    for path in paths[:50]:
        ask.get(path)
    times: list[float] = []
    items = 0
    before, begun = cpu(daemon), time.perf_counter()
    for path in paths:
        start = time.perf_counter()
        body = ask.get(path)
        times.append(time.perf_counter() - start)
        items += body.count(b'"presented_when"')
    seconds, after = time.perf_counter() - begun, cpu(daemon)
    return Took(seconds, *(end - start for start, end in zip(before, after, strict=True))), times, items


class _Connection:
    """A connection that is kept, on which requests follow each other."""

    def __init__(self, daemon: Daemon, key: str) -> None:
        self._head = f" HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\nAuthorization: Bearer {key}\r\n\r\n"
        self._socket = socket.create_connection(("127.0.0.1", daemon.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, path: str) -> bytes:
        """The body of the answer, which must be a 200."""
        self._socket.sendall(f"GET {path}{self._head}".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(1 << 18)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        while len(body) < length:
            body += self._socket.recv(1 << 18)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"GET {path} was answered with {head[:40]!r}: {body[:300]!r}")
        return body
