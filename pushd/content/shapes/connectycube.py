"""ConnectyCube's shape: texts in `message` and `title`, and data beside them (its platform API, "Push notifications").

Its SDKs hand on whatever they get. What of a message has no name of the vendor's has pushd's: `url`, `icon`, `media`,
`buttons` and `badge_increment`; a picture is `photo`.
"""

from __future__ import annotations

from typing import Any

from pushd.batch import Rendered
from pushd.content import apns, fcm, webpush
from pushd.content.shapes import parts
from pushd.model.app import Settings
from pushd.model.message import Message
from pushd.model.notification import Send


def to_apns(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered:
    """`aps`, with data beside it; limits and errors as of `apns.render`."""
    if not parts.is_message(message):
        return apns.render(message, send, app, notification_id=notification_id, now=now)
    body = {**_custom(message), "aps": apns.aps(message, app)}
    return apns.finished(body, message, send, notification_id=notification_id, now=now)


def to_fcm(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """Data alone, which the app shows; limits and errors as of `fcm.render`."""
    if not (parts.is_message(message) and fcm.carries(message)):
        return None
    data = parts.flat(_custom(message) | _said(message, app))
    return fcm.finished(message, send, app, shown=None, data=data, notification_id=notification_id, now=now)


def to_webpush(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """All in `data`, where the vendor's service worker reads it; limits and errors as of `webpush.render`."""
    if not parts.is_alert(message):
        return None
    body = {"data": _custom(message) | _said(message, app)}
    return webpush.finished(body, message, send, notification_id=notification_id, now=now)


def _said(message: Message, app: Settings) -> dict[str, Any]:
    text, title = parts.body(message), parts.title(message, app)
    said: dict[str, Any] = {}
    if text is not None or parts.is_alert(message):
        said["message"] = text or ""
    if title and parts.is_alert(message):
        said["title"] = title
    return said


def _custom(message: Message) -> dict[str, Any]:
    photo = {} if message.image is None else {"photo": message.image}
    return photo | parts.extras(message) | (message.data or {})
