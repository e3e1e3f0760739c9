"""The APNs wire path (gateway, pool, links, HTTP/2, outcomes; no database) against nghttpd, beside h2load.

Both clients send the same requests over TLS on one core to the same server on the other, `authorization` and `:path` as
literals (A-42): h2load never indexes the one and does not index the other. The ratio is pushd's median of requests per
second over h2load's, each side's best settings found first, runs of the two alternating.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import re
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import measure

TOKENS = 1_000
STREAMS = 1_000
"""Concurrent streams that nghttpd allows; Apple has been seen to allow as many."""
PAYLOAD = (
    b'{"aps":{"alert":{"title":"Hello World","body":"from pushd, a benchmark notification"},'
    b'"badge":1,"sound":"default"}}'
)
TOPIC = "com.example.app"
CLIENTS = ((1, 100), (1, 1000), (2, 500), (4, 250))
"""Connections and streams each that h2load is tried with."""
LINKS = (1, 2, 4)
"""Links that pushd is tried with."""
BATCH_ROWS = 2_000


def run(quick: bool) -> dict[str, Any]:
    """The comparison; quick: about 25 s."""
    measure.need("h2load", "nghttpd", "taskset")
    requests, rounds = (200_000, 3) if quick else (1_000_000, 5)
    with apns_server() as far:
        best_peer = max(CLIENTS, key=lambda client: h2load(far, requests // 4, *client)["rate"])
        best_own = max(LINKS, key=lambda links: pushd(far, requests // 4, links)["rate"])
        peers, own = [], []
        for _ in range(rounds):
            peers.append(h2load(far, requests, *best_peer))
            own.append(pushd(far, requests, best_own))
    peer_rate, own_rate = _median(peers, "rate"), _median(own, "rate")
    table = [
        _row("pushd", f"{best_own} links", own, own_rate, own_rate),
        _row("h2load", f"-c {best_peer[0]} -m {best_peer[1]}", peers, peer_rate, own_rate),
    ]
    return {
        "ratio": own_rate / peer_rate,
        "target": "of h2load's requests per second on one core; the target is at least 1.0",
        "table": table,
        "requests_per_run": requests,
        "runs": rounds,
        "pushd_per_s": round(own_rate),
        "pushd_cpu_us": _median(own, "cpu_us"),
        "pushd_server_cpu_us": _median(own, "server_cpu_us"),
        "pushd_accepted": sum(each["accepted"] for each in own),
        "h2load_per_s": round(peer_rate),
        "h2load_cpu_us": _median(peers, "cpu_us"),
        "h2load_server_cpu_us": _median(peers, "server_cpu_us"),
    }


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return measure.median([each[key] for each in runs])


def _row(client: str, settings: str, runs: list[dict[str, Any]], rate: float, own_rate: float) -> dict[str, Any]:
    return {
        "client": client,
        "settings": settings,
        "pushes/s": round(rate),
        "CPU µs/push": _median(runs, "cpu_us"),
        "server CPU µs/push": _median(runs, "server_cpu_us"),
        "pushd is faster by": own_rate / rate,
    }


class Server:
    """nghttpd with a file for every device path, and what its clients need."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = measure.free_port()
        self.pid = 0
        self.tokens = [secrets.token_hex(32) for _ in range(TOKENS)]
        self.ca_file, self.key_file = directory / "cert.pem", directory / "key.pem"
        self.private_key, self.jwt = provider_token()
        self.paths_file, self.body_file = directory / "paths", directory / "body"
        self._prepare()

    @property
    def command(self) -> list[str]:
        """How to start it."""
        files = [str(self.key_file), str(self.ca_file)]
        htdocs = str(self.directory / "htdocs")
        return ["nghttpd", "-a", "127.0.0.1", "-m", str(STREAMS), "-d", htdocs, str(self.port), *files]

    def _prepare(self) -> None:
        devices = self.directory / "htdocs" / "3" / "device"
        devices.mkdir(parents=True)
        for token in self.tokens:
            (devices / token).touch()
        urls = (f"https://localhost:{self.port}/3/device/{token}\n" for token in self.tokens)
        self.paths_file.write_text("".join(urls))
        self.body_file.write_bytes(PAYLOAD)
        certificate(self.ca_file, self.key_file)
        (self.directory / "server.json").write_text(json.dumps(self.facts()))

    def facts(self) -> dict[str, Any]:
        """What a client in another process needs."""
        return {
            "port": self.port,
            "tokens": self.tokens,
            "ca_file": str(self.ca_file),
            "private_key": self.private_key,
            "jwt": self.jwt,
            "payload": PAYLOAD.decode(),
            "topic": TOPIC,
        }

    @property
    def facts_file(self) -> Path:
        """Where those facts are written."""
        return self.directory / "server.json"


