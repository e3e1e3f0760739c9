"""Attributes of users as typed columns, sparse: a number, a text, a truth or a list of texts, by name and user."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Users
from pushd.model.attributes import NAMES_MAX, as_time
from pushd.targeting.columns import Column
from pushd.targeting.postings import AppTags, Carried, Pairs, merge
from pushd.targeting.texts import Texts


class Type(IntEnum):
    """What a user's value of an attribute is."""

    NUMBER = 1
    BOOLEAN = 2
    TEXT = 3
    TIME = 4
    """A text that is a time of RFC 3339; it is kept as both."""
    LIST = 5
    """Of texts; other members are not asked about."""
    OTHER = 6
    """Stored, and there; nothing else can be asked of it."""
    MEMBER = 7
    """A text in a list: only among labels."""


LABELS_MAX = 256
"""Different values of one attribute that have sets of devices of their own."""


class Value(NamedTuple):
    """A value, or a text in a list."""

    type: Type
    number: float
    text: str


class AttributeColumn:
    """The values of one attribute by user.

    Users are labelled with their values as they are with tags, so that the devices of a value are a set that is there
    already, as long as there are few values. Past that only the columns count.
    """

    __slots__ = ("crowded", "labels", "numbers", "texts", "types", "users")

    def __init__(self) -> None:
        self.labels: dict[Value, int] = {}
        """The number among the app's tags of each value that is labelled: once it is, it stays so."""
        self.crowded = False
        """There are values that are not labelled."""
        self.users = Users()
        """Who has it."""
        self.types = Column(np.uint8)
        self.numbers = Column(np.float64)
        """Numbers, truths (1 and 0), times in UNIX seconds."""
        self.texts = Column(np.uint32)
        """Numbers of texts; of a list its place among the lists."""

    @property
    def nbytes(self) -> int:
        """Bytes of the columns, those included that are not used and take no memory."""
        return self.types.nbytes + self.numbers.nbytes + self.texts.nbytes

    def reach(self, users: int) -> None:
        """Makes room for user ids below this."""
        for column in (self.types, self.numbers, self.texts):
            column.reach(users)


class Ragged(NamedTuple):
    """Lists one after another, with their lengths."""

    flat: Any
    counts: NDArray[np.intp]

    @classmethod
    def of(cls, lists: Sequence[Sequence[Any]]) -> Ragged:
        """These lists."""
        counts = np.fromiter(map(len, lists), np.intp, len(lists))
        return cls([each for part in lists for each in part], counts)

    def take(self, rows: NDArray[np.intp]) -> Pairs:
        """Pairs of a position in `rows` and a member of the list of that row."""
        starts, counts = np.cumsum(self.counts) - self.counts, self.counts[rows]
        ends = np.cumsum(counts)
        at = np.repeat(starts[rows] - (ends - counts), counts) + np.arange(int(counts.sum()))
        return np.repeat(np.arange(len(rows)), counts), self.flat[at]


