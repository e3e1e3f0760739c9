"""Leaves of the past, whose devices were gathered from the store; installs by name; tags folded from the left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.model import audience as model
from pushd.targeting.scope import SLICE_SETS, Leaf, Scope, Steps

GATHERED = (model.Outcome, model.Opened, model.Installs)
"""Leaves whose devices the store knows and the index does not."""
GATHERED_MAX = 32
"""Of one audience: each reads bitmaps of millions of devices."""


class InstallDevices(Devices):
    """The devices of installs that a leaf names, with what tells which names are missing."""

    __slots__ = ("known", "names", "rows")

    names: list[str]
    """Of installs, each once, in the leaf's order."""
    known: NDArray[np.bool_]
    """By name: whether the app has such an install."""
    rows: NDArray[np.intp]
    """By device, ascending: the position of its install's name."""


def _outcome(scope: Scope, leaf: model.Outcome) -> Devices:
    return scope.assumed if scope.retrying else scope.gathered[id(leaf)] & scope.tenant.known


def _opened(scope: Scope, leaf: model.Opened) -> Devices:
    if scope.retrying:
        return scope.assumed
    opened = scope.gathered[id(leaf)]
    return scope.everyone & opened if leaf.is_ else scope.everyone - opened


def _installs(scope: Scope, leaf: model.Installs) -> Devices:
    if scope.retrying:
        return scope.assumed  # a device stays with its install
    devices = scope.gathered[id(leaf)]
    assert isinstance(devices, InstallDevices)
    matched = devices & scope.tenant.known
    if scope.reporting:
        reached = scope.reach(matched)
        subscribed = np.zeros(len(devices.known), np.bool_)
        subscribed[devices.rows[np.isin(devices.column(), reached.column())]] = True
        unknown = np.flatnonzero(~devices.known).tolist()
        scope.report("installs", devices.names, unknown, np.flatnonzero(~subscribed & devices.known).tolist())
    return matched


def _tags_segment(scope: Scope, leaf: model.TagsSegment) -> Steps:
    everyone = scope.everyone
    matched = Devices()
    for number, element in enumerate(leaf.elements):
        tag = scope.tenant.tags.find(element.name)
        tagged = Devices() if tag is None else tag.own | tag.by_user
        match element.association:
            case "AND":
                matched = matched & tagged if number else everyone & tagged
            case "AND_NOT":
                matched = matched - tagged if number else everyone - tagged
            case "OR":
                matched = matched | tagged
            case "OR_NOT":
                matched = matched | (everyone - tagged)
        if not (number + 1) % (SLICE_SETS // 4):
            yield
    return matched


LEAVES: Mapping[type, Leaf] = {
    model.Outcome: _outcome,
    model.Opened: _opened,
    model.Installs: _installs,
    model.TagsSegment: _tags_segment,
}


def _check_outcome(leaf: model.Outcome) -> Iterator[tuple[str, str]]:
    if leaf.reasons and leaf.is_ != "failed":
        yield "/reasons", "says why it failed: `is` must be failed"
    if leaf.buttons and leaf.is_ != "clicked":
        yield "/buttons", "says what was clicked: `is` must be clicked"


def _check_tags_segment(leaf: model.TagsSegment) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for at, element in enumerate(leaf.elements):
        folded = element.name.casefold()
        if folded in seen:
            yield f"/elements/{at}/name", "is there twice; tags are the same in any case"
        seen.add(folded)


CHECKS: Mapping[type, Callable[..., Iterator[tuple[str, str]]]] = {
    model.Outcome: _check_outcome,
    model.TagsSegment: _check_tags_segment,
}
"""What is wrong with a leaf, each with its place in it."""
