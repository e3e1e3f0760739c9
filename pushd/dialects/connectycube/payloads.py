"""ConnectyCube's event messages: how they are written for a channel or for all."""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, unquote_plus

import orjson

from pushd.dialects.connectycube import messages, wire
from pushd.model.message import Message, PushType
from pushd.web.decode import is_deep

BODY_CHARS_MAX = 4_096
TITLE_CHARS_MAX = 1_000
FCM_TTL_S = 86_400
_KNOWN = frozenset(
    (
        *("message", "title", "expiration", "android_fcm_notification", "aps", "ios_badge", "ios_sound", "ios_voip"),
        *("ios_content_available", "ios_mutable_content", "ios_category", "ios_push_type", "ios_thread_id"),
        "ios_loc_data",
    )
)
"""Universal parameters; what else there is, devices get as it is."""


class Made(NamedTuple):
    """A message of one channel: as it is told, and as it is sent."""

    told: str
    message: Message


def for_channel(channel: str, given: str) -> Made:
    """What was written for one channel: pairs of `key=value`, values in base64. InvalidRequestError."""
    if channel == "email":
        return Made(given, _mail(given))
    if channel == "gcm":
        return Made(given, messages.for_google(_data(given)))
    raw = _pairs(given).get("payload")
    if raw is None:
        raise wire.wrong("message", "should be payload= and the payload in base64")
    payload = _object(_bytes(raw))
    if payload is None:
        raise wire.wrong("message", "has a payload that is not a JSON object")
    if channel == "web":
        return Made(
            given, messages.for_browsers(payload.get("data") if isinstance(payload.get("data"), dict) else payload)
        )
    return Made(given, messages.for_apple(payload, voip=channel == "apns_voip"))


def universal(given: str) -> dict[str, Any]:
    """The parameters that were written for all channels, a JSON object or plain text in base64. InvalidRequestError."""
    raw = _bytes(unquote(given) if "%" in given else given)
    fields = _object(raw)
    if fields is None:
        try:
            fields = {"message": raw.decode()}
        except UnicodeDecodeError:
            raise wire.wrong("message", "should be Base64 encoded text") from None
    return {name: value for name, value in fields.items() if value is not None}


def made_for(channel: str, fields: dict[str, Any]) -> Made:
    """What universal parameters are on one channel. InvalidRequestError."""
    custom = {name: value for name, value in fields.items() if name not in _KNOWN}
    said = {"message": wire.text(fields.get("message"))}
    if "title" in fields:
        said["title"] = wire.text(fields["title"])
    if channel == "gcm":
        data = said | {name: _as_text(value) for name, value in custom.items()}
        shown = fields.get("android_fcm_notification")
        return Made(_encoded(data), messages.for_google(data, shown if isinstance(shown, dict) else None))
    if channel == "web":
        content = said | custom
        return Made(_payload({"data": content}), messages.for_browsers(content))
    payload = {"aps": messages.aps_of(fields), **custom}
    return Made(
        _payload(payload),
        messages.for_apple(payload, voip=channel == "apns_voip", push_type=fields.get("ios_push_type")),
    )


def lasts_until(fields: dict[str, Any]) -> int | None:
    """UNIX seconds after which a universal message is of no use; None where it says nothing of it."""
    return wire.number(fields.get("expiration"), "expiration")


def _pairs(given: str) -> dict[str, str]:
    """Keys and values, which may be percent-encoded; a plus is one, for base64 has it (C5)."""
    if "%" not in given and "&" not in given:  # one, as it stands
        name, _, value = given.partition("=")
        return {name: value}
    parts = given.replace("%26", "&").split("&")
    pairs = (part.partition("=") for part in parts if part)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _bytes(given: str) -> bytes:
    """What is written in base64, of either alphabet and padded or not; a form's blank was a plus."""
    try:
        return binascii.a2b_base64(given, strict_mode=True)
    except ValueError:  # few are not as they should be
        plain = "".join(given.replace(" ", "+").split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise wire.wrong("message", "should be Base64 encoded text") from None


def _plain(value: str) -> str:
    """A text that was CGI-escaped and then written in base64."""
    try:
        return unquote_plus(_bytes(value).decode(), errors="strict")
    except UnicodeDecodeError:
        raise wire.wrong("message", "should be Base64 encoded text") from None


def _data(given: str) -> dict[str, str]:
    pairs = _pairs(given)
    if "data.message" not in pairs:
        raise wire.wrong("message", "should have data.message, and it first")
    return {name.removeprefix("data."): _plain(value) for name, value in pairs.items() if name.startswith("data.")}


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if is_deep(raw):
        raise wire.wrong("message", "is too deep")
    return found if isinstance(found, dict) else None


def _payload(payload: dict[str, Any]) -> str:
    return "payload=" + base64.b64encode(orjson.dumps(payload)).decode()


def _encoded(data: dict[str, str]) -> str:
    """Pairs that Dart's decoder reads: escaped so that base64 has neither a plus nor a slash."""
    pairs = ((name, quote(value, safe="", errors="replace").replace("~", "%7E")) for name, value in data.items())
    return "&".join(f"data.{name}={base64.b64encode(value.encode()).decode()}" for name, value in pairs)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _mail(given: str) -> Message:
    """`subject=` and `body=` in base64; or, in base64, a JSON object that has them, or the text alone."""
    pairs = _pairs(given)
    if "body" in pairs:
        fields = {name: _plain(value) for name, value in pairs.items() if name in {"subject", "body"}}
    else:
        fields = universal(given)
    body = wire.text(fields.get("body") or fields.get("message"))
    subject = wire.text(fields.get("subject"))
    if not body:
        raise wire.wrong("message", "has no body")
    return Message(
        title=subject[:TITLE_CHARS_MAX] or None,
        body=body[:BODY_CHARS_MAX],
        push_type=PushType.EMAIL,
        overrides={"email": {"text": body}} if len(body) > BODY_CHARS_MAX else {},
    )
