"""APNs on one link: its pinned provider token or its certificate, requests out, answers in, what they mean for it.

Rules: a link pins one token and moves on only when that is stale (A-13). One request alone until an answer shows that
the token was accepted (A-60); a link with a certificate has proven itself in TLS, and sends no authorization (A-20).
What an answer says of credential or connection becomes advice; what it says of a row becomes the row's code, with the
timestamp of a 410 and Retry-After beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter

from protocols import apns
from protocols.apns import Verdict
from protocols.http2 import Answers, Connection, ConnectionSettings, GoAway, HeaderPlan, Received, Run
from pushd import outcome
from pushd.clock import Clock
from pushd.config.apns import ApnsConfig
from pushd.credentials.apns_tokens import TokenMint
from pushd.gateways.apns_forms import Mixed, Shape, Uniform
from pushd.gateways.retry_after import retry_after_s
from pushd.outcome import VENDOR_CODES_FROM, Outcome, Reason, Reasons
from pushd.telemetry import REGISTRY
from pushd.transport.exchange import Advice, interrupted
from pushd.transport.flights import Flight

log = structlog.get_logger(__name__)

UNKNOWN_ANSWERS = Counter(
    "pushd_unknown_answers", "Answers of gateways that no table of reasons knows.", ("provider",), registry=REGISTRY
)

OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.ACCEPTED: Outcome.ACCEPTED,
    Verdict.MESSAGE_BAD: Outcome.REJECTED,
    Verdict.TOKEN_BAD: Outcome.UNREGISTERED,
    Verdict.TOKEN_DEAD: Outcome.UNREGISTERED,
    Verdict.DEVICE_THROTTLED: Outcome.THROTTLED,
    Verdict.RETRY: Outcome.UNAVAILABLE,
    Verdict.RETRY_NEW_CONNECTION: Outcome.UNAVAILABLE,
    Verdict.KEY_UNRELATED: Outcome.UNAVAILABLE,
    Verdict.JWT_EXPIRED: Outcome.UNAVAILABLE,
    Verdict.JWT_UPDATES: Outcome.THROTTLED,
    Verdict.CREDENTIAL_BAD: Outcome.MISCONFIGURED,
    Verdict.TOPIC_BAD: Outcome.MISCONFIGURED,
}
"""What Apple's verdicts mean in pushd's words."""

ADVICE: Mapping[Verdict, Advice] = {
    Verdict.RETRY_NEW_CONNECTION: Advice.REPLACE,
    Verdict.KEY_UNRELATED: Advice.REPLACE,
    Verdict.JWT_EXPIRED: Advice.REPLACE,
    Verdict.JWT_UPDATES: Advice.BACK_OFF,
    Verdict.CREDENTIAL_BAD: Advice.REFUSED,
}
"""What they mean for the link that brought them; the others, nothing."""

PROOF = frozenset({Verdict.ACCEPTED, Verdict.TOKEN_DEAD, Verdict.TOKEN_BAD, Verdict.DEVICE_THROTTLED})
"""Answers that APNs gives only to a request whose provider token it accepted."""

TOPIC_NOT_CERTIFIED = Reason(255, "topic_not_in_certificate", Outcome.REJECTED)
"""Found by us: the certificate does not list the topic of such a push (A-21). Apple's table grows from below."""

URL_ARGS_UNFIT = Reason(254, "link_does_not_fit_site", Outcome.REJECTED)
"""Found by us, for Safari: it would drop the push without a word (S-03)."""

GONE = 410

_APPLE = tuple(
    Reason(
        VENDOR_CODES_FROM + index,
        row.reason or f"status_{row.status}",
        OUTCOMES[row.verdict],
        topic_only=row.verdict is Verdict.TOPIC_BAD,
        # Every 400 does, a channel that is gone with it; a 410 does not.
        slows_link=row.status != GONE and row.verdict in (Verdict.TOKEN_BAD, Verdict.TOKEN_DEAD, Verdict.MESSAGE_BAD),
    )
    for index, row in enumerate(apns.REASONS)
)
REASONS = Reasons((*_APPLE, TOPIC_NOT_CERTIFIED, URL_ARGS_UNFIT))
"""Every outcome byte of this gateway."""

