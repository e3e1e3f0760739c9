"""Byte strings in slabs by width: tokens, external ids and tag lists at one 32-bit place each, places reused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushd.targeting.columns import Column

ROW_BITS = 27
"""A place is a slab's number (from 1) above the row's; 0 is no place. 134 million rows of a width are room enough."""
ROW_MASK = (1 << ROW_BITS) - 1
SLABS_MAX = 31

TEXT_WIDTHS = (
    *(4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 144, 160, 176, 192),
    *(224, 256, 320, 384, 512, 768, 1024, 1536, 2048, 4096, 8192, 16384),
)
"""Fine where addresses and external ids are: an APNs token is 64, FCM's about 150, a push endpoint about 190."""


class Slab:
    """Rows of one width. Rows that were freed are taken again before new ones."""

    __slots__ = ("holes", "open", "rows", "used", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = Column(f"S{width}")
        self.used = 0
        self.holes = Column(np.uint32)
        self.open = 0

    def claim(self) -> int:
        """A free row."""
        if self.open:
            self.open -= 1
            return self.holes.cells[self.open]
        self.used += 1
        assert self.used <= ROW_MASK + 1, "a slab is full"
        self.rows.reach(self.used)
        return self.used - 1

    def claim_many(self, count: int) -> NDArray[np.intp] | slice:
        """That many free rows; a slice when all are new."""
        again = min(count, self.open)
        fresh = slice(self.used, self.used + count - again)
        self.used = fresh.stop
        assert self.used <= ROW_MASK + 1, "a slab is full"
        self.rows.reach(self.used)
        if not again:
            return fresh
        self.open -= again
        holes = self.holes.data[self.open : self.open + again].astype(np.intp)
        return np.concatenate((holes, np.arange(fresh.start, fresh.stop, dtype=np.intp)))

    def free(self, row: int) -> None:
        """Gives a row back, emptied: nobody's data stays in memory for longer than he does."""
        self.rows.data[row] = b""
        self.holes.reach(self.open + 1)
        self.holes.cells[self.open] = row
        self.open += 1

    def free_many(self, rows: NDArray[np.uint32]) -> None:
        """Gives rows back, emptied."""
        self.rows.data[rows] = b""
        self.holes.reach(self.open + len(rows))
        self.holes.data[self.open : self.open + len(rows)] = rows
        self.open += len(rows)


class Arena:
    """Byte strings without trailing NULs, each in the narrowest slab that holds it."""

    __slots__ = ("_of_length", "_slabs")

    def __init__(self, widths: Sequence[int] = TEXT_WIDTHS) -> None:
        assert len(widths) <= SLABS_MAX
        assert list(widths) == sorted(widths)
        self._slabs = [Slab(width) for width in widths]
        lengths = np.arange(widths[-1] + 1)
        self._of_length: NDArray[np.uint8] = np.searchsorted(np.array(widths), lengths).astype(np.uint8)

    def put(self, text: bytes) -> int:
        """The place of a new string; 0 for the empty one."""
        if not text:
            return 0
        number = self._of_length.item(len(text))
        slab = self._slabs[number]
        row = slab.claim()
        slab.rows.data[row] = text
        return (number + 1) << ROW_BITS | row

    def replace(self, place: int, text: bytes) -> int:
        """The place of a string that stands for the one at `place`, which is given up."""
        if place and text and (place >> ROW_BITS) - 1 == self._of_length.item(len(text)):
            self._slabs[(place >> ROW_BITS) - 1].rows.data[place & ROW_MASK] = text
            return place
        self.free(place)
        return self.put(text)

    def get(self, place: int) -> bytes:
        """The string at a place; empty at 0."""
        return self._slabs[(place >> ROW_BITS) - 1].rows.data.item(place & ROW_MASK) if place else b""

    def free(self, place: int) -> None:
        """Gives a place up; 0 is none."""
        if place:
            self._slabs[(place >> ROW_BITS) - 1].free(place & ROW_MASK)

    def put_many(self, texts: NDArray[np.bytes_]) -> NDArray[np.uint32]:
        """The places of new strings; 0 for empty ones."""
        lengths: NDArray[np.intp] = np.strings.str_len(texts)
        places = np.zeros(len(texts), np.uint32)
        for number, rows in self._by_slab(lengths):
            places[rows] = self._store(number, texts[rows])
        return places

    def put_list(self, texts: Sequence[bytes]) -> NDArray[np.uint32]:
        """The places of new strings, given as a list: one long string does not widen the others."""
        lengths = np.fromiter(map(len, texts), np.intp, len(texts))
        places = np.zeros(len(texts), np.uint32)
        for number, rows in self._by_slab(lengths):
            chosen = texts if isinstance(rows, slice) else [texts[row] for row in rows.tolist()]
            places[rows] = self._store(number, np.array(chosen, self._slabs[number].rows.data.dtype))
        return places

    def get_many(self, places: NDArray[np.uint32]) -> NDArray[np.bytes_]:
        """The strings at these places, as wide as the widest slab among them; empty at 0."""
        numbers = places >> ROW_BITS
        first = int(numbers[0]) if len(numbers) else 0
        if first and (numbers == first).all():
            return self._slabs[first - 1].rows.data.take(places & ROW_MASK)
        present = np.flatnonzero(np.bincount(numbers, minlength=1)).tolist()
        width = max((self._slabs[number - 1].width for number in present if number), default=1)
        texts = np.zeros(len(places), f"S{width}")
        for number in present:
            if number:
                rows = np.flatnonzero(numbers == number)
                texts[rows] = self._slabs[number - 1].rows.data.take(places[rows] & ROW_MASK)
        return texts

    def free_many(self, places: NDArray[np.uint32]) -> None:
        """Gives places up; 0 is none."""
        numbers = places >> ROW_BITS
        for number in np.flatnonzero(np.bincount(numbers, minlength=1)).tolist():
            if number:
                self._slabs[number - 1].free_many(places[numbers == number] & ROW_MASK)

    @property
    def nbytes(self) -> int:
        """Bytes held, free rows included."""
        return sum(slab.rows.nbytes + slab.holes.nbytes for slab in self._slabs)

    @property
    def text_bytes(self) -> int:
        """Bytes of the rows in use, padding included."""
        return sum((slab.used - slab.open) * slab.width for slab in self._slabs)

    def _by_slab(self, lengths: NDArray[np.intp]) -> list[tuple[int, NDArray[np.intp] | slice]]:
        if not len(lengths):
            return []
        numbers = self._of_length[lengths]
        if lengths.min() and (numbers == numbers[0]).all():
            return [(int(numbers[0]), slice(None))]
        present = np.flatnonzero(np.bincount(numbers)).tolist()
        return [(number, np.flatnonzero((numbers == number) & (lengths > 0))) for number in present]

    def _store(self, number: int, texts: NDArray[np.bytes_]) -> NDArray[np.uint32]:
        slab = self._slabs[number]
        rows = slab.claim_many(len(texts))
        slab.rows.data[rows] = texts
        if isinstance(rows, slice):
            rows = np.arange(rows.start, rows.stop, dtype=np.intp)
        places: NDArray[Any] = rows.astype(np.uint32) | np.uint32((number + 1) << ROW_BITS)
        return places
