"""The FCM wire path beside the APNs one: a distinct token in each body, against nghttpd, in the same run.

Both gateways send over TLS on one core to the same kind of server on the other. FCM's has one path, to which a body
goes with the token in it, and it answers each with a body of its own, as Google does; it gives a connection as much
credit as Google's front ends (1 MiB). The ratio is FCM's median of pushes per second over APNs's, each at its best
number of links found first, runs of the two alternating.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench import apns_wire, measure

PROJECT = "pushd-bench"
TOKENS = 100_000
TOKEN_CHARS = 163
"""Characters of the usual registration token."""
STREAMS = 1_000
"""As many as the APNs server of the same run allows; Google has been seen to allow 100 on a connection."""
WINDOW_BITS = 20
"""Of a connection's window, and of each stream's."""
MESSAGE = (
    b'{"android":{"ttl":"3600s","priority":"HIGH","notification":{"tag":"pushd-1","sound":"default"}},'
    b'"notification":{"title":"Hello World","body":"from pushd, a benchmark notification"},'
    b'"data":{"pushd":"{\\"id\\":1}"}}'
)
ANSWER = b'{\n  "name": "projects/pushd-bench/messages/0:1790000000000000%31bd1c9631bd1c96"\n}\n'


def run(quick: bool) -> dict[str, Any]:
    """The comparison; quick: about 30 s."""
    measure.need("nghttpd", "taskset")
    requests, rounds = (120_000, 3) if quick else (1_000_000, 5)
    with apns_wire.apns_server() as apple, fcm_server() as google:
        best_apns = max(apns_wire.LINKS, key=lambda links: apns_wire.pushd(apple, requests // 4, links)["rate"])
        best_fcm = max(apns_wire.LINKS, key=lambda links: pushd(google, requests // 4, links)["rate"])
        apns, fcm = [], []
        for _ in range(rounds):
            apns.append(apns_wire.pushd(apple, requests, best_apns))
            fcm.append(pushd(google, requests, best_fcm))
    apns_rate, fcm_rate = _median(apns, "rate"), _median(fcm, "rate")
    return {
        "ratio": fcm_rate / apns_rate,
        "target": "of apns_wire's pushes per second on one core; the target is at least 0.6",
        "table": [_row("fcm", best_fcm, fcm, apns_rate), _row("apns", best_apns, apns, apns_rate)],
        "requests_per_run": requests,
        "runs": rounds,
        "body_bytes": len(MESSAGE) + TOKEN_CHARS + len('{"message":{"token":"",}}') - 2,
        "fcm_per_s": round(fcm_rate),
        "fcm_cpu_us": _median(fcm, "cpu_us"),
        "fcm_server_cpu_us": _median(fcm, "server_cpu_us"),
        "fcm_accepted": sum(each["accepted"] for each in fcm),
        "apns_per_s": round(apns_rate),
        "apns_cpu_us": _median(apns, "cpu_us"),
        "apns_server_cpu_us": _median(apns, "server_cpu_us"),
    }


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return measure.median([each[key] for each in runs])


def _row(gateway: str, links: int, runs: list[dict[str, Any]], apns_rate: float) -> dict[str, Any]:
    rate = _median(runs, "rate")
    return {
        "gateway": gateway,
        "links": links,
        "pushes/s": round(rate),
        "CPU µs/push": _median(runs, "cpu_us"),
        "server CPU µs/push": _median(runs, "server_cpu_us"),
        "of apns": rate / apns_rate,
    }


class Server:
    """nghttpd with the one path of a project, and what its clients need."""

    def __init__(self, directory: Path, oauth_port: int) -> None:
        self.directory = directory
        self.port = measure.free_port()
        self.pid = 0
        self.ca_file, self.key_file = directory / "cert.pem", directory / "key.pem"
        self.facts_file = directory / "server.json"
        folder = directory / "htdocs" / "v1" / "projects" / PROJECT
        folder.mkdir(parents=True)
        (folder / "messages:send").write_bytes(ANSWER)
        apns_wire.certificate(self.ca_file, self.key_file)
        facts = {
            "port": self.port,
            "oauth_port": oauth_port,
            "ca_file": str(self.ca_file),
            "private_key": _account_key(),
            "message": MESSAGE.decode(),
        }
        self.facts_file.write_text(json.dumps(facts))

    @property
    def command(self) -> list[str]:
        """How to start it."""
        files = [str(self.key_file), str(self.ca_file)]
        htdocs = str(self.directory / "htdocs")
        limits = ["-m", str(STREAMS), "-W", str(WINDOW_BITS), "-w", str(WINDOW_BITS)]
        return ["nghttpd", "-a", "127.0.0.1", *limits, "-d", htdocs, str(self.port), *files]


class _Tokens(BaseHTTPRequestHandler):
    """A token endpoint that gives everybody a token as long as Google's."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"access_token": "ya29." + secrets.token_urlsafe(150), "expires_in": 3599}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def fcm_server() -> Iterator[Server]:
    """An nghttpd that answers every message with a name, pinned to its core, and a token endpoint."""
    import ssl

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        tokens = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Tokens))
        far = Server(Path(name), tokens.server_port)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(far.ca_file, far.key_file)
        tokens.socket = context.wrap_socket(tokens.socket, server_side=True)
        thread = threading.Thread(target=tokens.serve_forever, daemon=True)
        thread.start()
        stack.callback(tokens.shutdown)
        far.pid = stack.enter_context(measure.server(far.command, far.port))
        yield far


