"""Compares the index in memory with the database, and names what differs; changes on their way are no difference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from msgspec import Struct

from pushd.bitset import Devices, Users
from pushd.commands.context import Context
from pushd.errors import ConflictError
from pushd.model.rows import DeviceRows, UserRows
from pushd.targeting.index import Index
from pushd.targeting.likeness import Difference, Differences, fences_apart, places_apart

LISTED_MAX = 100
"""Ids of one difference that are named; all are counted."""
SCANNED_ROWS = 6_000
"""Rows that are compared at first together: some 10 ms to take them in, and as much to compare them."""
FENCED_ROWS = 8_192
"""Devices that a geofence is asked about at a stretch."""
ROWS_AT_ONCE = 256
"""Rows that are looked at again in one go, some 10 ms: no image can come in between."""
ROUNDS_MAX = 6
"""How often rows that keep changing are looked at again."""
WAIT_S = 30.0
"""For the change feed to be read up to what is committed."""
POLL_S = 0.05

FENCES = "members of a geofence"

Of = Literal["devices", "users", "channels", "segments", "geofences"]
Ids = TypeVar("Ids", Devices, Users)


class IndexDifference(Struct, frozen=True, kw_only=True, tag="difference"):
    """What index and database say differently of some rows."""

    of: Of
    what: str
    """Which of the index's columns or sets."""
    count: int
    ids: list[int]
    """The first hundred; of channels and segments the ids of apps."""


class IndexSummary(Struct, frozen=True, kw_only=True, tag="summary"):
    """The last line. A check that ends without it was cut off."""

    devices: int
    """Compared, as of the moment at which the check began."""
    users: int
    differences: int
    unsettled: int
    """Rows that changed as often as they were looked at: nothing is known of them."""


CheckLine = IndexDifference | IndexSummary

_busy: set[int] = set()


async def check(context: Context) -> AsyncIterator[CheckLine]:
    """Lines as the check goes on, and a summary; ConflictError while another one runs."""
    if id(context) in _busy:
        raise ConflictError("The index is being checked")
    return _lines(context)


async def _lines(context: Context) -> AsyncIterator[CheckLine]:
    _busy.add(id(context))
    try:
        checker = _Check(context)
        async for line in checker.lines():
            yield line
    finally:
        _busy.discard(id(context))


