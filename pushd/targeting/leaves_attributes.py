"""The leaf over attributes of users: who has a value that compares, and what devices they have."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.model import audience as model
from pushd.model.attributes import as_time
from pushd.targeting.attributes import AttributeColumn, Type, Value
from pushd.targeting.leaves_facets import OPERATORS
from pushd.targeting.scope import Check, Leaf, Scope, Steps, pieces, pieces_of, union, within

FEW_SHARE = 16
"""Users whose devices are listed one by one, as a share of all devices: past it devices are asked for their users."""
TEXTS_AT_ONCE = 2_048
"""Texts that are compared before others may get their turn."""

TEXTS = (Type.TEXT, Type.TIME)

Chosen = Generator[None, None, Users]
Test = Callable[[NDArray[np.uint32]], NDArray[np.bool_]]
"""Which of these users, all of whom have the attribute, match."""


def _attribute(scope: Scope, leaf: model.Attribute) -> Steps:
    attributes = scope.population.attributes.get(scope.app_id)
    column = attributes.find(leaf.name) if attributes else None
    if column is None:
        return Devices()
    if not column.crowded:
        holds = _holds(leaf.op, leaf.value)
        tags = scope.tenant.tags.listed
        # Listed now: values may come to be labelled while this stands still.
        labels = [label for value, label in column.labels.items() if holds(value)]
        return (yield from union(tags[label - 1].by_user for label in labels))
    users = column.users
    if scope.within is not None:
        asked = scope.population.devices.users.data[(scope.within & scope.tenant.known).column()]
        users = users & Users.of(asked)
    if leaf.op != "exists":
        users = yield from _matching(scope, leaf, column, users)
    return (yield from _devices_of(scope, users))


def _holds(op: str, wanted: Any) -> Callable[[Value], bool]:
    """Whether a value matches, or a text in a list makes its list match."""
    if op == "exists":
        return lambda _: True
    if op in ("eq", "in"):
        same = {_comparable(each) for each in (wanted if isinstance(wanted, list) else [wanted])}
        return lambda value: (value.type, value.text if value.type is Type.TEXT else value.number) in same
    compare = OPERATORS.get(op)
    if compare is None:
        within_text = str.__contains__ if op == "contains" else str.startswith
        member = Type.MEMBER if op == "contains" else None
        return lambda value: (
            (value.type in TEXTS and within_text(value.text, wanted)) or (value.type is member and value.text == wanted)
        )
    kind, compared = _comparable(wanted)
    if kind is Type.TEXT:
        return lambda value: value.type in TEXTS and bool(compare(value.text, compared))
    if kind is Type.BOOLEAN and op != "ne":
        return lambda _: False
    return lambda value: value.type is kind and bool(compare(value.number, compared))


def _comparable(wanted: Any) -> tuple[Type, Any]:
    """A value that is asked for, with the type of those that it is compared with."""
    if isinstance(wanted, str):
        time = as_time(wanted)
        return (Type.TEXT, wanted) if time is None else (Type.TIME, time)
    return (Type.BOOLEAN if isinstance(wanted, bool) else Type.NUMBER), float(wanted)


def _matching(scope: Scope, leaf: model.Attribute, column: AttributeColumn, users: Users) -> Chosen:
    """Those of the users whose value matches."""
    if leaf.op in ("eq", "in"):
        test = _equal(scope, column, leaf.value if isinstance(leaf.value, list) else [leaf.value])
    elif isinstance(leaf.value, str):
        test = yield from _test_text(scope, leaf.op, leaf.value, column, users)
    else:
        test = _test_number(leaf.op, leaf.value, column)
    matched = Users()
    for ids in pieces(users):
        matched |= Users.of(ids[test(ids)])
        yield
    return matched


def _equal(scope: Scope, column: AttributeColumn, values: Sequence[Any]) -> Test:
    """Whether a value is one of these, which may be of any types."""
    numbers: dict[Type, list[float]] = {Type.NUMBER: [], Type.BOOLEAN: [], Type.TIME: []}
    texts = []
    for value in values:
        if not isinstance(value, str):
            numbers[Type.BOOLEAN if isinstance(value, bool) else Type.NUMBER].append(float(value))
        elif (time := as_time(value)) is not None:
            numbers[Type.TIME].append(time)
        elif number := scope.population.texts.find(scope.app_id, value):
            texts.append(number)

    def test(ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
        types, right = column.types.data[ids], np.zeros(len(ids), np.bool_)
        for kind, wanted in numbers.items():
            if wanted:
                right |= (types == kind) & np.isin(column.numbers.data[ids], wanted)
        if texts:
            right |= (types == Type.TEXT) & np.isin(column.texts.data[ids], texts)
        return right

    return test


def _test_number(op: str, value: Any, column: AttributeColumn) -> Test:
    if isinstance(value, bool):
        return _numeric(column, Type.BOOLEAN, op if op == "ne" else "", float(value))
    return _numeric(column, Type.NUMBER, op, float(value))


def _test_text(scope: Scope, op: str, value: str, column: AttributeColumn, users: Users) -> Generator[None, None, Test]:
    time = as_time(value)
    if time is not None and op in OPERATORS:
        return _numeric(column, Type.TIME, op, time)
    if op == "contains":
        textual = yield from _textual(scope, column, users, lambda text: value in text)
        listed = _listed(scope, column, scope.population.texts.find(scope.app_id, value))
        return lambda ids: textual(ids) | listed(ids)
    if op == "starts_with":
        return (yield from _textual(scope, column, users, lambda text: text.startswith(value)))
    compare = OPERATORS[op]
    return (yield from _textual(scope, column, users, lambda text: bool(compare(text, value))))


def _numeric(column: AttributeColumn, kind: Type, op: str, value: float) -> Test:
    compare = OPERATORS.get(op)

    def test(ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
        if compare is None:
            return np.zeros(len(ids), np.bool_)
        found: NDArray[np.bool_] = (column.types.data[ids] == kind) & compare(column.numbers.data[ids], value)
        return found

    return test


def _textual(
    scope: Scope, column: AttributeColumn, users: Users, holds: Callable[[str], bool]
) -> Generator[None, None, Test]:
    """Compares each text that is among the users once."""
    texts = scope.population.texts
    present = np.zeros(texts.room, np.bool_)
    for ids in pieces(users):
        present[within(column.texts.data[ids[_is_text(column, ids)]], present)] = True
        yield
    wanted = np.zeros(len(present), np.bool_)
    for numbers in pieces_of(np.flatnonzero(present[1:]) + 1, TEXTS_AT_ONCE):
        wanted[numbers] = [holds(texts.text(number)) for number in numbers.tolist()]
        yield
    return lambda ids: _is_text(column, ids) & wanted[within(column.texts.data[ids], wanted)]


def _listed(scope: Scope, column: AttributeColumn, number: int) -> Test:
    def test(ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
        right = np.zeros(len(ids), np.bool_)
        rows = np.flatnonzero(column.types.data[ids] == Type.LIST)
        if number and len(rows):
            positions, members = scope.population.carried.get_many(column.texts.data[ids[rows]])
            right[rows[positions[members == number]]] = True
        return right

    return test


def _is_text(column: AttributeColumn, ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
    types = column.types.data[ids]
    found: NDArray[np.bool_] = (types == Type.TEXT) | (types == Type.TIME)
    return found


def _devices_of(scope: Scope, users: Users) -> Steps:
    population = scope.population
    parts = []
    if scope.within is None and len(users) * FEW_SHARE <= len(scope.tenant.known):
        for ids in pieces(users, 1 << 15):
            parts.append(Devices.of(population.owners.of_many(ids)[1]))
            yield
    elif users:
        wanted = np.zeros(max(users.max() + 1, len(population.users.revisions.data)), np.bool_)
        wanted[users.column()] = True
        for ids in pieces(scope.everyone & scope.tenant.owned):
            theirs = population.devices.users.data[ids]
            parts.append(Devices.of(ids[wanted[within(theirs, wanted)]]))
            yield
    return Devices.union(*parts) if parts else Devices()


def _sound(leaf: model.Attribute) -> Iterator[tuple[str, str]]:
    value, op = leaf.value, leaf.op
    if op == "exists":
        if value is not None:
            yield "/value", "is not for exists"
    elif value is None:
        yield "/value", f"is required for {op}"
    elif isinstance(value, list) != (op == "in"):
        yield "/value", "is a list for in, and one value for others"
    elif op in ("contains", "starts_with") and not isinstance(value, str):
        yield "/value", f"is a text for {op}"


LEAVES: Mapping[type, Leaf] = {model.Attribute: _attribute}
CHECKS: Mapping[type, Check] = {model.Attribute: _sound}
