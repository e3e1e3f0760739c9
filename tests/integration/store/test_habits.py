"""Hours learned from receipts, once each, against the documented method in plain Python; read for many devices."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from datetime import datetime
from zoneinfo import ZoneInfo

import asyncpg
import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.errors import UnavailableError
from pushd.model.app import Settings
from pushd.model.habits import HALF_LIFE_S, HOURS, decayed
from pushd.model.receipt import Event, Receipt
from pushd.scheduler.habits import Habits
from pushd.store import habits as store_habits
from pushd.targeting.index import Index
from tests.integration.store.samples import accept, registration

pytestmark = pytest.mark.asyncio
DAY = 86_400
ZONES = ["Europe/Berlin", "Asia/Kolkata", "America/St_Johns", None, "Nowhere/Else"]
ENOUGH = Devices(range(3_000_000, 3_000_100))
"""Devices that nobody has: they make a send a large one."""


async def sent_at(store, app, node, created_at, devices=ENOUGH):
    done = await store.notifications.accept(accept(app.id, node.id, Devices(devices), created_at=created_at))
    return done.id


async def registered(store, app, people):
    """Device ids by install; `people` are (user, zone) by install."""
    wanted = [
        registration(install, user_id=user, **({"time_zone": zone} if zone else {}))
        for install, (user, zone) in people.items()
    ]
    done = await store.devices.register_many(app.id, wanted, time.time())
    return dict(zip(people, done.ids.tolist(), strict=True))


def opened(install, notification_id, at, event=Event.OPENED, number=0):
    return Receipt(
        notification_id=notification_id, event=event, id=f"{event}-{number}", install_id=f"install-{install}", at=at
    )


async def weights(store, user_id, at):
    known = await store.habits.read(np.array([user_id], np.uint32))
    return decayed(known.weights, known.touched, at)[0] if len(known.ids) else np.zeros(HOURS)


async def fold(store):
    return await store.receipts.folder.fold(older_s=-3600)


async def user_id(store, app, name):
    return (await store.users.get(app.id, name)).id


async def test_hours_are_learned_by_the_documented_method(store, node):
    app = await store.apps.create("one", Settings(time_zone="Asia/Tokyo"))
    rng, now = np.random.default_rng(1), time.time()
    people = {install: (f"user-{install % 7}", ZONES[install % 5]) for install in range(20)}
    await registered(store, app, people)
    expected: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(HOURS))
    for number in range(12):
        created = now - float(rng.integers(1, 100)) * DAY
        notification_id = await sent_at(store, app, node, created, ENOUGH if number % 2 else Devices([9]))
        receipts = []
        for install in rng.choice(20, 9, replace=False).tolist():
            at = float(int(rng.uniform(created + 1, now - 1)))
            user, zone = people[install]
            own = ZoneInfo("Asia/Tokyo" if zone in {None, "Nowhere/Else"} else zone)
            expected[user][datetime.fromtimestamp(at, own).hour] += 0.5 ** ((now - at) / HALF_LIFE_S)
            receipts.append(opened(install, notification_id, at))
            receipts.append(opened(install, notification_id, at + 1, Event.DELIVERED))
        await store.receipts.take(app.id, receipts)
        if number % 3 == 0:
            assert await fold(store) > 0
    await fold(store)
    for user, hours in expected.items():
        found = await weights(store, await user_id(store, app, user), now)
        assert found == pytest.approx(hours, rel=1e-3, abs=1e-5)
    together = await store.habits.crowd(app.id, now)
    assert together == pytest.approx(sum(expected.values()), rel=1e-3, abs=1e-5)


async def test_an_open_counts_once(store, app, node):
    now = time.time()
    await registered(store, app, {1: ("ada", "UTC"), 2: ("ada", "UTC"), 3: (None, "UTC")})
    first, second = [await sent_at(store, app, node, now - DAY, Devices([each])) for each in (1, 2)]
    at = now - 3600
    receipts = [
        opened(1, first, at),
        opened(1, first, at),  # again
        opened(1, first, at, Event.CLICKED),  # of the same open
        opened(2, first, at, Event.CLICKED),  # on another phone
        opened(1, second, at, Event.DISMISSED),
        opened(3, first, at),  # nobody's
    ]
    await store.receipts.take(app.id, receipts)
    await store.receipts.take(app.id, receipts)
    await store.receipts.take(app.id, [opened(1, first, at + 60, number=1)])  # it is opened once more: no other habit
    for _ in range(3):
        await asyncio.gather(*(fold(store) for _ in range(4)))
        found = await weights(store, await user_id(store, app, "ada"), at)
        assert found.sum() == pytest.approx(2, rel=1e-3)
    await store.receipts.take(app.id, [opened(1, second, at)])
    await fold(store)
    assert (await weights(store, await user_id(store, app, "ada"), at)).sum() == pytest.approx(3, rel=1e-3)


async def test_what_is_not_learned_stays(store, app, node, monkeypatch):
    """A failure between what was learned of users and of the app: neither counts, and then both do."""
    now = time.time()
    await registered(store, app, {1: ("ada", "UTC")})
    await store.receipts.take(app.id, [opened(1, await sent_at(store, app, node, now - DAY), now - 60)])
    monkeypatch.setattr(store_habits, "_PUT_CROWD", "SELECT 1 / ($2::int - $2) + $1, $3::bytea")
    with pytest.raises(asyncpg.PostgresError):
        await fold(store)
    monkeypatch.setattr(store_habits, "_crowd", lambda row: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await fold(store)
    assert not (await weights(store, await user_id(store, app, "ada"), now)).any()
    monkeypatch.undo()
    await fold(store)
    assert (await weights(store, await user_id(store, app, "ada"), now)).sum() == pytest.approx(1, rel=1e-3)
    assert (await store.habits.crowd(app.id, now)).sum() == pytest.approx(1, rel=1e-3)


async def test_who_is_deleted_leaves_no_habits(store, app, node):
    now = time.time()
    await registered(store, app, {1: ("ada", "UTC"), 2: ("bob", "UTC"), 3: ("cid", "UTC")})
    notification_id = await sent_at(store, app, node, now - DAY)
    ids = {name: await user_id(store, app, name) for name in ("ada", "bob", "cid")}
    await store.receipts.take(app.id, [opened(1, notification_id, now - 60), opened(3, notification_id, now - 60)])
    await fold(store)
    await store.receipts.take(app.id, [opened(2, notification_id, now - 60)])
    await store.users.delete(app.id, "ada")
    await store.users.delete(app.id, "bob")  # before what he opened is learned
    await fold(store)
    assert await store.database.fetchval("SELECT array_agg(user_id) FROM habits") == [ids["cid"]]
    # One that was learned while its user went, goes with the tombstone.
    late = "INSERT INTO habits SELECT $1, touched, weights FROM habits WHERE user_id = $2"
    await store.database.execute(late, ids["bob"], ids["cid"])
    await store.database.execute("UPDATE users SET deleted_at = now() - interval '3 days' WHERE deleted_at IS NOT NULL")
    await store.maintenance.purge()
    assert await store.database.fetchval("SELECT array_agg(user_id) FROM habits") == [ids["cid"]]


async def test_habits_go_with_their_app(store, app, node):
    now = time.time()
    await registered(store, app, {1: ("ada", "UTC")})
    await store.receipts.take(app.id, [opened(1, await sent_at(store, app, node, now - DAY), now - 60)])
    await fold(store)
    assert await store.database.fetchval("SELECT count(*) FROM crowds, habits") == 1
    await store.apps.delete(app.id)
    await store.database.execute("UPDATE apps SET deleted_at = now() - interval '3 days'")
    await store.maintenance.purge()
    for table in ("crowds", "habits", "users"):
        assert await store.database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def loaded(store):
    index = Index()
    async for users in store.users.load():
        index.apply_users(users)
    async for devices in store.devices.load():
        index.apply_devices(devices)
    return index


async def open_at(store, app, node, installs, hour, times=4):
    """Each install opens so often, at an hour of UTC."""
    today = time.time() // DAY * DAY
    for number in range(1, times + 1):
        at = today - number * DAY + hour * 3600 + 60
        notification_id = await sent_at(store, app, node, at - 60, Devices([1]))
        await store.receipts.take(app.id, [opened(install, notification_id, at) for install in installs])


async def test_hours_of_devices_fall_back_to_their_audience_the_app_and_noon(store, app, node):
    people = {install: (f"user-{install}" if install < 9 else None, "UTC") for install in range(1, 11)}
    devices = await registered(store, app, people)
    habits = Habits(await loaded(store), store.habits)

    async def hours(*installs):
        ids, found = await habits.hours(app.id, Devices([devices[each] for each in installs]), time.time())
        by_device = dict(zip(ids.tolist(), found.tolist(), strict=True))
        return [by_device[devices[each]] for each in installs]

    assert await hours() == []
    assert await hours(1, 9) == [12, 12]
    await open_at(store, app, node, [1, 2, 3, 4], 20)
    await open_at(store, app, node, [5], 6)
    await open_at(store, app, node, [6], 3, times=1)
    await fold(store)
    assert await hours(1, 5) == [20, 6]  # their own
    assert await hours(1, 2, 6, 7, 9) == [20] * 5  # what those of the audience do together
    assert await hours(5, 6, 7, 9) == [6] * 4
    assert await hours(6, 7, 10) == [20] * 3  # nobody in the audience is known: what the app's users do
    ids, found = await habits.hours(app.id, Devices([devices[7], 5_000_000]), time.time())
    assert (ids.tolist(), found.tolist()) == ([devices[7], 5_000_000], [20, 20])


@pytest.mark.parametrize("spread", [0, 10**9], ids=["looked up", "as a range"])
async def test_many_are_read_in_slices(store, app, node, spread, monkeypatch):
    monkeypatch.setattr(store_habits, "SPREAD_MAX", spread)
    for module, name in ((store_habits, "SLICE_OPENS"), (store_habits, "ROUND_DELTAS")):
        monkeypatch.setattr(module, name, 3)
    monkeypatch.setattr("pushd.scheduler.habits.READ_ROWS", 7)
    monkeypatch.setattr("pushd.scheduler.habits.SLICE_ROWS", 5)
    people = {install: (f"user-{install // 2}", "UTC") for install in range(2, 62)}
    devices = await registered(store, app, people)
    for hour in range(5):
        await open_at(store, app, node, [each for each in people if each // 2 % 5 == hour], hour)
    await fold(store)
    habits = Habits(await loaded(store), store.habits)
    ids, found = await habits.hours(app.id, Devices(devices.values()), time.time())
    assert ids.tolist() == sorted(devices.values())
    by_device = dict(zip(ids.tolist(), found.tolist(), strict=True))
    assert {install: by_device[device] for install, device in devices.items()} == {
        install: install // 2 % 5 for install in people
    }


async def test_an_outage_is_unavailable(store, app):
    await registered(store, app, {1: ("ada", "UTC")})
    habits = Habits(await loaded(store), store.habits)
    await store.stop()
    with pytest.raises(UnavailableError):
        await habits.hours(app.id, Devices([1]), time.time())
    await store.start()
