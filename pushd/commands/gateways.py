"""The gateway configuration of an app as a whole: checked in every part, then put; platforms not named stay."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from protocols.safari import PLACEHOLDER
from pushd.commands import apps, credentials
from pushd.commands.context import Context
from pushd.credentials import secrets
from pushd.errors import Fault, InvalidRequestError
from pushd.model.app import Settings
from pushd.model.credential import (
    ApnsCertificate,
    ApnsToken,
    Credential,
    FcmServiceAccount,
    HmsClient,
    SafariCertificate,
    Secret,
    VapidKeys,
)
from pushd.model.device import Environment, GatewayName
from pushd.model.gateways import AndroidGateway, Gateways, Huawei, Ios, PlatformStatus, SafariGateway, Web

NAME = "gateway configuration"
"""Of the credentials that this makes and replaces; others are not touched."""

PLATFORMS = {
    GatewayName.APNS: "ios",
    GatewayName.FCM: "android",
    GatewayName.WEBPUSH: "web",
    GatewayName.HMS: "huawei",
    GatewayName.SAFARI: "safari",
    GatewayName.EMAIL: "email",
}
PAGE = 1_000
PEM_MARK = "-----BEGIN"


class _Part(NamedTuple):
    # One credential to be put, and the fields of the body that its faults are about.
    secret: Secret
    environments: tuple[Environment, ...]
    pointer: str
    fields: dict[str, str]


async def status(context: Context, app_id: int) -> list[PlatformStatus]:
    """The platforms that are configured, in the order of their gateways."""
    by_platform: dict[str, list[Credential]] = {}
    for credential in await credentials.list_page(context, app_id, after=0, limit=PAGE):
        by_platform.setdefault(PLATFORMS[credential.gateway], []).append(credential)
    return [
        PlatformStatus(
            platform=platform,
            created_at=min(each.created_at for each in found),
            updated_at=max(each.updated_at for each in found),
            credentials=[each.id for each in found],
        )
        for platform in PLATFORMS.values()
        if (found := by_platform.get(platform))
    ]


async def configure(context: Context, app_id: int, wanted: Gateways) -> list[PlatformStatus]:
    """The platforms that are configured then. Nothing is put unless all of it can be.

    InvalidRequestError with every fault. A store that goes away half-way leaves some of it put: asked again, the same
    body puts the rest.
    """
    app = await apps.get(context, app_id)
    known = {
        (each.gateway, each.environment): each
        for each in await credentials.list_page(context, app_id, after=0, limit=PAGE)
        if each.name == NAME
    }
    here = {gateway: context.keyring.secret(each.id) for (gateway, _), each in known.items()}
    settings = _settings(wanted, app.settings)
    parts = list(_parts(wanted, settings.site_url, here))
    for part in parts:
        for environment in part.environments:
            _check(context, part, environment)
    for part in parts:
        for environment in part.environments:
            there = known.get((part.secret.gateway, environment))
            if there is None:
                await credentials.create(context, app_id, environment, NAME, part.secret)
            else:
                await credentials.replace(context, app_id, there.id, part.secret)
    if settings != app.settings:
        await apps.update(context, app_id, None, settings)
    return await status(context, app_id)


def _settings(wanted: Gateways, settings: Settings) -> Settings:
    """The app's settings with what platforms say of icon and site."""
    web, safari = wanted.web, wanted.safari
    icon = (web and web.icon_url) or settings.icon or (safari and safari.icon_url)
    site_url = (safari and safari.site_url) or settings.site_url
    return msgspec.structs.replace(settings, icon=icon or None, site_url=site_url or None)


def _check(context: Context, part: _Part, environment: Environment) -> None:
    """Nothing, or InvalidRequestError that points into the configuration."""
    try:
        credentials.check(context, part.secret, environment)
    except InvalidRequestError as error:
        faults = [Fault(_pointer(part, fault.pointer), fault.detail) for fault in error.faults]
        raise InvalidRequestError("The gateway configuration is not usable", faults=faults) from None


def _pointer(part: _Part, pointer: str) -> str:
    name = pointer.rpartition("/")[2]
    return f"{part.pointer}/{part.fields[name]}" if name in part.fields else part.pointer


def _parts(wanted: Gateways, site_url: str | None, here: Mapping[GatewayName, Secret | None]) -> Iterator[_Part]:
    """The credentials to be put; `here` are those that this configuration put before."""
    keys, website = here.get(GatewayName.WEBPUSH), here.get(GatewayName.SAFARI)
    vapid = keys if isinstance(keys, VapidKeys) else None
    if wanted.ios is not None:
        yield _ios(wanted.ios)
    if wanted.android is not None and wanted.android.service_account is not None:
        yield _android(wanted.android)
    if wanted.web is not None and (wanted.web.subject is not None or vapid is None):
        yield _web(wanted.web, site_url, vapid)
    if wanted.huawei is not None:
        yield _huawei(wanted.huawei)
    if wanted.safari is not None:
        yield _safari(wanted.safari, website if isinstance(website, SafariCertificate) else None)


