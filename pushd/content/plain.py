"""Ordinary alerts, which are most sends: known to be fine without asking every rule and rendering every platform."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pushd.model.app import Settings
from pushd.model.message import PushType, Sound
from pushd.model.notification import Send

PLAIN_BYTES_MAX = 1_000
"""Of a send and the app's title and icon: three times that, as escaped text within text, fits any platform's limit."""
PLAIN_DEPTH_MAX = 64
TITLE_WEIGHT = 4
"""Bytes that a character of the app's title or icon takes at most."""

_WEB_ADDRESS = re.compile(r"https://[^\s\x00-\x1f\x7f]+")
LONG_NUMBER = b"0" * 19
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")


def is_plain(send: Send, text: bytes, settings: Settings) -> bool:
    """Whether a send breaks no rule and fits every platform for certain; `text` is its JSON. False says nothing.

    Rules of its time are not among them, nor what an app's websites for Safari can open of its `url`.
    """
    message = send.message
    return (
        len(text) + TITLE_WEIGHT * (len(settings.default_title or "") + len(settings.icon or "")) <= PLAIN_BYTES_MAX
        and message.push_type is PushType.ALERT
        and (message.title is not None or message.body is not None)
        and send.collapse_id is None
        and not send.liquid
        and not send.locales
        and send.badge_from is None
        and not _has_parts_with_rules(send)
        # What devices' JSON parsers could not hold can only be in free-form data.
        and (
            (message.data is None and not message.overrides)
            or (text.count(b"{") + text.count(b"[") <= PLAIN_DEPTH_MAX and not has_long_number(text))
        )
    )


def has_long_number(text: bytes) -> bool:
    """Whether 19 digits follow one another: 64 bits may be too few for what they are."""
    return LONG_NUMBER in text.translate(_AS_ZEROS)  # a search for a pattern takes thirty times as long


def _has_parts_with_rules(send: Send) -> bool:
    message = send.message
    return bool(
        (message.url is not None and not _WEB_ADDRESS.fullmatch(message.url))
        or message.icon is not None
        or message.image is not None
        or message.media
        or message.buttons
        or message.badge_increment is not None
        or message.android is not None
        or message.live_activity is not None
        or (message.overrides and not _is_payload(message.overrides))
        or type(message.sound) is Sound
    )


def _is_payload(overrides: Mapping[Any, dict[str, Any]]) -> bool:
    """Whether no more is overridden than what iOS gets, which has one rule."""
    own = overrides.get("apns")
    return len(overrides) == 1 and isinstance(own, dict) and isinstance(own.get("aps", {}), dict)
