"""Sweeping: rows that are over are deleted again and again, a good many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from pushd.clock import Clock
from pushd.errors import UnavailableError

log = structlog.get_logger(__name__)

SWEEP_S = 3_600.0
SWEPT_ROWS = 10_000
"""Deleted at once."""


async def sweep(rows: str, purge: Callable[[float], Awaitable[bool]], clock: Clock) -> None:
    """Never ends: once an hour purges until that says that no more is left; `rows` names them in the log."""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            while await purge(clock.now()):
                pass
        except (UnavailableError, asyncpg.PostgresError) as error:
            log.warning("sweep_waits", rows=rows, error=str(error))
