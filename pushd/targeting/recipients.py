"""Who gets an in-app message: the users of devices, and the installs among them that have none."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.targeting.population import Population
from pushd.targeting.scope import pieces, within
from pushd.targeting.tenants import Tenant


class Recipients(NamedTuple):
    """Recipients of an in-app message."""

    users: Users
    devices: Devices
    """Of installs that have no user."""
    installs: NDArray[np.intp]
    """The numbers of these installs, ascending."""

    def __len__(self) -> int:
        return len(self.users) + len(self.installs)

    @property
    def numbers(self) -> list[int]:
        """Users by their numbers, installs by minus theirs."""
        return [*self.users, *(-self.installs).tolist()]


async def recipients(population: Population, tenant: Tenant, devices: Devices) -> Recipients:
    """The recipients behind these devices of an app; others get their turn every millisecond or two."""
    users = Users()
    owned = devices & tenant.owned
    for ids in pieces(owned):
        users |= Users.of(population.devices.users.data[ids])
        await asyncio.sleep(0)
    users.discard(0)  # of devices that lost their user meanwhile
    alone = (devices & tenant.known) - owned
    housing = np.zeros(max(1, len(population.homes.counts.data)), np.bool_)
    for ids in pieces(alone):
        housing[within(population.devices.installs.data[ids], housing)] = True
        await asyncio.sleep(0)
    housing[0] = False
    return Recipients(users, alone, np.flatnonzero(housing))
