"""APNs answers: Apple's table of statuses and reasons, what each means for us, and a parser of hostile error bodies.

Theory. An answer is a status and, unless it is 200, a JSON body `{"reason": …}`; a 410 carries `timestamp` too. The
same JSON may be the debug data of a GOAWAY. `lookup` turns (status, reason) into a position in `REASONS`, which callers
may store: **the table only ever grows at its end**. A reason that Apple adds after this was written falls to an entry
of its status class (G-08), never to one that ends a device token: deleting is a whitelist of exact reasons (G-04).

Sources: "Handling notification responses from APNs", "Handling error responses from Apple Push Notification service"
(broadcast and channels), developer.apple.com/documentation/usernotifications.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

import orjson


class Verdict(Enum):
    """What an answer means for message, device token, credential and connection."""

    ACCEPTED = "accepted"
    MESSAGE_BAD = "message_bad"
    """The request is wrong, or refused for good: do not repeat it; token and credential are sound."""
    TOKEN_BAD = "token_bad"  # noqa: S105  a device token's state, not a password
    """The token does not fit environment or topic: do not repeat; detach it only behind the breaker (G-04)."""
    TOKEN_DEAD = "token_dead"  # noqa: S105  a device token's state, not a password
    """The token is gone: retire it unless it was registered after the answer's timestamp (A-50)."""
    DEVICE_THROTTLED = "device_throttled"
    """Too many pushes to this one device: delay this one, the others go on."""
    RETRY = "retry"
    """The service cannot now: back off, then repeat."""
    RETRY_NEW_CONNECTION = "retry_new_connection"
    """Drain this connection, replace it, repeat once on another; after that as `RETRY`."""
    KEY_UNRELATED = "key_unrelated"
    """The connection is bound to another team or key (A-05): close it, repeat once on a new one."""
    JWT_EXPIRED = "jwt_expired"
    """Our provider token is too old (A-16): close the connection after draining, repeat once with a newer token."""
    JWT_UPDATES = "jwt_updates"
    """Too many provider tokens on this connection (A-15): drain it, sign nothing, repeat on another."""
    CREDENTIAL_BAD = "credential_bad"
    """Key or certificate is refused: pause the credential, keep its messages, tell the operator once (G-07)."""
    TOPIC_BAD = "topic_bad"
    """This credential may not send to this topic: pause the two together, keep the messages."""


class Alert(Enum):
    """Whether a person should hear of it."""

    NONE = "none"
    RATE = "rate"
    """When it happens often."""
    NOW = "now"


class ApnsReason(NamedTuple):
    """One line of Apple's table. An empty reason stands for every reason of that status that has no line of its own."""

    status: int
    reason: str
    verdict: Verdict
    alert: Alert


def _row(status: int, reason: str, verdict: Verdict, alert: Alert = Alert.NONE) -> ApnsReason:
    return ApnsReason(status, reason, verdict, alert)


