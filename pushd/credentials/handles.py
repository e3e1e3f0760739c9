"""Handles: what outsiders know things by whose numbers could be guessed; only the daemon makes them and reads them."""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY_BYTES = 32
_BLOCK = struct.Struct(">IIII")
"""App, what of it, of whom or what, and the purpose, which nobody who makes one up meets: 64 bits are checked."""


class Handles:
    """Handles of an installation: each is one block of AES-256, so that nothing shows through and nothing is stored."""

    __slots__ = ("_decryptor", "_encryptor")

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        # Every handle is a single block that never occurs twice with another meaning: what ECB is good for.
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # one block, see above
        self._encryptor, self._decryptor = cipher.encryptor(), cipher.decryptor()

    def make(self, purpose: int, app_id: int, number: int, of: int = 0) -> str:
        """A handle, of 32 hexadecimal digits in the groups of a UUID, upper case; all numbers are below 2^32."""
        text = self._encryptor.update(_BLOCK.pack(app_id, number, of, purpose)).hex().upper()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def read(self, purpose: int, app_id: int, handle: str) -> tuple[int, int] | None:
        """Number and `of` of a handle that was made for this purpose and app; None of all other texts."""
        parts = handle.split("-")
        if [len(part) for part in parts] != [8, 4, 4, 4, 12] or not handle.isascii():
            return None
        try:
            block = bytes.fromhex("".join(parts))
        except ValueError:
            return None
        if len(block) != _BLOCK.size:  # blanks within
            return None
        app, number, of, made_for = _BLOCK.unpack(self._decryptor.update(block))
        return (number, of) if (app, made_for) == (app_id, purpose) else None
