"""Web Push requests: subscriptions as they are stored, TTL, Urgency and Topic, checked before a byte is made.

A subscription is kept as one line of ASCII: `<p256dh>.<auth>.<key>.<endpoint>`, the first three in base64url without
padding and of fixed length, so that columns of them are cut without a parser. `key` is the fingerprint of the
application server key that the subscription was made with (W-25), tildes where that is not known. Answers are in
`protocols.webpush_reasons`. Source: RFC 8030.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

from protocols import aes128gcm
from protocols.http2 import Field, HeaderPlan, Indexing, Variable
from protocols.vapid import FINGERPRINT_CHARS

PLAINTEXT_BYTES_MAX = aes128gcm.PLAINTEXT_BYTES_MAX
"""W-04."""
TTL_MAX_S = 2_419_200
"""28 days: what the strictest of the services keeps a message (W-31)."""
URGENCIES = ("very-low", "low", "normal", "high")
"""RFC 8030 section 5.3."""
P256DH_CHARS, AUTH_CHARS = 87, 22
"""65 and 16 octets in base64url without padding."""
KEY_UNKNOWN = b"~" * FINGERPRINT_CHARS
AUTH_AT = P256DH_CHARS + 1
KEY_AT = AUTH_AT + AUTH_CHARS + 1
ENDPOINT_AT = KEY_AT + FINGERPRINT_CHARS + 1
"""Where the parts of an address begin."""

WNS_DOMAIN = b".notify.windows.com"
APPLE_DOMAIN = b".push.apple.com"
DEAD_HOSTS = frozenset((b"permanently-removed.invalid", b"android.googleapis.com"))
"""Hosts whose subscriptions are gone for good: Chrome's mark of removed ones, and the service before FCM (W-40)."""

_ADDRESS = re.compile(
    rb"[A-Za-z0-9_-]{%d}\.[A-Za-z0-9_-]{%d}\.(?:[A-Za-z0-9_-]{%d}|~{%d})\.https://[!-\[\]-~]+"
    % (P256DH_CHARS, AUTH_CHARS, FINGERPRINT_CHARS, FINGERPRINT_CHARS)
)
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")


class Address(NamedTuple):
    """A stored subscription, taken apart."""

    p256dh: bytes
    """87 characters."""
    auth: bytes
    """22 characters."""
    key: bytes
    """Fingerprint of the application server key, or `KEY_UNKNOWN`."""
    endpoint: bytes


def address(endpoint: str, p256dh: str, auth: str, key: str = "") -> str:
    """A subscription as one line; ValueError says which of its keys is wrong (W-06).

    `p256dh` and `auth` may come in either alphabet of base64 and with padding; `key` is a fingerprint.
    """
    point = _octets(p256dh, "p256dh")
    aes128gcm.load_point(point)
    secret = _octets(auth, "auth")
    if len(secret) != aes128gcm.AUTH_BYTES:
        raise ValueError(f"auth has {aes128gcm.AUTH_BYTES} octets; this one has {len(secret)}")
    parts = (_text(point), _text(secret), key or KEY_UNKNOWN.decode(), endpoint)
    line = ".".join(parts)
    if not is_address(line.encode("utf-8", "replace")):
        raise ValueError("not an address of a push service")
    return line


def is_address(line: bytes) -> bool:
    """Whether a line has the form of a stored subscription."""
    return _ADDRESS.fullmatch(line) is not None


def parse_address(line: bytes) -> Address:
    """The parts of a line that `is_address`."""
    return Address(line[:P256DH_CHARS], line[AUTH_AT : KEY_AT - 1], line[KEY_AT : ENDPOINT_AT - 1], line[ENDPOINT_AT:])


def keys(p256dh: bytes, auth: bytes) -> tuple[bytes, bytes]:
    """Point and secret of an address' parts, as octets; ValueError for other text."""
    try:
        return base64.urlsafe_b64decode(p256dh + b"="), base64.urlsafe_b64decode(auth + b"==")
    except binascii.Error:
        raise ValueError("not base64url") from None


def topic(text: str) -> str:
    """The Topic that stands for a collapse id: the text itself where it may be one, else a hash of it (W-33)."""
    if _TOPIC.fullmatch(text):
        return text
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:24]).decode()


def ttl(seconds: int, host: bytes) -> int:
    """The TTL for a service: within what all of them take, and above 0 at Apple, which takes no other (W-31, W-32)."""
    return min(max(seconds, 1 if host.endswith(APPLE_DOMAIN) else 0), TTL_MAX_S)


def extra_fields(host: bytes, ttl_s: int) -> tuple[tuple[bytes, bytes], ...]:
    """What a service asks for beyond RFC 8030: WNS takes a TTL of 0 only if it is told to keep nothing (W-32)."""
    if ttl_s == 0 and host.endswith(WNS_DOMAIN):
        return ((b"x-wns-cache-policy", b"no-cache"),)
    return ()


def header_plan(
    authority: bytes,
    authorization: bytes,
    constants: tuple[tuple[bytes, bytes], ...],
    *,
    has_topic: bool,
    has_body: bool,
) -> HeaderPlan:
    """The plan of pushes that share a key and an origin (W-20, W-30…W-33).

    What varies, in this order: path with query, TTL, length of the body, Topic if it `has_topic`. The authorization is
    the same for hours, so it enters the peer's table.
    """
    coding = (Field(b"content-type", b"application/octet-stream"), Field(b"content-encoding", b"aes128gcm"))
    return HeaderPlan(
        (
            Field(b":method", b"POST"),
            Field(b":scheme", b"https"),
            Variable(b":path", Indexing.WITHOUT),
            Field(b":authority", authority),
            Field(b"authorization", authorization),
            *(coding if has_body else ()),
            *(Field(name, value) for name, value in constants),
            Variable(b"ttl"),
            Variable(b"content-length"),
            *((Variable(b"topic"),) if has_topic else ()),
        )
    )


def _octets(text: str, name: str) -> bytes:
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not base64url") from None


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
