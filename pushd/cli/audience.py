"""`pushd audience`: who would get a message, and who would not, before anything is sent."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from pushd.cli.client import ask
from pushd.cli.output import show
from pushd.cli.settings import DEFAULT_URL, AppId, AsJson, KeyFile, Url

commands = typer.Typer(name="audience", help="Count an audience without sending.", no_args_is_help=True)

Broadcast = Annotated[bool, typer.Option("--broadcast", help="Everyone.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="External id of a user; may repeat.")]
Devices = Annotated[list[int] | None, typer.Option("--device", help="Id of a device; may repeat.")]
TagsAny = Annotated[list[str] | None, typer.Option("--tag", help="With any of these tags; may repeat.")]
TagsAll = Annotated[list[str] | None, typer.Option("--tag-all", help="With all of these tags; may repeat.")]
TagsNone = Annotated[list[str] | None, typer.Option("--exclude", help="With none of these tags; may repeat.")]
Expression = Annotated[str | None, typer.Option("--audience", help="The whole expression, as JSON.")]


def expression(
    broadcast: bool,
    users: list[str] | None,
    devices: list[int] | None,
    tags_any: list[str] | None,
    tags_all: list[str] | None,
    exclude: list[str] | None,
    whole: str | None,
) -> Any:
    """The audience that options describe: devices and users together, narrowed by tags."""
    if whole is not None:
        return orjson.loads(whole)
    named: list[Any] = []
    if users:
        named.append({"type": "users", "ids": users})
    if devices:
        named.append({"type": "devices", "ids": devices})
    parts: list[Any] = [{"type": "or", "of": named} if len(named) > 1 else each for each in named[:1]]
    if tags_any or tags_all or exclude:
        parts.append({"type": "tags", "any": tags_any or [], "all": tags_all or [], "exclude": exclude or []})
    if broadcast and not parts:
        return {"type": "broadcast"}
    if broadcast or not parts:
        raise typer.BadParameter("name an audience: --broadcast alone, or --user, --device, --tag …")
    return parts[0] if len(parts) == 1 else {"type": "and", "of": parts}


@commands.command()
def count(
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
    """Count the devices that a message would reach, and those it would not, by reason."""
    body = {"audience": expression(broadcast, user, device, tag, tag_all, exclude, audience)}
    show(ask(url, key_file, app, "POST", "/audience/count", body), as_json=json)
