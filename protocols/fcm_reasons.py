"""FCM answers: Google's table of statuses and error codes, what each means for us, and a parser of hostile bodies.

Theory. A refusal is a `google.rpc.Status` in JSON whose `details` may hold an `FcmError`. The same HTTP status with and
without one means different things, so its `errorCode` decides first, then the status's name, then the HTTP status.
`lookup` turns that into a position in `REASONS`, which callers may store: **the table only ever grows at its end**. A
404 without FcmError is a wrong project or address and says nothing about a token; only exact codes end one (G-04).

Sources: "FcmError", "ErrorCode" of the FCM HTTP v1 reference; google/rpc/status.proto and error_details.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

import orjson


class Verdict(Enum):
    """What an answer means for message, device token, credential and project."""

    ACCEPTED = "accepted"
    MESSAGE_BAD = "message_bad"
    """The request is wrong, or refused for good: do not repeat it; token and credential are sound."""
    TOKEN_DOUBTED = "token_doubted"  # noqa: S105  a device token's state, not a password
    """FCM says that the token is none, which it also says of some bad messages: find out, then decide."""
    TOKEN_BAD = "token_bad"  # noqa: S105  a device token's state, not a password
    """The token is no token of this project: retire it, behind the breaker (G-04)."""
    TOKEN_DEAD = "token_dead"  # noqa: S105  a device token's state, not a password
    """The token is gone and never valid again: retire it."""
    DEVICE_THROTTLED = "device_throttled"
    """Too many pushes to this one device or topic: delay this one, the others go on."""
    PROJECT_THROTTLED = "project_throttled"
    """The project's rate is used up: slow it down."""
    RETRY = "retry"
    """The service cannot now: back off, then repeat."""
    RETRY_SLOWLY = "retry_slowly"
    """The same, and the whole project is to slow down."""
    HELD = "held"
    """The project's own key for Apple or for browsers is wrong: hold this row, tell the operator, go on with others."""
    LOGIN_STALE = "login_stale"
    """The access token is refused: fetch another once, repeat once (F-04)."""
    CREDENTIAL_BAD = "credential_bad"
    """The account may not send, or the project is not there: pause the credential, keep its messages (G-07)."""


class FcmReason(NamedTuple):
    """One line of the table: HTTP status, the name by which it is known, what it means."""

    status: int
    reason: str
    verdict: Verdict


class Limit(Enum):
    """Which rate a QUOTA_EXCEEDED is about."""

    PROJECT = "project"
    DEVICE = "device"
    TOPIC = "topic"


class ErrorBody(NamedTuple):
    """What of an error body is sane; empty where it says nothing."""

    code: str = ""
    """FcmError's errorCode."""
    status: str = ""
    """The google.rpc code by name."""
    blames_token: bool = False
    """Whether the registration token itself is called invalid, and nothing else."""
    field: str = ""
    """The first field that a BadRequest names."""
    apns_reason: str = ""
    """What Apple answered to FCM."""
    limit: Limit = Limit.PROJECT
    retry_delay_s: float | None = None
    """Of a google.rpc.RetryInfo."""


