"""`pushd send`: a message to an audience, and with --wait what became of it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pushd.cli.audience import Whom
from pushd.cli.options import grouped
from pushd.cli.output import console
from pushd.cli.reach import Daemon
from pushd.cli.times import Time
from pushd.model.quiet import Policy

POLL_S = 0.3
OVER = ("done", "cancelled")


@grouped
def send(
    daemon: Daemon,
    whom: Whom,
    time: Time,
    body: Annotated[str | None, typer.Argument(help="The text.")] = None,
    title: Annotated[str | None, typer.Option(help="The title.")] = None,
    message: Annotated[str | None, typer.Option(help="The whole message, as JSON; options add to it.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    category: Annotated[str | None, typer.Option(help="Of your own, such as marketing: for frequency caps.")] = None,
    push_tag: Annotated[str | None, typer.Option(help="Of your own: reports compare what has one.")] = None,
    quiet_hours: Annotated[Policy, typer.Option(help="What they do to it where they apply.")] = Policy.HOLD,
    ttl_s: Annotated[int | None, typer.Option(help="How long gateways may hold it, seconds.")] = None,
    transactional: Annotated[bool, typer.Option("--transactional", help="Never behind a campaign.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count whom it would reach, send nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until every device has its outcome.")] = False,
) -> None:
    """Send a message, at once or when its time comes."""
    if wait and time.recurs:
        raise typer.BadParameter("--wait waits for what is sent once")
    if dry_run:
        daemon.show(daemon.ask("POST", "/audience/count", {"audience": whom.expression()}))
        return
    what: dict[str, Any] = orjson.loads(message) if message else {}
    what |= {name: value for name, value in (("title", title), ("body", body)) if value is not None}
    request: dict[str, Any] = {"audience": whom.expression(), "message": what} | time.said()
    more = {"name": name, "category": category, "push_tag": push_tag, "ttl_s": ttl_s}
    more |= {"transactional": transactional or None}
    request |= {field: value for field, value in more.items() if value is not None}
    if quiet_hours is not Policy.HOLD:
        request["quiet_hours"] = quiet_hours.value
    answer = daemon.ask("POST", "/notifications", request)
    if wait:
        answer = asyncio.run(_watch(daemon, answer["id"]))
    daemon.show(answer)


async def _watch(daemon: Daemon, notification: int) -> Any:
    """The notification once it is done; meanwhile a progress bar."""
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=daemon.json) as progress:
        task = progress.add_task("sending", total=None)
        async with daemon.client() as client:
            while True:
                view = await client.call("GET", f"/notifications/{notification}")
                counts = view["counts"]
                progress.update(task, total=counts["targeted"], completed=counts["targeted"] - counts["pending"])
                if view["state"] in OVER and not counts["pending"]:
                    return view
                await asyncio.sleep(POLL_S)
