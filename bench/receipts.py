"""Opens of a campaign over HTTP: batches of receipts to a daemon process on its embedded PostgreSQL 18, all durable.

The driver (this process) sends requests that it made before over connections that it keeps; each is answered after its
commit. Every round a campaign to all devices, each of a user of its own, is opened by each of them, in any order, with
a server key and 100 receipts to a request. `again` sends the first tenth of the same requests once more: nothing of it
may count. After a round an audience of those who did not open must be empty.

The ratio is the median rate over the stated target of 20,000 opens/s. CPU is user and system time by process, per open:
where daemon, PostgreSQL and driver share two cores, `per_core` says how many one core makes for daemon and PostgreSQL
together. `loop_over_20_ms` is how many of the samples of the daemon's loop lag, taken every 10 ms, were late by more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Iterator
from typing import Any

from bench import measure
from bench.register import BUNDLE, Daemon, Took, cpu, running, server_key

TARGET = 20_000
BATCH = 100
CONNECTIONS = 32
SETTLED_S = 120.0


def run(quick: bool) -> dict[str, Any]:
    """The figures of opening and of repeating; quick: about 30 s."""
    devices, rounds = (40_000, 2) if quick else (200_000, 3)
    opened: list[Took] = []
    again: list[Took] = []
    with running() as daemon:
        app = json.loads(daemon.request("POST", "/pushd/v1/apps", daemon.admin_key, b'{"name":"Orchard"}'))
        key = server_key(daemon, app["id"])
        daemon.request("POST", "/pushd/v1/devices/bulk", key, b"".join(_lines(devices)), "application/x-ndjson")
        samples, late = daemon.lag()
        for number in range(rounds):
            campaign = _campaign(daemon, key, devices)
            requests = list(_requests(daemon, key, campaign, devices, number))
            opened.append(_driven(daemon, requests, b'"taken":%d,"repeated":0' % BATCH))
            again.append(_driven(daemon, requests[: len(requests) // 10], b'"taken":0,"repeated":%d' % BATCH))
            _check(daemon, key, campaign)
        all_samples, all_late = daemon.lag()
    figures: dict[str, Any] = {"devices": devices, "rounds": rounds}
    for name, took, rows in (("opened", opened, devices), ("again", again, devices // 10)):
        figures[f"{name}_per_s"] = measure.median([rows / each.seconds for each in took])
        for column in Took._fields[1:]:
            figures[f"{name}_{column[:-6]}_us"] = measure.median([getattr(each, column) / rows * 1e6 for each in took])
    figures["per_core"] = 1e6 / (figures["opened_daemon_us"] + figures["opened_postgres_us"])
    figures |= {"loop_samples": all_samples - samples, "loop_over_20_ms": all_late - late}
    return {
        "ratio": figures["opened_per_s"] / TARGET,
        "target": f"of {TARGET:,} opens/s; the target is at least 1.0",
        "figures": figures,
        "table": [
            {
                "receipts": name,
                "per second": round(figures[f"{name}_per_s"]),
                "daemon µs": figures[f"{name}_daemon_us"],
                "PostgreSQL µs": figures[f"{name}_postgres_us"],
                "driver µs": figures[f"{name}_driver_us"],
            }
            for name in ("opened", "again")
        ],
    }


def _lines(devices: int) -> Iterator[bytes]:
    for number in range(devices):
        token = hashlib.sha256(b"%d" % number).hexdigest()
        row = b'{"install_id":"phone-%d","user_id":"user-%d","bundle":"%s","token":"%s"}\n'
        yield row % (number, number, BUNDLE.encode(), token.encode())


def _campaign(daemon: Daemon, key: str, devices: int) -> int:
    """The id of a send to everyone that has come to its end: without a credential it ends at once."""
    body = b'{"audience":{"type":"broadcast"},"message":{"title":"Hello"}}'
    sent = json.loads(daemon.request("POST", "/pushd/v1/notifications", key, body))
    if sent["targeted"] != devices:
        raise RuntimeError(f"it went to {sent['targeted']} of {devices}")
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        view = json.loads(daemon.request("GET", f"/pushd/v1/notifications/{sent['id']}", key, b""))
        if view["finished_at"] is not None:
            return int(sent["id"])
        time.sleep(0.2)
    raise RuntimeError("the campaign does not end")


def _requests(daemon: Daemon, key: str, campaign: int, devices: int, round_number: int) -> Iterator[bytes]:
    order = list(range(devices))
    random.Random(round_number).shuffle(order)
    head = f"POST /pushd/v1/receipts HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\nAuthorization: Bearer {key}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: "
    now = time.time()
    for first in range(0, devices, BATCH):
        receipts = [
            {
                "id": f"{hashlib.md5(b'%d %d' % (campaign, number), usedforsecurity=False).hexdigest()}",
                "notification_id": campaign,
                "event": "opened",
                "at": now,
                "install_id": f"phone-{number}",
            }
            for number in order[first : first + BATCH]
        ]
        body = json.dumps({"receipts": receipts}, separators=(",", ":"))
        yield f"{head}{len(body)}\r\n\r\n{body}".encode()


def _driven(daemon: Daemon, requests: list[bytes], expected: bytes) -> Took:
    before, begun = cpu(daemon), time.perf_counter()
    asyncio.run(_drive(daemon.port, iter(requests), expected))
    seconds, after = time.perf_counter() - begun, cpu(daemon)
    return Took(seconds, *(end - start for start, end in zip(before, after, strict=True)))


async def _drive(port: int, requests: Iterator[bytes], expected: bytes) -> None:
    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            body = await reader.readexactly(length)
            if expected not in body:
                raise RuntimeError(f"answered with {body!r}")
        writer.close()

    async with asyncio.timeout(SETTLED_S), asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(connection())


def _check(daemon: Daemon, key: str, campaign: int) -> None:
    body = b'{"audience":{"type":"outcome","notification_id":%d,"is":"not_opened"}}' % campaign
    left = json.loads(daemon.request("POST", "/pushd/v1/audience/count", key, body))["devices"]
    if left:
        raise RuntimeError(f"{left} devices opened it and are said not to have")
