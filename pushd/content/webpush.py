"""A Message as a Web Push text: a declarative push message that service workers read too (W3C Push API, section 3.4).

`notification` has the names of `ServiceWorkerRegistration.showNotification`, so that a service worker shows it with
`showNotification(n.title, n)`; where it also has somewhere to `navigate`, Safari shows it without one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from protocols import webpush
from pushd.batch import Rendered
from pushd.content import life
from pushd.content.merge import merge
from pushd.content.size import encode, refuse_above
from pushd.model.app import Settings
from pushd.model.message import Button, Message, PushType, Sound
from pushd.model.notification import Send

DECLARATIVE = 8030
"""What marks a declarative push message: the number of Web Push's RFC."""
SILENT = "none"
UNTIL_CLICKED = 0


def render(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """Text, Urgency, Topic and expiry of a message; None for what is no alert: browsers have no silent push.

    InvalidRequestError names the largest field and the excess above 3,993 bytes (W-04).
    """
    if message.push_type is not PushType.ALERT:
        return None
    collapse = life.collapse_id(send, notification_id)
    shown = _notification(message, app, collapse)
    body: dict[str, Any] = {"notification": shown, "pushd": _ours(message, notification_id)}
    if shown.get("title") and shown.get("navigate"):
        body = {"web_push": DECLARATIVE, **body}
    if message.badge is not None:
        body["app_badge"] = message.badge
    return finished(body, message, send, notification_id=notification_id, now=now)


def finished(body: dict[str, Any], message: Message, send: Send, *, notification_id: int, now: float) -> Rendered:
    """A text with the message's overrides, its headers and expiry; InvalidRequestError as of `render`."""
    collapse = life.collapse_id(send, notification_id)
    payload = encode(merge(body, message.overrides.get("webpush", {})))
    refuse_above(webpush.PLAINTEXT_BYTES_MAX, payload, message, platform="webpush")
    headers = [("urgency", _urgency(message))]
    if collapse is not None:
        headers.append(("topic", webpush.topic(collapse)))
    return Rendered(payload=payload, headers=tuple(headers), expires_at=life.expires_at(send, now))


def _urgency(message: Message) -> str:
    if message.interruption_level == "passive":
        return "low"
    return "high" if message.priority == "high" else "normal"


def _notification(message: Message, app: Settings, collapse: str | None) -> dict[str, Any]:
    lines = [text for text in (message.subtitle, message.body) if text]
    values = {
        "title": message.title if message.title is not None else app.default_title,
        "body": "\n".join(lines) or None,
        "navigate": message.url,
        "icon": message.icon if message.icon is not None else app.icon,
        "image": message.image,
        "tag": collapse,
        "silent": True if _silent(message.sound) else None,
        "requireInteraction": True if message.display_time_s == UNTIL_CLICKED else None,
        "actions": [_action(button) for button in message.buttons] or None,
        "data": message.data,
        "app_badge": None if message.badge is None else str(message.badge),
    }
    return {key: value for key, value in values.items() if value is not None}


def _action(button: Button) -> dict[str, str]:
    values = {"action": button.id, "title": button.text, "navigate": button.url, "icon": button.icon}
    return {key: value for key, value in values.items() if value is not None}


def _silent(sound: str | Sound | None) -> bool:
    return (sound.name if isinstance(sound, Sound) else sound) == SILENT


def _ours(message: Message, notification_id: int) -> dict[str, Any]:
    values = {
        "id": notification_id,
        "display_time_s": message.display_time_s,
        "category": message.category,
        "thread": message.thread,
        "media": msgspec.to_builtins(message.media),
        "badge_increment": message.badge_increment,
    }
    return {key: value for key, value in values.items() if value not in (None, [])}
