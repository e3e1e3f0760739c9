"""Audiences as bitmap algebra: their limits, their nodes in order, and the table of all leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce

from pushd.bitset import Devices
from pushd.errors import Fault, InvalidRequestError
from pushd.model import audience as model
from pushd.targeting import (
    leaves_attributes,
    leaves_facets,
    leaves_labels,
    leaves_names,
    leaves_past,
    leaves_places,
)
from pushd.targeting.definitions import children
from pushd.targeting.leaves_names import NAMING
from pushd.targeting.scope import Check, Leaf, Scope, Steps, union

DEPTH_MAX = 16
LEAVES_MAX = 1_000
"""Of one audience: bounds what a request makes us compute."""


def check(audience: model.Audience, pointer: str = "/audience") -> None:
    """Returns when the audience is within the limits and says something; else InvalidRequestError at its place."""
    leaves = gathered = 0
    for node, at, depth in walk(audience, pointer):
        if depth > DEPTH_MAX:
            raise _fault(at, f"an audience may be nested {DEPTH_MAX} deep")
        if children(node):
            continue
        leaves += 1
        if leaves > LEAVES_MAX:
            raise _fault(at, f"an audience may have {LEAVES_MAX} leaves")
        gathered += isinstance(node, leaves_past.GATHERED)
        if gathered > leaves_past.GATHERED_MAX:
            raise _fault(at, f"an audience may ask {leaves_past.GATHERED_MAX} times for installs and the past")
        for place, detail in CHECKS.get(type(node), _sound)(node):
            raise _fault(at + place, detail)
        if isinstance(node, model.Tags | model.Channels) and not (node.any or node.all or node.exclude):
            raise _fault(at, f"names no {type(node).__name__.lower()}: one of any, all and exclude is needed")


def names_people(audience: model.Audience) -> bool:
    """Whether the audience names people somewhere."""
    return any(isinstance(node, NAMING) for node, _, _ in walk(audience, ""))


def prefers_kinds(audience: model.Audience) -> bool:
    """Whether a device's part in the audience hangs on the others of its user."""
    return any(isinstance(node, model.PreferredKind) for node, _, _ in walk(audience, ""))


def walk(audience: model.Audience, pointer: str) -> Iterator[tuple[model.Audience, str, int]]:
    """Every node with its JSON pointer and depth (from 1), parents first, in the order they are written."""
    waiting = [(audience, pointer, 1)]
    while waiting:
        node, at, depth = waiting.pop()
        yield node, at, depth
        waiting.extend((child, at + place, depth + 1) for place, child in reversed(children(node)))


def _fault(pointer: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError("The audience is not valid", faults=[Fault(pointer, detail)])


def _sound(_: model.Audience) -> tuple[()]:
    return ()


def _broadcast(scope: Scope, _: model.Broadcast) -> Devices:
    return scope.everyone


def _and(scope: Scope, node: model.And) -> Steps:
    sets = []
    for child in node.of:
        if not isinstance(child, model.Not):
            sets.append((yield from scope.steps(child)))
            yield
    # The smallest first: what follows is then no larger.
    sets.sort(key=len)
    matched = reduce(Devices.__and__, sets) if sets else scope.everyone
    for child in node.of:
        if isinstance(child, model.Not):
            matched = matched - (yield from _excluded(scope, child))
            yield
    return matched


def _or(scope: Scope, node: model.Or) -> Steps:
    sets = []
    for child in node.of:
        sets.append((yield from scope.steps(child)))
        yield
    return (yield from union(iter(sets)))


def _not(scope: Scope, node: model.Not) -> Steps:
    return scope.everyone - (yield from _excluded(scope, node))


def _excluded(scope: Scope, node: model.Not) -> Steps:
    scope.excluding += 1
    excluded = yield from scope.steps(node.of)
    scope.excluding -= 1
    return excluded


CHECKS: Mapping[type, Check] = {
    **leaves_facets.CHECKS,
    **leaves_attributes.CHECKS,
    **leaves_past.CHECKS,
    **leaves_places.CHECKS,
}

LEAVES: Mapping[type, Leaf] = {
    model.Broadcast: _broadcast,
    model.And: _and,
    model.Or: _or,
    model.Not: _not,
    **leaves_names.LEAVES,
    **leaves_labels.LEAVES,
    **leaves_facets.LEAVES,
    **leaves_attributes.LEAVES,
    **leaves_past.LEAVES,
    **leaves_places.LEAVES,
}
"""What each sort of node matches; the leaves live in twins."""
