"""Audiences as bitmap algebra: one function per leaf, in a table that later leaves are added to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import reduce
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.errors import Fault, InvalidRequestError
from pushd.model import audience as model
from pushd.model.device import Kind
from pushd.targeting.population import Population
from pushd.targeting.resolution import LISTED_MAX, Resolution
from pushd.targeting.tenants import Tenant

DEPTH_MAX = 16
LEAVES_MAX = 1_000
"""Of one audience: bounds what a request makes us compute."""
FEW_USERS = 32
"""Up to here a loop over users is faster than columns."""

Id = TypeVar("Id", int, str)

NAMING = (model.UserIds, model.UserNumbers)
"""Leaves that name users: at a retry, their devices are asked for again."""


def check(audience: model.Audience, pointer: str = "/audience") -> None:
    """Returns when the audience is within the limits and says something; else InvalidRequestError at its place."""
    leaves = 0
    for node, at, depth in walk(audience, pointer):
        if depth > DEPTH_MAX:
            raise _fault(at, f"an audience may be nested {DEPTH_MAX} deep")
        if isinstance(node, model.And | model.Or | model.Not):
            continue
        leaves += 1
        if leaves > LEAVES_MAX:
            raise _fault(at, f"an audience may have {LEAVES_MAX} leaves")
        if isinstance(node, model.Tags) and not (node.any or node.all or node.exclude):
            raise _fault(at, "names no tag: one of any, all and exclude is needed")


def names_users(audience: model.Audience) -> bool:
    """Whether the audience names users somewhere."""
    return any(isinstance(node, NAMING) for node, _, _ in walk(audience, ""))


def walk(audience: model.Audience, pointer: str) -> Iterator[tuple[model.Audience, str, int]]:
    """Every node with its JSON pointer and depth (from 1), parents first, in the order they are written."""
    waiting = [(audience, pointer, 1)]
    while waiting:
        node, at, depth = waiting.pop()
        yield node, at, depth
        if isinstance(node, model.Not):
            waiting.append((node.of, f"{at}/of", depth + 1))
        elif isinstance(node, model.And | model.Or):
            waiting.extend(
                (child, f"{at}/of/{number}", depth + 1) for number, child in reversed(list(enumerate(node.of)))
            )


def _fault(pointer: str, detail: str) -> InvalidRequestError:
    return InvalidRequestError("The audience is not valid", faults=[Fault(pointer, detail)])


class Scope:
    """One evaluation: whose sets, which kinds, and what was found missing.

    Leaves return known devices of the app, reachable or not, as sets that nobody changes: they may be the index's own.
    """

    __slots__ = ("app_id", "excluding", "found", "kinds", "known_users", "population", "tenant", "within")

    def __init__(
        self,
        population: Population,
        app_id: int,
        tenant: Tenant,
        kinds: AbstractSet[Kind],
        *,
        within: Devices | None = None,
        known_users: Mapping[int, NDArray[np.uint32]] | None = None,
    ) -> None:
        self.population = population
        self.app_id = app_id
        self.tenant = tenant
        self.kinds = kinds
        self.within = within
        """Where given, only these devices are asked about, and nothing is reported missing."""
        self.known_users = known_users or {}
        """Users that were looked up before, in the order of the ids of a leaf, by the leaf's identity."""
        self.excluding = 0
        """How many `Not` are around: what they name need not exist."""
        self.found = Resolution(Devices(), {})

    def evaluate(self, audience: model.Audience) -> Devices:
        """The known devices that the audience matches."""
        return LEAVES[type(audience)](self, audience)

    def report(self, group: str, ids: Sequence[int | str], unknown: Sequence[int], unsubscribed: Sequence[int]) -> None:
        """Notes what a leaf names, and at which positions stand those that are missing, in request order."""
        found = self.found
        found.named += len(ids)
        if len(unknown) or len(unsubscribed):
            found.missing += len(unknown) + len(unsubscribed)
            for lists, positions in ((found.unknown, unknown), (found.unsubscribed, unsubscribed)):
                listed: list[Any] = lists[group]
                listed.extend(ids[at] for at in islice(positions, LISTED_MAX - len(listed)))


def _broadcast(scope: Scope, _: model.Broadcast) -> Devices:
    return scope.tenant.known


def _device_ids(scope: Scope, leaf: model.DeviceIds) -> Devices:
    named = Devices(leaf.ids)
    matched = named & scope.tenant.known
    if not scope.excluding:
        ids = leaf.ids if len(named) == len(leaf.ids) else list(dict.fromkeys(leaf.ids))
        reached = scope.tenant.reach(matched, scope.kinds)
        missing = [at for at, device in enumerate(ids) if device not in reached] if len(reached) < len(ids) else []
        unknown = [at for at in missing if ids[at] not in matched]
        scope.report("devices", ids, unknown, [at for at in missing if ids[at] in matched])
    return matched


