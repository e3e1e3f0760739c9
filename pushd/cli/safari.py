"""`pushd safari`: websites whose visitors subscribe with Safari 15 and older, and what Safari complained of."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.safari_package import ICONS
from pushd.cli.options import grouped
from pushd.cli.reach import Daemon
from pushd.errors import ConfigError
from pushd.model.safari import icon_field

commands = typer.Typer(name="safari", help="Websites for Safari 15 and older.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="The website push id, web.….")]
COLUMNS = ("website_push_id", "website_name", "allowed_domains", "url_format", "web_service_url")


@commands.command()
@grouped
def put(
    daemon: Daemon,
    site: Identity,
    website_name: Annotated[str, typer.Option(help="Shown when Safari asks its user.")],
    domain: Annotated[list[str], typer.Option(help="Origin whose pages may ask, https://…; may repeat.")],
    web_service_url: Annotated[str, typer.Option(help="Where Safari reaches the daemon: https://…/pushd/safari/APP.")],
    url_format: Annotated[
        str | None, typer.Option(help="The site's urlFormatString; absent: its certificate's.")
    ] = None,
    icons: Annotated[
        Path | None, typer.Option(help="Directory of the six icons, named as in a package; absent: as they are.")
    ] = None,
    chain: Annotated[Path | None, typer.Option(help="PEM file of Apple's intermediate certificate.")] = None,
) -> None:
    """Make or change a website; its certificate comes first (`pushd gateway safari`)."""
    body: dict[str, Any] = {
        "website_name": website_name,
        "allowed_domains": domain,
        "web_service_url": web_service_url,
    }
    if url_format is not None:
        body["url_format"] = url_format
    if chain is not None:
        body["chain"] = _octets(chain).decode("latin-1")
    if icons is not None:
        body["icons"] = {icon_field(name): base64.b64encode(_octets(icons / name)).decode() for name in ICONS}
    daemon.show(daemon.ask("PUT", f"/safari/sites/{site}", body))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the websites."""
    daemon.show(daemon.ask("GET", "/safari/sites")["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, site: Identity) -> None:
    """Show a website."""
    daemon.show(daemon.ask("GET", f"/safari/sites/{site}"))


@commands.command()
@grouped
def delete(daemon: Daemon, site: Identity) -> None:
    """End a website's push packages; its devices and its certificate stay."""
    daemon.ask("DELETE", f"/safari/sites/{site}")


@commands.command()
@grouped
def log(daemon: Daemon) -> None:
    """Show what Safari complained of, the newest last."""
    daemon.show(daemon.ask("GET", "/safari/log")["items"], ("at", "text"))


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
