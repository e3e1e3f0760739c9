"""`pushd live-activity-channel`: broadcast channels of Live Activities, at Apple and here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon
from pushd.model.device import Environment

commands = typer.Typer(
    name="live-activity-channel", help="Broadcast channels of Live Activities.", no_args_is_help=True
)

Identity = Annotated[int, typer.Argument(help="The id of the channel's device.")]
PATH = "/live-activity-channels"
COLUMNS = ("id", "channel_id", "bundle", "environment", "stores", "reachable", "at_apple")


@commands.command()
@grouped
def create(
    daemon: Daemon,
    bundle: Annotated[str, typer.Argument(help="The app's bundle id.")],
    environment: Annotated[Environment, typer.Option(help="Where it is.")] = Environment.PRODUCTION,
    stores: Annotated[bool, typer.Option(help="Apple keeps the newest message for absent devices.")] = False,
    channel_id: Annotated[str | None, typer.Option(help="Take over this channel, which Apple has already.")] = None,
) -> None:
    """Make a channel at Apple."""
    body: dict[str, Any] = {"bundle": bundle, "environment": environment, "stores": stores}
    if channel_id is not None:
        body["channel_id"] = channel_id
    daemon.show(daemon.ask("POST", PATH, body))


@commands.command("list")
@grouped
def listing(
    daemon: Daemon,
    bundle: Annotated[str | None, typer.Option(help="Only this bundle's.")] = None,
    environment: Annotated[Environment | None, typer.Option(help="Only those of this environment.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
) -> None:
    """List channels, and whether Apple knows them."""
    found = daemon.ask("GET", PATH, limit=limit, bundle=bundle, environment=environment)
    daemon.show(found["items"], COLUMNS)


@commands.command()
@grouped
def inspect(daemon: Daemon, channel: Identity) -> None:
    """Show a channel, and whether Apple knows it."""
    daemon.show(daemon.ask("GET", f"{PATH}/{channel}"))


@commands.command()
@grouped
def delete(daemon: Daemon, channel: Identity) -> None:
    """Delete a channel, at Apple and here."""
    daemon.ask("DELETE", f"{PATH}/{channel}")
