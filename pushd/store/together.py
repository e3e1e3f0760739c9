"""Reads of single rows, carried out by one statement for all who ask in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from pushd.errors import UnavailableError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEYS_MAX = 1_000
"""Keys of one statement."""
ASKED_MAX = 20_000
"""Who may wait; past it 503."""


class Together(Generic[K, V]):
    """What is there by key, as of a moment after it was asked for: nothing is remembered.

    A statement costs as much as two hundred of its keys, so while one is under way the others gather for the next.
    `fetch` has a deadline of its own.
    """

    __slots__ = ("_asked", "_beginning", "_fetch", "_reading")

    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._fetch = fetch
        self._asked: list[tuple[K, asyncio.Future[V | None]]] = []
        self._beginning = False
        self._reading: asyncio.Task[Mapping[K, V]] | None = None

    async def get(self, key: K) -> V | None:
        """What is there; None for nothing. Errors as those of `fetch`; UnavailableError where too many wait."""
        if len(self._asked) >= ASKED_MAX:
            raise UnavailableError("Too many wait for the database", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        told: asyncio.Future[V | None] = loop.create_future()
        self._asked.append((key, told))
        if self._reading is None and not self._beginning:
            self._beginning = True
            loop.call_soon(self._begin)  # whoever asks in this turn of the event loop comes along
        return await told

    def _begin(self) -> None:
        self._beginning = False
        asked, self._asked = self._asked[:KEYS_MAX], self._asked[KEYS_MAX:]
        keys = [*dict.fromkeys(key for key, told in asked if not told.done())]
        self._reading = asyncio.get_running_loop().create_task(_read(self._fetch, keys))
        self._reading.add_done_callback(partial(self._tell, asked))

    def _tell(self, asked: list[tuple[K, asyncio.Future[V | None]]], reading: asyncio.Task[Mapping[K, V]]) -> None:
        self._reading = None
        error = None if reading.cancelled() else reading.exception()
        for key, told in asked:
            if told.done():
                continue  # who asked has gone
            if reading.cancelled():
                told.cancel()
            elif error is not None:
                told.set_exception(error)
            else:
                told.set_result(reading.result().get(key))
        if self._asked:
            self._begin()


async def _read(fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], keys: Sequence[K]) -> Mapping[K, V]:
    return await fetch(keys) if keys else {}
