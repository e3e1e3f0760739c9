"""The platforms of Kumulos's gateway configuration: what each section of it says, as a credential."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pushd.dialects.kumulos.fields import Fields
from pushd.model.credential import Secret
from pushd.model.device import Environment

FILE_CHARS_MAX = 65_536
MODES = {"production": Environment.PRODUCTION, "sandbox": Environment.SANDBOX}
_ACCOUNT = ("projectId", "privateKeyId", "privateKey", "clientEmail")
_FILE = {
    "clientId": "client_id",
    "authUri": "auth_uri",
    "tokenUri": "token_uri",
    "authProviderX509CertUrl": "auth_provider_x509_cert_url",
    "clientX509CertUrl": "client_x509_cert_url",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A credential to be made or replaced, and the field of the body that it comes from."""

    field: str
    secret: Secret
    environments: Sequence[Environment]


def parse(given: Fields) -> list[Wanted]:
    """The credentials that a body describes; its faults are noted there."""
    made: list[Wanted | None] = [
        _android(given.within("android")),
        _ios(given.within("ios")),
        _web(given.within("web")),
        _hcm(given.within("hcm")),
        _safari(given.within("safari")),
    ]
    return [each for each in made if each is not None]


def _android(given: Fields | None) -> Wanted | None:
    if given is None:
        return None
    given.text("serverKey", FILE_CHARS_MAX)
    account = given.within("serviceAccount")
    if account is None:
        if "serviceAccount" not in given:
            given.bad("serviceAccount", "is required: Google takes no server keys any more")
        return None
    said = {name: account.text(name, FILE_CHARS_MAX, required=True) for name in _ACCOUNT}
    rest = {own: account.text(name, 1_000, empty=True) or "" for name, own in _FILE.items()}
    secret = {
        "type": "service_account",
        "project_id": said["projectId"],
        "private_key_id": said["privateKeyId"],
        "private_key": said["privateKey"],
        "client_email": said["clientEmail"],
        **rest,
    }
    return _wanted(given, "serviceAccount", "android", secret)


def _ios(given: Fields | None) -> Wanted | None:
    if given is None:
        return None
    mode = given.choice("mode", MODES, required="p12" in given)
    both = tuple(MODES.values()) if mode is None else (mode,)
    if "p12" in given and "p8" in given:
        given.bad("p8", "cannot stand beside p12")
    elif "p12" in given:
        secret = _certificate(given, "apns_certificate")
        return None if secret is None else _wanted(given, "p12", "ios", secret, both)
    elif "p8" in given:
        key = _file(given, "p8")
        names = {name: given.text(name, required=True) for name in ("keyId", "teamId", "bundleId")}
        if key is None:
            return None
        token = {
            "type": "apns_token",
            "team_id": names["teamId"],
            "key_id": names["keyId"],
            "private_key": key.decode("ascii", "replace"),
            "topics": [names["bundleId"]],
        }
        return _wanted(given, "p8", "ios", token, both)
    else:
        given.bad("p8", "is required, or p12")
    return None


def _web(given: Fields | None) -> Wanted | None:
    """Keys of Web Push, where the app has none; the page that shows the icon stands for the contact."""
    if given is None or (icon := given.url("iconUrl")) is None:
        return None
    secret = {"type": "vapid", "subject": f"https://{urlsplit(icon).hostname}"}
    return _wanted(given, "iconUrl", "web", secret)


def _hcm(given: Fields | None) -> Wanted | None:
    if given is None:
        return None
    number = given.number("appId", 1, 10**15, required=True)
    secret = {
        "type": "hms_client",
        "client_id": str(number),
        "client_secret": given.text("appIdPassword", required=True),
    }
    return _wanted(given, "appIdPassword", "hcm", secret)


def _safari(given: Fields | None) -> Wanted | None:
    if given is None:
        return None
    given.url("iconUrl")
    site, secret = given.url("siteUrl"), _certificate(given, "safari_certificate")
    if secret is None:
        return None
    if site is not None:
        parts = urlsplit(site)
        secret["url_format"] = f"{parts.scheme}://{parts.netloc}/%@"
    return _wanted(given, "p12", "safari", secret)


def _certificate(given: Fields, kind: str) -> dict[str, Any] | None:
    if _file(given, "p12") is None:
        return None
    return {"type": kind, "p12": given.get("p12"), "password": given.text("password", empty=True) or ""}


def _file(given: Fields, name: str) -> bytes | None:
    """A file in base64."""
    said = given.text(name, FILE_CHARS_MAX, required=True)
    try:
        return None if said is None else base64.b64decode(said, validate=True)
    except (binascii.Error, ValueError):
        given.bad(name, "is not base64")
        return None


def _wanted(
    given: Fields,
    name: str,
    section: str,
    secret: dict[str, Any],
    environments: Sequence[Environment] = (Environment.PRODUCTION,),
) -> Wanted | None:
    """The secret, where it has the form of one; no value of it is ever told."""
    try:
        return Wanted(section, msgspec.convert(secret, Secret), environments)
    except msgspec.ValidationError:
        if not given.faults:
            given.bad(name, "is not valid, or one of the fields beside it")
        return None
