"""Applying whole images of devices: one at a time for registrations, as columns for loads and bulk changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.model.rows import DeviceFlag, DeviceRows, Sight
from pushd.targeting.columns import Column
from pushd.targeting.devices import KNOWN, newest
from pushd.targeting.facets import DAY_S, FACETS, SIGHTS
from pushd.targeting.population import Population, difference
from pushd.targeting.postings import Pairs, Side, groups
from pushd.targeting.tenants import Tenant, put

FEW_ROWS = 12
"""Up to here one at a time is faster than columns."""


def apply_devices(population: Population, rows: DeviceRows) -> None:
    """Takes in the images that are newer than what is known."""
    population.routes.update(rows.routes)
    population.learn_profiles(rows.profiles)
    if len(rows) <= FEW_ROWS:
        for at in range(len(rows)):
            _apply_one(population, rows, at)
    else:
        _apply_many(population, rows)


def _apply_one(population: Population, rows: DeviceRows, at: int) -> None:
    device, revision, route_id = rows.ids.item(at), rows.revisions.item(at), rows.route_ids.item(at)
    population.reach_devices(device + 1)
    devices = population.devices
    route = population.routes[route_id]
    if revision <= devices.revisions.cells[device] or route.app_id in population.removed:
        return
    tenant = population.tenant(route.app_id)
    flags = rows.flags.item(at) | KNOWN
    alive = not flags & DeviceFlag.DELETED
    flags = flags if alive else int(DeviceFlag.DELETED)
    devices.revisions.cells[device] = revision
    _place_one(population, tenant, device, route_id, flags)
    place = devices.token_places.cells[device]
    devices.token_places.cells[device] = devices.tokens.replace(place, rows.tokens.item(at) if alive else b"")
    _own_one(population, tenant, device, rows.user_ids.item(at) if alive else 0)
    _describe_one(population, tenant, device, rows, at, alive)
    start, end = rows.tags.offsets.item(at), rows.tags.offsets.item(at + 1)
    if devices.tag_places.cells[device] or (alive and end > start):
        tag_ids = rows.tags.ids[start:end].tolist() if alive else []
        _tag_one(population, tenant, device, population.numbers(tenant, tag_ids, rows.tags.names))


def _place_one(population: Population, tenant: Tenant, device: int, route_id: int, flags: int) -> None:
    devices, routes = population.devices, population.routes
    before, route_before = devices.flags.cells[device], devices.routes.cells[device]
    if before == flags and (route_before == route_id or not flags & KNOWN):
        return
    if before & KNOWN and (route_before != route_id or not flags & KNOWN):
        tenant.dismiss(route_before, routes[route_before].kind, device)
    if flags & KNOWN:
        tenant.admit(route_id, routes[route_id].kind, device, flags)
    devices.flags.cells[device] = flags
    devices.routes.cells[device] = route_id


def _own_one(population: Population, tenant: Tenant, device: int, user: int) -> None:
    before = population.devices.users.cells[device]
    if before == user:
        return
    population.devices.users.cells[device] = user
    population.reach_users(user + 1)
    put(tenant.owned, device, user != 0)
    places = population.users.tag_places.cells
    if before:
        population.owners.unlink(before, device)
        tenant.tags.discard("by_user", device, population.carried.get(places[before]))
    if user:
        population.owners.link(user, device)
        tenant.tags.add("by_user", device, population.carried.get(places[user]))


def _describe_one(population: Population, tenant: Tenant, device: int, rows: DeviceRows, at: int, alive: bool) -> None:
    devices, facets = population.devices, tenant.facets
    home = rows.installs.item(at) if alive else 0
    if (before := devices.installs.cells[device]) != home:
        _rehome_one(population, device, before, home)
    profile = rows.profile_ids.item(at) if alive else 0
    if (before := devices.profiles.cells[device]) != profile:
        devices.profiles.cells[device] = profile
        for facet in FACETS:
            old, new = population.profiles.number(facet, before), population.profiles.number(facet, profile)
            if old != new:
                facets.move(facet, device, old, new)
    for sight in SIGHTS:
        column, given = devices.sights(sight), rows.sights(sight)
        seen = given.item(at) if alive else 0
        if (before := column.cells[device]) != seen:
            column.cells[device] = seen
            facets.see(sight, device, before, seen)
    alias = rows.aliases.get(at, "") if alive else ""
    if alias or devices.aliases.cells[device]:
        _name_one(population, population.routes[rows.route_ids.item(at)].app_id, device, alias)


def _name_one(population: Population, app_id: int, device: int, alias: str) -> None:
    devices, aliases, texts = population.devices, population.aliases, population.texts
    before = devices.aliases.cells[device]
    if before and texts.text(before) == alias:
        return
    number = texts.take(app_id, alias) if alias else 0
    if before:
        aliases.unlink(before, device)
        texts.drop_many(np.array([before], np.uint32))
    if number:
        population.reach_texts(aliases)
        aliases.link(number, device)
    devices.aliases.cells[device] = number


def _rehome_one(population: Population, device: int, before: int, after: int) -> None:
    if before:
        population.homes.unlink(before, device)
    if after:
        population.homes.reach(after + 1, 0)
        population.homes.link(after, device)
    population.devices.installs.cells[device] = after


def _tag_one(population: Population, tenant: Tenant, device: int, numbers: list[int]) -> None:
    places = population.devices.tag_places.cells
    before, after = set(population.carried.get(places[device])), set(numbers)
    if before == after:
        return
    tenant.tags.discard("own", device, before - after)
    tenant.tags.add("own", device, after - before)
    population.carried.free(places[device])
    places[device] = population.carried.put(numbers)


def _apply_many(population: Population, rows: DeviceRows) -> None:
    population.reach_devices(int(rows.ids.max()) + 1)
    taken = newest(rows.ids, rows.revisions, population.devices.revisions)
    app_ids = _apps(population, rows.route_ids[taken])
    if population.removed:
        stay = ~np.isin(app_ids, list(population.removed))
        taken, app_ids = taken[stay], app_ids[stay]
    if not len(taken):
        return
    ids = rows.ids[taken]
    flags = rows.flags[taken]
    alive = flags & DeviceFlag.DELETED == 0
    flags = np.where(alive, flags | KNOWN, DeviceFlag.DELETED).astype(np.uint8)
    population.devices.revisions.data[ids] = rows.revisions[taken]
    _place_many(population, ids, rows.route_ids[taken], flags, app_ids)
    _put_tokens(population, ids, np.flatnonzero(alive), rows.tokens[taken[alive]])
    _own_many(population, ids, np.where(alive, rows.user_ids[taken], 0).astype(np.uint32), app_ids)
    _describe_many(population, rows, taken, alive, app_ids)
    positions, numbers = population.numbers_of_rows(rows.tags, taken[alive], app_ids[alive])
    _tag_many(population, ids, (np.flatnonzero(alive)[positions], numbers), app_ids)


def _apps(population: Population, route_ids: NDArray[np.int32]) -> NDArray[np.int32]:
    known = set(route_ids.tolist())
    apps = np.zeros(max(known, default=0) + 1, np.int32)
    for route_id in known:
        apps[route_id] = population.routes[route_id].app_id
    found: NDArray[np.int32] = apps[route_ids]
    return found


def _place_many(
    population: Population,
    ids: NDArray[np.uint32],
    route_ids: NDArray[np.int32],
    flags: NDArray[np.uint8],
    app_ids: NDArray[np.int32],
) -> None:
    devices, routes = population.devices, population.routes
    before, routes_before = devices.flags.data[ids], devices.routes.data[ids]
    there = flags & KNOWN != 0
    leaving = np.flatnonzero((before & KNOWN != 0) & (~there | (routes_before != route_ids)))
    for route_id, chosen in groups(routes_before[leaving]):
        rows = leaving[chosen]
        population.tenant(int(app_ids[rows[0]])).dismiss_many(route_id, routes[route_id].kind, ids[rows])
    coming = np.flatnonzero(there & ((before != flags) | (routes_before != route_ids)))
    for route_id, chosen in groups(route_ids[coming]):
        rows = coming[chosen]
        route = routes[route_id]
        population.tenant(route.app_id).admit_many(route_id, route.kind, ids[rows], flags[rows])
    devices.flags.data[ids] = flags
    devices.routes.data[ids] = route_ids


def _put_tokens(
    population: Population, ids: NDArray[np.uint32], alive: NDArray[np.intp], tokens: NDArray[np.bytes_]
) -> None:
    devices = population.devices
    devices.tokens.free_many(devices.token_places.data[ids])
    devices.token_places.data[ids] = 0
    devices.token_places.data[ids[alive]] = devices.tokens.put_many(tokens)


def _own_many(
    population: Population, ids: NDArray[np.uint32], users: NDArray[np.uint32], app_ids: NDArray[np.int32]
) -> None:
    before = population.devices.users.data[ids]
    changed = np.flatnonzero(before != users)
    if not len(changed):
        return
    ids, users, before, app_ids = ids[changed], users[changed], before[changed], app_ids[changed]
    population.devices.users.data[ids] = users
    population.reach_users(int(users.max()) + 1)
    had, has = before != 0, users != 0
    population.owners.unlink_many(before[had], ids[had])
    population.owners.link_many(users[has], ids[has])
    for app_id, chosen in groups(app_ids):
        owned = population.tenant(app_id).owned
        owned.difference_update(Devices.of(ids[chosen][~has[chosen]]))
        owned.update(Devices.of(ids[chosen][has[chosen]]))
    places = population.users.tag_places.data
    gone, come = difference(population.carried.get_many(places[before]), population.carried.get_many(places[users]))
    post(population, "by_user", ids, app_ids, gone, come)


def _describe_many(
    population: Population,
    rows: DeviceRows,
    taken: NDArray[np.intp],
    alive: NDArray[np.bool_],
    app_ids: NDArray[np.int32],
) -> None:
    devices, ids = population.devices, rows.ids[taken]
    _rehome_many(population, ids, np.where(alive, rows.installs[taken], 0))
    profiles = np.where(alive, rows.profile_ids[taken], 0).astype(np.int32)
    before = devices.profiles.data[ids]
    moved = np.flatnonzero(before != profiles)
    devices.profiles.data[ids[moved]] = profiles[moved]  # pages that are never written take no memory
    for app_id, chosen in groups(app_ids[moved]):
        part, facets = moved[chosen], population.tenant(app_id).facets
        for facet in FACETS:
            old = population.profiles.numbers(facet, before[part])
            new = population.profiles.numbers(facet, profiles[part])
            changed = old != new
            if changed.any():
                facets.move_many(facet, ids[part][changed], old[changed], new[changed])
    for sight in SIGHTS:
        column, given = devices.sights(sight), rows.sights(sight)
        _see_many(population, sight, column, ids, np.where(alive, given[taken], 0).astype(np.uint32), app_ids)
    at = np.full(len(rows), -1)
    at[taken[alive]] = np.flatnonzero(alive)
    named = at[np.fromiter(rows.aliases, np.intp, len(rows.aliases))]
    names = [name for name, row in zip(rows.aliases.values(), named.tolist(), strict=True) if row >= 0]
    _name_many(population, ids, named[named >= 0], names, app_ids)


def _see_many(
    population: Population,
    sight: Sight,
    column: Column,
    ids: NDArray[np.uint32],
    seen: NDArray[np.uint32],
    app_ids: NDArray[np.int32],
) -> None:
    before = column.data[ids]
    changed = before != seen
    column.data[ids[changed]] = seen[changed]
    moved = np.flatnonzero((before // DAY_S != seen // DAY_S) | ((before == 0) != (seen == 0)))
    for app_id, chosen in groups(app_ids[moved]):
        part = moved[chosen]
        population.tenant(app_id).facets.see_many(sight, ids[part], before[part], seen[part])


def _rehome_many(population: Population, ids: NDArray[np.uint32], after: NDArray[np.integer]) -> None:
    installs, homes = population.devices.installs.data, population.homes
    before = installs[ids]
    changed = np.flatnonzero(before != after)
    if not len(changed):
        return
    ids, before, after = ids[changed], before[changed].astype(np.uint32), after[changed].astype(np.uint32)
    installs[ids] = after
    homes.reach(int(after.max()) + 1, 0)
    if before.any():
        homes.unlink_many(before[before != 0], ids[before != 0])
    homes.link_many(after[after != 0], ids[after != 0])


def _name_many(
    population: Population,
    ids: NDArray[np.uint32],
    named: NDArray[np.intp],
    names: list[str],
    app_ids: NDArray[np.int32],
) -> None:
    """Gives those of the devices that stand at `named` these aliases, and the others none."""
    column, aliases, texts = population.devices.aliases.data, population.aliases, population.texts
    before = column[ids]
    if not names and not before.any():
        return
    after = np.zeros(len(ids), np.uint32)
    had_it = before[named]
    kept = np.array(
        [number != 0 and texts.text(number) == name for number, name in zip(had_it.tolist(), names, strict=True)],
        np.bool_,
    )
    after[named[kept]] = had_it[kept]
    fresh = np.flatnonzero(~kept)
    if len(fresh):
        after[named[fresh]] = texts.take_many(app_ids[named[fresh]], [names[row] for row in fresh.tolist()])
        population.reach_texts(aliases)
    had, has = (before != after) & (before != 0), (before != after) & (after != 0)
    aliases.unlink_many(before[had], ids[had])
    aliases.link_many(after[has], ids[has])
    column[ids] = after
    texts.drop_many(before[had])


def _tag_many(population: Population, ids: NDArray[np.uint32], after: Pairs, app_ids: NDArray[np.int32]) -> None:
    places = population.devices.tag_places.data
    before_places = places[ids]
    gone, come = difference(population.carried.get_many(before_places), after)
    post(population, "own", ids, app_ids, gone, come)
    population.carried.free_many(before_places)
    places[ids] = population.carried.put_many(after[1], np.bincount(after[0], minlength=len(ids)))


def post(
    population: Population,
    side: Side,
    ids: NDArray[np.uint32],
    app_ids: NDArray[np.int32],
    gone: Pairs,
    come: Pairs,
) -> None:
    """Takes devices from the tags of `gone` and puts them under those of `come`; pairs name devices by position."""
    for app_id, chosen in groups(app_ids[gone[0]]):
        population.tenant(app_id).tags.discard_many(side, ids[gone[0][chosen]], gone[1][chosen])
    for app_id, chosen in groups(app_ids[come[0]]):
        population.tenant(app_id).tags.add_many(side, ids[come[0][chosen]], come[1][chosen])


def remove_devices(population: Population, ids: NDArray[np.uint32]) -> None:
    """Turns devices of an app that is going into tombstones; its sets go with it, its users' lists are cleared here."""
    devices = population.devices
    users = devices.users.data[ids]
    owned = users != 0
    population.owners.unlink_many(users[owned], ids[owned])
    devices.tokens.free_many(devices.token_places.data[ids])
    population.carried.free_many(devices.tag_places.data[ids])
    _rehome_many(population, ids, np.zeros(len(ids), np.int32))
    _name_many(population, ids, np.zeros(0, np.intp), [], np.zeros(len(ids), np.int32))
    for column in (
        *(devices.users, devices.token_places, devices.tag_places),
        *(devices.profiles, devices.first_seen, devices.last_seen),
    ):
        column.data[ids] = 0
    devices.flags.data[ids] = int(DeviceFlag.DELETED)