@dataclass
class _Suspects(Generic[Ids]):
    """Rows that differed when they were first looked at, and what is found to differ for good."""

    ids: Ids
    states: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Revisions in the database that a row had when it was last found to differ."""
    found: dict[str, Ids] = field(default_factory=dict)


class _Check:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._store, self._index = context.store, context.index
        self._apps: set[int] = set()

    async def lines(self) -> AsyncIterator[CheckLine]:
        rows = await self._store.database.fetch("SELECT id FROM apps WHERE deleted_at IS NULL")
        self._apps = {row["id"] for row in rows}
        devices, users = _Suspects(Devices()), _Suspects(Users())
        seen_devices, seen_users = await self._scan(devices, users)
        await self._settle(devices, self._look_at_devices)
        await self._settle(users, self._look_at_users)
        differences = 0
        found: list[tuple[Of, str, Devices | Users]] = []
        found += [("devices", what, ids) for what, ids in sorted(devices.found.items())]
        found += [("users", what, ids) for what, ids in sorted(users.found.items())]
        for of, what, ids in found:
            differences += len(ids)
            yield IndexDifference(of=of, what=what, count=len(ids), ids=list(ids[:LISTED_MAX]))
        async for line in self._definitions():
            differences += line.count
            yield line
        unsettled = len(devices.ids) + len(users.ids)
        yield IndexSummary(devices=seen_devices, users=seen_users, differences=differences, unsettled=unsettled)

    async def _scan(self, devices: _Suspects[Devices], users: _Suspects[Users]) -> tuple[int, int]:
        """Looks at every row once, as of one moment; how many these were."""
        seen_devices, seen_users = Devices(), Users()
        async with self._store.snapshot() as snapshot:
            known_devices, known_users = self._index.known(self._apps)
            async for many_users in self._store.users.load(snapshot):
                for user_rows in many_users.parts(SCANNED_ROWS):
                    there = Users.of(user_rows.ids[np.isin(user_rows.app_ids, list(self._apps))])
                    seen_users |= there
                    users.ids |= await _apart(self._index.users_apart(_made(user_rows, None), there), Users)
            async for many in self._store.devices.load(snapshot):
                for rows in many.parts(SCANNED_ROWS):
                    ids = self._ours(rows)
                    seen_devices |= ids
                    devices.ids |= await _apart(await self._devices_apart(rows, ids), Devices)
                async for part in self._fences_apart(self._ours(many)):
                    devices.found[FENCES] = devices.found.get(FENCES, Devices()) | part
        devices.ids |= known_devices - seen_devices
        users.ids |= known_users - seen_users
        return len(seen_devices), len(seen_users)

    def _ours(self, rows: DeviceRows) -> Devices:
        """The devices of apps that are there."""
        routes = [number for number, route in rows.routes.items() if route.app_id in self._apps]
        return Devices.of(rows.ids[np.isin(rows.route_ids, routes)])

    async def _devices_apart(self, rows: DeviceRows, ids: Devices) -> Differences:
        owners = np.unique(rows.user_ids[rows.user_ids != 0])
        made = _made(await self._store.users.images(owners), None)
        places = await self._store.locations.images(ids.column())  # others have their turn
        made.apply_devices(rows)
        await asyncio.sleep(0)
        return _chain(
            self._index.devices_apart(made, ids, {route.app_id for route in rows.routes.values()} & self._apps),
            places_apart(self._index.places, places, ids.column()),
        )

    async def _fences_apart(self, ids: Devices) -> AsyncIterator[Devices]:
        """Who is wrongly in or out of a fence by memory's own columns: that is so whatever is on its way."""
        column = ids.column()
        for start in range(0, len(column), FENCED_ROWS):
            for each in fences_apart(self._index.places, column[start : start + FENCED_ROWS]):
                if each is None:
                    await asyncio.sleep(0)
                elif len(each.ids):
                    yield Devices.of(each.ids)

    async def _settle(self, suspects: _Suspects[Ids], look: Callable[[_Suspects[Ids], Ids], Any]) -> None:
        """Looks at suspects again, after all that was committed before is in the index.

        What differs twice, and is the same row in the database both times, differs for good.
        """
        for _ in range(ROUNDS_MAX):
            if not suspects.ids:
                return
            await self._caught_up()
            for part in _parts(suspects.ids):
                await look(suspects, part)
                await asyncio.sleep(0)

    async def _caught_up(self) -> None:
        horizon = await self._store.changes.horizon()
        for _ in range(int(WAIT_S / POLL_S)):
            if self._context.position() >= horizon:
                return
            await asyncio.sleep(POLL_S)

    async def _look_at_devices(self, suspects: _Suspects[Devices], ids: Devices) -> None:
        column = ids.column()
        rows = await self._store.devices.images(column)
        owners = await self._store.users.images(np.unique(rows.user_ids[rows.user_ids != 0]))
        places = await self._store.locations.images(column)
        made = _made(owners, rows)
        # From here on nothing is awaited: what memory says is of one moment.
        apps = {route.app_id for route in rows.routes.values()} & self._apps
        gone = ids - self._ours(rows)
        apart = _at_once(self._index.devices_apart(made, ids, apps or self._apps), Devices)
        for what, those in _at_once(places_apart(self._index.places, places, column), Devices).items():
            apart[what] = those - gone
        newer, newer_users = self._index.is_ahead(rows, owners)
        newer |= Devices.of(rows.ids[np.isin(rows.user_ids, newer_users.column())])
        moved = (places.revisions != 0) & self._index.places.knows(places.ids, places.revisions + 1)
        newer |= Devices.of(places.ids[moved])
        revisions = dict(zip(rows.ids.tolist(), rows.revisions.tolist(), strict=True))
        of_owner = dict(zip(owners.ids.tolist(), owners.revisions.tolist(), strict=True))
        users = dict(zip(rows.ids.tolist(), rows.user_ids.tolist(), strict=True))
        placed = dict(zip(places.ids.tolist(), places.revisions.tolist(), strict=True))
        _judge(
            suspects,
            ids,
            apart,
            newer,
            lambda device: (revisions.get(device, 0), of_owner.get(users.get(device, 0), 0), placed.get(device, 0)),
        )

    async def _look_at_users(self, suspects: _Suspects[Users], ids: Users) -> None:
        rows = await self._store.users.images(ids.column())
        made = _made(rows, None)
        apart = _at_once(self._index.users_apart(made, ids), Users)
        newer = self._index.is_ahead(None, rows)[1]
        revisions = dict(zip(rows.ids.tolist(), rows.revisions.tolist(), strict=True))
        _judge(suspects, ids, apart, newer, lambda user: (revisions.get(user, 0),))

    async def _definitions(self) -> AsyncIterator[IndexDifference]:
        """What apps define for their audiences: read again where it differs, once what was on its way has come."""
        found = await self._defined_apart()
        if any(found.values()):
            await self._caught_up()
            again = await self._defined_apart()
            for of, ids in found.items():
                if both := sorted(ids & again[of]):
                    yield IndexDifference(of=of, what="definitions", count=len(both), ids=both[:LISTED_MAX])

    async def _defined_apart(self) -> dict[Of, set[int]]:
        found: dict[Of, set[int]] = {"channels": set(), "segments": set(), "geofences": set()}
        channels = await self._store.channels.labels(None)
        segments = await self._store.segments.audiences(None)
        fences = await self._store.database.fetch("SELECT id, app_id, revision FROM geofences")
        for app_id in self._apps:
            defined = self._index.defined(app_id)
            if dict(defined.channels) != dict(channels.get(app_id, {})):
                found["channels"].add(app_id)
            if dict(defined.segments) != dict(segments.get(app_id, {})):
                found["segments"].add(app_id)
            app = self._index.places.app(app_id)
            mine = {} if app is None else app.revisions
            theirs = {row["id"]: row["revision"] for row in fences if row["app_id"] == app_id}
            found["geofences"] |= {each for each, revision in theirs.items() if mine.get(each) != revision}
        return found


