"""APNs provider tokens: signed seldom, pinned per connection, never changed more often than Apple allows.

Theory (A-12, A-13). Apple refuses a token an hour after its `iat`, and a connection that changes its token more than
once in 20 minutes. So a connection *pins* the token it uses and moves on only when that is 50 minutes old; a new token
is signed only when one is needed and the newest is more than 30 minutes old. Every connection then changes at intervals
of 20 minutes at least, no token is used beyond 50, and the process signs at intervals of 30 at least.

Rules kept here:
- Ages are monotonic; `iat` is wall time. Where the two drift apart (the clock was set, the machine slept), a token's
  `iat` is no longer its age: such a token counts as wrong until the clock comes back (A-17, X-20).
- Signing is one step without an await: of any number of tasks that need a token, the first makes it, the rest get it
  (A-14, X-21). `TokenMints` gives one mint per key, however many apps use that key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import structlog

from protocols import jwt
from pushd.clock import Clock
from pushd.config import ApnsConfig
from pushd.model.credential import ApnsToken

log = structlog.get_logger(__name__)

CLOCK_JUMP_S = 60.0
"""Wall and monotonic clock apart by more: a jump. Slewing makes at most 2 s of an hour; Apple's hour leaves 600 s."""

RENEW_AFTER_S = 1_200.0
"""A token that Apple calls expired is replaced only when it is older: 20 minutes, Apple's own bound (A-16)."""

SKEW_BELOW_S = 3_300.0
"""A token called expired when it is younger than 55 minutes by our clock: one of the two clocks is wrong (A-16)."""

_KEPT = 4
"""Tokens remembered, so that a clock that jumps to and fro finds its old one again."""


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """A signed provider token as connections pin it."""

    jwt: bytes = field(repr=False)
    minted_at: float
    """Monotonic seconds."""
    issued_at: float
    """Wall seconds: the token's `iat`."""

    @property
    def authorization(self) -> bytes:
        """The value of the authorization header (A-10)."""
        return b"bearer " + self.jwt


class TokenMint:
    """The provider tokens of one key. No method awaits, so none needs a lock."""

    def __init__(self, secret: ApnsToken, clock: Clock, config: ApnsConfig) -> None:
        self._key = jwt.load_p8(secret.private_key)
        self._header = {"kid": secret.key_id}
        self._team_id = secret.team_id
        self._clock = clock
        self._pin_max_s = config.token_pin_max_s
        self._mint_min_s = config.token_mint_min_s
        self._minted: list[Pinned] = []
        self._refused: Pinned | None = None

    @property
    def newest_age_s(self) -> float | None:
        """Seconds since the newest token was signed; None before the first."""
        return self._age_s(self._minted[-1]) if self._minted else None

    def pin(self) -> Pinned:
        """The token for a new connection, or for one whose own is `stale`: the newest good one, else a new one."""
        for pinned in reversed(self._minted):
            if self._usable(pinned):
                return pinned
        return self._mint()

    def stale(self, pinned: Pinned) -> bool:
        """Whether a connection must move on to another token, by `pin`, before its next request (A-13)."""
        return self._age_s(pinned) >= self._pin_max_s

    def displaced(self, pinned: Pinned) -> bool:
        """Whether the wall clock moved under a token: drain its connection, for a change there may be too early."""
        return abs(self._drift_s(pinned)) > CLOCK_JUMP_S

    def refuse(self, pinned: Pinned, *, told: bool = True) -> bool:
        """Whether `pin` now has another token, after Apple called this one expired (A-16).

        False: it is so young that signing again cannot help; the clock or the key is wrong, so hold the credential.
        `told` is False where silence made us guess it: the token is replaced by the same rule, but nobody is alerted.
        """
        age_s = self._age_s(pinned)
        if told and age_s < SKEW_BELOW_S and self._refused is not pinned:
            log.error("apns_token_refused_early", team=self._team_id, key=self._header["kid"], age_s=round(age_s))
            self._refused = pinned
        newest = self._minted[-1] if self._minted else pinned
        if newest is pinned and age_s <= RENEW_AFTER_S and not self.displaced(pinned):
            return False
        if pinned in self._minted:
            self._minted.remove(pinned)
        return True

    def _usable(self, pinned: Pinned) -> bool:
        return self._age_s(pinned) <= self._mint_min_s and not self.displaced(pinned)

    def _age_s(self, pinned: Pinned) -> float:
        return self._clock.monotonic() - pinned.minted_at

    def _drift_s(self, pinned: Pinned) -> float:
        return (self._clock.now() - pinned.issued_at) - self._age_s(pinned)

    def _mint(self) -> Pinned:
        if self._minted and self.displaced(self._minted[-1]):
            drift_s = round(self._drift_s(self._minted[-1]))
            log.error("wall_clock_jumped", team=self._team_id, key=self._header["kid"], seconds=drift_s)
        issued_at = self._clock.now()
        claims = {"iss": self._team_id, "iat": int(issued_at)}
        token = jwt.es256(self._key, self._header, claims)
        pinned = Pinned(token, self._clock.monotonic(), issued_at)
        self._minted = [*self._minted[1 - _KEPT :], pinned]
        log.info("apns_token_signed", team=self._team_id, key=self._header["kid"])
        return pinned


class TokenMints:
    """One mint per key: connections of every app and environment that use a key share its tokens (A-14)."""

    def __init__(self, clock: Clock, config: ApnsConfig) -> None:
        self._clock = clock
        self._config = config
        self._mints: dict[tuple[str, str, bytes], TokenMint] = {}

    def of(self, secret: ApnsToken) -> TokenMint:
        """The mint of a secret's key; ValueError, without key material, when the key cannot be used."""
        identity = (secret.team_id, secret.key_id, hashlib.sha256(secret.private_key.encode()).digest())
        mint = self._mints.get(identity)
        if mint is None:
            self._forget_idle()
            mint = self._mints[identity] = TokenMint(secret, self._clock, self._config)
        return mint

    def _forget_idle(self) -> None:
        # A mint whose newest token nobody may use any more has nothing to remember; pools that hold it keep it.
        for identity, mint in list(self._mints.items()):
            age_s = mint.newest_age_s
            if age_s is not None and age_s >= self._config.token_pin_max_s:
                del self._mints[identity]
