"""What answers of push services mean: for the row, for the key at this origin, for the link.

Rules (G-07, W-25). One refusal of our key is one subscription's affair: it was made with another key. Many in a row
from an origin that never took the key are the key's own, and pause the credential; but only if the operator named the
host, for anybody can run a push service that refuses everything. A refused token is signed anew once.

Waiting (W-47). A service that is down says so of all of itself: its origin rests. A 429 is about one subscription (RFC
8030 section 8.4); several in a row are about our key, which then rests at that origin. No other origin is slowed down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog
from prometheus_client import Counter

from protocols import webpush_reasons
from protocols.webpush_reasons import Verdict
from pushd import outcome
from pushd.clock import Clock
from pushd.config.webpush import WebPushConfig
from pushd.credentials.vapid_keys import SigningKey, VapidTokens
from pushd.gateways.retry_after import retry_after_s
from pushd.outcome import VENDOR_CODES_FROM, Outcome, Reason, Reasons
from pushd.telemetry import REGISTRY
from pushd.transport.exchange import Advice

log = structlog.get_logger(__name__)

UNKNOWN = Counter("pushd_webpush_unknown_answers", "Answers of push services that no table knows.", registry=REGISTRY)

OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.ACCEPTED: Outcome.ACCEPTED,
    Verdict.MESSAGE_BAD: Outcome.REJECTED,
    Verdict.SUBSCRIPTION_DEAD: Outcome.UNREGISTERED,
    Verdict.KEY_REFUSED: Outcome.REJECTED,
    Verdict.TOKEN_REFUSED: Outcome.MISCONFIGURED,
    Verdict.THROTTLED: Outcome.THROTTLED,
    Verdict.RETRY: Outcome.UNAVAILABLE,
}

BAD_SUBSCRIPTION = Reason(200, "bad_subscription", Outcome.REJECTED)
FORBIDDEN = Reason(201, "endpoint_not_allowed", Outcome.REJECTED)
OTHER_KEY = Reason(202, "made_with_another_key", Outcome.REJECTED)
REMOVED = Reason(203, "subscription_removed", Outcome.UNREGISTERED)
TOKEN_RENEWED = Reason(204, "vapid_token_renewed", Outcome.UNAVAILABLE)
KEY_UNWANTED = Reason(205, "vapid_key_refused", Outcome.MISCONFIGURED)
ORIGIN_HELD = Reason(206, "push_service_held", Outcome.UNAVAILABLE)
ORIGIN_RESTS = Reason(207, "push_service_rests", Outcome.UNPROCESSED)
OURS = (BAD_SUBSCRIPTION, FORBIDDEN, OTHER_KEY, REMOVED, TOKEN_RENEWED, KEY_UNWANTED, ORIGIN_HELD, ORIGIN_RESTS)
"""Reasons that no service gives; append only."""

REASONS = Reasons(
    (
        *(
            Reason(VENDOR_CODES_FROM + index, row.reason or f"status_{row.status}", OUTCOMES[row.verdict])
            for index, row in enumerate(webpush_reasons.REASONS)
        ),
        *OURS,
    )
)
"""Every outcome byte of this gateway."""


class Judged(NamedTuple):
    """What one answer means."""

    code: int
    advice: Advice = Advice.KEEP
    retry_after_s: float | None = None
    """How long this row is to wait; it says nothing of rows of other origins."""
    dead_since_ms: int | None = None


class Standing:
    """What an origin has said of one key."""

    __slots__ = ("held_until", "refusals", "rests_until", "taken", "throttles", "told")

    def __init__(self) -> None:
        self.taken = False
        """Whether it ever accepted a push with it."""
        self.refusals = 0
        """How often in a row it refused it."""
        self.held_until = 0.0
        """Monotonic seconds until which it is left alone, for it refuses the key."""
        self.throttles = 0
        """How often in a row it said that we are too fast, and when to come back."""
        self.rests_until = 0.0
        """Monotonic seconds until then."""
        self.told = False


class Judge:
    """Judges the answers of one origin, whatever carried them."""

    def __init__(
        self,
        origin: str,
        *,
        named: bool,
        tokens: VapidTokens,
        clock: Clock,
        config: WebPushConfig,
        rested: Callable[[], None],
    ) -> None:
        self.origin = origin
        self.proven = False
        """Whether a push service has answered as one."""
        self._named = named
        self._tokens = tokens
        self._clock = clock
        self._config = config
        self._rested = rested
        """Told when the origin begins to rest: what waits for it is to go home."""
        self._rests_until = 0.0
        self._standings: dict[bytes, Standing] = {}

    def rests_s(self, key: SigningKey) -> float:
        """For how long this origin asked to be left alone, by all or by who uses a key; 0: it did not."""
        return max(0.0, max(self._rests_until, self._standing(key).rests_until) - self._clock.monotonic())

    def held_s(self, key: SigningKey) -> float:
        """For how long this origin is not to be used with a key; 0: it may."""
        return max(0.0, self._standing(key).held_until - self._clock.monotonic())

    def accepted(self, key: SigningKey) -> None:
        """Notes that the origin took pushes with a key."""
        self.proven = True
        standing = self._standing(key)
        standing.taken, standing.refusals, standing.throttles = True, 0, 0

    def judge(self, key: SigningKey, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Judged:
        """What an answer means; never raises."""
        index = webpush_reasons.lookup(status, webpush_reasons.parse_error(body, headers))
        verdict = webpush_reasons.REASONS[index].verdict
        if not webpush_reasons.is_known(index):
            UNKNOWN.inc()
        code = VENDOR_CODES_FROM + index
        match verdict:
            case Verdict.ACCEPTED:
                self.accepted(key)
                return Judged(outcome.ACCEPTED.code)
            case Verdict.SUBSCRIPTION_DEAD:
                self.proven = True
                grace_ms = int(self._config.fresh_grace_s * 1000)
                return Judged(code, dead_since_ms=int(self._clock.now() * 1000) - grace_ms)
            case Verdict.KEY_REFUSED:
                return self._key_refused(key, code)
            case Verdict.TOKEN_REFUSED:
                return self._token_refused(key, code)
            case Verdict.THROTTLED | Verdict.RETRY:
                self.proven |= verdict is Verdict.THROTTLED
                return Judged(code, retry_after_s=self._wait_s(key, verdict, headers))
            case _:
                self.proven = True
                return Judged(code)

    def _wait_s(self, key: SigningKey, verdict: Verdict, headers: Sequence[tuple[bytes, bytes]]) -> float | None:
        """How long a row waits, as the service asked; notes where others are to wait with it."""
        config, standing, now = self._config, self._standing(key), self._clock.monotonic()
        told_s = retry_after_s(headers, self._clock.now(), config.retry_after_max_s)
        if told_s is None:
            return config.throttled_retry_s if verdict is Verdict.THROTTLED else None
        until = now + min(told_s, config.origin_rest_max_s)
        resting = self.rests_s(key) > 0
        if verdict is Verdict.RETRY:
            self._rests_until = max(self._rests_until, until)
        else:
            standing.throttles += 1
            if standing.throttles >= config.throttles_max:
                standing.rests_until = max(standing.rests_until, until)
        if not resting and self.rests_s(key) > 0:
            self._rested()
        return told_s

    def _key_refused(self, key: SigningKey, code: int) -> Judged:
        standing = self._standing(key)
        standing.refusals += 1
        self.proven = True
        if standing.taken or standing.refusals < self._config.key_refusals_max:
            return Judged(code)
        return self._unwanted(standing, KEY_UNWANTED.code)

    def _token_refused(self, key: SigningKey, code: int) -> Judged:
        standing = self._standing(key)
        if self._tokens.refuse(key, self.origin):
            return Judged(TOKEN_RENEWED.code)
        if standing.taken:  # it took this very token a moment ago
            standing.taken = False
            return Judged(TOKEN_RENEWED.code)
        return self._unwanted(standing, code)

    def _unwanted(self, standing: Standing, code: int) -> Judged:
        """The key is refused: of a service that the operator named, all of it; of any other, that service's affair."""
        if not standing.told:
            log.error("vapid_key_refused", origin=self.origin if self._named else "unnamed", named=self._named)
            standing.told = True
        if self._named:
            return Judged(code, Advice.REFUSED)
        standing.held_until = self._clock.monotonic() + self._config.origin_hold_s
        return Judged(ORIGIN_HELD.code, Advice.BACK_OFF, self._config.origin_hold_s)

    def _standing(self, key: SigningKey) -> Standing:
        standing = self._standings.get(key.public)
        if standing is None:
            standing = self._standings[key.public] = Standing()
        return standing
