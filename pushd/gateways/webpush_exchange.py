"""Web Push on one HTTP/2 link: requests out under the origin's authorization, answers in, and what they mean."""

from __future__ import annotations

import numpy as np

from protocols.http2 import Answers, Connection, ConnectionSettings, GoAway, HeaderPlan, Received, Run
from pushd import outcome
from pushd.config.webpush import WebPushConfig
from pushd.credentials.vapid_keys import VapidTokens
from pushd.gateways.webpush_forms import Form, Shape
from pushd.gateways.webpush_judge import REASONS, Judge
from pushd.outcome import Outcome
from pushd.transport.exchange import Advice
from pushd.transport.flights import Flight

PLANS_MAX = 64
"""Header plans a link keeps; an origin needs a handful."""


class WebPushExchange:
    """The Web Push side of one link."""

    def __init__(
        self,
        authority: bytes,
        judge: Judge,
        tokens: VapidTokens,
        config: WebPushConfig,
        server_errors_max: int,
        *,
        stateless_headers: bool,
    ) -> None:
        self.settings = ConnectionSettings(header_table_size_zero=config.header_table_size_zero and stateless_headers)
        self.proven = False
        self.refusal = 0
        self._authority = authority
        self._judge = judge
        self._tokens = tokens
        self._streams_first = config.streams_first
        self._server_errors_max = server_errors_max
        self._server_errors = 0
        self._plans: dict[tuple[Shape, bytes], HeaderPlan] = {}

    # -- out

    def condition(self) -> Advice:
        """KEEP: a link is bound to no key."""
        return Advice.KEEP

    def room(self, outstanding: int) -> int:
        """A few rows until the service has answered as one (W-47)."""
        return 1 << 30 if self.proven else max(0, self._streams_first - outstanding)

    def encode(self, connection: Connection, flight: Flight, rows: int) -> Run:
        """The run of the flight's rows, with the authorization of now."""
        form, start, stop = flight.load.form, flight.start, flight.start + rows
        assert isinstance(form, Form)
        columns = [column[start:stop] for column in form.columns]
        return connection.request_uniform(self._plan(form.shape), columns, form.body(start, stop), flight)

    def _plan(self, shape: Shape) -> HeaderPlan:
        authorization = self._tokens.authorization(shape.key, self._judge.origin)
        plan = self._plans.get((shape, authorization))
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[shape, authorization] = shape.plan(self._authority, authorization)
        return plan

    # -- in

    def classify(self, answers: Answers, received: Received) -> Advice:
        """Settles the answered rows; the gravest advice of any of them."""
        flight = answers.run.tag
        assert isinstance(flight, Flight)
        form = flight.load.form
        assert isinstance(form, Form)
        key, run, batch = form.shape.key, flight.run, flight.load.sending.batch
        advice = Advice.KEEP
        codes = np.empty(len(answers.rows), np.uint8)
        for at, (row, status) in enumerate(zip(answers.rows.tolist(), answers.statuses.tolist(), strict=True)):
            place = run, row
            said = self._judge.judge(key, status, received.bodies.get(place, b""), received.headers.get(place, ()))
            codes[at] = said.code
            if said.retry_after_s is not None:
                batch.wait_alone((flight.batch_row(row),), said.retry_after_s)
            if said.dead_since_ms is not None:
                batch.invalid_since[flight.batch_row(row)] = said.dead_since_ms
            advice = max(advice, said.advice, self._count(said.code))
            if said.advice is Advice.REFUSED:
                self.refusal = said.code
        self.proven |= self._judge.proven
        flight.settle(answers.rows, codes)
        return advice

    def _count(self, code: int) -> Advice:
        """REPLACE after several failures in a row: it can be this connection only; the count starts anew."""
        if REASONS.outcome(code) is not Outcome.UNAVAILABLE:
            self._server_errors = 0
            return Advice.KEEP
        self._server_errors += 1
        return Advice.REPLACE if self._server_errors == self._server_errors_max else Advice.KEEP

    def goaway(self, goaway: GoAway) -> Advice:
        """REPLACE, or BACK_OFF after an error."""
        return Advice.BACK_OFF if goaway.code else Advice.REPLACE

    def unanswered(self) -> Advice:
        """BACK_OFF on a link that never answered; else one failure more."""
        return self._count(outcome.MALFORMED_RESPONSE.code) if self.proven else Advice.BACK_OFF
