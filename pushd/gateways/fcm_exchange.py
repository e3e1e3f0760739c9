"""FCM on one link: the account's access token, requests out, answers in, and what they mean for link and project.

Rules: one request alone until an answer shows that the access token was accepted. A refused token is replaced once and
the link goes on with the next (F-04). What an answer says of the credential becomes advice; what it says of the project
slows its quota; what it says of a row becomes the row's code, with the seconds to wait beside it. A token that FCM
calls none is asked about again, unless its message was taken for another device: only then is it certain whose fault
it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter

from protocols import fcm
from protocols.fcm import ErrorBody, Verdict
from protocols.fcm_reasons import INVALID_TOKEN_CONFIRMED, UNAUTHENTICATED_AGAIN
from protocols.http2 import Answers, Connection, ConnectionSettings, GoAway, HeaderPlan, Received, Run
from pushd import outcome
from pushd.clock import Clock
from pushd.config.fcm import FcmConfig
from pushd.credentials.oauth_tokens import Held, Login
from pushd.gateways.apns_exchange import UNKNOWN_ANSWERS
from pushd.gateways.fcm_forms import Mixed, Uniform
from pushd.gateways.fcm_quota import Quota
from pushd.gateways.retry_after import retry_after_s
from pushd.outcome import VENDOR_CODES_FROM, Outcome, Reason, Reasons
from pushd.telemetry import REGISTRY
from pushd.transport.exchange import Advice, interrupted
from pushd.transport.flights import Flight
from pushd.transport.queue import Sending

log = structlog.get_logger(__name__)

THIRD_PARTY_REFUSALS = Counter(
    "pushd_fcm_third_party_refusals",
    "Pushes held because the project's key for Apple or for browsers is refused.",
    registry=REGISTRY,
)

OUTCOMES: Mapping[Verdict, Outcome] = {
    Verdict.ACCEPTED: Outcome.ACCEPTED,
    Verdict.MESSAGE_BAD: Outcome.REJECTED,
    Verdict.TOKEN_DOUBTED: Outcome.REJECTED,
    Verdict.TOKEN_BAD: Outcome.UNREGISTERED,
    Verdict.TOKEN_DEAD: Outcome.UNREGISTERED,
    Verdict.DEVICE_THROTTLED: Outcome.THROTTLED,
    Verdict.PROJECT_THROTTLED: Outcome.THROTTLED,
    Verdict.RETRY: Outcome.UNAVAILABLE,
    Verdict.RETRY_SLOWLY: Outcome.UNAVAILABLE,
    Verdict.HELD: Outcome.UNAVAILABLE,
    Verdict.LOGIN_STALE: Outcome.UNAVAILABLE,
    Verdict.CREDENTIAL_BAD: Outcome.MISCONFIGURED,
}
"""What FCM's verdicts mean in pushd's words."""

UNPROVEN = frozenset({Verdict.RETRY, Verdict.RETRY_SLOWLY, Verdict.LOGIN_STALE, Verdict.CREDENTIAL_BAD})
"""Answers that FCM may give to a request whose access token it has not accepted."""

LOGIN_REFUSED = Reason(200, "oauth_refused", Outcome.MISCONFIGURED)
LOGIN_UNAVAILABLE = Reason(201, "oauth_unavailable", Outcome.UNPROCESSED)
PACED = Reason(202, "paced_by_quota", Outcome.UNPROCESSED)

REASONS = Reasons(
    (
        *(
            Reason(
                VENDOR_CODES_FROM + index,
                row.reason or f"status_{row.status}",
                OUTCOMES[row.verdict],
                pool_wide=row.verdict is Verdict.PROJECT_THROTTLED,
            )
            for index, row in enumerate(fcm.REASONS)
        ),
        LOGIN_REFUSED,
        LOGIN_UNAVAILABLE,
        PACED,
    )
)
"""Every outcome byte of this gateway."""

STATUS_OK = 200
PINNED_KEPT = 8
"""Access tokens of a link that answers may still be about."""

Doubt = Callable[[Sending, int], None]
"""Takes a row whose token is to be asked about; it settles the row."""


class FcmExchange:
    """The FCM side of one link."""

    def __init__(
        self,
        authority: bytes,
        project_id: str,
        login: Login,
        quota: Quota,
        doubt: Doubt,
        clock: Clock,
        config: FcmConfig,
        server_errors_max: int,
        *,
        stateless_headers: bool,
    ) -> None:
        self.settings = ConnectionSettings(header_table_size_zero=config.header_table_size_zero and stateless_headers)
        self.proven = False
        self.refusal = 0
        self._authority = authority
        self._project_id = project_id
        self._login = login
        self._quota = quota
        self._doubt = doubt
        self._clock = clock
        self._config = config
        self._server_errors_max = server_errors_max
        self._server_errors = 0
        self._pinned: list[tuple[int, Held]] = []
        self._plan: HeaderPlan | None = None

    # -- out

    def condition(self) -> Advice:
        """A link is as good as the token that its next request carries."""
        return Advice.KEEP

    def room(self, outstanding: int) -> int:
        """One request alone until the access token is known to be accepted; none while there is no token."""
        if self._login.current() is None:  # the pool asks again soon, as long as rows wait
            return 0
        return 1 << 30 if self.proven else 1 - min(outstanding, 1)

    def encode(self, connection: Connection, flight: Flight, rows: int) -> Run:
        """The run of the flight's rows, with the access token of now."""
        held = self._login.current()
        if held is not None and not (self._pinned and held is self._pinned[-1][1]):
            self._plan = fcm.header_plan(self._authority, held.authorization, self._project_id)
        plan = self._plan
        assert plan is not None, "`room` lets nothing pass without a token"
        form, start, stop = flight.load.form, flight.start, flight.start + rows
        if isinstance(form, Uniform):
            run = connection.request_uniform(plan, [], form.bodies.part(start, stop), flight)
        else:
            assert isinstance(form, Mixed)
            bodies = form.bodies[start:stop]
            run = connection.request_each(plan, [()] * len(bodies), bodies, flight)
        if held is not None and not (self._pinned and held is self._pinned[-1][1]):
            self._pinned = [*self._pinned[1 - PINNED_KEPT :], (run.first_stream, held)]
        return run

    # -- in

    def classify(self, answers: Answers, received: Received) -> Advice:
        """Settles the answered rows; the gravest advice of any of them."""
        flight = answers.run.tag
        assert isinstance(flight, Flight)
        accepted = answers.statuses == STATUS_OK
        if accepted.any():
            self._prove(answers.run)
            form = flight.load.form
            if isinstance(form, Uniform) and form.alike:
                form.sound = True
            if accepted.all():
                flight.settle(answers.rows, outcome.ACCEPTED.code)
                return Advice.KEEP
            flight.settle(answers.rows[accepted], outcome.ACCEPTED.code)
        return self._classify_errors(flight, answers, accepted, received)

    def _classify_errors(
        self, flight: Flight, answers: Answers, accepted: NDArray[np.bool_], received: Received
    ) -> Advice:
        refused = np.flatnonzero(~accepted)
        rows, statuses = answers.rows[refused], answers.statuses[refused]
        in_a_row = interrupted(refused.tolist(), len(accepted))
        codes = np.empty(len(rows), np.uint8)
        doubted = []
        advice = Advice.KEEP
        run, now_ms = flight.run, int(self._clock.now() * 1000)
        for at, (row, status) in enumerate(zip(rows.tolist(), statuses.tolist(), strict=True)):
            error = fcm.parse_error(received.bodies.get((run, row), b""))
            index = fcm.lookup(status, error)
            verdict = fcm.REASONS[index].verdict
            known = fcm.is_known(index)
            if not known:
                UNKNOWN_ANSWERS.labels("fcm").inc()
            if verdict is Verdict.TOKEN_DOUBTED:
                if isinstance(flight.load.form, Uniform) and flight.load.form.sound:
                    index = INVALID_TOKEN_CONFIRMED
                elif not (isinstance(flight.load.form, Mixed) and flight.load.form.probe):
                    doubted.append(at)
            elif verdict is Verdict.LOGIN_STALE and not self._refuse_login(run):
                index, verdict = UNAUTHENTICATED_AGAIN, Verdict.CREDENTIAL_BAD
            codes[at] = VENDOR_CODES_FROM + index
            if verdict is Verdict.TOKEN_DEAD:  # FCM does not say since when
                flight.load.sending.batch.invalid_since[flight.batch_row(row)] = now_ms
            self._wait(flight, row, verdict, error, received)
            if verdict not in UNPROVEN and (known or verdict is not Verdict.MESSAGE_BAD):
                self._prove(run)
            if at >= in_a_row or verdict not in (Verdict.RETRY, Verdict.RETRY_SLOWLY):
                advice = max(advice, self._advise(verdict, index))
            if error.field and verdict is Verdict.MESSAGE_BAD:
                _report(flight, error)
        self._settle(flight, rows, codes, doubted)
        return advice

    def _settle(self, flight: Flight, rows: NDArray[np.intp], codes: NDArray[np.uint8], doubted: list[int]) -> None:
        """Settles rows, but for those whose token is doubted: they get their outcome when it was asked about."""
        if not doubted:
            flight.settle(rows, codes)
            return
        certain = np.ones(len(rows), np.bool_)
        certain[doubted] = False
        flight.settle(rows[certain], codes[certain])
        for at in doubted:
            self._doubt(flight.load.sending, flight.batch_row(int(rows[at])))

    def _wait(self, flight: Flight, row: int, verdict: Verdict, error: ErrorBody, received: Received) -> None:
        """Notes how long a row is to wait, and slows the project where the answer is about all of it."""
        config = self._config
        least_s = {
            Verdict.DEVICE_THROTTLED: config.quota_retry_s,
            Verdict.PROJECT_THROTTLED: config.quota_retry_s,
            Verdict.RETRY: config.server_error_retry_s,
            Verdict.RETRY_SLOWLY: config.server_error_retry_s,
            Verdict.HELD: config.third_party_retry_s,
        }.get(verdict)
        if least_s is None:
            return
        headers = received.headers.get((flight.run, row), ())
        told_s = retry_after_s(headers, self._clock.now(), config.retry_after_max_s)
        if told_s is None and error.retry_delay_s is not None:
            told_s = min(error.retry_delay_s, config.retry_after_max_s)
        batch, at = flight.load.sending.batch, flight.batch_row(row)
        if told_s is None or verdict not in (Verdict.PROJECT_THROTTLED, Verdict.RETRY_SLOWLY):
            batch.wait_alone((at,), least_s if told_s is None else told_s)
        else:
            batch.retry_after[at] = told_s
        if verdict in (Verdict.PROJECT_THROTTLED, Verdict.RETRY_SLOWLY):
            self._quota.exceeded(told_s)
        elif verdict is Verdict.HELD:
            THIRD_PARTY_REFUSALS.inc()
            if _first(flight):
                log.error("fcm_third_party_key_refused", project=self._project_id)

    def _refuse_login(self, run: Run) -> bool:
        """Whether there will be another access token in place of the one that this run carried."""
        held = self._held(run)
        return held is None or self._login.refuse(held)

    def _prove(self, run: Run) -> None:
        self.proven, self._server_errors = True, 0
        held = self._held(run)
        if held is not None and held.after_refusal:
            self._login.accepted(held)

    def _held(self, run: Run) -> Held | None:
        """The access token that a run carried."""
        return next((held for first, held in reversed(self._pinned) if first <= run.first_stream), None)

    def _advise(self, verdict: Verdict, index: int) -> Advice:
        """What one answer means for the link."""
        if verdict in (Verdict.RETRY, Verdict.RETRY_SLOWLY):
            return self._count_error()
        if verdict is Verdict.CREDENTIAL_BAD:
            self.refusal = VENDOR_CODES_FROM + index
            return Advice.REFUSED
        return Advice.KEEP

    def _count_error(self) -> Advice:
        """REPLACE after several failures in a row: it can be this connection only; the count starts anew."""
        self._server_errors += 1
        if self._server_errors < self._server_errors_max:
            return Advice.KEEP
        self._server_errors = 0
        return Advice.REPLACE

    def goaway(self, goaway: GoAway) -> Advice:
        """REPLACE: Google ends connections by their age; BACK_OFF after an error. Its debug data means nothing."""
        return Advice.REPLACE if not goaway.code else Advice.BACK_OFF

    def unanswered(self) -> Advice:
        """BACK_OFF on a link that never answered, else one failure more."""
        return self._count_error() if self.proven else Advice.BACK_OFF


def _report(flight: Flight, error: ErrorBody) -> None:
    """Tells the operator which field FCM refuses."""
    if _first(flight):
        log.warning("fcm_field_refused", field=error.field, credential=flight.load.sending.batch.credential_id)


def _first(flight: Flight) -> bool:
    """Whether nothing was told yet of this message: once per message and batch is enough."""
    form = flight.load.form
    assert isinstance(form, Uniform | Mixed)
    first, form.reported = not form.reported, True
    return first
