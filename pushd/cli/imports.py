"""`pushd import`: files of users and subscribers, uploaded in parts, gone on with where they broke off, and watched."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pushd.cli.client import Client
from pushd.cli.options import grouped
from pushd.cli.output import console
from pushd.cli.reach import Daemon
from pushd.errors import ConflictError, UnavailableError

commands = typer.Typer(
    name="import", help="Files of users and subscribers, and how far they are.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(help="The file.", exists=True, dir_okay=False)]
Channel = Annotated[str, typer.Argument(help="The channel's uuid.")]
Identity = Annotated[int, typer.Argument(help="The import's id.")]
Resume = Annotated[int | None, typer.Option("--resume", help="Id of an import of this file, to go on with.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until every line is carried out.")]
OfInstalls = Annotated[bool, typer.Option("--installs", help="Its lines are ids of installs, not of users.")]
COLUMNS = ("id", "state", "lines", "done", "rejected", "job", "failure")
PART_BYTES = 1 << 20
"""Of a part; whole lines only."""
POLL_S = 0.3
REJECTS_SHOWN = 1_000
OPEN = frozenset({"uploading", "waiting", "running"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A file to be imported by one daemon."""

    daemon: Daemon
    file: Path
    job: dict[str, Any]
    resume: int | None
    wait: bool

    def run(self) -> None:
        """Carries it out and shows what came of it."""
        view = asyncio.run(self._run())
        self.daemon.show(view)
        if view["state"] in {"failed", "cancelled"}:
            raise typer.Exit(1)

    async def _run(self) -> Any:
        async with self.daemon.client() as client:
            view = await self._begun(client)
            try:
                if view["state"] == "uploading":
                    await self._upload(client, view["id"])
                    view = await client.call("POST", f"/imports/{view['id']}/start")
                if self.wait:
                    view = await self._watch(client, view["id"])
            except UnavailableError as error:
                raise UnavailableError(f"{error.detail}; go on with --resume {view['id']}") from None
            if view["rejected"]:
                path = f"/imports/{view['id']}/rejects"
                found = await client.call("GET", path, query={"limit": REJECTS_SHOWN})
                view["rejects"] = found["items"]
            return view

    async def _begun(self, client: Client) -> Any:
        """The import: a new one, or the one to go on with."""
        if self.resume is None:
            return await client.call("POST", "/imports", {"job": self.job})
        view = await client.call("GET", f"/imports/{self.resume}")
        if any(view["job"].get(name) != value for name, value in self.job.items()):
            raise ConflictError(f"import {self.resume} is another job: {view['job']}")
        return view

    async def _upload(self, client: Client, import_id: int) -> None:
        """Sends the parts that are not there yet."""
        there = await self._there(client, import_id)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=self.daemon.json) as progress:
            task = progress.add_task(f"import {import_id}: uploading", total=self.file.stat().st_size)
            for number, part in enumerate(parts(self.file), 1):
                digest = hashlib.sha256(part)
                if there.get(number) != digest.hexdigest():
                    headers = {
                        "Content-Type": "application/octet-stream",
                        "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
                    }
                    await client.put(f"/imports/{import_id}/parts/{number}", part, headers)
                progress.advance(task, len(part))

    async def _there(self, client: Client, import_id: int) -> dict[int, str]:
        """Digests of the parts that the daemon has, by number."""
        if self.resume is None:
            return {}
        found: dict[int, str] = {}
        cursor = None
        while True:
            query = {"limit": 1000, "cursor": cursor}
            page = await client.call("GET", f"/imports/{import_id}/parts", query=query)
            found |= {each["part"]: each["digest"] for each in page["items"]}
            cursor = page["next"]
            if cursor is None:
                return found

    async def _watch(self, client: Client, import_id: int) -> Any:
        """The import once it has ended."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=self.daemon.json) as progress:
            task = progress.add_task(f"import {import_id}: lines", total=None)
            while True:
                view = await client.call("GET", f"/imports/{import_id}")
                progress.update(task, total=view["lines"], completed=view["done"])
                if view["state"] not in OPEN:
                    return view
                await asyncio.sleep(POLL_S)


@commands.command()
@grouped
def users(
    daemon: Daemon,
    file: File,
    resume: Resume = None,
    wait: Wait = True,
) -> None:
    """Create and change the users of a file, and their channels: NDJSON, or CSV with a header where it ends in .csv."""
    form = "csv" if file.suffix.lower() == ".csv" else "ndjson"
    job = {"type": "users", "format": form}
    Errand(daemon=daemon, file=file, job=job, resume=resume, wait=wait).run()


@commands.command()
@grouped
def subscribe(
    daemon: Daemon,
    channel: Channel,
    file: File,
    installs: OfInstalls = False,
    resume: Resume = None,
    wait: Wait = True,
) -> None:
    """Subscribe the users of a file to a channel: one external id a line."""
    job = {"type": "subscribe", "channel": channel, "of": "installs" if installs else "users"}
    Errand(daemon=daemon, file=file, job=job, resume=resume, wait=wait).run()


@commands.command()
@grouped
def unsubscribe(
    daemon: Daemon,
    channel: Channel,
    file: File,
    installs: OfInstalls = False,
    resume: Resume = None,
    wait: Wait = True,
) -> None:
    """Take the users of a file off a channel."""
    job = {"type": "unsubscribe", "channel": channel, "of": "installs" if installs else "users"}
    Errand(daemon=daemon, file=file, job=job, resume=resume, wait=wait).run()


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


def parts(file: Path) -> Iterator[bytes]:
    """The parts of a file, always the same ones: whole lines, as many as fit."""
    with file.open("rb") as source:
        held = b""
        while chunk := source.read(PART_BYTES - len(held)):
            held += chunk
            at = held.rfind(b"\n") + 1
            if len(held) == PART_BYTES and not at:
                raise typer.BadParameter(f"{file} has a line of more than {PART_BYTES} bytes")
            if len(held) == PART_BYTES:
                yield held[:at]
                held = held[at:]
        if held:
            yield held
