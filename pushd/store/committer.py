"""Group commit: concurrent small writes share a transaction, and each caller is answered after its own commit.

Rules. Items are written in the order they came; a writer folds repeats of a key in that order. An error in the data
splits the group until the bad item stands alone, so that it harms nobody else. Trouble with the server fails the group.
Where the outcome is unknown, `resolve` is asked what became of it; callers wait for that only so long, and what turns
out to be committed for a caller that is gone is abandoned, unless another was told of it meanwhile: nothing is kept
that nobody was promised, and nothing undone that somebody was. The queue is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Generic, TypeVar

import asyncpg
import structlog

from pushd.config import StoreConfig
from pushd.errors import InternalError, InvalidRequestError, NotFoundError, PushdError, UnavailableError
from pushd.service import Service
from pushd.store.database import OutcomeUnknownError

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Argument = TypeVar("Argument")
Answer = TypeVar("Answer")

Group = Sequence[tuple[Item, "asyncio.Future[Result]"]]

EXPIRY_INTERVAL_S = 0.5
OVERLAP_ROWS = 32
"""While one transaction is under way, so many rows are worth another: smaller groups cost more than they hasten."""
OVERLAP_S = 0.02
"""After this a transaction is slow, and whatever waits is worth another."""

Write = Callable[[Sequence[Item]], Awaitable[Sequence["Result | PushdError"]]]
"""Commits a group in one transaction; a result, or an error of its own, per item."""
Resolve = Callable[[Sequence[Item]], Awaitable[Sequence["Result | None"]]]
"""What a group whose COMMIT was lost came to; None for items that are not and will never be there."""
Abandon = Callable[[Sequence[tuple["Item", "Result"]]], Awaitable[Sequence[bool]]]
"""Undoes what was committed for callers that had been told otherwise, or gave up before.

