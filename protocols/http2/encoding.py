"""Header blocks of requests: what the peer's table holds, and plans compiled against it.

Theory of operation. The encoder seeds the peer's dynamic table in wire order while it has room, and never evicts: what
does not fit is a literal, so entries keep their order and only new ones shift the indices (the frozen table). A plan
compiles to octets between its varying values. The first block after new entries is the *seed*, which inserts them;
every later block is the *steady* one, which only refers to them. Steady pieces stay valid until the next insertion.

When the peer lowers its table below what is used, the next block empties the table by a size update to 0 and seeding
begins anew (RFC 7541 section 4.2).
"""

from __future__ import annotations

from typing import NamedTuple

from hpack.table import HeaderTable

from protocols.http2 import frames
from protocols.http2.plans import FIELD_OVERHEAD_BYTES, Field, HeaderPlan, Indexing, Variable

STATIC = HeaderTable.STATIC_TABLE_MAPPING
"""Name to (index, {value: index}), of RFC 7541 appendix A."""
DYNAMIC_FIRST = HeaderTable.STATIC_TABLE_LENGTH + 1
"""RFC 7541 section 2.3.3."""
PLANS_MAX = 512
"""Compiled plans kept; past it all are dropped and compiled anew as they come."""

Pieces = tuple[bytes, ...]
"""The constant octets of a block around its varying values: one more than there are variables."""


def integer(value: int, bits: int, pattern: int) -> bytes:
    """An integer behind the upper bits of its first octet (RFC 7541 section 5.1)."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((pattern | value,))
    out = bytearray((pattern | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(value: bytes) -> bytes:
    """A string literal without Huffman coding (RFC 7541 section 5.2)."""
    return integer(len(value), 7, 0) + value


class Table:
    """What we made the peer's decoder hold."""

    __slots__ = ("_exact", "_names", "_used", "capacity", "inserted")

    def __init__(self) -> None:
        self.capacity = frames.TABLE_BYTES_DEFAULT
        self.inserted = 0
        self._used = 0
        self._exact: dict[tuple[bytes, bytes], int] = {}
        self._names: dict[bytes, int] = {}

    def add(self, name: bytes, value: bytes) -> bool:
        """Whether the entry was inserted: only into free room, so that nothing is ever evicted."""
        size = FIELD_OVERHEAD_BYTES + len(name) + len(value)
        if self._used + size > self.capacity:
            return False
        self._used += size
        self._exact[name, value] = self._names[name] = self.inserted
        self.inserted += 1
        return True

    def index(self, name: bytes, value: bytes) -> int:
        """The index of the whole field, 0 for none."""
        static = STATIC.get(name)
        if static is not None and value in static[1]:
            return static[1][value]
        return self._index(self._exact.get((name, value)))

    def name_index(self, name: bytes) -> int:
        """An index whose name this is, 0 for none."""
        static = STATIC.get(name)
        return static[0] if static is not None else self._index(self._names.get(name))

    def resize(self, capacity: int) -> bool:
        """Sets the capacity; whether that emptied the table."""
        self.capacity = capacity
        if self._used <= capacity:
            return False
        self._used = self.inserted = 0
        self._exact.clear()
        self._names.clear()
        return True

    def _index(self, ordinal: int | None) -> int:
        return 0 if ordinal is None else DYNAMIC_FIRST + self.inserted - 1 - ordinal


class Compiled(NamedTuple):
    """A plan in octets."""

    seed: Pieces | None
    """For the next block alone, if it must tell the peer's table something."""
    steady: Pieces


class Encoder:
    """Compiles plans for one connection; the caller sends each seed that it is given as the connection's next block."""

    __slots__ = ("_compiled", "_table", "_updates")

    def __init__(self) -> None:
        self._table = Table()
        self._updates: list[int] = []
        self._compiled: dict[HeaderPlan, Pieces] = {}

    def resize(self, least: int, size: int) -> None:
        """Obeys the peer's HEADER_TABLE_SIZE; we never use more than 4,096 octets of it (T-33)."""
        least, size = min(least, frames.TABLE_BYTES_DEFAULT), min(size, frames.TABLE_BYTES_DEFAULT)
        before = self._table.capacity
        if least == before == size:
            return
        lowest = min([least, *self._updates])
        if self._table.resize(least):
            lowest = 0
            self._compiled.clear()
        self._table.capacity = size
        # At most two updates may open a block: the smallest size since the last block, then the present one.
        self._updates = [lowest, size] if lowest != size else [size]

    def compiled(self, plan: HeaderPlan) -> Compiled | None:
        """The octets of the plan's blocks where they are known and nothing has to be told before; else None."""
        steady = None if self._updates else self._compiled.get(plan)
        return None if steady is None else Compiled(None, steady)

    def compile(self, plan: HeaderPlan, first: list[bytes]) -> Compiled:
        """The octets of the plan's blocks; `first` are the whole varying values of the next row."""
        if (known := self.compiled(plan)) is not None:
            return known
        before = self._table.inserted
        seed = self._pieces(plan, first, insert=True)
        if self._table.inserted == before and not self._updates:
            steady = seed
        else:
            steady = self._pieces(plan, first, insert=False)
        if self._table.inserted != before:
            self._compiled.clear()  # every index moved
        if len(self._compiled) >= PLANS_MAX:
            self._compiled.clear()
        self._compiled[plan] = steady
        if steady is seed:
            return Compiled(None, steady)
        updates = b"".join(integer(size, 5, 0x20) for size in self._updates)
        self._updates = []
        return Compiled((updates + seed[0], *seed[1:]), steady)

    def _pieces(self, plan: HeaderPlan, first: list[bytes], *, insert: bool) -> Pieces:
        pieces, piece, values = [], bytearray(), iter(first)
        for field in plan.fields:
            if isinstance(field, Variable):
                piece += self._name(field.name, next(values), field.indexing, insert=insert)
                pieces.append(bytes(piece))
                piece.clear()
            else:
                piece += self._field(field, insert=insert)
        return (*pieces, bytes(piece))

    def _field(self, field: Field, *, insert: bool) -> bytes:
        name, value, indexing = field
        if indexing is not Indexing.NEVER:
            index = self._table.index(name, value)
            if index and (indexing is Indexing.INCREMENTAL or index < DYNAMIC_FIRST):
                return integer(index, 7, 0x80)
        if indexing is Indexing.INCREMENTAL and insert:
            index = self._table.name_index(name)
            if self._table.add(name, value):
                return (integer(index, 6, 0x40) if index else b"\x40" + string(name)) + string(value)
        return self._name(name, value, indexing, insert=insert) + string(value)

    def _name(self, name: bytes, value: bytes, indexing: Indexing, *, insert: bool) -> bytes:
        """The octets of a literal up to its value."""
        index = self._table.name_index(name)
        if not index and indexing is Indexing.WITHOUT and insert and self._table.add(name, value):
            return b"\x40" + string(name)
        pattern = 0x10 if indexing is Indexing.NEVER else 0x00
        return integer(index, 4, pattern) if index else bytes((pattern,)) + string(name)
