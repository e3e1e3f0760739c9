"""The rules of a Web Push subscription: its host, its keys, and the line of text that it is stored as (W-06, W-42)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from protocols import aes128gcm, vapid, webpush
from pushd.errors import Fault
from pushd.model.device import Registration, Subscription, SubscriptionKeys
from pushd.transport.guard import Guard, parse


@dataclass(frozen=True, slots=True)
class PushRules:
    """What subscriptions are checked with."""

    guard: Guard
    app_id: int
    current_key: Callable[[Registration], str]
    """The fingerprint of the key that the app's pages subscribe with now; "" where it has none."""


def token(registration: Registration, rules: PushRules, faults: list[Fault]) -> str | None:
    """The stored form of what was registered: a subscription, its JSON as `token`, or the stored form itself."""
    text = registration.token
    if registration.subscription is not None:
        if text is not None:
            faults.append(Fault("/token", "is in the subscription already"))
        return _line(registration.subscription, "/subscription", registration, rules, faults)
    if text is None:
        return None
    if text.startswith("{"):
        try:
            subscription = msgspec.json.decode(text, type=Subscription)
        except msgspec.MsgspecError:
            faults.append(Fault("/token", "is not the JSON of a PushSubscription"))
            return None
        return _line(subscription, "/token", registration, rules, faults)
    line = text.encode("utf-8", "replace")
    if not webpush.is_address(line):
        faults.append(Fault("/token", "is no PushSubscription: send it as `subscription`, or its JSON as the token"))
        return None
    parts = webpush.parse_address(line)
    keys = SubscriptionKeys(p256dh=parts.p256dh.decode(), auth=parts.auth.decode())
    subscription = Subscription(endpoint=parts.endpoint.decode(), keys=keys)
    known = "" if parts.key == webpush.KEY_UNKNOWN else parts.key.decode()
    return _line(subscription, "/token", registration, rules, faults, known)


def _line(
    subscription: Subscription,
    pointer: str,
    registration: Registration,
    rules: PushRules,
    faults: list[Fault],
    fingerprint: str = "",
) -> str | None:
    endpoint = f"{pointer}/endpoint" if pointer == "/subscription" else pointer
    try:
        target = parse(subscription.endpoint)
    except ValueError as error:
        faults.append(Fault(endpoint, str(error)))
        return None
    if target.host.encode() in webpush.DEAD_HOSTS:
        faults.append(Fault(endpoint, "is of a push service that is no more"))
    elif not rules.guard.allows(target, rules.app_id):
        faults.append(Fault(endpoint, "is not of a push service that this server may send to"))
    if subscription.application_server_key is not None:
        fingerprint = _fingerprint(subscription.application_server_key, f"{pointer}/application_server_key", faults)
    fingerprint = fingerprint or rules.current_key(registration)
    try:
        return webpush.address(target.url, subscription.keys.p256dh, subscription.keys.auth, fingerprint)
    except ValueError as error:
        faults.append(Fault(f"{pointer}/keys" if pointer == "/subscription" else pointer, str(error)))
        return None


def _fingerprint(text: str, pointer: str, faults: list[Fault]) -> str:
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        public = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
        aes128gcm.load_point(public)
    except (binascii.Error, ValueError):
        faults.append(Fault(pointer, "is not a public key of P-256 in base64url"))
        return ""
    return vapid.fingerprint(public)
