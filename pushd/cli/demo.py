"""`pushd demo`: the whole of pushd on one machine, from REST sends to HTTP/2 pushes, and what became of each."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import aiohttp
import orjson
import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pushd.cli.children import Child, free_port, spawn
from pushd.cli.client import Client
from pushd.cli.output import console, show, table
from pushd.cli.settings import AsJson

BUNDLE = "com.example.orchard"
TAG = "pears"
DEAD, BUSY = "dead", "b0"
"""Tokens that begin so are dead (410), or answered 503 at their first push: about 2 % and 0.4 %."""
POLL_S = 0.2
CHUNK = 2_000
PATIENCE_S = 120.0
COLUMNS = ("send", "targeted", "accepted", "unregistered", "failed", "pending", "seconds", "per_second")


def demo(
    devices: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many devices to register.")] = 5_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running, and print what to try.")] = False,
    json: AsJson = False,
) -> None:
    """Run pushd against a local APNs: register devices, send, and show what became of every push."""
    try:
        result = uvloop.run(_demo(devices, keep=keep, quiet=json))
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    if json:
        show(result, as_json=True)
    if not result["whole"]:
        raise typer.Exit(1)


async def _demo(devices: int, *, keep: bool, quiet: bool) -> dict[str, Any]:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    state = Path(tempfile.mkdtemp(prefix="pushd-demo-"))
    state.chmod(0o711)  # as root, the embedded PostgreSQL runs as another user, who has to pass through
    try:
        async with AsyncExitStack() as stack:
            simulator, manifest = await _start_simulator(stack, state, devices)
            daemon, url, key = await _start_daemon(stack, state, manifest)
            client = await stack.enter_async_context(await _make_app(stack, url, key, manifest))
            result = await _show_off(client, manifest, devices, quiet=quiet)
            if not quiet:
                _print(result)
            if keep:
                _print_hints(url, state, manifest, result)
                await asyncio.wait({daemon.ended, simulator.ended}, return_when=asyncio.FIRST_COMPLETED)
            return result
    finally:
        shutil.rmtree(state, ignore_errors=True)


async def _start_simulator(stack: AsyncExitStack, state: Path, devices: int) -> tuple[Child, dict[str, Any]]:
    """A running simulator whose faults are set, and where it listens."""
    ports = [argument for name in ("port", "sandbox-port", "control-port") for argument in (f"--{name}", "0")]
    child = await spawn(stack, "simulate", "--state", str(state / "apns"), *ports, "--with-parent", "--json")
    manifest: dict[str, Any] = orjson.loads(await child.line(PATIENCE_S))
    busy = {"type": "answer", "status": 503, "reason": "ServiceUnavailable"}
    dead = {"type": "answer", "status": 410, "reason": "Unregistered"}
    faults = [{"token_prefix": DEAD, "action": dead}, {"token_prefix": BUSY, "per_token": 1, "action": busy}]
    if devices > 1:
        async with aiohttp.ClientSession() as session:
            for fault in faults:
                await session.post(f"http://127.0.0.1:{manifest['control_port']}/faults", json=fault)
    return child, manifest


async def _start_daemon(stack: AsyncExitStack, state: Path, manifest: dict[str, Any]) -> tuple[Child, str, str]:
    """A running daemon, its URL and its admin key."""
    port, key_file = free_port(), state / "admin.key"
    settings = {
        "PUSHD__APNS__PRODUCTION_HOST": manifest["host"],
        "PUSHD__APNS__PRODUCTION_PORT": str(manifest["production_port"]),
        "PUSHD__APNS__CA_FILE": manifest["ca_file"],
        "PUSHD__TELEMETRY__LOG_LEVEL": "warning",
    }
    arguments = (
        "--data-dir",
        str(state / "data"),
        "--port",
        str(port),
        "--admin-key-file",
        str(key_file),
        "--with-parent",
    )
    child = await spawn(stack, "up", *arguments, environ=settings)
    await child.line(PATIENCE_S)
    return child, f"http://127.0.0.1:{port}", key_file.read_text().strip()


async def _make_app(stack: AsyncExitStack, url: str, admin_key: str, manifest: dict[str, Any]) -> Client:
    """A client with a server key of a new app that has the simulator's provider key."""
    admin = await stack.enter_async_context(Client(url, admin_key))
    app = await admin.call("POST", "/apps", {"name": "Orchard", "settings": {"default_title": "Orchard"}})
    owner = await stack.enter_async_context(Client(url, admin_key, app["id"]))
    provider = manifest["keys"][0]
    secret = {
        "type": "apns_token",
        "team_id": provider["team_id"],
        "key_id": provider["key_id"],
        "private_key": Path(manifest["key_files"][provider["key_id"]]).read_text(),
    }
    await owner.call("POST", "/credentials", {"secret": secret, "environment": "production", "name": "demo"})
    made = await owner.call("POST", "/keys", {"role": "server", "name": "demo"})
    return Client(url, made["secret"])