True of what stays, because somebody else was told of it meanwhile: that is as good as told.
"""
Settled = Callable[[Item, "Result | PushdError", bool], None]
"""Hears what became of an item that was written, and whether its caller was told so, before the caller goes on."""


class Committer(Service, Generic[Item, Result]):
    """The committer of one aggregate."""

    def __init__(
        self,
        name: str,
        config: StoreConfig,
        write: Write[Item, Result],
        resolve: Resolve[Item, Result] | None = None,
        abandon: Abandon[Item, Result] | None = None,
        lanes: int = 1,
        settled: Settled[Item, Result] | None = None,
    ) -> None:
        super().__init__()
        self._name = name
        self._config = config
        self._write = write
        self._resolve = resolve
        self._abandon = abandon
        self._lanes = lanes
        self._settled = settled
        self._queue: deque[tuple[Item, asyncio.Future[Result], float, int]] = deque()
        self._rows = 0
        self._writing = 0
        self._writing_since = 0.0
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Begins to commit; each lane has one transaction under way at most."""
        for lane in range(self._lanes):
            self.spawn(self._run(), f"{self._name}-committer-{lane}")
        self.spawn(self._expire(), f"{self._name}-committer-expiry")

    async def stop(self) -> None:
        """Ends the lanes; whoever still waits is told to come again."""
        await super().stop()
        while self._queue:
            _answer(self._pop()[1], UnavailableError("The daemon stops", retry_after_s=1))

    @property
    def waiting(self) -> int:
        """Rows that no transaction has taken yet."""
        return self._rows

    async def submit(self, item: Item) -> Result:
        """The item's result, after its commit. UnavailableError when too many wait, or PostgreSQL is in trouble."""
        return await self.begin(item)

    def begin(self, item: Item, rows: int = 1) -> asyncio.Future[Result]:
        """What `submit` waits for: who cancels it gives the item up. UnavailableError when too many wait.

        An item of several rows counts as so many, and is never divided.
        """
        if self._rows + rows > self._config.group_queue_max:
            raise UnavailableError("Too many writes wait", retry_after_s=self._config.retry_after_s)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future, monotonic() + self._config.write_timeout_s, rows))
        self._rows += rows
        self._wake.set()
        return future

    def _pop(self) -> tuple[Item, asyncio.Future[Result]]:
        item, future, _, rows = self._queue.popleft()
        self._rows -= rows
        return item, future

    def _take(self) -> Group[Item, Result]:
        """What the next transaction writes: as many as fit, in order, those that somebody still waits for."""
        group: list[tuple[Item, asyncio.Future[Result]]] = []
        room = self._config.group_rows_max
        while self._queue and (not group or self._queue[0][3] <= room):
            room -= self._queue[0][3]
            item, future = self._pop()
            if not future.done():
                group.append((item, future))
        return group

    async def _expire(self) -> None:
        """Tells those who waited too long for their turn to come again. Who has had it is answered by its lane."""
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_S)
            self._wake.set()  # what waits behind a slow transaction may be worth another by now
            now = monotonic()
            while self._queue and (self._queue[0][1].done() or self._queue[0][2] < now):
                late = self._pop()[1]
                _answer(late, UnavailableError("PostgreSQL is too slow now", retry_after_s=self._config.retry_after_s))

    async def _run(self) -> None:
        while True:
            while not self._worth_a_group():
                self._wake.clear()
                await self._wake.wait()
            group = self._take()
            self._writing += 1
            self._writing_since = monotonic()
            try:
                if group:
                    await self._commit(group)
            finally:
                self._writing -= 1
                for _, future in group:
                    if not future.done():
                        _answer(future, UnavailableError("The daemon stops", retry_after_s=1))

    def _worth_a_group(self) -> bool:
        if not self._queue:
            return False
        if not self._writing or self._rows >= OVERLAP_ROWS:
            return True
        return monotonic() - self._writing_since > OVERLAP_S

    async def _commit(self, group: Group[Item, Result]) -> None:
        """Writes a group and answers it; on an error of the data its halves, one after the other."""
        pending = [group]
        while pending:
            part = pending.pop()
            try:
                results: Sequence[Result | PushdError] = await self._write([item for item, _ in part])
            except OutcomeUnknownError as error:
                results = await self._look_up(part, error)
            except PushdError as error:
                results = [error] * len(part)
            except asyncpg.PostgresError as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    pending += [part[middle:], part[:middle]]
                    continue
                log.error("write_refused", committer=self._name, sqlstate=error.sqlstate)  # noqa: TRY400  # a trace shows values
                results = [refusal(error)]
            await self._answer_all(part, results)

    async def _look_up(self, part: Group[Item, Result], error: UnavailableError) -> Sequence[Result | PushdError]:
        """What became of a group whose COMMIT may be lost. The lane waits until PostgreSQL says; callers wait less."""
        if self._resolve is None:
            return [error] * len(part)
        found = await self._until_available(self._resolve, [item for item, _ in part], part, error)
        return [error if each is None else each for each in found]

    async def _answer_all(self, part: Group[Item, Result], results: Sequence[Result | PushdError]) -> None:
        stray: list[tuple[Item, Result]] = []
        for (item, future), result in zip(part, results, strict=True):
            told = _answer(future, result)
            if told or isinstance(result, PushdError) or self._abandon is None:
                self._hear(item, result, told)
            else:
                stray.append((item, result))
        if stray and self._abandon is not None:
            log.warning("commits_abandoned", committer=self._name, count=len(stray))
            stays = await self._until_available(self._abandon, stray)
            for (item, result), told in zip(stray, stays, strict=True):
                self._hear(item, result, told)

    def _hear(self, item: Item, result: Result | PushdError, told: bool) -> None:
        if self._settled is not None:
            self._settled(item, result, told)

    async def _until_available(
        self,
        call: Callable[[Sequence[Argument]], Awaitable[Answer]],
        argument: Sequence[Argument],
        waiting: Group[Item, Result] = (),
        error: UnavailableError | None = None,
    ) -> Answer:
        """What a call answers once PostgreSQL is there; who waits for it is told `error` after `lost_commit_wait_s`."""
        pause = 0.05
        late = asyncio.get_running_loop().call_later(self._config.lost_commit_wait_s, _answer_each, waiting, error)
        try:
            while True:
                try:
                    return await call(argument)
                except UnavailableError:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 1.0)
        finally:
            late.cancel()


def refusal(error: asyncpg.PostgresError) -> PushdError:
    """What the caller is told of a statement that PostgreSQL refused."""
    if error.sqlstate == "PD404":
        return NotFoundError("There is no such app")
    if error.sqlstate == "PD503":
        return UnavailableError("This node may not write now", retry_after_s=1)
    if isinstance(error, asyncpg.DataError):
        return InvalidRequestError("PostgreSQL does not take a value of this request")
    return InternalError()


def _answer_each(group: Group[Item, Result], error: PushdError | None) -> None:
    for _, future in group:
        _answer(future, error or UnavailableError("PostgreSQL is away"))


def _answer(future: asyncio.Future[Result], result: Result | PushdError) -> bool:
    """Whether somebody was still waiting for it."""
    if future.done():
        return False
    if isinstance(result, PushdError):
        future.set_exception(result)
    else:
        future.set_result(result)
    return True
