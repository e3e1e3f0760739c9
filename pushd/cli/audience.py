"""`pushd audience`: who would get a message, and who would not, before anything is sent."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer

from pushd.cli.client import Client
from pushd.cli.reach import Daemon, reaching
from pushd.errors import UnavailableError

COLUMNS = ("id", "install_id", "kind", "platform", "user_id", "locale", "app_version", "last_seen_at")

commands = typer.Typer(
    name="audience", help="Count, sample and export an audience without sending.", no_args_is_help=True
)

Broadcast = Annotated[bool, typer.Option("--broadcast", help="Everyone.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="External id of a user; may repeat.")]
Devices = Annotated[list[int] | None, typer.Option("--device", help="Id of a device; may repeat.")]
TagsAny = Annotated[list[str] | None, typer.Option("--tag", help="With any of these tags; may repeat.")]
TagsAll = Annotated[list[str] | None, typer.Option("--tag-all", help="With all of these tags; may repeat.")]
TagsNone = Annotated[list[str] | None, typer.Option("--exclude", help="With none of these tags; may repeat.")]
ForType = Annotated[str, typer.Option("--push-type", help="Of the message that it would be: alert, voip …")]
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
@reaching
def count(
    daemon: Daemon,
    broadcast: Broadcast = False,
    user: Users = None,
    device: Devices = None,
    tag: TagsAny = None,
    tag_all: TagsAll = None,
    exclude: TagsNone = None,
    audience: Expression = None,
    push_type: ForType = "alert",
) -> None:
    """Count the devices that a message would reach, and those it would not, by reason."""
    whom = expression(broadcast, user, device, tag, tag_all, exclude, audience)
    body = {"audience": whom, "push_type": push_type}
    daemon.show(daemon.ask("POST", "/audience/count", body))


@commands.command()
@reaching
def sample(
    daemon: Daemon,
    broadcast: Broadcast = False,
    user: Users = None,
    device: Devices = None,
    tag: TagsAny = None,
    tag_all: TagsAll = None,
    exclude: TagsNone = None,
    audience: Expression = None,
    push_type: ForType = "alert",
    size: Annotated[int, typer.Option(help="How many devices.", min=1, max=100)] = 10,
    seed: Annotated[int | None, typer.Option(help="Draws the same devices again.")] = None,
) -> None:
    """Show some of the devices that a message would reach, drawn by chance."""
    whom = expression(broadcast, user, device, tag, tag_all, exclude, audience)
    body: dict[str, Any] = {"audience": whom, "push_type": push_type, "size": size}
    if seed is not None:
        body["seed"] = seed
    answer = daemon.ask("POST", "/audience/sample", body)
    daemon.show(answer if daemon.json else answer["items"], COLUMNS)


@commands.command()
@reaching
def export(
    daemon: Daemon,
    broadcast: Broadcast = False,
    user: Users = None,
    device: Devices = None,
    tag: TagsAny = None,
    tag_all: TagsAll = None,
    exclude: TagsNone = None,
    audience: Expression = None,
    push_type: ForType = "alert",
    users: Annotated[bool, typer.Option("--users", help="The users of the devices in place of the devices.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="A file in place of the standard output.")] = None,
) -> None:
    """Write the devices that a message would reach, or their users, as lines of JSON (NDJSON)."""
    whom = expression(broadcast, user, device, tag, tag_all, exclude, audience)
    body = {"audience": whom, "push_type": push_type, "members": "users" if users else "devices"}
    with ExitStack() as stack:
        file: BinaryIO = sys.stdout.buffer if output is None else stack.enter_context(output.open("wb"))
        asyncio.run(_export(daemon.client(), body, file))


async def _export(client: Client, body: Any, file: BinaryIO) -> None:
    """Writes each member as a line, without what the answer wraps around it; UnavailableError when it is cut off."""
    async with client:
        async for line in client.lines("/audience/export", body):
            kind = line.get("type")
            if kind == "summary":
                file.flush()
                return
            if kind not in ("device", "user"):
                raise UnavailableError(f"The export ended early: {line.get('detail', 'no explanation')}")
            file.write(orjson.dumps(line[kind], option=orjson.OPT_APPEND_NEWLINE))
    raise UnavailableError("The export was cut off")
