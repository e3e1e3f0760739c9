"""Options that commands share: which configuration, which daemon, which key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from pushd.config.load import Loaded, load

ConfigPath = Annotated[Path | None, typer.Option("--config", help="Configuration file.", show_default=False)]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where pushd and the embedded PostgreSQL keep their state.")
]
Dsn = Annotated[str | None, typer.Option("--dsn", help="A PostgreSQL URL instead of the embedded server.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the data as JSON.")]


def configuration(path: Path | None, data_dir: Path | None = None, dsn: str | None = None, **more: Any) -> Loaded:
    """The configuration that a command runs with; flags that were not given change nothing."""
    flags: dict[str, Any] = {"store.data_dir": data_dir and str(data_dir), "store.dsn": dsn}
    flags.update({name.replace("__", "."): value for name, value in more.items()})
    return load(path, os.environ, {name: value for name, value in flags.items() if value is not None})
