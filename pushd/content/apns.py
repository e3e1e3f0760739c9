"""A Message as an APNs payload and header values (Apple: "Generating a remote notification")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from protocols import apns, apns_channels
from pushd.batch import Rendered
from pushd.content import life
from pushd.content.merge import merge
from pushd.content.size import encode, refuse_above
from pushd.model.app import Settings
from pushd.model.message import LiveActivity, Message, PushType, Sound
from pushd.model.notification import Send

SILENT = "none"
"""The sound name that means: no sound."""


class _Form(NamedTuple):
    """How pushes of a type are made, and what bounds them."""

    body: Callable[[Message, Settings, int, float], dict[str, Any]]
    """Makes the payload: message, app, notification id and time of release."""
    payload_bytes_max: int
    headers: tuple[tuple[tuple[str, str], ...], ...]
    """Those of a message that may wait, and of one that may not."""
    collapses: bool = True
    """Whether one can replace another on the screen."""


def render(message: Message, send: Send, app: Settings, *, notification_id: int, now: float) -> Rendered:
    """Payload, header values and expiry of a message; `now` (UNIX seconds) is its release.

    Headers: apns-push-type and apns-priority; the topic is the route's.
    InvalidRequestError names the largest field and the excess when the payload is over its limit (A-40).
    """
    body = _FORMS[message.push_type].body(message, app, notification_id, now)
    return finished(body, message, send, notification_id=notification_id, now=now)


def finished(body: dict[str, Any], message: Message, send: Send, *, notification_id: int, now: float) -> Rendered:
    """A payload with the message's overrides, its headers and expiry; InvalidRequestError as of `render`."""
    form = _FORMS[message.push_type]
    overrides = message.overrides.get("apns")
    payload = encode(merge(body, overrides) if overrides else body)
    refuse_above(form.payload_bytes_max, payload, message, platform="apns")
    collapse = life.collapse_id(send, notification_id) if form.collapses else None
    return Rendered(
        payload=payload,
        headers=form.headers[message.priority == "high"],
        collapse_id=None if collapse is None else apns.collapse_header(collapse),
        expires_at=life.expires_at(send, now),
    )


def aps(message: Message, app: Settings) -> dict[str, Any]:
    """The `aps` of an alert or a background push, for a gateway that hands it on to Apple."""
    made: dict[str, Any] = _FORMS[message.push_type].body(message, app, 0, 0.0)["aps"]
    return made


def wakes_extension(message: Message) -> bool:
    """Whether the app's notification service extension has something to do before the notification is shown."""
    return bool(
        message.badge_increment is not None or message.image or message.media or message.icon or message.buttons
    )


def _alert_body(message: Message, app: Settings, notification_id: int, _: float) -> dict[str, Any]:
    alert = _alert(message, app.default_title)
    aps = _aps(message, alert)
    if message.sound is None and alert:
        aps["sound"] = "default"
    if message.mutable_content or (message.mutable_content is None and wakes_extension(message)):
        aps["mutable-content"] = 1
    return {"aps": aps, **_app_keys(message, notification_id)}


def _background_body(message: Message, _: Settings, notification_id: int, __: float) -> dict[str, Any]:
    return {"aps": {"content-available": 1}, **_app_keys(message, notification_id)}


def _app_body(message: Message, _: Settings, notification_id: int, __: float) -> dict[str, Any]:
    # The app itself handles the push and draws what it likes, so nothing is filled in.
    return {"aps": _aps(message, _alert(message, None)), **_app_keys(message, notification_id)}


def _liveactivity_body(message: Message, _: Settings, __: int, now: float) -> dict[str, Any]:
    activity = message.live_activity
    assert activity is not None, "content.check lets no live activity push pass without its event"
    aps = _activity(activity, now)
    alert: dict[str, Any] = _alert(message, None)
    sound = _sound(message.sound)
    if alert and (sound or message.sound is None):
        alert["sound"] = sound or "default"
    if alert:
        aps["alert"] = alert
    if message.relevance is not None:
        aps["relevance-score"] = message.relevance
    return {"aps": aps}


def _reload_body(_: Message, __: Settings, ___: int, ____: float) -> dict[str, Any]:
    # Widgets and controls read nothing from the push: it tells them to fetch.
    return {"aps": {"content-changed": True}}


