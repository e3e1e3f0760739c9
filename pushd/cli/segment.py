"""`pushd segment`: audiences with a name."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from pushd.cli.audience import Broadcast, Devices, Expression, TagsAll, TagsAny, TagsNone, Users, expression
from pushd.cli.client import ask
from pushd.cli.output import show
from pushd.cli.settings import DEFAULT_URL, AppId, AsJson, KeyFile, Url

commands = typer.Typer(name="segment", help="Audiences with a name.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="The segment's uuid.")]
COLUMNS = ("uuid", "name", "audience")


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    uuid: Annotated[str | None, typer.Option(help="Made up where none is given.")] = None,
    broadcast: Broadcast = False,
    user: Users = None,
    device: Devices = None,
    tag: TagsAny = None,
    tag_all: TagsAll = None,
    exclude: TagsNone = None,
    audience: Expression = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Store an audience under a name; it is evaluated whenever it is used."""
    body = {"name": name, "audience": expression(broadcast, user, device, tag, tag_all, exclude, audience)}
    if uuid is not None:
        body["uuid"] = uuid
    show(ask(url, key_file, app, "POST", "/segments", body), as_json=json)


@commands.command("list")
def listing(app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False) -> None:
    """List the segments."""
    show(ask(url, key_file, app, "GET", "/segments", limit=1000)["items"], as_json=json, columns=COLUMNS)


@commands.command("show")
def one(
    segment: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False
) -> None:
    """Show a segment."""
    show(ask(url, key_file, app, "GET", _path(segment)), as_json=json)


@commands.command()
def count(
    segment: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False
) -> None:
    """Count the devices that a message to a segment would reach now."""
    body = {"audience": {"type": "segment", "id": segment}}
    show(ask(url, key_file, app, "POST", "/audience/count", body), as_json=json)


@commands.command()
def change(
    segment: Identity,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    broadcast: Broadcast = False,
    user: Users = None,
    device: Devices = None,
    tag: TagsAny = None,
    tag_all: TagsAll = None,
    exclude: TagsNone = None,
    audience: Expression = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Rename a segment, or give it another audience."""
    body: dict[str, Any] = {} if name is None else {"name": name}
    whom = (broadcast, user, device, tag, tag_all, exclude, audience)
    if any(whom):
        body["audience"] = expression(*whom)
    show(ask(url, key_file, app, "PATCH", _path(segment), body), as_json=json)


@commands.command()
def delete(segment: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """Delete a segment."""
    ask(url, key_file, app, "DELETE", _path(segment))


def _path(segment: str) -> str:
    return f"/segments/{quote(segment, safe='')}"
