import asyncio

import pytest

from pushd.errors import UnavailableError
from pushd.web.deadlines import Deadlines

pytestmark = pytest.mark.asyncio


async def give(value, after=0.0):
    await asyncio.sleep(after)
    return value


async def test_what_is_in_time_is_given():
    deadlines = Deadlines(5)
    assert await asyncio.gather(*(asyncio.create_task(deadlines.within(give(n))) for n in range(5))) == list(range(5))
    assert not deadlines._running


async def test_what_takes_longer_is_cut_off_and_the_task_lives_on():
    deadlines, cut = Deadlines(0.1), []

    async def endless():
        try:
            await asyncio.Event().wait()
        finally:
            cut.append(True)

    async def caller():
        with pytest.raises(UnavailableError):
            await deadlines.within(endless())
        return await deadlines.within(give("next"))

    async with asyncio.timeout(60):
        quick = asyncio.create_task(deadlines.within(give("quick")))
        assert await asyncio.create_task(caller()) == "next"
        assert await quick == "quick"
    assert cut == [True]
    await asyncio.sleep(0.1)
    assert deadlines._timer is None


async def test_a_cancellation_from_outside_stays_one():
    deadlines = Deadlines(5)
    task = asyncio.create_task(deadlines.within(asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines._running
