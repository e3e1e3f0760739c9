"""`pushd migrate`: the database schema, applied or only looked at."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from pushd.cli.offline import offline_server
from pushd.cli.options import grouped
from pushd.cli.output import show
from pushd.cli.settings import AsJson, Setup
from pushd.config import Config
from pushd.store.database import Database
from pushd.store.migrations import migrate as apply
from pushd.store.migrations import status


@grouped
def migrate(
    setup: Setup,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; say what is applied and what is not.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Bring the database schema up to date."""
    rows = asyncio.run(_migrate(setup.load().config, check=check))
    show(rows, as_json=json, columns=("number", "name", "applied"))


async def _migrate(config: Config, *, check: bool) -> list[dict[str, Any]]:
    async with offline_server(config) as dsn:
        database = Database(config.store, dsn)
        await database.start()
        try:
            if not check:
                await apply(database)
            return [
                {"number": each.number, "name": each.name, "applied": each.applied_at is not None}
                for each in await status(database)
            ]
        finally:
            await database.stop()
