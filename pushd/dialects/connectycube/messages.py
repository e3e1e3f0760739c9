"""ConnectyCube's messages as pushd sends them: the shape of its devices says most, overrides what is raw."""

from __future__ import annotations

from typing import Any

from pushd.content.apns import SILENT
from pushd.dialects.connectycube import wire
from pushd.model.message import Message, PushType

BODY_CHARS_MAX = 4_096
TEXT_CHARS_MAX = 1_000
BADGE_MAX = 2**31 - 1
_LOC = {"title_loc_key": "title-loc-key", "title_loc_args": "title-loc-args"}
_LOC |= {"body_loc_key": "loc-key", "body_loc_args": "loc-args"}
_TEXTS = {"ios_sound": "sound", "ios_category": "category", "ios_thread_id": "thread-id"}
_FLAGS = {"ios_content_available": "content-available", "ios_mutable_content": "mutable-content"}
_SEEN = ("alert", "badge", "sound")
_SAID = frozenset(("title", "body"))
_IN_SHAPE = frozenset(("alert", "badge", "mutable-content", "content-available", *_TEXTS.values()))
"""What of `aps` a message says by fields of its own."""


def aps_of(fields: dict[str, Any]) -> dict[str, Any]:
    """What universal parameters are in `aps`; InvalidRequestError."""
    aps: dict[str, Any] = {}
    alert = {"title": fields.get("title"), "body": fields.get("message")}
    said = {name: wire.text(value) for name, value in alert.items() if value is not None}
    loc = fields.get("ios_loc_data")
    if isinstance(loc, dict):
        said |= {name: loc[given] for given, name in _LOC.items() if given in loc}
    if said:
        aps["alert"] = said
    badge = wire.number(fields.get("ios_badge"), "ios_badge")
    if badge is not None:
        if not 0 <= badge <= BADGE_MAX:
            raise wire.wrong("ios_badge", "is not a badge")
        aps["badge"] = badge
    aps |= {name: wire.text(fields[given]) for given, name in _TEXTS.items() if given in fields}
    aps |= {name: 1 for given, name in _FLAGS.items() if wire.truth(fields.get(given), given)}
    own = fields.get("aps")
    return aps | own if isinstance(own, dict) else aps


def for_apple(payload: dict[str, Any], *, voip: bool, push_type: Any = None) -> Message:
    """A message that is this very payload at Apple: by its fields where they say it all, else by overrides."""
    found = payload.get("aps")
    aps: dict[str, Any] = found if isinstance(found, dict) else {}
    silent = push_type == "background" or (
        push_type is None and bool(aps.get("content-available")) and not any(aps.get(name) for name in _SEEN)
    )
    custom = {name: value for name, value in payload.items() if name != "aps"} or None
    if silent and not voip:
        return Message(push_type=PushType.BACKGROUND, data=custom, overrides={"apns": {"aps": aps}})
    return _in_shape(aps, custom, voip=voip) or _exactly(aps, custom, voip=voip)


def _in_shape(aps: dict[str, Any], custom: dict[str, Any] | None, *, voip: bool) -> Message | None:
    """The message whose fields say all of this; None: they cannot."""
    alert = aps.get("alert")
    if not (isinstance(alert, dict) and alert.keys() <= _SAID and (len(aps) == 1 or _is_plain(aps, voip))):
        return None
    title, body = alert.get("title"), alert.get("body")
    if not (_fits(title, TEXT_CHARS_MAX) and _fits(body, BODY_CHARS_MAX) and (title or body)):
        return None
    return Message(
        title=title,
        body=body,
        badge=aps.get("badge"),
        sound=aps.get("sound") or SILENT,
        category=aps.get("category"),
        thread=aps.get("thread-id"),
        content_available=True if "content-available" in aps else None,
        mutable_content=None if voip else "mutable-content" in aps,
        push_type=PushType.VOIP if voip else PushType.ALERT,
        data=custom,
    )


def _is_plain(aps: dict[str, Any], voip: bool) -> bool:
    """Whether all beside the alert is what fields of a message say."""
    badge = aps.get("badge")
    flags = [aps[name] for name in _FLAGS.values() if name in aps]
    if voip and (flags or badge is not None):  # a call's push has no such fields
        return False
    return (
        aps.keys() <= _IN_SHAPE
        and all(_fits(aps.get(name), TEXT_CHARS_MAX) for name in _TEXTS.values())
        and aps.get("sound") != SILENT
        and (badge is None or (type(badge) is int and 0 <= badge <= BADGE_MAX))
        and all(flag == 1 for flag in flags)
    )


def _fits(value: Any, chars: int) -> bool:
    return value is None or (isinstance(value, str) and 0 < len(value) <= chars)


def _exactly(aps: dict[str, Any], custom: dict[str, Any] | None, *, voip: bool) -> Message:
    """The message whose `aps` is overridden by this one, and that is readable here."""
    alert = aps.get("alert")
    title, body = (alert.get("title"), alert.get("body")) if isinstance(alert, dict) else (None, alert)
    if isinstance(alert, dict):
        aps = {"sound": None, **aps, "alert": {"title": None, "body": None, **alert}}
    elif alert is not None:
        aps = {"sound": None, **aps}
    return Message(
        title=title if title and _fits(title, TEXT_CHARS_MAX) else None,
        body=body if body and _fits(body, BODY_CHARS_MAX) else None,
        push_type=PushType.VOIP if voip else PushType.ALERT,
        data=custom,
        overrides={"apns": {"aps": aps}},
    )


def for_google(data: dict[str, str], shown: dict[str, Any] | None = None) -> Message:
    """Data alone on Android and in browsers, which the app shows; `shown` is what FCM shows by itself instead."""
    raw: dict[str, Any] = {} if shown is None else {"notification": shown}
    title, body = data.get("title"), data.get("message", "")
    if not (_fits(title, TEXT_CHARS_MAX) and _fits(body, BODY_CHARS_MAX)):
        # Nothing is said, or too much: an alert all the same, for its data.
        return Message(data=_rest(data), overrides={"fcm": {**raw, "data": {"title": title, "message": body}}})
    return Message(title=title, body=body, data=_rest(data), overrides={"fcm": raw} if raw else {})


def for_browsers(content: Any) -> Message:
    """What is in `data`, for a service worker that shows it."""
    said = content if isinstance(content, dict) else {}
    title, body = said.get("title"), said.get("message")
    if body is not None and _fits(title, TEXT_CHARS_MAX) and _fits(body, BODY_CHARS_MAX):
        return Message(title=title, body=body, data=_rest(said))
    return Message(data=_rest(said), overrides={"webpush": {"data": {"title": title, "message": body}}})


def _rest(said: dict[str, Any]) -> dict[str, Any] | None:
    """What is neither title nor text."""
    return {name: value for name, value in said.items() if name not in ("title", "message")} or None
