"""What Huawei checks of a message, and in which codes it refuses (Push Kit REST API, "Sending Messages")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

MESSAGE_BYTES_MAX = 4_096
TOKENS_MAX = 1_000
BUTTONS_MAX, BADGE_MAX = 3, 99
TTL = re.compile(r"([0-9]+)s")
TTL_MAX_S = 1_296_000
COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
CLICK_NEEDS = {1: ("intent", "action"), 2: ("url",), 3: ()}
ANDROID = frozenset(
    ("collapse_key", "urgency", "category", "ttl", "bi_tag", "receipt_id", "target_user_type", "fast_app_target")
) | {"notification", "data"}
NOTIFICATION = (
    frozenset(
        ("title", "body", "icon", "color", "sound", "default_sound", "tag", "click_action", "channel_id", "image")
    )
    | frozenset(("body_loc_key", "body_loc_args", "title_loc_key", "title_loc_args", "multi_lang_key", "style", "when"))
    | frozenset(("big_title", "big_body", "auto_clear", "notify_id", "group", "badge", "ticker", "importance"))
    | frozenset(("visibility", "foreground_show", "inbox_content", "buttons", "profile_id", "notify_summary"))
)
MESSAGE = frozenset(("data", "notification", "android", "apns", "webpush", "token", "topic", "condition"))


class Refusal(NamedTuple):
    """An answer that is no success."""

    code: str
    msg: str
    status: int = 400


def check_message(body: Any) -> Refusal | None:
    """Why a body is refused, or nothing."""
    if not isinstance(body, dict) or not isinstance(body.get("message"), dict):
        return Refusal("80300010", "The number of tokens in the message body is not within the allowed range")
    if set(body) - {"validate_only", "message"} or not isinstance(body.get("validate_only", False), bool):
        return Refusal("80100003", "Illegal payload: unknown field beside message")
    message = body["message"]
    return _targets(message) or _size(message) or next(_structure(message), None)


def _targets(message: dict[str, Any]) -> Refusal | None:
    if len({"token", "topic", "condition"} & set(message)) != 1:
        return Refusal("80100003", "Illegal payload: exactly one of token, topic, condition")
    tokens = message.get("token", [])
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return Refusal("80100001", "Parameter error: token is a list of texts")
    if not 1 <= len(tokens) <= TOKENS_MAX:
        return Refusal("80300010", "The number of tokens in the message body is not within the allowed range")
    if len(set(tokens)) != len(tokens):
        return Refusal("80100001", "Parameter error: a token twice, which would be delivered twice")
    return None


def _size(message: dict[str, Any]) -> Refusal | None:
    counted = {name: value for name, value in message.items() if name != "token"}
    if len(orjson.dumps(counted)) > MESSAGE_BYTES_MAX:
        return Refusal("80300008", "The message body size exceeds the default value")
    return None


def _structure(message: dict[str, Any]) -> Iterator[Refusal]:
    """What is wrong, in order; whoever asks for more than the first asks what no longer makes sense."""
    if set(message) - MESSAGE:
        yield Refusal("80100003", f"Illegal payload: unknown fields {sorted(set(message) - MESSAGE)}")
    if not isinstance(message.get("data", ""), str):
        yield Refusal("80100001", "Parameter error: data is a text")
    android = message.get("android", {})
    if not isinstance(android, dict) or set(android) - ANDROID:
        yield Refusal("80100003", "Illegal payload: android")
    ttl = TTL.fullmatch(str(android.get("ttl", "86400s")))
    if ttl is None or not 1 <= int(ttl[1]) <= TTL_MAX_S:
        yield Refusal("80100004", "Incorrect ttl")
    collapse = android.get("collapse_key", -1)
    if not isinstance(collapse, int) or not -1 <= collapse <= 100:
        yield Refusal("80100013", "Incorrect collapse_key")
    if "notification" in android:
        yield from _notification(android["notification"])
    elif not message.get("data") and "notification" not in message:
        yield Refusal("80100003", "Illegal payload: neither data nor notification")


def _notification(shown: Any) -> Iterator[Refusal]:
    if not isinstance(shown, dict) or set(shown) - NOTIFICATION:
        yield Refusal("80100003", "Illegal payload: android.notification")
    if not all(isinstance(shown.get(name), str) and shown[name] for name in ("title", "body")):
        yield Refusal("80100001", "Parameter error: title and body are needed")
    click = shown.get("click_action")
    if not isinstance(click, dict) or click.get("type") not in CLICK_NEEDS:
        yield Refusal("80100001", "Parameter error: click_action.type")
        return
    needs = CLICK_NEEDS[click["type"]]
    if needs and not any(click.get(name) for name in needs):
        yield Refusal("80100001", f"Parameter error: click_action needs {needs}")
    if "url" in needs and not str(click["url"]).startswith("https://"):
        yield Refusal("80100001", "Parameter error: click_action.url is https")
    if "color" in shown and not COLOR.fullmatch(str(shown["color"])):
        yield Refusal("80100001", "Parameter error: color")
    if len(shown.get("buttons", ())) > BUTTONS_MAX:
        yield Refusal("80100001", "Parameter error: buttons")
    badge = shown.get("badge", {})
    if not 0 <= badge.get("set_num", 0) <= BADGE_MAX or not 1 <= badge.get("add_num", 1) <= BADGE_MAX:
        yield Refusal("80100001", "Parameter error: badge")
