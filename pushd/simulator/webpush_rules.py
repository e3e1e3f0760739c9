"""What a push service checks of a request, and in which words it refuses: Mozilla's numbers, as the best documented.

Checked from the outside in: method, subscription, TTL, Topic, Urgency, coding, VAPID, body (RFC 8030, RFC 8188, RFC
8292). The service plays the browser too where it made the subscription itself: it opens what it takes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from protocols import aes128gcm, vapid
from pushd.clock import Clock
from pushd.simulator.browsers import Subscription
from pushd.simulator.rules import Field, Request, Rules, Terms

BODY_MAX = 4_096
TTL_MAX = 2_592_000
"""Mozilla keeps a message for 30 days at most."""
HEADERS_KEPT = 10_000
TOPIC = re.compile(rb"[A-Za-z0-9_-]{1,32}")
URGENCIES = frozenset((b"very-low", b"low", b"normal", b"high"))
ONCE = frozenset((b"ttl", b"topic", b"urgency", b"authorization", b"content-encoding"))
PUSH_PATH = b"/push/"
TERMS = Terms("", None, None, b"", b"", "webpush", BODY_MAX, False)


class Refusal(NamedTuple):
    """An answer that is no acceptance."""

    status: int
    errno: int
    says: str

    @property
    def body(self) -> bytes:
        """Mozilla's JSON."""
        return orjson.dumps({"code": self.status, "errno": self.errno, "error": self.says, "message": self.says})


@dataclass(slots=True, eq=False)
class Subscriber:
    """One subscription, and the browser's half of it where the service plays the browser."""

    name: str
    endpoint: str
    key: bytes = b""
    """The application server key that it was made with; empty: none."""
    private: ec.EllipticCurvePrivateKey | None = None
    auth: bytes = b""
    browser: Subscription | None = None
    gone: bool = False
    pushes: int = 0

    def to_json(self) -> dict[str, object]:
        """What a page gets from `PushSubscription.toJSON`."""
        assert self.private is not None
        public = aes128gcm.pair_of(self.private).public
        keys = {"p256dh": text_of(public), "auth": text_of(self.auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}


def played(name: str, endpoint: str, key: bytes, seed: str) -> Subscriber:
    """A subscription of a browser that is played here; equal seeds give equal keys."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest() if seed else os.urandom(32)
    # Below the order of P-256, whose first four octets are ones.
    private = ec.derive_private_key(int.from_bytes(digest, "big") >> 1 | 1, ec.SECP256R1())
    return Subscriber(name, endpoint, key, private, hashlib.sha256(digest).digest()[:16])


class PushRules(Rules):
    """Reads requests of the Web Push protocol."""

    def read(self, stream_id: int, fields: Sequence[Field]) -> Request:
        """The request that these header fields make."""
        request = Request(stream_id, fields)
        for name, value in fields:
            if name == b":path":
                request.path = value
            elif name == b"authorization":
                request.authorization = value
        request.terms = TERMS
        if request.path is not None and request.path.startswith(PUSH_PATH):
            request.token = request.path[len(PUSH_PATH) :].partition(b"?")[0]
        return request


@dataclass(slots=True, eq=False)
class Inspector:
    """Judges requests to one origin."""

    clock: Clock
    subscribers: dict[str, Subscriber]
    verified: dict[tuple[bytes, str], tuple[bytes, float]] = field(default_factory=dict)
    """Public key and last check by authorization and origin: a header is sent thousands of times."""

    def check(self, origin: str, method: bytes, name: str, fields: Sequence[Field], body: bytes) -> Refusal | None:
        """Why a push is refused; None for one that is taken."""
        values = dict(fields)
        if method != b"POST":
            return Refusal(405, 0, "Method Not Allowed")
        subscriber = self.subscribers.get(name)
        if subscriber is None:
            return Refusal(404, 102, "Not Found")
        if subscriber.gone:
            return Refusal(410, 106, "Gone")
        names = [name for name, _ in fields if name in ONCE]
        if len(names) != len(set(names)):
            return Refusal(400, 110, "a field stands twice")
        return (
            _fields(values)
            or _coding(values, body)
            or self._vapid(origin, values.get(b"authorization"), subscriber, body)
            or (Refusal(413, 104, "Payload Too Large") if len(body) > BODY_MAX else None)
        )

    def _vapid(self, origin: str, value: bytes | None, subscriber: Subscriber, body: bytes) -> Refusal | None:
        if value is None:
            return Refusal(401, 109, "Missing VAPID") if subscriber.key else None
        now = self.clock.now()
        public, checked_at = self.verified.get((value, origin), (b"", 0.0))
        if not public or now - checked_at > 1:
            try:
                public = vapid.verify(value, origin, now)
            except ValueError as error:
                return Refusal(401, 109, str(error))
            if len(self.verified) >= HEADERS_KEPT:
                self.verified.clear()
            self.verified[value, origin] = public, now
        if subscriber.key and public != subscriber.key:
            return Refusal(403, 0, "the key is not the one that the subscription was made with")
        if body[aes128gcm.HEAD_BYTES : aes128gcm.HEAD_BYTES + aes128gcm.POINT_BYTES] == public:
            return Refusal(400, 110, "the key of the message is the key of the token (RFC 8292 section 3.2)")
        return None


def ttl_of(values: dict[bytes, bytes]) -> int:
    """The TTL that the service grants."""
    return min(int(values[b"ttl"]), TTL_MAX)


def text_of(octets: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _fields(values: dict[bytes, bytes]) -> Refusal | None:
    ttl = values.get(b"ttl")
    if ttl is None:
        return Refusal(400, 111, "Missing TTL")
    if not ttl.isdigit() or len(ttl) > 10:
        return Refusal(400, 112, "Invalid TTL")
    if b"topic" in values and not TOPIC.fullmatch(values[b"topic"]):
        return Refusal(400, 113, "Invalid Topic")
    if values.get(b"urgency", b"normal") not in URGENCIES:
        return Refusal(400, 110, "Invalid Urgency")
    return None


def _coding(values: dict[bytes, bytes], body: bytes) -> Refusal | None:
    coding = values.get(b"content-encoding")
    if not body:
        return None if coding is None else Refusal(400, 110, "a coding of nothing (RFC 8030 section 5)")
    if coding != b"aes128gcm" or b"encryption" in values or b"crypto-key" in values:
        return Refusal(400, 110, "Invalid Encoding")
    if len(body) < aes128gcm.OVERHEAD_BYTES or body[aes128gcm.HEAD_BYTES - 1] != aes128gcm.POINT_BYTES:
        return Refusal(400, 110, "no aes128gcm body of Web Push")
    return None
