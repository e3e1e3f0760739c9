"""Backendless' messages: headers, and what they say of a push on each system."""

from __future__ import annotations

from typing import Any

from pushd.dialects.backendless import wire
from pushd.model.message import Message, PushType

BODY_CHARS_MAX = 4_096
TEXT_CHARS_MAX = 1_000
URL_CHARS_MAX = 2_048
HEADERS_MAX = 200
HEADER_CHARS_MAX = 255
BADGE_MAX = 2**31 - 1
_OF_PUSH = ("android-", "ios-", "wp-")
_TEXTS = ("ios-alert", "ios-alert-body", "android-content-text", "android-ticker-text")
"""Where the text is looked for when there is no message."""
_SEEN = ("ios-alert", "ios-alert-title", "ios-alert-body", "ios-alert-subtitle", "ios-badge", "ios-sound")
_TRUE = frozenset(("1", "true", "yes"))


def is_of_push(header: str) -> bool:
    """Whether a header says how a push looks."""
    return header.lower().startswith(_OF_PUSH)


def headers_of(given: Any) -> dict[str, str]:
    """The headers, their values as texts; InvalidRequestError."""
    if given is None or given == "":
        return {}
    if not isinstance(given, dict) or len(given) > HEADERS_MAX:
        raise wire.wrong("headers", f"are not an object of at most {HEADERS_MAX}")
    if any(not 0 < len(name) <= HEADER_CHARS_MAX for name in given):
        raise wire.wrong("headers", f"have a name that is not of 1 to {HEADER_CHARS_MAX} characters")
    return {name: wire.text(value) for name, value in given.items() if value is not None}


def message_of(given: Any, headers: dict[str, str]) -> Message:
    """The message of a publication: what all systems have in common, and every header for those that read it.

    What Android and Apple's devices are told apart stays in the headers, from which each shape takes its own.
    """
    said = _first(headers, *_TEXTS)
    body = wire.text(given) or said or ""
    title = _first(headers, "ios-alert-title", "android-content-title")
    subtitle = _first(headers, "ios-alert-subtitle", "android-summary-subtext")
    data: dict[str, Any] = dict(headers)
    if len(body) > BODY_CHARS_MAX:
        data["message"] = body
    silent = _is_true(headers.get("ios-content-available"))
    if silent and not any(headers.get(name) for name in _SEEN):
        if body:
            data["message"] = body
        return Message(push_type=PushType.BACKGROUND, data=data)
    if not (body or title):
        raise wire.wrong("message", "is missing")
    media = headers.get("ios-rich-media-url")
    image = media if media and len(media) <= URL_CHARS_MAX and media.startswith(("https://", "http://")) else None
    return Message(
        title=_cut(title),
        subtitle=_cut(subtitle),
        body=body[:BODY_CHARS_MAX] or None,
        image=image,
        badge=_badge(headers.get("ios-badge")),
        sound=_cut(_first(headers, "ios-sound", "android-content-sound")),
        category=_cut(headers.get("ios-category")),
        thread=_cut(headers.get("ios-thread-id")),
        content_available=True if silent else None,
        mutable_content=True if image or _is_true(headers.get("ios-mutable-content")) else None,
        data=data or None,
    )


def _first(headers: dict[str, str], *names: str) -> str | None:
    return next((headers[name] for name in names if headers.get(name)), None)


def _cut(value: str | None) -> str | None:
    return value[:TEXT_CHARS_MAX] if value else None


def _badge(given: str | None) -> int | None:
    said = (given or "").strip()
    number = int(said) if said.isascii() and said.isdigit() and len(said) <= 10 else None
    return number if number is not None and number <= BADGE_MAX else None


def _is_true(given: str | None) -> bool:
    return (given or "").strip().lower() in _TRUE
