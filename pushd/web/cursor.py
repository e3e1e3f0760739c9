"""Opaque signed cursors: a position in one listing of one app, which nobody else can make up or move elsewhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from pushd.errors import Fault, InvalidRequestError

_POSITION_BYTES = 8
_MAC_BYTES = 12
"""96 bits: far beyond guessing, and a cursor guards convenience, not secrets: every page is authorised by itself."""


class Cursors:
    """Makes and opens cursors with one key: 32 bytes that all nodes share, or a page would end at a failover."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, scope: str, position: int) -> str:
        """The cursor of a position in a listing; `scope` names listing and app."""
        packed = position.to_bytes(_POSITION_BYTES, "big")
        return base64.urlsafe_b64encode(packed + self._mac(scope, packed)).decode()

    def open(self, scope: str, cursor: str) -> int:
        """The position in a cursor of this scope; InvalidRequestError for any other text."""
        try:
            raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        packed, mac = raw[:_POSITION_BYTES], raw[_POSITION_BYTES:]
        if len(raw) != _POSITION_BYTES + _MAC_BYTES or not hmac.compare_digest(mac, self._mac(scope, packed)):
            raise InvalidRequestError(faults=[Fault("cursor", "is not the `next` of an answer to this listing")])
        return int.from_bytes(packed, "big")

    def _mac(self, scope: str, packed: bytes) -> bytes:
        return hmac.digest(self._key, packed + scope.encode(), hashlib.sha256)[:_MAC_BYTES]
