"""Kumulos' shape: `custom` with what its SDKs read, `a` with the app's own data and the message's id as an integer.

Its SDKs pass over a push without that id, and show on Android only what has a title and a text.
"""

from __future__ import annotations

from typing import Any

from pushd.batch import Rendered
from pushd.content import apns, fcm, hms, webpush
from pushd.content.shapes import parts
from pushd.content.size import encode
from pushd.model.app import Settings
from pushd.model.message import Message
from pushd.model.notification import Send

MESSAGE, BUTTONS, CHANNEL, TYPE = "k.message", "k.buttons", "k.channel", "k.notificationType"
LINK = "k.deepLink"
PUSH = 1
"""The type of a message that is a push."""
IN_APP = 1
"""The type of a link that leads to an in-app message."""
IN_APP_ID = "in_app_message_id"
"""In the data of a push that goes along with an in-app message: which one."""
PICTURE_CHARS_MIN = 8
"""Of a picture's address: the extension of iOS cuts off as many."""


def to_apns(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered:
    """`aps`, `custom` and `attachments`; limits and errors as of `apns.render`."""
    if not parts.is_message(message):
        return apns.render(message, send, app, notification_id=notification_id, now=now)
    aps, custom = apns.aps(message, app), _custom(message, notification_id)
    if parts.is_alert(message):
        aps["mutable-content"] = 1  # its extension reports deliveries
    if message.badge_increment is not None:
        # What counts is the sum that the extension makes; this stands where no earlier badge is known.
        aps["badge"] = max(message.badge_increment, 0)
        custom["badge_inc"] = message.badge_increment
    body: dict[str, Any] = {"aps": aps, "custom": custom}
    picture = parts.picture(message)
    if picture is not None and len(picture) >= PICTURE_CHARS_MIN:
        body["attachments"] = {"pictureUrl": picture}
    return apns.finished(body, message, send, notification_id=notification_id, now=now)


def to_fcm(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """Data alone, which the SDK shows; limits and errors as of `fcm.render`."""
    if not fcm.carries(message):
        return None
    data = _data(message, app, notification_id)
    return fcm.finished(message, send, app, shown=None, data=data, notification_id=notification_id, now=now)


def to_hms(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered:
    """Data alone, which the SDK shows; limits and errors as of `hms.render`."""
    data = encode(_data(message, app, notification_id)).decode()
    return hms.finished(message, send, shown=None, data=data, notification_id=notification_id, now=now)


def to_webpush(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """What the vendor's service worker shows; limits and errors as of `webpush.render`."""
    if not parts.is_alert(message):
        return None
    body = {
        "title": parts.title(message, app) or parts.body(message),
        "msg": parts.body(message),
        "data": _app_data(message, notification_id),
        "url": message.url,
        "image": message.image,
        "icon": message.icon,
    }
    return webpush.finished(body, message, send, notification_id=notification_id, now=now)


def _data(message: Message, app: Settings, notification_id: int) -> dict[str, str]:
    data = {"custom": encode({"u": None, **_custom(message, notification_id)}).decode()}
    if parts.is_alert(message):
        title, text = parts.title(message, app), parts.body(message)
        picture = message.android.picture if message.android is not None else None
        shown = {
            "title": title or text,
            "alert": text or title,
            "bicon": picture or message.image,
            "sound": parts.sound(message),
        }
        data |= {name: value for name, value in shown.items() if value}
    if message.content_available or not parts.is_alert(message):
        data["bgn"] = "1"
    return data


def _custom(message: Message, notification_id: int) -> dict[str, Any]:
    link = {} if message.url is None else {"u": message.url}
    return {**link, "a": _app_data(message, notification_id)}


def _app_data(message: Message, notification_id: int) -> dict[str, Any]:
    ours: dict[str, Any] = {MESSAGE: {"type": PUSH, "data": {"id": notification_id}}}
    if message.buttons:
        ours[BUTTONS] = [{"id": button.id, "text": button.text} for button in message.buttons]
    if message.android is not None and message.android.channel is not None:
        ours[CHANNEL] = message.android.channel
    if message.android is not None and message.android.notification_type is not None:
        ours[TYPE] = message.android.notification_type
    data = message.data or {}
    if type(shown := data.get(IN_APP_ID)) is int:
        ours[LINK] = {"type": IN_APP, "data": {"id": shown}}
    return {**data, **ours}
