"""The gateway configuration of an app, platform by platform: what a product team has at hand, in one body."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pushd.model.device import Environment

FileText = Annotated[str, Meta(min_length=1, max_length=1_400_000)]
Name255 = Annotated[str, Meta(min_length=1, max_length=255)]
Url = Annotated[str, Meta(max_length=2048, pattern=r"^https?://")]


class Ios(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """APNs: a p8 key or a p12 certificate, never both."""

    p8: FileText | None = None
    """The key file, as it is (PEM) or in base64."""
    key_id: Annotated[str, Meta(pattern=r"^[A-Z0-9]{10}$")] | None = None
    team_id: Annotated[str, Meta(pattern=r"^[A-Z0-9]{10}$")] | None = None
    bundle_id: Name255 | None = None
    """The topic that a p8 key serves; absent: every bundle of the app."""
    p12: FileText | None = None
    """The certificate file in base64."""
    password: Annotated[str, Meta(max_length=255)] = ""
    mode: Environment | None = None
    """Absent: both environments with a p8 key; with a certificate those that it is marked for."""


class ServiceAccount(Struct, frozen=True, kw_only=True):
    """The fields of Google's key file that matter; its others are accepted and not used."""

    project_id: Name255
    private_key_id: Name255
    private_key: FileText
    client_email: Name255


class AndroidGateway(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """FCM: a service account. The server key of the legacy API, which Google switched off, is accepted and unused."""

    service_account: ServiceAccount | None = None
    server_key: Annotated[str, Meta(max_length=4096)] | None = None


class Web(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Web Push: VAPID keys are made where there are none."""

    icon_url: Url | None = None
    """The app's default icon."""
    subject: Annotated[str, Meta(max_length=255)] | None = None
    """A contact for push services: a mailto: or https: URI; absent: the app's site."""


class Huawei(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HMS Push Kit: an app's id and secret, as AppGallery Connect shows them."""

    app_id: Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=r"^[0-9]{1,20}$")]
    app_id_password: Annotated[str, Meta(min_length=1, max_length=512)]


class SafariGateway(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Website pushes for Safari 15 and older: the certificate of a website push id."""

    p12: FileText
    """The certificate file in base64."""
    password: Annotated[str, Meta(max_length=255)] = ""
    icon_url: Url | None = None
    """The app's default icon, where it has none; Safari itself shows the icons of the site's push package."""
    site_url: Url | None = None
    """The app's site."""
    url_format: Annotated[str, Meta(max_length=2048)] | None = None
    """The urlFormatString; absent: the one that is there, else the site and one `%@` behind it."""


class Gateways(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be configured; platforms that are not named stay as they are."""

    ios: Ios | None = None
    android: AndroidGateway | None = None
    web: Web | None = None
    huawei: Huawei | None = None
    safari: SafariGateway | None = None


class PlatformStatus(Struct, frozen=True, kw_only=True):
    """A platform that is configured, with whatever credentials it has."""

    platform: str
    created_at: float
    updated_at: float
    credentials: list[int]