class Attributes:
    """The attributes of an app's users."""

    __slots__ = ("_app_id", "_lists", "_names", "_tags", "_texts", "columns")

    def __init__(self, app_id: int, texts: Texts, lists: Carried, tags: AppTags) -> None:
        self._app_id = app_id
        self._tags = tags
        self._texts = texts
        self._lists = lists
        """Numbers of texts."""
        self._names: dict[str, int] = {}
        self.columns: list[AttributeColumn] = []

    def find(self, name: str) -> AttributeColumn | None:
        """The attribute of this name; None when nobody ever had it."""
        number = self._names.get(name)
        return self.columns[number - 1] if number else None

    def named(self) -> Iterator[tuple[str, AttributeColumn]]:
        """Every attribute by its name."""
        return ((name, self.columns[number - 1]) for name, number in self._names.items())

    def put(self, users: NDArray[np.uint32], values: Sequence[Mapping[str, Any]]) -> tuple[Pairs, Pairs]:
        """Gives users that have none their attributes.

        Pairs of a position in `users` and the number of an attribute, and others of a label, ordered by position.
        """
        by_name: dict[str, tuple[list[int], list[Any]]] = {}
        for at, given in enumerate(values):
            for name, value in given.items():
                if value is not None:
                    positions, kept = by_name.setdefault(name, ([], []))
                    positions.append(at)
                    kept.append(value)
        numbers: list[Pairs] = []
        labels: list[Pairs] = []
        for name, (positions, kept) in by_name.items():
            number = self._learn(name)
            if number:
                rows = np.array(positions, np.intp)
                numbers.append((rows, np.full(len(rows), number, np.uint32)))
                at_rows, theirs = self._fill(self.columns[number - 1], users[rows], kept)
                labels.append((rows[at_rows], theirs))
        return merge(numbers), merge(labels)

    def clear(self, users: Iterable[int], numbers: Iterable[Sequence[int]]) -> None:
        """Takes from users the attributes of these numbers, which are all that they have."""
        by_number: dict[int, list[int]] = {}
        for user, theirs in zip(users, numbers, strict=True):
            for number in theirs:
                by_number.setdefault(number, []).append(user)
        for number, owners in by_number.items():
            self._empty(self.columns[number - 1], np.array(owners, np.uint32))

    @property
    def nbytes(self) -> int:
        """Bytes of the columns, those included that are not used and take no memory."""
        return sum(column.nbytes for column in self.columns)

    def _learn(self, name: str) -> int:
        number = self._names.get(name)
        if number is None:
            if len(self.columns) >= NAMES_MAX:
                return 0
            self.columns.append(AttributeColumn())
            number = self._names[name] = len(self.columns)
        return number

    def _fill(self, column: AttributeColumn, ids: NDArray[np.uint32], values: list[Any]) -> Pairs:
        """The labels by position; what many have in common is looked at once."""
        column.reach(int(ids.max()) + 1)
        column.users |= Users.of(ids)
        places: dict[Any, int] = {}
        which = np.fromiter((places.setdefault(_key(value), len(places)) for value in values), np.intp, len(values))
        firsts = np.unique(which, return_index=True)[1].tolist()
        times = np.bincount(which, minlength=len(firsts))
        once = [_typed(values[row]) for row in firsts]
        types = np.array([typed[0] for typed in once], np.uint8)
        column.types.data[ids] = types[which]
        numbers = np.array([typed[1] for typed in once])
        if numbers.any():  # pages that are never written take no memory
            column.numbers.data[ids] = numbers[which]
        texts = np.zeros(len(once), np.uint32)
        rows = [row for row, typed in enumerate(once) if isinstance(typed[2], str)]
        texts[rows] = self._take([once[row][2] for row in rows], times[rows])
        if rows:
            column.texts.data[ids] = texts[which]
        members = Ragged.of([typed[2] if isinstance(typed[2], list) else [] for typed in once])
        if len(members.flat):
            taken = Ragged(self._take(members.flat, np.repeat(times, members.counts)), members.counts)
            lists = np.flatnonzero((types == Type.LIST)[which])
            flat = taken.take(which[lists])[1]
            column.texts.data[ids[lists]] = self._lists.put_many(flat, members.counts[which[lists]])
        labels = Ragged.of([self._labels(column, *typed) for typed in once])
        return Ragged(np.array(labels.flat, np.uint32), labels.counts).take(which)

    def _labels(self, column: AttributeColumn, kind: Type, number: float, text: str | list[str] | None) -> list[int]:
        if isinstance(text, list) and text:
            values = [Value(Type.MEMBER, 0.0, each) for each in text]
        else:
            values = [Value(kind, number, text if isinstance(text, str) else "")]
        found = []
        for value in values:
            label = column.labels.get(value)
            if label is None:
                if len(column.labels) >= LABELS_MAX:
                    column.crowded = True
                    continue
                label = column.labels[value] = self._tags.label()
            found.append(label)
        return found

    def _take(self, texts: list[Any], times: NDArray[np.intp]) -> NDArray[np.uint32]:
        return self._texts.take_many(np.full(len(texts), self._app_id, np.int32), texts, times)

    def _empty(self, column: AttributeColumn, ids: NDArray[np.uint32]) -> None:
        types, texts = column.types.data[ids], column.texts.data[ids]
        self._texts.drop_many(texts[(types == Type.TEXT) | (types == Type.TIME)])
        lists = texts[types == Type.LIST]
        self._texts.drop_many(self._lists.get_many(lists)[1])
        self._lists.free_many(lists)
        column.types.data[ids] = 0
        for cells in (column.numbers, column.texts):
            if cells.data[ids].any():
                cells.data[ids] = 0
        column.users -= Users.of(ids)


def _key(value: Any) -> Any:
    """What two values have in common that are typed alike."""
    if isinstance(value, list):
        return tuple(_texts_of(value))
    return None if isinstance(value, dict) else (value.__class__, value)


def _typed(value: Any) -> tuple[Type, float, str | list[str] | None]:
    """The type of a value, its number and its text or texts."""
    if isinstance(value, bool):
        return Type.BOOLEAN, float(value), None
    if isinstance(value, int | float):
        return (Type.NUMBER, float(value), None) if _fits(value) else (Type.OTHER, 0.0, None)
    if isinstance(value, str):
        time = as_time(value)
        return (Type.TEXT, 0.0, value) if time is None else (Type.TIME, time, value)
    if isinstance(value, list):
        return Type.LIST, 0.0, list(dict.fromkeys(_texts_of(value)))
    return Type.OTHER, 0.0, None


def _texts_of(values: list[Any]) -> list[str]:
    return [each for each in values if isinstance(each, str)]


def _fits(value: float) -> bool:
    return abs(value) < 1e300 and math.isfinite(value)
