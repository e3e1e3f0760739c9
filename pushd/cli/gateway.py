"""`pushd gateway`: an app's gateway credentials."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon
from pushd.errors import ConfigError
from pushd.model.device import Environment

commands = typer.Typer(name="gateway", help="Gateway credentials of an app.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The credential's id.")]
COLUMNS = ("id", "gateway", "environment", "name", "summary", "state", "paused_reason")


@commands.command()
@grouped
def apns(
    daemon: Daemon,
    p8: Annotated[Path, typer.Argument(help="Apple's AuthKey_….p8 file.")],
    team_id: Annotated[str, typer.Option(help="Apple's 10-character team id.")],
    key_id: Annotated[str, typer.Option(help="Apple's 10-character key id.")],
    topic: Annotated[list[str] | None, typer.Option(help="Bundle id of a topic-specific key; may repeat.")] = None,
    environment: Annotated[Environment, typer.Option(help="Whose devices it serves.")] = Environment.PRODUCTION,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    replace: Annotated[int | None, typer.Option(help="Id of the credential to replace; its name stays.")] = None,
) -> None:
    """Upload an APNs provider token key; it is stored encrypted and never shown again."""
    try:
        private_key = p8.read_text()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{p8}: cannot be read as a p8 file") from None
    secret = {
        "type": "apns_token",
        "team_id": team_id,
        "key_id": key_id,
        "private_key": private_key,
        "topics": topic or [],
    }
    _upload(daemon, secret, environment, name, replace)


@commands.command("apns-certificate")
@grouped
def apns_certificate(
    daemon: Daemon,
    p12: Annotated[Path, typer.Argument(help="The push certificate with its key, as a .p12 file.")],
    password_file: Annotated[Path | None, typer.Option(help="File with its password; absent: it has none.")] = None,
    environment: Annotated[Environment, typer.Option(help="Whose devices it serves.")] = Environment.PRODUCTION,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    replace: Annotated[int | None, typer.Option(help="Id of the credential to replace; its name stays.")] = None,
) -> None:
    """Upload an APNs certificate; its topics are read from it."""
    secret = {"type": "apns_certificate", **_certificate(p12, password_file)}
    _upload(daemon, secret, environment, name, replace)


@commands.command()
@grouped
def safari(
    daemon: Daemon,
    p12: Annotated[Path, typer.Argument(help="The website push certificate with its key, as a .p12 file.")],
    password_file: Annotated[Path | None, typer.Option(help="File with its password; absent: it has none.")] = None,
    url_format: Annotated[
        str | None, typer.Option(help="The site's urlFormatString; absent: it stays as it is.")
    ] = None,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    replace: Annotated[int | None, typer.Option(help="Id of the credential to replace; its name stays.")] = None,
) -> None:
    """Upload the certificate of a website push id, for Safari 15 and older."""
    secret = {"type": "safari_certificate", **_certificate(p12, password_file)}
    if url_format is not None:
        secret["url_format"] = url_format
    _upload(daemon, secret, Environment.PRODUCTION, name, replace)


def _upload(daemon: Daemon, secret: dict[str, Any], environment: Environment, name: str, replace: int | None) -> None:
    """Uploads a new credential, or one in another's place, which keeps its name and environment, and shows it."""
    if replace is not None:
        daemon.show(daemon.ask("PUT", f"/credentials/{replace}", {"secret": secret}))
    else:
        body = {"secret": secret, "environment": environment, "name": name}
        daemon.show(daemon.ask("POST", "/credentials", body))


def _certificate(p12: Path, password_file: Path | None) -> dict[str, str]:
    """A p12 file and its password as the API takes them."""
    try:
        password = "" if password_file is None else password_file.read_text().rstrip("\r\n")
        return {"p12": base64.b64encode(p12.read_bytes()).decode(), "password": password}
    except (OSError, UnicodeDecodeError) as error:
        at = password_file if isinstance(error, UnicodeDecodeError) else getattr(error, "filename", p12)
        raise ConfigError(f"{at}: cannot be read") from None


