"""Web Push over HTTP/1.1, for origins that do not speak HTTP/2: a few connections, each with one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import numpy as np
from yarl import URL

from protocols.webpush_reasons import BODY_BYTES_MAX
from pushd import outcome
from pushd.config.transport import TransportConfig
from pushd.credentials.vapid_keys import VapidTokens
from pushd.gateways.webpush_forms import Form
from pushd.gateways.webpush_judge import FORBIDDEN, Judge, Judged
from pushd.service import Contained, Service
from pushd.transport.exchange import Advice
from pushd.transport.guard import ForbiddenError
from pushd.transport.queue import Load, Queue, Sending


class Http1Sender(Service):
    """Takes loads as a pool does, and settles their rows."""

    def __init__(
        self,
        session: Callable[[], aiohttp.ClientSession],
        judge: Judge,
        tokens: VapidTokens,
        connections: int,
        config: TransportConfig,
    ) -> None:
        super().__init__()
        self._make_session = session
        self._session: aiohttp.ClientSession | None = None
        self._judge = judge
        self._tokens = tokens
        self._connections = connections
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._queue = Queue()
        self._flying = 0
        self._retired = False
        self._landed = asyncio.Event()
        self._progress_at = 0.0
        self.failing = False
        """Whether the last connect came to nothing."""

    # -- the way's side

    @property
    def waiting(self) -> int:
        """Rows that no connection took yet."""
        return self._queue.rows

    @property
    def idle(self) -> bool:
        """Whether nothing waits or flies."""
        return not self._queue.rows and not self._flying

    def stalled_s(self) -> float:
        """For how long nothing moved while rows wait."""
        head = self._queue.head()
        return 0.0 if head is None else self._loop.time() - max(self._progress_at, head.put_at)

    def put(self, load: Load) -> None:
        """Queues rows; connections are opened as they are needed."""
        self._queue.put(load, self._loop.time())
        if self._retired:
            self._queue.drop_all(outcome.NOT_WRITTEN.code)
        missing = min(self._connections - len(self._tasks), self._queue.rows)
        for _ in range(missing):
            self.spawn(self._serve(), "webpush-http1")

    def drop(self, sending: Sending) -> None:
        """Sends the waiting rows of one batch home unprocessed."""
        self._queue.drop(sending, outcome.NOT_WRITTEN.code)

    def surrender(self) -> list[Load]:
        """The loads that wait, given up."""
        return self._queue.take_all()

    def retire(self) -> None:
        """Takes nothing more; what flies lands."""
        self._retired = True
        self._queue.drop_all(outcome.NOT_WRITTEN.code)
        self._close_if_done()

    async def drain(self, drain_s: float) -> None:
        """Retires and waits for what flies; after `drain_s` seconds it is lost."""
        self.retire()
        if self._flying:
            self._landed.clear()
            try:
                async with asyncio.timeout(drain_s):
                    await self._landed.wait()
            except TimeoutError:
                pass
        await self.cancel_tasks()
        await self._close()

    def _close_if_done(self) -> None:
        if self._retired and not self._flying and self._session is not None:
            self.spawn(self._close(), "webpush-http1-close")

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
        self._session = None

    # -- connections

    async def _serve(self) -> None:
        """Sends row after row until none waits."""
        while (load := self._queue.head()) is not None:
            start = self._queue.take(1)
            self._progress_at = self._loop.time()
            self._flying += 1
            settled = False
            try:
                with Contained("web push over HTTP/1.1", lambda _: None):
                    self._settle(load, start, await self._post(load, start))
                    settled = True
            finally:
                if not settled:  # cancelled, or a failure of ours
                    load.settle(np.array([start]), outcome.STOPPED.code)
                self._flying -= 1
                if not self._flying:
                    self._landed.set()
                    self._close_if_done()

    def _settle(self, load: Load, start: int, said: Judged) -> None:
        row = int(load.rows[start])
        if said.retry_after_s is not None:
            load.sending.batch.wait_alone((row,), said.retry_after_s)
        if said.dead_since_ms is not None:
            load.sending.batch.invalid_since[row] = said.dead_since_ms
        load.settle(np.array([start]), said.code)
        if said.advice is Advice.REFUSED or said.code == FORBIDDEN.code:
            self._queue.drop_all(said.code)
        elif self.failing:
            self._queue.drop_all(outcome.NO_CONNECTION.code)

    async def _post(self, load: Load, start: int) -> Judged:
        """What became of one row; the answer's body is read as far as a reason can be long (W-46)."""
        form = load.form
        assert isinstance(form, Form)
        path, fields, body = form.row(start)
        headers = {name.decode(): value.decode() for name, value in fields.items() if name != b"content-length"}
        key = form.shape.key
        headers["authorization"] = self._tokens.authorization(key, self._judge.origin).decode()
        if self._session is None:
            self._session = self._make_session()
        url = URL(self._judge.origin + path.decode(), encoded=True)
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                said = await response.content.read(BODY_BYTES_MAX)
                self.failing = False
                return self._judge.judge(key, response.status, said, list(response.raw_headers))
        except ForbiddenError:
            return Judged(FORBIDDEN.code)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenError):
                return Judged(FORBIDDEN.code)
            self.failing = True
            return Judged(outcome.NO_CONNECTION.code)
        except TimeoutError:
            return Judged(outcome.RESPONSE_TIMEOUT.code)
        except (aiohttp.ClientError, OSError):
            return Judged(outcome.CONNECTION_LOST.code)