STATUS_OK = 200
PLANS_MAX = 64
"""Header plans a link keeps; an app uses a handful."""


class ApnsExchange:
    """The APNs side of one link whose TLS handshake showed a certificate."""

    authorization: bytes | None = None

    def __init__(
        self,
        authority: bytes,
        clock: Clock,
        config: ApnsConfig,
        server_errors_max: int,
        *,
        stateless_headers: bool,
    ) -> None:
        self.settings = ConnectionSettings(header_table_size_zero=config.header_table_size_zero and stateless_headers)
        self.proven = False
        self.refusal = 0
        self._authority = authority
        self._clock = clock
        self._config = config
        self._server_errors_max = server_errors_max
        self._server_errors = 0
        self._plans: dict[Shape, HeaderPlan] = {}

    # -- out

    def condition(self) -> Advice:
        """KEEP: a certificate is judged in the handshake."""
        return Advice.KEEP

    def room(self, outstanding: int) -> int:  # noqa: ARG002  the protocol's parameter; TokenExchange needs it
        """As many as HTTP/2 allows: APNs holds back only links with tokens (A-60)."""
        return 1 << 30

    def encode(self, connection: Connection, flight: Flight, rows: int) -> Run:
        """The run of the flight's rows."""
        form, start, stop = flight.load.form, flight.start, flight.start + rows
        if isinstance(form, Uniform):
            body = form.body if isinstance(form.body, bytes) else form.body.part(start, stop)
            return connection.request_uniform(self._plan(form.shape), form.columns.part(start, stop), body, flight)
        assert isinstance(form, Mixed)
        return connection.request_each(self._plan(form.shape), form.values[start:stop], form.bodies[start:stop], flight)

    def _plan(self, shape: Shape) -> HeaderPlan:
        plan = self._plans.get(shape)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[shape] = shape.plan(self._authority, self.authorization)
        return plan

    # -- in

    def classify(self, answers: Answers, received: Received) -> Advice:
        """Settles the answered rows; the gravest advice of any of them."""
        flight = answers.run.tag
        assert isinstance(flight, Flight)
        refused = (answers.statuses != STATUS_OK).nonzero()[0]
        if len(refused) < len(answers.rows):
            self.proven, self._server_errors = True, 0
        if not len(refused):
            flight.settle(answers.rows, outcome.ACCEPTED.code)
            return Advice.KEEP
        return self._classify_errors(flight, answers, refused, received)

    def _classify_errors(
        self, flight: Flight, answers: Answers, refused: NDArray[np.intp], received: Received
    ) -> Advice:
        """The same where some answers are refusals; all are settled at once, accepted ones too."""
        codes = np.full(len(answers.rows), outcome.ACCEPTED.code, np.uint8)
        positions = refused.tolist()
        in_a_row = interrupted(positions, len(codes))
        advice = Advice.KEEP
        bodies, headers, run, batch = received.bodies, received.headers, flight.run, flight.load.sending.batch
        now = self._clock.now()
        refusals = zip(positions, answers.rows[refused].tolist(), answers.statuses[refused].tolist(), strict=True)
        for nth, (at, row, status) in enumerate(refusals):
            reason, timestamp_ms = apns.parse_error(bodies.get((run, row), b""))
            index = apns.lookup(status, reason)
            verdict = apns.REASONS[index].verdict
            if not apns.is_known(index):
                UNKNOWN_ANSWERS.labels("apns").inc()
            codes[at] = VENDOR_CODES_FROM + index
            if verdict is Verdict.TOKEN_DEAD:
                batch.invalid_since[flight.batch_row(row)] = apns.invalid_since(timestamp_ms, int(now * 1000))
            elif OUTCOMES[verdict] in (Outcome.UNAVAILABLE, Outcome.THROTTLED):
                wait_s = retry_after_s(headers.get((run, row), ()), now, self._config.retry_after_max_s)
                if wait_s is not None:
                    batch.retry_after[flight.batch_row(row)] = wait_s
            if verdict in PROOF:
                self.proven, self._server_errors = True, 0
            elif nth >= in_a_row or verdict is not Verdict.RETRY:
                advice = max(advice, self._advise(verdict, index))
        flight.settle(answers.rows, codes)
        return advice

    def _advise(self, verdict: Verdict, index: int) -> Advice:
        """What one answer means for the link."""
        if verdict is Verdict.RETRY:
            return self._count_error()
        advice = ADVICE.get(verdict, Advice.KEEP)
        if advice is Advice.REFUSED:
            self.refusal = VENDOR_CODES_FROM + index
        return advice

    def _count_error(self) -> Advice:
        """REPLACE after several failures in a row: it can be this connection only; the count starts anew."""
        self._server_errors += 1
        return Advice.REPLACE if self._server_errors == self._server_errors_max else Advice.KEEP

    def goaway(self, goaway: GoAway) -> Advice:
        """What the reason in a GOAWAY's debug data means; without one, REPLACE, or BACK_OFF after an error (A-64)."""
        reason, _ = apns.parse_error(goaway.debug)
        if not reason:
            return Advice.REPLACE if not goaway.code else Advice.BACK_OFF
        if reason == IDLE_TIMEOUT:
            return Advice.KEEP  # replaced when there is something to send
        verdict, index = GOAWAY_VERDICTS.get(reason, (Verdict.RETRY, 0))
        log.warning("apns_goaway", reason=reason if index else "unknown", code=goaway.code)
        if verdict is Verdict.RETRY:
            return Advice.BACK_OFF
        return max(Advice.REPLACE, self._advise(verdict, index))

    def unanswered(self) -> Advice:
        """BACK_OFF on a link that never answered."""
        return self._count_error() if self.proven else Advice.BACK_OFF


