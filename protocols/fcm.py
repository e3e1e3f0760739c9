"""FCM HTTP v1 requests: project paths, targets, data keys, payload sizes and bodies around a token, checked beforehand.

Theory. The path is one per project; the device's token stands in the body. A message is rendered once, as the JSON of
FCM's `Message` without its target; the body of a push is that JSON with the token spliced in behind a constant head, so
that a run of pushes is octets shared by all rows around one column.

Sources: "FCM HTTP v1 API" (projects.messages) and its discovery document, firebase.google.com/docs/reference/fcm/rest.
Answers are in `protocols.fcm_reasons`, re-exported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from protocols.errors import LocalProtocolError
from protocols.fcm_reasons import (
    BODY_BYTES_MAX,
    REASONS,
    ErrorBody,
    FcmReason,
    Limit,
    Verdict,
    is_known,
    lookup,
    parse_error,
)
from protocols.http2 import Field, HeaderPlan

__all__ = [
    "BODY_BYTES_MAX",
    "CONDITION_TOPICS_MAX",
    "OAUTH_AUDIENCE",
    "OAUTH_PATH",
    "OAUTH_SCOPE",
    "PAYLOAD_BYTES_MAX",
    "REASONS",
    "TOKEN_CHARS_MAX",
    "TOPIC_PAYLOAD_BYTES_MAX",
    "TTL_MAX_S",
    "ErrorBody",
    "FcmReason",
    "Limit",
    "Target",
    "Verdict",
    "around_token",
    "check_condition",
    "check_data_key",
    "check_project_id",
    "check_token",
    "check_topic",
    "duration",
    "header_plan",
    "is_known",
    "lookup",
    "parse_error",
    "path",
    "payload_bytes",
    "request_body",
    "valid_tokens",
    "with_ttl",
]

OAUTH_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
OAUTH_AUDIENCE = "https://oauth2.googleapis.com/token"
"""Whom an assertion is for: Google's token endpoint, whatever address it is reached by (F-01). A key file's own
`token_uri` is never used (F-02)."""
OAUTH_PATH = "/token"

PAYLOAD_BYTES_MAX = 4096
TOPIC_PAYLOAD_BYTES_MAX = 2048
"""Keys and values of what a device gets; less for topics (F-16)."""

TTL_MAX_S = 2_419_200
"""28 days, which is also what FCM takes without a TTL (F-13)."""

TOKEN_CHARS_MAX = 4096
"""Google promises no length; tokens have had 152 to about 250 characters."""

CONDITION_TOPICS_MAX = 5
"""Topics that one condition may name (F-11)."""

_PROJECT_ID = re.compile(r"(?:[a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
"""Google Cloud's rule for project ids; old ones may stand behind a domain and a colon."""
_TOPIC = re.compile(r"[a-zA-Z0-9\-_.~%]{1,900}")
_TOKEN = re.compile(r"[!#-\[\]-~]+")
"""Visible ASCII but for the quotation mark and the backslash: what JSON takes as it is."""
_NO_TOKEN = bytes(octet for octet in range(256) if not _TOKEN.fullmatch(chr(octet)))
_CONDITION = re.compile(r"\s*(?:(?P<topic>'([^']*)'\s+in\s+topics)|(?P<sign>&&|\|\||[!()]))")
_CONDITION_DEPTH_MAX = 16
_RESERVED = frozenset({"from", "message_type"})
_RESERVED_PREFIXES = ("google", "gcm")

_HEAD, _HEAD_DRY = b'{"message":{"', b'{"validate_only":true,"message":{"'
_ANDROID_TTL = b'{"android":{"ttl":"'
_WEB_TTL = re.compile(rb'"webpush":\{"headers":\{"TTL":"\d+"')


class Target(NamedTuple):
    """Whom one request is for (F-11)."""

    field: str
    """`token`, `topic` or `condition`."""
    value: str


