"""`pushd audience`: who would get a message, and who would not, before anything is sent."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer

from pushd.cli.client import Client
from pushd.cli.options import Options, grouped
from pushd.cli.reach import Daemon
from pushd.errors import UnavailableError

COLUMNS = ("id", "install_id", "kind", "platform", "user_id", "locale", "app_version", "last_seen_at")

commands = typer.Typer(
    name="audience", help="Count, sample and export an audience without sending.", no_args_is_help=True
)

ForType = Annotated[str, typer.Option("--push-type", help="Of the message that it would be: alert, voip …")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whom(Options):
    """The options that say an audience."""

    broadcast: Annotated[bool, typer.Option("--broadcast", help="Everyone.")] = False
    user: Annotated[list[str] | None, typer.Option(help="External id of a user; may repeat.")] = None
    device: Annotated[list[int] | None, typer.Option(help="Id of a device; may repeat.")] = None
    tag: Annotated[list[str] | None, typer.Option(help="With any of these tags; may repeat.")] = None
    tag_all: Annotated[list[str] | None, typer.Option(help="With all of these tags; may repeat.")] = None
    exclude: Annotated[list[str] | None, typer.Option(help="With none of these tags; may repeat.")] = None
    audience: Annotated[str | None, typer.Option(help="The whole expression, as JSON.")] = None

    @property
    def said(self) -> bool:
        """Whether any of them is."""
        return any((self.broadcast, self.user, self.device, self.tag, self.tag_all, self.exclude, self.audience))

    def expression(self) -> Any:
        """The audience that they describe: devices and users together, narrowed by tags. BadParameter."""
        if self.audience is not None:
            return orjson.loads(self.audience)
        named: list[Any] = []
        if self.user:
            named.append({"type": "users", "ids": self.user})
        if self.device:
            named.append({"type": "devices", "ids": self.device})
        parts: list[Any] = [{"type": "or", "of": named} if len(named) > 1 else each for each in named[:1]]
        if self.tag or self.tag_all or self.exclude:
            tags = {"any": self.tag or [], "all": self.tag_all or [], "exclude": self.exclude or []}
            parts.append({"type": "tags", **tags})
        if self.broadcast and not parts:
            return {"type": "broadcast"}
        if self.broadcast or not parts:
            raise typer.BadParameter("name an audience: --broadcast alone, or --user, --device, --tag …")
        return parts[0] if len(parts) == 1 else {"type": "and", "of": parts}


@commands.command()
@grouped
def count(
    daemon: Daemon,
    whom: Whom,
    push_type: ForType = "alert",
) -> None:
    """Count the devices that a message would reach, and those it would not, by reason."""
    body = {"audience": whom.expression(), "push_type": push_type}
    daemon.show(daemon.ask("POST", "/audience/count", body))


@commands.command()
@grouped
def sample(
    daemon: Daemon,
    whom: Whom,
    push_type: ForType = "alert",
    size: Annotated[int, typer.Option(help="How many devices.", min=1, max=100)] = 10,
    seed: Annotated[int | None, typer.Option(help="Draws the same devices again.")] = None,
) -> None:
    """Show some of the devices that a message would reach, drawn by chance."""
    body: dict[str, Any] = {"audience": whom.expression(), "push_type": push_type, "size": size}
    if seed is not None:
        body["seed"] = seed
    answer = daemon.ask("POST", "/audience/sample", body)
    daemon.show(answer if daemon.json else answer["items"], COLUMNS)


@commands.command()
@grouped
def export(
    daemon: Daemon,
    whom: Whom,
    push_type: ForType = "alert",
    users: Annotated[bool, typer.Option("--users", help="The users of the devices in place of the devices.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="A file in place of the standard output.")] = None,
) -> None:
    """Write the devices that a message would reach, or their users, as lines of JSON (NDJSON)."""
    body = {"audience": whom.expression(), "push_type": push_type, "members": "users" if users else "devices"}
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
