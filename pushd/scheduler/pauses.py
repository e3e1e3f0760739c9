"""Long work on the event loop, in slices: after a few milliseconds others get their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

SLICE_S = 0.004
"""Work before others get their turn; one piece more may come on top."""


class Pauses:
    """When one piece of work last gave way."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = perf_counter()

    async def due(self) -> None:
        """Gives way where it is time to."""
        if perf_counter() - self._begun > SLICE_S:
            await asyncio.sleep(0)
            self._begun = perf_counter()


def pieces(column: NDArray[np.uint32], rows: int) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """A column in pieces, each with the place of its first row."""
    return ((start, column[start : start + rows]) for start in range(0, len(column), rows))
