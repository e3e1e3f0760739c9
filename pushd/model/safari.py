"""Websites of an app that Safari 15 and older ask for permission through: what their push packages are made of."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from protocols.safari import FORMAT_CHARS_MAX
from protocols.safari_package import ICON_BYTES_MAX, ICONS
from pushd.model.device import Tag, Text255

WebsitePushId = Annotated[str, Meta(max_length=255, pattern=r"^web\.[A-Za-z0-9][A-Za-z0-9._-]*$")]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Png = Annotated[bytes, Meta(max_length=ICON_BYTES_MAX)]


class Icons(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The icon set, each a PNG in base64: of the pixels that its name says, `_2x` of twice as many."""

    icon_16x16: Png
    icon_16x16_2x: Png
    icon_32x32: Png
    icon_32x32_2x: Png
    icon_128x128: Png
    icon_128x128_2x: Png

    def files(self) -> dict[str, bytes]:
        """The icons by their names in a package."""
        return {name: getattr(self, icon_field(name)) for name in ICONS}


def icon_field(name: str) -> str:
    """The field of the icon that has this name in a package."""
    return name.removesuffix(".png").replace("@", "_")


class SiteSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is stored of a site beside its icons; its urlFormatString is its certificate's."""

    website_name: Text255
    """Shown when Safari asks, and in its preferences."""
    allowed_domains: Annotated[list[Url], Meta(min_length=1, max_length=100)]
    """Origins, such as https://example.com, whose pages may ask for permission."""
    web_service_url: Url
    """Where Safari reaches this daemon: https://…/pushd/safari/{app}, or a way there of your own."""
    chain: Annotated[str, Meta(max_length=65_536)] = ""
    """PEM: Apple's intermediate certificate that issued the website's, unless the p12 holds it."""


class SiteBody(SiteSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A site as it is put."""

    url_format: Annotated[str, Meta(max_length=FORMAT_CHARS_MAX)] | None = None
    """The urlFormatString, each `%@` an argument; absent: the certificate's. It is stored with the certificate."""
    icons: Icons | None = None
    """Absent: those that are there."""


class Site(Struct, frozen=True, kw_only=True):
    """A site as the API shows it."""

    website_push_id: str
    website_name: str
    allowed_domains: list[str]
    url_format: str
    web_service_url: str
    icons: dict[str, int]
    """Bytes of each icon."""
    updated_at: float


class StoredSite(Struct, frozen=True, kw_only=True):
    """A site as it is stored, without its icons."""

    website_push_id: str
    settings: SiteSettings
    icon_bytes: list[int]
    """In the order of `ICONS`."""
    updated_at: float


class UserInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a page may tell of its visitor (the third argument of `requestPermission`); what else it tells is not read.

    All but the key is believed only with one.
    """

    key: Annotated[str, Meta(max_length=256)] | None = None
    """A device key of the app."""
    install_id: Text255 | None = None
    user_id: Text255 | None = None
    tags: Annotated[list[Tag], Meta(max_length=50)] | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    time_zone: Annotated[str, Meta(max_length=64)] | None = None

    def registered(self) -> dict[str, Any]:
        """What of it a registration takes, absent fields left out."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in told.items() if name not in ("key", "install_id")}


class Said(Struct, frozen=True):
    """A line that some Safari sent to the log of its web service."""

    at: float
    text: str
