"""Apps are read once, and again when somebody changed them."""

import asyncio
from datetime import UTC, datetime

import pytest

from pushd.config import StoreConfig
from pushd.model.app import Settings
from pushd.store.apps import AppStore
from pushd.store.changes import Listeners
from pushd.store.store import Store

pytestmark = pytest.mark.asyncio


class OneApp:
    """A database with one app; `gate`, while cleared, holds an answer that is already read."""

    def __init__(self):
        self.name, self.reads = "before", 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetchrow(self, query, app_id, *_):
        self.reads += 1
        row = {"id": app_id, "name": self.name, "settings": "{}", "created_at": datetime.now(UTC)}
        await self.gate.wait()
        return row if app_id == 1 else None


async def test_an_app_is_read_once_until_it_changes():
    database = OneApp()
    apps = AppStore(database)
    assert [(await apps.get(1)).name for _ in range(3)] == ["before"] * 3
    assert database.reads == 1
    database.name = "after"
    apps.forget([1])
    assert (await apps.get(1)).name == "after"


async def test_an_app_that_is_not_there_is_asked_for_again():
    database = OneApp()
    apps = AppStore(database)
    assert await apps.get(2) is None
    assert await apps.get(2) is None
    assert database.reads == 2


async def test_what_was_read_before_a_change_is_not_remembered_after_it():
    database = OneApp()
    apps = AppStore(database)
    database.gate.clear()
    reading = asyncio.create_task(apps.get(1))
    await asyncio.sleep(0)
    database.name = "after"
    apps.forget([1])
    database.gate.set()
    assert (await reading).name == "before"
    assert (await apps.get(1)).name == "after"


async def test_own_changes_are_seen_at_once_and_others_with_the_feed(dsn18):
    stores = [Store(StoreConfig(feed_poll_ms=50), dsn18) for _ in range(2)]
    for store in stores:
        await store.start()
    one, other = stores
    told = asyncio.Event()

    async def on_apps(app_ids):
        one.apps.forget(app_ids)
        told.set()

    follower = one.follow(Listeners(on_apps=on_apps))
    await follower.start()
    made = await one.apps.create("made", Settings())
    assert await one.apps.get(made.id) == made
    await one.apps.update(made.id, name="changed")
    assert (await one.apps.get(made.id)).name == "changed"
    async with asyncio.timeout(60):
        await other.apps.update(made.id, settings=Settings(locale="fr"))
        while (await one.apps.get(made.id)).settings.locale != "fr":
            await told.wait()
            told.clear()
        await one.apps.delete(made.id)
        assert await one.apps.get(made.id) is None
    await follower.stop()
    for store in stores:
        await store.stop()
