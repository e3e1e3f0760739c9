"""Crossings: counted and noted with the location, sent once whatever happens in between, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import convert

from pushd.clock import SystemClock
from pushd.commands import geofences, locations
from pushd.commands.crossings import Crossings
from pushd.config import Config, PlacesConfig
from pushd.errors import TooManyRequestsError, UnavailableError
from pushd.model.app import App
from pushd.model.geofence import GeofenceChange
from pushd.model.notification import Send
from pushd.model.quiet import Policy
from pushd.store.locations import Crossed
from tests.pushd.commands.test_locations import LYON, PARIS, at, fence
from tests.pushd.commands.world import World

pytestmark = pytest.mark.asyncio(loop_scope="package")

WELCOME = convert({"message": {"title": "Welcome"}, "min_interval_s": 0}, geofences.Trigger)
BYE = convert({"message": {"title": "Bye"}, "min_interval_s": 0}, geofences.Trigger)
HOURLY = convert({"message": {"title": "Welcome"}, "min_interval_s": 3600}, geofences.Trigger)


class Ahead:
    """The system's clock, so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return SystemClock().now() + self.seconds


@asynccontextmanager
async def crossing(world: World, **places) -> AsyncIterator[Crossings]:
    """Crossings noted, and sent when the test says so."""
    config = Config(places=PlacesConfig(**{"crossing_retry_s": 0.05, **places}))
    object.__setattr__(world.context, "config", config)
    crossings = Crossings(world.context)
    crossings.spawn = lambda work, _: work.close()
    await crossings.start()
    try:
        yield crossings
    finally:
        await crossings.stop()
        world.context.store.locations.crossed = Crossed()
        await world.context.store.database.execute("DELETE FROM crossings")


async def waiting(world: World) -> int:
    return (await world.context.store.crossings.waiting()).get(world.app.id, 0)


def sent(world: World) -> list[tuple[str, set[int]]]:
    return [
        (notification.send.message.title, set(targets))
        for notification, _, targets in world.fanout.released
        if notification.app_id == world.app.id
    ]


async def test_entering_and_leaving_are_counted_and_sent(world: World):
    one, two = await world.register("one"), await world.register("two")
    made = await fence(world, PARIS, on_enter=WELCOME, on_exit=BYE)
    async with crossing(world) as crossings:
        await at(world, one, PARIS)
        await at(world, two, LYON)
        assert await waiting(world) == 1
        assert await crossings.send_some()
        assert not await crossings.send_some()
        assert sent(world) == [("Welcome", {one.id})]
        await at(world, one, PARIS)
        await at(world, one, LYON)
        while await crossings.send_some():
            pass
        assert sent(world) == [("Welcome", {one.id}), ("Bye", {one.id})]
        stats = await geofences.stats(world.context, world.app.id, made)
        assert (stats.activation_count, stats.exit_count, stats.active_users, stats.active_devices) == (1, 1, 0, 0)
        assert stats.last_activated_at is not None
        assert world.fanout.released[-1][0].send.name == "Fence: exit"


async def test_users_count_once_and_installs_without_one_each(world: World):
    made = await fence(world, PARIS)
    async with crossing(world):
        for install, fields in (
            ("a", {"user_id": "ada"}),
            ("b", {"user_id": "ada"}),
            ("c", {}),
            ("d", {}),
            ("e", {"user_id": "bob"}),
        ):
            await at(world, await world.register(install, **fields), PARIS)
        await world.register("c", kind="fcm")
        stats = await geofences.stats(world.context, world.app.id, made)
        assert (stats.activation_count, stats.active_users, stats.active_devices) == (5, 4, 6)


