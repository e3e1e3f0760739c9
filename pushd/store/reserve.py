"""Numbers taken from a sequence ahead of need, so that few of those who need one have to ask for it."""

from __future__ import annotations

import asyncio
from time import monotonic

from pushd.store.database import Database

_NEXT = "SELECT nextval($1::text::regclass) FROM generate_series(1, $2)"

AHEAD = 256
GOOD_S = 1.0
"""How long numbers are good for: another node gives higher ones meanwhile, and they are to ascend with time."""


class Reserve:
    """Numbers of one sequence. Those that are not used are lost."""

    __slots__ = ("_asking", "_database", "_left", "_sequence", "_until")

    def __init__(self, database: Database, sequence: str) -> None:
        self._asking = asyncio.Lock()
        self._database = database
        self._sequence = sequence
        self._left: list[int] = []
        self._until = 0.0

    async def take(self, count: int) -> list[int]:
        """So many numbers, ascending, which nobody else has or will have. Errors as those of `Database.fetch`."""
        if not self._has(count):
            async with self._asking:  # one asks for all who wait
                while not self._has(count):
                    await self._fill(count)
        taken = self._left[:count]
        del self._left[:count]
        return taken

    def _has(self, count: int) -> bool:
        return len(self._left) >= count and monotonic() <= self._until

    async def _fill(self, count: int) -> None:
        # A few more than were asked for: the next ones take them without asking.
        timeout_s = self._database.config.write_timeout_s
        rows = await self._database.fetch(_NEXT, self._sequence, count + AHEAD, timeout_s=timeout_s)
        self._left[:] = [row[0] for row in rows]
        self._until = monotonic() + GOOD_S
