"""Loads whole tables as of one moment, in chunks of ids, with the position of the change feed at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pushd.store.database import Database

DEVICE_SPACE = 1
USER_SPACE = 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the database, for as long as its transaction is open."""

    connection: Any
    position: int
    """Where a reader of the change feed goes on from, to miss nothing that is not in here."""


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[Snapshot]:
    """A snapshot to load from; everything that is read from it is as of the same moment."""
    async with database.transaction("repeatable_read", readonly=True) as connection:
        position = await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        # Other sessions may drop or change tables only after us; a lost client ends it soon all the same.
        yield Snapshot(connection, position)


async def chunks(database: Database, given: Snapshot | None, query: str, space: int) -> AsyncIterator[Any]:
    """The rows of a query over ranges [$1, $2) of ids, one per range that has any; the next is read meanwhile.

    Ids lie in blocks, so ranges of about `load_rows_max` used ids follow from the blocks.
    """
    async with AsyncExitStack() as stack:
        current = given if given is not None else await stack.enter_async_context(snapshot(database))
        connection = current.connection
        timeout_s = database.config.bulk_timeout_s
        blocks = await connection.fetch(
            "SELECT start, next FROM id_blocks WHERE space = $1 ORDER BY start", space, timeout=timeout_s
        )
        ranges = _ranges([(block["start"], block["next"]) for block in blocks], database.config.load_rows_max)
        reading: asyncio.Task[Any] | None = None
        try:
            for index in range(len(ranges) + 1):
                done, reading = reading, None
                packed = await done if done is not None else None
                if index < len(ranges):
                    reading = asyncio.ensure_future(connection.fetchrow(query, *ranges[index], timeout=timeout_s))
                if packed is not None and packed["ids"] is not None:
                    yield packed
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


def _ranges(blocks: list[tuple[int, int]], rows_max: int) -> list[tuple[int, int]]:
    """Ranges of ids, ascending, that cover the used parts of blocks, each with at most so many used ids."""
    ranges: list[tuple[int, int]] = []
    begin = end = used = 0
    for start, stop in blocks:
        size = stop - start
        if used and used + size > rows_max:
            ranges.append((begin, end))
            used = 0
        if not used:
            begin = start
        end, used = stop, used + size
    if used:
        ranges.append((begin, end))
    return ranges