async def test_an_install_rests_for_the_interval_of_the_fence_in_each_direction(world: World):
    device, other = await world.register("one"), await world.register("two")
    made = await fence(world, PARIS, on_enter=HOURLY, on_exit=BYE)
    async with crossing(world) as crossings:
        for place in (PARIS, LYON, PARIS, LYON, PARIS):
            await at(world, device, place)
        await at(world, other, PARIS)
        assert await waiting(world) == 4  # one welcome each, two farewells
        world.context.store.locations._clock = Ahead(3_700)
        try:
            await at(world, device, LYON)
            await at(world, device, PARIS)
            assert await waiting(world) == 6
        finally:
            world.context.store.locations._clock = SystemClock()
        while await crossings.send_some():
            pass
        assert await waiting(world) == 0
        assert (await geofences.get(world.context, world.app.id, made)).activation_count == 5
        titles = [title for title, devices in sent(world) if device.id in devices]
        assert sorted(titles) == ["Bye"] * 3 + ["Welcome"] * 2


async def test_many_that_cross_together_are_one_notification(world: World):
    devices = [await world.register(f"one{number}") for number in range(40)]
    await fence(world, PARIS, on_enter=WELCOME)
    async with crossing(world) as crossings:
        await asyncio.gather(*(at(world, device, PARIS) for device in devices))
        assert await crossings.send_some()
        assert sent(world) == [("Welcome", {device.id for device in devices})]
        assert await waiting(world) == 0


async def test_what_was_accepted_before_a_crash_is_not_sent_again(world: World):
    device = await world.register("one")
    await fence(world, PARIS, on_enter=WELCOME)
    store = world.context.store
    async with crossing(world) as crossings:
        await at(world, device, PARIS)
        done, store.crossings.done = store.crossings.done, crash
        try:
            with pytest.raises(UnavailableError):
                await crossings.send_some()
        finally:
            store.crossings.done = done
        assert sent(world) == [("Welcome", {device.id})]
        await asyncio.sleep(0.1)
        # Whoever comes next takes the same batch, with others that crossed meanwhile apart from it.
        late = await world.register("late")
        await at(world, late, PARIS)
        again = Crossings(world.context)
        assert await again.send_some()
        assert await waiting(world) == 0
        assert sent(world) == [("Welcome", {device.id}), ("Welcome", {late.id})]


async def crash(_):
    raise UnavailableError("gone")


async def test_two_nodes_share_the_work_and_do_none_of_it_twice(world: World):
    devices = [await world.register(f"one{number}") for number in range(12)]
    await fence(world, PARIS, on_enter=WELCOME)
    async with crossing(world, crossings_batch_max=3, crossing_retry_s=60) as crossings:
        for device in devices:
            await at(world, device, PARIS)
        both = [crossings, Crossings(world.context)]
        while any(await asyncio.gather(*(each.send_some() for each in both))):
            pass
        targets = [each for _, ids in sent(world) for each in ids]
        assert sorted(targets) == sorted(device.id for device in devices)
        assert await waiting(world) == 0


async def test_a_full_fanout_leaves_crossings_for_later(world: World):
    device = await world.register("one")
    await fence(world, PARIS, on_enter=WELCOME)
    async with crossing(world) as crossings:
        await at(world, device, PARIS)
        world.fanout.full = TooManyRequestsError("full", retry_after_s=1)
        assert await crossings.send_some()
        assert (sent(world), await waiting(world)) == ([], 1)
        assert not await crossings.send_some(), "not before its time"
        world.fanout.full = None
        await asyncio.sleep(0.1)
        assert await crossings.send_some()
        assert (sent(world), await waiting(world)) == ([("Welcome", {device.id})], 0)


async def test_a_full_queue_refuses_the_reports_that_would_lengthen_it_and_no_others(world: World):
    devices = [await world.register(f"one{number}") for number in range(4)]
    await fence(world, PARIS, on_enter=WELCOME)
    async with crossing(world, crossings_waiting_max=2) as crossings:
        done = await asyncio.gather(
            *(at(world, device, PARIS) for device in devices[:3]),
            at(world, devices[3], LYON),
            return_exceptions=True,
        )
        refused = [each for each in done if isinstance(each, UnavailableError)]
        assert len(refused) == 1
        assert refused[0].retry_after_s
        assert done[3] is True
        assert await waiting(world) == 2
        assert await crossings.send_some()
        left = [device for device, each in zip(devices, done, strict=False) if each is not True]
        assert await at(world, left[0], PARIS), "what was refused is as if it had never come"
        assert await crossings.send_some()
        assert len([each for _, ids in sent(world) for each in ids]) == 3


