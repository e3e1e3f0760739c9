"""What FCM checks of a message, field by field, and the google.rpc.Status in which it refuses.

The table is Google's discovery document of `projects.messages` in short. proto3 JSON takes both spellings of a name;
anything it does not know is refused with the path of the field, as is a value of another type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

TYPE = "type.googleapis.com/"
PAYLOAD_MAX, TOPIC_PAYLOAD_MAX = 4_096, 2_048
TTL_MAX_S = 2_419_200
TOPICS_MAX = 5

STATUSES: dict[str, tuple[int, str]] = {
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED"),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED"),
    "UNREGISTERED": (404, "NOT_FOUND"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED"),
    "INTERNAL": (500, "INTERNAL"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
}
"""HTTP status and google.rpc code of every FcmError."""
NAMES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
BAD_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105 - a message

TOKEN = re.compile(r"[A-Za-z0-9_:-]{20,4096}")
"""What Google's registration tokens have been seen to be made of."""
TOPIC = re.compile(r"[a-zA-Z0-9\-_.~%]{1,900}")
IN_TOPICS = re.compile(r"'([^']+)' in topics")
DURATION = re.compile(r"(\d{1,12})(\.\d{1,9})?s")
COLOR = re.compile(r"#[0-9a-fA-F]{6}")
CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")


class Refusal(NamedTuple):
    """What FCM answers to a request that it does not take."""

    status: int
    body: bytes
    reason: str


class Message(NamedTuple):
    """A request that is well formed."""

    target: str
    """The token, topic or condition."""
    kind: str
    """`token`, `topic` or `condition`."""
    dry: bool
    content: dict[str, Any]


class _Wrong(Exception):  # noqa: N818 - a verdict, caught where it is raised from
    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.field, self.description = field, description


def refusal(
    code: str, message: str = "", *, status: int = 0, field: str = "", description: str = "", quota: str = ""
) -> Refusal:
    """A refusal with an FcmError of this code; with `status` one without, as of Google's other services."""
    details: list[dict[str, Any]] = []
    if status:
        name = code
    else:
        status, name = STATUSES[code]
        details.append({"@type": TYPE + "google.firebase.fcm.v1.FcmError", "errorCode": code})
    if field:
        violation = {"field": field, "description": description or message}
        details.append({"@type": TYPE + "google.rpc.BadRequest", "fieldViolations": [violation]})
    if quota:
        violations = [{"subject": quota, "description": f"{quota} quota exceeded"}]
        details.append({"@type": TYPE + "google.rpc.QuotaFailure", "violations": violations})
    error = {"code": status, "message": message or name, "status": name, "details": details}
    return Refusal(status, orjson.dumps({"error": error}), code)


