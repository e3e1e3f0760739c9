"""Leaves over labels: devices by the tags and channels that their install or their user carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from pushd.bitset import Devices
from pushd.model import audience as model
from pushd.targeting.definitions import NOTHING
from pushd.targeting.population import Population
from pushd.targeting.scope import SLICE_SETS, Leaf, Scope, Steps, union


def _tags(scope: Scope, leaf: model.Tags) -> Steps:
    def devices(name: str) -> Devices:
        tag = scope.tenant.tags.find(name)
        if tag is None:
            return Devices()
        if leaf.of == "either":
            return tag.own | tag.by_user
        return tag.own if leaf.of == "device" else tag.by_user

    return (yield from _chosen(scope, leaf, devices))


def _channels(scope: Scope, leaf: model.Channels) -> Steps:
    return (yield from _chosen(scope, leaf, partial(subscribed, scope.population, scope.app_id)))


def subscribed(population: Population, app_id: int, channel: str) -> Devices:
    """The devices that are subscribed to a channel, by their install or their user; reachable or not."""
    label = population.definitions.get(app_id, NOTHING).channels.get(channel, 0)
    number = population.tag_numbers.cells[label] if label < len(population.tag_numbers.data) else 0
    if not number:  # nobody ever subscribed to it
        return Devices()
    posting = population.tenant(app_id).tags.listed[number - 1]
    return posting.own | posting.by_user


def _chosen(scope: Scope, leaf: model.Tags | model.Channels, devices: Callable[[str], Devices]) -> Steps:
    """The devices with any of `any`, all of `all` and none of `exclude`."""
    matched = scope.everyone
    if leaf.any:
        matched = yield from union(map(devices, leaf.any))
    for number, name in enumerate(leaf.all, start=1):
        matched = matched & devices(name) if leaf.any or number > 1 else devices(name)
        if not number % SLICE_SETS:
            yield
    for number, name in enumerate(leaf.exclude, start=1):
        matched = matched - devices(name)
        if not number % SLICE_SETS:
            yield
    return matched


LEAVES: Mapping[type, Leaf] = {model.Tags: _tags, model.Channels: _channels}
