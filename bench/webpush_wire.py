"""Web Push end to end: subscriptions in, encrypted pushes over TLS and HTTP/2 out, every answer read.

The gateway as the daemon runs it (no database): addresses sorted, bodies encrypted by worker processes, VAPID, links
and outcomes, against nginx, which answers 201 to each push as a push service does. Every outcome must be an
acceptance. The ratio is the rate over what encryption alone makes with the same workers in the same run: what the
wire leaves of it. All processes share the machine's cores. Stalls of the event loop are watched throughout, by the
clock, and by the CPU time that the loop's thread used meanwhile: what of them is our work and not our neighbours'.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import measure
from bench.apns_wire import certificate
from bench.webpush_encrypt import TEXT, _subscriptions, _workers

WORKERS = 2
BATCH_ROWS = 2_000
NGINX = """
worker_processes 1;
daemon off;
pid {home}/pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {home}/cert.pem;
        ssl_certificate_key {home}/key.pem;
        http2_max_concurrent_streams 128;
        keepalive_requests 1000000000;
        keepalive_time 1d;
        location / {{ add_header location https://localhost/m/0 always; return 201; }}
    }}
}}
"""


def run(quick: bool) -> dict[str, Any]:
    """Pushes per second and what they cost; quick: about 25 s."""
    measure.need("nginx")
    pushes, rounds = (12_000, 3) if quick else (100_000, 5)
    with tempfile.TemporaryDirectory() as name:
        home, port = Path(name), measure.free_port()
        home.chmod(0o711)  # nginx gives up root
        certificate(home / "cert.pem", home / "key.pem")
        (home / "nginx.conf").write_text(NGINX.format(home=home, port=port))
        with measure.server(["nginx", "-p", name, "-c", str(home / "nginx.conf")], port):
            runs = [_pushd(home, port, pushes) for _ in range(rounds)]
        alone = [_workers(WORKERS, pushes) for _ in range(rounds)]
    rate = measure.median([each["rate"] for each in runs])
    encrypted = measure.median([each["rate"] for each in alone])
    return {
        "ratio": rate / encrypted,
        "target": "of the rate of encryption alone",
        "pushes_per_run": pushes,
        "runs": rounds,
        "workers": WORKERS,
        "pushes_per_s": round(rate),
        "encrypted_per_s": round(encrypted),
        "daemon_cpu_us": measure.median([each["cpu_us"] for each in runs]),
        "workers_cpu_us": measure.median([each["workers_cpu_us"] for each in runs]),
        "loop_stall_ms_max": max(each["stall_ms"] for each in runs),
        "loop_stall_cpu_ms_max": max(each["stall_cpu_ms"] for each in runs),
        "accepted": sum(each["accepted"] for each in runs),
    }


def _pushd(home: Path, port: int, pushes: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.webpush_wire", str(home / "cert.pem"), str(port), str(pushes)]
    command.append(str(_subscriptions()))
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, check=True, timeout=300)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


# -- the process that is measured


class _Keyring:
    """One credential, numbered 1."""

    def __init__(self) -> None:
        from pushd.credentials import vapid_keys
        from pushd.model.credential import VapidKeys

        self._secret = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)

    def secret(self, _credential_id: int) -> Any:
        return self._secret


async def _push(ca_file: str, port: int, pushes: int, keys: list[list[str]]) -> dict[str, Any]:
    from protocols import webpush
    from pushd.config import TransportConfig
    from pushd.config.webpush import WebPushConfig
    from pushd.gateways.webpush import WebPushGateway

    config = WebPushConfig(
        hosts_added=(f"localhost:{port}",),
        networks_allowed=("127.0.0.0/8", "::1/128"),
        ca_file=ca_file,
        encrypt_workers=WORKERS,
    )
    gateway = WebPushGateway(config, TransportConfig(), _Keyring())
    await gateway.start()
    endpoint = f"https://localhost:{port}/wpush/v2/{'g' * 150}"
    lines = [webpush.address(f"{endpoint}{n:06d}", *pair).encode() for n, pair in enumerate(keys)]
    await _campaign(gateway, lines, 2 * BATCH_ROWS)
    stalls: list[tuple[float, float]] = []
    watcher = asyncio.ensure_future(_watch(stalls))
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    accepted = await _campaign(gateway, lines, pushes)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    watcher.cancel()
    await gateway.stop(5.0)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rate": pushes / seconds,
        "cpu_us": cpu_s / pushes * 1e6,
        "workers_cpu_us": (children.ru_utime + children.ru_stime) / (pushes + 2 * BATCH_ROWS) * 1e6,
        "stall_ms": max(stall for stall, _ in stalls) * 1e3,
        "stall_cpu_ms": max(cpu for _, cpu in stalls) * 1e3,
        "accepted": accepted,
    }


async def _watch(stalls: list[tuple[float, float]]) -> None:
    """How much later than asked for the loop comes back, again and again, and how long it worked meanwhile."""
    while True:
        begun, cpu = time.perf_counter(), time.thread_time()
        await asyncio.sleep(0.001)
        stalls.append((time.perf_counter() - begun - 0.001, time.thread_time() - cpu))


async def _campaign(gateway: Any, lines: list[bytes], rows: int) -> int:
    """Sends that many pushes by the gateway's credit, as the planner does; how many were accepted: all."""
    import numpy as np

    from pushd.batch import Batch, Lane, Rendered
    from pushd.model.device import Environment, Kind, Route

    route = Route(1, Kind.WEBPUSH, Environment.PRODUCTION, "")
    tokens = np.resize(np.array(lines), rows)
    rendered = Rendered(payload=TEXT, headers=(("urgency", "high"), ("topic", "pushd-1")))
    tasks: set[asyncio.Task[None]] = set()
    batches, at = [], 0
    while at < rows or tasks:
        while at < rows and (room := gateway.room(route, 1, Lane.BULK)) >= BATCH_ROWS // 4:
            part = slice(at, min(at + min(BATCH_ROWS, room), rows))
            batch = Batch(
                route=route,
                credential_id=1,
                lane=Lane.BULK,
                ids=np.arange(part.start + 1, part.stop + 1, dtype=np.uint32),
                tokens=tokens[part].copy(),
                revisions=np.ones(part.stop - part.start, np.int32),
                notifications=1,
                payloads=rendered,
            )
            at += len(batch)
            batches.append(batch)
            tasks.add(asyncio.ensure_future(gateway.send(batch)))
            await asyncio.sleep(0)
        _, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    codes = np.concatenate([batch.outcomes for batch in batches])
    accepted = int(np.count_nonzero(codes == 1))
    assert accepted == rows == len(codes), np.bincount(codes)
    return accepted


def _main() -> None:
    import uvloop

    arguments = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(Path(sys.argv[4]).read_text())
    print(json.dumps(uvloop.run(_push(*arguments))))


if __name__ == "__main__":
    _main()
