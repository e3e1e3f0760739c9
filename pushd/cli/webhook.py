"""`pushd webhook`: URLs that an app's events are posted to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="webhook", help="URLs that events are posted to.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The webhook's id.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Type of event, such as notification.finished; may repeat. All but device outcomes."),
]
Name = Annotated[str | None, typer.Option(help="A name for people.")]
BatchMax = Annotated[int | None, typer.Option(help="Events of one request, at most.")]
COLUMNS = ("id", "name", "url", "state", "failure", "attempts", "letters", "delivered_at")
LETTER_COLUMNS = ("id", "event_id", "type", "failure", "attempts", "replaying")
LETTERS_SHOWN = 1000


@commands.command()
@grouped
def create(
    daemon: Daemon,
    target: Annotated[str, typer.Argument(metavar="URL", help="https, a host name, and a path.")],
    name: Name = None,
    types: Types = None,
    batch_max: BatchMax = None,
) -> None:
    """Have events posted to a URL, and show the secret, once."""
    made = daemon.ask("POST", "/webhooks", {"url": target, **_given(name, types, batch_max)})
    daemon.show(made["webhook"] | {"secret": made["secret"]})


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the webhooks."""
    daemon.show(daemon.ask("GET", "/webhooks", limit=1000)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, webhook: Identity) -> None:
    """Show a webhook, and how it is doing."""
    daemon.show(daemon.ask("GET", f"/webhooks/{webhook}"))


@commands.command()
@grouped
def change(
    daemon: Daemon,
    webhook: Identity,
    target: Annotated[str | None, typer.Option("--target", help="Another URL.")] = None,
    name: Name = None,
    types: Types = None,
    batch_max: BatchMax = None,
) -> None:
    """Change where a webhook posts to, what, or how many events at a time."""
    body = _given(name, types, batch_max) | ({} if target is None else {"url": target})
    daemon.show(daemon.ask("PATCH", f"/webhooks/{webhook}", body))


@commands.command()
@grouped
def delete(daemon: Daemon, webhook: Identity) -> None:
    """Delete a webhook, with what it was still to get."""
    daemon.ask("DELETE", f"/webhooks/{webhook}")


@commands.command()
@grouped
def rotate(daemon: Daemon, webhook: Identity) -> None:
    """Make a new secret and show it, once; the former one signs along for a day."""
    daemon.show(daemon.ask("POST", f"/webhooks/{webhook}/secret"))


@commands.command()
@grouped
def pause(daemon: Daemon, webhook: Identity) -> None:
    """Call a webhook no more until it is resumed; its events wait."""
    daemon.show(daemon.ask("POST", f"/webhooks/{webhook}/pause"))


@commands.command()
@grouped
def resume(
    daemon: Daemon,
    webhook: Identity,
    skip: Annotated[bool, typer.Option("--skip", help="Do not tell it of what happened until now.")] = False,
) -> None:
    """Call a webhook again, at once."""
    daemon.show(daemon.ask("POST", f"/webhooks/{webhook}/resume", {"skip": skip}))


@commands.command()
@grouped
def test(daemon: Daemon, webhook: Identity) -> None:
    """Send a webhook one event of type webhook.test, and show what came of it."""
    daemon.show(daemon.ask("POST", f"/webhooks/{webhook}/test"))


@commands.command()
@grouped
def letters(daemon: Daemon, webhook: Identity) -> None:
    """List the dead letters of a webhook, the oldest first."""
    daemon.show(daemon.ask("GET", f"/webhooks/{webhook}/letters", limit=LETTERS_SHOWN)["items"], LETTER_COLUMNS)


@commands.command()
@grouped
def replay(
    daemon: Daemon,
    webhook: Identity,
    letter: Annotated[int | None, typer.Argument(help="The dead letter's id; absent: all of them.")] = None,
) -> None:
    """Send dead letters anew."""
    path = f"/webhooks/{webhook}/letters" + ("" if letter is None else f"/{letter}")
    daemon.show(daemon.ask("POST", f"{path}/replay"))


@commands.command()
@grouped
def discard(
    daemon: Daemon, webhook: Identity, letter: Annotated[int, typer.Argument(help="The dead letter's id.")]
) -> None:
    """Forget a dead letter."""
    daemon.ask("DELETE", f"/webhooks/{webhook}/letters/{letter}")


def _given(name: str | None, types: list[str] | None, batch_max: int | None) -> dict[str, Any]:
    given = {"name": name, "types": types or None, "batch_max": batch_max}
    return {key: value for key, value in given.items() if value is not None}
