"""Pages of what may be large: read a few at a time, and ended early where their JSON has grown too long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

PAGE_BYTES_MAX = 4 * 1024 * 1024
"""JSON of a page beyond which it ends early."""
FIRST_ROWS = 10
"""What is read at first for a page; five times as much once that was small."""

_encode = msgspec.json.Encoder().encode


class Numbered(Protocol):
    """What has an id."""

    @property
    def id(self) -> int:
        """By which pages are ordered."""


View = TypeVar("View", bound=Numbered)


async def newest_first(
    read: Callable[[int, int], Awaitable[Sequence[View]]], before: int, limit: int
) -> tuple[list[View], bool]:
    """Views with ids below `before`, newest first, and whether the page was cut short by its size.

    A send can name 100,000 targets: a page of such would be as large as the daemon's memory. `read` gives at most so
    many views of ids below one.
    """
    views: list[View] = []
    size, rows = 0, FIRST_ROWS
    while (wanted := min(limit - len(views), rows)) > 0:
        found = await read(before, wanted)
        views += found
        if len(found) < wanted:
            break
        size += sum(len(_encode(view)) for view in found)
        if size > PAGE_BYTES_MAX:
            return views, True
        before, rows = found[-1].id, 5 * FIRST_ROWS
    return views, False
