"""VAPID keys: made and rotated here, and their signed tokens, each remembered for its origin.

Rules. A token is signed once for each key and origin, and anew at half of its life (W-22, W-23): services allow no more
than one an hour. Signing is one step without an await, so that of many who need a token the first makes it. After a
rotation the older keys stay, for a subscription can only be served with the key that it was made with (W-25).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from protocols import vapid, webpush
from pushd.clock import Clock
from pushd.config.webpush import WebPushConfig
from pushd.model.credential import VapidKeys

log = structlog.get_logger(__name__)

CLOCK_JUMP_S = 60.0
"""Wall and monotonic clock apart by more: a token's `exp` is no longer what it seems (X-20)."""
PREVIOUS_MAX = 8
"""Older keys that a credential keeps."""


class SigningKey(NamedTuple):
    """One key of a credential."""

    private: ec.EllipticCurvePrivateKey
    public: bytes
    subject: str


class _Token(NamedTuple):
    value: bytes
    minted_at: float
    """Monotonic seconds."""
    issued_at: float
    """Wall seconds."""


class VapidRing:
    """The keys of one credential by fingerprint. ValueError, without key material, for one that cannot be used."""

    def __init__(self, secret: VapidKeys) -> None:
        self._keys: dict[bytes, SigningKey] = {}
        self.current = b""
        for text in (secret.private_key, *(secret.previous or ())):
            private = vapid.load_private(text)
            public = vapid.public_bytes(private.public_key())
            fingerprint = vapid.fingerprint(public).encode()
            self._keys.setdefault(fingerprint, SigningKey(private, public, secret.subject))
            self.current = self.current or fingerprint

    def find(self, fingerprint: bytes) -> bytes | None:
        """The key that serves a subscription: the one it was made with, the current one where that is not known."""
        if fingerprint == webpush.KEY_UNKNOWN:
            return self.current
        return fingerprint if fingerprint in self._keys else None

    def key(self, fingerprint: bytes) -> SigningKey:
        """A key that `find` named."""
        return self._keys[fingerprint]


class VapidTokens:
    """Authorization headers by key and origin, a bounded number of them; the least used goes first."""

    def __init__(self, clock: Clock, config: WebPushConfig) -> None:
        self._clock = clock
        self._config = config
        self._tokens: OrderedDict[tuple[bytes, str, str], _Token] = OrderedDict()
        self.signed = 0
        """How many were signed so far."""

    def authorization(self, key: SigningKey, origin: str) -> bytes:
        """The value of the authorization header for an origin, signed now if there is no good one."""
        place = (key.public, key.subject, origin)
        token = self._tokens.get(place)
        if token is None or self._stale(token):
            token = self._tokens[place] = self._sign(key, origin)
            while len(self._tokens) > self._config.tokens_max:
                self._tokens.popitem(last=False)
        self._tokens.move_to_end(place)
        return token.value

    def refuse(self, key: SigningKey, origin: str) -> bool:
        """Whether there will be another token, after this one was refused; False for one so young that none helps."""
        place = (key.public, key.subject, origin)
        token = self._tokens.get(place)
        if token is None:
            return True
        young = self._clock.monotonic() - token.minted_at < self._config.token_renew_min_s
        if young and not self._displaced(token):
            return False
        del self._tokens[place]
        return True

    def _stale(self, token: _Token) -> bool:
        age_s = self._clock.monotonic() - token.minted_at
        return age_s >= self._config.token_life_s / 2 or self._displaced(token)

    def _displaced(self, token: _Token) -> bool:
        passed_s = self._clock.now() - token.issued_at
        return abs(passed_s - (self._clock.monotonic() - token.minted_at)) > CLOCK_JUMP_S

    def _sign(self, key: SigningKey, origin: str) -> _Token:
        now = self._clock.now()
        value = vapid.authorization(key.private, origin, key.subject, int(now + self._config.token_life_s))
        self.signed += 1
        log.info("vapid_token_signed", key=vapid.fingerprint(key.public))
        return _Token(value, self._clock.monotonic(), now)


def generate() -> str:
    """A new private key as its 32 octets in base64url, as other Web Push libraries keep it."""
    return vapid.private_text(ec.generate_private_key(ec.SECP256R1()))


def current_fingerprint(secret: VapidKeys) -> str:
    """What stands for the key that pages subscribe with now; "" for one that cannot be used."""
    try:
        return VapidRing(secret).current.decode()
    except ValueError:
        return ""


def complete(secret: VapidKeys, known: VapidKeys | None) -> VapidKeys:
    """The secret as it is stored: with a new key where none was given, and with the older keys of the one it replaces.

    `previous` as given stands: an empty list forgets them, and ends the subscriptions that were made with them.
    """
    private_key = secret.private_key or generate()
    previous = secret.previous
    if previous is None:
        older = [] if known is None else [known.private_key, *(known.previous or ())]
        previous = [text for text in older if text != private_key][:PREVIOUS_MAX]
    return msgspec.structs.replace(secret, private_key=private_key, previous=previous)


def summary(secret: VapidKeys) -> dict[str, str]:
    """What may be shown: the contact and the public keys; the first is the page's `applicationServerKey`."""
    vapid.check_subject(secret.subject)
    publics = [
        vapid.public_text(vapid.load_private(text).public_key())
        for text in (secret.private_key, *(secret.previous or ()))
    ]
    shown = {"type": "vapid", "subject": secret.subject, "public_key": publics[0]}
    return {**shown, "previous_public_keys": ", ".join(publics[1:])} if publics[1:] else shown