def check_project_id(project_id: str) -> str:
    """The project id; ValueError for what Google Cloud could not have given out, so that it may enter a path (F-02)."""
    if not _PROJECT_ID.fullmatch(project_id):
        raise ValueError("not a Google Cloud project id: 6 to 30 lower-case letters, digits and hyphens")
    return project_id


def path(project_id: str) -> bytes:
    """Where messages of a project are sent (F-10)."""
    return b"/v1/projects/%b/messages:send" % check_project_id(project_id).encode()


def header_plan(authority: bytes, authorization: bytes, project_id: str) -> HeaderPlan:
    """The plan of every request of a project: nothing in it differs from row to row."""
    return HeaderPlan(
        (
            Field(b":method", b"POST"),
            Field(b":scheme", b"https"),
            Field(b":path", path(project_id)),
            Field(b":authority", authority),
            Field(b"authorization", authorization),
            Field(b"content-type", b"application/json"),
        )
    )


def check_token(token: str) -> str:
    """The registration token; ValueError, which never holds it, when it cannot be one."""
    if not token:
        raise ValueError("the token is empty")
    if len(token) > TOKEN_CHARS_MAX:
        raise ValueError(f"the token has {len(token)} characters: at most {TOKEN_CHARS_MAX} are possible")
    if not _TOKEN.fullmatch(token):
        raise ValueError("a registration token has visible ASCII characters, no quotation marks and no backslashes")
    return token


