"""`pushd segment`: audiences with a name."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from pushd.cli.audience import Whom
from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="segment", help="Audiences with a name.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="The segment's uuid.")]
COLUMNS = ("uuid", "name", "audience")


@commands.command()
@grouped
def create(
    daemon: Daemon,
    whom: Whom,
    name: Annotated[str, typer.Argument(help="A name for people.")],
    uuid: Annotated[str | None, typer.Option(help="Made up where none is given.")] = None,
) -> None:
    """Store an audience under a name; it is evaluated whenever it is used."""
    body = {"name": name, "audience": whom.expression()}
    if uuid is not None:
        body["uuid"] = uuid
    daemon.show(daemon.ask("POST", "/segments", body))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the segments."""
    daemon.show(daemon.ask("GET", "/segments", limit=1000)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, segment: Identity) -> None:
    """Show a segment."""
    daemon.show(daemon.ask("GET", _path(segment)))


@commands.command()
@grouped
def count(daemon: Daemon, segment: Identity) -> None:
    """Count the devices that a message to a segment would reach now."""
    body = {"audience": {"type": "segment", "id": segment}}
    daemon.show(daemon.ask("POST", "/audience/count", body))


@commands.command()
@grouped
def change(
    daemon: Daemon,
    whom: Whom,
    segment: Identity,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
) -> None:
    """Rename a segment, or give it another audience."""
    body: dict[str, Any] = {} if name is None else {"name": name}
    if whom.said:
        body["audience"] = whom.expression()
    daemon.show(daemon.ask("PATCH", _path(segment), body))


@commands.command()
@grouped
def delete(daemon: Daemon, segment: Identity) -> None:
    """Delete a segment."""
    daemon.ask("DELETE", _path(segment))


def _path(segment: str) -> str:
    return f"/segments/{quote(segment, safe='')}"
