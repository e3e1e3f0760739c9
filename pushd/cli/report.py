"""`pushd report`: what came of what was sent, and what of it is kept."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

import typer

from pushd.cli.client import Client
from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="report", help="What came of what was sent.", no_args_is_help=True)

Notification = Annotated[int, typer.Argument(help="The notification's id.")]

REASONS = ("count", "outcome", "gateway", "reason", "explanation")
TAGS = ("push_tag", "notifications", "targeted", "accepted", "failed", "opened", "clicked", "open_rate", "click_rate")
PAGE = 1000


class What(StrEnum):
    """What can be exported."""

    DEVICES = "devices"
    INSTALL_OPENS = "install-opens"
    USER_OPENS = "user-opens"
    RECEIPTS = "receipts"


class Format(StrEnum):
    """How."""

    NDJSON = "ndjson"
    CSV = "csv"


class Step(StrEnum):
    """By which steps of time."""

    MINUTE = "minute"
    MINUTES_5 = "5minutes"
    MINUTES_15 = "15minutes"
    HOUR = "hour"
    DAY = "day"


@commands.command("show")
@grouped
def one(daemon: Daemon, notification: Notification) -> None:
    """Show what came of a notification so far."""
    report = daemon.ask("GET", f"/notifications/{notification}/report")
    if daemon.json:
        daemon.show(report)
        return
    figures = ("name", "push_tag", "status", "sent", "received", "clicked", "closed", "open_rate", "click_rate")
    opens = {"opened": report["opens"]["installs"], "opened_in_all": report["opens"]["total"]}
    daemon.show({name: report[name] for name in figures} | opens | report["counts"])
    for rows, columns in (
        (report["reasons"], REASONS),
        (report["platforms"], ("platform", "targeted", "opened", "clicked")),
        (report["buttons"], ("button", "total", "installs")),
    ):
        if rows:
            daemon.show(rows, columns)


@commands.command()
@grouped
def series(
    daemon: Daemon,
    notification: Notification,
    step: Annotated[Step, typer.Option(help="By which steps of time (UTC).")] = Step.HOUR,
) -> None:
    """Show what devices reported of a notification, by time."""
    told = daemon.ask("GET", f"/notifications/{notification}/series", step=step.value)
    daemon.show(told if daemon.json else told["points"], ("start", "event", "total"))


@commands.command()
@grouped
def opens(
    daemon: Daemon,
    notification: Notification,
    users: Annotated[bool, typer.Option("--users", help="Users in place of installs.")] = False,
) -> None:
    """List who opened a notification, each with the first time; up to 1,000, more with `export`."""
    path = f"/notifications/{notification}/{'user' if users else 'install'}-opens"
    daemon.show(daemon.ask("GET", path, limit=PAGE)["items"], ("user_id" if users else "install_id", "opened_at"))


@commands.command()
@grouped
def why(
    daemon: Daemon, notification: Notification, device: Annotated[int, typer.Argument(help="The device's id.")]
) -> None:
    """Say why a device got a notification, or did not."""
    daemon.show(daemon.ask("GET", f"/notifications/{notification}/devices/{device}"))


@commands.command()
@grouped
def tags(daemon: Daemon) -> None:
    """List push tags, and how much was sent under each."""
    daemon.show(daemon.ask("GET", "/push-tags", limit=PAGE)["items"], ("push_tag", "notifications", "last_at"))


@commands.command()
@grouped
def compare(
    daemon: Daemon,
    tags: Annotated[list[str], typer.Argument(help="Push tags.")],
    newest: Annotated[int, typer.Option(help="Notifications of each tag.", min=1, max=200)] = 50,
) -> None:
    """Compare what came of notifications by their push tags."""
    named = "&".join(f"tag={quote(tag, safe='')}" for tag in tags)
    daemon.show(daemon.ask("GET", f"/push-tags/compare?{named}&newest={newest}")["items"], TAGS)


@commands.command()
@grouped
def export(
    daemon: Daemon,
    notification: Notification,
    what: Annotated[What, typer.Option(help="Devices with outcomes, openings, or receipts.")] = What.DEVICES,
    format: Annotated[Format, typer.Option(help="Lines of JSON, or CSV.")] = Format.NDJSON,  # noqa: A002  # an option's name
    output: Annotated[Path | None, typer.Option("--output", help="A file in place of the standard output.")] = None,
) -> None:
    """Write outcomes by device, openings or receipts, row by row."""
    path = f"/notifications/{notification}/export?what={what.value}&format={format.value}"
    with ExitStack() as stack:
        file: BinaryIO = sys.stdout.buffer if output is None else stack.enter_context(output.open("wb"))
        asyncio.run(_export(daemon.client(), path, file))


@commands.command()
@grouped
def erase(daemon: Daemon, user: Annotated[str, typer.Argument(help="External id of the user.")]) -> None:
    """Forget a user everywhere, his installs and devices included."""
    daemon.show(daemon.ask("POST", f"/users/{quote(user, safe='')}/erase"))


@commands.command()
@grouped
def erasures(daemon: Daemon) -> None:
    """List erasures of users, and which are finished."""
    columns = ("id", "installs", "devices", "requested_at", "finished_at")
    daemon.show(daemon.ask("GET", "/erasures", limit=PAGE)["items"], columns)


async def _export(client: Client, path: str, file: Any) -> None:
    async with client:
        async for piece in client.download(path):
            file.write(piece)
    file.flush()
