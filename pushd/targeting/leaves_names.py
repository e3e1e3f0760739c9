"""Leaves that name what they want: devices by id or alias, those of users by external or numeric id or e-mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.model import audience as model
from pushd.targeting.scope import SLICE_IDS, Leaf, Scope, Steps, each_once

SLICE_TEXTS = 1_024
"""Names that are looked up one by one before others may get their turn."""
FEW_USERS = 32
"""Up to here a loop over users is faster than columns."""

NAMING = (model.UserIds, model.UserNumbers, model.UserEmails, model.Aliases)
"""Leaves that name people: at a retry, their devices are asked for again."""


def _device_ids(scope: Scope, leaf: model.DeviceIds) -> Steps:
    if scope.within is not None and len(scope.within) < len(leaf.ids):
        wanted = scope.population.members(leaf, leaf.ids)
        yield
        return Devices(device for device in scope.everyone if device in wanted)
    parts: list[Devices] = []
    for ids in each_once(leaf.ids):
        if parts:
            yield
        parts.append(_some_devices(scope, ids))
    return parts[0] if len(parts) == 1 else Devices.union(*parts)


def _some_devices(scope: Scope, ids: Sequence[int]) -> Devices:
    matched = Devices(ids) & scope.tenant.known
    if scope.reporting:
        reached = scope.reach(matched)
        missing = [at for at, device in enumerate(ids) if device not in reached] if len(reached) < len(ids) else []
        unknown = [at for at in missing if ids[at] not in matched]
        scope.report("devices", ids, unknown, [at for at in missing if ids[at] in matched])
    return matched


def _user_ids(scope: Scope, leaf: model.UserIds) -> Steps:
    if scope.within is not None and len(scope.within) < len(leaf.ids):
        return (yield from _owned_by(scope, scope.within, leaf))
    identities, ids = scope.population.identities, leaf.ids
    if len(ids) <= FEW_USERS:
        ids = list(dict.fromkeys(ids))
        return _some_users(scope, "users", ids, [identities.find(scope.app_id, name) for name in ids])
    ids = []
    for part in each_once(leaf.ids):
        ids.extend(part)
        yield
    users = yield from identities.find_in_steps(scope.app_id, ids)
    parts = []
    for start in range(0, len(ids), SLICE_IDS):
        yield
        end = start + SLICE_IDS
        parts.append(_some_users(scope, "users", ids[start:end], users[start:end]))
    return Devices.union(*parts)


def _user_numbers(scope: Scope, leaf: model.UserNumbers) -> Steps:
    known = scope.tenant.users
    if scope.within is not None and len(scope.within) < len(leaf.ids):
        wanted = scope.population.members(leaf, leaf.ids)
        yield
        ids = scope.everyone.column()
        owners = scope.population.devices.users.data[ids].tolist()
        chosen = [owner in wanted and owner in known for owner in owners]
        return Devices.of(ids[np.array(chosen, np.bool_)])
    parts: list[Devices] = []
    for numbers in each_once(leaf.ids):
        if parts:
            yield
        named = [user if user in known else 0 for user in numbers]
        parts.append(_some_users(scope, "user_numbers", numbers, named))
    return parts[0] if len(parts) == 1 else Devices.union(*parts)


def _owned_by(scope: Scope, devices: Devices, leaf: model.UserIds) -> Steps:
    """Those of the devices whose users the leaf names: for a batch of a large leaf, that is less to look at."""
    population = scope.population
    yield
    names = population.members(leaf, leaf.ids)
    yield
    ids = (devices & scope.tenant.known).column()
    owners = population.devices.users.data[ids].tolist()
    return Devices(
        device
        for device, owner in zip(ids.tolist(), owners, strict=True)
        if owner and population.identities.text(owner) in names
    )


def _some_users(scope: Scope, group: str, ids: Sequence[Any], users: Sequence[int] | NDArray[np.uint32]) -> Devices:
    if len(ids) > FEW_USERS:
        return _many_users(scope, group, ids, np.asarray(users, np.uint32))
    sets = [Devices(scope.population.owners.of(int(user))) if user else Devices() for user in users]
    matched = sets[0] if len(sets) == 1 else Devices.union(*sets)
    if scope.reporting:
        reached = scope.reach(matched)
        missing = [at for at, devices in enumerate(sets) if devices.isdisjoint(reached)]
        unknown = [at for at in missing if not users[at]]
        scope.report(group, ids, unknown, [at for at in missing if users[at]])
    return matched


def _many_users(scope: Scope, group: str, ids: Sequence[Any], users: NDArray[np.uint32]) -> Devices:
    """As `_some_users`, in columns."""
    positions, devices = scope.population.owners.of_many(users)
    return _reported(scope, group, ids, users != 0, positions, devices)


def _user_emails(scope: Scope, leaf: model.UserEmails) -> Steps:
    population = scope.population
    if scope.within is not None and len(scope.within) < len(leaf.emails):
        names = population.members(leaf, [email.lower() for email in leaf.emails])
        ids = (scope.within & scope.tenant.known).column()
        numbers = population.users.emails.data[population.devices.users.data[ids]]
        return Devices.of(ids[_among(scope, numbers, names)])
    once: dict[str, str] = {}
    for start in range(0, len(leaf.emails), SLICE_IDS):
        yield
        for email in leaf.emails[start : start + SLICE_IDS]:
            once.setdefault(email.lower(), email)
    folded, given = list(once), list(once.values())
    parts = []
    for start in range(0, len(folded), SLICE_TEXTS):
        yield
        part = folded[start : start + SLICE_TEXTS]
        numbers = np.array([population.texts.find(scope.app_id, email) for email in part], np.uint32)
        rows, users = population.emails.of_many(numbers)
        at, devices = population.owners.of_many(users)
        known = np.zeros(len(part), np.bool_)
        known[rows] = True
        parts.append(_reported(scope, "emails", given[start : start + SLICE_TEXTS], known, rows[at], devices))
    return parts[0] if len(parts) == 1 else Devices.union(*parts)


def _aliases(scope: Scope, leaf: model.Aliases) -> Steps:
    population = scope.population
    if scope.within is not None and len(scope.within) < len(leaf.names):
        names = population.members(leaf, leaf.names)
        ids = (scope.within & scope.tenant.known).column()
        return Devices.of(ids[_among(scope, population.devices.aliases.data[ids], names)])
    given: list[str] = []
    for once in each_once(leaf.names):
        yield
        given.extend(once)
    parts = []
    for start in range(0, len(given), SLICE_TEXTS):
        yield
        part = given[start : start + SLICE_TEXTS]
        numbers = np.array([population.texts.find(scope.app_id, name) for name in part], np.uint32)
        rows, devices = population.aliases.of_many(numbers)
        known = np.zeros(len(part), np.bool_)
        known[rows] = True
        parts.append(_reported(scope, "aliases", part, known, rows, devices))
    return parts[0] if len(parts) == 1 else Devices.union(*parts)


def _among(scope: Scope, numbers: NDArray[np.uint32], names: frozenset[str]) -> NDArray[np.bool_]:
    """Which of these texts are among the names."""
    text = scope.population.texts.text
    return np.fromiter((number != 0 and text(number) in names for number in numbers.tolist()), np.bool_, len(numbers))


def _reported(
    scope: Scope,
    group: str,
    names: Sequence[Any],
    known: NDArray[np.bool_],
    positions: NDArray[np.intp],
    devices: NDArray[np.uint32],
) -> Devices:
    """The devices, once it is noted which names are unknown, and which have no device that can be reached."""
    matched = Devices.of(devices)
    if scope.reporting:
        subscribed = np.zeros(len(names), np.bool_)
        subscribed[positions[np.isin(devices, scope.reach(matched).column())]] = True
        scope.report(group, names, np.flatnonzero(~known).tolist(), np.flatnonzero(known & ~subscribed).tolist())
    return matched


LEAVES: Mapping[type, Leaf] = {
    model.DeviceIds: _device_ids,
    model.UserIds: _user_ids,
    model.UserNumbers: _user_numbers,
    model.UserEmails: _user_emails,
    model.Aliases: _aliases,
}
