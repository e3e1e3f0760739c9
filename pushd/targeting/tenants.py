"""The bitmaps of one app: its devices by route, kind and state, its users, its tags."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Bitset, Devices, Users
from pushd.model.device import Kind
from pushd.model.rows import DeviceFlag
from pushd.targeting.facets import AppFacets
from pushd.targeting.postings import AppTags

Key = TypeVar("Key")

STATES = int(DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED | DeviceFlag.RETIRED)
REACHABLE = int(DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED)
"""The flags, of those in `STATES`, of a device that can be sent to."""


IN_APP_KINDS = frozenset(Kind) - {Kind.APNS_CHANNEL}
"""Kinds of address behind which somebody may open the app."""


class Tenant:
    """Sets of one app. Callers read them and never change them, nor hand them out uncopied."""

    __slots__ = (
        *("disabled", "facets", "kinds", "known", "owned", "quiet", "reachable"),
        *("retired", "routes", "silent", "tags", "tokenless", "users"),
    )

    def __init__(self) -> None:
        self.known = Devices()
        self.reachable = Devices()
        self.retired = Devices()
        self.disabled = Devices()
        self.tokenless = Devices()
        self.silent = Devices()
        """Devices whose install takes no in-app messages."""
        self.routes: dict[int, Devices] = {}
        """By route id; every known device is in one."""
        self.kinds: dict[Kind, Devices] = {}
        """By kind; every known device is in one."""
        self.owned = Devices()
        """Devices that belong to a user."""
        self.facets = AppFacets()
        self.users = Users()
        self.quiet = Users()
        """Users with quiet hours of their own."""
        self.tags = AppTags()

    def admit(self, route_id: int, kind: Kind, device: int, flags: int) -> None:
        """Takes a device in, or its new state."""
        self.known.add(device)
        _group(self.routes, route_id).add(device)
        _group(self.kinds, kind).add(device)
        put(self.reachable, device, flags & STATES == REACHABLE)
        put(self.retired, device, flags & DeviceFlag.RETIRED != 0)
        put(self.disabled, device, flags & DeviceFlag.PUSH_ENABLED == 0)
        put(self.tokenless, device, flags & DeviceFlag.HAS_TOKEN == 0)
        put(self.silent, device, flags & DeviceFlag.NO_IN_APP != 0)

    def dismiss(self, route_id: int, kind: Kind, device: int) -> None:
        """Lets a device of this route go."""
        for bitmap in (self.routes[route_id], self.kinds[kind], *self._states()):
            bitmap.discard(device)
        self._tidy(route_id, kind)

    def admit_many(self, route_id: int, kind: Kind, ids: NDArray[np.uint32], flags: NDArray[np.uint8]) -> None:
        """Takes devices of one route in, or their new states."""
        joining = Devices.of(ids)
        self.known |= joining
        _group(self.routes, route_id).update(joining)
        _group(self.kinds, kind).update(joining)
        for bitmap, chosen in (
            (self.reachable, flags & STATES == REACHABLE),
            (self.retired, flags & DeviceFlag.RETIRED != 0),
            (self.disabled, flags & DeviceFlag.PUSH_ENABLED == 0),
            (self.tokenless, flags & DeviceFlag.HAS_TOKEN == 0),
            (self.silent, flags & DeviceFlag.NO_IN_APP != 0),
        ):
            bitmap.difference_update(joining)
            if chosen.all():
                bitmap.update(joining)
            elif chosen.any():
                bitmap.update(Devices.of(ids[chosen]))

    def dismiss_many(self, route_id: int, kind: Kind, ids: NDArray[np.uint32]) -> None:
        """Lets devices of one route go."""
        leaving = Devices.of(ids)
        for bitmap in (self.routes[route_id], self.kinds[kind], *self._states()):
            bitmap.difference_update(leaving)
        self._tidy(route_id, kind)

    def reach(self, matched: Devices, kinds: AbstractSet[Kind]) -> Devices:
        """Those of these devices that can be sent to and are of one of these kinds, as a set of its own."""
        return self.of_kinds(matched & self.reachable, kinds)

    def consenting(self, matched: Devices) -> Devices:
        """Those of these devices whose install takes in-app messages, reachable or not, as a set of its own."""
        return self.of_kinds(matched - self.silent, IN_APP_KINDS)

    def of_kinds(self, devices: Devices, kinds: AbstractSet[Kind]) -> Devices:
        """Those of these known devices that are of one of these kinds."""
        if self.kinds.keys() <= kinds:
            return devices
        chosen = [devices & self.kinds[kind] for kind in self.kinds.keys() & kinds]
        return Devices.union(*chosen) if chosen else Devices()

    def skipped(self, matched: Devices, sent: Devices, kinds: AbstractSet[Kind]) -> dict[str, int]:
        """How many of the matched devices are not sent to, by the first reason that holds."""
        rest = matched - sent
        if not rest:
            return {}
        asked = self.of_kinds(rest, kinds)
        counts = {"other_kind": len(rest) - len(asked)}
        for reason, bitmap in (
            ("retired", self.retired),
            ("push_disabled", self.disabled),
            ("no_token", self.tokenless),
        ):
            counts[reason] = asked.intersection_cardinality(bitmap)
            asked = asked - bitmap
        return {reason: count for reason, count in counts.items() if count}

    def bitmaps(self) -> Iterator[Bitset]:
        """Every set of the app."""
        yield self.users
        yield self.quiet
        yield self.owned
        yield from self.facets.bitmaps()
        yield from (*self._states(), *self.routes.values(), *self.kinds.values())
        for tag in self.tags.listed:
            yield tag.own
            yield tag.by_user

    def _states(self) -> tuple[Devices, ...]:
        return (self.known, self.reachable, self.retired, self.disabled, self.tokenless, self.silent)

    def _tidy(self, route_id: int, kind: Kind) -> None:
        if not self.routes[route_id]:
            del self.routes[route_id]
        if not self.kinds[kind]:
            del self.kinds[kind]


def _group(groups: dict[Key, Devices], key: Key) -> Devices:
    group = groups.get(key)
    if group is None:
        group = groups[key] = Devices()
    return group


def put(bitmap: Devices, device: int, member: bool) -> None:
    """Puts a device into a set, or takes it out."""
    if member:
        bitmap.add(device)
    else:
        bitmap.discard(device)
