"""`pushd channel`: channels, who is subscribed to them, and the channels of one user or install."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="channel", help="Channels, and who is subscribed to them.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="The channel's uuid.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="External id of a user; may repeat.")]
Installs = Annotated[list[str] | None, typer.Option("--install", help="Id of an install; may repeat.")]
Name = Annotated[str | None, typer.Option(help="A name for people.")]
Portal = Annotated[bool | None, typer.Option("--in-portal/--not-in-portal", help="Whether apps list it.")]
Meta = Annotated[str | None, typer.Option(help="Whatever the app wants to know of it, as a JSON object.")]
COLUMNS = ("uuid", "name", "show_in_portal", "meta")


@commands.command()
@grouped
def create(
    daemon: Daemon,
    uuid: Annotated[str | None, typer.Argument(help="Made up where none is given.")] = None,
    name: Name = None,
    portal: Portal = None,
    meta: Meta = None,
) -> None:
    """Make a channel."""
    daemon.show(daemon.ask("POST", "/channels", _body(uuid, name, portal, meta)))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the channels."""
    daemon.show(daemon.ask("GET", "/channels", limit=1000)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, channel: Identity) -> None:
    """Show a channel, and how many devices are subscribed to it."""
    daemon.show(daemon.ask("GET", _path(channel)))


@commands.command()
@grouped
def change(
    daemon: Daemon,
    channel: Identity,
    uuid: Annotated[str | None, typer.Option(help="Another uuid; it keeps its subscribers.")] = None,
    name: Name = None,
    portal: Portal = None,
    meta: Meta = None,
) -> None:
    """Change a channel; what is not given stays."""
    daemon.show(daemon.ask("PATCH", _path(channel), _body(uuid, name, portal, meta)))


@commands.command()
@grouped
def delete(daemon: Daemon, channel: Identity) -> None:
    """Delete a channel; everyone is taken off it."""
    daemon.ask("DELETE", _path(channel))


@commands.command()
@grouped
def subscribe(
    daemon: Daemon,
    channel: Identity,
    user: Users = None,
    install: Installs = None,
) -> None:
    """Subscribe users and installs; `pushd import subscribe` takes a file of them."""
    body = {"users": user or [], "installs": install or []}
    answer = daemon.ask("POST", f"{_path(channel)}/subscribe", body)
    daemon.show(answer or {"errors": {}})


@commands.command()
@grouped
def unsubscribe(
    daemon: Daemon,
    channel: Identity,
    user: Users = None,
    install: Installs = None,
) -> None:
    """Take users and installs off a channel."""
    body = {"users": user or [], "installs": install or []}
    answer = daemon.ask("POST", f"{_path(channel)}/unsubscribe", body)
    daemon.show(answer or {"errors": {}})


@commands.command()
@grouped
def subscribers(
    daemon: Daemon,
    channel: Identity,
    installs: Annotated[bool, typer.Option("--installs", help="Installs that are subscribed themselves.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", max=1000)] = 100,
) -> None:
    """List the users, or the installs, that are subscribed to a channel."""
    of = "installs" if installs else "users"
    found = daemon.ask("GET", f"{_path(channel)}/subscribers", of=of, limit=limit)
    daemon.show(found["items"], ("name",))


@commands.command("of")
@grouped
def of_one(
    daemon: Daemon,
    user: Annotated[str | None, typer.Option(help="External id of a user.")] = None,
    install: Annotated[str | None, typer.Option(help="Id of an install.")] = None,
) -> None:
    """List the channels of one user, or of one install itself."""
    if (user is None) == (install is None):
        raise typer.BadParameter("name one: --user or --install")
    path = f"/users/{quote(user, safe='')}" if user is not None else f"/installs/{quote(install or '', safe='')}"
    daemon.show(daemon.ask("GET", f"{path}/channels")["items"], COLUMNS)


def _path(channel: str) -> str:
    return f"/channels/{quote(channel, safe='')}"


def _body(uuid: str | None, name: str | None, portal: bool | None, meta: str | None) -> Any:
    given = {"uuid": uuid, "name": name, "show_in_portal": portal}
    body: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if meta is not None:
        try:
            body["meta"] = orjson.loads(meta)
        except orjson.JSONDecodeError as error:
            raise typer.BadParameter(f"--meta is not JSON: {error}") from None
    return body
