"""Who holds devices: whose they are, what they run on, what clocks show, when they want to be left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.model.time_zones import canonical
from pushd.targeting.population import Population
from pushd.targeting.tenants import Tenant

ANONYMOUS = 1 << 31
"""Marks the person behind an install that belongs to no user: the install's first device stands for it."""
QUIET_BITS = 21
"""Of packed quiet hours, below the number of the zone."""

Ids = NDArray[np.uint32]


class Holders:
    """Questions about devices, answered at once: who has many asks in slices.

    Columns that are answered are copies; ids that the index does not know have neither user nor zone.
    """

    __slots__ = ("_population",)

    def __init__(self, population: Population) -> None:
        self._population = population

    def users(self, ids: Ids) -> Ids:
        """The user of each device; 0: nobody."""
        found: Ids = self._population.devices.users.data[self._within(ids)]
        return found

    def owners(self, app_id: int, devices: Devices) -> Users:
        """The users whose devices these are; those that the app does not have are left out."""
        users = Users.of(self.users((devices & self._tenant(app_id).known).column()))
        users.discard(0)
        return users

    def persons(self, ids: Ids) -> Ids:
        """Who holds each device: its user, or an install that belongs to none, `ANONYMOUS`."""
        within = self._within(ids)
        persons: Ids = self._population.devices.users.data[within]
        alone = np.flatnonzero(persons == 0)
        if len(alone):
            persons[alone] = self._firsts(ids[alone], within[alone]) | np.uint32(ANONYMOUS)
        return persons

    def have_quiet_hours(self, app_id: int) -> int:
        """How many users of the app have quiet hours of their own."""
        return len(self._tenant(app_id).quiet)

    def has_quiet_hours(self, app_id: int, names: Sequence[str]) -> bool:
        """Whether any of these users, by external id, has quiet hours of his own."""
        quiet = self._population.users.quiet.cells
        return any(quiet[self._population.identities.find(app_id, name)] for name in names)

    def of_quiet_users(self, app_id: int, rows: int) -> Iterator[Devices]:
        """The devices of users with quiet hours, those of so many users at a time."""
        users = self._tenant(app_id).quiet.column()
        for start in range(0, len(users), rows):
            yield Devices.of(self._population.owners.of_many(users[start : start + rows])[1])

    def platforms(self, app_id: int, devices: Devices) -> dict[str, int]:
        """How many of these devices run on each platform; none with 0. Of some devices it is not known."""
        values = self._tenant(app_id).facets.values["platform"]
        counts = {name: devices.intersection_cardinality(values.find(name)) for name in values.names[1:]}
        return {name: count for name, count in sorted(counts.items()) if count}

    def clocks(self, ids: Ids) -> NDArray[np.uint64]:
        """Of each device the number of its time zone, and below it (`QUIET_BITS`) its user's quiet hours, packed."""
        population, within = self._population, self._within(ids)
        zones = population.profiles.numbers("time_zone", population.devices.profiles.data[within])
        quiet = population.users.quiet.data[population.devices.users.data[within]]
        clocks: NDArray[np.uint64] = zones.astype(np.uint64) << np.uint64(QUIET_BITS) | quiet
        return clocks

    def zone(self, app_id: int, number: int) -> str:
        """The time zone of a number, as IANA spells it; empty where there is none, or none of that name."""
        names = self._tenant(app_id).facets.values["time_zone"].names
        return canonical(names[number]) if number < len(names) else ""

    def time_zones(self, app_id: int) -> Iterator[tuple[str, Devices]]:
        """Time zones that are known and have devices, as IANA spells them, and the devices: the index's own sets."""
        values = self._tenant(app_id).facets.values["time_zone"]
        for folded, devices in [*zip(values.names, values.members, strict=True)]:
            if devices and (name := canonical(folded)):
                yield name, devices

    def _firsts(self, ids: Ids, within: Ids) -> Ids:
        """The first device of the install of each of these."""
        installs = self._population.devices.installs.data[within].astype(np.uint32)
        homes, places = np.unique(installs, return_inverse=True)
        positions, devices = self._population.homes.of_many(homes)
        firsts = np.full(len(homes), np.iinfo(np.uint32).max, np.uint32)
        np.minimum.at(firsts, positions, devices)
        found = firsts[places]
        return np.where((homes[places] != 0) & (found < ANONYMOUS), found, ids)

    def _tenant(self, app_id: int) -> Tenant:
        return self._population.tenants.get(app_id) or Tenant()

    def _within(self, ids: Ids) -> Ids:
        """The ids, those beyond the columns as 0, which is nobody."""
        size = len(self._population.devices.flags.data)
        return ids if not len(ids) or int(ids.max()) < size else np.where(ids < size, ids, np.uint32(0))
