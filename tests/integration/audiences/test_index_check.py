"""The check of the index: nothing is wrong with one that works; whatever is, in memory or in a table, is named."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest
import pytest_asyncio

from pushd.commands import index_check
from pushd.errors import ConflictError
from pushd.model.audience import Broadcast
from pushd.model.device import Environment, Kind, Platform
from pushd.model.rows import DeviceFlag
from tests.integration.audiences.world import Nodes, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(module_dsn):
    both = Nodes(module_dsn)
    await both.start()
    yield both
    await both.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(nodes):
    made = World(nodes)
    await made.start()
    for change in CHANGES:
        await made.do(change)
    await nodes.synchronous()
    object.__setattr__(made.context, "position", lambda: nodes.first.follower.position)
    yield made
    await made.do(("delete_app",))
    await nodes.synchronous()


def phone(number, **fields):
    fields = {"user_id": "ann", "tags": ["news"], "alias": "hall", "platform": Platform.IOS, "locale": "de", **fields}
    return ("register", f"phone {number}", Kind.APNS, Environment.PRODUCTION, number, fields)


CHANGES = [
    ("put_user", "ann", {"email": "ann@example.com", "tags": ["vip"], "attributes": {"plan": "gold", "age": 7}}),
    ("make_channel", "c1"),
    *(phone(number) for number in range(4)),
    phone(4, user_id=None, alias=None),
    ("subscribe", "c1", "phone 1", "ann", True),
    ("make_fence", 0, True, ["shop"]),
    ("locate", 0, 0),
    ("locate", 1, 1),
    ("put_segment", "s1", Broadcast()),
]


async def checked(world):
    lines = [line async for line in await index_check.check(world.context)]
    return {(line.of, line.what): line.ids for line in lines[:-1]}, lines[-1]


async def test_an_index_that_works_is_as_the_database_says(world):
    found, summary = await checked(world)
    assert found == {}
    assert (summary.devices, summary.users, summary.differences, summary.unsettled) == (5, 1, 0, 0)


def population(world):
    return world.context.index._population


def tenant(world):
    return population(world).tenants[world.app_id]


def lose_tag(world, device):
    tenant(world).tags.find("news").own.discard(device)


def gain_tag_of_user(world, device):
    tenant(world).tags.find("vip").by_user.add(device)


def lose_reachable(world, device):
    tenant(world).reachable.discard(device)


def change_flags(world, device):
    population(world).devices.flags.cells[device] ^= int(DeviceFlag.PUSH_ENABLED)


def change_token(world, device):
    devices = population(world).devices
    devices.token_places.cells[device] = devices.tokens.put(b"another")


def lose_owner(world, device):
    population(world).owners.unlink(population(world).devices.users.cells[device], device)


def lose_locale(world, device):
    tenant(world).facets.values["locale"].find("de").discard(device)


def move(world, device):
    world.context.index.places._latitudes.cells[device] += 1


def enter(world, device):
    next(iter(world.context.index.places.app(world.app_id).fences.values())).members.add(device)


def lose_alias(world, device):
    population(world).aliases.unlink(population(world).devices.aliases.cells[device], device)


def lose_attribute(world, device):
    column = population(world).attributes[world.app_id].find("plan")
    for label in column.labels.values():
        tenant(world).tags.listed[label - 1].by_user.discard(device)


@pytest.mark.parametrize(
    ("corrupt", "what"),
    [
        (lose_tag, "tag or channel"),
        (gain_tag_of_user, "tag or channel of the user"),
        (lose_reachable, "reachable"),
        (change_flags, "flags"),
        (change_token, "tokens"),
        (lose_owner, "devices of users"),
        (lose_locale, "locale"),
        (move, "location"),
        (enter, "members of a geofence"),
        (lose_alias, "devices by alias"),
        (lose_attribute, "attribute"),
    ],
)
async def test_what_is_wrong_in_memory_is_named(world, corrupt, what):
    device = world.met[4 if corrupt is gain_tag_of_user else 1]
    corrupt(world, device)
    found, summary = await checked(world)
    assert found[("devices", what)] == [device]
    assert summary.differences == sum(map(len, found.values())) > 0
    assert summary.unsettled == 0


async def test_users_that_memory_lost_or_made_up_are_named(world):
    await world.bound(Broadcast())
    number = world.naive.numbers["ann"]
    population(world).users.quiet.cells[number] = 5
    tenant(world).quiet.add(number)
    population(world).users.emails.cells[number] = 0
    population(world).identities.drop_many(np.array([number], np.uint32))
    found, summary = await checked(world)
    assert found[("users", "e-mail addresses")] == found[("users", "users by external id")] == [number]
    assert found[("users", "quiet hours")] == found[("users", "users with quiet hours")] == [number]
    assert summary.differences == sum(map(len, found.values()))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE devices SET labels = NULL WHERE id = $1", ("devices", "tag or channel")),
        ("UPDATE devices SET revision = revision + 1, alias = 'den' WHERE id = $1", ("devices", "aliases")),
        ("DELETE FROM devices WHERE id = $1", ("devices", "devices that are there")),
    ],
)
async def test_a_row_that_was_changed_behind_its_back_is_named(world, statement, what):
    await world.context.store.database.execute(statement, world.met[2])
    found, _ = await checked(world)
    assert found[what] == [world.met[2]]


async def test_definitions_that_were_changed_behind_its_back_are_named(world):
    database = world.context.store.database
    await database.execute("DELETE FROM segments WHERE app_id = $1", world.app_id)
    await database.execute("UPDATE channels SET uuid = 'c9' WHERE app_id = $1", world.app_id)
    await database.execute("UPDATE geofences SET revision = 9 WHERE app_id = $1", world.app_id)
    found, summary = await checked(world)
    assert found.keys() == {(of, "definitions") for of in ("segments", "channels", "geofences")}
    assert summary.differences == 3


async def test_changes_on_their_way_are_no_difference(world, nodes):
    """Another node writes all the while; and one transaction holds the feed back."""
    other = World(nodes)
    other.app_id, other.met, other.naive = world.app_id, world.met, world.naive
    index = world.context.index
    held = await world.context.store.database.connect()
    transaction = held.transaction()
    await transaction.start()
    await held.execute("SELECT pg_current_xact_id()")
    # As another node would: nothing of it is applied here but by the feed.
    other.context = other_node(other, nodes)
    writing = asyncio.create_task(keep_writing(other))
    checking = asyncio.create_task(checked(world))
    await asyncio.sleep(0.5)
    await transaction.rollback()
    found, summary = await asyncio.wait_for(checking, 60)
    writing.cancel()
    await held.close()
    assert found == {}
    assert summary.differences == 0
    assert index is nodes.first.index


def other_node(world, nodes):
    second = nodes.second
    return dataclasses.replace(world.context, store=second.store, index=second.index, definitions=second.definitions)


async def keep_writing(world):
    for number in range(10_000):
        at = number % 5
        await world.do(("change", at, {"tags": [f"t{number % 7}"], "alias": f"a{number % 3}"}))
        await world.do(("locate", at, number % 4))
        await world.do(("put_user", "ann", {"tags": [f"u{number % 5}"], "attributes": {"plan": f"p{number % 4}"}}))


async def test_one_check_at_a_time(world):
    lines = await index_check.check(world.context)
    await anext(lines)
    with pytest.raises(ConflictError):
        await index_check.check(world.context)
    await lines.aclose()
    assert (await checked(world))[1].differences == 0
