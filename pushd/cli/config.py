"""`pushd config`: what is configured, where it came from, and a sample file."""

from __future__ import annotations

from typing import Annotated

import typer

from pushd.cli.output import console, show
from pushd.cli.settings import AsJson, ConfigPath, Setup
from pushd.config.load import describe, sample

commands = typer.Typer(name="config", help="The configuration.", no_args_is_help=True)


@commands.command()
def check(config: ConfigPath = None) -> None:
    """Say whether the configuration is valid."""
    Setup(config=config).load()
    console.print("The configuration is valid.")


@commands.command("show")
def all_settings(
    config: ConfigPath = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    json: AsJson = False,
) -> None:
    """Show every setting."""
    loaded = Setup(config=config).load()
    rows = [
        {"setting": name, "value": value, "origin": loaded.origins.get(name, "default")}
        for name, value in describe(loaded.config)
    ]
    columns = ("setting", "value", "origin") if origin else ("setting", "value")
    show([{name: row[name] for name in columns} for row in rows], as_json=json, columns=columns)


@commands.command("sample")
def sample_file() -> None:
    """Print a configuration file with every setting at its default."""
    console.print(sample(), markup=False, soft_wrap=True, end="")
