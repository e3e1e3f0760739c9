"""Numbers taken from a sequence ahead of need, so that few of those who need one have to ask for it."""

from __future__ import annotations

from time import monotonic

from pushd.store.database import Database

_NEXT = "SELECT nextval($1::text::regclass) FROM generate_series(1, $2)"

AHEAD = 256
GOOD_S = 1.0
"""How long numbers are good for: another node gives higher ones meanwhile, and they are to ascend with time."""


class Reserve:
    """Numbers of one sequence. Those that are not used are lost."""

    __slots__ = ("_database", "_left", "_sequence", "_until")

    def __init__(self, database: Database, sequence: str) -> None:
        self._database = database
        self._sequence = sequence
        self._left: list[int] = []
        self._until = 0.0

    async def take(self, count: int) -> list[int]:
        """So many numbers, ascending, which nobody else has or will have. Errors as those of `Database.fetch`."""
        left, now = self._left, monotonic()
        if now > self._until:
            left.clear()
        if len(left) < count:
            # A few more than were asked for: the next ones take them without asking.
            timeout_s = self._database.config.write_timeout_s
            rows = await self._database.fetch(_NEXT, self._sequence, count + AHEAD, timeout_s=timeout_s)
            if len(left) < count:
                left[:] = [row[0] for row in rows]
                self._until = now + GOOD_S
        taken = left[:count]
        del left[:count]
        return taken
