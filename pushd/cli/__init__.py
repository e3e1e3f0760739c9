"""The command line: one module per noun; every command that prints data takes --json."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from pushd.cli import (
    app,
    audience,
    channel,
    config,
    demo,
    device,
    doctor,
    gateway,
    geofence,
    imports,
    key,
    live_activity_channel,
    migrate,
    safari,
    segment,
    send,
    simulate,
    up,
)
from pushd.config import TelemetryConfig
from pushd.errors import PushdError
from pushd.telemetry import configure_logging

EXIT_ERROR = 1
EXIT_USAGE = 2

program = typer.Typer(
    name="pushd",
    help="A self-hosted push-notification fan-out daemon.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
program.command()(up.up)
program.command()(up.serve)
program.command()(demo.demo)
program.command()(simulate.simulate)
program.command()(send.send)
program.command()(migrate.migrate)
program.command()(doctor.doctor)
NOUNS = (
    *(device, channel, segment, imports, live_activity_channel, app, key, gateway, safari),
    *(audience, geofence, config),
)
for noun in NOUNS:
    program.add_typer(noun.commands)


def main() -> None:
    """Runs the command line; what went wrong is one line on stderr, and the exit status is not 0."""
    configure_logging(TelemetryConfig(log_format="console", log_level="warning"))
    try:
        program()
    except PushdError as error:
        console = Console(stderr=True, highlight=False, markup=False)
        console.print(f"pushd: {error.detail}", soft_wrap=True)
        for fault in error.faults:
            console.print(f"  {fault.pointer or '/'}: {fault.detail}", soft_wrap=True)
        sys.exit(EXIT_ERROR)
