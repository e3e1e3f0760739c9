"""A batch of what happened on an install, read leniently: what cannot be read is passed over, whatever it is.

An SDK sends a batch again and again until it is taken, so nothing that stands in one is ever a reason to refuse it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from pushd.dialects.kumulos.fields import as_name, as_number
from pushd.model.device import ID_MAX, Environment, Kind, Platform, Subscription
from pushd.model.geofence import LocationReport
from pushd.model.in_app import InboxEvent, InboxReport
from pushd.model.receipt import TIME_MAX, Event, Receipt

EVENTS_MAX = 500
"""Of one batch that are looked at; SDKs send a hundred."""
KINDS = {1: Kind.APNS, 2: Kind.FCM, 3: Kind.WEBPUSH, 4: Kind.SAFARI, 5: Kind.HMS}
PLATFORMS = {
    Kind.APNS: Platform.IOS,
    Kind.FCM: Platform.ANDROID,
    Kind.WEBPUSH: Platform.WEB,
    Kind.SAFARI: Platform.MACOS,
    Kind.HMS: Platform.HUAWEI,
}
DEVELOPMENT = 2
"""The `iosTokenType` of a build that Xcode runs; all others have tokens of production."""
PUSH, IN_APP = 1, 2
ANDROID_OS, WEB_RUNTIME = 3, 8
VERSION_CHARS_MAX, LOCALE_CHARS_MAX, ZONE_CHARS_MAX = 64, 35, 64
UUID_CHARS_MAX = 128
_RECEIPTS = {
    "k.message.delivered": (Event.DELIVERED, InboxEvent.DELIVERED),
    "k.message.opened": (Event.OPENED, InboxEvent.OPENED),
    "k.message.dismissed": (Event.DISMISSED, InboxEvent.DISMISSED),
    "k.message.read": (Event.READ, InboxEvent.READ),
    "k.message.inbox.deleted": (None, InboxEvent.DELETED),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where an install can be pushed to from now on."""

    kind: Kind
    token: str | None
    subscription: Subscription | None = None
    environment: Environment = Environment.PRODUCTION
    bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The install is not to be pushed to any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What else is known of an install from now on; fields as registrations have them."""

    fields: dict[str, Any]
    kind: Kind | None = None
    """What sort of address it will have, as far as that shows."""
    bundle: str | None = None
    attributes: dict[str, Any] | None = None
    """Of the user in `fields`."""


Act = Address | Gone | Change


@dataclass(slots=True)
class Batch:
    """What a batch says: what is done to the install, in order, and what is reported."""

    acts: list[Act] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    reports: list[tuple[str | None, InboxReport]] = field(default_factory=list)
    """Each with the user, or install, that it was reported as."""
    locations: list[LocationReport] = field(default_factory=list)


def parse(given: Any) -> Batch:
    """What a list of events says; what is no event is passed over, and what comes again with its uuid."""
    batch = Batch()
    seen: set[str] = set()
    for each in given[:EVENTS_MAX] if isinstance(given, list) else ():
        if not isinstance(each, dict) or not isinstance(each.get("type"), str):
            continue
        uuid = _uuid(each)
        if uuid not in seen:
            seen.add(uuid)
            _read(batch, each, uuid)
    return batch


def _read(batch: Batch, event: dict[str, Any], uuid: str) -> None:
    kind, said = event["type"], event.get("data")
    data: dict[str, Any] = said if isinstance(said, dict) else {}
    match kind:
        case "k.push.deviceRegistered":
            _registered(batch, data)
        case "k.push.deviceUnsubscribed":
            batch.acts.append(Gone())
        case "k.push.notificationEnablementChanged":
            _change(batch, push_enabled=data.get("notificationsEnabled"))
        case "k.inApp.statusUpdated":
            _change(batch, in_app_consent=data.get("consented"))
        case "k.stats.installTracked":
            batch.acts.append(tracked(data))
        case "k.stats.userAssociated":
            _associated(batch, data)
        case "k.stats.userAssociationCleared":
            batch.acts.append(Change(fields={"user_id": None}))
        case "k.engage.locationUpdated":
            _located(batch, data, _at(event))
        case "k.push.opened":  # of SDKs that know no in-app messages yet
            _reported(batch, "k.message.opened", {"type": PUSH, "id": data.get("id")}, event, uuid)
        case _ if kind in _RECEIPTS:
            _reported(batch, kind, data, event, uuid)
        case _:
            return  # custom events, sessions, beacons, links: taken, and nothing is done


def _registered(batch: Batch, data: dict[str, Any]) -> None:
    kind = KINDS.get(as_number(data.get("type")) or 0)
    if kind is None:
        return
    token, subscription = data.get("token"), None
    if kind is Kind.WEBPUSH:
        subscription, token = _subscription(token), None
    elif not isinstance(token, str) or not 0 < len(token) <= 4_096:
        token = None
    if token is None and subscription is None:
        return
    development = as_number(data.get("iosTokenType")) == DEVELOPMENT and kind is Kind.APNS
    bundle = as_name(data.get("bundleId")) or as_name(data.get("package"))
    environment = Environment.SANDBOX if development else Environment.PRODUCTION
    batch.acts.append(Address(kind, token, subscription, environment, bundle))
    _change(batch, push_enabled=data.get("areNotificationsEnabled"))


def _subscription(given: Any) -> Subscription | None:
    """The browser's subscription, as an object or as its JSON."""
    try:
        value = orjson.loads(given) if isinstance(given, str) else given
        return msgspec.convert(value, Subscription)
    except (orjson.JSONDecodeError, msgspec.ValidationError):
        return None


