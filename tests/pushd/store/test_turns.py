"""Turns: prepared at once, written one after the other in the order they came, whoever gives up."""

import asyncio

import pytest

from pushd.store.turns import Turns


class Writers:
    """Writers of one app, each of which prepares and then writes."""

    def __init__(self):
        self.turns = Turns()
        self.order = []

    async def write(self, name, prepare_s, write_s=0.0, app_id=1):
        async with self.turns.of(app_id) as turn:
            await asyncio.sleep(prepare_s)
            self.order.append(f"{name} ready")
            await turn.begin()
            await asyncio.sleep(write_s)
            self.order.append(name)


@pytest.mark.asyncio
async def test_who_came_first_writes_first_however_long_it_prepares():
    writers = Writers()
    await asyncio.gather(writers.write("a", 0.05), writers.write("b", 0.0), writers.write("c", 0.02))
    assert writers.order == ["b ready", "c ready", "a ready", "a", "b", "c"]


@pytest.mark.asyncio
async def test_who_gives_up_lets_nobody_pass_those_before_it():
    writers = Writers()
    first = asyncio.ensure_future(writers.write("a", 0.05))
    second = asyncio.ensure_future(writers.write("b", 5.0))
    third = asyncio.ensure_future(writers.write("c", 0.0))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.gather(first, third)
    assert writers.order == ["c ready", "a ready", "a", "c"]
    assert second.cancelled()


@pytest.mark.asyncio
async def test_apps_do_not_wait_for_each_other_and_nothing_stays_behind():
    writers = Writers()
    await asyncio.gather(writers.write("a", 0.0, 0.05), writers.write("b", 0.0, app_id=2))
    assert writers.order == ["a ready", "b ready", "b", "a"]
    assert not writers.turns._last
