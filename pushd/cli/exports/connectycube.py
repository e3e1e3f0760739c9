"""ConnectyCube: pages of `GET /users`, and subscriptions with what they were made from."""

from __future__ import annotations

from pushd.cli.exports.fields import InvalidRowError, Said, plain
from pushd.cli.exports.records import Service

CHANNELS = {"apns": "apns", "apnsvoip": "apns_voip", "gcm": "fcm", "fcm": "fcm", "web": "webpush"}
ID = "connectycube:"
"""Before the number of a user who has no external id, so that it is nobody's external id."""
SAID = ("full_name", "login", "phone", "website", "custom_data", "avatar")
"""What users have beside, and have as attributes."""


def _within(*names: str, wrapper: str = "subscription") -> tuple[str, ...]:
    """Names as they stand alone, and as they stand within a row's only object."""
    return (*names, *(f"{wrapper}.{name}" for name in names))


def _read(said: Said) -> None:
    """A subscription has a channel or a device, a user neither; the id of one is the user's, of the other its own."""
    is_device = any(name in said.values for name in ("install_id", "token", "endpoint", "kind"))
    number = said.text("_owner") or ("" if is_device else said.text("_number"))
    if not said.text("user_id") and number:
        said.values["user_id"] = f"{ID}{number}"
    if channel := said.text("kind"):
        if plain(channel) not in CHANNELS:
            raise InvalidRowError("kind", f"{channel[:40]} is none of apns, apns_voip, gcm and web")
        said.values["kind"] = CHANNELS[plain(channel)]
    if is_device:
        said.values.setdefault("shape", "connectycube")


SERVICE = Service(
    name="connectycube",
    columns={
        "install_id": _within("device.udid", "udid", "device_udid"),
        "kind": _within("notification_channel.name", "notification_channels.name", "notification_channel", "channel"),
        "token": _within("push_token.client_identification_sequence", "client_identification_sequence", "token"),
        "environment": _within("push_token.environment", "environment"),
        "bundle": _within("push_token.bundle_identifier", "bundle_identifier", "bundle"),
        "platform": _within("device.platform.name", "device.platform", "platform.name", "platform"),
        "endpoint": _within("push_token.web_endpoint", "web_endpoint"),
        "p256dh": _within("push_token.web_p256dh", "web_p256dh"),
        "auth": _within("push_token.web_auth", "web_auth"),
        "user_id": (*_within("external_user_id", "user.external_user_id"), "user_external_id"),
        "email": _within("email", wrapper="user"),
        "user_tags": _within("user_tags", "tag_list", wrapper="user"),
        "_number": _within("id", wrapper="user"),
        "_owner": _within("user_id"),
        **{f"attributes.{name}": _within(name, wrapper="user") for name in SAID},
    },
    read=_read,
)
