"""A link: one HTTP/2 connection over TLS, the only owner of a socket towards a gateway.

Theory of operation. A link pulls rows from its owner (a pool) when HTTP/2, the exchange and the socket have room, puts
them on the wire in one write, and settles hundreds of them per read. It never holds rows that it cannot send.

    OPEN ──GOAWAY, advice, ids used up──► DRAINING ──last answer, or drain deadline──► CLOSED
      └────────loss, silence, protocol error, owner's close───────────────────────────────┘

Rules: a row that was handed to the socket and has no answer is LOST; one that was not, UNPROCESSED (A-65). Every
wait has a deadline, all kept by one timer: it looks at what is outstanding when it fires, so that the data path hardly
touches it. After CLOSED nothing is pending and nobody is called. A row that cannot be encoded ends alone. Whatever the
loop calls is contained: a failure of ours ends the link, and every row of it still gets its outcome.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Protocol

import numpy as np
from prometheus_client import Counter

from protocols.errors import HeaderListError, LocalProtocolError, NoRoomError
from protocols.http2 import Connection, ConnectionBrokenError, Received
from pushd import outcome
from pushd.config.transport import TransportConfig
from pushd.outcome import Reason
from pushd.service import Contained
from pushd.telemetry import REGISTRY
from pushd.transport.exchange import Advice, Exchange
from pushd.transport.flights import Flight, Flights
from pushd.transport.intake import Intake
from pushd.transport.outbox import Outbox
from pushd.transport.queue import Load
from pushd.transport.tls import refuses_certificate

NEVER = float("inf")
FAILURES = Counter("pushd_link_failures", "Links that ended by a failure of ours: bugs.", registry=REGISTRY)

IMPOSSIBLE_ROWS = 200
"""Rows that one slice of work may find impossible: each is tried alone."""


class Phase(Enum):
    """How far a link's life has come."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Owner(Protocol):
    """Who a link takes rows from and reports to."""

    def head(self) -> Load | None:
        """The load whose rows go next."""

    def take(self, rows: int) -> int:
        """Takes that many rows of the head; the position of the first."""

    def draining(self, link: Link, advice: Advice) -> None:
        """The link takes no more rows; called once, before `closed`."""

    def closed(self, link: Link) -> None:
        """The link is gone and its rows are settled; called once."""


