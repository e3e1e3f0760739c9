"""Freed memory goes back to the system, when nothing is being sent."""

import asyncio
import subprocess
import sys

import psutil
import pytest

from pushd import heap
from pushd.config.memory import MemoryConfig
from pushd.heap import Heap

PIECES, BYTES = 4_000, 20_000


def test_what_lies_free_between_things_that_stay_goes_back():
    process = psutil.Process()
    pieces = [bytes(BYTES) for _ in range(PIECES)]
    pieces[:] = [each if number % 10 == 0 else None for number, each in enumerate(pieces)]
    before = process.memory_info().rss
    heap.give_back()
    assert before - process.memory_info().rss > PIECES * BYTES // 2


RANDOM_SIZES = """
import ctypes, random
import numpy as np
from pushd.heap import fill_small_arrays

NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]

info = ctypes.CDLL(None).mallinfo2
info.restype = Info
fill_small_arrays()
before = info().uordblks
for _ in range(20_000):
    arrays = [np.empty(random.randrange(1024), np.uint8) for _ in range(20)]
    arrays.clear()
print(info().uordblks - before)
"""


def test_small_arrays_of_any_size_take_nothing_more():
    command = [sys.executable, "-c", RANDOM_SIZES]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(told) < 50_000


@pytest.mark.asyncio
async def test_it_waits_for_a_moment_in_which_nothing_is_being_sent():
    looks, given = [], asyncio.Event()

    def busy():
        looks.append(given.is_set())
        return len(looks) < 3

    part = Heap(MemoryConfig(trim_interval_s=2.0), busy, given.set)
    await part.start()
    async with asyncio.timeout(60):
        await given.wait()
    await part.stop()
    assert looks[:3] == [False, False, False]


@pytest.mark.asyncio
async def test_it_waits_no_longer_than_another_interval_and_not_at_all_where_told():
    times, twice = [], asyncio.Event()

    def give_back():
        times.append(1)
        if len(times) == 2:
            twice.set()

    part, none = (Heap(MemoryConfig(trim_interval_s=each), lambda: True, give_back) for each in (0.01, 0.0))
    await none.start()
    assert not none._tasks
    await part.start()
    async with asyncio.timeout(60):
        await twice.wait()
    await part.stop()
