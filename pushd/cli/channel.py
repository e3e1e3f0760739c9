"""`pushd channel`: channels, who is subscribed to them, and the channels of one user or install."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from pushd.cli.client import ask
from pushd.cli.output import show
from pushd.cli.settings import DEFAULT_URL, AppId, AsJson, KeyFile, Url

commands = typer.Typer(name="channel", help="Channels, and who is subscribed to them.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="The channel's uuid.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="External id of a user; may repeat.")]
Installs = Annotated[list[str] | None, typer.Option("--install", help="Id of an install; may repeat.")]
Name = Annotated[str | None, typer.Option(help="A name for people.")]
Portal = Annotated[bool | None, typer.Option("--in-portal/--not-in-portal", help="Whether apps list it.")]
Meta = Annotated[str | None, typer.Option(help="Whatever the app wants to know of it, as a JSON object.")]
COLUMNS = ("uuid", "name", "show_in_portal", "meta")


@commands.command()
def create(
    uuid: Annotated[str | None, typer.Argument(help="Made up where none is given.")] = None,
    name: Name = None,
    portal: Portal = None,
    meta: Meta = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Make a channel."""
    show(ask(url, key_file, app, "POST", "/channels", _body(uuid, name, portal, meta)), as_json=json)


@commands.command("list")
def listing(app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False) -> None:
    """List the channels."""
    show(ask(url, key_file, app, "GET", "/channels", limit=1000)["items"], as_json=json, columns=COLUMNS)


@commands.command("show")
def one(
    channel: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False
) -> None:
    """Show a channel, and how many devices are subscribed to it."""
    show(ask(url, key_file, app, "GET", _path(channel)), as_json=json)


@commands.command()
def change(
    channel: Identity,
    uuid: Annotated[str | None, typer.Option(help="Another uuid; it keeps its subscribers.")] = None,
    name: Name = None,
    portal: Portal = None,
    meta: Meta = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Change a channel; what is not given stays."""
    show(ask(url, key_file, app, "PATCH", _path(channel), _body(uuid, name, portal, meta)), as_json=json)


@commands.command()
def delete(channel: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """Delete a channel; everyone is taken off it."""
    ask(url, key_file, app, "DELETE", _path(channel))


@commands.command()
def subscribe(
    channel: Identity,
    user: Users = None,
    install: Installs = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Subscribe users and installs; `pushd import subscribe` takes a file of them."""
    body = {"users": user or [], "installs": install or []}
    answer = ask(url, key_file, app, "POST", f"{_path(channel)}/subscribe", body)
    show(answer or {"errors": {}}, as_json=json)


@commands.command()
def unsubscribe(
    channel: Identity,
    user: Users = None,
    install: Installs = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Take users and installs off a channel."""
    body = {"users": user or [], "installs": install or []}
    answer = ask(url, key_file, app, "POST", f"{_path(channel)}/unsubscribe", body)
    show(answer or {"errors": {}}, as_json=json)


@commands.command()
def subscribers(
    channel: Identity,
    installs: Annotated[bool, typer.Option("--installs", help="Installs that are subscribed themselves.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", max=1000)] = 100,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """List the users, or the installs, that are subscribed to a channel."""
    of = "installs" if installs else "users"
    found = ask(url, key_file, app, "GET", f"{_path(channel)}/subscribers", of=of, limit=limit)
    show(found["items"], as_json=json, columns=("name",))


@commands.command("of")
def of_one(
    user: Annotated[str | None, typer.Option(help="External id of a user.")] = None,
    install: Annotated[str | None, typer.Option(help="Id of an install.")] = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """List the channels of one user, or of one install itself."""
    if (user is None) == (install is None):
        raise typer.BadParameter("name one: --user or --install")
    path = f"/users/{quote(user, safe='')}" if user is not None else f"/installs/{quote(install or '', safe='')}"
    show(ask(url, key_file, app, "GET", f"{path}/channels")["items"], as_json=json, columns=COLUMNS)


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
