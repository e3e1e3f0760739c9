"""Websites for Safari 15 and older: put, read and deleted; checked so far that their packages can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from protocols import safari, safari_package
from protocols.safari_package import ICONS, Signer
from pushd.commands import credentials
from pushd.commands.context import Context
from pushd.commands.text import check_text
from pushd.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from pushd.model.credential import SafariCertificate
from pushd.model.device import Environment, Kind, Route
from pushd.model.safari import Icons, Site, SiteBody, SiteSettings, StoredSite, icon_field

_UNUSABLE = "The site's packages could not be made"


async def put(context: Context, app_id: int, website_push_id: str, wanted: SiteBody) -> Site:
    """The site as it is then; its urlFormatString goes to its certificate, which is resumed when that changes it.

    ConflictError without a certificate of this id; InvalidRequestError with every fault.
    """
    settings = SiteSettings(**{name: getattr(wanted, name) for name in SiteSettings.__struct_fields__})
    check_text({"settings": settings, "url_format": wanted.url_format})
    credential_id, secret = certificate(context, app_id, website_push_id)
    url_format = secret.url_format if wanted.url_format is None else wanted.url_format
    faults = [*_faults(settings, url_format or "", wanted.icons), *_signing_faults(secret, settings)]
    if not faults:
        domains = settings.allowed_domains
        faults += _checked("/allowed_domains", safari_package.check_reach, url_format, domains)
    if wanted.icons is None and await context.store.safari_sites.get(app_id, website_push_id) is None:
        faults.append(Fault("/icons", "are required: the site has none yet"))
    if faults:
        raise InvalidRequestError(_UNUSABLE, faults=faults)
    if url_format != secret.url_format:
        changed = msgspec.structs.replace(secret, url_format=url_format)
        await credentials.replace(context, app_id, credential_id, changed)
    icons = None if wanted.icons is None else [*wanted.icons.files().values()]
    stored = await context.store.safari_sites.put(app_id, website_push_id, settings, icons)
    if stored is None:
        raise NotFoundError("The site was deleted meanwhile")
    return _shown(context, app_id, stored)


async def get(context: Context, app_id: int, website_push_id: str) -> Site:
    """The site; NotFoundError."""
    stored = await context.store.safari_sites.get(app_id, website_push_id)
    if stored is None:
        raise NotFoundError("There is no such site")
    return _shown(context, app_id, stored)


async def listing(context: Context, app_id: int) -> list[Site]:
    """The app's sites, by their ids."""
    return [_shown(context, app_id, stored) for stored in await context.store.safari_sites.list(app_id)]


async def delete(context: Context, app_id: int, website_push_id: str) -> None:
    """Nothing, once no more packages are made for the site; its devices and certificate stay. NotFoundError."""
    if not await context.store.safari_sites.delete(app_id, website_push_id):
        raise NotFoundError("There is no such site")


def certificate(context: Context, app_id: int, website_push_id: str) -> tuple[int, SafariCertificate]:
    """The credential of a website push id, and what it is made of; ConflictError where the app has none."""
    credential_id = context.keyring.find(Route(app_id, Kind.SAFARI, Environment.PRODUCTION, website_push_id))
    secret = None if credential_id is None else context.keyring.secret(credential_id)
    if credential_id is None or not isinstance(secret, SafariCertificate):
        raise ConflictError("The app has no certificate of this website push id: upload it first")
    return credential_id, secret


def _shown(context: Context, app_id: int, stored: StoredSite) -> Site:
    try:
        url_format = certificate(context, app_id, stored.website_push_id)[1].url_format
    except ConflictError:
        url_format = None
    settings = stored.settings
    return Site(
        website_push_id=stored.website_push_id,
        website_name=settings.website_name,
        allowed_domains=settings.allowed_domains,
        url_format=url_format or "",
        web_service_url=settings.web_service_url,
        icons=dict(zip(map(icon_field, ICONS), stored.icon_bytes, strict=True)),
        updated_at=stored.updated_at,
    )


def _faults(settings: SiteSettings, url_format: str, icons: Icons | None) -> Iterator[Fault]:
    for at, domain in enumerate(settings.allowed_domains):
        yield from _checked(f"/allowed_domains/{at}", safari_package.check_domain, domain)
    yield from _checked("/web_service_url", safari_package.check_service_url, settings.web_service_url)
    if not url_format:
        yield Fault("/url_format", "is required: the site's certificate has none yet")
    else:
        yield from _checked("/url_format", safari.check_format, url_format)
    for name, data in ({} if icons is None else icons.files()).items():
        yield from _checked(f"/icons/{icon_field(name)}", safari_package.check_icon, name, data)


def _signing_faults(secret: SafariCertificate, settings: SiteSettings) -> Iterator[Fault]:
    identity = secret.identity
    yield from _checked("/chain", Signer, identity.certificates, identity.private_key, settings.chain)


def _checked(pointer: str, check: Callable[..., object], *arguments: object) -> Iterator[Fault]:
    """The fault that a check finds, if any."""
    try:
        check(*arguments)
    except ValueError as error:
        yield Fault(pointer, str(error))
