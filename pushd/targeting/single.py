"""Audiences of one named person or install: most sends have one, and need no evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from pushd.bitset import Devices
from pushd.model.audience import And, Audience, Environments, Kinds, UserIds, UserNumbers
from pushd.model.device import Kind
from pushd.targeting.population import Population
from pushd.targeting.resolution import NONE_MISSING, Resolution
from pushd.targeting.tenants import Tenant

PARTS_MAX = 8
"""Of an audience that is looked through for one person; longer ones are evaluated."""
DEVICES_MAX = 32
"""Of one person that are looked at one by one."""
_Narrowing = Environments | Kinds


def one_user(
    population: Population, tenant: Tenant, app_id: int, audience: Audience, kinds: AbstractSet[Kind]
) -> Resolution | None:
    """The answer for one named user all of whose devices can be reached, as nearly everyone's can; else None.

    Exactly what an evaluation would say; beside the user the audience may ask for kinds and environments.
    """
    named: UserIds | UserNumbers | None = None
    narrowings: list[_Narrowing] = []
    if type(audience) is UserIds:
        named = audience
    else:
        for part in _parts(audience):
            if type(part) is Environments or type(part) is Kinds:
                narrowings.append(part)
            elif named is None and (type(part) is UserIds or type(part) is UserNumbers):
                named = part
            else:
                return None
    if named is None or len(named.ids) != 1:
        return None
    if isinstance(named, UserIds):
        user = population.identities.find(app_id, named.ids[0])
    else:
        user = named.ids[0] if named.ids[0] in tenant.users else 0
    (devices,) = reachable(population, tenant, (user,), kinds)
    if devices is None:
        return None
    if narrowings:
        if len(devices) > DEVICES_MAX:
            return None
        devices = Devices([device for device in devices if _is_asked(population, device, narrowings)])
    return Resolution(devices, {}, NONE_MISSING, NONE_MISSING, named=1)


def each_user(
    population: Population, tenant: Tenant, app_id: int, names: Sequence[str], kinds: AbstractSet[Kind]
) -> list[Devices | None]:
    """For each external id the devices of that user, where all of them can be reached; None for others.

    A set per user, as an evaluation would give to one who is asked for alone.
    """
    find = population.identities.find
    return reachable(population, tenant, [find(app_id, name) for name in names], kinds)


def reachable(
    population: Population, tenant: Tenant, users: Sequence[int], kinds: AbstractSet[Kind]
) -> list[Devices | None]:
    """For each number of a user (0: nobody) his devices, where there are any and all can be reached; else None."""
    of, can = population.owners.of, _reaching(tenant, kinds)
    found: list[Devices | None] = []
    for user in users:
        devices = Devices(of(user)) if user else None
        found.append(devices if devices and can(devices) else None)
    return found


def one_install(tenant: Tenant, ids: Sequence[int], kinds: AbstractSet[Kind]) -> Resolution | None:
    """The answer for one named install that has these devices, all of which can be reached; else None."""
    devices = Devices(ids)
    if not devices or not _reaching(tenant, kinds)(devices):
        return None
    return Resolution(devices, {}, NONE_MISSING, NONE_MISSING, named=1)


def _reaching(tenant: Tenant, kinds: AbstractSet[Kind]) -> Callable[[Devices], bool]:
    """Whether all of some devices can be reached and are of these kinds."""
    if tenant.kinds.keys() <= kinds:
        return lambda devices: devices.issubset(tenant.reachable)
    asked = [tenant.kinds[kind] for kind in tenant.kinds.keys() & kinds]

    def reaching(devices: Devices) -> bool:
        return devices.issubset(tenant.reachable) and sum(map(devices.intersection_cardinality, asked)) == len(devices)

    return reaching


def _parts(audience: Audience) -> list[Audience]:
    """What must all hold, conjunctions within conjunctions too; too many: the audience itself."""
    left, parts, seen = [audience], [], 0
    while left:
        part = left.pop()
        seen += 1
        if seen > PARTS_MAX:
            return [audience]
        if type(part) is And:
            left += part.of
        else:
            parts.append(part)
    return parts


def _is_asked(population: Population, device: int, narrowings: Sequence[_Narrowing]) -> bool:
    route = population.routes[population.devices.routes.cells[device]]
    for narrowing in narrowings:
        if isinstance(narrowing, Kinds):
            if route.kind not in narrowing.any:
                return False
        elif route.environment is not narrowing.is_:
            return False
    return True
