"""What was read and need not be read again until something of it changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

REMEMBERED_MAX = 100_000
"""Values kept in memory; past it all are forgotten and read again."""


class Remembered(Generic[K, V]):
    """Values by key. Nothing is kept of what is not there, nor of what may have been read before it changed."""

    __slots__ = ("_forgotten", "_known")

    def __init__(self) -> None:
        self._known: dict[K, V] = {}
        self._forgotten = 0

    def get(self, key: K) -> V | None:
        """The value, where it was read before."""
        return self._known.get(key)

    async def read(self, key: K, fetch: Callable[[], Awaitable[V | None]]) -> V | None:
        """What `fetch` finds, from now on known."""
        forgotten = self._forgotten
        value = await fetch()
        # What was read before values were forgotten may be what made them be.
        if value is not None and forgotten == self._forgotten:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[key] = value
        return value

    def replace(self, key: K, old: V, new: V) -> None:
        """Knows the new value where the old one is still known."""
        if self._known.get(key) is old:
            self._known[key] = new

    def forget(self, keys: Iterable[K] | None = None) -> None:
        """Reads these again, or everything: it was changed."""
        self._forgotten += 1
        if keys is None:
            self._known.clear()
            return
        for key in keys:
            self._known.pop(key, None)