@commands.command()
@grouped
def fcm(
    daemon: Daemon,
    service_account: Annotated[Path, typer.Argument(help="The service account's key file, as Google hands it out.")],
    package: Annotated[list[str] | None, typer.Option(help="Package that its project serves; may repeat.")] = None,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    replace: Annotated[int | None, typer.Option(help="Id of the credential to replace; its name stays.")] = None,
) -> None:
    """Upload a Google service account that may send with FCM; no address in its file is ever connected to."""
    try:
        secret = msgspec.json.decode(service_account.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        raise ConfigError(f"{service_account}: cannot be read as a service account's key file") from None
    _upload(daemon, secret | {"packages": package or []}, Environment.PRODUCTION, name, replace)


@commands.command()
@grouped
def webpush(
    daemon: Daemon,
    subject: Annotated[str, typer.Argument(help="A contact for push services: a mailto: or https: URI.")],
    private_key_file: Annotated[
        Path | None, typer.Option(help="File with a VAPID private key, PEM or base64url; absent: one is made.")
    ] = None,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    replace: Annotated[
        int | None, typer.Option(help="Id of the credential to rotate; its older keys go on serving.")
    ] = None,
) -> None:
    """Make or upload VAPID keys of Web Push; pages subscribe with the public key that is shown."""
    secret = {"type": "vapid", "subject": subject}
    if private_key_file is not None:
        try:
            secret["private_key"] = private_key_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{private_key_file}: cannot be read") from None
    _upload(daemon, secret, Environment.PRODUCTION, name, replace)


@commands.command()
@grouped
def hms(
    daemon: Daemon,
    client_id: Annotated[str, typer.Argument(help="The app's id in AppGallery Connect.")],
    secret_file: Annotated[Path, typer.Option(help="File with the app's secret.")],
    project_id: Annotated[str, typer.Option(help="Send by project (Huawei's v2) with this id.")] = "",
    package: Annotated[list[str] | None, typer.Option(help="Package that this app is; may repeat.")] = None,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    replace: Annotated[int | None, typer.Option(help="Id of the credential to replace; its name stays.")] = None,
) -> None:
    """Upload the OAuth client of an app of HMS Push Kit."""
    try:
        client_secret = secret_file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{secret_file}: cannot be read") from None
    secret = {
        "type": "hms_client",
        "client_id": client_id,
        "client_secret": client_secret,
        "project_id": project_id,
        "packages": package or [],
    }
    _upload(daemon, secret, Environment.PRODUCTION, name, replace)


@commands.command()
@grouped
def email(
    daemon: Daemon,
    address: Annotated[str, typer.Argument(help="From whom mails come.")],
    from_name: Annotated[str, typer.Option(help="The sender's name.")] = "",
    reply_to: Annotated[str, typer.Option(help="Where answers go.")] = "",
    unsubscribe_url: Annotated[str, typer.Option(help="One-click unsubscribe URL; {device} is the device's id.")] = "",
    unsubscribe_mail: Annotated[str, typer.Option(help="Address that takes wishes to unsubscribe.")] = "",
    name: Annotated[str, typer.Option(help="For people.")] = "",
    replace: Annotated[int | None, typer.Option(help="Id of the credential to replace; its name stays.")] = None,
) -> None:
    """Say as whom an app sends e-mail; the relay is in the daemon's configuration."""
    secret = {
        "type": "email_sender",
        "from_address": address,
        "from_name": from_name,
        "reply_to": reply_to,
        "unsubscribe_url": unsubscribe_url,
        "unsubscribe_mail": unsubscribe_mail,
    }
    _upload(daemon, secret, Environment.PRODUCTION, name, replace)


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List credentials and whether gateways take them."""
    daemon.show(daemon.ask("GET", "/credentials", limit=1000)["items"], COLUMNS)


@commands.command()
@grouped
def pause(daemon: Daemon, credential: Identity) -> None:
    """Stop sending with a credential; its messages wait."""
    daemon.show(daemon.ask("POST", f"/credentials/{credential}/pause"))


@commands.command()
@grouped
def resume(daemon: Daemon, credential: Identity) -> None:
    """Send with a credential again."""
    daemon.show(daemon.ask("POST", f"/credentials/{credential}/resume"))


@commands.command("test")
@grouped
def prove(
    daemon: Daemon,
    credential: Identity,
    bundle: Annotated[str | None, typer.Option(help="Bundle id to ask for; absent: one that it serves.")] = None,
) -> None:
    """Ask the gateway whether it takes a credential, without sending anything."""
    said = daemon.ask("POST", f"/credentials/{credential}/test", {"bundle": bundle} if bundle else {})
    daemon.show(said)
    if said["accepted"] is not True:
        raise typer.Exit(1)


@commands.command()
@grouped
def delete(daemon: Daemon, credential: Identity) -> None:
    """Delete a credential."""
    daemon.ask("DELETE", f"/credentials/{credential}")
