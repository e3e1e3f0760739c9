"""An import from here: uploaded in parts, gone on with where it broke off, and watched until it has ended."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pushd.cli.client import Client
from pushd.cli.options import Options
from pushd.cli.output import console
from pushd.cli.reach import Daemon
from pushd.errors import ConflictError, UnavailableError

PART_BYTES = 1 << 20
"""Of a part; whole lines only."""
POLL_S = 0.3
OPEN = frozenset({"uploading", "waiting", "running"})


class Part(NamedTuple):
    """A part of an upload."""

    body: bytes
    position: int
    """How far the file was read for it, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course(Options):
    """Where an import goes on, and whether its end is waited for."""

    resume: Annotated[int | None, typer.Option("--resume", help="Id of an import of this file, to go on with.")] = None
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until everything is carried out.")] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What is to be imported by one daemon."""

    daemon: Daemon
    job: dict[str, Any]
    parts: Callable[[], Iterator[Part]]
    """The parts, always the same ones."""
    size: int
    """Of the file, in bytes."""
    course: Course

    async def run(self, client: Client) -> Any:
        """The import: carried out, or on its way where nobody waits for it. ConflictError, UnavailableError."""
        view = await self._begun(client)
        try:
            if view["state"] == "uploading":
                await self._upload(client, view["id"])
                view = await client.call("POST", f"/imports/{view['id']}/start")
            return await self._watch(client, view["id"]) if self.course.wait else view
        except UnavailableError as error:
            raise UnavailableError(f"{error.detail}; go on with --resume {view['id']}") from None

    async def _begun(self, client: Client) -> Any:
        """The import: a new one, or the one to go on with."""
        if self.course.resume is None:
            return await client.call("POST", "/imports", {"job": self.job})
        view = await client.call("GET", f"/imports/{self.course.resume}")
        if any(view["job"].get(name) != value for name, value in self.job.items()):
            raise ConflictError(f"import {self.course.resume} is another job: {view['job']}")
        return view

    async def _upload(self, client: Client, import_id: int) -> None:
        """Sends the parts that are not there yet, and makes the next one while one is on its way."""
        there = await self._there(client, import_id)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=self.daemon.json) as progress:
            task = progress.add_task(f"import {import_id}: uploading", total=self.size)
            parts, number = self.parts(), 0
            coming = asyncio.ensure_future(asyncio.to_thread(next, parts, None))
            while (part := await coming) is not None:
                coming = asyncio.ensure_future(asyncio.to_thread(next, parts, None))
                number += 1
                digest = hashlib.sha256(part.body)
                if there.get(number) != digest.hexdigest():
                    headers = {
                        "Content-Type": "application/octet-stream",
                        "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
                    }
                    await client.put(f"/imports/{import_id}/parts/{number}", part.body, headers)
                progress.update(task, completed=part.position)

    async def _there(self, client: Client, import_id: int) -> dict[int, str]:
        """Digests of the parts that the daemon has, by number."""
        if self.course.resume is None:
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