def tracked(data: dict[str, Any]) -> Change:
    """What an install says of itself."""
    app, os, device, runtime = (_object(data.get(name)) for name in ("app", "os", "device", "runtime"))
    web = as_number(runtime.get("id")) == WEB_RUNTIME
    kind = None
    if web:
        kind = Kind.WEBPUSH
    elif as_number(os.get("id")) == ANDROID_OS:
        kind = Kind.FCM
    elif "ios" in data:
        kind = Kind.APNS
    fields = {
        "app_version": _short(app.get("version"), VERSION_CHARS_MAX),
        "os_version": UNSET if web else _short(os.get("version"), VERSION_CHARS_MAX),
        "locale": _short(device.get("locale"), LOCALE_CHARS_MAX),
        "time_zone": _short(device.get("tz"), ZONE_CHARS_MAX),
    }
    bundle = None if web else as_name(app.get("bundle"))  # a page's is its host, which chooses nothing
    return Change(
        fields={name: value for name, value in fields.items() if value is not UNSET}, kind=kind, bundle=bundle
    )


def _associated(batch: Batch, data: dict[str, Any]) -> None:
    user = as_name(data.get("id"))
    if user is not None:
        attributes = data.get("attributes")
        kept = attributes if isinstance(attributes, dict) and attributes else None
        batch.acts.append(Change(fields={"user_id": user}, attributes=kept))


def _located(batch: Batch, data: dict[str, Any], at: float | None) -> None:
    try:
        given = {"latitude": data.get("lat"), "longitude": data.get("lng"), "at": at}
        batch.locations.append(msgspec.convert(given, LocationReport))
    except msgspec.ValidationError:
        return


def _reported(batch: Batch, kind: str, data: dict[str, Any], event: dict[str, Any], uuid: str) -> None:
    number = as_number(data.get("id"))
    if number is None or not 0 < number <= ID_MAX:
        return
    push, in_app = _RECEIPTS[kind]
    at, sort = _at(event), as_number(data.get("type"))
    if sort == PUSH and push is not None:
        batch.receipts.append(Receipt(id=uuid, notification_id=number, event=push, at=at))
    elif sort == IN_APP:
        report = InboxReport(message_id=number, event=in_app, at=at)
        batch.reports.append((as_name(event.get("userId")), report))


def _change(batch: Batch, **switches: Any) -> None:
    """Notes switches that say something."""
    fields = {name: value for name, value in switches.items() if isinstance(value, bool)}
    if fields:
        batch.acts.append(Change(fields=fields))


def _at(event: dict[str, Any]) -> float | None:
    """When it happened, in UNIX seconds; None where that is not said."""
    given = event.get("timestamp")
    milliseconds = given if isinstance(given, float) else as_number(given)
    if milliseconds is None or not 0 <= milliseconds <= TIME_MAX * 1000:
        return None
    return milliseconds / 1000


def _uuid(event: dict[str, Any]) -> str:
    """By what an event is known again; what has no uuid is itself."""
    uuid = event.get("uuid")
    if isinstance(uuid, str) and 0 < len(uuid) <= UUID_CHARS_MAX and "\0" not in uuid:
        return uuid
    return sha256(orjson.dumps(event, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(value: Any, most: int) -> str | UnsetType:
    """A text that is not empty, cut to what is stored."""
    return value[:most] if isinstance(value, str) and value and "\0" not in value else UNSET
