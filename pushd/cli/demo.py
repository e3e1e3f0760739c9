"""`pushd demo`: the whole of pushd on one machine, from REST sends to pushes of every kind, and what became of each."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections import Counter
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
from pushd.cli.demo_devices import TAG, Vendors, add_credentials, registrations
from pushd.cli.output import console, show, table
from pushd.cli.settings import AsJson

POLL_S = 0.2
PATIENCE_S = 120.0
CLEARING_S = 10.0
VENDORS = ("vendor", "accepted", "arrived")
COLUMNS = ("send", "targeted", "accepted", "unregistered", "failed", "pending", "seconds", "per_second")


def demo(
    devices: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many devices to register.")] = 5_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running, and print what to try.")] = False,
    json: AsJson = False,
) -> None:
    """Run pushd against local vendors: register devices, send, and show what became of every push."""
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
            simulator, vendors = await _start_vendors(stack, state, devices)
            daemon, url, key = await _start_daemon(stack, state, vendors.manifest)
            client, public_key = await _make_app(stack, url, key, vendors.manifest)
            result = await _show_off(client, vendors, devices, public_key, quiet=quiet)
            if not quiet:
                _print(result)
            if keep:
                _print_hints(url, state, vendors.manifest, result)
                await asyncio.wait({daemon.ended, simulator.ended}, return_when=asyncio.FIRST_COMPLETED)
            return result
    finally:
        _remove(state)


def _remove(state: Path) -> None:
    """Removes what the demo kept; an initdb that was interrupted may be clearing up in there at the same time."""
    until = time.monotonic() + CLEARING_S
    while state.exists() and time.monotonic() < until:
        shutil.rmtree(state, ignore_errors=True)


async def _start_vendors(stack: AsyncExitStack, state: Path, devices: int) -> tuple[Child, Vendors]:
    """The running vendors, whose faults are set."""
    names = ("port", "sandbox-port", "control-port", "others-port")
    ports = [argument for name in names for argument in (f"--{name}", "0")]
    child = await spawn(stack, "simulate", "--state", str(state / "apns"), *ports, "--with-parent", "--json")
    session = await stack.enter_async_context(aiohttp.ClientSession())
    vendors = Vendors(session, orjson.loads(await child.line(PATIENCE_S)))
    if devices > 1:
        await vendors.script()
    return child, vendors


async def _start_daemon(stack: AsyncExitStack, state: Path, manifest: dict[str, Any]) -> tuple[Child, str, str]:
    """A running daemon, its URL and its admin key."""
    port, key_file = free_port(), state / "admin.key"
    settings = manifest["environ"] | {"PUSHD__TELEMETRY__LOG_LEVEL": "warning", "PUSHD__FCM__RAMP_S": "0"}
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


async def _make_app(stack: AsyncExitStack, url: str, admin_key: str, manifest: dict[str, Any]) -> tuple[Client, str]:
    """A client with a server key of a new app that has the vendors' credentials, and its VAPID key."""
    admin = await stack.enter_async_context(Client(url, admin_key))
    app = await admin.call("POST", "/apps", {"name": "Orchard", "settings": {"default_title": "Orchard"}})
    owner = await stack.enter_async_context(Client(url, admin_key, app["id"]))
    public_key = await add_credentials(owner, manifest)
    made = await owner.call("POST", "/keys", {"role": "server", "name": "demo"})
    return await stack.enter_async_context(Client(url, made["secret"])), public_key


async def _show_off(client: Client, vendors: Vendors, devices: int, public_key: str, *, quiet: bool) -> dict[str, Any]:
    """Registers, sends to all, some and one, mails, and gathers the outcomes."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet) as progress:
        registered_s = await _register(client, vendors, devices, public_key, progress)
        sends = [
            await _send(client, progress, "broadcast", {"type": "broadcast"}),
            await _send(client, progress, f"tag {TAG}", {"type": "tags", "any": [TAG]}),
            await _send(client, progress, "one user", {"type": "users", "ids": ["user-0"]}),
            await _send(client, progress, "mail", {"type": "broadcast"}, push_type="email"),
        ]
    arrived, violations = await vendors.accepted(), await vendors.violations()
    accepted: Counter[str] = Counter()
    for send in sends:
        accepted.update(send.pop("by_vendor"))
    rows = [{"vendor": name, "accepted": accepted[name], "arrived": arrived[name]} for name in arrived]
    whole = all(row["accepted"] == row["arrived"] for row in rows) and not any(send["pending"] for send in sends)
    return {
        "devices": devices,
        "registered_per_second": round(devices / registered_s),
        "sends": sends,
        "vendors": rows,
        "violations": violations,
        "whole": whole and not violations,
    }


async def _register(client: Client, vendors: Vendors, devices: int, public_key: str, progress: Progress) -> float:
    """Seconds that it took to register so many devices through the API."""
    task = progress.add_task("registering devices", total=devices)
    begun = perf_counter()
    async for line in client.stream("/devices/bulk", registrations(devices, vendors, public_key)):
        if line["type"] == "reject":
            raise AssertionError(line)
        progress.update(task, completed=line["accepted"])
    return perf_counter() - begun


async def _send(
    client: Client, progress: Progress, name: str, audience: dict[str, Any], push_type: str = "alert"
) -> dict[str, Any]:
    """One send, watched to its end."""
    task = progress.add_task(name, total=None)
    begun = perf_counter()
    message: dict[str, Any] = {"body": f"For {name}.", "push_type": push_type}
    if push_type == "alert":
        message["data"] = {"demo": True}
    sent = await client.call("POST", "/notifications", {"audience": audience, "message": message})
    while True:
        view = await client.call("GET", f"/notifications/{sent['id']}")
        counts = view["counts"]
        progress.update(task, total=counts["targeted"], completed=counts["targeted"] - counts["pending"])
        if view["state"] == "done" or perf_counter() - begun > PATIENCE_S:
            break
        await asyncio.sleep(POLL_S if counts["targeted"] > 10 else 0.01)
    seconds = perf_counter() - begun
    reasons: Counter[str] = Counter()
    for reason in view["reasons"]:
        reasons[reason["reason"]] += reason["count"]
    accepted = {reason["gateway"]: reason["count"] for reason in view["reasons"] if reason["outcome"] == "accepted"}
    unregistered = sum(reason["count"] for reason in view["reasons"] if reason["outcome"] == "unregistered")
    return {
        "send": name,
        "id": sent["id"],
        **counts,
        "failed": counts["failed"] - unregistered,
        "unregistered": unregistered,
        "reasons": reasons,
        "by_vendor": accepted,
        "seconds": round(seconds, 3),
        "per_second": round((counts["targeted"] - counts["pending"]) / seconds),
    }


def _print(result: dict[str, Any]) -> None:
    console.print(f"\nRegistered {result['devices']:,} devices, {result['registered_per_second']:,} a second.\n")
    table(result["sends"], COLUMNS)
    console.print("\nWhat pushd counts as accepted, and what arrived at each local vendor:\n")
    table(result["vendors"], VENDORS)
    console.print()
    console.print(
        "Every push is accounted for." if result["whole"] else "The outcomes do not match what the vendors saw!",
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
