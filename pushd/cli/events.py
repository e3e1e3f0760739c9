"""`pushd events`: an app's events, as they happen."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import orjson
import typer

from pushd.cli.options import grouped
from pushd.cli.output import console, text
from pushd.cli.reach import Daemon


@grouped
def events(
    daemon: Daemon,
    after: Annotated[str | None, typer.Option(help="Begin behind the event of this id; 0: with the oldest.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="Type of event; may repeat.")] = None,
    count: Annotated[int, typer.Option(help="End after so many; 0: go on until interrupted.")] = 0,
) -> None:
    """Show an app's events as they happen, one a line."""

    async def follow() -> None:
        shown = 0
        async with daemon.client() as client:
            async for event in client.events("/events/stream", after, types or []):
                if daemon.json:
                    sys.stdout.buffer.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
                    sys.stdout.buffer.flush()
                else:
                    console.print(f"{event['id']:>10}  {event['type']:<28} {text(event['data'])}", soft_wrap=True)
                shown += 1
                if shown == count:
                    return

    asyncio.run(follow())