@contextlib.contextmanager
def apns_server() -> Iterator[Server]:
    """An nghttpd that answers 200 to every push, pinned to its core."""
    with tempfile.TemporaryDirectory() as name:
        far = Server(Path(name))
        with measure.server(far.command, far.port) as far.pid:
            yield far


def h2load(far: Server, requests: int, connections: int, streams: int) -> dict[str, Any]:
    """Requests per second and CPU of one run of h2load."""
    fields = {
        "authorization": f"bearer {far.jwt}",
        "apns-topic": TOPIC,
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-id": "00000000-0001-8000-8000-000000000001",
        "apns-expiration": "0",
    }
    command = ["h2load", "-n", str(requests), "-c", str(connections), "-m", str(streams), "-t", "1"]
    command += ["-d", str(far.body_file), "-i", str(far.paths_file)]
    for name, value in fields.items():
        command += ["-H", f"{name}: {value}"]
    served = measure.cpu_of(far.pid)
    output, usage = measure.child(command)
    served = measure.cpu_of(far.pid) - served
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    good = re.search(r"status codes: (\d+) 2xx", output)
    assert rate is not None, output
    assert good is not None, output
    assert int(good[1]) == requests, output
    return {
        "rate": float(rate[1]),
        "cpu_us": usage.cpu_s / requests * 1e6,
        "server_cpu_us": served / requests * 1e6,
    }


def pushd(far: Server, requests: int, links: int) -> dict[str, Any]:
    """The same of pushd's own gateway, in a process of its own; every outcome is checked there."""
    command = [sys.executable, "-m", "bench.apns_wire", str(far.facts_file), str(requests), str(links)]
    served = measure.cpu_of(far.pid)
    answer = measure.child_json(command)
    served = measure.cpu_of(far.pid) - served
    answer["server_cpu_us"] = served / (requests + answer["warm_up"]) * 1e6
    return answer


def certificate(cert_file: Path, key_file: Path) -> None:
    """Writes a self-signed certificate for localhost and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def provider_token() -> tuple[str, str]:
    """A provider key as PEM, and a token signed with it, as long as pushd's own."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from protocols import jwt

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    claims = {"iss": "BENCHTEAM1", "iat": int(time.time())}
    return pem.decode(), jwt.es256(key, {"kid": "BENCHKEY01"}, claims).decode()


# -- the process that is measured


class _Keyring:
    """One credential, numbered 1."""

    def __init__(self, private_key: str) -> None:
        from pushd.model.credential import ApnsToken

        self._secret = ApnsToken(team_id="BENCHTEAM1", key_id="BENCHKEY01", private_key=private_key)

    def secret(self, _credential_id: int) -> Any:
        return self._secret


async def _push(facts: dict[str, Any], requests: int, links: int) -> dict[str, Any]:
    from pushd.batch import Lane
    from pushd.config import ApnsConfig, TransportConfig
    from pushd.gateways.apns import ApnsGateway
    from pushd.model.device import Environment, Kind, Route

    config = ApnsConfig(production_host="localhost", production_port=facts["port"], ca_file=facts["ca_file"])
    gateway = ApnsGateway(config, TransportConfig(bulk_links=links), _Keyring(facts["private_key"]))
    await gateway.start()
    route = Route(1, Kind.APNS, Environment.PRODUCTION, facts["topic"])
    warm_up = requests // 10
    await _campaign(gateway, route, Lane.BULK, facts, warm_up)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    accepted = await _campaign(gateway, route, Lane.BULK, facts, requests)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    await gateway.stop(5.0)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rate": requests / seconds,
        "cpu_us": cpu_s / requests * 1e6,
        "accepted": accepted,
        "warm_up": warm_up,
    }


async def _campaign(gateway: Any, route: Any, lane: Any, facts: dict[str, Any], rows: int) -> int:
    """Sends that many pushes as the planner does, by the gateway's credit; how many were accepted: all."""
    import numpy as np

    from pushd.batch import Batch, Rendered

    tokens = np.resize(np.array([token.encode() for token in facts["tokens"]]), rows)
    ids = np.arange(1, rows + 1, dtype=np.uint32)
    revisions = np.ones(rows, np.int32)
    rendered = Rendered(
        payload=facts["payload"].encode(), headers=(("apns-push-type", "alert"), ("apns-priority", "10"))
    )
    tasks: set[asyncio.Task[None]] = set()
    batches, at = [], 0
    while at < rows or tasks:
        while at < rows and (room := gateway.room(route, 1, lane)) >= BATCH_ROWS // 4:
            part = slice(at, at + min(BATCH_ROWS, room))
            batch = Batch(
                route=route,
                credential_id=1,
                lane=lane,
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
