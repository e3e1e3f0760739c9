"""Who is in a geofence: how many devices, and how many people."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from pushd.bitset import Bitset, Users
from pushd.targeting.population import Population

SLICE_ROWS = 65_536
"""Devices whose owners are looked up before others get their turn: some 2 ms."""


class Presence(NamedTuple):
    """How many are in a geofence now."""

    devices: int
    users: int
    """Users, and installs that belong to none."""


def presence(population: Population, app_id: int, geofence_id: int) -> Generator[None, None, Presence]:
    """How many are in a geofence, in steps; none in one that is not there or not enabled."""
    app = population.places.app(app_id)
    fence = None if app is None else app.fences.get(geofence_id)
    if fence is None:
        return Presence(0, 0)
    ids = population.devices.present(fence.members.column())
    users, installs = Users(), Bitset()
    for start in range(0, len(ids), SLICE_ROWS):
        if start:
            yield
        part = ids[start : start + SLICE_ROWS]
        owners = population.devices.users.data[part]
        users.update(Users.of(owners[owners != 0]))
        installs.update(Bitset.of(population.devices.installs.data[part[owners == 0]].astype(np.uint32)))
    installs.discard(0)
    return Presence(len(ids), len(users) + len(installs))
