"""`pushd app`: tenants and their settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Installation

commands = typer.Typer(name="app", help="Apps (tenants) and their settings.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The app's id.")]
COLUMNS = ("id", "name", "settings", "created_at")


@commands.command()
@grouped
def create(
    daemon: Installation,
    name: Annotated[str, typer.Argument(help="A name for people.")],
    title: Annotated[str | None, typer.Option(help="Default title of messages.")] = None,
    time_zone: Annotated[str, typer.Option(help="IANA name; for devices that have none.")] = "UTC",
) -> None:
    """Make an app."""
    settings: dict[str, Any] = {"time_zone": time_zone}
    if title is not None:
        settings["default_title"] = title
    daemon.show(daemon.ask("POST", "/apps", {"name": name, "settings": settings}))


@commands.command("list")
@grouped
def listing(daemon: Installation) -> None:
    """List the apps."""
    daemon.show(daemon.ask("GET", "/apps", limit=1000)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Installation, app: Identity) -> None:
    """Show an app."""
    daemon.show(daemon.ask("GET", f"/apps/{app}"))


@commands.command()
@grouped
def delete(
    daemon: Installation,
    app: Identity,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an app with everything that belongs to it."""
    if not yes:
        typer.confirm(f"Delete app {app} with its devices, users and notifications?", abort=True)
    daemon.ask("DELETE", f"/apps/{app}")
