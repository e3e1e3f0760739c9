"""A Message as an FCM message without its target (Google, "projects.messages"): all of its platforms in one.

An FCM token may be an Android device's, an Apple device's or a browser's, so each message says what it is on all three.
`data` holds texts only: keys of the message's `data` as they are, other values than text as their JSON, and `pushd`
with the JSON of everything else of ours. Keys that FCM keeps for itself, and one called `pushd`, are in that one's
`data`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from protocols import apns as wire
from protocols import fcm
from pushd.batch import Rendered
from pushd.content import apns, life
from pushd.content.merge import merge
from pushd.content.size import encode, largest_field
from pushd.errors import Fault, InvalidRequestError
from pushd.model.app import Settings
from pushd.model.message import Android, Message, PushType, Sound
from pushd.model.notification import Send

TTL_FOLLOWS = ("android.ttl", "expires_at")
"""Says to the gateway that the TTLs in the payload are the time left until the message expires."""

TARGETS = ("token", "topic", "condition", "fid")
"""Fields that say whom a message is for: its audience's to say, never an override's."""

OURS = "pushd"
UNTIL_CLICKED = 0
TOPIC_CHARS = 32
"""Of a browser's Topic (RFC 8030 section 5.4)."""

PRIORITIES = {
    "passive": "PRIORITY_LOW",
    "active": "PRIORITY_DEFAULT",
    "time-sensitive": "PRIORITY_HIGH",
    "critical": "PRIORITY_MAX",
}
"""An interruption level as Android before version 8 had it; since then the channel decides."""


