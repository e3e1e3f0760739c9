"""What two indexes say differently of the same devices or users: one that runs, and one made from the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Users
from pushd.model.geofence import LocationRows
from pushd.model.rows import DeviceRows, UserRows
from pushd.targeting.attributes import Type
from pushd.targeting.devices import KNOWN
from pushd.targeting.places import Places
from pushd.targeting.population import Population
from pushd.targeting.tenants import Tenant

SETS_AT_ONCE = 256
"""Sets that are compared before others may get their turn: some 2 ms."""


class Difference(NamedTuple):
    """Rows of which two indexes say different things."""

    what: str
    """For people: tag, route, token …"""
    ids: NDArray[np.uint32]


Differences = Iterator[Difference | None]
"""None: others may get their turn."""
Key = tuple[str, object]
Ids = TypeVar("Ids", Devices, Users)


def devices_apart(running: Population, made: Population, ids: Devices, app_ids: set[int]) -> Differences:
    """What is different of these devices, all of which are, if anywhere, in these apps."""
    column = ids.column()
    yield from _columns_apart(running, made, column)
    for app_id in app_ids:
        yield from _sets_apart(_sets(running, app_id), _sets(made, app_id), ids)
    for what, here, there, names in (
        ("devices of users", running.owners, made.owners, made.devices.users),
        ("devices of installs", running.homes, made.homes, made.devices.installs),
    ):
        heads = np.unique(names.data[made.devices.present(column)]).astype(np.uint32)
        mine, theirs = (Devices.of(each.of_many(heads[heads != 0])[1]) & ids for each in (here, there))
        yield Difference(what, (mine ^ theirs).column())
    yield from _named_apart(running, made, ids)


def users_apart(running: Population, made: Population, ids: Users) -> Differences:
    """What is different of these users."""
    column = ids.column()
    apps, apps_made = _cells(running.users.apps.data, column), _cells(made.users.apps.data, column)
    yield Difference("users that are there", column[apps != apps_made])
    for app_id in np.unique(apps_made[apps_made != 0]).tolist():
        there = column[(apps == app_id) & (apps_made == app_id)]
        mine, theirs = (_facts_of_users(each, app_id, there) for each in (running, made))
        for what in theirs:
            apart = [a != b for a, b in zip(mine[what], theirs[what], strict=True)]
            yield Difference(what, there[np.array(apart, np.bool_)] if apart else there)
        yield None
        names = [made.identities.text(user) for user in there.tolist()]
        yield Difference("users by external id", there[running.identities.find_many(app_id, names) != there])
        yield from _attributes_apart(running, made, app_id, Users.of(there))


def places_apart(running: Places, rows: LocationRows, ids: NDArray[np.uint32]) -> Differences:
    """Where devices are said to be elsewhere than rows say; those of `ids` that are not among these are nowhere."""
    latitudes, longitudes = np.zeros((2, int(ids.max(initial=0)) + 1), np.int32)
    placed = np.zeros(len(latitudes), np.bool_)
    known = rows.revisions != 0  # the others say that it was forgotten
    there = rows.ids[known]
    latitudes[there], longitudes[there], placed[there] = rows.latitudes[known], rows.longitudes[known], True
    north, east, located = running.at(ids)
    same = (located == placed[ids]) & (north == latitudes[ids]) & (east == longitudes[ids])
    yield Difference("location", ids[~same])


def fences_apart(running: Places, ids: NDArray[np.uint32]) -> Differences:
    """Devices that are in a fence, and not among its members, or the other way round; by what memory says itself."""
    span = Devices.of(ids)
    for fence in running.shown():
        inside = Devices.of(running.inside(fence, ids))
        yield Difference("members of a geofence", ((fence.members & span) ^ inside).column())
        yield None


def ahead(population: Population, devices: DeviceRows | None, users: UserRows) -> tuple[Devices, Users]:
    """Those of which a newer image is known than these."""
    newer_users = users.ids[_cells(population.users.revisions.data, users.ids) > users.revisions]
    if devices is None:
        return Devices(), Users.of(newer_users)
    newer = devices.ids[_cells(population.devices.revisions.data, devices.ids) > devices.revisions]
    return Devices.of(newer), Users.of(newer_users)


def _columns_apart(running: Population, made: Population, column: NDArray[np.uint32]) -> Differences:
    there = _cells(made.devices.flags.data, column) & KNOWN != 0
    known = _cells(running.devices.flags.data, column) & KNOWN != 0
    yield Difference("devices that are there", column[there != known])
    column = column[there & known]
    for what in ("revisions", "flags", "routes", "users", "installs", "first_seen", "last_seen", "profiles"):
        mine, theirs = (getattr(each.devices, what).data[column] for each in (running, made))
        yield Difference(what.replace("_", " "), column[mine != theirs])
    mine, theirs = (each.devices.tokens.get_many(each.devices.token_places.data[column]) for each in (running, made))
    yield Difference("tokens", column[mine != theirs])
    aliases = [
        [_text(each, number) for number in each.devices.aliases.data[column].tolist()] for each in (running, made)
    ]
    yield Difference("aliases", column[[a != b for a, b in zip(*aliases, strict=True)]] if len(column) else column)
    yield None


def _named_apart(running: Population, made: Population, ids: Devices) -> Differences:
    """Devices that are not found by their alias."""
    column = made.devices.present(ids.column())
    numbers = np.unique(made.devices.aliases.data[column])
    apart = Devices()
    for number in numbers[numbers != 0].tolist():
        expected = Devices(made.aliases.of(number)) & ids
        app_id = made.routes[made.devices.routes.cells[expected.min()]].app_id if expected else 0
        found = running.texts.find(app_id, made.texts.text(number))
        apart |= expected ^ (Devices(running.aliases.of(found)) & ids if found else Devices())
    yield Difference("devices by alias", apart.column())


def _sets(population: Population, app_id: int) -> Mapping[Key, Devices]:
    """Every set of devices of an app by what it means."""
    tenant = population.tenants.get(app_id) or Tenant()
    found: dict[Key, Devices] = {
        ("known", 0): tenant.known,
        ("reachable", 0): tenant.reachable,
        ("retired", 0): tenant.retired,
        ("disabled", 0): tenant.disabled,
        ("tokenless", 0): tenant.tokenless,
        ("silent", 0): tenant.silent,
        ("owned", 0): tenant.owned,
    }
    found |= {("route", route): devices for route, devices in tenant.routes.items()}
    found |= {("kind", kind): devices for kind, devices in tenant.kinds.items()}
    for facet, values in tenant.facets.values.items():
        found |= {(facet, name): devices for name, devices in zip(values.names, values.members, strict=True)}
    for sight, days in tenant.facets.days.items():
        found |= {(f"day {sight} seen", day): devices for day, devices in days.items()}
    for tag in tenant.tags.listed:
        if tag.name:
            found["tag or channel", tag.name.casefold()] = tag.own
            found["tag or channel of the user", tag.name.casefold()] = tag.by_user
    attributes = population.attributes.get(app_id)
    if attributes is not None:
        for name, column in attributes.named():
            for value, label in column.labels.items():
                found["attribute", (name, value)] = tenant.tags.listed[label - 1].by_user
    return found


def _sets_apart(mine: Mapping[Key, Devices], theirs: Mapping[Key, Devices], ids: Devices) -> Differences:
    nobody = Devices()
    for number, key in enumerate(mine.keys() | theirs.keys(), start=1):
        apart = (
            (mine.get(key, nobody) ^ theirs.get(key, nobody)) & ids
            if key not in theirs or key not in mine
            else ((mine[key] & ids) ^ (theirs[key] & ids))
        )
        if apart:
            yield Difference(key[0], apart.column())
        if not number % SETS_AT_ONCE:
            yield None


def _facts_of_users(population: Population, app_id: int, ids: NDArray[np.uint32]) -> dict[str, list[object]]:
    tenant = population.tenants.get(app_id) or Tenant()
    listed, members, rests = tenant.tags.listed, tenant.users, tenant.quiet
    places = population.users.tag_places.data[ids].tolist()
    return {
        "users of the app": [user in members for user in ids.tolist()],
        "external ids": [population.identities.text(user) for user in ids.tolist()],
        "e-mail addresses": [_text(population, number) for number in population.users.emails.data[ids].tolist()],
        "tags and channels of users": [
            {listed[number - 1].name.casefold() for number in population.carried.get(place)} - {""} for place in places
        ],
        "quiet hours": population.users.quiet.data[ids].tolist(),
        "users with quiet hours": [user in rests for user in ids.tolist()],
        "revisions of users": population.users.revisions.data[ids].tolist(),
    }


def _attributes_apart(running: Population, made: Population, app_id: int, ids: Users) -> Differences:
    mine, theirs = (
        dict(each.attributes[app_id].named()) if app_id in each.attributes else {} for each in (running, made)
    )
    for name in mine.keys() | theirs.keys():
        owners, expected = (each[name].users & ids if name in each else Users() for each in (mine, theirs))
        yield Difference("users with an attribute", (owners ^ expected).column())
        both = (owners & expected).column()
        if len(both):
            types, types_made = (each[name].types.data[both] for each in (mine, theirs))
            numbers, numbers_made = (each[name].numbers.data[both] for each in (mine, theirs))
            texts = [
                [
                    _text(each, number) if kind in (Type.TEXT, Type.TIME) else ""
                    for kind, number in zip(types.tolist(), columns[name].texts.data[both].tolist(), strict=True)
                ]
                for each, columns in ((running, mine), (made, theirs))
            ]
            unlike = np.array([a != b for a, b in zip(*texts, strict=True)], np.bool_)
            yield Difference("attributes", both[(types != types_made) | (numbers != numbers_made) | unlike])
        yield None


def _text(population: Population, number: int) -> str:
    return population.texts.text(number) if number else ""


def _cells(column: NDArray[np.integer], ids: NDArray[np.uint32]) -> NDArray[np.integer]:
    """The cells of a column, 0 beyond its end."""
    found: NDArray[np.integer] = np.where(ids < len(column), column[np.where(ids < len(column), ids, 0)], 0)
    return found
