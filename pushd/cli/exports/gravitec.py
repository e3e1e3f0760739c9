"""Gravitec: subscribers of a site with their regId, and the browser's subscription where the export has it."""

from __future__ import annotations

from pushd.cli.exports.fields import Said
from pushd.cli.exports.records import Service


def _read(said: Said) -> None:
    """Every subscriber is a browser."""
    if any(name in said.values for name in ("install_id", "token", "endpoint", "subscription")):
        said.values.setdefault("kind", "webpush")
        said.values.setdefault("platform", "web")
        said.values.setdefault("shape", "gravitec")


SERVICE = Service(
    name="gravitec",
    columns={
        "install_id": ("regId", "reg_id", "registrationId", "subscriber_id", "subscriber", "id"),
        "token": ("token",),
        "subscription": ("subscription", "pushSubscription"),
        "endpoint": ("endpoint", "subscription.endpoint", "url"),
        "p256dh": ("p256dh", "keys.p256dh", "subscription.keys.p256dh", "public_key"),
        "auth": ("auth", "keys.auth", "subscription.keys.auth", "auth_secret"),
        "application_server_key": ("vapid_public_key", "applicationServerKey"),
        "bundle": ("bundle",),
        "alias": ("alias",),
        "tags": ("tags", "tag", "segments"),
        "locale": ("language", "lang", "locale"),
        "country": ("country_code", "countryCode"),
        "time_zone": ("timezone", "tz"),
        "push_enabled": ("isActiveFollower", "active", "isActive", "status"),
    },
    read=_read,
)
