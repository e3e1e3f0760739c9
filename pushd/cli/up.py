"""`pushd up` and `pushd serve`: the daemon, for a person at a terminal and under a supervisor."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pushd.cli.options import grouped
from pushd.cli.settings import Setup
from pushd.model.app import Role

if TYPE_CHECKING:
    from pushd.daemon import Daemon

Port = Annotated[int | None, typer.Option("--port", help="Port of the plain listener; 0: none.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]


KeyOut = Annotated[
    Path | None, typer.Option("--admin-key-file", help="Write the first admin key here instead of printing it.")
]


@grouped
def up(
    setup: Setup,
    host: Host = None,
    port: Port = None,
    admin_key_file: KeyOut = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", help="End when the parent process does.")] = False,
) -> None:
    """Start the daemon for real use; the first time, print the admin key, once."""
    from pushd.cli.process import run  # noqa: PLC0415  # the other commands need no daemon: it is half of their start

    loaded = setup.load(http__host=host, http__port=port)
    raise typer.Exit(run(loaded.config, announce=partial(_welcome, admin_key_file), with_parent=with_parent))


@grouped
def serve(setup: Setup) -> None:
    """Run the daemon under a supervisor: systemd's Type=notify, watchdog and credentials directory."""
    from pushd.cli.process import run  # noqa: PLC0415  # as above

    raise typer.Exit(run(setup.load().config))


async def _welcome(key_file: Path | None, daemon: Daemon) -> None:
    """Says where the daemon listens; makes and shows the admin key where there is none yet."""
    secret = None
    if not any(key.revoked_at is None for key in await daemon.store.keys.list(None, 0, 1000)):
        _, secret = await daemon.store.keys.create(None, Role.ADMIN, "first")
        if key_file is not None:
            with open(key_file, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(secret + "\n")
    url = f"http://{daemon.config.http.host}:{daemon.http.port}"
    print(f"pushd listens on {url}  (API reference: {url}/pushd/v1/docs)", flush=True)
    if secret is not None and key_file is None:
        print(f"The admin key, shown this once:\n\n    {secret}\n")
        print("Keep it in ~/.config/pushd/key (mode 0600), and `pushd app`, `key`, `send` … will use it.", flush=True)


def add_to(commands: typer.Typer) -> None:
    """Adds both commands."""
    commands.command()(up)
    commands.command()(serve)


program = typer.Typer(name="pushd", pretty_exceptions_enable=False, rich_markup_mode=None)
"""These two alone, which is what a daemon runs."""
add_to(program)
