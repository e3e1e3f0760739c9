"""The command line: one module per noun; every command that prints data takes --json."""

from __future__ import annotations

import gc
import sys

EXIT_ERROR = 1
DAEMON = ("up", "serve")
"""Commands that are to be there within moments: of the others they import nothing."""
COLLECT_AFTER = (40_000, 10, 50)
"""Objects and rounds after which the garbage collector looks: Python's 700 were made for small heaps."""


def main() -> None:
    """Runs the command line; what went wrong is one line on stderr, and the exit status is not 0."""
    gc.set_threshold(*COLLECT_AFTER)  # imports make many objects, and hardly any garbage
    from pushd.config import TelemetryConfig  # noqa: PLC0415  # the threshold is to hold by then
    from pushd.errors import PushdError  # noqa: PLC0415  # as above
    from pushd.telemetry import configure_logging  # noqa: PLC0415  # as above

    configure_logging(TelemetryConfig(log_format="console", log_level="warning"))
    try:
        _run()
    except PushdError as error:
        from rich.console import Console  # noqa: PLC0415  # a daemon has no use for it

        console = Console(stderr=True, highlight=False, markup=False)
        console.print(f"pushd: {error.detail}", soft_wrap=True)
        for fault in error.faults:
            console.print(f"  {fault.pointer or '/'}: {fault.detail}", soft_wrap=True)
        sys.exit(EXIT_ERROR)


def _run() -> None:
    if sys.argv[1:2] and sys.argv[1] in DAEMON:
        from pushd.cli.up import program  # noqa: PLC0415  # one or the other
    else:
        from pushd.cli.program import program  # noqa: PLC0415  # one or the other
    program()
