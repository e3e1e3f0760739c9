"""Safari's web service of an app: push packages made, devices registered and unregistered, complaints heard (S-05).

Theory. A package carries a token of ours, which Safari sends back with every later request: what the visitor's page
told, under an HMAC. Nothing of it is stored. The install that a package stands for is named in its token, so that
nobody can unregister a device whose package is not theirs.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import NamedTuple

import msgspec
from msgspec import Struct

from protocols import safari_package
from protocols.safari_package import ICONS, Signer, Wrapping
from pushd.commands import devices
from pushd.commands.context import Context
from pushd.commands.safari_sites import certificate
from pushd.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
)
from pushd.model.app import Key, Role
from pushd.model.credential import SafariCertificate
from pushd.model.device import Environment, Kind, Platform, Registration
from pushd.model.safari import StoredSite, UserInfo

HINT_CHARS = 4
"""How much of a token the API shows."""
PAGE = 100

_encode = msgspec.json.Encoder().encode


class Package(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an authentication token says: whose install its package made, and what may be believed of its visitor."""

    install_id: str
    info: UserInfo = UserInfo()


class _Place(NamedTuple):
    app_id: int
    website_push_id: str


class SafariService:
    """The service of every app. `key` is 32 bytes that authenticate packages."""

    def __init__(self, context: Context, key: bytes) -> None:
        self._context = context
        self._key = key
        self._ready: OrderedDict[_Place, tuple[object, Wrapping]] = OrderedDict()
        self._made: tuple[int, dict[int, int]] = (0, {})

    async def package(self, app_id: int, website_push_id: str, info: UserInfo, key: Key | None) -> bytes:
        """A push package for a visitor, as a zip. `key` is the one that `info` names, where it names one.

        NotFoundError where the app has no such site or no certificate for it, ForbiddenError for a key that no page
        may hold, TooManyRequestsError.
        """
        self._pace(app_id)
        place = _Place(app_id, website_push_id)
        stored, secret = await self._site(place)
        if not secret.url_format:
            raise NotFoundError("The site has no urlFormatString")
        if key is not None and (key.role is not Role.DEVICE or key.app_id != app_id):
            raise ForbiddenError("The key must be a device key of this app: every visitor can read it")
        website = safari_package.website_json(
            name=stored.settings.website_name,
            website_push_id=website_push_id,
            allowed_domains=stored.settings.allowed_domains,
            url_format=secret.url_format,
            authentication_token=self._token(place, info, believed=key is not None),
            web_service_url=stored.settings.web_service_url,
        )
        wrapping = await self._wrapping(place, stored, secret)
        # A signature by RSA and a zip of some hundred kilobytes: a few milliseconds, off the loop.
        return await asyncio.to_thread(wrapping.package, website)

    async def register(self, app_id: int, website_push_id: str, token: str, authorization: str) -> None:
        """Nothing, once the device is registered. UnauthorizedError, InvalidRequestError."""
        package = self._opened(_Place(app_id, website_push_id), authorization)
        told = {"platform": Platform.MACOS.value, **package.info.registered()}
        wanted = {
            "install_id": package.install_id,
            "kind": Kind.SAFARI.value,
            "token": token,
            "environment": Environment.PRODUCTION.value,
            "bundle": website_push_id,
            **told,
        }
        try:
            registration = msgspec.convert(wanted, Registration)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"This cannot be registered: {error}") from None
        await devices.register(self._context, app_id, registration)

    async def unregister(self, app_id: int, website_push_id: str, token: str, authorization: str) -> None:
        """Nothing, once the package's install has no device with this token. UnauthorizedError."""
        package = self._opened(_Place(app_id, website_push_id), authorization)
        found = await devices.list_page(self._context, app_id, after=0, limit=PAGE, install_id=package.install_id)
        for device in found:
            same = (device.kind, device.bundle) == (Kind.SAFARI, website_push_id)
            if same and device.token_hint == token[-HINT_CHARS:].lower():
                await devices.delete(self._context, app_id, device.id)

    async def log(self, app_id: int, lines: list[str]) -> None:
        """Keeps what Safari complains of. NotFoundError for an app that is not there."""
        if await self._context.store.apps.get(app_id) is None:
            raise NotFoundError("There is no such app")
        self._context.safari_log.add(app_id, lines, self._context.clock.now())

    async def _site(self, place: _Place) -> tuple[StoredSite, SafariCertificate]:
        stored = await self._context.store.safari_sites.get(*place)
        if stored is None:
            raise NotFoundError("There is no such site")
        try:
            return stored, certificate(self._context, *place)[1]
        except ConflictError as error:
            raise NotFoundError(error.detail) from None

    async def _wrapping(self, place: _Place, stored: StoredSite, secret: SafariCertificate) -> Wrapping:
        """What the site's packages share, made anew where site or certificate changed."""
        version = (stored.updated_at, secret.identity.fingerprint)
        known = self._ready.get(place)
        if known is not None and known[0] == version:
            self._ready.move_to_end(place)
            return known[1]
        icons = await self._context.store.safari_sites.icons(*place)
        if len(icons) != len(ICONS):
            raise NotFoundError("There is no such site")
        identity = secret.identity
        try:
            signer = Signer(identity.certificates, identity.private_key, stored.settings.chain)
        except ValueError as error:
            # The certificate was replaced by one of another authority: the site has to be put again.
            raise NotFoundError(f"The site's packages cannot be signed: the chain {error}") from None
        made = Wrapping(dict(zip(ICONS, icons, strict=True)), signer)
        self._ready[place] = (version, made)
        if len(self._ready) > self._context.config.safari.sites_ready_max:
            self._ready.popitem(last=False)
        return made

    def _pace(self, app_id: int) -> None:
        second = int(self._context.clock.monotonic())
        if self._made[0] != second:
            self._made = (second, {})
        counts = self._made[1]
        counts[app_id] = counts.get(app_id, 0) + 1
        if counts[app_id] > self._context.config.safari.packages_per_second_max:
            raise TooManyRequestsError("Too many packages at once", retry_after_s=1.0)

    def _token(self, place: _Place, info: UserInfo, *, believed: bool) -> str:
        install_id = (info.install_id if believed else None) or f"safari:{secrets.token_hex(16)}"
        kept = msgspec.structs.replace(info, key=None, install_id=None) if believed else UserInfo()
        text = _encode(Package(install_id=install_id, info=kept))
        # The salt makes every package's token its own, whoever the visitor is.
        text = secrets.token_bytes(8) + text
        return base64.urlsafe_b64encode(self._mac(place, text) + text).rstrip(b"=").decode()

    def _opened(self, place: _Place, authorization: str) -> Package:
        scheme, _, token = authorization.partition(" ")
        try:
            octets = base64.urlsafe_b64decode(token.strip() + "=" * (-len(token.strip()) % 4))
        except (binascii.Error, ValueError):
            octets = b""
        mac, text = octets[:32], octets[32:]
        if scheme.lower() != "applepushnotifications" or not hmac.compare_digest(mac, self._mac(place, text)):
            raise UnauthorizedError("The authentication token is of no package of this site")
        return msgspec.json.decode(text[8:], type=Package)

    def _mac(self, place: _Place, text: bytes) -> bytes:
        return hmac.digest(self._key, _encode(place) + text, hashlib.sha256)
