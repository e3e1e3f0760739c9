"""Signatures of webhooks, as Standard Webhooks defines them: HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

PREFIX = "whsec_"
KEY_BYTES = 32


class Secret(Struct, frozen=True):
    """A secret, and until when it is used beside a newer one (UNIX seconds); None: it is the newest."""

    text: str
    until: float | None = None


_decoder = msgspec.json.Decoder(list[Secret])


def new_secret() -> str:
    """A secret as its owner gets it: 256 random bits, in base64 behind a prefix."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def dump(known: Sequence[Secret]) -> bytes:
    """Secrets as one text, to be sealed."""
    return msgspec.json.encode(list(known))


def load(text: bytes) -> list[Secret]:
    """What `dump` made a text of."""
    return _decoder.decode(text)


def rotated(known: Sequence[Secret], fresh: str, until: float) -> list[Secret]:
    """The fresh secret, and the newest of those that were known, which is used along with it until then."""
    return [Secret(fresh), *(Secret(each.text, until) for each in known if each.until is None)]


def headers(id_: str, now: float, body: bytes, known: Iterable[Secret]) -> dict[str, str]:
    """The headers by which a receiver knows that a body is ours and new: one signature for each secret in use."""
    timestamp = str(int(now))
    content = f"{id_}.{timestamp}.".encode() + body
    signatures = [_sign(each.text, content) for each in known if each.until is None or each.until > now]
    return {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def _sign(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