class TokenExchange(ApnsExchange):
    """The APNs side of one link that shows provider tokens."""

    def __init__(  # the parts of one link; made in one place
        self,
        authority: bytes,
        mint: TokenMint,
        clock: Clock,
        config: ApnsConfig,
        server_errors_max: int,
        *,
        stateless_headers: bool,
    ) -> None:
        super().__init__(authority, clock, config, server_errors_max, stateless_headers=stateless_headers)
        self._mint = mint
        self._pinned = mint.pin()
        self.authorization = self._pinned.authorization

    def condition(self) -> Advice:
        """REPLACE once the wall clock has moved under the pinned token (A-17)."""
        return Advice.REPLACE if self._mint.displaced(self._pinned) else Advice.KEEP

    def room(self, outstanding: int) -> int:
        """One request alone until the token is known to be accepted (A-60)."""
        return 1 << 30 if self.proven else 1 - min(outstanding, 1)

    def encode(self, connection: Connection, flight: Flight, rows: int) -> Run:
        """The run of the flight's rows, with the token that this link pins."""
        if self._mint.stale(self._pinned):
            self._pinned = self._mint.pin()
            self.authorization = self._pinned.authorization
            self._plans.clear()
        return super().encode(connection, flight, rows)

    def _advise(self, verdict: Verdict, index: int) -> Advice:
        """The same, and BACK_OFF where another token cannot help."""
        advice = super()._advise(verdict, index)
        if verdict is Verdict.JWT_EXPIRED and not self._mint.refuse(self._pinned):
            return Advice.BACK_OFF
        return advice

    def unanswered(self) -> Advice:
        """BACK_OFF on a link that never answered: APNs can meet an expired token with silence (A-16)."""
        if not self.proven:
            self._mint.refuse(self._pinned, told=False)
        return super().unanswered()


IDLE_TIMEOUT = "IdleTimeout"

GOAWAY_VERDICTS = {row.reason: (row.verdict, index) for index, row in enumerate(apns.REASONS) if row.reason}
"""The same reasons as in answers, without their status (A-64)."""
