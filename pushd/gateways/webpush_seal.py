"""Encrypted bodies of rows that share a text: a fresh key pair and salt for each, pairs made ahead of time.

This is what a worker process does; small batches are done in place. It knows no numpy and no event loop.
"""

from __future__ import annotations

import binascii
import os
from collections import deque

from protocols import aes128gcm, webpush

KEY_CHARS = webpush.KEY_AT - 1
"""Of an address, what encryption needs: p256dh, a dot, auth."""
_STANDARD = bytes.maketrans(b"-_.", b"+/A")
"""To the standard alphabet; the dot between the keys fills the first one's last group, so that they decode as one."""
_AUTH_OCTET = aes128gcm.POINT_BYTES + 1
_OCTETS = _AUTH_OCTET + aes128gcm.AUTH_BYTES


class KeyPairs:
    """Key pairs that wait to be used, each for one message (RFC 8291 section 3.1); in memory only."""

    def __init__(self, ahead_max: int) -> None:
        self._ahead: deque[aes128gcm.KeyPair] = deque()
        self._ahead_max = ahead_max

    def __len__(self) -> int:
        return len(self._ahead)

    @property
    def full(self) -> bool:
        """Whether no more are to be made ahead."""
        return len(self._ahead) >= self._ahead_max

    def fill(self, count: int) -> None:
        """Makes up to `count` pairs ahead, about 20 µs each."""
        for _ in range(min(count, self._ahead_max - len(self._ahead))):
            self._ahead.append(aes128gcm.new_pair())

    def take(self) -> aes128gcm.KeyPair:
        """A pair that nobody used and nobody else will."""
        return self._ahead.popleft() if self._ahead else aes128gcm.new_pair()


def body_bytes(text: bytes, padding: int) -> int:
    """How long each body is."""
    return aes128gcm.OVERHEAD_BYTES + len(text) + padding


def seal(keys: bytes, text: bytes, padding: int, pairs: KeyPairs) -> tuple[bytes, list[int]]:
    """The bodies of rows one after another, and the rows whose keys are no keys, where the body is zeros.

    `keys` holds `KEY_CHARS` characters for each row, the beginning of its address.
    """
    rows = len(keys) // KEY_CHARS
    plain = keys.translate(_STANDARD)
    salts = os.urandom(aes128gcm.SALT_BYTES * rows)
    bodies: list[bytes] = []
    bad: list[int] = []
    encrypt, take = aes128gcm.encrypt, pairs.take
    for row in range(rows):
        at, salt_at = row * KEY_CHARS, row * 16
        try:
            point, secret = _keys(plain[at : at + KEY_CHARS])
            bodies.append(encrypt(text, point, secret, take(), salts[salt_at : salt_at + 16], padding))
        except ValueError:  # binascii.Error is one; stored keys were checked when they were registered (W-06)
            bad.append(row)
            bodies.append(bytes(body_bytes(text, padding)))
    return b"".join(bodies), bad


def _keys(text: bytes) -> tuple[bytes, bytes]:
    """Public key and authentication secret of a row; ValueError where a character is none of base64."""
    both = binascii.a2b_base64(text + b"==")
    if len(both) != _OCTETS:
        raise ValueError("a subscription's keys are of another length")
    return both[: aes128gcm.POINT_BYTES], both[_AUTH_OCTET:]
