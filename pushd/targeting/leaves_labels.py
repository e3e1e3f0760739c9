"""Leaves over labels: devices by the tags that their install or their user carries."""

from __future__ import annotations

from collections.abc import Mapping

from pushd.bitset import Devices
from pushd.model import audience as model
from pushd.targeting.scope import SLICE_SETS, Leaf, Scope, Steps, union


def _tags(scope: Scope, leaf: model.Tags) -> Steps:
    def devices(name: str) -> Devices:
        tag = scope.tenant.tags.find(name)
        if tag is None:
            return Devices()
        if leaf.of == "either":
            return tag.own | tag.by_user
        return tag.own if leaf.of == "device" else tag.by_user

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


LEAVES: Mapping[type, Leaf] = {model.Tags: _tags}
