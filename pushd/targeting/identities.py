"""External id to user id: hash tables of four-byte cells, verified against the ids kept as text."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pushd.targeting.arena import Arena
from pushd.targeting.columns import Column

# Theory of operation. A cell holds a user id, 0 when empty; the user's hash and text are columns of their own. Probing
# is linear from the hash's home to the first empty cell. Homes grow with the hash, so one sort makes a table anew.
# Nothing is taken out of a table: an entry whose user has gone or has another text no longer matches, and is left
# behind when the table is next made anew. Many small tables instead of one keep that short.

TABLE_BITS = 6
"""64 tables: at 10 million users one is made anew in some 10 ms, well under what may hold the loop."""
HOME_BITS = 32 - TABLE_BITS
HOME_MASK = (1 << HOME_BITS) - 1
FILL_MAX = 0.75
FILL_NEW = 0.5
"""A table is made anew when it is three quarters full, and is then half full: 5 to 8 bytes an entry."""
CELLS_MIN = 16
WINDOW = np.arange(8)
"""Cells that a bulk look-up reads at once; more than half of all probes end within them."""
FEW_IDS = 2_000
"""Up to here a loop over single look-ups is faster than columns, which go through every table."""
COMPARED_BYTES_MAX = 1 << 22
COMPARED_ROWS = 16_384
"""Texts are compared as fixed-width columns, as wide as the longest; so many bytes, and rows, at a time."""
TABLES_AT_ONCE = 4
"""Tables that a bulk look-up goes through before others may get their turn."""

_MASK = (1 << 64) - 1
_APP_FACTOR = 0x9E3779B97F4A7C15
_MIX_FACTOR = 0xD6E8FEB86659FD93
"""Odd 64-bit constants (the golden ratio's, and one of Pelle Evensen's rrmxmx family): they spread app and hash."""


class Table:
    """One linear-probing table; its last cells are always empty, so that every probe ends."""

    __slots__ = ("cells", "data", "filled", "size")

    def __init__(self) -> None:
        self._allocate(CELLS_MIN, 0)

    def home(self, digest: int) -> int:
        """Where probing for this hash starts."""
        return (digest & HOME_MASK) * self.size >> HOME_BITS

    def homes(self, digests: NDArray[np.uint32]) -> NDArray[np.intp]:
        """Where probing for these hashes starts."""
        return ((digests & HOME_MASK).astype(np.uint64) * self.size >> HOME_BITS).astype(np.intp)

    def add(self, user: int, digest: int) -> bool:
        """Puts a user in; False when the table must be made anew first."""
        at = self.home(digest)
        while self.cells[at]:
            at += 1
        if self.filled >= self.size * FILL_MAX or at >= len(self.cells) - len(WINDOW):
            return False
        self.cells[at] = user
        self.filled += 1
        return True

    def add_many(self, users: NDArray[np.uint32], digests: NDArray[np.uint32]) -> bool:
        """Puts users in; False when the table must be made anew with them: some of them may be in it already."""
        if self.filled + len(users) > self.size * FILL_MAX:
            return False
        at = self.homes(digests)
        waiting = np.arange(len(users))
        last = len(self.data) - len(WINDOW)
        while len(waiting):
            spots = at[waiting]
            if spots.max() >= last:
                return False
            free = self.data[spots] == 0
            self.data[spots[free]] = users[waiting[free]]
            waiting = waiting[self.data[spots] != users[waiting]]  # of several on one cell, the last to write has it
            at[waiting] += 1
        self.filled += len(users)
        return True

    def renew(self, users: NDArray[np.uint32], digests: NDArray[np.uint32]) -> None:
        """Makes the table anew of these users, with room to grow."""
        order = np.argsort(digests & HOME_MASK, kind="stable")
        users, digests = users[order], digests[order]
        rows = np.arange(len(users))
        size, tail = max(CELLS_MIN, int(len(users) / FILL_NEW)), 0
        self.size = size
        # Each entry stands at its home, or right behind the one before it: a running maximum of (home - row).
        spots = np.maximum.accumulate(self.homes(digests) - rows) + rows
        tail = max(0, int(spots[-1]) + 1 - size) if len(users) else 0
        self._allocate(size, tail)
        self.data[spots] = users
        self.filled = len(users)

    def probe(
        self, digests: NDArray[np.uint32], of_users: NDArray[np.uint32]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        """Pairs (position in `digests`, user of that hash by the column `of_users`); empty cells may be among them."""
        waiting, at = np.arange(len(digests)), self.homes(digests)
        positions, found = [], []
        while len(waiting):
            users = self.data[at[:, None] + WINDOW]
            row, column = np.nonzero(of_users[users] == digests[waiting, None])
            positions.append(waiting[row])
            found.append(users[row, column])
            more = users.all(axis=1)
            waiting, at = waiting[more], at[more] + len(WINDOW)
        return np.concatenate(positions), np.concatenate(found)

    def _allocate(self, size: int, tail: int) -> None:
        self.size = size
        self.filled = 0
        self.data: NDArray[np.uint32] = np.zeros(size + tail + CELLS_MIN + (size >> 6), np.uint32)
        self.cells: memoryview[int] = self.data.data


class Identities:
    """External ids of users, each belonging to an app; of two users with one external id the newer is found."""

    __slots__ = ("_apps", "_digests", "_places", "_tables", "_texts")

    def __init__(self, apps: Column) -> None:
        self._apps = apps
        """App of each user, 0 for none: a column that the user table owns."""
        self._digests = Column(np.uint32)
        self._places = Column(np.uint32)
        self._texts = Arena()
        self._tables = [Table() for _ in range(1 << TABLE_BITS)]

    def reach(self, users: int) -> None:
        """Makes room for user ids below this."""
        self._digests.reach(users)
        self._places.reach(users)

    def find(self, app_id: int, text: str) -> int:
        """The user of this app with this external id; 0 when there is none."""
        digest, raw = _digest(app_id, text), None
        table = self._tables[digest >> HOME_BITS]
        cells, at, found = table.cells, table.home(digest), 0
        while user := cells[at]:
            if user > found and self._digests.cells[user] == digest and self._apps.cells[user] == app_id:
                raw = _raw(text) if raw is None else raw
                if self._texts.get(self._places.cells[user]) == raw:
                    found = user
            at += 1
        return found

    def find_many(self, app_id: int, texts: Sequence[str]) -> NDArray[np.uint32]:
        """The users of this app with these external ids; 0 where there is none."""
        steps = self.find_in_steps(app_id, texts)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: NDArray[np.uint32] = end.value
                return found

    def find_in_steps(self, app_id: int, texts: Sequence[str]) -> Generator[None, None, NDArray[np.uint32]]:
        """As `find_many`, standing still every few milliseconds; users may change meanwhile."""
        if len(texts) <= FEW_IDS:
            return np.array([self.find(app_id, text) for text in texts], np.uint32)
        digests = _digests(np.full(len(texts), app_id, np.int32), texts)
        yield
        order = np.argsort(digests >> HOME_BITS, kind="stable")
        cuts = np.searchsorted(digests[order] >> HOME_BITS, np.arange(len(self._tables) + 1)).tolist()
        yield
        pairs = []
        for number, (start, end) in enumerate(pairwise(cuts)):
            rows = order[start:end]
            if len(rows):
                positions, users = self._tables[number].probe(digests[rows], self._digests.data)
                pairs.append((rows[positions], users))
                if not number % TABLES_AT_ONCE:
                    yield
        rows = np.concatenate([rows for rows, _ in pairs])
        users = np.concatenate([users for _, users in pairs])
        again = np.argsort(rows, kind="stable")  # in the order of the texts, which lie in memory in that order
        rows, users = rows[again], users[again]
        yield
        raws = _raws(texts)
        yield
        found = np.zeros(len(texts), np.uint32)
        for start in range(0, len(rows), COMPARED_ROWS):
            part = slice(start, start + COMPARED_ROWS)
            right = self._verified(app_id, raws, rows[part], users[part])
            np.maximum.at(found, rows[part][right], users[part][right])
            yield
        return found

    def text(self, user: int) -> str:
        """The external id of a user; empty when it has none."""
        return self._texts.get(self._places.cells[user]).decode("utf-8", "surrogatepass")

    def put(self, user: int, app_id: int, text: str) -> None:
        """Gives a user its external id; the user table knows its app already."""
        raw = _raw(text)
        if self._texts.get(self._places.cells[user]) == raw:
            return
        digest = _digest(app_id, text)
        self._places.cells[user] = self._texts.replace(self._places.cells[user], raw)
        self._digests.cells[user] = digest
        table = self._tables[digest >> HOME_BITS]
        if not table.add(user, digest):
            self._renew(table, digest >> HOME_BITS, np.array([user], np.uint32))

    def put_many(self, users: NDArray[np.uint32], app_ids: NDArray[np.int32], texts: Sequence[str]) -> None:
        """Gives users that have none their external ids; the user table knows their apps already."""
        if len(users) <= FEW_IDS:
            for user, app_id, text in zip(users.tolist(), app_ids.tolist(), texts, strict=True):
                self.put(user, app_id, text)
            return
        digests = _digests(app_ids, texts)
        self._places.data[users] = self._texts.put_list(_raws(texts))
        self._digests.data[users] = digests
        order = np.argsort(digests >> HOME_BITS, kind="stable")
        users, digests = users[order], digests[order]
        cuts = np.searchsorted(digests >> HOME_BITS, np.arange(len(self._tables) + 1)).tolist()
        for number, table in enumerate(self._tables):
            rows = slice(cuts[number], cuts[number + 1])
            if rows.start < rows.stop and not table.add_many(users[rows], digests[rows]):
                self._renew(table, number, users[rows])

    def drop_many(self, users: NDArray[np.uint32]) -> None:
        """Takes the external ids from users."""
        self._texts.free_many(self._places.data[users])
        self._places.data[users] = 0

    @property
    def nbytes(self) -> int:
        """Bytes held, the texts left out."""
        tables = sum(table.data.nbytes for table in self._tables)
        return tables + self._digests.nbytes + self._places.nbytes

    @property
    def text_nbytes(self) -> int:
        """Bytes held by the texts."""
        return self._texts.nbytes

    def _renew(self, table: Table, number: int, joining: NDArray[np.uint32]) -> None:
        users = np.unique(np.concatenate((table.data[table.data != 0], joining)))
        users = users[self._places.data[users] != 0]
        users = users[self._digests.data[users] >> HOME_BITS == number]
        table.renew(users, self._digests.data[users])

    def _verified(
        self, app_id: int, raws: Sequence[bytes], rows: NDArray[np.intp], users: NDArray[np.uint32]
    ) -> NDArray[np.intp]:
        mine = np.flatnonzero(self._apps.data[users] == app_id)
        if not len(mine):
            return mine
        asked = [raws[row] for row in rows[mine].tolist()]
        step = max(1, COMPARED_BYTES_MAX // max(1, *map(len, asked)))
        right = np.zeros(len(mine), np.bool_)
        for start in range(0, len(mine), step):
            part = slice(start, start + step)
            right[part] = self._texts.get_many(self._places.data[users[mine[part]]]) == np.array(asked[part])
        return mine[right]


def _raw(text: str) -> bytes:
    # PostgreSQL holds no NUL; a text that ends in one must not match the padding, so it matches nothing.
    return text.encode("utf-8", "surrogatepass") if "\0" not in text else b"\xff"


def _raws(texts: Sequence[str]) -> list[bytes]:
    raws = "\0".join(texts).encode("utf-8", "surrogatepass").split(b"\0")
    return raws if len(raws) == len(texts) else [_raw(text) for text in texts]


def _digest(app_id: int, text: str) -> int:
    return (((hash(text) ^ (app_id * _APP_FACTOR)) & _MASK) * _MIX_FACTOR & _MASK) >> 32


def _digests(app_ids: NDArray[np.int32], texts: Sequence[str]) -> NDArray[np.uint32]:
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts)).view(np.uint64)
    apps = app_ids.astype(np.uint64) * np.uint64(_APP_FACTOR)
    return ((hashes ^ apps) * np.uint64(_MIX_FACTOR) >> np.uint64(32)).astype(np.uint32)
