"""Backendless' shape: the text in `message`, and headers of the vendor's names beside it, all of them texts.

Data are headers, too, and those of the vendor's own names (`android-content-title`, `android_immediate_push`) stand
before what the message says, each on its own system. Of the two forms of a template only the immediate one goes where
both are there: a name that the device does not know crashes the vendor's extension, and so does an immediate one that
is no JSON.
"""

from __future__ import annotations

from typing import Any

from pushd.batch import Rendered
from pushd.content import apns, fcm
from pushd.content.shapes import parts
from pushd.model.app import Settings
from pushd.model.message import Message
from pushd.model.notification import Send

NAMED, ANDROID, IOS = "template_name", "android_immediate_push", "ios_immediate_push"
"""Headers with a push template: its name, or the whole of it as JSON."""
PICTURE = "attachment-url"
OTHERS = {ANDROID: ("wp-",), IOS: ("wp-", "android-")}
"""How headers begin that mean nothing where this form of a template does."""
_SAID = {"title": ("ios-alert-title",), "subtitle": ("ios-alert-subtitle",), "body": ("ios-alert-body", "ios-alert")}
"""What headers say of the parts of an alert at Apple."""


def to_apns(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered:
    """`aps`, with headers as texts beside it; limits and errors as of `apns.render`."""
    if not parts.is_message(message):
        return apns.render(message, send, app, notification_id=notification_id, now=now)
    headers = _headers(message, notification_id, IOS)
    aps = apns.aps(message, app)
    if parts.is_alert(message):
        said = {name: headers[each] for name, given in _SAID.items() for each in reversed(given) if headers.get(each)}
        if said:
            aps["alert"] = aps.get("alert", {}) | said
        if headers.get("ios-sound"):
            aps["sound"] = headers["ios-sound"]
        alert = aps.get("alert", {})
        if text := alert.get("body"):
            headers.setdefault("message", text)
        picture = parts.picture(message)
        if picture is not None:
            headers.setdefault(PICTURE, picture)
        if IOS in headers or NAMED in headers:
            aps["mutable-content"] = 1
            # What is rendered for this device stands before the template's own texts, whose gaps are nobody's.
            headers |= {f"ios-alert-{name}": alert[name] for name in ("title", "subtitle") if alert.get(name)}
    body = {**headers, "aps": aps}
    return apns.finished(body, message, send, notification_id=notification_id, now=now)


def to_fcm(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered | None:
    """Data alone, which the SDK shows; limits and errors as of `fcm.render`."""
    if not fcm.carries(message):
        return None
    shown: dict[str, Any] = {}
    if parts.is_alert(message):
        values = {
            "android-content-title": parts.title(message, app),
            "android-summary-subtext": message.subtitle,
            # A sound that was named for Apple's devices is none of Android's.
            "android-content-sound": None if "ios-sound" in (message.data or {}) else parts.sound(message),
        }
        shown = {"message": message.body or "", **{name: value for name, value in values.items() if value}}
    data = parts.flat(shown | _headers(message, notification_id, ANDROID))
    return fcm.finished(message, send, app, shown=None, data=data, notification_id=notification_id, now=now)


def _headers(message: Message, notification_id: int, template: str) -> dict[str, str]:
    """Data as texts, with the one form of a template that is for these devices."""
    given = message.data or {}
    headers = {name: parts.text(value) for name, value in (parts.extras(message) | given).items()}
    headers = {name: value for name, value in headers.items() if not name.startswith(OTHERS[template])}
    immediate = headers.get(template)
    for name in (ANDROID, IOS):  # those of the other system, and one that cannot be
        headers.pop(name, None)
    if immediate is not None and parts.is_json(immediate):
        headers.pop(NAMED, None)
        headers[template] = immediate
    return {"messageId": str(notification_id), **headers}