def valid_tokens(tokens: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Which rows of a column of NUL-padded tokens may be spliced into JSON."""
    width = tokens.dtype.itemsize
    if width == 0 or len(tokens) == 0:
        return np.zeros(len(tokens), np.bool_)
    column = np.ascontiguousarray(tokens)
    raw = column.tobytes()
    if len(raw.translate(None, _NO_TOKEN)) == len(raw):  # tokens of one length, all sound: a tenth of the time
        return np.full(len(tokens), width <= TOKEN_CHARS_MAX)
    octets = column.view(np.uint8).reshape(len(tokens), width)
    # Octets wrap around: 0x21 to 0x7E, without the two that JSON escapes.
    good = ((octets - 0x21) < 0x5E) & (octets != 0x22) & (octets != 0x5C)
    lengths = np.count_nonzero(good, axis=1)
    whole = np.count_nonzero(octets, axis=1) == lengths
    contiguous = np.all(good[:, 1:] <= good[:, :-1], axis=1)
    valid: NDArray[np.bool_] = whole & contiguous & (lengths > 0) & (lengths <= TOKEN_CHARS_MAX)
    return valid


def check_topic(topic: str) -> str:
    """The topic's name, without `/topics/`; ValueError when it cannot be one (F-11)."""
    if not _TOPIC.fullmatch(topic):
        raise ValueError("a topic has letters, digits and -_.~% only, and no /topics/ before it")
    return topic


def check_condition(condition: str) -> str:
    """The condition; ValueError unless it is `'a' in topics` joined by &&, ||, ! and parentheses, 5 topics at most."""
    signs, at, topics = [], 0, 0
    while at < len(condition.rstrip()):
        found = _CONDITION.match(condition, at)
        if found is None:
            raise ValueError("a condition is made of 'topic' in topics, &&, ||, ! and parentheses")
        if found["topic"]:
            check_topic(found[2])
            topics += 1
        signs.append(found["sign"] or "topic")
        at = found.end()
    if topics > CONDITION_TOPICS_MAX:
        raise ValueError(f"a condition names at most {CONDITION_TOPICS_MAX} topics; this one has {topics}")
    if _expression(signs, 0, 0) != len(signs):
        raise ValueError("the condition is not one whole expression")
    return condition


def check_data_key(key: str) -> None:
    """ValueError for keys of `data` that FCM keeps for itself (F-12)."""
    if not key:
        raise ValueError("a key of data must not be empty")
    if key in _RESERVED or key.startswith(_RESERVED_PREFIXES):
        raise ValueError("from, message_type and keys that begin with google or gcm are FCM's own")


def duration(seconds: int) -> str:
    """Whole seconds as protobuf's JSON has a Duration; 0 to 28 days (F-13)."""
    return f"{min(max(seconds, 0), TTL_MAX_S)}s"


def around_token(message: bytes, *, validate_only: bool = False) -> tuple[bytes, bytes]:
    """What stands before and after the token in the body that sends this `Message` JSON to one device (F-10, F-11)."""
    inner = _inner(message)
    head = (_HEAD_DRY if validate_only else _HEAD) + b'token":"'
    return head, b'"' + (b"," + inner if inner else b"") + b"}}"


def request_body(message: bytes, target: Target, *, validate_only: bool = False) -> bytes:
    """The body that sends this `Message` JSON to a target."""
    inner = _inner(message)
    head = (_HEAD_DRY if validate_only else _HEAD) + target.field.encode() + b'":' + orjson.dumps(target.value)
    return head + (b"," + inner if inner else b"") + b"}}"


def with_ttl(message: bytes, ttl_s: int) -> bytes:
    """The `Message` JSON with another time to live, where it begins with Android's and has a browser's behind that.

    TTLs are relative: a push that goes out later than its message was rendered has less time left.
    """
    if not message.startswith(_ANDROID_TTL):
        raise LocalProtocolError("the message does not begin with android.ttl")
    end = message.index(b'"', len(_ANDROID_TTL))
    seconds = min(max(ttl_s, 0), TTL_MAX_S)
    fresh = _ANDROID_TTL + b"%ds" % seconds + message[end:]
    return _WEB_TTL.sub(b'"webpush":{"headers":{"TTL":"%d"' % seconds, fresh, count=1)


def payload_bytes(message: Mapping[str, Any]) -> dict[str, int]:
    """Keys and values, in bytes of UTF-8, of what a device of each platform gets from this `Message` (F-16).

    A platform's own notification is laid over the common one, its own data takes the place of the common one; for
    Apple devices the payload is one of APNs, and counts as its JSON.
    """
    sizes = {}
    for platform in ("android", "webpush"):
        own = _object(message.get(platform))
        notification = {**_object(message.get("notification")), **_object(own.get("notification"))}
        sizes[platform] = _weight(notification) + _weight(_object(own.get("data")) or _object(message.get("data")))
    apns = _object(_object(message.get("apns")).get("payload"))
    common = _weight(_object(message.get("data"))) + _weight(_object(message.get("notification")))
    sizes["apns"] = max(common, len(orjson.dumps(apns)) + _weight(_object(message.get("data"))) if apns else 0)
    return sizes


def _inner(message: bytes) -> bytes:
    if message[:1] != b"{" or message[-1:] != b"}":
        raise LocalProtocolError("a message is a JSON object")
    return message[1:-1]


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _weight(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(len(key.encode()) + _weight(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_weight, value))
    return len(value.encode()) if isinstance(value, str) else len(orjson.dumps(value))


def _expression(signs: list[str], at: int, depth: int) -> int:
    """Where the expression that begins there ends."""
    if depth > _CONDITION_DEPTH_MAX:
        raise ValueError("the condition is nested too deeply")
    at = _term(signs, at, depth)
    while at < len(signs) and signs[at] in ("&&", "||"):
        at = _term(signs, at + 1, depth)
    return at


def _term(signs: list[str], at: int, depth: int) -> int:
    while at < len(signs) and signs[at] == "!":
        at += 1
    if at < len(signs) and signs[at] == "topic":
        return at + 1
    if at < len(signs) and signs[at] == "(":
        at = _expression(signs, at + 1, depth + 1)
        if at < len(signs) and signs[at] == ")":
            return at + 1
    raise ValueError("the condition is not one whole expression")
