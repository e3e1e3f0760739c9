"""Passwords: kept as scrypt makes them (RFC 7914), compared off the event loop, a few at a time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import struct

from pushd.errors import UnavailableError

COST, BLOCK, PARALLEL = 2**14, 8, 1
"""16 MB and some 40 ms of a core: what OWASP's cheat sheet takes for the least, were one core all there is."""
AT_ONCE = 2
WAITING_MAX = 64
_HEAD = struct.Struct(">BIII16s")
_VERSION = 1
_HASH_BYTES = 32


class _Desk:
    """Takes in who wants to be compared, and turns away who would wait too long: each takes memory and a core."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def make(self, password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
        """What scrypt makes of a password; UnavailableError."""
        if self._waiting >= WAITING_MAX:
            raise UnavailableError("Too many log in at once", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._turn:
                raw = password.encode("utf-8", "surrogatepass")
                return await asyncio.to_thread(
                    hashlib.scrypt, raw, salt=salt, n=cost, r=block, p=parallel, maxmem=2**26, dklen=_HASH_BYTES
                )
        finally:
            self._waiting -= 1


_desk = _Desk()


async def seal(password: str) -> bytes:
    """What is kept of a password."""
    salt = os.urandom(16)
    made = await _desk.make(password, salt, COST, BLOCK, PARALLEL)
    return _HEAD.pack(_VERSION, COST, BLOCK, PARALLEL, salt) + made


async def is_password(sealed: bytes | None, password: str) -> bool:
    """Whether this is the password; where there is none the answer takes as long, so that it tells nothing."""
    kept = sealed or _HEAD.pack(_VERSION, COST, BLOCK, PARALLEL, bytes(16)) + bytes(_HASH_BYTES)
    _, cost, block, parallel, salt = _HEAD.unpack_from(kept)
    made = await _desk.make(password, salt, cost, block, parallel)
    return hmac.compare_digest(made, kept[_HEAD.size :]) and sealed is not None
