"""Web Push answers: statuses and the services' own reasons, what each means for us, and a parser of hostile bodies.

Theory. RFC 8030 gives statuses; Mozilla adds an `errno`, Apple a `reason`, Microsoft headers of its own, Google a page.
`lookup` turns (status, reason) into a position in `REASONS`, which callers may store: **the table only ever grows at
its end**. A subscription ends by 404 and 410 alone (RFC 8030 section 7.3): deleting is a whitelist (G-04).

Sources: RFC 8030, RFC 8292; autopush error codes (Mozilla); Apple, "Sending web push notifications in web apps and
browsers"; Microsoft, "Push notification service request and response headers".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import orjson


class Verdict(Enum):
    """What an answer means for message, subscription and key."""

    ACCEPTED = "accepted"
    MESSAGE_BAD = "message_bad"
    """The request is wrong, or refused for good: do not repeat it; subscription and key are sound."""
    SUBSCRIPTION_DEAD = "subscription_dead"
    """The subscription is gone: retire it, unless it is brand new."""
    KEY_REFUSED = "key_refused"
    """Our key is not the subscription's, or it is not accepted at all: one of them is a subscription's fault, all of
    them are the key's."""
    TOKEN_REFUSED = "token_refused"  # noqa: S105  a verdict, not a password
    """Our VAPID token is refused: sign a new one once, then hold the key (G-07)."""
    THROTTLED = "throttled"
    RETRY = "retry"
    """The service cannot now: back off, then repeat."""


class Alert(Enum):
    """Whether a person should hear of it."""

    NONE = "none"
    RATE = "rate"
    """When it happens often."""
    NOW = "now"


class PushReason(NamedTuple):
    """One line of the table. An empty reason stands for every reason of that status that has no line of its own."""

    status: int
    reason: str
    verdict: Verdict
    alert: Alert


def _row(status: int, reason: str, verdict: Verdict, alert: Alert = Alert.NONE) -> PushReason:
    return PushReason(status, reason, verdict, alert)


REASONS: tuple[PushReason, ...] = (
    # Append only: positions are stored.
    _row(201, "", Verdict.ACCEPTED),
    _row(201, "wns_dropped", Verdict.MESSAGE_BAD, Alert.RATE),
    _row(201, "wns_channelthrottled", Verdict.THROTTLED, Alert.RATE),
    _row(400, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "UnauthorizedRegistration", Verdict.KEY_REFUSED, Alert.NOW),
    _row(400, "BadTtl", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadUrgency", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadWebPushTopic", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadWebPushRequest", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "errno_110", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "errno_111", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "errno_112", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "errno_113", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "errno_114", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(401, "", Verdict.TOKEN_REFUSED, Alert.NOW),
    # Mozilla says 109 of every VAPID fault, of a subscription made with another key too.
    _row(401, "errno_109", Verdict.KEY_REFUSED, Alert.RATE),
    _row(403, "", Verdict.KEY_REFUSED, Alert.RATE),
    _row(403, "VapidPkHashMismatch", Verdict.KEY_REFUSED, Alert.RATE),
    _row(403, "BadJwtToken", Verdict.TOKEN_REFUSED, Alert.NOW),
    _row(403, "BadAuthorizationHeader", Verdict.TOKEN_REFUSED, Alert.NOW),
    _row(403, "BadVapidPublicKey", Verdict.TOKEN_REFUSED, Alert.NOW),
    _row(404, "", Verdict.SUBSCRIPTION_DEAD),
    _row(404, "errno_102", Verdict.SUBSCRIPTION_DEAD),
    _row(405, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(406, "", Verdict.THROTTLED, Alert.RATE),
    _row(410, "", Verdict.SUBSCRIPTION_DEAD),
    _row(410, "errno_103", Verdict.SUBSCRIPTION_DEAD),
    _row(410, "errno_105", Verdict.SUBSCRIPTION_DEAD),
    _row(410, "errno_106", Verdict.SUBSCRIPTION_DEAD),
    _row(413, "", Verdict.MESSAGE_BAD, Alert.RATE),
    _row(413, "errno_104", Verdict.MESSAGE_BAD, Alert.RATE),
    _row(429, "", Verdict.THROTTLED, Alert.RATE),
    _row(500, "", Verdict.RETRY, Alert.RATE),
    _row(502, "", Verdict.RETRY, Alert.RATE),
    _row(503, "", Verdict.RETRY, Alert.RATE),
    _row(503, "errno_201", Verdict.RETRY, Alert.RATE),
    _row(503, "errno_202", Verdict.RETRY, Alert.RATE),
    # What has no line of its own. A redirect is never followed (W-45).
    _row(300, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(499, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(599, "", Verdict.RETRY, Alert.RATE),
    _row(0, "", Verdict.RETRY, Alert.NOW),
)
"""Every (status, reason) that matters, and one line per class for the rest: 300 any redirect, 499 any other 4xx, 599
any other 5xx, 0 what is no answer of a push service at all."""

ACCEPTED_STATUSES = frozenset((200, 201, 202, 204))
"""RFC 8030 section 5 says 201 or 202; the others have been seen (W-30)."""

BODY_BYTES_MAX = 4096
"""Error bodies past this are not parsed (G-08, W-46)."""
REASON_CHARS_MAX = 64

_INDEX = {(row.status, row.reason): index for index, row in enumerate(REASONS)}
_CLASSES = {2: 201, 3: 300, 4: 499, 5: 599}
_PAGE_REASONS = (b"UnauthorizedRegistration",)
"""Words that Google puts into a page in place of JSON."""
_WNS_STATUS = re.compile(rb"[a-z]{1,32}")


def lookup(status: int, reason: str) -> int:
    """The position in `REASONS` of an answer; of its status class when the reason is unknown."""
    if status in ACCEPTED_STATUSES:
        status = 201
    index = _INDEX.get((status, reason))
    if index is None:
        index = _INDEX.get((status, ""))
    if index is None:
        status_class = status // 100
        index = _INDEX[(_CLASSES[status_class] if 2 < status_class < 6 else 0, "")]
    return index


def is_known(index: int) -> bool:
    """Whether a position of `REASONS` stands for a documented status rather than for a class; else count it."""
    return REASONS[index].status not in (0, 499, 599)


def parse_error(body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> str:
    """The service's own reason: Apple's word, `errno_` and Mozilla's number, `wns_` and Microsoft's status, or "".

    Never raises: the body may be empty, HTML, huge, of wrong types, or cut (G-08).
    """
    for name, value in headers:
        if name.lower() in (b"x-wns-notificationstatus", b"x-wns-status"):
            status = value.strip().lower()
            if status != b"received" and _WNS_STATUS.fullmatch(status):
                return "wns_" + status.decode()
    return _reason(body) if 2 <= len(body) <= BODY_BYTES_MAX else ""


def _reason(body: bytes) -> str:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return next((word.decode() for word in _PAGE_REASONS if word in body), "")
    if not isinstance(answer, dict):
        return ""
    reason, errno = answer.get("reason"), answer.get("errno")
    if isinstance(reason, str) and len(reason) <= REASON_CHARS_MAX and reason.isprintable():
        return reason
    if isinstance(errno, int) and not isinstance(errno, bool) and 0 <= errno < 10_000:
        return f"errno_{errno}"
    return ""
