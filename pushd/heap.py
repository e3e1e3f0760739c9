"""The heap: what numpy keeps lies together, and what was freed goes back in a moment in which nothing is sent."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import structlog

from pushd.config.memory import MemoryConfig
from pushd.service import Service

log = structlog.get_logger(__name__)

IDLE_POLL_S = 0.25
"""How often it is looked whether nothing is being sent."""

SMALL_BYTES = 1024
KEPT_OF_EACH = 7
"""Of arrays below so many bytes, numpy keeps so many of each size when they are freed (NBUCKETS and NCACHE of its
allocator, `numpy/_core/src/multiarray/alloc.c`)."""


def _found() -> Callable[[int], int] | None:
    """`malloc_trim` of glibc; None where the C library is another."""
    try:
        trim: Any = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    known: Callable[[int], int] = trim
    return known


_trim = _found()


def give_back() -> None:
    """Gives pages that hold nothing any more to the system.

    A few ms for what some seconds leave, some 40 where hundreds of megabytes were freed, as after the start
    (malloc_trim(3)). glibc itself does so only at the top of its heap, and columns of batches come and go below.
    """
    if _trim is not None:
        _trim(0)


def fill_small_arrays() -> None:
    """Has numpy keep all the small arrays that it ever will: 3.7 MB, in 20 ms.

    Reads and batches have rows of any number, so that all sizes come up within half an hour. What is kept would come to
    lie wherever columns of batches come and go, and would stay there: memory would grow, and by more than these bytes.
    """
    for size in range(1, SMALL_BYTES):
        kept = [np.empty(size, np.uint8) for _ in range(KEPT_OF_EACH)]
        kept.clear()


class Heap(Service):
    """Gives memory back now and then; `busy` says whether anything is being sent."""

    def __init__(
        self, config: MemoryConfig, busy: Callable[[], bool], give_back: Callable[[], None] = give_back
    ) -> None:
        super().__init__()
        self._interval_s = config.trim_interval_s
        self._busy = busy
        self._give_back = give_back

    async def start(self) -> None:
        """Begins to."""
        if self._interval_s:
            self.spawn(self._keep_small(), "heap")

    async def _keep_small(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._until_idle()
            begun = perf_counter()
            self._give_back()
            log.debug("memory_given_back", ms=round(1000 * (perf_counter() - begun), 1))

    async def _until_idle(self) -> None:
        """Returns when nothing is being sent, or after the interval."""
        until = perf_counter() + self._interval_s
        while self._busy() and perf_counter() < until:  # noqa: ASYNC110  # rows are many, and tell nobody
            await asyncio.sleep(IDLE_POLL_S)
