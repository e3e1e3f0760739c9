"""Receipts in the store: taken in groups, known again by their event ids, folded into bitmaps in the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.clock import Clock
from pushd.errors import PushdError
from pushd.model.receipt import Event, Receipt
from pushd.service import Service
from pushd.store.badge_folds import BadgeFolder
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.habits import HabitStore
from pushd.store.receipt_folds import Folder
from pushd.store.times import moment

_TAKE = "SELECT * FROM take_receipts($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_NUMBERS = {event: event.number for event in Event}


class Taken(NamedTuple):
    """What became of receipts: how many are new, were known before, and name what the app does not have."""

    taken: int
    repeated: int
    unknown: int


@dataclass(frozen=True, slots=True)
class _Item:
    app_id: int
    receipts: Sequence[Receipt]
    install_id: str | None


class ReceiptStore(Service):
    """Receipts of every app."""

    def __init__(self, database: Database, clock: Clock, habits: HabitStore, badges: BadgeFolder) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._committer: Committer[_Item, Taken] = Committer("receipts", database.config, self._write, lanes=2)
        self.folder = Folder(database, clock, habits, badges)

    async def start(self) -> None:
        """Begins to take receipts, and to fold what was taken."""
        for part in (self._committer, self.folder):
            part.fatal = self.fatal
            await part.start()

    async def stop(self) -> None:
        """Takes no more."""
        await self.folder.stop()
        await self._committer.stop()
        await super().stop()

    async def take(self, app_id: int, receipts: Sequence[Receipt], install_id: str | None = None) -> Taken:
        """What became of them, committed; those that name no install are of `install_id`.

        Given again after an error they are counted once all the same. UnavailableError.
        """
        return await self._committer.begin(_Item(app_id, receipts, install_id), len(receipts))

    async def _write(self, items: Sequence[_Item]) -> Sequence[Taken | PushdError]:
        columns = _Columns()
        ends = [columns.add(item) for item in items]
        row = await self._database.fetchrow(
            _TAKE,
            moment(self._clock.now()),
            *columns.arguments(),
            timeout_s=self._database.config.write_timeout_s,
        )
        return _by_item(ends, row["taken"], row["repeated"])


class _Columns:
    """Receipts of many requests as columns; what they name stands once beside them, numbered from 1."""

    def __init__(self) -> None:
        self._sends: dict[tuple[int, int], int] = {}
        self._installs: dict[tuple[int, str | None], int] = {}
        self._receipts: list[Receipt] = []
        self._rows: tuple[list[int], list[int]] = ([], [])

    def add(self, item: _Item) -> int:
        """Takes a request in; how many receipts there are now."""
        app_id, sends, installs = item.app_id, self._sends, self._installs
        of_send, of_install = self._rows
        for each in item.receipts:
            of_send.append(sends.setdefault((app_id, each.notification_id), len(sends) + 1))
            of_install.append(installs.setdefault((app_id, each.install_id or item.install_id), len(installs) + 1))
        self._receipts += item.receipts
        return len(self._receipts)

    def arguments(self) -> list[Any]:
        """The arguments of take_receipts after the first."""
        receipts = self._receipts
        return [
            [app_id for app_id, _ in self._sends],
            [number for _, number in self._sends],
            [app_id for app_id, _ in self._installs],
            [name for _, name in self._installs],
            *self._rows,
            event_keys([each.id for each in receipts]).tolist(),
            [_NUMBERS[each.event] for each in receipts],
            [each.button for each in receipts],
            [each.at for each in receipts],
        ]


def event_keys(ids: Sequence[str]) -> NDArray[np.int64]:
    """What event ids are known by, as a column."""
    return np.frombuffer(b"".join([blake2b(each.encode(), digest_size=8).digest() for each in ids]), np.int64)


def _by_item(ends: Sequence[int], taken: Sequence[int], repeated: Sequence[int]) -> list[Taken]:
    """The counts of each request, whose rows end where `ends` says; rows are numbered from 1."""
    counts = [np.diff(np.searchsorted(np.array(rows, np.int64), [0, *ends], "right")) for rows in (taken, repeated)]
    sizes = np.diff([0, *ends])
    pairs = zip(*(count.tolist() for count in counts), sizes.tolist(), strict=True)
    return [Taken(new, known, size - new - known) for new, known, size in pairs]