def render(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """The `Message` JSON and expiry; None for push types that only Apple's devices have.

    InvalidRequestError names the largest field and the excess above 4,096 bytes on any of the platforms (F-16), and
    points at overrides that FCM could not take.
    """
    if not carries(message):
        return None
    return finished(
        message,
        send,
        app,
        shown=_notification(message, app.default_title),
        data=_data(message, notification_id),
        notification_id=notification_id,
        now=now,
    )


def carries(message: Message) -> bool:
    """Whether FCM has pushes of this type."""
    return message.push_type in (PushType.ALERT, PushType.BACKGROUND)


def finished(
    message: Message,
    send: Send,
    app: Settings,
    *,
    shown: Mapping[str, Any] | None,
    data: Mapping[str, str],
    notification_id: int,
    now: float,
) -> Rendered:
    """A message of these parts with its overrides and expiry; InvalidRequestError as of `render`.

    `shown` is the notification that Android and browsers show by themselves; None leaves all of that to the app, which
    gets `data` alone. Apple's devices have theirs either way.
    """
    override = message.overrides.get("fcm", {})
    _check_override(override)
    by_itself = shown is not None and message.push_type is PushType.ALERT
    expires_at = life.expires_at(send, now)
    ttl_s = max(0, expires_at - int(now)) if expires_at else 0
    collapse = life.collapse_id(send, notification_id)
    body: dict[str, Any] = {
        # These two first: the gateway renews the TTLs in them.
        "android": _android(message, send, collapse, ttl_s, by_itself=by_itself),
        "webpush": _webpush(message, collapse, ttl_s, by_itself=by_itself),
        "apns": _apns(message, app, collapse, expires_at),
    }
    if shown:
        body["notification"] = shown
    body["data"] = data
    body = merge(body, override)
    _refuse_above(body, message)
    headers = () if _sets_ttl(override) else (TTL_FOLLOWS,)
    return Rendered(payload=encode(body), headers=headers, expires_at=expires_at)


def _notification(message: Message, default_title: str | None) -> dict[str, Any]:
    if message.push_type is not PushType.ALERT:
        return {}
    lines = [text for text in (message.subtitle, message.body) if text]
    title = message.title if message.title is not None else default_title
    return _present({"title": title, "body": "\n".join(lines) or None, "image": message.image})


def _android(message: Message, send: Send, collapse: str | None, ttl_s: int, *, by_itself: bool) -> dict[str, Any]:
    own = message.android or Android()
    # High priority is for what is shown at once: data alone that asks for it is soon not believed (F-34).
    usual = "normal" if message.push_type is PushType.BACKGROUND else message.priority
    values: dict[str, Any] = {
        "ttl": fcm.duration(ttl_s),
        "priority": (own.priority or usual).upper(),
        # At most four of these wait for one device, so that only the caller's own is worth one (F-13).
        "collapse_key": send.collapse_id,
    }
    if by_itself:
        values["notification"] = _android_notification(message, own, collapse)
    return _present(values)


def _android_notification(message: Message, own: Android, collapse: str | None) -> dict[str, Any]:
    sound = _sound(own.sound or message.sound)
    return _present(
        {
            "tag": collapse,
            "channel_id": own.channel,
            "icon": own.small_icon,
            "color": own.color,
            "click_action": own.click_action,
            "image": own.picture,
            "sound": sound,
            "notification_count": message.badge or None,
            "notification_priority": PRIORITIES.get(message.interruption_level or ""),
        }
    )


def _sound(sound: str | Sound | None) -> str | None:
    name = sound.name if isinstance(sound, Sound) else sound
    return None if name == apns.SILENT else name or "default"


def _webpush(message: Message, collapse: str | None, ttl_s: int, *, by_itself: bool) -> dict[str, Any]:
    headers = {"TTL": str(ttl_s), "Urgency": "high" if message.priority == "high" else "normal"}
    if collapse is not None:
        hashed = base64.urlsafe_b64encode(hashlib.sha256(collapse.encode()).digest())
        headers["Topic"] = hashed[:TOPIC_CHARS].decode()
    values: dict[str, Any] = {"headers": headers}
    if by_itself:
        silent = _sound(message.sound) is None
        actions = [
            _present({"action": button.id, "title": button.text, "icon": button.icon}) for button in message.buttons
        ]
        values["notification"] = _present(
            {
                "icon": message.icon,
                "tag": collapse,
                "actions": actions or None,
                "silent": silent or None,
                "requireInteraction": (message.display_time_s == UNTIL_CLICKED) or None,
            }
        )
    if message.url is not None and message.url.startswith("https://"):
        values["fcm_options"] = {"link": message.url}
    return values


def _apns(message: Message, app: Settings, collapse: str | None, expires_at: int) -> dict[str, Any]:
    """What FCM hands on to Apple; it adds `data` beside `aps` itself."""
    urgent = message.push_type is PushType.ALERT and message.priority == "high"
    headers = {
        "apns-push-type": message.push_type.value,
        "apns-priority": "10" if urgent else "5",
        "apns-expiration": str(expires_at),
    }
    if collapse is not None:
        headers["apns-collapse-id"] = wire.collapse_header(collapse)
    return {"headers": headers, "payload": {"aps": apns.aps(message, app)}}


def _data(message: Message, notification_id: int) -> dict[str, str]:
    given = message.data or {}
    kept = {key: value for key, value in given.items() if key == OURS or not _is_free(key)}
    android = message.android
    ours = _present(
        {
            "id": notification_id,
            "url": message.url,
            "icon": message.icon,
            "image": message.image,
            "media": msgspec.to_builtins(message.media) or None,
            "buttons": msgspec.to_builtins(message.buttons) or None,
            "badge_increment": message.badge_increment,
            "notification_type": android.notification_type if android is not None else None,
            "data": kept or None,
        }
    )
    free = {key: _text(value) for key, value in given.items() if key not in kept}
    return {**free, OURS: encode(ours).decode()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _is_free(key: str) -> bool:
    try:
        fcm.check_data_key(key)
    except ValueError:
        return False
    return True


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _sets_ttl(override: Mapping[str, Any]) -> bool:
    """Whether the caller has a say in how long FCM keeps the message: then it goes out as it is written."""
    android, webpush = override.get("android", {}), override.get("webpush", {})
    if android is None or webpush is None:
        return True
    headers = webpush.get("headers", {})
    return "ttl" in android or headers is None or "TTL" in headers


def _check_override(override: Mapping[str, Any]) -> None:
    """InvalidRequestError for what FCM could not take of an override."""
    faults = [
        Fault(f"/message/overrides/fcm/{name}", "whom a message is for is its audience's to say")
        for name in TARGETS
        if name in override
    ]
    faults += [
        Fault(f"/message/overrides/fcm/{name}", "must be an object, or null to leave it out")
        for name in ("android", "webpush", "apns", "notification", "data", "fcm_options")
        if not isinstance(override.get(name, {}), dict | None)
    ]
    if not faults:
        faults = [*_data_faults(override)]
    if faults:
        raise InvalidRequestError("The override cannot be sent with FCM", faults=faults)


def _data_faults(override: Mapping[str, Any]) -> list[Fault]:
    places = {"data": override.get("data")}
    for platform in ("android", "webpush"):
        places[f"{platform}/data"] = (override.get(platform) or {}).get("data")
    faults = []
    for place, data in places.items():
        if data is not None and not isinstance(data, dict):
            faults.append(Fault(f"/message/overrides/fcm/{place}", "must be an object of texts"))
            continue
        for key, value in (data or {}).items():
            pointer = f"/message/overrides/fcm/{place}/{key.replace('~', '~0').replace('/', '~1')}"
            if value is not None and not isinstance(value, str):
                faults.append(Fault(pointer, "must be text: FCM's data holds nothing else"))
            elif not _is_free(key):
                faults.append(Fault(pointer, "is a key that FCM keeps for itself"))
    headers = (override.get("webpush") or {}).get("headers")
    if headers is not None and not isinstance(headers, dict):
        faults.append(Fault("/message/overrides/fcm/webpush/headers", "must be an object of texts"))
    return faults


def _refuse_above(body: dict[str, Any], message: Message) -> None:
    sizes = fcm.payload_bytes(body)
    platform = max(sizes, key=sizes.__getitem__)
    excess = sizes[platform] - fcm.PAYLOAD_BYTES_MAX
    if excess <= 0:
        return
    detail = (
        f"the fcm payload has {sizes[platform]} bytes of keys and values for {platform}, {excess} over the limit of "
        f"{fcm.PAYLOAD_BYTES_MAX}; this field is the largest"
    )
    raise InvalidRequestError("The message is too large", faults=[Fault(largest_field(message, "fcm"), detail)])
