"""Volleys: what becomes ready at about the same time goes to PostgreSQL in one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

from pushd.errors import UnavailableError
from pushd.service import Service

Item = TypeVar("Item")
Told = bool | Exception
"""What became of an item: whether it was still true when it was written, or why it was not written."""


class Volleys(Service, Generic[Item]):
    """One transaction at a time; what becomes ready meanwhile is the next one's, up to so many items.

    An item that PostgreSQL refuses takes nobody with it: its group is written one by one.
    """

    def __init__(self, name: str, write: Callable[[Sequence[Item]], Awaitable[Sequence[bool]]], rows_max: int) -> None:
        super().__init__()
        self._name = name
        self._write = write
        self._rows_max = rows_max
        self._ready: deque[tuple[Item, asyncio.Future[Told]]] = deque()
        self._writing = False

    async def put(self, items: Sequence[Item]) -> list[Told]:
        """Of each item, once it was written, whether it was still true then; or why it was not written."""
        loop = asyncio.get_running_loop()
        told: list[asyncio.Future[Told]] = [loop.create_future() for _ in items]
        self._ready.extend(zip(items, told, strict=True))
        if told and not self._writing:
            self._writing = True
            self.spawn(self._run(), self._name)
        return [await each for each in told]

    async def _run(self) -> None:
        group: list[tuple[Item, asyncio.Future[Told]]] = []
        try:
            while self._ready:
                group = [self._ready.popleft() for _ in range(min(self._rows_max, len(self._ready)))]
                await self._volley(group)
        finally:
            self._writing = False
            for _, told in (*group, *self._ready):
                told.cancel()  # of those that were told nothing changes

    async def _volley(self, group: Sequence[tuple[Item, asyncio.Future[Told]]]) -> None:
        try:
            results: Sequence[Told] = await self._write([item for item, _ in group])
        except asyncpg.PostgresError as error:
            if len(group) > 1:
                for each in group:
                    await self._volley([each])
                return
            results = [error]
        except UnavailableError as error:
            results = [error] * len(group)
        for (_, told), result in zip(group, results, strict=True):
            if not told.done():
                told.set_result(result)
