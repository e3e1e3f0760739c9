"""Options that commands share: which configuration, which daemon, which key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pushd.cli.options import Options
from pushd.config.load import Loaded, load

ConfigPath = Annotated[Path | None, typer.Option("--config", help="Configuration file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the data as JSON.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup(Options):
    """How pushd is set up on this machine, for commands that run it or act on its database themselves."""

    config: ConfigPath = None
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where pushd and the embedded PostgreSQL keep their state.")
    ] = None
    dsn: Annotated[str | None, typer.Option("--dsn", help="A PostgreSQL URL instead of the embedded server.")] = None

    def load(self, **more: Any) -> Loaded:
        """The configuration to run with; flags that were not given change nothing."""
        flags = {"store.data_dir": self.data_dir and str(self.data_dir), "store.dsn": self.dsn}
        flags |= {name.replace("__", "."): value for name, value in more.items()}
        return load(self.config, os.environ, {name: value for name, value in flags.items() if value is not None})
