"""A running daemon as commands reach it: --app, --url, --key-file and --json, and the calls that are made with them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pushd.cli.client import Client, ask, read_key
from pushd.cli.output import show
from pushd.cli.settings import AsJson

DEFAULT_URL = "http://127.0.0.1:8085"

AppId = Annotated[
    int | None, typer.Option("--app", envvar="PUSHD_APP", help="The app to act on; needed with an admin key.")
]
Url = Annotated[str, typer.Option("--url", envvar="PUSHD_URL", help="Where the daemon listens.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", envvar="PUSHD_KEY_FILE", help="File with the API key; default ~/.config/pushd/key."),
]

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """Where it listens, as whom a command speaks, and how it prints what it hears."""

    app: int | None = None
    """The app to act on; None: the key's own, or the whole installation."""
    url: str = DEFAULT_URL
    key_file: Path | None = None
    json: bool = False

    def client(self) -> Client:
        """A client of it, for commands that call more than once."""
        return Client(self.url, read_key(self.key_file), self.app)

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The decoded answer to one call."""
        return ask(self.client(), method, path, body, query)

    def show(self, data: Any, columns: Sequence[str] = ()) -> None:
        """Prints data as the caller wants it."""
        show(data, as_json=self.json, columns=columns)


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "app": (AppId, None),
    "url": (Url, DEFAULT_URL),
    "key_file": (KeyFile, None),
    "json": (AsJson, False),
}


def reaching(command: Command) -> Command:
    """The command with the options of its parameter `daemon` in the place of that."""
    return _with_options(command, _OPTIONS)


def reaching_all(command: Command) -> Command:
    """The same of a command that acts on the installation, so that it has no --app."""
    return _with_options(command, {name: option for name, option in _OPTIONS.items() if name != "app"})


def _with_options(command: Command, options: dict[str, tuple[Any, Any]]) -> Command:
    signature = inspect.signature(command, eval_str=True)
    assert signature.parameters["daemon"].annotation is Daemon
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "daemon"]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in options.items()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        daemon = Daemon(**{name: given.pop(name) for name in options})
        return command(daemon=daemon, **given)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run  # type: ignore[return-value]  # to callers that are typer it is the same command
