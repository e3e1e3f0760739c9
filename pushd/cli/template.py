"""`pushd template`: messages with gaps, kept in versions, previewed for a user, and sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="template", help="Messages with gaps, in versions.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="The template's uid.")]
File = Annotated[Path, typer.Argument(help="JSON of the template.", exists=True, dir_okay=False)]
TagsOption = Annotated[list[str] | None, typer.Option("--tag", help="A content tag, as name=value; may repeat.")]
COLUMNS = ("uid", "name", "kind", "version", "required_tags")


@commands.command()
@grouped
def create(daemon: Daemon, file: File) -> None:
    """Store a template."""
    daemon.show(daemon.ask("POST", "/templates", _read(file)))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the templates."""
    daemon.show(daemon.ask("GET", "/templates", limit=1000)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(
    daemon: Daemon,
    template: Identity,
    version: Annotated[int | None, typer.Option(help="The newest where none is named.")] = None,
) -> None:
    """Show a template."""
    daemon.show(daemon.ask("GET", _path(template), version=version))


@commands.command()
@grouped
def versions(daemon: Daemon, template: Identity) -> None:
    """List the versions of a template."""
    daemon.show(daemon.ask("GET", f"{_path(template)}/versions", limit=1000)["items"], (*COLUMNS, "updated_at"))


@commands.command()
@grouped
def change(daemon: Daemon, template: Identity, file: File) -> None:
    """Make a new version: the file holds what changes."""
    daemon.show(daemon.ask("PATCH", _path(template), _read(file)))


@commands.command()
@grouped
def preview(
    daemon: Daemon,
    template: Identity,
    user: Annotated[str | None, typer.Option(help="An external id; nobody in particular where none is named.")] = None,
    locale: Annotated[str | None, typer.Option(help="Of the device.")] = None,
    tag: TagsOption = None,
) -> None:
    """Show what a user would get."""
    body: dict[str, Any] = {"content_tags": _tags(tag)}
    if user is not None:
        body["user"] = user
    if locale is not None:
        body["locale"] = locale
    daemon.show(daemon.ask("POST", f"{_path(template)}/preview", body))


@commands.command()
@grouped
def send(daemon: Daemon, template: Identity, tag: TagsOption = None) -> None:
    """Send a template to whom it is for."""
    daemon.show(daemon.ask("POST", f"{_path(template)}/send", {"content_tags": _tags(tag)}))


@commands.command()
@grouped
def delete(daemon: Daemon, template: Identity) -> None:
    """Delete a template with its versions."""
    daemon.ask("DELETE", _path(template))


def _path(template: str) -> str:
    return f"/templates/{quote(template, safe='')}"


def _read(file: Path) -> Any:
    try:
        return orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"{file} is no JSON: {error}") from None


def _tags(given: list[str] | None) -> dict[str, str]:
    tags = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{each!r} is not name=value")
        tags[name] = value
    return tags
