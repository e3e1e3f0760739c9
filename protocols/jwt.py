"""JSON Web Tokens that gateways ask for: ES256 and RS256 signatures over compact JSON (RFC 7515, RFC 7518)."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

HALF_BYTES = 32
"""Each of R and S in an ES256 signature (RFC 7518 section 3.4)."""

RSA_BITS_MIN = 2048
"""The smallest key that RS256 may use (RFC 7518 section 3.3)."""

_SHA256 = hashes.SHA256()
_ES256 = ec.ECDSA(_SHA256, deterministic_signing=True)
"""Nonces after RFC 6979: equal input gives an equal token, and a weak random source cannot leak the key."""


def es256(private_key: ec.EllipticCurvePrivateKey, header: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    """A compact token signed with ECDSA on P-256; `alg` is set here, over whatever the header says."""
    signing_input = _signing_input("ES256", header, claims)
    return signing_input + b"." + encode(raw_signature(private_key.sign(signing_input, _ES256)))


def rs256(private_key: rsa.RSAPrivateKey, header: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    """A compact token signed with RSASSA-PKCS1-v1_5 and SHA-256; `alg` is set here, over whatever the header says."""
    signing_input = _signing_input("RS256", header, claims)
    return signing_input + b"." + encode(private_key.sign(signing_input, padding.PKCS1v15(), _SHA256))


def raw_signature(der: bytes) -> bytes:
    """R and S of a DER signature, each left-padded to 32 bytes (RFC 7518 section 3.4)."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(HALF_BYTES, "big") + s.to_bytes(HALF_BYTES, "big")


def verify_es256(token: bytes, public_key: ec.EllipticCurvePublicKey) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token whose ES256 signature this key made; ValueError for any other bytes."""
    signing_input, _, signature = token.rpartition(b".")
    header, claims = unverified(token)
    raw = decode(signature)
    if header.get("alg") != "ES256" or len(raw) != 2 * HALF_BYTES:
        raise ValueError("not an ES256 token")
    r, s = int.from_bytes(raw[:HALF_BYTES], "big"), int.from_bytes(raw[HALF_BYTES:], "big")
    try:
        public_key.verify(encode_dss_signature(r, s), signing_input, ec.ECDSA(_SHA256))
    except InvalidSignature:
        raise ValueError("the signature is not this key's") from None
    return header, claims


def unverified(token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a compact token, to find its key by; nothing about them is proven yet."""
    parts = token.split(b".")
    if len(parts) != 3:
        raise ValueError("a compact token has three parts")
    try:
        header, claims = (orjson.loads(decode(part)) for part in parts[:2])
    except orjson.JSONDecodeError:
        raise ValueError("header and claims of a token are JSON") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError("header and claims of a token are JSON objects")  # noqa: TRY004  the text's fault
    return header, claims


def load_p8(pem: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 private key of a PEM text (Apple's .p8); ValueError says what is wrong and never holds key material."""
    key = _load(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key: a provider token key is ECDSA on P-256")  # noqa: TRY004  the text's fault
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"the key is on curve {key.curve.name}: ES256 needs P-256 (secp256r1)")  # noqa: TRY004  the text's fault
    return key


def load_rsa(pem: str) -> rsa.RSAPrivateKey:
    """The RSA private key of a PEM text; ValueError says what is wrong and never holds key material."""
    key = _load(pem)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("this is not an RSA key")  # noqa: TRY004  the text's fault
    if key.key_size < RSA_BITS_MIN:
        raise ValueError(f"the key has {key.key_size} bits: RS256 needs at least {RSA_BITS_MIN}")
    return key


def encode(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """The bytes of base64url without padding; ValueError for any other alphabet, length or padding."""
    if b"=" in text or b"+" in text or b"/" in text:
        raise ValueError("not base64url without padding")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url without padding") from None


def _signing_input(alg: str, header: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    return encode(orjson.dumps({**header, "alg": alg})) + b"." + encode(orjson.dumps({**claims}))


def _load(pem: str) -> object:
    # The library's own messages may quote what it read, so none of them is passed on, not even as a context.
    text = pem.lstrip("\ufeff").strip()
    if "\\n" in text:
        raise ValueError("the PEM text holds a backslash and an n where line breaks belong")
    if not text.startswith("-----BEGIN "):
        raise ValueError('not PEM: the text must begin with "-----BEGIN PRIVATE KEY-----"')
    if "PRIVATE KEY-----" not in text.splitlines()[0]:
        raise ValueError("the PEM text is no private key (a certificate or a public key, perhaps)")
    if "ENCRYPTED" in text:
        raise ValueError("the key is encrypted with a password: store it without")
    if "-----END " not in text:
        raise ValueError('the PEM text is cut off: the line "-----END PRIVATE KEY-----" is missing')
    key: object = None
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(text.encode(), password=None)
    if key is None:
        raise ValueError("the PEM text is damaged: no private key can be read from it")
    return key