def _system_body(message: Message, _: Settings, __: int, ___: float) -> dict[str, Any]:
    # iOS reads these keys at the top level: `container-identifier` and `domain`, or `mdm`.
    return dict(message.data or {})


def _alert(message: Message, default_title: str | None) -> dict[str, Any]:
    alert: dict[str, Any] = {}
    if message.title:
        alert["title"] = message.title
    if message.subtitle:
        alert["subtitle"] = message.subtitle
    if message.body:
        alert["body"] = message.body
    if alert and default_title and message.title is None:
        alert = {"title": default_title, **alert}
    return alert


def _aps(message: Message, alert: dict[str, Any]) -> dict[str, Any]:
    # One look at each field: this is done for every message, and most have few of them.
    aps: dict[str, Any] = {}
    if alert:
        aps["alert"] = alert
    if message.badge is not None:
        aps["badge"] = message.badge
    if message.sound is not None and (sound := _sound(message.sound)) is not None:
        aps["sound"] = sound
    if message.category is not None:
        aps["category"] = message.category
    if message.thread is not None:
        aps["thread-id"] = message.thread
    if message.interruption_level is not None:
        aps["interruption-level"] = message.interruption_level
    if message.relevance is not None:
        aps["relevance-score"] = message.relevance
    if message.content_available:
        aps["content-available"] = 1
    return aps


def _sound(sound: str | Sound | None) -> str | dict[str, Any] | None:
    if isinstance(sound, Sound):
        if sound.critical:
            return {"critical": 1, "name": sound.name, "volume": sound.volume}
        sound = sound.name
    return None if sound == SILENT else sound or None


def _activity(activity: LiveActivity, now: float) -> dict[str, Any]:
    values = {
        "timestamp": int(now) if activity.timestamp is None else activity.timestamp,
        "event": activity.event,
        "content-state": activity.content_state,
        "input-push-channel": activity.input_channel,
        "input-push-token": 1 if activity.input_token else None,
        "attributes-type": activity.attributes_type,
        "attributes": activity.attributes,
        "stale-date": activity.stale_date,
        "dismissal-date": activity.dismissal_date,
    }
    return {key: value for key, value in values.items() if value is not None}


def _app_keys(message: Message, notification_id: int) -> dict[str, Any]:
    ours: dict[str, Any] = {"id": notification_id}
    if message.url is not None:
        ours["url"] = message.url
    if message.icon is not None:
        ours["icon"] = message.icon
    if message.image is not None:
        ours["image"] = message.image
    if message.media:
        ours["media"] = msgspec.to_builtins(message.media)
    if message.buttons:
        ours["buttons"] = msgspec.to_builtins(message.buttons)
    if message.badge_increment is not None:
        ours["badge_increment"] = message.badge_increment
    return {"pushd": ours} if message.data is None else {"pushd": ours, "data": message.data}


def _headers(push_type: PushType) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(
        (("apns-push-type", push_type.value), ("apns-priority", str(apns.priority(push_type, urgent=urgent))))
        for urgent in (False, True)
    )


def _form(push_type: PushType, body: Callable[[Message, Settings, int, float], dict[str, Any]]) -> _Form:
    return _Form(body, apns.payload_limit(push_type), _headers(push_type))


_FORMS: dict[PushType, _Form] = {
    push_type: _form(push_type, body)
    for push_type, body in {
        PushType.ALERT: _alert_body,
        PushType.BACKGROUND: _background_body,
        PushType.VOIP: _app_body,
        PushType.COMPLICATION: _app_body,
        PushType.FILEPROVIDER: _system_body,
        PushType.LOCATION: _app_body,
        PushType.LIVEACTIVITY: _liveactivity_body,
        PushType.PUSHTOTALK: _app_body,
        PushType.CONTROLS: _reload_body,
        PushType.WIDGETS: _reload_body,
        PushType.MDM: _system_body,
    }.items()
}
# On the wire a broadcast is a Live Activity's push, too; the path says that it is one.
_FORMS[PushType.CHANNEL] = _Form(
    _liveactivity_body, apns_channels.PAYLOAD_BYTES_MAX, _headers(PushType.LIVEACTIVITY), collapses=False
)
