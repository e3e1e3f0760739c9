"""A running daemon as commands reach it: --app, --url, --key-file and --json, and the calls that are made with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pushd.cli.client import Client, ask, read_key
from pushd.cli.options import Options
from pushd.cli.output import show
from pushd.cli.settings import AsJson

DEFAULT_URL = "http://127.0.0.1:8085"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation(Options):
    """Where a daemon listens, as whom a command speaks to it, and how it prints what it hears."""

    url: Annotated[str, typer.Option("--url", envvar="PUSHD_URL", help="Where the daemon listens.")] = DEFAULT_URL
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", envvar="PUSHD_KEY_FILE", help="File with the API key; default ~/.config/pushd/key."),
    ] = None
    json: AsJson = False

    def client(self) -> Client:
        """A client of it, for commands that call more than once."""
        return Client(self.url, read_key(self.key_file), self.acts_on)

    @property
    def acts_on(self) -> int | None:
        """The app to act on; None: the key's own, or the whole installation."""
        return None

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The decoded answer to one call."""
        return ask(self.client(), method, path, body, query)

    def show(self, data: Any, columns: Sequence[str] = ()) -> None:
        """Prints data as the caller wants it."""
        show(data, as_json=self.json, columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon(Installation):
    """The same of commands that act on one app."""

    app: Annotated[
        int | None, typer.Option("--app", envvar="PUSHD_APP", help="The app to act on; needed with an admin key.")
    ] = None

    @property
    def acts_on(self) -> int | None:
        """As the option says."""
        return self.app
