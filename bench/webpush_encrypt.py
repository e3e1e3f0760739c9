"""Web Push encryption beside pywebpush, npm's web-push and a bare loop over `cryptography`; one worker and two.

A text of 200 bytes, distinct subscriptions, a fresh key pair and salt for each message. Every encryptor has a process
of its own on core 0; runs alternate. One core is compared by CPU seconds, which other work on the machine hardly
changes; workers by the clock, on both cores, while the event loop that feeds them is watched for stalls, and its own
CPU is counted: what feeding costs beside encrypting bounds what a second worker can bring. The bare loop
generates a pair, loads the point, does ECDH, HKDF and AES-GCM, and nothing else. The ratio is pushd's rate over the
bare loop's.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import measure

PYWEBPUSH, WEB_PUSH = "2.5.0", "3.6.7"
"""Pinned versions."""
TEXT = b'{"title":"Hello World","body":"' + b"x" * 167 + b'"}'
SUBSCRIPTIONS = 1_000
JOB_ROWS = 256
WATCH_S = 0.004
"""How often the event loop is looked at for stalls: each look takes time from what is measured."""


def run(quick: bool) -> dict[str, Any]:
    """The comparison; quick: about 40 s once the peers are installed."""
    measure.need("node", "npm", "taskset", "openssl")
    messages, rounds = (6_000, 3) if quick else (30_000, 5)
    python, modules = _install_pywebpush(), _install_web_push()
    own = [sys.executable, "-m", "bench.webpush_encrypt"]
    subscriptions = _subscriptions()
    commands = {
        "bare loop": [*own, "bare"],
        "pushd": [*own, "pushd"],
        "pywebpush": [python, str(Path(__file__).with_name("webpush_peer.py"))],
        "web-push (npm)": ["node", str(Path(__file__).with_name("webpush_peer.js")), str(modules)],
    }
    costs: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            costs[name].append(measure.child_json([*command, str(subscriptions), str(messages)])["cpu_us"])
    cost = {name: measure.median(each) for name, each in costs.items()}
    workers: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, runs in workers.items():
            runs.append(_workers(count, messages))
    rate = {count: measure.median([each["rate"] for each in done]) for count, done in workers.items()}
    return {
        "ratio": cost["bare loop"] / cost["pushd"],
        "target": "of the bare loop's rate on one core; the targets are 0.95 of it, 1.25 x pywebpush, 2 x web-push",
        "table": [
            {"encryptor": name, "messages/s": round(1e6 / each), "CPU µs/message": each, "pushd": each / cost["pushd"]}
            for name, each in sorted(cost.items(), key=lambda pair: pair[1])
        ],
        "messages_per_run": messages,
        "runs": rounds,
        "pushd_per_s": round(1e6 / cost["pushd"]),
        "times_pywebpush": cost["pywebpush"] / cost["pushd"],
        "times_web_push": cost["web-push (npm)"] / cost["pushd"],
        "one_worker_per_s": round(rate[1]),
        "two_workers_per_s": round(rate[2]),
        "two_workers_over_one": rate[2] / rate[1],
        "feeding_cpu_us": measure.median([each["feeding_cpu_us"] for done in workers.values() for each in done]),
        "loop_stall_ms_max": max(each["stall_ms"] for done in workers.values() for each in done),
        "loop_stall_cpu_ms_max": max(each["stall_cpu_ms"] for done in workers.values() for each in done),
        "openssl_ecdh_per_s": _openssl(),
    }


def _workers(count: int, messages: int) -> dict[str, Any]:
    """The same messages through that many worker processes, on every core there is."""
    arguments = ["workers", str(_subscriptions()), str(messages), str(count)]
    command = [sys.executable, "-m", "bench.webpush_encrypt", *arguments]
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, check=True, timeout=300)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _openssl() -> float:
    """ECDH operations per second that OpenSSL says it can do on P-256."""
    command = ["openssl", "speed", "-seconds", "2", "ecdhp256"]
    done = subprocess.run(measure.pinned(measure.CLIENT_CORE, command), capture_output=True, text=True, check=True)
    found = re.search(r"nistp256\)\s+[\d.]+s\s+([\d.]+)", done.stdout)
    return float(found[1]) if found else 0.0


def _subscriptions() -> Path:
    """A file of subscriptions, made once: [p256dh, auth] in base64url."""
    from protocols import aes128gcm, jwt

    path = measure.CACHE / "subscriptions.json"
    if not path.exists():
        measure.CACHE.mkdir(exist_ok=True)
        made = [
            [jwt.encode(aes128gcm.new_pair().public).decode(), jwt.encode(os.urandom(16)).decode()]
            for _ in range(SUBSCRIPTIONS)
        ]
        path.write_text(json.dumps(made))
    return path


def _install_pywebpush() -> str:
    """The interpreter of an environment that has pywebpush, and the same `cryptography` as pushd."""
    import cryptography

    home = measure.CACHE / f"pywebpush-{PYWEBPUSH}-{cryptography.__version__}"
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        packages = [f"pywebpush=={PYWEBPUSH}", f"cryptography=={cryptography.__version__}"]
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *packages], check=True)
        (home / "installed").touch()
    return str(python)


def _install_web_push() -> Path:
    """The folder of modules that has web-push."""
    home = measure.CACHE / f"web-push-{WEB_PUSH}"
    if not (home / "installed").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(json.dumps({"name": "peers", "private": True}))
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"web-push@{WEB_PUSH}"]
        subprocess.run(command, cwd=home, check=True)
        (home / "installed").touch()
    return home / "node_modules"


# -- the processes that are measured


def _bare(subscriptions: list[list[str]], messages: int) -> int:
    """What the work itself costs: as little Python around `cryptography` as there can be."""
    import base64
    import hmac

    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    keys = [(base64.urlsafe_b64decode(p + "="), base64.urlsafe_b64decode(a + "==")) for p, a in subscriptions]
    curve, ecdh, digest, sha, text = ec.SECP256R1(), ec.ECDH(), hmac.digest, "sha256", TEXT + b"\x02"
    octets = 0
    for number in range(messages):
        point, auth = keys[number % SUBSCRIPTIONS]
        private = ec.generate_private_key(curve)
        public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        secret = private.exchange(ecdh, ec.EllipticCurvePublicKey.from_encoded_point(curve, point))
        salt = os.urandom(16)
        keying = digest(digest(auth, secret, sha), b"WebPush: info\x00" + point + public + b"\x01", sha)
        prk = digest(salt, keying, sha)
        key = digest(prk, b"Content-Encoding: aes128gcm\x00\x01", sha)[:16]
        nonce = digest(prk, b"Content-Encoding: nonce\x00\x01", sha)[:12]
        octets += len(AESGCM(key).encrypt(nonce, text, None))
    return octets


def _pushd(subscriptions: list[list[str]], messages: int) -> int:
    """What a worker process does with its jobs, key pairs included."""
    from pushd.gateways.webpush_seal import KeyPairs, seal

    lines = [f"{p256dh}.{auth}".encode() for p256dh, auth in subscriptions]
    jobs = [b"".join(lines[at : at + JOB_ROWS]) for at in range(0, SUBSCRIPTIONS - JOB_ROWS, JOB_ROWS)]
    pairs, done = KeyPairs(2_048), 0
    while done < messages:
        pairs.fill(JOB_ROWS)
        bodies, bad = seal(jobs[done // JOB_ROWS % len(jobs)], TEXT, 0, pairs)
        assert len(bodies) == JOB_ROWS * (len(TEXT) + 103)
        assert not bad
        done += JOB_ROWS
    return done


async def _feed(subscriptions: list[list[str]], messages: int, workers: int) -> dict[str, Any]:
    from pushd.config.webpush import WebPushConfig
    from pushd.gateways.webpush_workers import Encryptor

    lines = [f"{p256dh}.{auth}".encode() for p256dh, auth in subscriptions]
    jobs = [b"".join(lines[at : at + JOB_ROWS]) for at in range(0, SUBSCRIPTIONS - JOB_ROWS, JOB_ROWS)]
    encryptor = Encryptor(WebPushConfig(encrypt_workers=workers, key_pairs_ahead=0))
    stalls: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            begun, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(WATCH_S)
            stalls.append((time.perf_counter() - begun - WATCH_S, time.thread_time() - cpu))

    await asyncio.gather(*(encryptor.encrypt(jobs[0], TEXT, 0) for _ in range(2 * workers)))  # processes have started
    watcher, begun, cpu_begun = asyncio.ensure_future(watch()), time.perf_counter(), time.process_time()
    count = messages // JOB_ROWS
    done = await asyncio.gather(*(encryptor.encrypt(jobs[at % len(jobs)], TEXT, 0) for at in range(count)))
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
    watcher.cancel()
    assert all(bodies.shape == (JOB_ROWS, len(TEXT) + 103) and not bad for bodies, bad in done)
    assert encryptor.workers == workers
    await encryptor.stop()
    return {
        "rate": count * JOB_ROWS / seconds,
        "feeding_cpu_us": cpu_s / (count * JOB_ROWS) * 1e6,
        "stall_ms": max(stalls)[0] * 1e3,
        "stall_cpu_ms": max(cpu for _, cpu in stalls) * 1e3,
    }


def _main() -> None:
    mode, path, messages = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    subscriptions = json.loads(path.read_text())
    if mode == "workers":
        import uvloop

        print(json.dumps(uvloop.run(_feed(subscriptions, messages, int(sys.argv[4])))))
        return
    work = {"bare": _bare, "pushd": _pushd}[mode]
    work(subscriptions, 512)
    begun = time.process_time()
    work(subscriptions, messages)
    made = -(-messages // JOB_ROWS) * JOB_ROWS if mode == "pushd" else messages
    print(json.dumps({"cpu_us": (time.process_time() - begun) / made * 1e6}))


if __name__ == "__main__":
    _main()