def read(body: bytes) -> Message | Refusal:
    """The message of a body, or why it is refused."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return refusal("INVALID_ARGUMENT", "Invalid JSON payload received.", status=400)
    try:
        request = _object(value, _REQUEST, "")
    except _Wrong as wrong:
        return refusal(
            "INVALID_ARGUMENT", wrong.description, status=400, field=wrong.field, description=wrong.description
        )
    content = request.get("message")
    if not content:
        return refusal("INVALID_ARGUMENT", "message is missing", field="message")
    targets = [kind for kind in ("token", "topic", "condition") if content.get(kind)]
    if len(targets) != 1:
        text = "Exactly one of token, topic or condition must be specified"
        return refusal("INVALID_ARGUMENT", text, field="message")
    kind = targets[0]
    return _judge(Message(content[kind], kind, bool(request.get("validate_only")), content))


def _judge(message: Message) -> Message | Refusal:
    content = message.content
    for key in content.get("data", {}):
        if not key or key in ("from", "message_type") or key.startswith(("google", "gcm")):
            return refusal("INVALID_ARGUMENT", f"Invalid data payload key: {key}", field=f"message.data[{key}]")
    if message.kind == "topic" and not TOPIC.fullmatch(message.target):
        return refusal("INVALID_ARGUMENT", "Invalid topic", field="message.topic")
    if message.kind == "condition" and not 0 < len(IN_TOPICS.findall(message.target)) <= TOPICS_MAX:
        return refusal("INVALID_ARGUMENT", "Invalid condition", field="message.condition")
    most = PAYLOAD_MAX if message.kind == "token" else TOPIC_PAYLOAD_MAX
    if max(_sizes(content)) > most:
        return refusal("INVALID_ARGUMENT", "Message is too big")
    if message.kind == "token" and not TOKEN.fullmatch(message.target):
        return refusal("INVALID_ARGUMENT", BAD_TOKEN)
    return message


def _sizes(content: dict[str, Any]) -> Iterator[int]:
    shared, data = content.get("notification", {}), content.get("data", {})
    for platform in ("android", "webpush"):
        own = content.get(platform, {})
        yield _octets({**shared, **own.get("notification", {})}) + _octets(own.get("data") or data)
    payload = content.get("apns", {}).get("payload")
    yield (len(orjson.dumps(payload)) if payload else _octets(shared)) + _octets(data)


def _octets(value: Any) -> int:
    if isinstance(value, dict):
        return sum(len(key.encode()) + _octets(each) for key, each in value.items())
    if isinstance(value, list):
        return sum(_octets(each) for each in value)
    return len(str(value).encode())


# The table: a type is a name below, a set of words, a list with the type of its elements, or a dict of fields.
_LIGHT = {
    "color": {"red": "number", "green": "number", "blue": "number", "alpha": "number"},
    "light_on_duration": "duration",
    "light_off_duration": "duration",
}
_ANDROID_NOTIFICATION: dict[str, Any] = {
    **dict.fromkeys(
        ("title", "body", "icon", "sound", "tag", "click_action", "body_loc_key", "title_loc_key", "channel_id"),
        "string",
    ),
    **dict.fromkeys(("ticker", "image"), "string"),
    "color": "color",
    "body_loc_args": ["string"],
    "title_loc_args": ["string"],
    **dict.fromkeys(
        ("sticky", "local_only", "default_sound", "default_vibrate_timings", "default_light_settings"), "bool"
    ),
    "event_time": "string",
    "notification_priority": {"PRIORITY_" + each for each in ("UNSPECIFIED", "MIN", "LOW", "DEFAULT", "HIGH", "MAX")},
    "vibrate_timings": ["duration"],
    "visibility": {"VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"},
    "notification_count": "integer",
    "light_settings": _LIGHT,
    "proxy": {"PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"},
    "bypass_proxy_notification": "bool",
}
_REQUEST: dict[str, Any] = {
    "validate_only": "bool",
    "message": {
        "name": "string",
        "data": "texts",
        "notification": {"title": "string", "body": "string", "image": "string"},
        "android": {
            "collapse_key": "string",
            "priority": {"NORMAL", "HIGH", "normal", "high"},
            "ttl": "ttl",
            "restricted_package_name": "string",
            "data": "texts",
            "notification": _ANDROID_NOTIFICATION,
            "fcm_options": {"analytics_label": "string"},
            "direct_boot_ok": "bool",
            "bandwidth_constrained_ok": "bool",
            "restricted_satellite_ok": "bool",
        },
        "webpush": {
            "headers": "texts",
            "data": "texts",
            "notification": "free",
            "fcm_options": {"link": "https", "analytics_label": "string"},
        },
        "apns": {
            "headers": "texts",
            "payload": "free",
            "fcm_options": {"analytics_label": "string", "image": "string"},
            "live_activity_token": "string",
        },
        "fcm_options": {"analytics_label": "string"},
        "token": "string",
        "topic": "string",
        "condition": "string",
    },
}


def _object(value: Any, fields: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The object with its names in one spelling."""
    if not isinstance(value, dict):
        raise _Wrong(path, f"Invalid value at '{path}': an object is expected")
    read: dict[str, Any] = {}
    for name, each in value.items():
        known = CAMEL.sub(lambda found: "_" + found[1].lower(), name)
        if known not in fields or (name != known and name.lower() == name):
            text = f"Invalid JSON payload received. Unknown name \"{name}\" at '{path}': Cannot find field."
            raise _Wrong(path, text)
        where = f"{path}.{known}".removeprefix(".")
        if known in read:
            raise _Wrong(where, "a field that stands twice")
        read[known] = _value(each, fields[known], where)
    return read


def _value(value: Any, kind: Any, path: str) -> Any:
    if isinstance(kind, dict):
        return _object(value, kind, path)
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise _Wrong(path, f"Invalid value at '{path}': a list is expected")
        return [_value(each, kind[0], f"{path}[{at}]") for at, each in enumerate(value)]
    good = value in kind if isinstance(kind, set) and isinstance(value, str) else not isinstance(kind, set)
    if isinstance(kind, str):
        good = _fits(value, kind)
    if not good:
        named = kind if isinstance(kind, str) else "enum"
        raise _Wrong(path, f"Invalid value at '{path}' ({named})")
    return value


def _fits(value: Any, kind: str) -> bool:
    fits = _SCALARS.get(kind)
    return fits(value) if fits is not None else isinstance(value, str) and _is_text(value, kind)


def _is_text(value: str, kind: str) -> bool:
    found = DURATION.fullmatch(value)
    return {
        "string": True,
        "duration": found is not None,
        "ttl": found is not None and int(found[1]) <= TTL_MAX_S,
        "color": COLOR.fullmatch(value) is not None,
        "https": value.startswith("https://"),
    }[kind]


_SCALARS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "texts": lambda value: isinstance(value, dict) and all(isinstance(each, str) for each in value.values()),
    "free": lambda value: isinstance(value, dict),
}
