"""The change feed: nothing is missed, however late it commits; readers hear what others wrote."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.errors import UnavailableError
from pushd.model.app import Role, Settings
from pushd.model.credential import CredentialState
from pushd.model.device import Environment, GatewayName
from pushd.model.rows import DeviceFlag
from pushd.model.user import UserChange
from pushd.store.changes import PAGE_ROWS, Aggregate, FeedLostError, Listeners
from pushd.store.store import Store
from tests.integration.store.samples import NOW, accept, image, registration
from tests.integration.store.test_devices import retire
from tests.integration.store.test_settlements import wait_until

pytestmark = pytest.mark.asyncio


async def drained(store, position, expected=0):
    """Everything readable from a position on, once it is so much: any writer on the server may hold it back a while."""
    found = []
    for _ in range(200):
        events, position, *_ = await store.changes.read(position)
        found += events
        if not events:
            if len(found) >= expected:
                break
            await asyncio.sleep(0.02)
    return found, position


async def test_changes_are_read_once_in_order(store, app):
    position = await store.changes.position()
    for number in range(5):
        await store.devices.register_many(app.id, [registration(number)], NOW)
    await store.users.put_many(app.id, [UserChange(external_id="ann")])
    events, position = await drained(store, position, 6)
    assert [(each.aggregate, list(each.ids), list(each.revisions)) for each in events] == [
        *((Aggregate.DEVICES, [number], [1]) for number in range(1, 6)),
        (Aggregate.USERS, [1], [1]),
    ]
    assert {each.app_id for each in events} == {app.id}
    assert (await drained(store, position))[0] == []


async def test_who_commits_late_is_not_missed(store, app):
    position = await store.changes.position()
    early = await store.database.connect()
    transaction = early.transaction()
    await transaction.start()
    await early.execute("SELECT note_change(1::smallint, $1, ARRAY[111], ARRAY[1])", app.id)
    # Begun later, committed first.
    await store.devices.register_many(app.id, [registration(1)], NOW)
    events, following = await drained(store, position)
    assert [list(each.ids) for each in events] == []
    assert (await store.changes.read(following)).late
    await transaction.commit()
    events, following = await drained(store, following, 2)
    assert [list(each.ids) for each in events] == [[111], [1]]
    assert not (await store.changes.read(following)).late
    await early.close()


async def test_pages_end_between_transactions(store, app):
    position = await store.changes.position()
    note = "SELECT note_change(1::smallint, $1, ARRAY[n]) FROM generate_series($2::int, $3::int) n"
    await store.database.execute(note, app.id, 1, PAGE_ROWS - 10)
    await store.database.execute(note, app.id, PAGE_ROWS - 9, PAGE_ROWS + 10)
    await store.database.execute(note, app.id, PAGE_ROWS + 11, 3 * PAGE_ROWS)
    events, _ = await drained(store, position, 3 * PAGE_ROWS)
    assert sorted(each.ids[0] for each in events) == list(range(1, 3 * PAGE_ROWS + 1))


@contextlib.asynccontextmanager
async def second_store(dsn, **config):
    store = Store(StoreConfig(pool_size=3, feed_poll_ms=10_000, **config), dsn)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def test_a_follower_hears_of_everything_that_others_write(store, app, dsn, node):
    devices, users, apps, told = {}, {}, [], []

    async def on_credentials():
        told.append("credentials")

    async def on_apps(ids):
        apps.extend(ids)

    async with second_store(dsn) as reader:
        follower = reader.follow(
            Listeners(
                on_devices=lambda rows: devices.update({int(each): image(rows, int(each)) for each in rows.ids}),
                on_users=lambda rows: users.update(zip(rows.ids.tolist(), rows.external_ids, strict=True)),
                on_credentials=on_credentials,
                on_apps=on_apps,
            )
        )
        key, secret = await store.keys.create(app.id, Role.SERVER, "k")
        assert await reader.keys.authenticate(secret) == key
        await store.devices.register_many(app.id, [registration(1, user_id="ann")], NOW)
        await follower.start()
        await store.devices.register_many(app.id, [registration(2, token=registration(1).token, tags=["x"])], NOW)

        async def moved():
            return set(devices) == {1, 2} and users == {1: "ann"} and devices[1]["token"] == ""

        await wait_until(moved)
        assert devices[2]["tags"] == ["x"]
        await store.devices.delete_many(app.id, [2], NOW)
        await store.keys.revoke(app.id, key.id)
        made = await store.credentials.put(app.id, GatewayName.APNS, Environment.SANDBOX, "c", {}, lambda _: b"")
        await store.credentials.set_state(app.id, made.id, CredentialState.PAUSED, None)
        new = await store.apps.create("late", Settings())

        async def heard():
            return devices[2]["flags"] == DeviceFlag.DELETED and told and new.id in apps

        await wait_until(heard)
        await wait_until_none(reader, secret)
        await follower.stop()


async def wait_until_none(reader, secret):
    async def gone():
        return await reader.keys.authenticate(secret) is None

    await wait_until(gone)


async def test_known_revisions_are_not_fetched(store, app):
    fetched = []
    images = store.devices.images

    async def counted(ids):
        fetched.extend(ids.tolist())
        return await images(ids)

    store.devices.images = counted
    follower = store.follow(
        Listeners(on_devices=lambda rows: None, known_devices=lambda ids, revisions: (ids % 2 == 0) & (revisions == 1))
    )
    await store.devices.register_many(app.id, [registration(number) for number in range(6)], NOW)
    await store.devices.register_many(app.id, [registration(1, tags=["x"])], NOW)
    await follower.start()

    async def read():
        return len(fetched) >= 4

    await wait_until(read)
    await follower.stop()
    assert sorted(set(fetched)) == [1, 2, 3, 5]


async def test_a_follower_goes_on_after_its_connections_were_killed(store, app, dsn):
    devices = set()
    async with second_store(dsn) as reader:
        follower = reader.follow(Listeners(on_devices=lambda rows: devices.update(rows.ids.tolist())))
        await follower.start()
        await store.devices.register_many(app.id, [registration(1)], NOW)

        async def first():
            return devices == {1}

        await wait_until(first)
        await store.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for _ in range(50):
            with contextlib.suppress(Exception):
                await store.devices.register_many(app.id, [registration(2)], NOW)
                break
            await asyncio.sleep(0.05)

        async def second():
            return devices == {1, 2}

        await wait_until(second)
        await follower.stop()


async def test_a_load_and_the_feed_after_it_miss_nothing(store, app):
    await store.devices.register_many(app.id, [registration(1)], NOW)
    early = await store.database.connect()
    transaction = early.transaction()
    await transaction.start()
    await early.execute("SELECT note_change(1::smallint, $1, ARRAY[77], ARRAY[1])", app.id)
    async with store.snapshot() as snapshot:
        await store.devices.register_many(app.id, [registration(2)], NOW)
        await transaction.commit()
        loaded = [int(each) async for rows in store.devices.load(snapshot) for each in rows.ids]
    assert loaded == [1]
    events, _ = await drained(store, snapshot.position, 2)
    assert {each for event in events for each in event.ids} >= {2, 77}
    await early.close()


async def test_retired_devices_are_in_the_feed(store, app, node):

    await store.devices.register_many(app.id, [registration(1)], NOW)
    await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    position = await store.changes.position()
    await retire(store, node, 1, 1, NOW + 9)
    events, _ = await drained(store, position, 1)
    assert [(list(each.ids), list(each.revisions)) for each in events] == [([1], [2])]


async def test_a_follower_that_cannot_apply_for_too_long_ends_rather_than_miss_what_is_purged(store, app, dsn):
    # It reads all the time, but what it read it could not take in: after feed_keep_s that may be deleted.
    reader = Store(StoreConfig(pool_size=4, retry_after_s=0.05, feed_poll_ms=50, feed_keep_s=1), dsn)
    await reader.start()
    seen = []

    async def away(ids):
        seen.extend(ids.tolist())
        raise UnavailableError

    reader.devices.images = away
    follower = reader.follow(Listeners(on_devices=lambda rows: None))
    failed = asyncio.get_running_loop().create_future()
    follower.fatal = failed.set_result
    await follower.start()
    await asyncio.sleep(1.2)  # longer than feed_keep_s, with nothing unread: no reason to end
    assert not failed.done()
    await store.devices.register_many(app.id, [registration(1)], NOW)
    assert isinstance(await asyncio.wait_for(failed, 60), FeedLostError)
    assert set(seen) == {1}
    await follower.stop()
    await reader.stop()
