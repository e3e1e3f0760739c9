"""`pushd notification`: what was sent and what has come of it; paused, resumed and cancelled."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="notification", help="What was sent, and what has come of it.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The notification's id.")]
COLUMNS = ("id", "name", "state", "created_at", "next_at", "finished_at", "counts")
RELEASES = ("number", "at", "targeted", "state")


@commands.command("list")
@grouped
def listing(
    daemon: Daemon,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 20,
    transactional: Annotated[
        bool | None, typer.Option("--transactional/--campaigns", help="Transactional ones alone, or all others.")
    ] = None,
) -> None:
    """List notifications, the newest first."""
    query: dict[str, Any] = {} if transactional is None else {"transactional": str(transactional).lower()}
    daemon.show(daemon.ask("GET", "/notifications", limit=limit, **query)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, notification: Identity) -> None:
    """Show a notification: its state, counts and reasons."""
    daemon.show(daemon.ask("GET", f"/notifications/{notification}"))


@commands.command()
@grouped
def releases(daemon: Daemon, notification: Identity) -> None:
    """List the releases of what goes out by and by: by zone, hour or batch."""
    daemon.show(daemon.ask("GET", f"/notifications/{notification}/releases", limit=1000)["items"], RELEASES)


@commands.command()
@grouped
def pause(daemon: Daemon, notification: Identity) -> None:
    """Keep back what was not sent yet."""
    daemon.show(daemon.ask("POST", f"/notifications/{notification}/pause"))


@commands.command()
@grouped
def resume(daemon: Daemon, notification: Identity) -> None:
    """Let what was paused go on."""
    daemon.show(daemon.ask("POST", f"/notifications/{notification}/resume"))


@commands.command()
@grouped
def cancel(daemon: Daemon, notification: Identity) -> None:
    """Cancel what was not sent yet."""
    daemon.show(daemon.ask("POST", f"/notifications/{notification}/cancel"))
