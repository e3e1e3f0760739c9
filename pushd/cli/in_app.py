"""`pushd in-app`: in-app messages sent, shown, withdrawn; and inboxes as installs and users have them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from pushd.cli.audience import Whom
from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="in-app", help="In-app messages and inboxes.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The message's id.")]
Install = Annotated[str | None, typer.Option("--install", help="The inbox of this install.")]
Person = Annotated[str | None, typer.Option("--user", help="The inbox of this user, by external id.")]
COLUMNS = ("id", "name", "state", "presented_when", "released_at", "ends_at", "counts")
RECIPIENTS = ("user_id", "install_id", "delivered_at", "opened_at", "read_at", "dismissed_at", "deleted_at")
MESSAGES = ("id", "presented_when", "inbox", "sent_at", "expires_at", "opened_at", "read_at")


@commands.command()
@grouped
def send(
    daemon: Daemon,
    whom: Whom,
    content: Annotated[str | None, typer.Option(help="What the app draws it from: a JSON object.")] = None,
    template: Annotated[str | None, typer.Option(help="Uid of the template whose content it is.")] = None,
    tags: Annotated[str | None, typer.Option("--content-tags", help="The template's tags: a JSON object.")] = None,
    presented: Annotated[str, typer.Option(help="When: immediately, next_open or never.")] = "immediately",
    days: Annotated[int | None, typer.Option(help="For how many days it is presented.")] = None,
    hours: Annotated[int | None, typer.Option(help="Or for how many hours.")] = None,
    title: Annotated[str | None, typer.Option(help="Of its entry in the inbox.")] = None,
    subtitle: Annotated[str | None, typer.Option(help="Of its entry in the inbox.")] = None,
    push: Annotated[str | None, typer.Option(help="Title of a push that goes along.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    at: Annotated[float | None, typer.Option(help="UNIX seconds at which it is released.")] = None,
) -> None:
    """Send an in-app message."""
    body: dict[str, Any] = {
        "audience": whom.expression(),
        "presented_when": presented,
        "content": None if content is None else orjson.loads(content),
        "template": None if template is None else {"uid": template},
        "content_tags": None if tags is None else orjson.loads(tags),
        "ttl": {"days": days} if days is not None else {"hours": hours} if hours is not None else None,
        "inbox": None if title is None else {"title": title, "subtitle": subtitle},
        "push": None if push is None else {"message": {"title": push}},
        "name": name,
        "send_at": at,
    }
    given = {field: value for field, value in body.items() if value is not None}
    daemon.show(daemon.ask("POST", "/in-app-messages", given))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the newest in-app messages."""
    daemon.show(daemon.ask("GET", "/in-app-messages", limit=100)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, message: Identity) -> None:
    """Show an in-app message, and how many did what with it."""
    daemon.show(daemon.ask("GET", f"/in-app-messages/{message}"))


@commands.command()
@grouped
def recipients(
    daemon: Daemon,
    message: Identity,
    event: Annotated[str | None, typer.Option(help="Only those who did this: opened, read …")] = None,
) -> None:
    """List who did something with an in-app message."""
    query = {} if event is None else {"event": event}
    found = daemon.ask("GET", f"/in-app-messages/{message}/recipients", limit=1000, **query)["items"]
    daemon.show(found, RECIPIENTS)


@commands.command()
@grouped
def end(
    daemon: Daemon, message: Identity, at: Annotated[float, typer.Argument(help="UNIX seconds, before its end.")]
) -> None:
    """Bring the end of an in-app message forward."""
    daemon.show(daemon.ask("PATCH", f"/in-app-messages/{message}", {"ends_at": at}))


@commands.command()
@grouped
def cancel(daemon: Daemon, message: Identity) -> None:
    """Withdraw an in-app message from everybody."""
    daemon.show(daemon.ask("POST", f"/in-app-messages/{message}/cancel"))


@commands.command()
@grouped
def inbox(
    daemon: Daemon,
    install: Install = None,
    user: Person = None,
    only: Annotated[bool, typer.Option("--inbox", help="Only what stands in the inbox now.")] = False,
) -> None:
    """Show the messages of an install or a user, as they fetch them."""
    found = daemon.ask("GET", _inbox(install, user), limit=1000, inbox=str(only).lower())["items"]
    daemon.show(found, MESSAGES)


@commands.command()
@grouped
def badge(daemon: Daemon, install: Install = None, user: Person = None) -> None:
    """Count the unread messages in an inbox."""
    daemon.show(daemon.ask("GET", f"{_inbox(install, user)}/badge"))


@commands.command()
@grouped
def read(daemon: Daemon, install: Install = None, user: Person = None) -> None:
    """Mark all that stands in an inbox as read."""
    daemon.show(daemon.ask("POST", f"{_inbox(install, user)}/read"))


def _inbox(install: str | None, user: str | None) -> str:
    """The path of an inbox."""
    if (install is None) == (user is None):
        raise typer.BadParameter("name whose inbox it is: --install or --user")
    return (
        f"/users/{quote(user, safe='')}/inbox"
        if user is not None
        else f"/installs/{quote(install or '', safe='')}/inbox"
    )
