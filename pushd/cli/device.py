"""`pushd device`: registrations, one or a file of them, and what a device got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pushd.cli.options import grouped
from pushd.cli.output import console
from pushd.cli.reach import Daemon
from pushd.model.device import Environment, Kind, Platform, Shape

commands = typer.Typer(name="device", help="Devices and their history.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The device's id.")]
COLUMNS = ("id", "install_id", "kind", "environment", "bundle", "shape", "user_id", "reachable", "tags")
CHUNK_BYTES = 1 << 18


@commands.command()
@grouped
def register(
    daemon: Daemon,
    install: Annotated[str, typer.Argument(help="Id of the install, the client's own.")],
    token: Annotated[str, typer.Argument(help="The address that the platform gave.")],
    kind: Annotated[Kind, typer.Option(help="What sort of address it is.")] = Kind.APNS,
    bundle: Annotated[str, typer.Option(help="Bundle or package id.")] = "",
    environment: Annotated[Environment, typer.Option(help="Where the token is valid.")] = Environment.PRODUCTION,
    user: Annotated[str | None, typer.Option(help="External id of the user.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may repeat.")] = None,
    alias: Annotated[str | None, typer.Option(help="Another name of the install.")] = None,
    platform: Annotated[Platform | None, typer.Option(help="What the install runs on.")] = None,
    shape: Annotated[
        Shape | None, typer.Option(help="The vendor whose client SDK reads its payloads; '' is pushd's own.")
    ] = None,
) -> None:
    """Register one device; the newest registration of an address wins."""
    body: dict[str, Any] = {
        "install_id": install,
        "token": token,
        "kind": kind,
        "bundle": bundle,
        "environment": environment,
    }
    if user is not None:
        body["user_id"] = user
    if tag:
        body["tags"] = tag
    if alias is not None:
        body["alias"] = alias
    if platform is not None:
        body["platform"] = platform
    if shape is not None:
        body["shape"] = shape
    daemon.show(daemon.ask("PUT", "/devices", body))


@commands.command("import")
@grouped
def bulk(
    daemon: Daemon,
    file: Annotated[Path, typer.Argument(help="NDJSON: one registration a line.", exists=True, dir_okay=False)],
) -> None:
    """Register a file of devices; lines that are refused are reported, the others are registered."""
    summary, rejects = asyncio.run(_import(daemon, file))
    daemon.show({**summary, "rejects": rejects})


@commands.command("list")
@grouped
def listing(
    daemon: Daemon,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
) -> None:
    """List devices."""
    found = daemon.ask("GET", "/devices", limit=limit, user_id=user)
    daemon.show(found["items"], COLUMNS)


@commands.command()
@grouped
def inspect(daemon: Daemon, device: Identity) -> None:
    """Show a device and what was sent to it last."""
    shown = daemon.ask("GET", f"/devices/{device}")
    history = daemon.ask("GET", f"/devices/{device}/history")
    daemon.show({**shown, "history": history["items"]})


@commands.command()
@grouped
def badge(
    daemon: Daemon, device: Identity, count: Annotated[int, typer.Argument(help="What it shows now; 0: nothing.")] = 0
) -> None:
    """Set the badge that is counted for a device."""
    daemon.ask("PUT", f"/devices/{device}/badge", {"count": count})
    daemon.show({"id": device, "badge": count})


@commands.command()
@grouped
def delete(daemon: Daemon, device: Identity) -> None:
    """Forget a device."""
    daemon.ask("DELETE", f"/devices/{device}")


async def _import(daemon: Daemon, file: Path) -> tuple[Any, list[Any]]:
    columns = (TextColumn("registering"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    rejects: list[Any] = []
    last: Any = {}
    with Progress(*columns, console=console, disable=daemon.json) as progress:
        task = progress.add_task("registering", total=file.stat().st_size)

        async def lines() -> AsyncIterator[bytes]:
            with file.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    progress.advance(task, len(chunk))
                    yield chunk

        async with daemon.client() as client:
            async for line in client.stream("/devices/bulk", lines()):
                if "errors" in line or "error" in line:
                    rejects.append(line)
                else:
                    last = line
    return last, rejects