class Link(Intake):
    """One connection; `dial` gives it its socket."""

    def __init__(self, owner: Owner, exchange: Exchange, config: TransportConfig) -> None:
        self.exchange = exchange
        self.connection = Connection(exchange.settings)
        self.phase = Phase.OPEN
        self.answered = 0
        self.error_code: int | None = None
        """The HTTP/2 error that we closed with, if the peer broke the protocol."""
        self.why = ""
        """What ended it, for the log."""
        self.refused = 0
        self._owner = owner
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._early: list[bytes] | None = []
        self._contained = Contained("link", self._fail)
        self._flights = Flights()
        self._encoding: tuple[Load, int] | None = None
        """The rows whose requests are being made: taken from the owner only when they are."""
        self._run_rows = config.run_rows_max
        """Rows of the next run: halved when one of them is impossible, until it stands alone."""
        self._outbox = Outbox(config.write_chunk_bytes, config.write_high_water_bytes)
        self.opened_at = self._read_at = self._used_at = 0.0
        self._pinged_at = self._starved_at = self._drain_at = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER

    # -- the socket's side

    def open(self, transport: asyncio.Transport) -> None:
        """Begins to speak HTTP/2 on a transport whose TLS handshake is done."""
        with self._contained:
            self._outbox.open(transport)
            self.opened_at = self._read_at = self._used_at = self._loop.time()
            self.connection.initiate()
            self._flush()
            early, self._early = self._early or [], None
            for data in early:
                self._read(data)
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Settles what the bytes answer, then refills the wire, in one write."""
        if self._early is not None:  # TLS ended its handshake and the peer spoke before `open` ran
            self._early.append(data)
            return
        with self._contained:
            self._read(data)

    def _read(self, data: bytes) -> None:
        if self.phase is Phase.CLOSED:
            return
        self._read_at, self._pinged_at = self._loop.time(), NEVER
        try:
            received = self.connection.receive(data)
        except ConnectionBrokenError as error:
            self.error_code = error.code
            self._settle(error.received)  # what it said before that still holds
            self.close(f"protocol error {error.code}: {error}")
            return
        self._settle(received)
        self._pump(1 << 30)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer or the network ended it."""
        with self._contained:
            if refuses_certificate(exc):  # TLS 1.3 tells it late: no request was looked at
                self.refused = outcome.CERTIFICATE_REFUSED.code
                self.close("certificate refused", outcome.CERTIFICATE_REFUSED, Advice.REFUSED)
            self.close(f"connection lost: {type(exc).__name__}" if exc else "closed by the peer")

    def pause_writing(self) -> None:
        """The socket is full: no more rows until it drains."""
        self._outbox.paused = True

    def resume_writing(self) -> None:
        """The socket took enough: hands on what waited, and takes rows again."""
        with self._contained:
            self._outbox.paused = False
            self._outbox.flush()
            self._pump(1 << 30)

    # -- the owner's side

    @property
    def outstanding(self) -> int:
        """Rows on this link without an outcome."""
        return self._flights.rows

    @property
    def stream_limit(self) -> int:
        """How many rows this link may carry at once, as far as is known."""
        return self.connection.stream_limit if self.exchange.proven and self.connection.settings_seen else 1

    def pump(self, rows_max: int = 1 << 30) -> int:
        """Takes rows while there is room for them, at most `rows_max`, and writes them; how many it took."""
        with self._contained:
            return self._pump(rows_max)
        return 0

    def _pump(self, rows_max: int) -> int:
        taken = octets = impossible = 0
        flights: list[Flight] = []
        if (advice := self.exchange.condition()) is not Advice.KEEP:
            self.drain(advice, "unfit for more rows")
        while self.phase is Phase.OPEN and not self._outbox.full and taken < rows_max:
            load = self._owner.head()
            if load is None:
                self._starved_at = NEVER
                break
            rows = self._room(load, rows_max - taken)
            if not rows:
                break
            if (flight := self._carry(load, rows)) is None:
                impossible += 1
                if impossible < IMPOSSIBLE_ROWS:
                    continue
                self._loop.call_soon(self.pump)
                break
            flights.append(flight)
            taken += rows
            octets += rows * load.body_bytes
            if octets >= self._config.write_chunk_bytes:
                self._write(flights)
                flights, octets = [], 0
        if self.phase is not Phase.CLOSED:
            self._write(flights)
        return taken

    def drain(self, advice: Advice, why: str) -> None:
        """Takes no more rows and closes after the last answer, or when the drain deadline passes."""
        if self.phase is not Phase.OPEN:
            return
        self.phase, self.why = Phase.DRAINING, why
        self._drain_at = self._loop.time() + self._config.drain_timeout_s
        self._owner.draining(self, advice)
        if self._flights:
            self._watch()
        else:
            self.close(why)

    def close(self, why: str, lost: Reason = outcome.CONNECTION_LOST, advice: Advice = Advice.REPLACE) -> None:
        """Ends the link now: rows that were handed to the socket are lost, the others unprocessed."""
        if self.phase is Phase.CLOSED:
            return
        was_open, self.phase, self.why = self.phase is Phase.OPEN, Phase.CLOSED, why
        if self._timer is not None:
            self._timer.cancel()
        clean = not self._flights
        if clean and self.error_code is None:
            self.connection.close()
        self._flights.lose(self._outbox.handed, lost)
        self._outbox.end(self.connection.data_to_send(), self._config.close_timeout_s if clean else 0)
        if was_open:
            self._owner.draining(self, advice)
        self._owner.closed(self)

    def _fail(self, error: Exception) -> None:
        """Ends the link by a failure of ours. Rows whose requests failed use up an attempt: they may fail again."""
        FAILURES.inc()
        if self._encoding is not None:
            (load, rows), self._encoding = self._encoding, None
            start = self._owner.take(rows)
            load.settle(np.arange(start, start + rows), outcome.INTERNAL_ERROR.code)
        self.close(f"our failure: {type(error).__name__}", advice=Advice.BACK_OFF)

    # -- rows out

    def _room(self, load: Load, rows_max: int) -> int:
        """How many rows of the load may go now: streams, windows, proof, and what one slice of work may take."""
        config = self._config
        rows = min(
            self.connection.room(load.body_bytes),
            self.exchange.room(self.connection.open_streams),
            load.left,
            rows_max,
            self._run_rows,
            max(1, config.run_bytes_max // max(1, load.body_bytes)),
        )
        if rows > 0:
            self._starved_at = NEVER
            return rows
        if self._starved_at == NEVER and not self._flights:
            self._starved_at = self._loop.time()
            self._watch()
        return 0

    def _carry(self, load: Load, rows: int) -> Flight | None:
        """Makes the requests of rows of a load; None when they are impossible together."""
        now = self._loop.time()
        flight = Flight(load, load.at, now + self._config.response_timeout_s)
        self._encoding = (load, rows)
        try:
            flight.run = self.exchange.encode(self.connection, flight, rows)
        except NoRoomError:
            raise
        except LocalProtocolError as error:
            self._encoding = None
            self._refuse(load, rows, error)
            return None
        self._encoding = None
        self._owner.take(rows)
        if self._run_rows < self._config.run_rows_max:
            self._run_rows = min(self._run_rows * 2, self._config.run_rows_max)
        first = not self._flights
        self._flights.add(flight)
        if first:
            self._used_at = self._read_at = now  # silence counts from the first row that expects an answer
            self._watch()
        if self.connection.exhausted:
            self.drain(Advice.REPLACE, "stream ids used up")
        return flight

    def _refuse(self, load: Load, rows: int, error: LocalProtocolError) -> None:
        """Fewer rows next time; one that is impossible alone ends, unless it may be this peer that takes none."""
        if rows > 1:
            self._run_rows = rows // 2
            return
        start = self._owner.take(rows)
        if isinstance(error, HeaderListError) and not self.answered:
            load.settle(np.array([start]), outcome.NOT_WRITTEN.code)
            self.drain(Advice.BACK_OFF, f"request impossible: {error}")
            return
        load.settle(np.array([start]), outcome.REQUEST_IMPOSSIBLE.code)

    def _write(self, flights: list[Flight]) -> None:
        """Hands on the octets of these flights, and of whatever else waits."""
        outbox = self._outbox
        begin = outbox.queued
        outbox.put(self.connection.data_to_send())
        for flight in flights:
            flight.begin, flight.end, flight.alone = begin, outbox.queued, len(flights) == 1
        outbox.flush()

    def _flush(self) -> None:
        self._write([])

    # -- answers in

    def _settle(self, received: Received) -> None:
        """Gives every row that the read decided its outcome, then does what the answers advise."""
        advice = Advice.KEEP
        for answers in received.answers:
            self.answered += len(answers.rows)
            advice = max(advice, self.exchange.classify(answers, received))
        for answers in received.answers:  # after all of them: what was not understood must still be known
            self._flights.landed(answers.run)
        if received.goaway is not None:
            advice = max(advice, self.exchange.goaway(received.goaway))
        if received.resets or received.unprocessed:
            self._flights.refused(received, self.exchange.refusal or outcome.ABOVE_GOAWAY.code)
        if received.goaway is not None:
            self.drain(advice, f"GOAWAY {received.goaway.code}")
        elif advice is not Advice.KEEP:
            self.drain(advice, f"advised to {advice.name.lower()}")
        if not self._flights:
            self._used_at = self._read_at
            if self.phase is Phase.DRAINING:
                self.close(self.why)

    # -- time

    def _watch(self) -> None:
        """Sets the timer to the next deadline that can pass; one that fires earlier looks again anyway."""
        if self.phase is Phase.CLOSED:
            return
        at = self._next_deadline()
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._look), at

    def _next_deadline(self) -> float:
        config = self._config
        at = min(self._drain_at, self._starved_at + config.window_timeout_s)
        if not self.connection.settings_seen:
            at = min(at, self.opened_at + config.settings_timeout_s)
        deadline = self._flights.deadline
        if self._pinged_at != NEVER:
            return min(at, deadline or NEVER, self._pinged_at + config.ping_timeout_s)
        if deadline is None:
            return min(at, self._used_at + config.idle_close_s)
        return min(at, deadline, self._read_at + config.ping_after_s)

    def _look(self) -> None:
        """Does what is due, and sets the timer anew."""
        with self._contained:
            self._timer = None
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        now, config = self._loop.time(), self._config
        self.connection.new_interval()
        if not self.connection.settings_seen and now >= self.opened_at + config.settings_timeout_s:
            self.close("no SETTINGS in time")
        elif now >= self._drain_at:
            self.close(f"{self.why}; not drained in time")
        elif now >= self._pinged_at + config.ping_timeout_s:
            self.close("no answer to PING")
        elif now >= self._starved_at + config.window_timeout_s:
            self.drain(Advice.BACK_OFF, "no stream or window in time")
        elif not self._flights and now >= self._used_at + config.idle_close_s:
            self.drain(Advice.KEEP, "idle")
        else:
            self._give_up(now)
            self._ping_if_silent(now)
            self._watch()

    def _give_up(self, now: float) -> None:
        """Resets the streams whose answer is overdue; their slots stay counted until the peer has seen it (A-67)."""
        overdue = self._flights.overdue(now)
        for run, rows in overdue:
            self.connection.reset(run, rows)
        if overdue:
            self._pinged_at = min(self._pinged_at, now)  # the resets bring a PING with them
            advice = self.exchange.unanswered()
            if advice is not Advice.KEEP:
                self.drain(advice, "no answer in time")
            elif self.phase is Phase.DRAINING and not self._flights:
                self.close(self.why)
            if self.phase is not Phase.CLOSED:
                self._flush()

    def _ping_if_silent(self, now: float) -> None:
        """Asks a peer that owes answers and says nothing whether it is there (A-66)."""
        if self._flights and self._pinged_at == NEVER and now >= self._read_at + self._config.ping_after_s:
            self._pinged_at = now
            self.connection.ping(b"pushd-ok")
            self._flush()
