"""Group commit: one transaction for many, everyone answered for himself, and nothing kept that nobody was promised."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import pytest_asyncio

from pushd.config import StoreConfig
from pushd.errors import InternalError, InvalidRequestError, NotFoundError, UnavailableError
from pushd.store import committer as committing
from pushd.store.committer import Committer, refusal
from pushd.store.database import OutcomeUnknownError

pytestmark = pytest.mark.asyncio

CONFIG = StoreConfig(
    group_rows_max=10, group_queue_max=30, retry_after_s=0.1, write_timeout_s=0.3, lost_commit_wait_s=0.1
)


class Table:
    """Doubles what it is given, in groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[BaseException] = []
        self.bad: set[int] = set()
        self.stored: set[int] = set()
        self.abandoned: list[int] = []
        self.promised: set[int] = set()
        self.heard: list[tuple[int, bool]] = []
        self.down = 0

    async def write(self, items):
        self.groups.append(list(items))
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.bad & set(items):
            raise asyncpg.DataError("no")
        self.stored.update(items)
        return [NotFoundError() if item < 0 else item * 2 for item in items]

    async def resolve(self, items):
        if self.down:
            self.down -= 1
            raise UnavailableError
        return [item * 2 if item in self.stored else None for item in items]

    async def abandon(self, stray):
        self.abandoned += [result for _, result in stray]
        return [result in self.promised for _, result in stray]

    def settled(self, item, result, told):
        self.heard.append((item, told))


@pytest_asyncio.fixture
async def table():
    return Table()


@pytest_asyncio.fixture
async def committer(table):
    committer = Committer("test", CONFIG, table.write, table.resolve, table.abandon, settled=table.settled)
    await committer.start()
    yield committer
    await committer.stop()


async def all_of(committer, items):
    return await asyncio.gather(*(committer.submit(item) for item in items), return_exceptions=True)


async def test_concurrent_writes_share_transactions_in_order(table, committer):
    assert await all_of(committer, range(25)) == [2 * n for n in range(25)]
    assert [item for group in table.groups for item in group] == list(range(25))
    assert max(map(len, table.groups)) == 10
    assert len(table.groups) == 3


async def test_each_caller_has_an_answer_of_his_own(committer):
    results = await all_of(committer, [1, -1, 2])
    assert results[0::2] == [2, 4]
    assert isinstance(results[1], NotFoundError)


async def test_bad_data_stands_alone_in_the_end(table, committer):
    table.bad = {3, 8}
    results = await all_of(committer, range(10))
    assert [row for row, each in enumerate(results) if isinstance(each, InvalidRequestError)] == [3, 8]
    assert [each for each in results if not isinstance(each, Exception)] == [
        2 * n for n in range(10) if n not in (3, 8)
    ]


async def test_trouble_fails_the_group_and_the_next_goes_on(table, committer):
    table.errors = [UnavailableError("away", retry_after_s=3)]
    results = await all_of(committer, range(5))
    assert all(isinstance(each, UnavailableError) and each.retry_after_s == 3 for each in results)
    assert await committer.submit(7) == 14


async def test_the_queue_is_bounded(table, committer):
    table.gate.clear()
    waiting = [asyncio.create_task(committer.submit(n)) for n in range(40)]
    await asyncio.sleep(0.01)
    full = [task for task in waiting if task.done()]
    assert len(full) == 40 - 30
    assert all(isinstance(task.exception(), UnavailableError) and task.exception().retry_after_s for task in full)
    table.gate.set()
    await asyncio.wait(waiting)


async def test_who_waits_too_long_for_a_turn_is_told(table, committer):
    table.gate.clear()
    first = asyncio.create_task(committer.submit(1))
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await asyncio.wait_for(committer.submit(2), 60)
    assert not first.done()
    table.gate.set()
    assert await first == 2
    assert 2 not in table.stored


async def test_a_lost_commit_is_looked_up(table, committer):
    table.stored = {1, 3}
    table.errors = [OutcomeUnknownError("lost")]
    table.down = 1
    results = await all_of(committer, [1, 2, 3])
    assert results[0::2] == [2, 6]
    assert isinstance(results[1], UnavailableError)
    assert table.abandoned == []