def _judge(
    suspects: _Suspects[Ids],
    ids: Ids,
    apart: dict[str, Ids],
    newer: Ids,
    state: Callable[[int], tuple[int, ...]],
) -> None:
    """Notes what became of suspects that were looked at again."""
    differing = type(ids)()
    for those in apart.values():
        differing |= those
    suspects.ids -= ids - differing
    confirmed = type(ids)()
    for each in differing - newer:
        if suspects.states.get(each) == state(each):
            confirmed.add(each)
        suspects.states[each] = state(each)
    suspects.ids -= confirmed
    for what, those in apart.items():
        if certain := those & confirmed:
            suspects.found[what] = suspects.found.get(what, type(ids)()) | certain


def _made(users: UserRows, devices: DeviceRows | None) -> Index:
    """An index of some rows alone."""
    index = Index()
    if len(users):
        index.apply_users(users)
    if devices is not None and len(devices):
        index.apply_devices(devices)
    return index


def _chain(*several: Differences) -> Iterator[Difference | None]:
    for each in several:
        yield from each


async def _apart(differences: Differences, kind: type[Ids]) -> Ids:
    """Every id that differs in anything, in slices."""
    found = kind()
    for each in differences:
        if each is None:
            await asyncio.sleep(0)
        elif len(each.ids):
            found |= kind.of(each.ids)
    return found


def _at_once(differences: Differences, kind: type[Ids]) -> dict[str, Ids]:
    found: dict[str, Ids] = {}
    for each in differences:
        if each is not None and len(each.ids):
            found[each.what] = found.get(each.what, kind()) | kind.of(each.ids)
    return found


def _parts(ids: Ids) -> Sequence[Ids]:
    return [type(ids)(ids[start : start + ROWS_AT_ONCE]) for start in range(0, len(ids), ROWS_AT_ONCE)]
