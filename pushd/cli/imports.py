"""`pushd import`: files of users, devices and subscribers, uploaded in parts, gone on with after a break, watched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pushd.cli import import_from
from pushd.cli.errand import PART_BYTES, Course, Errand, Part
from pushd.cli.options import grouped
from pushd.cli.reach import Daemon


class ImportGroup(TyperGroup):
    """Takes `pushd import --from SERVICE FILE` for `pushd import from SERVICE FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is left of the arguments; whoever names a command has said it."""
        if args and args[0] not in self.commands:
            at = next((place for place, each in enumerate(args) if each.split("=")[0] == FROM), None)
            if at is not None:
                name, _, service = args[at].partition("=")
                rest = args[at + 1 :]
                args = [name.removeprefix("--"), *([service] if service else rest[:1]), *args[:at]]
                args += rest if service else rest[1:]
        return super().parse_args(ctx, args)


FROM = "--from"
commands = typer.Typer(
    name="import",
    help="Files of users, devices and subscribers, also those of other services: `pushd import --from SERVICE FILE`.",
    no_args_is_help=True,
    cls=ImportGroup,
)
commands.command("from")(import_from.import_from)

File = Annotated[Path, typer.Argument(help="The file.", exists=True, dir_okay=False)]
Channel = Annotated[str, typer.Argument(help="The channel's uuid.")]
Identity = Annotated[int, typer.Argument(help="The import's id.")]
OfInstalls = Annotated[bool, typer.Option("--installs", help="Its lines are ids of installs, not of users.")]
COLUMNS = ("id", "state", "lines", "done", "rejected", "job", "failure")
REJECTS_SHOWN = 1_000


def carry_out(daemon: Daemon, file: Path, job: dict[str, Any], course: Course) -> None:
    """Imports a file as it is, and shows what came of it."""
    errand = Errand(daemon=daemon, job=job, parts=partial(parts, file), size=file.stat().st_size, course=course)

    async def run() -> Any:
        async with daemon.client() as client:
            view = await errand.run(client)
            if view["rejected"]:
                path = f"/imports/{view['id']}/rejects"
                view["rejects"] = (await client.call("GET", path, query={"limit": REJECTS_SHOWN}))["items"]
            return view

    view = asyncio.run(run())
    daemon.show(view)
    if view["state"] in {"failed", "cancelled"}:
        raise typer.Exit(1)


@commands.command()
@grouped
def users(daemon: Daemon, course: Course, file: File) -> None:
    """Create and change the users of a file, and their channels: NDJSON, or CSV with a header where it ends in .csv."""
    form = "csv" if file.suffix.lower() == ".csv" else "ndjson"
    job = {"type": "users", "format": form}
    carry_out(daemon, file, job, course)


@commands.command()
@grouped
def subscribe(
    daemon: Daemon,
    course: Course,
    channel: Channel,
    file: File,
    installs: OfInstalls = False,
) -> None:
    """Subscribe the users of a file to a channel: one external id a line."""
    job = {"type": "subscribe", "channel": channel, "of": "installs" if installs else "users"}
    carry_out(daemon, file, job, course)


@commands.command()
@grouped
def unsubscribe(
    daemon: Daemon,
    course: Course,
    channel: Channel,
    file: File,
    installs: OfInstalls = False,
) -> None:
    """Take the users of a file off a channel."""
    job = {"type": "unsubscribe", "channel": channel, "of": "installs" if installs else "users"}
    carry_out(daemon, file, job, course)


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the imports, the newest first."""
    daemon.show(daemon.ask("GET", "/imports")["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, number: Identity) -> None:
    """Show how far an import is."""
    daemon.show(daemon.ask("GET", f"/imports/{number}"))


@commands.command()
@grouped
def rejects(daemon: Daemon, number: Identity) -> None:
    """Show the first lines that came to nothing, and why."""
    found = daemon.ask("GET", f"/imports/{number}/rejects", limit=REJECTS_SHOWN)
    daemon.show(found["items"], ("line", "value", "reason"))


@commands.command()
@grouped
def cancel(daemon: Daemon, number: Identity) -> None:
    """End an import; what was done stays."""
    daemon.show(daemon.ask("DELETE", f"/imports/{number}"))


def parts(file: Path) -> Iterator[Part]:
    """The parts of a file, always the same ones: whole lines, as many as fit."""
    position = 0
    with file.open("rb") as source:
        held = b""
        while chunk := source.read(PART_BYTES - len(held)):
            held += chunk
            at = held.rfind(b"\n") + 1
            if len(held) == PART_BYTES and not at:
                raise typer.BadParameter(f"{file} has a line of more than {PART_BYTES} bytes")
            if len(held) == PART_BYTES:
                position += at
                yield Part(held[:at], position)
                held = held[at:]
        if held:
            yield Part(held, position + len(held))
