"""Files of no service in particular: columns are called as fields are, or as most exports call them."""

from __future__ import annotations

from pushd.cli.exports.fields import FIELDS
from pushd.cli.exports.records import Service

OTHERS = {
    "install_id": ("installation_id", "device_id", "udid", "player_id", "subscription_id", "registration_id", "regId"),
    "kind": ("device_type", "push_type", "channel_type"),
    "token": ("device_token", "push_token", "registration_token", "fcm_token", "apns_token", "identifier"),
    "environment": ("apns_environment", "mode"),
    "bundle": ("bundle_id", "bundle_identifier", "package", "package_name", "package_id", "topic"),
    "user_id": ("external_id", "external_user_id", "user", "named_user", "customer_id", "member_id"),
    "platform": ("os", "device_os", "operating_system"),
    "channels": ("subscribe", "subscriptions", "lists"),
    "locale": ("language", "lang", "device_locale"),
    "country": ("country_code",),
    "time_zone": ("tz", "timezone_id"),
    "app_version": ("application_version",),
    "os_version": ("device_os_version", "operating_system_version"),
    "push_enabled": ("enabled", "subscribed", "opt_in", "notifications_enabled"),
    "endpoint": ("keys.endpoint", "subscription.endpoint", "web_endpoint"),
    "p256dh": ("keys.p256dh", "subscription.keys.p256dh", "web_p256dh", "web_p256"),
    "auth": ("keys.auth", "subscription.keys.auth", "web_auth"),
    "application_server_key": ("vapid_public_key", "vapid_key"),
    "email": ("e-mail", "mail", "email_address"),
}
COLUMNS = {name: (name, *OTHERS.get(name, ())) for name in FIELDS}

CSV = Service(name="csv", columns=COLUMNS)
NDJSON = Service(name="ndjson", columns=COLUMNS)
