"""The whole state of the index: tables of devices and users, who owns what, tags, routes, tenants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.model.device import GatewayName, Profile, Route, Shape
from pushd.model.rows import Postings
from pushd.targeting.attributes import Attributes
from pushd.targeting.columns import Column
from pushd.targeting.definitions import Definitions
from pushd.targeting.devices import DeviceTable, UserTable
from pushd.targeting.facets import Profiles
from pushd.targeting.identities import Identities
from pushd.targeting.owners import Owners
from pushd.targeting.places import Places
from pushd.targeting.postings import Carried, Pairs
from pushd.targeting.tenants import Tenant
from pushd.targeting.texts import Texts

MEMBERS_MAX = 8
"""Leaves whose ids are kept as sets."""


class Watching(Protocol):
    """Who is told of changes; `evaluation.Watch` is the implementation."""

    def touch(self, ids: NDArray[np.uint32]) -> None:
        """Notes devices of any app."""

    def remove_app(self, app_id: int) -> None:
        """Notes that an app went."""


class Population:
    """Everything that images change and audiences read; `device_images` and `user_images` keep it true."""

    __slots__ = (
        *("_members", "aliases", "attributes", "carried", "definitions", "devices", "emails", "homes"),
        *("identities", "owners", "places", "profiles", "removed", "routes", "tag_numbers", "tenants"),
        *("texts", "users", "watches"),
    )

    def __init__(self) -> None:
        self.devices = DeviceTable()
        self.users = UserTable()
        self.owners = Owners(Devices)
        self.homes = Owners(Devices)
        """By install."""
        self.aliases = Owners(Devices)
        """By the text's number."""
        self.emails = Owners(Users)
        """By the text's number."""
        self.texts = Texts()
        """Aliases, e-mail addresses in lower case, texts of attributes."""
        self.profiles = Profiles()
        self.attributes: dict[int, Attributes] = {}
        """By app."""
        self.identities = Identities(self.users.apps)
        self.carried = Carried()
        """Tag lists of devices and users."""
        self.tag_numbers = Column(np.uint32)
        """By tag id, its number within its app; 0: not met."""
        self.routes: dict[int, Route] = {}
        self.tenants: dict[int, Tenant] = {}
        self.definitions: dict[int, Definitions] = {}
        self.removed: set[int] = set()
        """Apps that are gone; app ids are never reused, and images of theirs that come late are ignored."""
        self.places = Places(self.touch)
        """Where devices are, and geofences."""
        self.watches: list[Watching] = []
        """Evaluations that stand still: they are told of every device that changes."""
        self._members: dict[int, tuple[object, frozenset[Any]]] = {}
        # Row 0, which is nobody: what is out of reach is looked up there.
        self.reach_devices(1)
        self.reach_users(1)

    def tenant(self, app_id: int) -> Tenant:
        """The sets of an app, made when it is met."""
        tenant = self.tenants.get(app_id)
        if tenant is None:
            tenant = self.tenants[app_id] = Tenant()
        return tenant

    def touch(self, ids: NDArray[np.uint32]) -> None:
        """Tells those that stand still which devices' part in an audience may have changed."""
        for watch in self.watches:
            watch.touch(ids)

    def siblings(self, ids: NDArray[np.uint32]) -> Devices:
        """The devices of the users, and of the installs, that these devices belong to."""
        ids = self.devices.present(ids)
        users, homes = self.devices.users.data[ids], self.devices.installs.data[ids].astype(np.uint32)
        theirs = self.owners.of_many(np.unique(users[users != 0]))[1]
        beside = self.homes.of_many(np.unique(homes[homes != 0]))[1]
        return Devices.of(np.concatenate((theirs, beside)))

    def shapes(self, tenant: Tenant) -> dict[GatewayName, set[Shape]]:
        """The shapes in which an app's devices read what they get, by gateway."""
        found: dict[GatewayName, set[Shape]] = {}
        for route_id in tenant.routes:
            route = self.routes[route_id]
            found.setdefault(route.kind.gateway, set()).add(route.shape)
        return found

    def members(self, leaf: object, ids: Sequence[Any]) -> frozenset[Any]:
        """The ids of a leaf as a set, kept for a while: a campaign's batches ask for the same one again and again."""
        held = self._members.get(id(leaf))
        if held is None or held[0] is not leaf:
            while len(self._members) >= MEMBERS_MAX:
                del self._members[next(iter(self._members))]
            held = self._members[id(leaf)] = leaf, frozenset(ids)
        return held[1]

    def learn_profiles(self, profiles: Mapping[int, Profile]) -> None:
        """Knows these profiles from now on."""
        self.profiles.learn(profiles, lambda app_id: self.tenant(app_id).facets)

    def attributes_of(self, app_id: int) -> Attributes:
        """The attributes of an app's users, made when the app is met."""
        attributes = self.attributes.get(app_id)
        if attributes is None:
            attributes = self.attributes[app_id] = Attributes(
                app_id, self.texts, self.carried, self.tenant(app_id).tags
            )
        return attributes

    def reach_texts(self, owners: Owners[Devices] | Owners[Users]) -> None:
        """Makes room for the numbers of all texts."""
        owners.reach(self.texts.room, 0)

    def reach_users(self, users: int) -> None:
        """Makes room for user ids below this."""
        if users > len(self.users.revisions.data):
            self.users.reach(users)
            self.identities.reach(users)
            self.owners.reach(users, 0)
            self.emails.reach(0, users)

    def reach_devices(self, devices: int) -> None:
        """Makes room for device ids below this."""
        if devices > len(self.devices.revisions.data):
            self.devices.reach(devices)
            for owners in (self.owners, self.homes, self.aliases):
                owners.reach(0, devices)

    def numbers(self, tenant: Tenant, tag_ids: Iterable[int], names: dict[int, str]) -> list[int]:
        """The numbers, within their app, of these tags."""
        found = []
        for tag_id in tag_ids:
            self.tag_numbers.reach(tag_id + 1)
            number = self.tag_numbers.cells[tag_id]
            if not number:
                number = self.tag_numbers.cells[tag_id] = tenant.tags.learn(names[tag_id])
            found.append(number)
        return found

    def numbers_of_rows(
        self, tags: Postings, rows: NDArray[np.intp], app_ids: NDArray[np.int32]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        """Pairs (position in `rows`, tag number) of these rows, whose apps stand beside them; ordered by position."""
        counts = (tags.offsets[rows + 1] - tags.offsets[rows]).astype(np.intp)
        total = int(counts.sum())
        if not total:
            return np.zeros(0, np.intp), np.zeros(0, np.uint32)
        positions = np.repeat(np.arange(len(rows)), counts)
        tag_ids = tags.ids[np.repeat(tags.offsets[rows] - (np.cumsum(counts) - counts), counts) + np.arange(total)]
        self.tag_numbers.reach(int(tag_ids.max()) + 1)
        numbers = self.tag_numbers.data[tag_ids]
        unmet = np.flatnonzero(numbers == 0)
        if len(unmet):
            new_ids, first = np.unique(tag_ids[unmet], return_index=True)
            for tag_id, app_id in zip(new_ids.tolist(), app_ids[positions[unmet[first]]].tolist(), strict=True):
                self.numbers(self.tenant(app_id), (tag_id,), tags.names)
            numbers = self.tag_numbers.data[tag_ids]
        return positions, numbers


def difference(before: Pairs, after: Pairs) -> tuple[Pairs, Pairs]:
    """The pairs that went and the pairs that came, each once and ordered by position and number."""
    if not len(before[0]) or not len(after[0]):
        return before, after
    # One sort of both, with the side in the lowest bit: what stands there on one side only went, or came.
    narrow = max(before[0].max(), after[0].max()) < 1 << 16 and max(before[1].max(), after[1].max()) < 1 << 15
    kind, bits = (np.uint32, 16) if narrow else (np.uint64, 33)
    keys = np.concatenate((_keys(before, kind, bits), _keys(after, kind, bits) | kind(1)))
    keys.sort()
    keys = keys[np.append(True, keys[1:] != keys[:-1])]
    paired = keys[1:] >> kind(1) == keys[:-1] >> kind(1)
    alone = keys[~(np.append(False, paired) | np.append(paired, False))]
    came = alone & kind(1) != 0
    return _pairs(alone[~came], bits), _pairs(alone[came], bits)


def _keys(pairs: Pairs, kind: Any, bits: int) -> NDArray[Any]:
    """Position, number, and a bit that is 0."""
    keys: NDArray[Any] = pairs[0].astype(kind) << kind(bits) | pairs[1].astype(kind) << kind(1)
    return keys


def _pairs(keys: NDArray[Any], bits: int) -> Pairs:
    kind = keys.dtype.type
    return (keys >> kind(bits)).astype(np.intp), (keys >> kind(1) & kind((1 << bits - 1) - 1)).astype(np.uint32)
