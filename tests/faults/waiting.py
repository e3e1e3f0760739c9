"""Waiting until something is so."""

import asyncio
import inspect


async def until(is_so, timeout_s=30.0, pause_s=0.01):
    """Returns when `is_so()`, or what it is a promise of, is true; TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = is_so()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(pause_s)
