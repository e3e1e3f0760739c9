"""A pool of mails: those of one credential and lane, a few connections to the relay at once.

Rules: a connection carries many mails, one after the other (the client library speaks no pipelining); one that ended
before a mail's text was sent costs that mail nothing; where the relay cannot be reached, what waits goes home.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import numpy as np

from protocols.smtp import is_address
from pushd import outcome
from pushd.clock import Clock
from pushd.config.email import EmailConfig
from pushd.gateways.email_answers import BAD_ADDRESS, REASONS
from pushd.gateways.email_mail import Shared
from pushd.gateways.email_relay import Connection, Relay, RelayError
from pushd.model.credential import EmailSender
from pushd.outcome import Outcome
from pushd.service import Contained
from pushd.transport.queue import Sending


@dataclass(slots=True, eq=False)
class Part:
    """Rows that say the same; connections take them from the front."""

    sending: Sending
    rows: list[int]
    make: Callable[[], Shared]
    """Makes what they share when the first of them goes out: many messages at once would hold the loop."""
    at: int = 0
    shared: Shared | None = None

    def mail(self, recipient: bytes, row: int) -> bytes:
        """The mail of a row."""
        if self.shared is None:
            self.shared = self.make()
        batch, of = self.sending.batch, self.sending.batch.notifications
        return self.shared.mail(recipient, of if isinstance(of, int) else int(of[row]), int(batch.ids[row]))


class Pool:
    """Mails of one sender in one lane."""

    def __init__(  # the parts of one pool; made in one place
        self,
        relay: Relay,
        sender: EmailSender,
        connections: int,
        slots: asyncio.Semaphore,
        config: EmailConfig,
        clock: Clock,
    ) -> None:
        self.rows = 0
        """Rows that wait or are being sent."""
        self.retired = False
        self.sender = sender
        self._relay = relay
        self._connections = connections
        self._slots = slots
        self._config = config
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Part] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is being sent."""
        return not (self._waiting or self._workers)

    async def send(self, sending: Sending, parts: list[Part]) -> None:
        """Returns when every row of the batch has an outcome."""
        for part in parts:
            self.rows += len(part.rows)
            self._waiting.append(part)
        if self.retired:
            self._drop(outcome.NOT_WRITTEN.code)
        self._arrived.set()
        self._employ()
        try:
            await sending.done
        except asyncio.CancelledError:
            self._drop(outcome.NOT_WRITTEN.code, sending)
            raise

    def retire(self) -> None:
        """Takes nothing more: what waits goes home unprocessed, what is being sent is waited for."""
        self.retired = True
        self._drop(outcome.NOT_WRITTEN.code)
        self._arrived.set()

    async def stop(self, drain_s: float) -> None:
        """Retires the pool, and ends what is unanswered after `drain_s` seconds."""
        self.retire()
        if self._workers:
            await asyncio.wait(tuple(self._workers), timeout=drain_s)
        for worker in tuple(self._workers):
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def _employ(self) -> None:
        """As many workers as the waiting mails are worth."""
        while len(self._workers) < min(self._connections, self.rows):
            worker = self._loop.create_task(self._work(), name="email")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)  # one that was cancelled before it began

    async def _work(self) -> None:
        """Sends what waits over one connection, until that is worn or nothing has waited for a while."""
        try:
            with Contained("email", self._fail):
                await self._work_off()
        finally:
            self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        if self._waiting:
            self._employ()

    async def _work_off(self) -> None:
        try:
            async with asyncio.timeout(self._config.slot_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            self._drop(outcome.NOT_WRITTEN.code)
            return
        try:
            connection = await self._relay.connect()
        except RelayError as error:
            self._slots.release()
            self._drop(error.code)
            return
        try:
            while not connection.worn and await self._more():
                await self._next(connection)
        finally:
            self._slots.release()
            await connection.close()

    async def _more(self) -> bool:
        """Whether a mail waits, now or before the connection has been idle for long; others may need its place."""
        if self._waiting or self.retired or self._slots.locked():
            return bool(self._waiting)
        self._arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.idle_close_s):
                await self._arrived.wait()
        return bool(self._waiting)

    async def _next(self, connection: Connection) -> None:
        """Sends the mail that waits longest."""
        part = self._waiting[0]
        row = part.rows[part.at]
        part.at += 1
        if part.at == len(part.rows):
            self._waiting.popleft()
        code = outcome.INTERNAL_ERROR.code
        try:
            code = await self._carry(connection, part, row)
        except asyncio.CancelledError:
            code = outcome.STOPPED.code
            raise
        finally:
            if REASONS.outcome(code) is Outcome.UNREGISTERED:
                part.sending.batch.invalid_since[row] = int(self._clock.now() * 1000)
            self._settle(part, [row], code)

    async def _carry(self, connection: Connection, part: Part, row: int) -> int:
        batch = part.sending.batch
        recipient = bytes(batch.tokens[row])
        if not is_address(recipient):
            return BAD_ADDRESS
        return await connection.send(self.sender.from_address, recipient.decode(), part.mail(recipient, row))

    def _settle(self, part: Part, rows: list[int], code: int) -> None:
        self.rows -= len(rows)
        part.sending.settle(np.array(rows, np.intp), code)

    def _fail(self, _: Exception) -> None:
        """After a failure of ours: rows that wait use up an attempt, since they may meet it again."""
        self._drop(outcome.INTERNAL_ERROR.code)

    def _drop(self, code: int, sending: Sending | None = None) -> None:
        """Sends home what waits, all of it or one batch's."""
        waiting, self._waiting = self._waiting, deque()
        for part in waiting:
            if sending is None or part.sending is sending:
                self._settle(part, part.rows[part.at :], code)
            else:
                self._waiting.append(part)
