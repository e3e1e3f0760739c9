"""`pushd vendor-key`: keys by which an app is spoken to in the dialects of hosted services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon
from pushd.errors import ConfigError
from pushd.model.app import Role
from pushd.model.vendor_key import DialectName

commands = typer.Typer(name="vendor-key", help="Keys of the dialects that pushd speaks.", no_args_is_help=True)

COLUMNS = ("id", "dialect", "role", "identity", "name", "revoked_at")


@commands.command()
@grouped
def create(
    daemon: Daemon,
    dialect: Annotated[DialectName, typer.Argument(help="Whose API it is for.")],
    identity: Annotated[str | None, typer.Option(help="As the vendor gave it out; absent: a new one.")] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File with the vendor's secret; absent: a new one.")] = None,
    role: Annotated[Role, typer.Option(help="server, or device for what ships inside apps.")] = Role.SERVER,
    name: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Make a key, or go on with one of the vendor's, and show it once."""
    body: dict[str, Any] = {"dialect": dialect, "role": role, "name": name}
    if identity is not None:
        body["identity"] = identity
    if secret_file is not None:
        try:
            body["secret"] = secret_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{secret_file}: cannot be read") from None
    daemon.show(daemon.ask("POST", "/vendor-keys", body))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List keys, without their secrets."""
    daemon.show(daemon.ask("GET", "/vendor-keys", limit=1000)["items"], COLUMNS)


@commands.command()
@grouped
def revoke(daemon: Daemon, key: Annotated[int, typer.Argument(help="The key's id.")]) -> None:
    """Make a key useless, at once."""
    daemon.show(daemon.ask("POST", f"/vendor-keys/{key}/revoke"))