def _user_ids(scope: Scope, leaf: model.UserIds) -> Devices:
    if scope.within is not None and len(scope.within) < len(leaf.ids):
        return _owned_by(scope, scope.within, leaf)
    users = scope.known_users.get(id(leaf))
    if users is not None:
        return _many_users(scope, "users", leaf.ids, users)
    ids = _once(leaf.ids)
    if len(ids) > FEW_USERS:
        return _many_users(scope, "users", ids, scope.population.identities.find_many(scope.app_id, ids))
    return _few_users(scope, "users", ids, [scope.population.identities.find(scope.app_id, name) for name in ids])


def _owned_by(scope: Scope, devices: Devices, leaf: model.UserIds) -> Devices:
    """Those of the devices whose users the leaf names: for a batch of a large leaf, that is less to look at."""
    names, population = frozenset(leaf.ids), scope.population
    ids = (devices & scope.tenant.known).column()
    owners = population.devices.users.data[ids].tolist()
    return Devices(
        device
        for device, owner in zip(ids.tolist(), owners, strict=True)
        if owner and population.identities.text(owner) in names
    )


def _user_numbers(scope: Scope, leaf: model.UserNumbers) -> Devices:
    ids, known = _once(leaf.ids), scope.tenant.users
    users = [user if user in known else 0 for user in ids]
    if len(ids) > FEW_USERS:
        return _many_users(scope, "user_numbers", ids, np.array(users, np.uint32))
    return _few_users(scope, "user_numbers", ids, users)


def _once(ids: list[Id]) -> list[Id]:
    return ids if len(ids) == 1 else list(dict.fromkeys(ids))


def _few_users(scope: Scope, group: str, ids: Sequence[int | str], users: list[int]) -> Devices:
    """The devices of these users, who stand beside the ids that named them; 0: unknown."""
    sets = [Devices(scope.population.owners.of(user)) if user else Devices() for user in users]
    matched = sets[0] if len(sets) == 1 else Devices.union(*sets)
    if not scope.excluding:
        reached = scope.tenant.reach(matched, scope.kinds)
        missing = [at for at, devices in enumerate(sets) if devices.isdisjoint(reached)]
        unknown = [at for at in missing if not users[at]]
        scope.report(group, ids, unknown, [at for at in missing if users[at]])
    return matched


def _many_users(scope: Scope, group: str, ids: Sequence[int | str], users: NDArray[np.uint32]) -> Devices:
    """As `_few_users`, in columns."""
    positions, devices = scope.population.owners.of_many(users)
    matched = Devices.of(devices)
    if not scope.excluding:
        subscribed = np.zeros(len(users), np.bool_)
        subscribed[positions[np.isin(devices, scope.tenant.reach(matched, scope.kinds).column())]] = True
        unknown = np.flatnonzero(users == 0).tolist()
        scope.report(group, ids, unknown, np.flatnonzero(~subscribed & (users != 0)).tolist())
    return matched


def _tags(scope: Scope, leaf: model.Tags) -> Devices:
    def devices(name: str) -> Devices:
        tag = scope.tenant.tags.find(name)
        if tag is None:
            return Devices()
        if leaf.of == "either":
            return tag.own | tag.by_user
        return tag.own if leaf.of == "device" else tag.by_user

    sets = [devices(name) for name in leaf.all]
    if leaf.any:
        sets.append(Devices.union(*map(devices, leaf.any)))
    matched = _intersection(sets) if sets else scope.tenant.known
    return reduce(lambda rest, name: rest - devices(name), leaf.exclude, matched)


def _and(scope: Scope, node: model.And) -> Devices:
    matched = _intersection(
        [scope.evaluate(child) for child in node.of if not isinstance(child, model.Not)] or [scope.tenant.known]
    )
    for child in node.of:
        if isinstance(child, model.Not):
            matched = matched - _excluded(scope, child)
    return matched


def _or(scope: Scope, node: model.Or) -> Devices:
    return Devices.union(*(scope.evaluate(child) for child in node.of))


def _not(scope: Scope, node: model.Not) -> Devices:
    return scope.tenant.known - _excluded(scope, node)


def _excluded(scope: Scope, node: model.Not) -> Devices:
    scope.excluding += 1
    excluded = scope.evaluate(node.of)
    scope.excluding -= 1
    return excluded


def _intersection(sets: list[Devices]) -> Devices:
    # The smallest first: what follows is then no larger.
    sets.sort(key=len)
    return reduce(Devices.__and__, sets)


LEAVES: dict[type, Callable[[Scope, Any], Devices]] = {
    model.Broadcast: _broadcast,
    model.DeviceIds: _device_ids,
    model.UserIds: _user_ids,
    model.UserNumbers: _user_numbers,
    model.Tags: _tags,
    model.And: _and,
    model.Or: _or,
    model.Not: _not,
}