async def test_what_is_found_too_late_is_abandoned(table, committer):
    table.stored = {1}
    table.errors = [OutcomeUnknownError("lost")]
    table.down = 5
    results = await all_of(committer, [1, 2])
    assert all(isinstance(each, UnavailableError) for each in results)
    for _ in range(200):
        if table.abandoned:
            break
        await asyncio.sleep(0.02)
    assert table.abandoned == [2]
    assert await committer.submit(5) == 10
    assert table.heard[:2] == [(2, False), (1, False)]


async def test_what_another_was_promised_meanwhile_counts_as_told(table, committer):
    table.stored, table.promised = {1, 2}, {4}
    table.errors = [OutcomeUnknownError("lost")]
    table.down = 5
    assert all(isinstance(each, UnavailableError) for each in await all_of(committer, [1, 2]))
    async with asyncio.timeout(60):
        while len(table.heard) < 2:
            await asyncio.sleep(0.02)
    assert table.heard == [(1, False), (2, True)]


async def test_a_look_up_that_hangs_does_not_hold_the_caller(table, committer):
    hanging = asyncio.Event()

    async def hang(items):
        await hanging.wait()
        return [None for _ in items]

    committer._resolve = hang
    table.errors = [OutcomeUnknownError("lost")]
    async with asyncio.timeout(60):
        with pytest.raises(OutcomeUnknownError):
            await committer.submit(1)
    hanging.set()
    async with asyncio.timeout(60):
        assert await committer.submit(2) == 4


async def test_who_gave_up_before_his_turn_is_not_written_and_after_it_is_abandoned(table, committer):
    table.gate.clear()
    early, late = asyncio.create_task(committer.submit(1)), asyncio.create_task(committer.submit(2))
    await asyncio.sleep(0.01)
    queued = asyncio.create_task(committer.submit(3))
    await asyncio.sleep(0)
    early.cancel()
    queued.cancel()
    await asyncio.sleep(0)
    table.gate.set()
    assert await late == 4
    assert await committer.submit(4) == 8
    assert table.abandoned == [2]
    assert 3 not in table.stored


async def test_a_turn_that_everyone_gave_up_writes_nothing(table, committer):
    table.gate.clear()
    first = asyncio.create_task(committer.submit(1))
    await asyncio.sleep(0.01)
    queued = asyncio.create_task(committer.submit(2))
    await asyncio.sleep(0)
    queued.cancel()
    await asyncio.sleep(0)
    table.gate.set()
    assert await first == 2
    assert await committer.submit(3) == 6
    assert table.groups == [[1], [3]]


async def test_a_stop_answers_everyone(table):
    committer = Committer("test", CONFIG, table.write)
    await committer.start()
    table.gate.clear()
    waiting = [asyncio.create_task(committer.submit(n)) for n in range(15)]
    await asyncio.sleep(0.01)
    await committer.stop()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, UnavailableError) for each in results)


async def test_refusals_are_told_in_our_words():
    class Coded(asyncpg.PostgresError):
        def __init__(self, sqlstate: str) -> None:
            super().__init__("secret values")
            self.sqlstate = sqlstate

    assert isinstance(refusal(Coded("PD404")), NotFoundError)
    assert isinstance(refusal(Coded("PD503")), UnavailableError)
    assert isinstance(refusal(Coded("XX000")), InternalError)
    assert "secret" not in str(refusal(Coded("XX000")))


async def test_a_second_lane_takes_what_is_worth_a_transaction_or_waits_behind_a_slow_one(table, monkeypatch):
    monkeypatch.setattr(committing, "OVERLAP_ROWS", 3)
    committer = Committer("test", CONFIG, table.write, lanes=2)
    await committer.start()
    table.gate.clear()
    calls = [asyncio.ensure_future(committer.submit(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for number in (2, 3):
        calls.append(asyncio.ensure_future(committer.submit(number)))
        await asyncio.sleep(0.001)
    assert table.groups == [[1]]
    calls.append(asyncio.ensure_future(committer.submit(4)))
    await asyncio.sleep(0.001)
    assert table.groups == [[1], [2, 3, 4]]
    table.gate.set()
    assert await asyncio.gather(*calls) == [2, 4, 6, 8]
    table.gate.clear()
    calls = [asyncio.ensure_future(committer.submit(5))]
    await asyncio.sleep(committing.OVERLAP_S * 1.5)
    calls.append(asyncio.ensure_future(committer.submit(6)))
    await asyncio.sleep(0.005)
    assert table.groups[2:] == [[5], [6]]
    table.gate.set()
    assert await asyncio.gather(*calls) == [10, 12]
    await committer.stop()
