"""Leaves over what a device is and what its install runs on: kind, environment, versions, locale, days of sight."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pushd.bitset import Devices
from pushd.model import audience as model
from pushd.model.versions import version_key
from pushd.targeting.facets import DAY_S, Facet, fold
from pushd.targeting.scope import Check, Leaf, Scope, Steps, pieces, union, within

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
SECONDS_MAX = 2**32


def _platforms(scope: Scope, leaf: model.Platforms) -> Steps:
    return _any_of(scope, "platform", [platform.value for platform in leaf.any])


def _locales(scope: Scope, leaf: model.Locales) -> Steps:
    return _any_of(scope, "locale", leaf.any)


def _countries(scope: Scope, leaf: model.Countries) -> Steps:
    return _any_of(scope, "country", leaf.any)


def _time_zones(scope: Scope, leaf: model.TimeZones) -> Steps:
    return _any_of(scope, "time_zone", leaf.any)


def _any_of(scope: Scope, facet: Facet, names: list[str]) -> Steps:
    values = scope.tenant.facets.values[facet]
    return union(values.find(name) for name in dict.fromkeys(fold(facet, name) for name in names))


def _languages(scope: Scope, leaf: model.Languages) -> Steps:
    wanted = {fold("locale", name) for name in leaf.any}

    def speaks(locale: str) -> bool:
        ends = [at for at, letter in enumerate(locale) if letter in "-@"]
        return any(locale[:end] in wanted for end in (*ends, len(locale)))

    return union(scope.tenant.facets.values["locale"].where(speaks))


def _versions(facet: Facet) -> Callable[[Scope, model.AppVersion | model.OsVersion], Steps]:
    def versions(scope: Scope, leaf: model.AppVersion | model.OsVersion) -> Steps:
        compare, wanted = OPERATORS[leaf.op], version_key(leaf.value)

        def holds(name: str) -> bool:
            key = version_key(name)
            return key is not None and bool(compare(key, wanted))

        return union(scope.tenant.facets.values[facet].where(holds))

    return versions


def _environments(scope: Scope, leaf: model.Environments) -> Steps:
    routes = scope.population.routes
    return union(
        devices for route, devices in list(scope.tenant.routes.items()) if routes[route].environment is leaf.is_
    )


def _kinds(scope: Scope, leaf: model.Kinds) -> Steps:
    return union(scope.tenant.kinds.get(kind, Devices()) for kind in dict.fromkeys(leaf.any))


def _preferred_kind(scope: Scope, node: model.PreferredKind) -> Steps:
    if scope.retrying:
        # Which kind each had when it was sent stays as it was.
        return (yield from scope.steps(node.of))
    asked = scope.within
    if asked is not None:
        # What a device is beside counts too: the others of its user and install.
        scope.within = asked | scope.population.siblings(asked.column())
    rest = (yield from scope.steps(node.of)) & scope.tenant.reachable & scope.everyone
    scope.within = asked
    chosen = []
    for kind in dict.fromkeys(node.kinds):
        mine = rest & scope.tenant.kinds.get(kind, Devices())
        if mine:
            chosen.append(mine)
            rest = yield from _without_owners(scope, rest - mine, mine)
    return Devices.union(*chosen) if chosen else Devices()


def _without_owners(scope: Scope, devices: Devices, others: Devices) -> Steps:
    """Those of the devices whose user, or else install, has none of the others."""
    if not devices:
        return devices
    population = scope.population
    users, installs = population.devices.users, population.devices.installs
    owning = np.zeros(len(population.users.revisions.data), np.bool_)
    housing = np.zeros(max(1, len(population.homes.counts.data)), np.bool_)
    for ids in pieces(others):
        theirs = users.data[ids]
        owning[within(theirs, owning)] = True
        housing[within(installs.data[ids[theirs == 0]], housing)] = True
        yield
    owning[0], housing[0] = False, False
    gone = []
    for ids in pieces(devices):
        theirs = users.data[ids]
        beside = owning[within(theirs, owning)]
        free = np.flatnonzero(theirs == 0)
        beside[free] = housing[within(installs.data[ids[free]], housing)]
        gone.append(Devices.of(ids[beside]))
        yield
    return devices - Devices.union(*gone)


def _seen(scope: Scope, leaf: model.Seen) -> Steps:
    start, end = _bounds(scope, leaf)
    days = scope.tenant.facets.days[leaf.which]
    whole, edges = [], []
    for day, devices in sorted(days.items()):
        if start <= day * DAY_S and (day + 1) * DAY_S <= end:
            whole.append(devices)
        elif day * DAY_S < end and start < (day + 1) * DAY_S:
            edges.append(devices)
    matched = yield from union(iter(whole))
    column = scope.population.devices.sights(leaf.which)
    for devices in edges:
        for ids in pieces(devices if scope.within is None else devices & scope.within):
            seen = column.data[ids]
            matched = matched | Devices.of(ids[(seen >= start) & (seen < end)])
            yield
    return matched


def _bounds(scope: Scope, leaf: model.Seen) -> tuple[int, int]:
    """The seconds from which, and before which."""
    now = int(scope.now)
    start = max(1, leaf.since or 0, now - leaf.within_days * DAY_S if leaf.within_days else 0)
    end = SECONDS_MAX if leaf.before is None else leaf.before
    return start, min(end, max(0, now - leaf.older_than_days * DAY_S)) if leaf.older_than_days else end


def _user_known(scope: Scope, leaf: model.UserKnown) -> Devices:
    return scope.tenant.owned if leaf.is_ else scope.everyone - scope.tenant.owned


def _push_enabled(scope: Scope, leaf: model.PushEnabled) -> Devices:
    return scope.everyone - scope.tenant.disabled if leaf.is_ else scope.tenant.disabled


def _in_app_consent(scope: Scope, leaf: model.InAppConsent) -> Devices:
    return scope.everyone - scope.tenant.silent if leaf.is_ else scope.tenant.silent


def _bounded(leaf: model.Seen) -> Iterator[tuple[str, str]]:
    if leaf.since is leaf.before is leaf.within_days is leaf.older_than_days is None:
        yield "", "says no time: one of since, before, within_days and older_than_days is needed"


LEAVES: Mapping[type, Leaf] = {
    model.Platforms: _platforms,
    model.Environments: _environments,
    model.Kinds: _kinds,
    model.PreferredKind: _preferred_kind,
    model.AppVersion: _versions("app_version"),
    model.OsVersion: _versions("os_version"),
    model.Locales: _locales,
    model.Languages: _languages,
    model.Countries: _countries,
    model.TimeZones: _time_zones,
    model.Seen: _seen,
    model.UserKnown: _user_known,
    model.PushEnabled: _push_enabled,
    model.InAppConsent: _in_app_consent,
}
CHECKS: Mapping[type, Check] = {model.Seen: _bounded}
