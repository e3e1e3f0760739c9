"""Texts that many rows may share (aliases, e-mails, values of attributes): each at one number, counted, reused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pushd.targeting.columns import Column
from pushd.targeting.identities import Identities
from pushd.targeting.postings import groups


class Texts:
    """Texts of apps, numbered from 1. A number is taken by rows and dropped by them; dropped by the last it is free."""

    __slots__ = ("_apps", "_identities", "_open", "_takers", "_used", "_vacant")

    def __init__(self) -> None:
        self._apps = Column(np.int32)
        self._identities = Identities(self._apps)
        self._takers = Column(np.uint32)
        self._used = 1
        self._vacant = Column(np.uint32)
        self._open = 0
        self._reach(1)

    def find(self, app_id: int, text: str) -> int:
        """The number of a text; 0 when nobody has it."""
        return self._identities.find(app_id, text)

    def text(self, number: int) -> str:
        """The text of a number."""
        return self._identities.text(number)

    def take(self, app_id: int, text: str) -> int:
        """The number of a text, which one row more has now."""
        number = self._identities.find(app_id, text)
        if not number:
            (number,) = self._claim(1).tolist()
            self._apps.cells[number] = app_id
            self._identities.put(number, app_id, text)
        self._takers.cells[number] += 1
        return number

    def take_many(
        self, app_ids: NDArray[np.int32], texts: Sequence[str], times: NDArray[np.intp] | None = None
    ) -> NDArray[np.uint32]:
        """The numbers of these texts, each of which one row more (or `times` more) has now."""
        numbers = np.zeros(len(texts), np.uint32)
        for app_id, chosen in groups(app_ids):
            part = list(texts) if isinstance(chosen, slice) else [texts[row] for row in chosen.tolist()]
            places: dict[str, int] = {}
            inverse = np.fromiter((places.setdefault(text, len(places)) for text in part), np.intp, len(part))
            once = list(places)
            found = self._identities.find_many(app_id, once)
            new = np.flatnonzero(found == 0)
            if len(new):
                found[new] = self._claim(len(new))
                self._apps.data[found[new]] = app_id
                owners = np.full(len(new), app_id, np.int32)
                self._identities.put_many(found[new], owners, [once[row] for row in new.tolist()])
            more = np.bincount(inverse, None if times is None else times[chosen], len(once))
            self._takers.data[found] += more.astype(np.uint32)
            numbers[chosen] = found[inverse]
        return numbers

    def drop_many(self, numbers: NDArray[np.uint32]) -> None:
        """Notes that rows had these numbers, each as often as it stands here, and have them no more."""
        held, counts = np.unique(numbers[numbers != 0], return_counts=True)
        self._takers.data[held] -= counts.astype(np.uint32)
        gone = held[self._takers.data[held] == 0]
        if len(gone):
            self._identities.drop_many(gone)
            self._apps.data[gone] = 0
            self._vacant.reach(self._open + len(gone))
            self._vacant.data[self._open : self._open + len(gone)] = gone
            self._open += len(gone)

    @property
    def room(self) -> int:
        """Above every number so far."""
        return self._used

    @property
    def nbytes(self) -> int:
        """Bytes held, the texts left out."""
        return self._apps.nbytes + self._takers.nbytes + self._vacant.nbytes + self._identities.nbytes

    @property
    def text_nbytes(self) -> int:
        """Bytes held by the texts."""
        return self._identities.text_nbytes

    def __len__(self) -> int:
        return self._used - 1 - self._open

    def _claim(self, count: int) -> NDArray[np.uint32]:
        again = min(count, self._open)
        self._open -= again
        old = self._vacant.data[self._open : self._open + again].copy()
        new = np.arange(self._used, self._used + count - again, dtype=np.uint32)
        self._used += count - again
        self._reach(self._used)
        return np.concatenate((old, new))

    def _reach(self, rows: int) -> None:
        if rows > len(self._apps.data):
            self._apps.reach(rows)
            self._takers.reach(len(self._apps.data))
            self._identities.reach(len(self._apps.data))
