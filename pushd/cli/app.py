"""`pushd app`: tenants and their settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pushd.cli.client import ask
from pushd.cli.output import show
from pushd.cli.settings import DEFAULT_URL, AsJson, KeyFile, Url

commands = typer.Typer(name="app", help="Apps (tenants) and their settings.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The app's id.")]
COLUMNS = ("id", "name", "settings", "created_at")


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    title: Annotated[str | None, typer.Option(help="Default title of messages.")] = None,
    time_zone: Annotated[str, typer.Option(help="IANA name; for devices that have none.")] = "UTC",
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Make an app."""
    settings: dict[str, Any] = {"time_zone": time_zone}
    if title is not None:
        settings["default_title"] = title
    show(ask(url, key_file, None, "POST", "/apps", {"name": name, "settings": settings}), as_json=json)


@commands.command("list")
def listing(url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False) -> None:
    """List the apps."""
    show(ask(url, key_file, None, "GET", "/apps", limit=1000)["items"], as_json=json, columns=COLUMNS)


@commands.command("show")
def one(app: Identity, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False) -> None:
    """Show an app."""
    show(ask(url, key_file, None, "GET", f"/apps/{app}"), as_json=json)


@commands.command()
def delete(
    app: Identity,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
) -> None:
    """Delete an app with everything that belongs to it."""
    if not yes:
        typer.confirm(f"Delete app {app} with its devices, users and notifications?", abort=True)
    ask(url, key_file, None, "DELETE", f"/apps/{app}")
