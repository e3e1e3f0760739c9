"""`pushd doctor`: looks at what a daemon needs, and says of each thing whether it is there."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pushd.cli.client import Client
from pushd.cli.offline import offline_server
from pushd.cli.options import grouped
from pushd.cli.reach import Installation
from pushd.cli.settings import Setup
from pushd.config import Config
from pushd.credentials.vault import load_master_key
from pushd.errors import PushdError, UnavailableError
from pushd.scheduler.zones import database
from pushd.store.database import Database
from pushd.store.migrations import status

DESCRIPTORS_MIN = 4096
IDS_SHOWN = 5
"""Of rows that differ; --json has no more, the API a hundred."""
COLUMNS = ("check", "ok", "detail")


@grouped
def doctor(
    daemon: Installation,
    setup: Setup,
    index: Annotated[
        bool, typer.Option("--index", help="Compare the index of a running daemon with its database instead.")
    ] = False,
) -> None:
    """Check configuration, directories, master key, PostgreSQL and limits; exit status 1 when something is wrong.

    With --index, which needs an admin key: what the daemon has in memory, against the tables.
    """
    findings = asyncio.run(_index(daemon.client()) if index else _examine(setup.load().config))
    daemon.show(findings, COLUMNS)
    if not all(each["ok"] for each in findings):
        raise typer.Exit(1)


async def _index(client: Client) -> list[dict[str, Any]]:
    """A finding for each sort of difference, and one for what was compared; UnavailableError when it is cut off."""
    findings = []
    async with client:
        async for line in client.lines("/index/check", None):
            if line.get("type") == "difference":
                ids = ", ".join(map(str, line["ids"][:IDS_SHOWN])) + (" …" if line["count"] > IDS_SHOWN else "")
                what = f"{line['of']}: {line['what']}" if line["what"] else line["of"]
                findings.append(_finding(what, False, f"{line['count']:,} differ from the database: {ids}"))
            elif line.get("type") == "summary":
                compared = f"{line['devices']:,} devices and {line['users']:,} users compared"
                unsettled = f"; {line['unsettled']:,} changed all the while" if line["unsettled"] else ""
                findings.append(_finding("index", not line["differences"], compared + unsettled))
                return findings
            else:
                raise UnavailableError(f"The check ended early: {line.get('detail', 'no explanation')}")
    raise UnavailableError("The check was cut off")


async def _examine(config: Config) -> list[dict[str, Any]]:
    findings = [
        _finding("configuration", True, "valid"),
        _data_directory(Path(config.store.data_dir)),
        _master_key(config),
        _descriptors(),
        _time_zones(),
    ]
    findings += [finding async for finding in _database(config)]
    return findings


def _data_directory(path: Path) -> dict[str, Any]:
    if not path.exists():
        return _finding("data directory", True, f"{path} will be made")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o066:
        return _finding("data directory", False, f"{path} has mode {mode:o}: others can look in; make it 700")
    writable = os.access(path, os.W_OK)
    return _finding("data directory", writable, str(path) if writable else f"{path} cannot be written")


def _master_key(config: Config) -> dict[str, Any]:
    if not Path(config.store.data_dir).exists() and not config.secrets.master_key_file:
        return _finding("master key", True, "will be made")
    try:
        load_master_key(config.secrets, config.store.data_dir, os.environ.get("CREDENTIALS_DIRECTORY"))
    except PushdError as error:
        return _finding("master key", False, error.detail)
    return _finding("master key", True, "readable")


def _descriptors() -> dict[str, Any]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft >= DESCRIPTORS_MIN
    return _finding("open files", enough, f"{soft}" if enough else f"{soft}: raise it to {DESCRIPTORS_MIN} or more")


def _time_zones() -> dict[str, Any]:
    found = database()
    return _finding("time zones", True, f"{found.version} ({found.source})")


async def _database(config: Config) -> AsyncIterator[dict[str, Any]]:
    try:
        async with offline_server(config) as dsn:
            database = Database(config.store, dsn)
            await database.start()
            try:
                version = await database.fetchval("SHOW server_version")
                yield _finding("PostgreSQL", True, str(version))
                waiting = [each.name for each in await status(database) if each.applied_at is None]
                yield _finding("schema", True, f"{len(waiting)} migrations to apply" if waiting else "up to date")
            finally:
                await database.stop()
    except PushdError as error:
        yield _finding("PostgreSQL", False, error.detail)


def _finding(check: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"check": check, "ok": ok, "detail": detail}
