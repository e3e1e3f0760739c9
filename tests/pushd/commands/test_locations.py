"""Locations: the last one only, by when it was, shared by an install's devices, and forgotten."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import convert

from pushd.commands import devices, geofences, locations
from pushd.commands.places import PlaceKeeper
from pushd.config import PlacesConfig
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.audience import Audience
from pushd.model.device import Kind
from pushd.model.geofence import LocationReport, NewGeofence
from pushd.store.changes import Listeners
from pushd.targeting.index import Index
from tests.pushd.commands.world import World

pytestmark = pytest.mark.asyncio(loop_scope="package")

PARIS, LYON = (48.8584, 2.2945), (45.764, 4.8357)


def circle(place, radius=1000):
    geometry = {"type": "Point", "coordinates": [place[1], place[0]]}
    return {"type": "Feature", "properties": {"radius": radius}, "geometry": geometry}


async def at(world: World, device, place, **more):
    report = LocationReport(latitude=place[0], longitude=place[1], **more)
    return (await locations.report(world.context, world.app.id, device.id, report)).kept


async def fence(world: World, place, radius=1000, **more):
    made = await geofences.create(
        world.context, world.app.id, NewGeofence(name="Fence", bounds=circle(place, radius), **more)
    )
    for _ in world.context.index.settle_places():
        pass
    return made.id


def inside(index: Index, app_id: int, audience=None) -> set[int]:
    wanted = convert(audience or {"type": "geofence", "any": True}, Audience)
    return set(index.resolve(app_id, wanted, set(Kind)).devices)


def here(world: World, audience=None) -> set[int]:
    return inside(world.context.index, world.app.id, audience)


async def loaded(world: World) -> Index:
    """An index made from what is stored, places included."""
    index = await world.reloaded()
    keeper = PlaceKeeper(world.context.store, index, world.context.clock, PlacesConfig())
    async with world.context.store.snapshot() as snapshot:
        await keeper.load(snapshot)
    await keeper.settle()
    return index


def clocked(world: World, now: float) -> None:
    """Lets the commands of a world, not its store, live at another time."""

    class Still:
        def now(self) -> float:
            return now

    object.__setattr__(world.context, "clock", Still())


async def test_the_newest_by_its_own_time_is_kept(world: World):
    device = await world.register("a")
    await fence(world, PARIS)
    now = world.context.clock.now()
    assert await at(world, device, LYON, at=now - 100)
    assert await at(world, device, PARIS, at=now - 50, accuracy=3.5)
    assert not await at(world, device, LYON, at=now - 75)
    assert here(world) == {device.id}
    shown = await locations.get(world.context, world.app.id, device.id)
    assert (shown.latitude, shown.longitude, shown.accuracy) == (*PARIS, 3.5)
    assert shown.at == pytest.approx(now - 50)
    assert await at(world, device, LYON)
    assert here(world) == set()
    assert here(world, {"type": "located", "is": True}) == {device.id}


async def test_reports_at_once_share_a_commit_and_the_latest_counts(world: World):
    ones = [await world.register(f"a{n}") for n in range(5)]
    await fence(world, PARIS)
    now = world.context.clock.now()
    reports = [
        at(world, one, PARIS if number % 2 else LYON, at=now - 100 + number) for number in range(10) for one in ones
    ]
    kept = await asyncio.gather(*reversed(reports))
    assert kept.count(True) >= 5
    assert here(world) == {one.id for one in ones}
    assert inside(await loaded(world), world.app.id) == here(world)


async def test_all_devices_of_an_install_share_its_place_those_that_come_later_too(world: World):
    first = await world.register("a")
    await fence(world, PARIS)
    await at(world, first, PARIS)
    second = await world.register("a", kind=Kind.FCM)
    elsewhere = await world.register("b")
    assert here(world) == {first.id, second.id}
    await at(world, second, LYON)
    assert here(world) == set()
    await at(world, second, PARIS)
    await devices.delete(world.context, world.app.id, first.id)
    assert here(world) == {second.id}
    await devices.delete(world.context, world.app.id, second.id)
    assert here(world) == set()
    again = await world.register("a")
    assert here(world) == set(), "an install that was deleted is forgotten"
    assert inside(await loaded(world), world.app.id, {"type": "located", "is": False}) == {again.id, elsewhere.id}


async def test_forgetting_and_what_is_not_there(world: World):
    device = await world.register("a")
    other = await world.another_app()
    await fence(world, PARIS)
    await at(world, device, PARIS)
    for call in (
        locations.forget(world.context, other.app.id, device.id),
        locations.get(world.context, world.app.id, device.id, install_id="b"),
        locations.report(
            world.context, world.app.id, device.id, LocationReport(latitude=0, longitude=0), install_id="b"
        ),
        locations.report(world.context, other.app.id, device.id, LocationReport(latitude=0, longitude=0)),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert here(world) == {device.id}
    await locations.forget(world.context, world.app.id, device.id)
    assert here(world) == set()
    with pytest.raises(NotFoundError):
        await locations.get(world.context, world.app.id, device.id)
    await locations.forget(world.context, world.app.id, device.id)
    assert await at(world, device, PARIS)
    assert here(world) == {device.id}
    assert inside(await loaded(world), world.app.id) == {device.id}


async def test_a_time_in_the_future_is_refused_and_one_long_ago_is_not_kept(world: World):
    device = await world.register("a")
    now = world.context.clock.now()
    with pytest.raises(InvalidRequestError) as caught:
        await at(world, device, PARIS, at=now + 1_000)
    assert caught.value.faults[0].pointer == "/at"
    assert not await at(world, device, PARIS, at=now - 31 * 86_400)
    assert here(world, {"type": "located", "is": True}) == set()
    assert await at(world, device, PARIS, at=now + 10), "a clock may be a little ahead"
    assert (await locations.get(world.context, world.app.id, device.id)).at <= world.context.clock.now()


async def test_locations_are_forgotten_at_their_age(world: World):
    old, new = await world.register("old"), await world.register("new")
    await fence(world, PARIS)
    now = world.context.clock.now()
    await at(world, old, PARIS, at=now - 5_000)
    await at(world, new, PARIS, at=now - 100)
    context = world.context
    keeper = PlaceKeeper(
        context.store, context.index, context.clock, PlacesConfig(location_keep_s=1_000, sweep_rows_max=1)
    )
    assert await keeper.forget_old() >= 1
    assert here(world) == {new.id}
    assert inside(await loaded(world), world.app.id) == {new.id}
    never = PlaceKeeper(context.store, context.index, context.clock, PlacesConfig(location_keep_s=0))
    assert await never.forget_old() == 0


async def test_another_node_hears_of_it_through_the_feed(world: World):
    one, two = await world.register("a"), await world.register("b")
    made = await fence(world, PARIS)
    index = await loaded(world)
    keeper = PlaceKeeper(world.context.store, index, world.context.clock, PlacesConfig())
    position = await world.context.store.changes.position()
    follower = world.context.store.follow(
        Listeners(
            on_devices=index.apply_devices,
            on_users=index.apply_users,
            on_geofences=keeper.geofences_changed,
            on_locations=keeper.locations_changed,
            known_locations=index.places.knows,
        )
    )
    follower._begin = lambda: position
    await follower.start()
    await keeper.start()
    try:
        await at(world, one, PARIS)
        await at(world, two, PARIS)
        await world.register("a", kind=Kind.FCM)
        await locations.forget(world.context, world.app.id, two.id)
        await until(lambda: inside(index, world.app.id) == here(world) and len(here(world)) == 2)
        await geofences.update(
            world.context, world.app.id, made, convert({"bounds": circle(LYON)}, geofences.GeofenceChange)
        )
        await until(lambda: inside(index, world.app.id) == set())
        await geofences.delete(world.context, world.app.id, made)
        await until(lambda: not index.places.app(world.app.id).fences)
    finally:
        await keeper.stop()
        await follower.stop()


async def until(holds):
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)
