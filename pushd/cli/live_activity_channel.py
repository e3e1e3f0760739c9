"""`pushd live-activity-channel`: broadcast channels of Live Activities, at Apple and here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pushd.cli.client import ask
from pushd.cli.output import show
from pushd.cli.settings import DEFAULT_URL, AppId, AsJson, KeyFile, Url
from pushd.model.device import Environment

commands = typer.Typer(
    name="live-activity-channel", help="Broadcast channels of Live Activities.", no_args_is_help=True
)

Identity = Annotated[int, typer.Argument(help="The id of the channel's device.")]
PATH = "/live-activity-channels"
COLUMNS = ("id", "channel_id", "bundle", "environment", "stores", "reachable", "at_apple")


@commands.command()
def create(
    bundle: Annotated[str, typer.Argument(help="The app's bundle id.")],
    environment: Annotated[Environment, typer.Option(help="Where it is.")] = Environment.PRODUCTION,
    stores: Annotated[bool, typer.Option(help="Apple keeps the newest message for absent devices.")] = False,
    channel_id: Annotated[str | None, typer.Option(help="Take over this channel, which Apple has already.")] = None,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """Make a channel at Apple."""
    body: dict[str, Any] = {"bundle": bundle, "environment": environment, "stores": stores}
    if channel_id is not None:
        body["channel_id"] = channel_id
    show(ask(url, key_file, app, "POST", PATH, body), as_json=json)


@commands.command("list")
def listing(
    bundle: Annotated[str | None, typer.Option(help="Only this bundle's.")] = None,
    environment: Annotated[Environment | None, typer.Option(help="Only those of this environment.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
) -> None:
    """List channels, and whether Apple knows them."""
    found = ask(url, key_file, app, "GET", PATH, limit=limit, bundle=bundle, environment=environment)
    show(found["items"], as_json=json, columns=COLUMNS)


@commands.command()
def inspect(
    channel: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False
) -> None:
    """Show a channel, and whether Apple knows it."""
    show(ask(url, key_file, app, "GET", f"{PATH}/{channel}"), as_json=json)


@commands.command()
def delete(channel: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """Delete a channel, at Apple and here."""
    ask(url, key_file, app, "DELETE", f"{PATH}/{channel}")
