"""Waiting for events: for so long, and never deaf to a cancel."""

import asyncio

import pytest

from pushd.service import is_set_within


@pytest.mark.asyncio
async def test_a_cancel_in_the_turn_in_which_an_event_is_set_is_not_lost():
    event = asyncio.Event()

    async def forever():
        while True:
            await is_set_within(event, 60)
            event.clear()

    for _ in range(20):
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        event.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        event.clear()


@pytest.mark.asyncio
async def test_an_event_is_set_within_the_time_or_not():
    event = asyncio.Event()
    assert not await is_set_within(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await is_set_within(event, 60)
    assert await is_set_within(event, 0)