def _ios(ios: Ios) -> _Part:
    if (ios.p8 is None) == (ios.p12 is None):
        field = "/ios/p8" if ios.p8 is None else "/ios/p12"
        raise InvalidRequestError("The gateway configuration is not usable", faults=[Fault(field, _ONE_OF)])
    if ios.p12 is not None:
        certificate = ApnsCertificate(p12=_octets(ios.p12, "/ios/p12"), password=ios.password)
        try:
            marked = tuple(certificate.environments)
        except ValueError:
            marked = (Environment.PRODUCTION,)  # it cannot be opened, which the check says better
        environments = marked if ios.mode is None else (ios.mode,)
        return _Part(certificate, environments, "/ios", {"p12": "p12", "password": "password", "environment": "mode"})
    missing = [
        Fault(f"/ios/{name}", "is required with a p8 key") for name in ("key_id", "team_id") if not _get(ios, name)
    ]
    if missing:
        raise InvalidRequestError("The gateway configuration is not usable", faults=missing)
    assert ios.p8 is not None
    assert ios.team_id is not None
    assert ios.key_id is not None
    secret = ApnsToken(
        team_id=ios.team_id,
        key_id=ios.key_id,
        private_key=_pem(ios.p8, "/ios/p8"),
        topics=[ios.bundle_id] if ios.bundle_id else [],
    )
    environments = tuple(Environment) if ios.mode is None else (ios.mode,)
    return _Part(secret, environments, "/ios", {"private_key": "p8"})


_ONE_OF = "a p8 key or a p12 certificate, one of them and not both"


def _get(ios: Ios, name: str) -> str | None:
    return {"key_id": ios.key_id, "team_id": ios.team_id}[name]


def _android(android: AndroidGateway) -> _Part:
    account = android.service_account
    assert account is not None
    fields = msgspec.structs.asdict(account)
    names = {name: f"service_account/{name}" for name in fields}
    try:
        secret = msgspec.convert(fields, FcmServiceAccount)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].rstrip("`")
        fault = Fault(f"/android/{names.get(name, 'service_account')}", "is not as Google's key file has it")
        raise InvalidRequestError("The gateway configuration is not usable", faults=[fault]) from None
    return _Part(secret, (Environment.PRODUCTION,), "/android", names)


def _web(web: Web, site_url: str | None, vapid: VapidKeys | None) -> _Part:
    subject = web.subject or (site_url if site_url and site_url.startswith("https://") else None)
    if subject is None:
        fault = Fault("/web/subject", "is required: push services ask for a contact, and the app names no https site")
        raise InvalidRequestError("The gateway configuration is not usable", faults=[fault])
    # Browsers subscribed with the keys that are there: a new contact is no reason for new ones.
    made = vapid or secrets.complete(VapidKeys(subject=subject), None)
    secret = msgspec.structs.replace(made, subject=subject)
    return _Part(secret, (Environment.PRODUCTION,), "/web", {"subject": "subject"})


def _huawei(huawei: Huawei) -> _Part:
    secret = HmsClient(client_id=str(huawei.app_id), client_secret=huawei.app_id_password)
    names = {"client_id": "app_id", "client_secret": "app_id_password"}
    return _Part(secret, (Environment.PRODUCTION,), "/huawei", names)


def _safari(wanted: SafariGateway, known: SafariCertificate | None) -> _Part:
    url_format = wanted.url_format or (known and known.url_format)
    if not url_format and wanted.site_url is not None:
        url_format = f"{wanted.site_url.rstrip('/')}/{PLACEHOLDER}"
    p12 = _octets(wanted.p12, "/safari/p12")
    secret = SafariCertificate(p12=p12, password=wanted.password, url_format=url_format or "")
    named = "url_format" if wanted.url_format else "site_url"
    names = {"p12": "p12", "password": "password", "url_format": named}
    return _Part(secret, (Environment.PRODUCTION,), "/safari", names)


def _pem(text: str, pointer: str) -> str:
    """A PEM text that came as it is, or in base64."""
    if PEM_MARK in text:
        return text
    try:
        return _octets(text, pointer).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidRequestError(_UNUSABLE, faults=[Fault(pointer, "is neither PEM nor PEM in base64")]) from None


def _octets(text: str, pointer: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError(_UNUSABLE, faults=[Fault(pointer, "is not base64")]) from None


_UNUSABLE = "The gateway configuration is not usable"
