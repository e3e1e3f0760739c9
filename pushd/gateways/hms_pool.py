"""A pool of HMS requests: those of one credential and lane, a few on the wire at once, over HTTP/1.1.

Why not the links of `transport`: nothing that Huawei says promises HTTP/2, and with a thousand devices to a request
there is nothing for multiplexing to win.

Rules: a request that met a refused access token is repeated once with another (H-06); one that was written and has no
answer is lost for all of its rows (H-07); where nobody can be reached, what waits goes home and the fan-out paces it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import cast

import aiohttp
import numpy as np
import structlog

from protocols import hms_reasons
from protocols.hms_reasons import BODY_BYTES_MAX, OAUTH_REFUSED, UNAUTHENTICATED_AGAIN, Verdict
from pushd import outcome
from pushd.clock import Clock
from pushd.config.hms import HmsConfig
from pushd.config.transport import TransportConfig
from pushd.credentials.oauth_tokens import Held, Login
from pushd.gateways.hms_answers import CODES, ILLEGAL, UNKNOWN
from pushd.gateways.hms_requests import Request
from pushd.gateways.retry_after import retry_after_s
from pushd.service import Contained
from pushd.transport.queue import Sending

log = structlog.get_logger(__name__)


class Pool:
    """Requests of one credential and lane."""

    def __init__(  # the parts of one pool; made in one place
        self,
        url: str,
        login: Login,
        session: aiohttp.ClientSession,
        config: HmsConfig,
        transport: TransportConfig,
        clock: Clock,
    ) -> None:
        self.rows = 0
        """Rows that wait or are on the wire."""
        self.retired = False
        self._url = url
        self._login = login
        self._session = session
        self._config = config
        self._transport = transport
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Request] = deque()
        self._flying: set[Request] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._progress_at = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing flies."""
        return not (self._waiting or self._workers)

    async def send(self, sending: Sending, requests: Iterable[Request]) -> None:
        """Returns when every row of the batch has an outcome."""
        now = self._loop.time()
        if not self._flying:
            self._progress_at = now
        for request in requests:
            request.put_at = now
            self.rows += len(request.rows)
            self._waiting.append(request)
        if self.retired:
            self._drop(outcome.NOT_WRITTEN.code)
        self._employ()
        try:
            await sending.done
        except asyncio.CancelledError:
            self._drop(outcome.NOT_WRITTEN.code, sending)
            raise

    def retire(self) -> None:
        """Takes nothing more: what waits goes home unprocessed, what flies is waited for."""
        self.retired = True
        self._drop(outcome.NOT_WRITTEN.code)

    async def stop(self, drain_s: float) -> None:
        """Retires the pool, and ends what is unanswered after `drain_s` seconds."""
        self.retire()
        if self._workers:
            await asyncio.wait(tuple(self._workers), timeout=drain_s)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _employ(self) -> None:
        """As many workers as the waiting requests are worth."""
        while len(self._workers) < min(self._config.requests_max, len(self._flying) + len(self._waiting)):
            worker = self._loop.create_task(self._work(), name="hms")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)  # one that was cancelled before it began

    async def _work(self) -> None:
        """Carries out requests until none waits; who finds none is no worker from that moment on."""
        try:
            await self._work_off()
        finally:
            self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _work_off(self) -> None:
        while self._waiting:
            request = self._waiting.popleft()
            if self._loop.time() - max(self._progress_at, request.put_at) > self._transport.queue_timeout_s:
                self._settle(request, outcome.NOT_WRITTEN.code)
                continue
            self._flying.add(request)
            try:
                with Contained("hms request", partial(self._fail, request)):
                    await self._carry_out(request)
            except asyncio.CancelledError:
                self._settle(request, outcome.STOPPED.code)
                raise
            finally:
                self._flying.discard(request)

    async def _carry_out(self, request: Request) -> None:
        held = await self._login.ready(self._config.oauth_wait_s)
        if held is None:
            refused = bool(self._login.refused)
            code = CODES[OAUTH_REFUSED] if refused else outcome.NO_CONNECTION.code
            self._settle(request, code)
            self._drop(code)
            return
        try:
            async with asyncio.timeout(self._transport.connect_timeout_s + self._transport.response_timeout_s):
                answer, wait_s = await self._post(request, held)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            log.warning("connect_failed", pool="hms", error=type(error).__name__)
            self._settle(request, outcome.NO_CONNECTION.code)
            self._drop(outcome.NO_CONNECTION.code)
        except TimeoutError:
            self._settle(request, outcome.RESPONSE_TIMEOUT.code)
        except (aiohttp.ClientError, OSError):
            self._settle(request, outcome.CONNECTION_LOST.code)
        else:
            self._progress_at = self._loop.time()
            self._classify(request, held, answer, wait_s)

    async def _post(self, request: Request, held: Held) -> tuple[hms_reasons.Answer, float | None]:
        """What was answered, and for how long to wait where it says so."""
        headers = {"Authorization": held.authorization.decode(), "Content-Type": "application/json; charset=UTF-8"}
        async with self._session.post(
            self._url, data=request.body(), headers=headers, allow_redirects=False
        ) as response:
            body = b""
            while len(body) <= BODY_BYTES_MAX and (more := await response.content.read(BODY_BYTES_MAX)):
                body += more
            wait_s = retry_after_s(response.raw_headers, self._clock.now(), self._config.retry_after_max_s)
            return hms_reasons.parse_answer(response.status, body), wait_s

    def _classify(self, request: Request, held: Held, answer: hms_reasons.Answer, wait_s: float | None) -> None:
        """Settles the rows of an answered request."""
        batch, verdict = request.sending.batch, answer.verdict
        if not answer.known:
            UNKNOWN.inc()
            log.warning("hms_answer_unknown", reason=hms_reasons.REASONS[answer.line].name, request=answer.request_id)
        if verdict is Verdict.LOGIN_STALE:
            self._log_in_again(request, held)
            return
        if verdict in (Verdict.ACCEPTED, Verdict.PARTIAL, Verdict.TOKENS_BAD, Verdict.MESSAGE_BAD):
            self._login.accepted(held)
        if verdict is Verdict.PARTIAL:
            self._settle_parts(request, answer.illegal or frozenset())
            return
        code = outcome.ACCEPTED.code if answer.line == 0 else CODES[answer.line]
        rows = request.rows.tolist()
        if verdict is Verdict.TOKENS_BAD:
            batch.invalid_since.update(dict.fromkeys(rows, int(self._clock.now() * 1000)))
        elif wait_s is not None and verdict in (Verdict.RETRY, Verdict.THROTTLED):
            batch.retry_after.update(dict.fromkeys(rows, wait_s))
        self._settle(request, code)
        if verdict is Verdict.CREDENTIAL_BAD:
            self._drop(code)

    def _settle_parts(self, request: Request, illegal: frozenset[bytes]) -> None:
        """Ends the tokens that are called illegal, and nobody else's (H-06)."""
        batch = request.sending.batch
        bad = np.isin(batch.tokens[request.rows], np.array([*illegal], batch.tokens.dtype)) if illegal else None
        codes = np.full(len(request.rows), outcome.ACCEPTED.code, np.uint8)
        if bad is not None:
            codes[bad] = ILLEGAL
            since = int(self._clock.now() * 1000)
            batch.invalid_since.update(dict.fromkeys(request.rows[bad].tolist(), since))
        self.rows -= len(request.rows)
        request.sending.settle(request.rows, codes)

    def _log_in_again(self, request: Request, held: Held) -> None:
        """Once more with another access token; then the account itself is refused."""
        if self._login.refuse(held) and not request.again and not self.retired:
            request.again = True
            request.put_at = self._loop.time()
            self._waiting.appendleft(request)
            return
        code = CODES[UNAUTHENTICATED_AGAIN]
        self._settle(request, code)
        self._drop(code)

    def _settle(self, request: Request, code: int) -> None:
        self.rows -= len(request.rows)
        request.settle(code)

    def _fail(self, request: Request, _: Exception) -> None:
        """After a failure of ours: the rows that still wait for an outcome use up an attempt."""
        rows = request.rows[request.sending.batch.outcomes[request.rows] == 0]
        if len(rows):
            self.rows -= len(request.rows)
            request.sending.settle(rows, outcome.INTERNAL_ERROR.code)

    def _drop(self, code: int, sending: Sending | None = None) -> None:
        """Sends home what waits, all of it or one batch's."""
        kept: deque[Request] = deque()
        waiting, self._waiting = self._waiting, kept
        for request in waiting:
            if sending is None or request.sending is sending:
                self._settle(request, code)
            else:
                kept.append(request)
