"""ConnectyCube's subscriptions: the addresses of a user's devices, one of each channel on each device."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from pushd.commands import apps, devices
from pushd.dialect import Dialect
from pushd.dialects.connectycube import wire
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.account import Account
from pushd.model.device import Device, Environment, Kind, Platform, Registration, Shape, Subscription, SubscriptionKeys
from pushd.web.answer import Answer
from pushd.web.incoming import Incoming

CHANNELS = {"apns": Kind.APNS, "apns_voip": Kind.APNS_VOIP, "gcm": Kind.FCM, "web": Kind.WEBPUSH}
NAMES = {kind: name for name, kind in CHANNELS.items()}
ENVIRONMENTS = {"development": Environment.SANDBOX, "production": Environment.PRODUCTION}
PLATFORMS = {"ios": Platform.IOS, "android": Platform.ANDROID, "web": Platform.WEB}
DEVICES_MAX = 1_000
"""Of one user that are looked at."""
TEXT_CHARS_MAX = 255
TOKEN_CHARS_MAX = 4_096
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){16,}")
_FIELDS = {"/token": "client_identification_sequence", "/bundle": "bundle_identifier", "/install_id": "udid"}


async def create(cube: Dialect, incoming: Incoming) -> Answer:
    """POST /subscriptions: again for the same device and channel it keeps its id."""
    own = await wire.session(cube, incoming)
    account = await wire.account(cube, own)
    given = await wire.body(cube, incoming)
    settings = (await apps.get(cube.context, own.app_id)).settings
    registration = _registration(given, account, settings.default_bundle or "")
    try:
        device = await devices.register(cube.context, own.app_id, registration)
    except InvalidRequestError as error:
        fault = error.faults[0]
        field = _FIELDS.get(fault.pointer, "client_identification_sequence")
        raise wire.wrong(field, "is invalid" if field == _FIELDS["/token"] else fault.detail) from None
    return wire.told([_shown(device)], 201)


async def show_all(cube: Dialect, incoming: Incoming) -> Answer:
    """GET /subscriptions: those of the session's user."""
    own = await wire.session(cube, incoming)
    account = await wire.account(cube, own)
    found = await devices.list_page(cube.context, own.app_id, after=0, limit=DEVICES_MAX, user_id=account.external_id)
    return wire.told([_shown(each) for each in found if _is_subscription(each)])


async def delete(cube: Dialect, incoming: Incoming) -> Answer:
    """DELETE /subscriptions/{id}: one's own."""
    own = await wire.session(cube, incoming)
    account = await wire.account(cube, own)
    gone = NotFoundError("Subscription not found")
    try:
        device = await devices.get(cube.context, own.app_id, wire.path_number(incoming))
    except NotFoundError:
        raise gone from None
    if device.user_id != account.external_id or device.kind not in NAMES:
        raise gone
    await devices.delete(cube.context, own.app_id, device.id)
    return wire.done()


def _registration(given: dict[str, Any], account: Account, default_bundle: str) -> Registration:
    channel = wire.text(given.get("notification_channel") or given.get("notification_channels")).strip()
    if channel not in CHANNELS:
        raise wire.wrong("notification_channel", f"is none of {', '.join(CHANNELS)}")
    push_token, device = wire.inside(given, "push_token"), wire.inside(given, "device")
    environment = wire.text(push_token.get("environment"))
    if environment not in ENVIRONMENTS:
        raise wire.wrong("environment", "is neither development nor production")
    platform, udid = wire.text(device.get("platform")), wire.text(device.get("udid"))
    if platform not in PLATFORMS:
        raise wire.wrong("platform", f"is none of {', '.join(PLATFORMS)}")
    if not 0 < len(udid) <= TEXT_CHARS_MAX:
        raise wire.wrong("udid", f"is not a text of 1 to {TEXT_CHARS_MAX} characters")
    kind = CHANNELS[channel]
    fallback = default_bundle if kind in {Kind.APNS, Kind.APNS_VOIP} else ""
    bundle = wire.text(push_token.get("bundle_identifier")) or fallback
    return Registration(
        install_id=udid,
        kind=kind,
        environment=ENVIRONMENTS[environment],
        bundle=bundle[: TEXT_CHARS_MAX + 1],
        shape=Shape.CONNECTYCUBE,
        user_id=account.external_id,
        platform=PLATFORMS[platform],
        token=None if kind is Kind.WEBPUSH else _token(push_token, kind),
        subscription=_web(push_token) if kind is Kind.WEBPUSH else None,
    )


def _token(push_token: dict[str, Any], kind: Kind) -> str:
    """What names the device at its gateway; Apple's in hexadecimal, as which or as base64 they come."""
    said = wire.text(push_token.get("client_identification_sequence")).strip()
    if not 0 < len(said) <= TOKEN_CHARS_MAX:
        raise wire.wrong("client_identification_sequence", "is invalid")
    if kind is Kind.FCM:
        return said
    plain = said.strip("<>").replace(" ", "")
    if _HEX.fullmatch(plain):
        return plain
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).hex() or said
    except binascii.Error:
        raise wire.wrong("client_identification_sequence", "is invalid") from None


def _web(push_token: dict[str, Any]) -> Subscription:
    endpoint, p256dh, auth = (wire.text(push_token.get(f"web_{name}")) for name in ("endpoint", "p256dh", "auth"))
    if not (endpoint and p256dh and auth) or len(endpoint) > 2_048 or max(len(p256dh), len(auth)) > 128:
        raise wire.wrong("web_endpoint", "is invalid, or one of web_p256dh and web_auth")
    return Subscription(endpoint=endpoint, keys=SubscriptionKeys(p256dh=p256dh, auth=auth))


def _is_subscription(device: Device) -> bool:
    return device.kind in NAMES and bool(device.token_hint) and device.retired_at is None


def _shown(device: Device) -> dict[str, Any]:
    platform = device.platform.value if device.platform is not None else "ios"
    return {
        "subscription": {
            "id": device.id,
            "notification_channel": {"name": NAMES[device.kind]},
            "device": {"udid": device.install_id, "platform": {"name": platform}},
        }
    }
