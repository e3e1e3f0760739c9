"""`pushd safari`: websites whose visitors subscribe with Safari 15 and older, and what Safari complained of."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import typer

from protocols.safari_package import ICONS
from pushd.cli.client import ask
from pushd.cli.output import show
from pushd.cli.settings import DEFAULT_URL, AppId, AsJson, KeyFile, Url
from pushd.errors import ConfigError
from pushd.model.safari import icon_field

commands = typer.Typer(name="safari", help="Websites for Safari 15 and older.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(help="The website push id, web.….")]
COLUMNS = ("website_push_id", "website_name", "allowed_domains", "url_format", "web_service_url")


@commands.command()
def put(
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
    app: AppId = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    json: AsJson = False,
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
    show(ask(url, key_file, app, "PUT", f"/safari/sites/{site}", body), as_json=json)


@commands.command("list")
def listing(app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False) -> None:
    """List the websites."""
    show(ask(url, key_file, app, "GET", "/safari/sites")["items"], as_json=json, columns=COLUMNS)


@commands.command("show")
def one(
    site: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False
) -> None:
    """Show a website."""
    show(ask(url, key_file, app, "GET", f"/safari/sites/{site}"), as_json=json)


@commands.command()
def delete(site: Identity, app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None) -> None:
    """End a website's push packages; its devices and its certificate stay."""
    ask(url, key_file, app, "DELETE", f"/safari/sites/{site}")


@commands.command()
def log(app: AppId = None, url: Url = DEFAULT_URL, key_file: KeyFile = None, json: AsJson = False) -> None:
    """Show what Safari complained of, the newest last."""
    show(ask(url, key_file, app, "GET", "/safari/log")["items"], as_json=json, columns=("at", "text"))


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
