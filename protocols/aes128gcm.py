"""Message encryption for Web Push: aes128gcm bodies, and their keys from a subscription (RFC 8188, RFC 8291).

One message is one record. A fresh key pair and a fresh salt go into each (RFC 8291 section 3.1): both are arguments,
made ahead of time by whoever calls. `decrypt` is the browser's side, for tests and for the local push service.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.errors import LocalProtocolError

SALT_BYTES = 16
AUTH_BYTES = 16
"""The authentication secret of a subscription (RFC 8291 section 3.2)."""
POINT_BYTES = 65
"""An uncompressed point on P-256: 0x04, x, y (RFC 8291 section 4, X9.62)."""
TAG_BYTES = 16
KEY_BYTES, NONCE_BYTES = 16, 12
HEAD_BYTES = 21
"""Salt, record size and length of the key id (RFC 8188 section 2.1)."""
BODY_BYTES_MAX = 4096
"""What every push service takes (RFC 8030 section 7.2, RFC 8291 section 4)."""
RECORD_SIZE = BODY_BYTES_MAX
OVERHEAD_BYTES = HEAD_BYTES + POINT_BYTES + 1 + TAG_BYTES
PLAINTEXT_BYTES_MAX = BODY_BYTES_MAX - OVERHEAD_BYTES
"""3,993 octets (W-04)."""

LAST_RECORD, OTHER_RECORD = b"\x02", b"\x01"
"""The delimiters of padding (RFC 8188 section 2)."""

_CURVE = ec.SECP256R1()
_ECDH = ec.ECDH()
_SHA256 = "sha256"
_BLOCK_BYTES = 64
"""Of SHA-256."""
_INNER, _OUTER = (bytes(octet ^ pad for octet in range(256)) for pad in (0x36, 0x5C))
_KEY_INFO = b"WebPush: info\x00"
_CEK_INFO = b"Content-Encoding: aes128gcm\x00\x01"
_NONCE_INFO = b"Content-Encoding: nonce\x00\x01"
_RECORD_SIZE = RECORD_SIZE.to_bytes(4, "big") + bytes((POINT_BYTES,))


class KeyPair(NamedTuple):
    """An application server's key pair for one message."""

    private: ec.EllipticCurvePrivateKey
    public: bytes
    """The uncompressed point."""


