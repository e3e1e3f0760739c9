"""`pushd import --from`: exports of other services and files of devices, converted here, carried out by the daemon."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import orjson
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pushd.cli.client import Client
from pushd.cli.errand import PART_BYTES, Course, Errand, Part
from pushd.cli.exports.externals import Externals
from pushd.cli.exports.records import Conversion
from pushd.cli.exports.rejects import Rejects
from pushd.cli.exports.rows import Rows
from pushd.cli.exports.services import SERVICES
from pushd.cli.options import grouped
from pushd.cli.output import console, table
from pushd.cli.reach import Daemon
from pushd.errors import InvalidRequestError

CHUNK_BYTES = 1 << 18
"""Of a dry run's stream."""
LISTED = ("rejects", "reasons")
ROWS_SHOWN = 20
WITH_USERS = "connectycube"
"""The service whose devices name users by numbers that another export gives external ids for."""

From = Annotated[str, typer.Argument(metavar="SERVICE", help=f"One of {', '.join(SERVICES)}.")]
File = Annotated[Path, typer.Argument(help="CSV, NDJSON or JSON.", exists=True, dir_okay=False)]
Mapped = Annotated[list[str], typer.Option("--map", metavar="COLUMN=FIELD", help="What a column says; again for more.")]
Fixed = Annotated[
    list[str], typer.Option("--set", metavar="FIELD=VALUE", help="What rows say that do not say it; again for more.")
]
Form = Annotated[
    Literal["csv", "ndjson", "json"] | None, typer.Option("--format", help="Of the file; found out where not said.")
]
UsersFile = Annotated[
    Path | None,
    typer.Option("--users", help="ConnectyCube's users, for their external ids.", exists=True, dir_okay=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would come of it; nothing is written.")]
RejectsFile = Annotated[
    Path | None,
    typer.Option("--rejects", help="Where rejected rows are written, to be corrected and fed again."),
]
CreateChannels = Annotated[
    bool, typer.Option("--create-channels/--no-create-channels", help="Whether channels that are not there are made.")
]


@grouped
def import_from(
    daemon: Daemon,
    course: Course,
    service: From,
    file: File,
    mapped: Mapped = [],  # noqa: B006  # typer makes a new one each time
    fixed: Fixed = [],  # noqa: B006  # as above
    form: Form = None,
    users: UsersFile = None,
    dry_run: DryRun = False,
    rejects: RejectsFile = None,
    create_channels: CreateChannels = True,
) -> None:
    """Import what another service exported, or a file of devices: devices, users, tags, channels and subscriptions."""
    if service not in SERVICES:
        raise typer.BadParameter(f"{service} is none of {', '.join(SERVICES)}")
    if users is not None and service != WITH_USERS:
        raise typer.BadParameter(f"--users is for {WITH_USERS}")
    if rejects is not None and not course.wait:
        raise typer.BadParameter("--rejects has to wait: which rows are rejected is known at the end")
    if rejects is not None and rejects.exists() and rejects.samefile(file):
        raise typer.BadParameter("--rejects would write over the file itself")
    conversion = Conversion(
        SERVICES[service],
        Rows(file, form),
        _pairs("--map", mapped),
        _pairs("--set", fixed),
        None if users is None else Externals(SERVICES[service], users),
    )
    options = orjson.dumps([sorted(mapped), sorted(fixed), form, users is not None, file.stat().st_size])
    source = f"{service} {file.name[:150]} {hashlib.sha256(options).hexdigest()[:12]}"
    move = Move(
        daemon=daemon,
        conversion=conversion,
        job={"type": "records", "create_channels": create_channels, "source": source},
        rejects=rejects,
        course=course,
    )
    view = asyncio.run(move.check() if dry_run else move.run())
    _show(daemon, view)
    if view.get("state") in {"failed", "cancelled"}:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A file that moves to one daemon."""

    daemon: Daemon
    conversion: Conversion
    job: dict[str, Any]
    rejects: Path | None
    course: Course

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self.conversion.rows.path.stat().st_size

    async def run(self) -> Any:
        """The import, and which rows were rejected."""
        errand = Errand(daemon=self.daemon, job=self.job, parts=self.parts, size=self.size, course=self.course)
        async with self.daemon.client() as client:
            view = await errand.run(client)
            return await self._report(view, _refused(client, view)) if self.course.wait else view

    async def check(self) -> Any:
        """What an import would come to, and which rows would be rejected."""
        made = str(self.job["create_channels"]).lower()
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with tempfile.TemporaryFile() as spool:
            async with self.daemon.client() as client:
                with Progress(*columns, console=console, disable=self.daemon.json) as progress:
                    task = progress.add_task("dry run", total=self.size)
                    summary = None
                    async for told in client.stream(f"/imports/check?create_channels={made}", self._chunks()):
                        progress.update(task, completed=self.conversion.rows.position)
                        if told["type"] == "reject":
                            spool.write(orjson.dumps([told["line"], told["reason"]]) + b"\n")
                        elif told["type"] == "summary":
                            summary = told
            if summary is None:
                raise InvalidRequestError("The dry run was cut off: its answer has no summary")
            spool.seek(0)
            view = {"dry_run": True} | {name: value for name, value in summary.items() if name not in {"type", "lines"}}
            return await self._report(view, _spooled(spool))

    def parts(self) -> Iterator[Part]:
        """The parts of the upload, always the same ones."""
        held: list[bytes] = []
        size = 0
        for made in self.conversion:
            if size + len(made.line) >= PART_BYTES:
                yield Part(b"\n".join(held) + b"\n", self.conversion.rows.position)
                held, size = [], 0
            held.append(made.line)
            size += len(made.line) + 1
        if not held:
            raise InvalidRequestError("The file has no rows")
        yield Part(b"\n".join(held) + b"\n", self.size)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """The same lines, as a stream."""
        for part in self.parts():
            for at in range(0, len(part.body), CHUNK_BYTES):
                yield part.body[at : at + CHUNK_BYTES]

    async def _report(self, view: dict[str, Any], refused: AsyncIterator[tuple[int, str]]) -> Any:
        """What became of the file: its rows are gone through once more, beside the lines that the daemon refused."""
        rows = 0
        coming = await anext(refused, None)
        with Rejects(self.conversion, self.rejects) as rejects:
            for made in self.conversion:
                rows += 1
                fault = made.fault
                while coming is not None and coming[0] < made.row.number:
                    coming = await anext(refused, None)
                if fault is None and coming is not None and coming[0] == made.row.number:
                    fault = rejects.fault_of(made, coming[1])
                if fault is not None:
                    rejects.add(made, fault)
        before = view.get("rejected", 0)
        found = view | {"rows": rows, "rejected": rejects.own + before}
        if missed := before - (rejects.count - rejects.own):
            found["rejects_not_kept"] = missed
        if self.conversion.unused:
            found["unused_columns"] = self.conversion.unused
        if self.rejects is not None:
            found["rejects_file"] = str(self.rejects)
        return found | {"reasons": dict(rejects.reasons.most_common()), "rejects": rejects.shown}


async def _refused(client: Client, view: dict[str, Any]) -> AsyncIterator[tuple[int, str]]:
    """Lines that the daemon refused and keeps, ascending, and why."""
    cursor = None
    while view["rejected"]:
        query = {"limit": 1000, "cursor": cursor}
        page = await client.call("GET", f"/imports/{view['id']}/rejects", query=query)
        for each in page["items"]:
            yield each["line"], each["reason"]
        cursor = page["next"]
        if cursor is None:
            return


async def _spooled(spool: IO[bytes]) -> AsyncIterator[tuple[int, str]]:
    """The same of a dry run."""
    for raw in spool:
        line, reason = orjson.loads(raw)
        yield line, reason


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    """What options of the form NAME=VALUE say."""
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{option} {each}: it takes NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _show(daemon: Daemon, view: dict[str, Any]) -> None:
    """Prints what came of a file, and for people what was wrong with its first rows."""
    if daemon.json or "reasons" not in view:
        daemon.show(view)
        return
    daemon.show({name: value for name, value in view.items() if name not in LISTED})
    if view["reasons"]:
        table([{"rows": count, "reason": reason} for reason, count in view["reasons"].items()], ("rows", "reason"))
        table(view["rejects"][:ROWS_SHOWN], ("line", "column", "reason"))
