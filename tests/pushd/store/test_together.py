"""Single reads that are carried out together: each is told its own, whatever becomes of the others."""

import asyncio

import pytest

from pushd.errors import UnavailableError
from pushd.store.together import ASKED_MAX, KEYS_MAX, Together

pytestmark = pytest.mark.asyncio


class Table:
    """Counts its statements, and answers when it is let."""

    def __init__(self):
        self.statements = []
        self.free = asyncio.Event()
        self.free.set()
        self.fails = False
        self.rows = {key: f"row {key}" for key in range(100_000)}

    async def fetch(self, keys):
        self.statements.append(list(keys))
        found = {key: self.rows[key] for key in keys if key in self.rows}
        await self.free.wait()
        if self.fails:
            raise UnavailableError("away")
        return found


async def test_who_asks_in_one_turn_is_told_by_one_statement():
    table = Table()
    together = Together(table.fetch)
    told = await asyncio.gather(*(together.get(key) for key in (1, 2, 1, -7)))
    assert told == ["row 1", "row 2", "row 1", None]
    assert table.statements == [[1, 2, -7]]


async def test_nothing_is_remembered_and_who_asks_meanwhile_is_told_what_holds_then():
    table = Table()
    together = Together(table.fetch)
    table.free.clear()
    first = asyncio.create_task(together.get(1))
    while not table.statements:
        await asyncio.sleep(0)
    later = [asyncio.create_task(together.get(key)) for key in (1, 2)]
    await asyncio.sleep(0)
    table.rows[1] = "changed"
    table.free.set()
    assert await first == "row 1"
    assert await asyncio.gather(*later) == ["changed", "row 2"]
    assert table.statements == [[1], [1, 2]]


async def test_one_who_leaves_takes_nobody_along():
    table = Table()
    together = Together(table.fetch)
    table.free.clear()
    one, two = (asyncio.create_task(together.get(key)) for key in (1, 2))
    while not table.statements:
        await asyncio.sleep(0)
    one.cancel()
    table.free.set()
    assert await two == "row 2"
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_an_error_is_everybodys_and_the_next_ask_again():
    table = Table()
    together = Together(table.fetch)
    table.fails = True
    told = await asyncio.gather(*(together.get(key) for key in (1, 2)), return_exceptions=True)
    assert [type(each) for each in told] == [UnavailableError, UnavailableError]
    table.fails = False
    assert await together.get(3) == "row 3"


async def test_statements_and_the_queue_are_bounded():
    table = Table()
    together = Together(table.fetch)
    table.free.clear()
    asked = [asyncio.create_task(together.get(key)) for key in range(ASKED_MAX)]
    while not table.statements:
        await asyncio.sleep(0)
    more = [asyncio.create_task(together.get(key)) for key in range(KEYS_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError):
        await together.get(1)
    table.free.set()
    assert await asyncio.gather(*asked, *more) == [f"row {key}" for key in (*range(ASKED_MAX), *range(KEYS_MAX))]
    assert max(map(len, table.statements)) == KEYS_MAX
