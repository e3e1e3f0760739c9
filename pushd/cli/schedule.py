"""`pushd schedule`: sends that wait for their time; `pushd send` makes them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon
from pushd.cli.times import Time

commands = typer.Typer(name="schedule", help="Sends that wait for their time.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The schedule's id, which the send was answered with.")]
COLUMNS = ("id", "name", "state", "next_at", "occurred", "skipped", "schedule")
OCCURRENCES = ("at", "outcome", "notification_id", "decided_at")


@commands.command("list")
@grouped
def listing(
    daemon: Daemon,
    active: Annotated[bool | None, typer.Option("--active/--over", help="Those that go on, or the others.")] = None,
) -> None:
    """List the schedules, the newest first."""
    asked = None if active is None else str(active).lower()
    daemon.show(daemon.ask("GET", "/schedules", limit=1000, active=asked)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, schedule: Identity) -> None:
    """Show a schedule and its next five occurrences."""
    daemon.show(daemon.ask("GET", f"/schedules/{schedule}"))


@commands.command()
@grouped
def occurrences(daemon: Daemon, schedule: Identity) -> None:
    """List what has come of its occurrences, the newest first."""
    daemon.show(daemon.ask("GET", f"/schedules/{schedule}/occurrences", limit=1000)["items"], OCCURRENCES)


@commands.command()
@grouped
def change(
    daemon: Daemon,
    schedule: Identity,
    time: Time,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
) -> None:
    """Rename a schedule, or give it another time."""
    body: dict[str, Any] = time.said() | ({} if name is None else {"name": name})
    daemon.show(daemon.ask("PATCH", f"/schedules/{schedule}", body))


@commands.command()
@grouped
def on(daemon: Daemon, schedule: Identity) -> None:
    """Let a schedule go on with its next occurrence."""
    daemon.show(daemon.ask("PATCH", f"/schedules/{schedule}", {"active": True}))


@commands.command()
@grouped
def off(daemon: Daemon, schedule: Identity) -> None:
    """Let nothing occur until it is switched on again."""
    daemon.show(daemon.ask("PATCH", f"/schedules/{schedule}", {"active": False}))


@commands.command()
@grouped
def cancel(daemon: Daemon, schedule: Identity) -> None:
    """End a schedule: nothing more occurs."""
    daemon.ask("DELETE", f"/schedules/{schedule}")