def new_pair() -> KeyPair:
    """A key pair from the operating system's randomness; for one message only (RFC 8291 section 3.1)."""
    private = ec.generate_private_key(_CURVE)
    return KeyPair(private, private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def pair_of(private: ec.EllipticCurvePrivateKey) -> KeyPair:
    """The pair of a private key that is there already."""
    return KeyPair(private, private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def load_point(point: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of an uncompressed point; ValueError unless it lies on P-256 (RFC 8291 section 7, W-06)."""
    if len(point) != POINT_BYTES or point[0] != 4:
        raise ValueError(f"a public key is an uncompressed point of {POINT_BYTES} octets")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)
    except ValueError:
        raise ValueError("the public key is no point of P-256") from None


def encrypt(plaintext: bytes, ua_public: bytes, auth: bytes, pair: KeyPair, salt: bytes, padding: int = 0) -> bytes:
    """The body of one push: header and one record with `padding` octets of zeros behind the text (W-03).

    ValueError for a public key that is no point of P-256; LocalProtocolError for a body above 4,096 octets.
    """
    if len(plaintext) + padding > PLAINTEXT_BYTES_MAX or len(auth) != AUTH_BYTES or len(salt) != SALT_BYTES:
        raise LocalProtocolError("a push message that no push service has to take, or keys of a wrong size")
    public = load_point(ua_public)
    # HKDF (RFC 5869) in its two steps; every output here is one block long, and key and nonce share their HMAC key.
    secret = _hmac(auth, pair.private.exchange(_ECDH, public))
    keying = _hmac(secret, _KEY_INFO + ua_public + pair.public + b"\x01")
    pseudorandom = _hmac(salt, keying).ljust(_BLOCK_BYTES, b"\x00")
    inner, outer = pseudorandom.translate(_INNER), pseudorandom.translate(_OUTER)
    key = sha256(outer + sha256(inner + _CEK_INFO).digest()).digest()[:KEY_BYTES]
    nonce = sha256(outer + sha256(inner + _NONCE_INFO).digest()).digest()[:NONCE_BYTES]
    record = AESGCM(key).encrypt(nonce, plaintext + LAST_RECORD + bytes(padding), None)
    return salt + _RECORD_SIZE + pair.public + record


def _hmac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104) with a key of at most a block; `hmac.digest` takes twice as long for texts so short."""
    padded = key.ljust(_BLOCK_BYTES, b"\x00")
    return sha256(padded.translate(_OUTER) + sha256(padded.translate(_INNER) + message).digest()).digest()


def padding_for(length: int, block: int) -> int:
    """Octets of padding that bring a text of `length` to a multiple of `block`, as far as there is room (W-05).

    0: none. A block of at least 3,993 pads everything to full size.
    """
    if block <= 0 or length >= PLAINTEXT_BYTES_MAX:
        return 0
    return min(-length % block if length else block, PLAINTEXT_BYTES_MAX - length)


def decrypt(body: bytes, private: ec.EllipticCurvePrivateKey, auth: bytes) -> bytes:
    """The text of a push as the browser reads it; ValueError says what is wrong with the body (RFC 8291 section 4)."""
    own = pair_of(private).public

    def keying(key_id: bytes) -> bytes:
        secret = hmac.digest(auth, private.exchange(_ECDH, load_point(key_id)), _SHA256)
        return hmac.digest(secret, _KEY_INFO + own + key_id + b"\x01", _SHA256)

    size, records = _records(body)
    if len(records) != 1 or size <= len(records[0]) - 1:
        raise ValueError("a push message is one record, and its record size is above what it holds")
    return unseal(body, keying)


def unseal(body: bytes, keying: Callable[[bytes], bytes]) -> bytes:
    """The text of an aes128gcm body of any number of records; `keying` gives input keying material by key id.

    ValueError for a body that is cut, forged, or padded against RFC 8188 section 2.
    """
    _, records = _records(body)
    salt, key_id = body[:SALT_BYTES], body[HEAD_BYTES : HEAD_BYTES + body[HEAD_BYTES - 1]]
    pseudorandom = hmac.digest(salt, keying(key_id), _SHA256)
    key = AESGCM(hmac.digest(pseudorandom, _CEK_INFO, _SHA256)[:KEY_BYTES])
    nonce = int.from_bytes(hmac.digest(pseudorandom, _NONCE_INFO, _SHA256)[:NONCE_BYTES], "big")
    out = []
    for number, record in enumerate(records):
        try:
            padded = key.decrypt((nonce ^ number).to_bytes(NONCE_BYTES, "big"), record, None)
        except InvalidTag:
            raise ValueError("a record is not what this key sealed") from None
        text = padded.rstrip(b"\x00")
        expected = LAST_RECORD if number == len(records) - 1 else OTHER_RECORD
        if text[-1:] != expected:
            raise ValueError("a record ends with the wrong delimiter")
        out.append(text[:-1])
    return b"".join(out)


def _records(body: bytes) -> tuple[int, list[bytes]]:
    """Record size and sealed records of a body."""
    if len(body) < HEAD_BYTES:
        raise ValueError("the body is shorter than its header")
    size = int.from_bytes(body[SALT_BYTES : SALT_BYTES + 4], "big")
    sealed = body[HEAD_BYTES + body[HEAD_BYTES - 1] :]
    if size < TAG_BYTES + 2 or len(sealed) < TAG_BYTES + 1:
        raise ValueError("a record size below 18, or no record")
    return size, [sealed[at : at + size] for at in range(0, len(sealed), size)]
