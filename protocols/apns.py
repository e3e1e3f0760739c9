"""APNs requests: topics, limits, priorities, tokens, collapse ids and message ids, checked before a byte is made.

Sources: "Sending notification requests to APNs" and "Generating a remote notification",
developer.apple.com/documentation/usernotifications. Answers are in `protocols.apns_reasons`, re-exported here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.apns_reasons import (
    BODY_BYTES_MAX,
    REASONS,
    Alert,
    ApnsReason,
    Verdict,
    invalid_since,
    is_known,
    lookup,
    outlives,
    parse_error,
)
from protocols.errors import LocalProtocolError

__all__ = [
    "BODY_BYTES_MAX",
    "COLLAPSE_ID",
    "COLLAPSE_ID_BYTES_MAX",
    "PATH_PREFIX",
    "PUSH_TYPES",
    "REASONS",
    "TOKEN_CHARS_MAX",
    "Alert",
    "ApnsReason",
    "PushTypeRule",
    "Verdict",
    "apns_id",
    "apns_id_parts",
    "apns_ids",
    "check_collapse_id",
    "check_token",
    "collapse_header",
    "invalid_since",
    "is_known",
    "lookup",
    "outlives",
    "parse_error",
    "payload_limit",
    "priority",
    "topic",
    "valid_tokens",
]

PAYLOAD_BYTES_MAX = 4096
VOIP_PAYLOAD_BYTES_MAX = 5120
"""Bytes of the exact body; 413 above (A-40)."""

COLLAPSE_ID = "apns-collapse-id"
"""The header that says what a push replaces on the screen."""
COLLAPSE_ID_BYTES_MAX = 64
"""Bytes of UTF-8, not characters (A-35)."""

_HEX = re.compile(r"[0-9A-Fa-f]+")
TOKEN_CHARS_MAX = 1024
"""Apple says to assume no size: ordinary tokens have 64 hex digits, Live Activity tokens a few hundred (A-30)."""

PATH_PREFIX = b"/3/device/"

IMMEDIATE, POWER_AWARE = 10, 5
"""Values of apns-priority (A-33)."""


class PushTypeRule(NamedTuple):
    """What one value of apns-push-type asks of the rest of the request."""

    topic_suffix: str
    payload_bytes_max: int = PAYLOAD_BYTES_MAX
    priorities: tuple[int, int] = (POWER_AWARE, IMMEDIATE)
    """apns-priority for a message that may wait, and for one that may not."""


PUSH_TYPES: dict[str, PushTypeRule] = {
    "alert": PushTypeRule(""),
    # A background push with priority 10 is an error.
    "background": PushTypeRule("", priorities=(POWER_AWARE, POWER_AWARE)),
    "voip": PushTypeRule(".voip", VOIP_PAYLOAD_BYTES_MAX),
    "complication": PushTypeRule(".complication"),
    "fileprovider": PushTypeRule(".pushkit.fileprovider"),
    "location": PushTypeRule(".location-query"),
    "liveactivity": PushTypeRule(".push-type.liveactivity"),
    # Apple recommends 10 (and expiration 0) for Push to Talk: a call that comes late is no call.
    "pushtotalk": PushTypeRule(".voip-ptt", priorities=(IMMEDIATE, IMMEDIATE)),
    "controls": PushTypeRule(".push-type.controls"),
    "widgets": PushTypeRule(".push-type.widgets"),
    # The topic of MDM is the UID of the push certificate's subject, which stands in place of the bundle id.
    "mdm": PushTypeRule(""),
}
"""Every push type of Apple's page (A-31…A-33, A-40); a new one is a line here."""


def topic(bundle: str, push_type: str) -> str:
    """The apns-topic of a bundle id (A-32)."""
    return bundle + _rule(push_type).topic_suffix


def payload_limit(push_type: str) -> int:
    """How many bytes the body of such a push may have (A-40)."""
    return _rule(push_type).payload_bytes_max


def priority(push_type: str, *, urgent: bool) -> int:
    """The apns-priority of a push that may wait or not; background is always 5 (A-33)."""
    return _rule(push_type).priorities[urgent]


def check_token(token: str) -> str:
    """The device token in lower case; ValueError, which never holds the token, when it cannot be one (A-30)."""
    if not token:
        raise ValueError("the token is empty")
    if len(token) > TOKEN_CHARS_MAX:
        raise ValueError(f"the token has {len(token)} characters: at most {TOKEN_CHARS_MAX} are possible")
    if not _HEX.fullmatch(token):
        raise ValueError("the token is not hexadecimal")
    if len(token) % 2:
        raise ValueError("the token has an odd number of hexadecimal digits")
    return token.lower()


