"""Attributes of users as typed columns, sparse: a number, a text, a truth or a list of texts, by name and user."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Users
from pushd.model.attributes import NAMES_MAX, as_time
from pushd.targeting.columns import Column
from pushd.targeting.postings import AppTags, Carried
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


class Known(NamedTuple):
    """What is kept of a user's attributes: their numbers, and the labels of their values."""

    numbers: list[int]
    labels: list[int]


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

    def put(self, users: Sequence[int], values: Sequence[Mapping[str, Any]]) -> list[Known]:
        """Gives users that have none their attributes; the numbers of the attributes, and the labels, of each."""
        by_name: dict[str, tuple[list[int], list[Any]]] = {}
        for user, given in zip(users, values, strict=True):
            for name, value in given.items():
                if value is not None:
                    owners, kept = by_name.setdefault(name, ([], []))
                    owners.append(user)
                    kept.append(value)
        known = {user: Known([], []) for user in users}
        for name, (owners, kept) in by_name.items():
            number = self._learn(name)
            if number:
                labels = self._fill(self.columns[number - 1], owners, kept)
                for user, theirs in zip(owners, labels, strict=True):
                    known[user].numbers.append(number)
                    known[user].labels.extend(theirs)
        return [known[user] for user in users]

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

    def _fill(self, column: AttributeColumn, users: list[int], values: list[Any]) -> list[list[int]]:
        """The labels of each."""
        ids = np.array(users, np.uint32)
        column.reach(int(ids.max()) + 1)
        column.users |= Users.of(ids)
        types, numbers, texts = zip(*map(_typed, values), strict=True)
        column.types.data[ids] = types
        column.numbers.data[ids] = numbers
        rows = [row for row, text in enumerate(texts) if isinstance(text, str)]
        if rows:
            column.texts.data[ids[rows]] = self._take([texts[row] for row in rows])
        lists = [row for row, text in enumerate(texts) if isinstance(text, list)]
        if lists:
            counts = np.array([len(texts[row]) for row in lists], np.intp)
            members = self._take([text for row in lists for text in texts[row]])
            column.texts.data[ids[lists]] = self._lists.put_many(members, counts)
        return [self._labels(column, *row) for row in zip(types, numbers, texts, strict=True)]

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

    def _take(self, texts: list[str]) -> NDArray[np.uint32]:
        return self._texts.take_many(np.full(len(texts), self._app_id, np.int32), texts)

    def _empty(self, column: AttributeColumn, ids: NDArray[np.uint32]) -> None:
        types, texts = column.types.data[ids], column.texts.data[ids]
        self._texts.drop_many(texts[(types == Type.TEXT) | (types == Type.TIME)])
        lists = texts[types == Type.LIST]
        self._texts.drop_many(self._lists.get_many(lists)[1])
        self._lists.free_many(lists)
        for cells in (column.types, column.numbers, column.texts):
            cells.data[ids] = 0
        column.users -= Users.of(ids)


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