REASONS: tuple[FcmReason, ...] = (
    # Append only: positions are stored.
    FcmReason(200, "", Verdict.ACCEPTED),
    FcmReason(400, "INVALID_ARGUMENT", Verdict.MESSAGE_BAD),
    FcmReason(400, "INVALID_TOKEN", Verdict.TOKEN_DOUBTED),
    FcmReason(400, "APNS_REFUSED", Verdict.MESSAGE_BAD),
    FcmReason(401, "THIRD_PARTY_AUTH_ERROR", Verdict.HELD),
    FcmReason(401, "UNAUTHENTICATED", Verdict.LOGIN_STALE),
    FcmReason(403, "SENDER_ID_MISMATCH", Verdict.TOKEN_BAD),
    FcmReason(403, "PERMISSION_DENIED", Verdict.CREDENTIAL_BAD),
    FcmReason(404, "UNREGISTERED", Verdict.TOKEN_DEAD),
    FcmReason(404, "NOT_FOUND", Verdict.CREDENTIAL_BAD),
    FcmReason(429, "QUOTA_EXCEEDED", Verdict.PROJECT_THROTTLED),
    FcmReason(429, "DEVICE_QUOTA_EXCEEDED", Verdict.DEVICE_THROTTLED),
    FcmReason(429, "TOPIC_QUOTA_EXCEEDED", Verdict.DEVICE_THROTTLED),
    FcmReason(500, "INTERNAL", Verdict.RETRY),
    FcmReason(503, "UNAVAILABLE", Verdict.RETRY_SLOWLY),
    # What is no line of Google's, by class.
    FcmReason(400, "", Verdict.MESSAGE_BAD),
    FcmReason(401, "", Verdict.LOGIN_STALE),
    FcmReason(403, "", Verdict.CREDENTIAL_BAD),
    FcmReason(404, "", Verdict.CREDENTIAL_BAD),
    FcmReason(429, "", Verdict.PROJECT_THROTTLED),
    FcmReason(499, "", Verdict.MESSAGE_BAD),
    FcmReason(503, "", Verdict.RETRY_SLOWLY),
    FcmReason(599, "", Verdict.RETRY),
    FcmReason(0, "", Verdict.RETRY),
    # What pushd itself found out by asking again.
    FcmReason(400, "INVALID_TOKEN_CONFIRMED", Verdict.TOKEN_BAD),
    FcmReason(401, "UNAUTHENTICATED_AGAIN", Verdict.CREDENTIAL_BAD),
)
"""Every answer that Google documents, and one line per class for the rest: 499 any other 4xx, 599 any other 5xx, 0 what
is no answer of FCM at all. `reason` is errorCode or status, made finer where `details` say more."""

_INDEX = {(row.status, row.reason): index for index, row in enumerate(REASONS)}

INVALID_TOKEN = _INDEX[400, "INVALID_TOKEN"]
INVALID_TOKEN_CONFIRMED = _INDEX[400, "INVALID_TOKEN_CONFIRMED"]
INVALID_ARGUMENT = _INDEX[400, "INVALID_ARGUMENT"]
UNAUTHENTICATED_AGAIN = _INDEX[401, "UNAUTHENTICATED_AGAIN"]
"""Places that callers choose by name: what a doubted token turned out to be, and a second refusal of the account."""

_BY_CODE = {
    "UNREGISTERED": "UNREGISTERED",
    "SENDER_ID_MISMATCH": "SENDER_ID_MISMATCH",
    "QUOTA_EXCEEDED": "QUOTA_EXCEEDED",
    "THIRD_PARTY_AUTH_ERROR": "THIRD_PARTY_AUTH_ERROR",
    "APNS_AUTH_ERROR": "THIRD_PARTY_AUTH_ERROR",
    "INVALID_ARGUMENT": "INVALID_ARGUMENT",
    "INTERNAL": "INTERNAL",
    "UNAVAILABLE": "UNAVAILABLE",
}
"""FcmError's errorCode, which decides whatever 4xx it came with; `APNS_AUTH_ERROR` is an older name."""
_CODE_STATUS = {row.reason: row.status for row in REASONS if row.reason in _BY_CODE.values()}
_BY_STATUS = {
    400: {"INVALID_ARGUMENT": "INVALID_ARGUMENT"},
    401: {"UNAUTHENTICATED": "UNAUTHENTICATED"},
    403: {"PERMISSION_DENIED": "PERMISSION_DENIED"},
    404: {"NOT_FOUND": "NOT_FOUND"},
    429: {"RESOURCE_EXHAUSTED": "QUOTA_EXCEEDED"},
    500: {"INTERNAL": "INTERNAL"},
    503: {"UNAVAILABLE": "UNAVAILABLE"},
}
_QUOTAS = {Limit.DEVICE: "DEVICE_QUOTA_EXCEEDED", Limit.TOPIC: "TOPIC_QUOTA_EXCEEDED"}

BODY_BYTES_MAX = 16_384
"""Error bodies past this are not parsed: Google's have a few hundred bytes, field violations a few thousand (G-08)."""
_NAME_CHARS_MAX, _FIELD_CHARS_MAX, _DETAILS_MAX = 64, 200, 32
_RETRY_DELAY_MAX_S = 1e9

_TYPE = "type.googleapis.com/"
_FCM_ERROR = _TYPE + "google.firebase.fcm.v1.FcmError"
_APNS_ERROR = _TYPE + "google.firebase.fcm.v1.ApnsError"
_BAD_REQUEST = _TYPE + "google.rpc.BadRequest"
_QUOTA_FAILURE = _TYPE + "google.rpc.QuotaFailure"
_RETRY_INFO = _TYPE + "google.rpc.RetryInfo"
_TOKEN_BLAMED = re.compile(r"registration token is not a valid|invalid registration token", re.IGNORECASE)
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s")