def valid_tokens(tokens: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Which rows of a column of NUL-padded tokens may enter a path: hex digits, an even number, at least two (A-30)."""
    width = tokens.dtype.itemsize
    if width == 0 or len(tokens) == 0:
        return np.zeros(len(tokens), np.bool_)
    octets = np.ascontiguousarray(tokens).view(np.uint8).reshape(len(tokens), width)
    # Octets wrap around, so each comparison is a range: 0-9, and a-f with the bit of lower case set.
    digits = ((octets - 0x30) < 10) | (((octets | 0x20) - 0x61) < 6)
    if digits.all():  # tokens of one length, as nearly always: a tenth of the time of what follows
        return np.full(len(tokens), width % 2 == 0 and width <= TOKEN_CHARS_MAX)
    lengths = np.count_nonzero(digits, axis=1)
    # Every octet is a digit or padding, and no padding stands before a digit.
    whole = np.count_nonzero(octets, axis=1) == lengths
    contiguous = np.all(digits[:, 1:] <= digits[:, :-1], axis=1)
    valid: NDArray[np.bool_] = whole & contiguous & (lengths > 0) & (lengths % 2 == 0) & (lengths <= TOKEN_CHARS_MAX)
    return valid


def check_collapse_id(collapse_id: str) -> None:
    """ValueError for what cannot be a collapse id: empty, over 64 bytes of UTF-8, or with control characters (A-35)."""
    try:
        size = len(collapse_id.encode())
    except UnicodeEncodeError:
        raise ValueError("a collapse id must be valid Unicode") from None
    if size == 0:
        raise ValueError("a collapse id must not be empty")
    if size > COLLAPSE_ID_BYTES_MAX:
        raise ValueError(f"a collapse id has at most {COLLAPSE_ID_BYTES_MAX} bytes of UTF-8; this one has {size}")
    if not all(char.isprintable() for char in collapse_id):
        raise ValueError("a collapse id must not hold control characters")


def collapse_header(collapse_id: str) -> str:
    """The apns-collapse-id on the wire: the text itself if it is visible ASCII, else a hash of it (A-35)."""
    if collapse_id.isascii() and collapse_id.isprintable() and " " not in collapse_id:
        return collapse_id
    return base64.urlsafe_b64encode(hashlib.sha256(collapse_id.encode()).digest()).rstrip(b"=").decode()


def apns_id(notification_id: int, device_id: int) -> str:
    """The UUIDv8 (RFC 9562 section 5.8) of one push: `nnnnnnnn-nnnn-8nnn-8000-0000dddddddd` in hex digits.

    The same push has the same id on every attempt, so that an unanswered one can be traced (A-36).
    """
    _check_ids(notification_id, notification_id)
    if not 0 <= device_id < 1 << 32:
        raise LocalProtocolError("device ids have 32 bits")
    return _prefix(notification_id) + f"{device_id:08x}"


def apns_ids(notification_ids: int | NDArray[np.int64], device_ids: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The ids of many pushes as the rows of an (n, 36) matrix of ASCII."""
    rows = len(device_ids)
    matrix = np.empty((rows, 36), np.uint8)
    if rows == 0:
        return matrix
    if isinstance(notification_ids, np.ndarray):
        _check_ids(int(notification_ids.min()), int(notification_ids.max()))
        digits = _hex(notification_ids.astype(">u8"))
        matrix[:] = np.frombuffer(_prefix(0).encode() + bytes(8), np.uint8)
        matrix[:, 0:8], matrix[:, 9:13], matrix[:, 15:18] = digits[:, 1:9], digits[:, 9:13], digits[:, 13:16]
    else:
        _check_ids(notification_ids, notification_ids)
        matrix[:] = np.frombuffer(_prefix(notification_ids).encode() + bytes(8), np.uint8)
    matrix[:, 28:36] = _hex(device_ids.astype(">u4"))
    return matrix


def apns_id_parts(text: str) -> tuple[int, int]:
    """Notification id and device id that an apns-id of ours stands for; ValueError for any other text."""
    if len(text) != 36 or text[14:28] != f"8{text[15:18]}-8000-0000":
        raise ValueError("not an apns-id of ours")
    parts = int(text[0:8] + text[9:13] + text[15:18], 16), int(text[28:36], 16)
    if apns_id(*parts) != text:
        raise ValueError("not an apns-id of ours")
    return parts


def _rule(push_type: str) -> PushTypeRule:
    rule = PUSH_TYPES.get(push_type)
    if rule is None:
        raise LocalProtocolError(f"APNs has no push type {push_type!r}")
    return rule


def _check_ids(smallest: int, largest: int) -> None:
    if smallest < 0 or largest >= 1 << 60:
        raise LocalProtocolError("notification ids have 60 bits")


def _prefix(notification_id: int) -> str:
    digits = f"{notification_id:015x}"
    return f"{digits[0:8]}-{digits[8:12]}-8{digits[12:15]}-8000-0000"


def _hex(numbers: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    # The hex digits of big-endian numbers, a row each: two digits per octet by one gather.
    octets = numbers.view(np.uint8).reshape(len(numbers), numbers.dtype.itemsize)
    return _HEX_PAIRS[octets].view(np.uint8)


_HEX_PAIRS = np.frombuffer("".join(f"{octet:02x}" for octet in range(256)).encode(), np.uint16)
