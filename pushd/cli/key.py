"""`pushd key`: API keys."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pushd.cli.client import ask
from pushd.cli.offline import offline_store
from pushd.cli.output import show
from pushd.cli.settings import DEFAULT_URL, AppId, AsJson, ConfigPath, DataDir, Dsn, KeyFile, Url, configuration
from pushd.model.app import Role

commands = typer.Typer(name="key", help="API keys. Only the answer that makes a key shows it.", no_args_is_help=True)

COLUMNS = ("id", "app_id", "role", "name", "hint", "revoked_at")


@commands.command()
def create(
    role: Annotated[Role, typer.Argument(help="server: send and administer; device: register and report only.")],
    name: Annotated[str, typer.Option(help="For people.")] = "",
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Make a key and show it, once."""
    show(ask(url, key_file, app, "POST", "/keys", {"role": role, "name": name}), as_json=json)


@commands.command("list")
def listing(app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False) -> None:
    """List keys, without their secrets."""
    show(ask(url, key_file, app, "GET", "/keys", limit=1000)["items"], as_json=json, columns=COLUMNS)


@commands.command()
def revoke(
    key: Annotated[int, typer.Argument(help="The key's id.")],
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Make a key useless, at once."""
    show(ask(url, key_file, app, "POST", f"/keys/{key}/revoke"), as_json=json)


@commands.command()
def admin(
    name: Annotated[str, typer.Option(help="For people.")] = "made by pushd key admin",
    config: ConfigPath = None,
    data_dir: DataDir = None,
    dsn: Dsn = None,
    json: AsJson = False,
) -> None:
    """Make an admin key in the database itself: where the first one was lost."""

    async def make() -> dict[str, object]:
        async with offline_store(configuration(config, data_dir, dsn).config) as store:
            key, secret = await store.keys.create(None, Role.ADMIN, name)
            return {"id": key.id, "secret": secret}

    show(asyncio.run(make()), as_json=json)
