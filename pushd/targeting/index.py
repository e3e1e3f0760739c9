"""The targeting index: who is there, kept true by row images, and whom an audience reaches."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from pushd.badges import Badges
from pushd.bitset import Devices, Users
from pushd.clock import Clock, SystemClock
from pushd.errors import InvalidRequestError
from pushd.model.audience import Audience, Broadcast, InGeofences
from pushd.model.device import GatewayName, Kind, Route, Shape
from pushd.model.geofence import FenceImage, LocationRows
from pushd.model.rows import DeviceFlag, DeviceRows, UserRows
from pushd.targeting import (
    audiences,
    device_images,
    evaluation,
    leaves_labels,
    leaves_places,
    likeness,
    single,
    user_images,
)
from pushd.targeting.definitions import NOTHING, Definitions, expand, has_segments, stands_in, unknown
from pushd.targeting.holders import Holders
from pushd.targeting.likeness import Differences
from pushd.targeting.people import People
from pushd.targeting.places import Places
from pushd.targeting.population import Population
from pushd.targeting.presence import Presence, presence
from pushd.targeting.recipients import Recipients, recipients
from pushd.targeting.removal import removal
from pushd.targeting.resolution import Addresses, Resolution
from pushd.targeting.scope import Scope, Steps
from pushd.targeting.statistics import statistics
from pushd.targeting.tenants import Tenant

__all__ = ["Addresses", "Index", "Resolution"]

USERS_AT_ONCE, DEVICES_AT_ONCE = 1_024, 2_048
"""Images that are taken in before others get their turn: up to 10 ms, with attributes and e-mail addresses of all."""
FEW_DEVICES = 16
"""Up to here routes are looked up by device rather than by route."""


class Index:
    """Every app's devices and users.

    Images change it, each only where its revision is newer than what is known, in any order; questions never do. It
    lives on the event loop: each call is whole before the next begins.
    """

    def __init__(self, clock: Clock | None = None, badges: Badges | None = None) -> None:
        self._population = Population()
        self.badges = badges or Badges()
        """What is counted for each device, kept by the store."""
        self._clock = clock or SystemClock()
        self.version = 0
        """Grows with every image that is taken in: what was read at this version is still so."""

    def apply_devices(self, rows: DeviceRows) -> None:
        """Takes in images of devices, the newer ones."""
        self.version += 1
        self._population.touch(rows.ids)  # with whom they are now, and then with whom they will be
        device_images.apply_devices(self._population, rows)
        self._population.touch(rows.ids)
        self._population.places.forget(rows.ids[rows.flags & DeviceFlag.DELETED != 0])

    def apply_users(self, rows: UserRows) -> None:
        """Takes in images of users, the newer ones."""
        self.version += 1
        user_images.apply_users(self._population, rows)
        if self._population.watches:
            self._population.touch(self._population.owners.of_many(rows.ids)[1])

    @property
    def places(self) -> Places:
        """Geofences and where devices are, to be asked; what changes them goes through the index."""
        return self._population.places

    @property
    def holders(self) -> Holders:
        """Whose devices are, what they run on, and their clocks and quiet hours, to be asked."""
        return Holders(self._population)

    def apply_locations(self, rows: LocationRows) -> None:
        """Takes in where devices are, what is newer."""
        self.version += 1
        self._population.places.apply(rows)

    def load_locations(self, rows: LocationRows) -> None:
        """Takes in where installs are: rows whose ids are theirs, for all their devices."""
        at, devices = self._population.homes.of_many(rows.ids)
        self.apply_locations(rows.of(devices, at))

    def forget_locations(self, ids: NDArray[np.uint32]) -> None:
        """Forgets where devices are."""
        self.version += 1
        self._population.places.forget(ids)

    def settle_places(self, *, sort: bool = False) -> Iterator[None]:
        """Works out who is in the fences that came, in slices; `sort` where nobody waits meanwhile."""
        for _ in self._population.places.settle(sort=sort):
            self.version += 1
            yield
        self.version += 1

    def define_geofence(self, image: FenceImage) -> None:
        """Takes a geofence in, or its new state, where its revision is newer."""
        self.version += 1
        self._population.places.define(image)

    def remove_geofence(self, geofence_id: int) -> None:
        """Forgets a geofence for good."""
        self.version += 1
        self._population.places.remove(geofence_id)

    def presence(self, app_id: int, geofence_id: int) -> Generator[None, None, Presence]:
        """How many are in a geofence, in steps."""
        return presence(self._population, app_id, geofence_id)

    async def take_in(self, *, users: UserRows | None = None, devices: DeviceRows | None = None) -> None:
        """Takes in images, users first, a thousand or two at a time; others get their turn between."""
        for some in users.parts(USERS_AT_ONCE) if users is not None else ():
            self.apply_users(some)
            if users is not some:
                await asyncio.sleep(0)
        if users is not None and devices is not None:
            await asyncio.sleep(0)
        for part in devices.parts(DEVICES_AT_ONCE) if devices is not None else ():
            self.apply_devices(part)
            if devices is not part:
                await asyncio.sleep(0)

    def remove_app(self, app_id: int) -> None:
        """Forgets everything of an app for good: images of it that come later are ignored."""
        for _ in removal(self._population, app_id):
            self.version += 1

    async def forget_app(self, app_id: int) -> None:
        """Removes an app, a thousand or two of its rows at a time; nobody finds any of them from the start."""
        for _ in removal(self._population, app_id):
            self.version += 1
            await asyncio.sleep(0)

    def define_channels(self, app_id: int, labels: Mapping[str, int]) -> None:
        """Knows the channels of an app from now on: their labels by uuid."""
        if app_id not in self._population.removed:
            self._population.definitions.setdefault(app_id, Definitions()).channels = labels

    def define_segments(self, app_id: int, segments: Mapping[str, Audience]) -> None:
        """Knows the segments of an app from now on: their audiences by uuid."""
        if app_id not in self._population.removed:
            self._population.definitions.setdefault(app_id, Definitions()).segments = segments

    def subscribed(self, app_id: int, channel: str) -> int:
        """How many devices are subscribed to a channel, by their install or their user; reachable or not."""
        return len(leaves_labels.subscribed(self._population, app_id, channel))

    def check(self, app_id: int, audience: Audience) -> None:
        """Returns when the audience is within the limits and the app has what it names; else InvalidRequestError."""
        self.check_names(app_id, audience)
        audiences.check(self.expand(app_id, audience))

    def stands_in(self, app_id: int, segment: str, audience: Audience) -> bool:
        """Whether the audience names this segment, at once or through other segments."""
        return stands_in(segment, audience, self._definitions(app_id).segments)

    def check_names(self, app_id: int, audience: Audience, pointer: str = "/audience") -> None:
        """Returns when the app has every channel and segment that the audience names; else InvalidRequestError."""
        faults = list(unknown(audience, self._definitions(app_id), pointer))
        for node, at, _ in audiences.walk(audience, pointer):
            if isinstance(node, InGeofences):
                faults += leaves_places.unknown(self.places.app(app_id), node, at)
        if faults:
            raise InvalidRequestError("The audience names what the app does not have", faults=faults)

    def expand(self, app_id: int, audience: Audience) -> Audience:
        """The audience with each segment's own in its place: what is asked of the database is asked of this."""
        return expand(audience, self._definitions(app_id).segments) if has_segments(audience) else audience

    def resolve(
        self,
        app_id: int,
        audience: Audience,
        kinds: AbstractSet[Kind],
        *,
        gathered: Mapping[int, Devices] | None = None,
    ) -> Resolution:
        """Whom the audience reaches now, and what of it is missing; InvalidRequestError past the limits.

        At once: a large audience holds the event loop for long, and is asked with `resolve_in_slices`. `gathered` is
        what was read from the database before, by the identity of the leaf.
        """
        if (one := self.one_user(app_id, audience, kinds)) is not None:
            return one
        audience = self.expand(app_id, audience)
        audiences.check(audience)
        scope = self._scope(app_id, kinds, gathered=gathered)
        return self._resolution(scope, evaluation.at_once(scope.steps(audience)))

    async def resolve_in_slices(
        self,
        app_id: int,
        audience: Audience,
        kinds: AbstractSet[Kind],
        *,
        gathered: Mapping[int, Devices] | None = None,
        in_app: bool = False,
    ) -> Resolution:
        """As `resolve`, exactly, at the moment it returns; others get their turn every few milliseconds of it.

        What it says of missing ids is as of when they were looked at. `in_app`: devices that take in-app messages are
        reached, whether they have an address or not.
        """
        if not in_app and (one := self.one_user(app_id, audience, kinds)) is not None:
            return one
        audience = self.expand(app_id, audience)
        audiences.check(audience)

        def evaluate(within: Devices | None) -> tuple[Scope, Steps]:
            scope = self._scope(app_id, kinds, within=within, gathered=gathered, in_app=in_app)
            return scope, scope.steps(audience)

        with evaluation.Watch(self._population, app_id, beside=audiences.prefers_kinds(audience)) as watch:
            scope, matched = await evaluation.settle(watch, evaluate)
            return self._resolution(scope, Devices() if watch.gone else matched)

    def _resolution(self, scope: Scope, matched: Devices) -> Resolution:
        # As of now: an app that had nothing when the evaluation began may have its first devices since.
        tenant, found = self._tenant(scope.app_id), scope.found
        scope.tenant = tenant
        found.devices = scope.reach(matched)
        if scope.in_app:
            skipped = len(matched) - len(found.devices)
            found.skipped = {"no_consent": skipped} if skipped else {}
        else:
            found.skipped = tenant.skipped(matched, found.devices, scope.kinds)
        return found

    def one_user(self, app_id: int, audience: Audience, kinds: AbstractSet[Kind]) -> Resolution | None:
        """As `single.one_user`."""
        return single.one_user(self._population, self._tenant(app_id), app_id, audience, kinds)

    def one_install(self, app_id: int, ids: Sequence[int], kinds: AbstractSet[Kind]) -> Resolution | None:
        """As `single.one_install`."""
        return single.one_install(self._tenant(app_id), ids, kinds)

    def each_user(self, app_id: int, names: Sequence[str], kinds: AbstractSet[Kind]) -> list[Devices | None]:
        """As `single.each_user`."""
        return single.each_user(self._population, self._tenant(app_id), app_id, names, kinds)

    def still(self, app_id: int, devices: Devices, audience: Audience, kinds: AbstractSet[Kind]) -> Devices:
        """Those of `devices`, a batch that this audience once reached, that may still be sent to.

        Where the audience names people it is asked again as a whole: a device may have become another's, and which part
        of the audience it was in is not known. Leaves that speak of the past count as true then. Else being reachable
        is enough.
        """
        if (one := self.one_user(app_id, audience, kinds)) is not None:
            return devices & one.devices
        left = self._tenant(app_id).reach(devices, kinds)
        if left and self.names_people(app_id, audience):
            audience = self._expand_old(app_id, audience)
            scope = self._scope(app_id, kinds, within=left, retrying=True)
            left = left & evaluation.at_once(scope.steps(audience))
        return left

    def names_people(self, app_id: int, audience: Audience) -> bool:
        """Whether the audience names people, itself or in a segment: then `still` asks it again."""
        return audiences.names_people(self._expand_old(app_id, audience))

    def _expand_old(self, app_id: int, audience: Audience) -> Audience:
        """As `expand`; a segment that is gone by now kept devices in when it was resolved."""
        if not has_segments(audience):
            return audience
        return expand(audience, self._definitions(app_id).segments, missing=Broadcast())

    def routes(self, app_id: int, devices: Devices) -> list[tuple[Route, Devices]]:
        """The devices by route; those that the app does not have are left out."""
        tenant, routes = self._tenant(app_id), self._population.routes
        if len(tenant.routes) == 1 and len(devices) == 1:
            (route_id,) = tenant.routes
            return [(routes[route_id], devices)] if devices.issubset(tenant.known) else []
        if len(devices) <= FEW_DEVICES < len(tenant.routes):
            by_route: dict[int, list[int]] = {}
            for device in devices & tenant.known:
                by_route.setdefault(self._population.devices.routes.cells[device], []).append(device)
            return [(routes[route_id], Devices(ids)) for route_id, ids in sorted(by_route.items())]
        pieces = ((route_id, devices & members) for route_id, members in sorted(tenant.routes.items()))
        return [(routes[route_id], piece) for route_id, piece in pieces if piece]

    def shapes(self, app_id: int) -> dict[GatewayName, set[Shape]]:
        """The shapes in which an app's devices read what they get, by gateway."""
        return self._population.shapes(self._tenant(app_id))

    def every_route(self) -> Iterator[tuple[Route, int]]:
        """Every route of every app, and how many of its devices are reachable; apps may change meanwhile."""
        for tenant in [*self._population.tenants.values()]:
            for route_id, members in [*tenant.routes.items()]:
                yield self._population.routes[route_id], members.intersection_cardinality(tenant.reachable)

    async def recipients(self, app_id: int, devices: Devices) -> Recipients:
        """Who of these devices gets an in-app message, users and installs without one; worked out in slices."""
        return await recipients(self._population, self._tenant(app_id), devices)

    def user_number(self, app_id: int, external_id: str) -> int:
        """The number of a user; 0 when the app has no such one."""
        return self._population.identities.find(app_id, external_id)

    def devices_of(self, user: int) -> Devices:
        """The devices of a user."""
        return Devices(self._population.owners.of(user))

    def takes_in_app(self, app_id: int, user: int) -> bool:
        """Whether any install of a user takes in-app messages, or he has none at all."""
        devices = self.devices_of(user)
        return not devices or not devices.issubset(self._tenant(app_id).silent)

    def people(self, app_id: int, ids: NDArray[np.uint32]) -> People:
        """What is known of these devices and their users, row by row."""
        return People(self._population, app_id, ids)

    def columns(self, ids: NDArray[np.uint32]) -> Addresses:
        """The addresses of these devices, row by row."""
        table = self._population.devices
        size = len(table.revisions.data)
        if len(ids) and int(ids.max()) >= size:
            ids = np.where(ids < size, ids, 0)
        return Addresses(table.tokens.get_many(table.token_places.data[ids]), table.revisions.data[ids])

    def knows(self, ids: NDArray[np.uint32], revisions: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of these devices' images, or newer ones, are taken in already."""
        revised = self._population.devices.revisions.data
        within = ids < len(revised)
        known = np.zeros(len(ids), np.bool_)
        known[within] = revised[ids[within]] >= revisions[within]
        return known

    def devices_apart(self, made: Index, ids: Devices, app_ids: set[int]) -> Differences:
        """What an index that was made from the database says differently of these devices, in steps."""
        return likeness.devices_apart(self._population, made._population, ids, app_ids)

    def users_apart(self, made: Index, ids: Users) -> Differences:
        """What an index that was made from the database says differently of these users, in steps."""
        return likeness.users_apart(self._population, made._population, ids)

    def is_ahead(self, devices: DeviceRows | None, users: UserRows) -> tuple[Devices, Users]:
        """Those of which newer images are known than these."""
        return likeness.ahead(self._population, devices, users)

    def known(self, app_ids: set[int]) -> tuple[Devices, Users]:
        """Copies of the sets of all devices and users of these apps."""
        tenants = [self._tenant(app_id) for app_id in sorted(app_ids)]
        return Devices.union(Devices(), *(t.known for t in tenants)), Users.union(Users(), *(t.users for t in tenants))

    def defined(self, app_id: int) -> Definitions:
        """What an app has defined for its audiences, as the index knows it."""
        return self._definitions(app_id)

    def stats(self) -> dict[str, int]:
        """Counts of what is there, and bytes held by part; bitmaps are counted as they would be serialised."""
        return statistics(self._population) | {"badge_bytes": self.badges.nbytes}

    def _scope(
        self,
        app_id: int,
        kinds: AbstractSet[Kind],
        *,
        within: Devices | None = None,
        gathered: Mapping[int, Devices] | None = None,
        retrying: bool = False,
        in_app: bool = False,
    ) -> Scope:
        return Scope(
            self._population,
            app_id,
            kinds,
            audiences.LEAVES,
            now=self._clock.now(),
            within=within,
            gathered=gathered,
            retrying=retrying,
            in_app=in_app,
        )

    def _definitions(self, app_id: int) -> Definitions:
        return self._population.definitions.get(app_id, NOTHING)

    def _tenant(self, app_id: int) -> Tenant:
        return self._population.tenants.get(app_id) or Tenant()
