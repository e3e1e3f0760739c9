"""Leaves over places: devices in geofences, and devices of which it is known where they are.

A place is that of the moment in which a send is accepted: a retry does not ask again who has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pushd.bitset import Devices
from pushd.errors import Fault
from pushd.model import audience as model
from pushd.targeting.places import AppPlaces
from pushd.targeting.scope import Leaf, Scope, Steps, union


def _in_geofences(scope: Scope, leaf: model.InGeofences) -> Steps:
    if scope.retrying:
        return scope.assumed
    app = scope.population.places.app(scope.app_id)
    if app is None:
        return Devices()
    matched = yield from union(_members(app, leaf))
    return matched & scope.everyone


def _members(app: AppPlaces, leaf: model.InGeofences) -> Iterator[Devices]:
    """The sets of the fences that a leaf means; fences that are not there, or not enabled, hold nobody."""
    if leaf.ids:
        named = (app.fences.get(fence_id) for fence_id in dict.fromkeys(leaf.ids))
        return iter([fence.members for fence in named if fence is not None])
    tags = frozenset(tag.casefold() for tag in leaf.tags)
    return iter([fence.members for fence in app.fences.values() if leaf.any or tags & fence.tags])


def _located(scope: Scope, leaf: model.Located) -> Devices:
    if scope.retrying:
        return scope.assumed
    app = scope.population.places.app(scope.app_id)
    located = Devices() if app is None else app.located
    return scope.everyone & located if leaf.is_ else scope.everyone - located


LEAVES: Mapping[type, Leaf] = {model.InGeofences: _in_geofences, model.Located: _located}


def _check_in_geofences(leaf: model.InGeofences) -> Iterator[tuple[str, str]]:
    if sum(map(bool, (leaf.any, leaf.ids, leaf.tags))) != 1:
        yield "", "names no geofence, or names them in two ways: one of any, ids and tags is needed"


def unknown(app: AppPlaces | None, leaf: model.InGeofences, at: str) -> Iterator[Fault]:
    """A fault for every geofence that a leaf names by id and the app does not have."""
    for number, fence_id in enumerate(leaf.ids):
        if app is None or fence_id not in app.revisions:
            yield Fault(f"{at}/ids/{number}", "there is no such geofence")


CHECKS: Mapping[type, Callable[..., Iterator[tuple[str, str]]]] = {model.InGeofences: _check_in_geofences}
"""What is wrong with a leaf, each with its place in it."""