def pushd(far: Server, requests: int, links: int) -> dict[str, Any]:
    """Pushes per second and CPU of one run of pushd's gateway, in a process of its own; every outcome is checked."""
    command = [sys.executable, "-m", "bench.fcm_wire", str(far.facts_file), str(requests), str(links)]
    served = measure.cpu_of(far.pid)
    answer = measure.child_json(command)
    served = measure.cpu_of(far.pid) - served
    answer["server_cpu_us"] = served / (requests + answer["warm_up"]) * 1e6
    return answer


def _account_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


# -- the process that is measured


class _Keyring:
    """One credential, numbered 1."""

    def __init__(self, private_key: str) -> None:
        from pushd.model.credential import FcmServiceAccount

        self._secret = FcmServiceAccount(
            project_id=PROJECT,
            client_email="push@pushd-bench.iam.gserviceaccount.com",
            private_key_id="bench",
            private_key=private_key,
        )

    def secret(self, _credential_id: int) -> Any:
        return self._secret


async def _push(facts: dict[str, Any], requests: int, links: int) -> dict[str, Any]:
    from pushd.config import TransportConfig
    from pushd.config.fcm import FcmConfig
    from pushd.gateways.fcm import FcmGateway

    config = FcmConfig(
        host="localhost",
        port=facts["port"],
        oauth_host="localhost",
        oauth_port=facts["oauth_port"],
        ca_file=facts["ca_file"],
        messages_per_minute=10**9,  # the wire is measured, not Google's quota
        ramp_s=0,
    )
    gateway = FcmGateway(config, TransportConfig(bulk_links=links), _Keyring(facts["private_key"]))
    await gateway.start()
    warm_up = requests // 10
    some = [secrets.token_urlsafe(TOKEN_CHARS)[:TOKEN_CHARS].encode() for _ in range(TOKENS)]
    await _campaign(gateway, facts, some, warm_up)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    accepted = await _campaign(gateway, facts, some, requests)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    await gateway.stop(5.0)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"rate": requests / seconds, "cpu_us": cpu_s / requests * 1e6, "accepted": accepted, "warm_up": warm_up}


async def _campaign(gateway: Any, facts: dict[str, Any], some: list[bytes], rows: int) -> int:
    """Sends that many pushes as the planner does, by the gateway's credit; how many were accepted: all."""
    import numpy as np

    from pushd.batch import Batch, Lane, Rendered
    from pushd.model.device import Environment, Kind, Route

    route = Route(1, Kind.FCM, Environment.PRODUCTION, "com.example.app")
    tokens = np.resize(np.array(some), rows)
    ids = np.arange(1, rows + 1, dtype=np.uint32)
    revisions = np.ones(rows, np.int32)
    rendered = Rendered(payload=facts["message"].encode())
    tasks: set[asyncio.Task[None]] = set()
    batches, at = [], 0
    while at < rows or tasks:
        while at < rows and (room := gateway.room(route, 1, Lane.BULK)) >= apns_wire.BATCH_ROWS // 4:
            part = slice(at, at + min(apns_wire.BATCH_ROWS, room))
            batch = Batch(
                route=route,
                credential_id=1,
                lane=Lane.BULK,
                ids=ids[part].copy(),
                tokens=tokens[part].copy(),
                revisions=revisions[part].copy(),
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

    facts = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(uvloop.run(_push(facts, int(sys.argv[2]), int(sys.argv[3])))))


if __name__ == "__main__":
    _main()