async def _show_off(client: Client, manifest: dict[str, Any], devices: int, *, quiet: bool) -> dict[str, Any]:
    """Registers, sends thrice, and gathers the outcomes."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet) as progress:
        registered_s = await _register(client, devices, progress)
        sends = [
            await _send(client, progress, "broadcast", {"type": "broadcast"}),
            await _send(client, progress, f"tag {TAG}", {"type": "tags", "any": [TAG]}),
            await _send(client, progress, "one user", {"type": "users", "ids": ["user-0"]}),
        ]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{manifest['control_port']}/summary") as answer,
    ):
        seen = await answer.json()
    accepted = sum(send["accepted"] for send in sends)
    return {
        "devices": devices,
        "registered_per_second": round(devices / registered_s),
        "sends": sends,
        "gateway": {name: seen[name] for name in ("pushes", "accepted", "statuses", "reasons", "violations")},
        "whole": accepted == seen["accepted"] and all(not send["pending"] for send in sends),
    }


async def _register(client: Client, devices: int, progress: Progress) -> float:
    """Seconds that it took to register so many devices through the API."""
    task = progress.add_task("registering devices", total=devices)
    source = random.Random(2026)  # noqa: S311  # made-up tokens, the same at every run

    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, devices, CHUNK):
            yield b"".join(_registration(number, source) for number in range(start, min(devices, start + CHUNK)))

    begun = perf_counter()
    async for line in client.stream("/devices/bulk", lines()):
        if line["type"] == "reject":
            raise AssertionError(line)
        progress.update(task, completed=line["accepted"])
    return perf_counter() - begun


def _registration(number: int, source: random.Random) -> bytes:
    token = source.randbytes(32).hex()
    if number == 0:
        token = "0" * len(token)
    elif number % 50 == 7:
        token = DEAD + token[len(DEAD) :]
    body: dict[str, Any] = {
        "install_id": f"install-{number}",
        "user_id": f"user-{number // 2}",
        "bundle": BUNDLE,
        "platform": "ios",
        "token": token,
    }
    if number % 5 == 0:
        body["tags"] = [TAG]
    return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


async def _send(client: Client, progress: Progress, name: str, audience: dict[str, Any]) -> dict[str, Any]:
    """One send, watched to its end."""
    task = progress.add_task(name, total=None)
    begun = perf_counter()
    message = {"body": f"For {name}.", "data": {"demo": True}}
    sent = await client.call("POST", "/notifications", {"audience": audience, "message": message})
    while True:
        view = await client.call("GET", f"/notifications/{sent['id']}")
        counts = view["counts"]
        progress.update(task, total=counts["targeted"], completed=counts["targeted"] - counts["pending"])
        if view["state"] == "done" or perf_counter() - begun > PATIENCE_S:
            break
        await asyncio.sleep(POLL_S if counts["targeted"] > 10 else 0.01)
    seconds = perf_counter() - begun
    reasons = {reason["reason"]: reason["count"] for reason in view["reasons"]}
    unregistered = sum(reason["count"] for reason in view["reasons"] if reason["outcome"] == "unregistered")
    return {
        "send": name,
        "id": sent["id"],
        **counts,
        "failed": counts["failed"] - unregistered,
        "unregistered": unregistered,
        "reasons": reasons,
        "seconds": round(seconds, 3),
        "per_second": round((counts["targeted"] - counts["pending"]) / seconds),
    }


def _print(result: dict[str, Any]) -> None:
    console.print(f"\nRegistered {result['devices']:,} devices, {result['registered_per_second']:,} a second.\n")
    table(result["sends"], COLUMNS)
    gateway = result["gateway"]
    answers = ", ".join(f"{count:,} × {status}" for status, count in gateway["statuses"].items())
    console.print(f"\nThe local APNs saw {gateway['pushes']:,} pushes and answered {answers}.")
    console.print(
        "Every push is accounted for." if result["whole"] else "The outcomes do not match what the gateway saw!",
        style="bold green" if result["whole"] else "bold red",
    )


def _print_hints(url: str, state: Path, manifest: dict[str, Any], result: dict[str, Any]) -> None:
    key_file, first = state / "admin.key", result["sends"][0]["id"]
    auth = f'-H "Authorization: Bearer $(cat {key_file})" -H "Pushd-App: 1"'
    send = '{"audience": {"type": "users", "ids": ["user-0"]}, "message": {"title": "Hello", "body": "from curl"}}'
    lines = [
        "\nIt goes on running until Ctrl-C. Try:\n",
        f"  curl {auth} -H 'Content-Type: application/json' -d '{send}' {url}/pushd/v1/notifications",
        f"  curl {auth} {url}/pushd/v1/notifications/{first}",
        f"  curl {auth} '{url}/pushd/v1/notifications/{first}/devices?outcome=unregistered'",
        f"  curl http://127.0.0.1:{manifest['control_port']}/pushes?token={'0' * 64}",
        f"  curl {url}/metrics",
        f"  and in a browser: {url}/pushd/v1/docs\n",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