REASONS: tuple[ApnsReason, ...] = (
    # Append only: positions are stored. The order is that of Apple's page as read in 2026.
    _row(200, "", Verdict.ACCEPTED),
    _row(400, "BadCollapseId", Verdict.MESSAGE_BAD, Alert.RATE),
    _row(400, "BadDeviceToken", Verdict.TOKEN_BAD, Alert.RATE),
    _row(400, "BadExpirationDate", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadMessageId", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadPriority", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadTopic", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "DeviceTokenNotForTopic", Verdict.TOKEN_BAD, Alert.RATE),
    _row(400, "DuplicateHeaders", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "IdleTimeout", Verdict.RETRY_NEW_CONNECTION),
    _row(400, "InvalidPushType", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "MissingDeviceToken", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "MissingTopic", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "PayloadEmpty", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "TopicDisallowed", Verdict.TOPIC_BAD, Alert.NOW),
    _row(403, "BadCertificate", Verdict.CREDENTIAL_BAD, Alert.NOW),
    _row(403, "BadCertificateEnvironment", Verdict.CREDENTIAL_BAD, Alert.NOW),
    _row(403, "ExpiredProviderToken", Verdict.JWT_EXPIRED),
    _row(403, "Forbidden", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(403, "InvalidProviderToken", Verdict.CREDENTIAL_BAD, Alert.NOW),
    _row(403, "MissingProviderToken", Verdict.CREDENTIAL_BAD, Alert.NOW),
    _row(403, "UnrelatedKeyIdInToken", Verdict.KEY_UNRELATED, Alert.RATE),
    _row(403, "BadEnvironmentKeyIdInToken", Verdict.CREDENTIAL_BAD, Alert.NOW),
    _row(403, "BadEnvironmentKeyInToken", Verdict.CREDENTIAL_BAD, Alert.NOW),
    _row(404, "BadPath", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(405, "MethodNotAllowed", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(410, "Unregistered", Verdict.TOKEN_DEAD),
    _row(410, "ExpiredToken", Verdict.TOKEN_DEAD),
    _row(413, "PayloadTooLarge", Verdict.MESSAGE_BAD, Alert.RATE),
    _row(429, "TooManyProviderTokenUpdates", Verdict.JWT_UPDATES, Alert.NOW),
    _row(429, "TooManyRequests", Verdict.DEVICE_THROTTLED),
    _row(500, "InternalServerError", Verdict.RETRY, Alert.RATE),
    _row(503, "ServiceUnavailable", Verdict.RETRY, Alert.RATE),
    _row(503, "Shutdown", Verdict.RETRY_NEW_CONNECTION),
    # Broadcast pushes and channel management; what stands in a device token's place is a channel's id.
    _row(400, "FeatureNotEnabled", Verdict.TOPIC_BAD, Alert.NOW),
    _row(400, "MissingChannelId", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadChannelId", Verdict.TOKEN_BAD, Alert.RATE),
    _row(400, "ChannelNotRegistered", Verdict.TOKEN_DEAD),
    _row(400, "BadRequestParams", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "BadRequestPayload", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "MissingPushType", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(400, "CannotCreateChannelConfig", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(403, "TopicMismatch", Verdict.TOPIC_BAD, Alert.NOW),
    _row(503, "Service Unavailable", Verdict.RETRY, Alert.RATE),
    # What has no line of its own. An unknown 403 pauses the credential; an unknown 410 never ends a token (G-04).
    _row(400, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(403, "", Verdict.CREDENTIAL_BAD, Alert.NOW),
    _row(410, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(413, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(429, "", Verdict.RETRY, Alert.RATE),
    _row(499, "", Verdict.MESSAGE_BAD, Alert.NOW),
    _row(599, "", Verdict.RETRY, Alert.RATE),
    _row(0, "", Verdict.RETRY, Alert.NOW),
)
"""Every (status, reason) that Apple documents, and one line per class for the rest: 499 any other 4xx, 599 any other
5xx, 0 what is no answer of APNs at all (another 2xx, a redirect by a middlebox)."""

_INDEX = {(row.status, row.reason): index for index, row in enumerate(REASONS)}

BODY_BYTES_MAX = 4096
"""Error bodies past this are not parsed: Apple's are below 100 bytes, a middlebox's page says nothing to us (G-08)."""

REASON_CHARS_MAX = 64
"""A longer reason is not one of Apple's; its own longest has 27 characters."""

_MILLISECONDS_FROM = 100_000_000_000
"""A timestamp below is in seconds by mistake: as milliseconds it would lie before 1973-03-03."""


def lookup(status: int, reason: str) -> int:
    """The position in `REASONS` of an answer; of its status class when the reason is unknown."""
    index = _INDEX.get((status, reason))
    if index is None:
        index = _INDEX.get((status, ""))
    if index is None:
        index = _INDEX[({4: 499, 5: 599}.get(status // 100, 0), "")]
    return index


def is_known(index: int) -> bool:
    """Whether a position of `REASONS` stands for a line of Apple's table rather than for a class; else count it."""
    return index == 0 or bool(REASONS[index].reason)


def parse_error(body: bytes) -> tuple[str, int | None]:
    """Reason and timestamp (ms since the epoch) of an error body, "" and None for what is not there or not sane.

    Never raises: the body may be empty, HTML, huge, of wrong types, or cut (G-08). Seconds become milliseconds.
    """
    if not 2 <= len(body) <= BODY_BYTES_MAX:
        return "", None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", None
    if not isinstance(answer, dict):
        return "", None
    reason = answer.get("reason")
    if not isinstance(reason, str) or len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        reason = ""
    return reason, _milliseconds(answer.get("timestamp"))


def invalid_since(timestamp_ms: int | None, now_ms: int) -> int:
    """When the token died, ms since the epoch: the answer's timestamp; the present if that is missing or in the future.

    A timestamp from the future must not outweigh registrations that are still to come (A-50).
    """
    return now_ms if timestamp_ms is None else min(timestamp_ms, now_ms)


def outlives(registered_ms: int, invalid_since_ms: int, skew_ms: int = 1_000) -> bool:
    """Whether a registration is as new as the report of its token's death, so that the token stays (A-50).

    `skew_ms` is how far our clock and Apple's may differ; in doubt the token stays, and the next push asks again.
    """
    return registered_ms + skew_ms >= invalid_since_ms


def _milliseconds(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 1:
        return None
    return int(value * 1000) if value < _MILLISECONDS_FROM else int(value)