async def test_crossings_that_nobody_wants_any_more_are_dropped(world: World):
    devices = [await world.register(f"one{number}") for number in range(3)]
    made = await fence(world, PARIS, on_enter=WELCOME)
    async with crossing(world, crossing_life_s=100) as crossings:
        await at(world, devices[0], PARIS)
        await geofences.update(world.context, world.app.id, made, GeofenceChange(on_enter=None))
        assert await crossings.send_some()
        await geofences.update(world.context, world.app.id, made, GeofenceChange(on_enter=WELCOME))
        await at(world, devices[1], PARIS)
        object.__setattr__(world.context, "clock", Ahead(200))
        assert await crossings.send_some()
        object.__setattr__(world.context, "clock", SystemClock())
        await at(world, devices[2], PARIS)
        now = world.context.clock.now()
        assert await world.context.store.locations.sweep(now - 100, 10) == (0, False)
        assert await world.context.store.locations.sweep(now + 100, 10) == (1, False)
        assert not await crossings.send_some()
        assert (sent(world), await waiting(world)) == ([], 0)
        await geofences.delete(world.context, world.app.id, made)


async def test_an_edit_is_no_crossing_and_a_disabled_fence_has_none(world: World):
    device = await world.register("one")
    made = await fence(world, LYON, on_enter=WELCOME, on_exit=BYE)
    async with crossing(world):
        await at(world, device, PARIS)
        bounds = (await geofences.get(world.context, world.app.id, made)).bounds
        moved = {**bounds, "geometry": {"type": "Point", "coordinates": [PARIS[1], PARIS[0]]}}
        await geofences.update(world.context, world.app.id, made, GeofenceChange(bounds=moved))
        assert await waiting(world) == 0
        await geofences.update(world.context, world.app.id, made, GeofenceChange(enabled=False))
        await at(world, device, LYON)
        assert await waiting(world) == 0
        await locations.forget(world.context, world.app.id, device.id)
        await geofences.update(world.context, world.app.id, made, GeofenceChange(enabled=True))
        await at(world, device, PARIS)
        assert await waiting(world) == 1
        assert (await geofences.get(world.context, world.app.id, made)).activation_count == 1


async def test_the_task_sends_what_comes(world: World):
    device = await world.register("one")
    await fence(world, PARIS, on_enter=WELCOME)
    crossings = Crossings(world.context)
    await crossings.start()
    try:
        await at(world, device, PARIS)
        async with asyncio.timeout(60):
            while not sent(world) or await waiting(world):
                await asyncio.sleep(0.01)
    finally:
        await crossings.stop()
    # One that commits after the last was sent is noted all the same.
    late = await world.register("late")
    await at(world, late, PARIS)
    assert await waiting(world) == 1
    world.context.store.locations.crossed = Crossed()
    assert sent(world) == [("Welcome", {device.id})]


class Quiet:
    """Quiet hours that may concern whatever has a category."""

    def concerns(self, _: App, send: Send, /) -> bool:
        return send.category is not None


async def test_what_quiet_hours_may_keep_back_waits_as_a_schedule(world: World):
    one = await world.register("one")
    fields = {"message": {"title": "Welcome"}, "category": "places", "quiet_hours": "drop", "min_interval_s": 0}
    await fence(world, PARIS, on_enter=convert(fields, geofences.Trigger))
    object.__setattr__(world.context, "gate", Quiet())
    async with crossing(world) as crossings:
        await at(world, one, PARIS)
        assert await crossings.send_some()
        assert not await crossings.send_some()
        assert sent(world) == []
        (kept,) = await world.context.store.schedules.list(world.app.id, 0, 10)
        assert (kept.send.category, kept.send.quiet_hours, kept.send.audience.ids) == ("places", Policy.DROP, [one.id])