def lookup(status: int, error: ErrorBody) -> int:
    """The position in `REASONS` of an answer; of its status class where nothing in it is known."""
    if 400 <= status < 500:
        name = _BY_CODE.get(error.code, "")
        if name:
            return _INDEX[_CODE_STATUS[name], _finer(name, error)]
        name = _BY_STATUS.get(status, {}).get(error.status, "")
        if name:
            return _INDEX[status, _finer(name, error)]
    elif status >= 500:
        # A failing service may quote any code: only the codes of failing services are believed.
        believed = error.code in ("INTERNAL", "UNAVAILABLE")
        name = error.code if believed else _BY_STATUS.get(status, {}).get(error.status, "")
        if name:
            return _INDEX[_CODE_STATUS[name], name]
    index = _INDEX.get((status, ""))
    return _INDEX[{4: 499, 5: 599}.get(status // 100, 0), ""] if index is None else index


def is_known(index: int) -> bool:
    """Whether a position of `REASONS` stands for a line of Google's table rather than for a class; else count it."""
    return index == 0 or bool(REASONS[index].reason)


def parse_error(body: bytes) -> ErrorBody:
    """What an error body says; never raises, for it may be empty, HTML, huge, cut, or of wrong types (G-08)."""
    if not 2 <= len(body) <= BODY_BYTES_MAX:
        return ErrorBody()
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ErrorBody()
    error = _object(answer[0] if isinstance(answer, list) and answer else answer).get("error")
    if not isinstance(error, dict):
        return ErrorBody()
    details = list(_details(error.get("details")))
    code = next((_name(each.get("errorCode")) for kind, each in details if kind == _FCM_ERROR), "")
    violations = [
        each for kind, detail in details if kind == _BAD_REQUEST for each in _objects(detail.get("fieldViolations"))
    ]
    fields = [_text(each.get("field"), _FIELD_CHARS_MAX) for each in violations]
    return ErrorBody(
        code=code,
        status=_name(error.get("status")),
        blames_token=bool(code) and _blames_token(error.get("message"), fields),
        field=next(iter(fields), ""),
        apns_reason=next((_name(each.get("reason")) for kind, each in details if kind == _APNS_ERROR), ""),
        limit=_limit(detail for kind, detail in details if kind == _QUOTA_FAILURE),
        retry_delay_s=next((_seconds(each.get("retryDelay")) for kind, each in details if kind == _RETRY_INFO), None),
    )


def _finer(name: str, error: ErrorBody) -> str:
    """A name made finer by what the details say."""
    if name == "QUOTA_EXCEEDED":
        return _QUOTAS.get(error.limit, name)
    if name == "INVALID_ARGUMENT" and error.apns_reason:
        return "APNS_REFUSED"
    if name == "INVALID_ARGUMENT" and error.code and error.blames_token:
        return "INVALID_TOKEN"
    return name


def _blames_token(message: object, fields: list[str]) -> bool:
    # A violation of any other field is the caller's error, whatever the message says beside it.
    if any(field != "message.token" for field in fields):
        return False
    return bool(fields) or (isinstance(message, str) and bool(_TOKEN_BLAMED.search(message[:1000])))


def _limit(failures: Iterator[dict[str, Any]]) -> Limit:
    for failure in failures:
        for violation in _objects(failure.get("violations")):
            words = f"{violation.get('subject', '')} {violation.get('description', '')}"[:400].lower()
            if "device" in words:
                return Limit.DEVICE
            if "topic" in words:
                return Limit.TOPIC
    return Limit.PROJECT


def _details(value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    for detail in _objects(value):
        kind = detail.get("@type")
        if isinstance(kind, str):
            yield kind, detail


def _objects(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [each for each in value[:_DETAILS_MAX] if isinstance(each, dict)]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str:
    return _text(value, _NAME_CHARS_MAX)


def _text(value: object, chars_max: int) -> str:
    return value if isinstance(value, str) and len(value) <= chars_max and value.isprintable() else ""


def _seconds(value: object) -> float | None:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else min(float(found[1]), _RETRY_DELAY_MAX_S)
