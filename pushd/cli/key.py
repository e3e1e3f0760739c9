"""`pushd key`: API keys."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pushd.cli.offline import offline_store
from pushd.cli.options import grouped
from pushd.cli.output import show
from pushd.cli.reach import Daemon
from pushd.cli.settings import AsJson, Setup
from pushd.model.app import Role

commands = typer.Typer(name="key", help="API keys. Only the answer that makes a key shows it.", no_args_is_help=True)

COLUMNS = ("id", "app_id", "role", "name", "hint", "revoked_at")


@commands.command()
@grouped
def create(
    daemon: Daemon,
    role: Annotated[Role, typer.Argument(help="server: send and administer; device: register and report only.")],
    name: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Make a key and show it, once."""
    daemon.show(daemon.ask("POST", "/keys", {"role": role, "name": name}))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List keys, without their secrets."""
    daemon.show(daemon.ask("GET", "/keys", limit=1000)["items"], COLUMNS)


@commands.command()
@grouped
def revoke(daemon: Daemon, key: Annotated[int, typer.Argument(help="The key's id.")]) -> None:
    """Make a key useless, at once."""
    daemon.show(daemon.ask("POST", f"/keys/{key}/revoke"))


@commands.command()
@grouped
def admin(
    setup: Setup,
    name: Annotated[str, typer.Option(help="For people.")] = "made by pushd key admin",
    json: AsJson = False,
) -> None:
    """Make an admin key in the database itself: where the first one was lost."""

    async def make() -> dict[str, object]:
        async with offline_store(setup.load().config) as store:
            key, secret = await store.keys.create(None, Role.ADMIN, name)
            return {"id": key.id, "secret": secret}

    show(asyncio.run(make()), as_json=json)
