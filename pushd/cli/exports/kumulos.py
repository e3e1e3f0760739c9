"""Kumulos: installs with their push registrations, channels, subscriptions, and events as its SDKs report them."""

from __future__ import annotations

from pushd.cli.exports.fields import InvalidRowError, Said
from pushd.cli.exports.records import Service

TYPES = {"1": "apns", "2": "fcm", "3": "webpush", "4": "safari", "5": "hms"}
DEVELOPMENT = "2"
"""The iosTokenType of builds whose tokens are of the sandbox; those of store, ad hoc and wildcard are of production."""
ASSOCIATED = "k.stats.userAssociated"
EVENTS = frozenset(("k.push.deviceRegistered", "k.stats.installTracked", ASSOCIATED))


def _within(*names: str) -> tuple[str, ...]:
    """Names as they stand alone, in a push registration, and in the data of an event."""
    return tuple(prefix + name for name in names for prefix in ("", "push.", "pushRegistration.", "data."))


def _read(said: Said) -> None:
    """Numbers stand for kinds; a user id that is the install's own is none; a uuid is a channel's."""
    type_ = said.text("_type")
    if type_.startswith("k."):
        _read_event(said, type_)
    elif type_:
        said.values.setdefault("kind", type_)
    if kind := said.text("kind"):
        said.values["kind"] = TYPES.get(kind, kind)
    if token_type := said.text("_token_type"):
        said.values.setdefault("environment", "sandbox" if token_type == DEVELOPMENT else "production")
    install_id = said.text("install_id")
    if install_id and said.text("user_id") == install_id:
        del said.values["user_id"]
    if "channel" in said.values and (install_id or said.text("user_id")):
        said.values["channels" if install_id else "user_channels"] = [said.values.pop("channel")]
    if install_id:
        said.values.setdefault("shape", "kumulos")


def _read_event(said: Said, event: str) -> None:
    if event not in EVENTS:
        raise InvalidRowError("_type", f"is an event of which nothing is imported: {event[:60]}")
    if event == ASSOCIATED:
        said.values["user_id"] = said.values.get("_associated")
        said.values.pop("install_id", None)  # whose the install is, its registration says


SERVICE = Service(
    name="kumulos",
    columns={
        "install_id": ("installId", "install.id", "install.installId", "installation_id"),
        "_type": ("type", "event_type"),
        "kind": ("platformType", *_within("type")[1:], *_within("tokenType", "gateway", "push_type")),
        "token": _within("token", "pushToken", "deviceToken", "subscription"),
        "_token_type": _within("iosTokenType"),
        "environment": _within("environment", "mode"),
        "bundle": _within("bundleId", "package", "packageName", "bundle"),
        "platform": ("platform", "platformName", "os.name"),
        "user_id": ("userIdentifier", "userId", "user.id", "user.identifier"),
        "_associated": ("data.id",),
        "locale": _within("locale", "device.locale", "language"),
        "time_zone": _within("device.tz", "tz", "timezone"),
        "country": _within("country", "countryCode"),
        "app_version": _within("app.version", "appVersion"),
        "os_version": _within("os.version", "osVersion"),
        "push_enabled": _within("areNotificationsEnabled", "notificationsEnabled", "subscribed", "push_enabled"),
        "in_app_consent": _within("consented", "inAppConsent"),
        "channels": ("channels", "channelUuids", "subscriptions"),
        "tags": ("tags",),
        "email": ("email",),
        "attributes": ("attributes", "userAttributes", "user.attributes", "data.attributes"),
        "channel": ("channelUuid", "uuid", "channel"),
        "channel_name": ("channelName", "name"),
        "channel_meta": ("meta",),
        "channel_in_portal": ("showInPortal",),
    },
    read=_read,
)
