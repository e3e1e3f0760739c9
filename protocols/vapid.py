"""VAPID: how an application server says to a push service who it is (RFC 8292)."""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols import aes128gcm, jwt
from protocols.errors import LocalProtocolError

LIFE_MAX_S = 86_400
"""`exp` lies at most a day after the request (RFC 8292 section 2)."""
LIFE_S = 43_200
"""Half of that: a clock that is slightly wrong must not make a token invalid (W-22)."""
SUBJECT = re.compile(r"(?:mailto:[^\s@]+@[^\s@]+|https://[^\s/]+\S*)")
"""`sub` is a contact: a mailto: or https: URI (RFC 8292 section 2.1). Apple refuses anything else (W-21)."""
FINGERPRINT_CHARS = 11
_CREDENTIALS = re.compile(rb"vapid +t=([A-Za-z0-9_.-]+) *, *k=([A-Za-z0-9_-]+) *", re.IGNORECASE)
_SWAPPED = re.compile(rb"vapid +k=([A-Za-z0-9_-]+) *, *t=([A-Za-z0-9_.-]+) *", re.IGNORECASE)


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """The 65 octets of a public key: what `k` and the browser's `applicationServerKey` hold."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def public_text(key: ec.EllipticCurvePublicKey) -> str:
    """The same in base64url without padding."""
    return jwt.encode(public_bytes(key)).decode()


def fingerprint(public: bytes) -> str:
    """Eleven characters that stand for a public key: 64 bits of its SHA-256 in base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(public).digest()[:8])[:FINGERPRINT_CHARS].decode()


def load_private(text: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of a PEM text, or of 32 octets in base64url as `web-push` and others print them.

    ValueError says what is wrong and never holds key material.
    """
    text = text.strip()
    if text.startswith("-----"):
        return jwt.load_p8(text)
    try:
        raw = jwt.decode(text.rstrip("=").replace("+", "-").replace("/", "_").encode("ascii"))
    except ValueError:
        raise ValueError("neither PEM nor base64url") from None
    if len(raw) != jwt.HALF_BYTES:
        raise ValueError(f"a VAPID private key has {jwt.HALF_BYTES} octets; this one has {len(raw)}")
    try:
        return ec.derive_private_key(int.from_bytes(raw, "big"), ec.SECP256R1())
    except ValueError:
        raise ValueError("the number is no private key of P-256") from None


def private_text(key: ec.EllipticCurvePrivateKey) -> str:
    """The 32 octets of a private key in base64url without padding."""
    return jwt.encode(key.private_numbers().private_value.to_bytes(jwt.HALF_BYTES, "big")).decode()


def check_subject(subject: str) -> str:
    """The contact as it stands in `sub`; ValueError for what push services refuse (W-21)."""
    if len(subject) > 255 or not subject.isascii() or not SUBJECT.fullmatch(subject):
        raise ValueError("the contact must be a mailto: or https: URI")
    if "localhost" in subject:
        raise ValueError("Apple refuses contacts at localhost")
    return subject


def authorization(key: ec.EllipticCurvePrivateKey, origin: str, subject: str, expires_at: int) -> bytes:
    """The value of the authorization header for one origin until `expires_at`, UNIX seconds (W-20, W-21).

    `origin` is scheme, host and port where it is not the scheme's own, in lower case and without a slash.
    """
    if origin != origin.lower() or origin.endswith("/"):
        raise LocalProtocolError("an origin is written in lower case and ends without a slash")
    # Claims are built anew for each origin: a dict that is handed on keeps another service's audience (W-24).
    claims = {"aud": origin, "exp": expires_at, "sub": subject}
    token = jwt.es256(key, {"typ": "JWT"}, claims)
    return b"vapid t=" + token + b", k=" + jwt.encode(public_bytes(key.public_key()))


def parse(value: bytes) -> tuple[bytes, bytes]:
    """Token and public key (65 octets) of an authorization header; ValueError for any other value."""
    if match := _CREDENTIALS.fullmatch(value):
        token, key = match.groups()
    elif match := _SWAPPED.fullmatch(value):
        key, token = match.groups()
    else:
        raise ValueError("not VAPID credentials")
    public = jwt.decode(key)
    aes128gcm.load_point(public)
    return token, public


def verify(value: bytes, origin: str, now: float) -> bytes:
    """The public key that signed an authorization header for this origin; ValueError says why it does not hold."""
    token, public = parse(value)
    _, claims = jwt.verify_es256(token, aes128gcm.load_point(public))
    if claims.get("aud") != origin:
        raise ValueError("the token is for another audience")
    expires_at, subject = claims.get("exp"), claims.get("sub")
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        raise ValueError("the token says no time at which it expires")  # noqa: TRY004  the token's fault
    if not now <= expires_at <= now + LIFE_MAX_S:
        raise ValueError("the token has expired, or would live longer than a day")
    if "sub" in claims and (not isinstance(subject, str) or not SUBJECT.fullmatch(subject)):
        raise ValueError("the contact is no mailto: or https: URI")
    return public
