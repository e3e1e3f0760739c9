"""A Message as an HMS message (Huawei, "Push Kit REST API": AndroidConfig, AndroidNotification)."""

from __future__ import annotations

from typing import Any

import msgspec

from protocols import hms
from pushd.batch import Rendered
from pushd.content import life
from pushd.content.merge import merge
from pushd.content.size import encode, refuse_above
from pushd.model.app import Settings
from pushd.model.message import Message, PushType, Sound
from pushd.model.notification import Send

SILENT = "none"
BADGE_MAX = 99
BUTTONS_MAX = 3
TARGETS = ("token", "topic", "condition")
"""Fields that say whom a message is for: pushd's to say, never an override's."""

_OPEN_URL, _OPEN_APP, _ACTION = 2, 3, 1


def render(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered:
    """The body of a request without its tokens; `now` (UNIX seconds) is the message's release.

    InvalidRequestError names the largest field and the excess when the message is over its limit (H-04).
    """
    shown = _notification(message, app.default_title) if message.push_type is PushType.ALERT else None
    data = _data(message, notification_id)
    return finished(message, send, shown=shown, data=data, notification_id=notification_id, now=now)


def finished(
    message: Message, send: Send, *, shown: dict[str, Any] | None, data: str, notification_id: int, now: float
) -> Rendered:
    """A message of these parts with its overrides and expiry; InvalidRequestError as of `render`.

    `shown` is what the phone shows by itself; None leaves that to the app, which gets `data` alone.
    """
    android: dict[str, Any] = {"ttl": f"{_ttl_s(send)}s"}
    body: dict[str, Any] = {"data": data}
    if shown is not None:
        collapse = life.collapse_id(send, notification_id)
        android["notification"] = shown if collapse is None else {**shown, "tag": collapse}
    body["android"] = android
    body = merge(body, message.overrides.get("hms", {}))
    for name in TARGETS:
        body.pop(name, None)
    if not body:
        body = {"data": "{}"}
    payload = hms.frame(encode(body))
    refuse_above(hms.MESSAGE_BYTES_MAX + hms.FRAME_BYTES, payload, message, platform="hms")
    return Rendered(payload=payload, expires_at=life.expires_at(send, now))


def _ttl_s(send: Send) -> int:
    """Seconds that HMS keeps the message: at least 1, at most 15 days (H-05)."""
    return hms.TTL_MAX_S if send.ttl_s is None else min(max(send.ttl_s, 1), hms.TTL_MAX_S)


def _notification(message: Message, default_title: str | None) -> dict[str, Any] | None:
    """What the phone shows, title and body both needed; None where nothing is to be shown."""
    body = "\n".join(part for part in (message.subtitle, message.body) if part) or None
    title = message.title or default_title or body
    if title is None or not (message.title or body):
        return None
    android = message.android
    values: dict[str, Any] = {
        "title": title,
        "body": body or title,
        "image": message.image,
        "click_action": _click(message),
        "buttons": [_button(button.text, button.url) for button in message.buttons[:BUTTONS_MAX]] or None,
        "badge": _badge(message),
        "group": message.thread,
        **_sound(message),
    }
    if android is not None:
        values |= {
            "image": android.picture or message.image,
            "color": android.color,
            "channel_id": android.channel or android.notification_type,
            "icon": android.small_icon,
        }
    return {name: value for name, value in values.items() if value is not None}


def _click(message: Message) -> dict[str, Any]:
    """What a tap does. Links that are not https are for the app, which finds them in `data`."""
    if message.android is not None and message.android.click_action:
        return {"type": _ACTION, "action": message.android.click_action}
    if message.url is not None and message.url.startswith("https://"):
        return {"type": _OPEN_URL, "url": message.url}
    return {"type": _OPEN_APP}


def _button(text: str, url: str | None) -> dict[str, Any]:
    # Action types of buttons: 0 opens the app's home page, 2 the web page that `intent` names.
    if url is None or not url.startswith("https://"):
        return {"name": text, "action_type": 0}
    return {"name": text, "action_type": 2, "intent": url}


def _badge(message: Message) -> dict[str, int] | None:
    """Huawei counts to 99, and only up."""
    if message.badge is not None:
        return {"set_num": min(message.badge, BADGE_MAX)}
    if message.badge_increment is not None and message.badge_increment > 0:
        return {"add_num": min(message.badge_increment, BADGE_MAX)}
    return None


def _sound(message: Message) -> dict[str, Any]:
    sound = message.android.sound if message.android is not None and message.android.sound else message.sound
    name = sound.name if isinstance(sound, Sound) else sound
    if name == SILENT:
        return {"default_sound": False, "importance": "LOW"}
    return {"default_sound": True} if name in (None, "default") else {"default_sound": False, "sound": name}


def _data(message: Message, notification_id: int) -> str:
    """`data` and what of ours the app may want, as JSON in a text (H-05); the same keys as on APNs."""
    values = {
        "id": notification_id,
        "url": message.url,
        "icon": message.icon,
        "image": message.image,
        "media": msgspec.to_builtins(message.media),
        "buttons": msgspec.to_builtins(message.buttons),
        "badge_increment": message.badge_increment,
    }
    ours = {key: value for key, value in values.items() if value not in (None, [])}
    told = {"pushd": ours} if message.data is None else {"pushd": ours, "data": message.data}
    return encode(told).decode()
