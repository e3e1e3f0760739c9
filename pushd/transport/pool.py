"""A pool: the links of one credential, host and lane, and the rows that wait for them.

Rules: links pull, so that a slow one never holds rows. A slot has at most one connect in flight; connects are paced.
A link that drains leaves its slot at once. Rows wait for a bounded time for any progress, then go home unprocessed, so
that the fan-out's retry paces them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import numpy as np
import structlog
from prometheus_client import Counter

from pushd import outcome
from pushd.batch import Batch
from pushd.config.transport import TransportConfig
from pushd.service import Contained
from pushd.telemetry import REGISTRY
from pushd.transport.dial import Dialer, DialError
from pushd.transport.exchange import Advice, Exchange
from pushd.transport.link import Link, Phase
from pushd.transport.pace import Pace
from pushd.transport.queue import Load, Queue, Sending

log = structlog.get_logger(__name__)

CONNECTS = Counter(
    "pushd_connects", "Connects to gateways: open, or where they failed.", ("result",), registry=REGISTRY
)

COMPRESSION_ERROR = 9
"""RFC 9113 section 7."""

STREAMS_ASSUMED = 500
"""Streams per link that credit counts on before the peer has said how many; never opened on this assumption."""

ROOM_MIN = 3_000
"""Rows that may wait even where few streams are allowed, so that the planner works in batches."""

PROBE_ROWS = 32
"""Credit of a pool whose connects fail: enough to see when it comes back, too little to hold up others."""


class Pool:
    """Links towards one host with one credential in one lane."""

    def __init__(
        self,
        label: str,
        dialer: Dialer,
        exchange: Callable[[bool], Exchange],
        links_max: int,
        config: TransportConfig,
        undialled: Callable[[DialError], int] | None = None,
    ) -> None:
        self.label = label
        """For logs and metrics: host, credential id and lane."""
        self.retired = False
        self._dialer = dialer
        self._exchange = exchange
        self._links_max = links_max
        self._config = config
        self._undialled = undialled
        """What a failed connect means for the rows that wait: the code with which they go home, 0 to let them wait."""
        self._loop = asyncio.get_running_loop()
        self._links: list[Link] = []
        self._leaving: set[Link] = set()
        self._served: set[Link] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._queue = Queue()
        self._pace = Pace(config)
        self._progress_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._woken = False
        self._stateless_headers = True
        self._gone = asyncio.Event()
        self._contained = Contained(f"pool {label}", self._fail)

    # -- the gateway's side

    async def send(self, batch: Batch, prepare: Callable[[Sending], Iterable[Load]]) -> None:
        """Returns when every row of the batch has an outcome; `prepare` makes its loads."""
        sending = Sending(batch, self._loop.create_future())
        now = self._loop.time()
        with Contained(f"batch for {self.label}", lambda _: self._refuse(sending)):
            for load in prepare(sending):
                self._queue.put(load, now)
        if self.retired:
            self._queue.drop_all(outcome.NOT_WRITTEN.code)
        self._wake()
        try:
            await sending.done
        except asyncio.CancelledError:
            self._queue.drop(sending, outcome.NOT_WRITTEN.code)
            raise

    def put(self, load: Load) -> None:
        """Queues rows of a batch that other pools have rows of too; who made the batch waits for it."""
        self._queue.put(load, self._loop.time())
        if self.retired:
            self._queue.drop_all(outcome.NOT_WRITTEN.code)
        self._wake()

    def drop(self, sending: Sending) -> None:
        """Sends the waiting rows of one batch home unprocessed."""
        self._queue.drop(sending, outcome.NOT_WRITTEN.code)

    def surrender(self) -> list[Load]:
        """The loads that wait, given up for another way to their host."""
        return self._queue.take_all()

    @property
    def failing(self) -> bool:
        """Whether connects fail and no link serves."""
        return bool(self._pace.failures) and not any(link.exchange.proven for link in self._links)

    def stalled_s(self) -> float:
        """For how long nothing moved while rows wait; 0 where none waits."""
        head = self._queue.head()
        return 0.0 if head is None else self._loop.time() - max(self._progress_at, head.put_at)

    def room(self) -> int:
        """How many rows more keep every link full: twice what they carry at once, less what waits."""
        if self.retired:
            return 0
        proven = [link.stream_limit for link in self._links if link.exchange.proven]
        if self._pace.failures and not proven:
            target = PROBE_ROWS
        else:
            target = max(ROOM_MIN, 2 * (sum(proven) + (self._links_max - len(proven)) * STREAMS_ASSUMED))
        return max(0, min(target, self._config.queue_rows_max) - self._queue.rows)

    @property
    def waiting(self) -> int:
        """Rows that no link took yet."""
        return self._queue.rows

    @property
    def outstanding(self) -> int:
        """Rows on links without an outcome."""
        return sum(link.outstanding for link in (*self._links, *self._leaving))

    @property
    def links(self) -> int:
        """Links that take rows."""
        return len(self._links)

    @property
    def idle(self) -> bool:
        """Whether nothing of the pool is alive but what it remembers of failures."""
        return not (self._links or self._leaving or self._dials or self._queue.rows)

    def retire(self) -> None:
        """Takes nothing more: waiting rows go home unprocessed, links drain."""
        self.retired = True
        self._queue.drop_all(outcome.NOT_WRITTEN.code)
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._dials):
            task.cancel()
        for link in list(self._links):
            link.drain(Advice.KEEP, "retired")
        self._check_gone()

    async def stop(self, drain_s: float) -> None:
        """Retires the pool and waits for its last link; after `drain_s` seconds what is unanswered is lost."""
        self.retire()
        try:
            async with asyncio.timeout(drain_s):
                await self._gone.wait()
        except TimeoutError:
            for link in list(self._leaving):
                link.close("daemon stopped", outcome.STOPPED)
        await asyncio.gather(*self._dials, return_exceptions=True)

    # -- the links' side

    def head(self) -> Load | None:
        """The load whose rows go next."""
        return self._queue.head()

    def take(self, rows: int) -> int:
        """Takes that many rows of the head; the position of the first."""
        self._progress_at = self._loop.time()
        if len(self._links) < self._links_max:
            self._wake()
        return self._queue.take(rows)

    def draining(self, link: Link, advice: Advice) -> None:
        """Frees the link's slot; a replacement is opened in parallel where the link served well."""
        if link not in self._links:
            return
        self._links.remove(link)
        self._served.discard(link)
        self._leaving.add(link)
        now = self._loop.time()
        served = link.exchange.proven
        if advice >= Advice.BACK_OFF or (advice is Advice.REPLACE and not served):
            self._pace.failed(now)
        if advice is Advice.REFUSED:
            self._queue.drop_all(link.refused or link.exchange.refusal or outcome.NOT_WRITTEN.code)
        busy = self._queue.rows or link.outstanding
        if advice is Advice.REPLACE and served and busy and not self.retired and self._may_dial(now):
            self._dial(now)
        self._wake()

    def closed(self, link: Link) -> None:
        """Forgets the link."""
        if link not in self._leaving:
            return
        self._leaving.discard(link)
        if link.error_code == COMPRESSION_ERROR and not link.answered:
            self._stateless_headers = False  # RFC 9113 section 4.3.1 warns of peers that cannot
        tell = log.info if link.exchange.proven or self.retired else log.warning
        tell("link_closed", pool=self.label, why=link.why, answered=link.answered, failures=self._pace.failures)
        self._check_gone()

    # -- inside

    def _wake(self) -> None:
        """Serves the queue once this turn of the loop is over, however often it is asked."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        with self._contained:
            self._woken = False
            if not self.retired:
                self._share_out()
                self._balance()

    def _share_out(self) -> None:
        share = -(-self._queue.rows // max(1, len(self._links)))
        for rows_max in (share, self._queue.rows):  # evenly first; then who has room takes what is left
            for link in list(self._links):
                if self._queue.rows and rows_max:
                    link.pump(rows_max)

    def _fail(self, _: Exception) -> None:
        """After a failure of ours: rows that wait use up an attempt, since they may meet it again."""
        self._pace.failed(self._loop.time())
        self._queue.drop_all(outcome.INTERNAL_ERROR.code)

    def _refuse(self, sending: Sending) -> None:
        """Ends a batch that cannot be made into loads: the same, for its rows alone."""
        self._queue.drop(sending, outcome.INTERNAL_ERROR.code)
        sending.settle(np.flatnonzero(sending.batch.outcomes == 0), outcome.INTERNAL_ERROR.code)

    def _balance(self) -> None:
        """Opens the links that the queue is worth, as pace allows; gives up on rows that wait in vain."""
        now = self._loop.time()
        for link in self._links:
            if link.exchange.proven and link not in self._served:  # once per link: another may fail all the while
                self._served.add(link)
                self._pace.proved()
        head = self._queue.head()
        if head is None or self.retired:
            return
        give_up_at = max(self._progress_at, head.put_at) + self._config.queue_timeout_s
        if now >= give_up_at:
            self._queue.drop_all((outcome.NOT_WRITTEN if self._links else outcome.NO_CONNECTION).code)
            return
        while len(self._links) + len(self._dials) < self._wanted() and self._may_dial(now):
            self._dial(now)
        self._look_again(min(give_up_at, max(self._pace.next_at(now), now + self._config.connect_backoff_base_s)))

    def _wanted(self) -> int:
        """How many links the waiting rows are worth: one, or all of them when it cannot take them at once."""
        one = max((link.stream_limit if link.exchange.proven else STREAMS_ASSUMED for link in self._links), default=1)
        return self._links_max if self._links and self._queue.rows > one else 1

    def _may_dial(self, now: float) -> bool:
        return len(self._links) + len(self._dials) < self._links_max and self._pace.next_at(now) <= now

    def _look_again(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return  # it fires soon enough, and then looks anew
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._alarm), at

    def _alarm(self) -> None:
        self._timer = None
        self._wake()

    def _dial(self, now: float) -> None:
        self._pace.started(now)
        link = Link(self, self._exchange(self._stateless_headers), self._config)
        task = self._loop.create_task(self._open(link), name=f"dial {self.label}")
        self._dials.add(task)
        task.add_done_callback(self._dialled)

    async def _open(self, link: Link) -> None:
        with Contained(f"dial for {self.label}", lambda _: self._pace.failed(self._loop.time())):
            await self._connect(link)

    async def _connect(self, link: Link) -> None:
        try:
            await self._dialer.dial(link)
        except DialError as error:
            self._pace.failed(self._loop.time())
            CONNECTS.labels(error.kind).inc()
            log.warning("connect_failed", pool=self.label, kind=error.kind, error=str(error))
            if self._undialled is not None and (code := self._undialled(error)):
                self._queue.drop_all(code)
            return
        if link.phase is Phase.OPEN and not self.retired:
            self._links.append(link)
            CONNECTS.labels("open").inc()
            log.info("link_opened", pool=self.label)
        else:  # it came and went, or nobody wants it any more
            self._pace.failed(self._loop.time())
            link.close("not needed")

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dials.discard(task)
        self._wake()
        self._check_gone()

    def _check_gone(self) -> None:
        if self.retired and self.idle:
            self._gone.set()
