"""Badges in the store: counted once by the commit that sends, whatever is lost, and the same on every node."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from pushd.badges import COUNT_MAX, COUNTED
from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.errors import UnavailableError
from pushd.model.message import Message
from pushd.store.accepts import Idempotency
from pushd.store.database import OutcomeUnknownError
from pushd.store.store import Store
from tests.integration.store.samples import NOW, accept, registration

pytestmark = pytest.mark.asyncio

INSTALLS = 160
NEWEST = "SELECT seq FROM badge_apps WHERE app_id = $1"


@pytest_asyncio.fixture
async def second(dsn):
    store = Store(StoreConfig(pool_size=3, retry_after_s=0.2, feed_poll_ms=100), dsn)
    await store.start()
    yield store
    await store.stop()


def counted(app, node, devices, amount=None, **fields):
    plain = accept(app.id, node.id, Devices(devices), **fields)
    message = Message(title="x", badge_increment=amount)
    return msgspec.structs.replace(plain, send=msgspec.structs.replace(plain.send, message=message, badge_from=COUNTED))


async def shown(store, app, ids):
    newest = await store.database.fetchval(NEWEST, app.id)
    return (await store.badges.of(app.id, np.array(ids, np.uint32), newest)).tolist()


@pytest.mark.parametrize("seed", range(2))
async def test_two_nodes_and_the_fold_come_to_what_a_dictionary_does(store, second, app, other, node, seed):
    """Memory here moves with its own commits, there only now and then: sometimes the steps between are folded."""
    dice = random.Random(seed)
    wanted = [registration(number, user_id=f"u{number % 7}") for number in range(INSTALLS)]
    ids = (await store.devices.register_many(app.id, wanted, NOW)).ids.tolist()
    strangers = (await store.devices.register_many(other.id, wanted[:3], NOW)).ids.tolist()
    model, stores = defaultdict(int), (store, second)
    for _ in range(40):
        at = dice.choice((store, store, second))
        match dice.choice(["one", "one", "many", "array", "set", "user", "fold", "look", "stranger"]):
            case "one" | "many" as size:
                amount = dice.choice((None, 1, -2, 3, COUNT_MAX))
                some = dice.sample(ids, dice.randint(1, 3) if size == "one" else dice.randint(65, INSTALLS))
                await at.notifications.accept(counted(app, node, some, amount))
                moves = [(some, 1 if amount is None else amount)]
                assert at.badges.badges.of(np.array(some[:1], np.uint32)).tolist() == [
                    min(max(model[some[0]] + moves[0][1], 0), COUNT_MAX)
                ]
            case "array":
                moves = [(dice.sample(ids, 2), dice.choice((1, 1, 2))) for _ in range(dice.randint(2, 5))]
                accepts = [counted(app, node, some, amount) for some, amount in moves]
                numbers = await at.notifications.acceptor.reserve(len(accepts))
                await at.notifications.acceptor.accept_array(accepts, numbers, None, b"", lambda _: None)
            case "set" | "user" as whom:
                number, count = dice.randrange(INSTALLS), dice.choice((0, 0, 5))
                mine = [ids[number]] if whom == "set" else ids[number % 7 :: 7]
                if whom == "set":
                    await at.badges.set(app.id, ids[number], count)
                else:
                    assert await at.badges.set_of(app.id, f"u{number % 7}", count) == len(mine)
                moves = []
                model.update(dict.fromkeys(mine, count))
            case "fold":
                await at.receipts.folder.fold(1, 3_600)
                moves = []
            case "look":
                await at.badges.heard([app.id])
                moves = []
            case "stranger":
                await at.notifications.accept(counted(other, node, strangers))
                moves = [(strangers, 1)]
        for some, amount in moves:
            for each in some:
                model[each] = min(max(model[each] + amount, 0), COUNT_MAX)
    third = Store(StoreConfig(pool_size=2), store.database._dsn)
    await third.database.start()
    for each in (*stores, third):
        assert await shown(each, app, ids) == [model[number] for number in ids]
        assert await shown(each, other, strangers) == [model[number] for number in strangers]
    await store.receipts.folder.fold(1, 3_600)
    assert await store.database.fetchval("SELECT count(*) FROM badge_deltas") == 0
    third.badges.forget(app.id)
    assert await shown(third, app, ids) == [model[number] for number in ids]
    await third.database.stop()


async def test_who_looks_while_counts_are_read_anew_sees_all_of_what_was_shown(store, app, node):
    ids = (await store.devices.register_many(app.id, [registration(1), registration(2)], NOW)).ids.tolist()
    await store.notifications.accept(counted(app, node, ids, 5))
    await store.receipts.folder.fold(1, 3_600)
    for _ in range(3):
        await store.notifications.accept(counted(app, node, ids[:1]))
    store.badges.forget(app.id)
    reading = asyncio.ensure_future(store.badges.catch_up([app.id]))
    while not reading.done():
        assert store.badges.badges.of(np.array(ids, np.uint32)).tolist() == [8, 5]
        await asyncio.sleep(0)
    await reading
    assert await shown(store, app, ids) == [8, 5]


async def lose(store, monkeypatch, *, commits):
    """The answer to the next COMMIT of a counted send is lost, after or before it was carried out."""
    apply, left = store.badges.apply, [1]
    write = store.badges.write

    async def lossy_write(*args):
        counted = await write(*args)
        if counted and left[0] and not commits:
            left[0] = 0
            raise OutcomeUnknownError("lost")
        return counted

    async def lossy_apply(counted):
        if counted and left[0]:
            left[0] = 0
            raise OutcomeUnknownError("lost")
        await apply(counted)

    monkeypatch.setattr(store.badges, "write", lossy_write)
    monkeypatch.setattr(store.badges, "apply", lossy_apply)


async def test_a_send_whose_commit_was_lost_is_counted_if_it_is_there(store, app, node, monkeypatch):
    ids = (await store.devices.register_many(app.id, [registration(1)], NOW)).ids.tolist()
    await store.notifications.accept(counted(app, node, ids))
    await lose(store, monkeypatch, commits=True)
    await store.notifications.accept(counted(app, node, ids))
    assert store.badges.badges.of(np.array(ids, np.uint32)).tolist() == [2]
    await lose(store, monkeypatch, commits=False)
    with pytest.raises(UnavailableError):
        await store.notifications.accept(counted(app, node, ids))
    await store.notifications.accept(counted(app, node, ids))
    assert await shown(store, app, ids) == [3]


async def test_what_is_taken_back_is_not_counted(store, app, node):
    ids = (await store.devices.register_many(app.id, [registration(1)], NOW)).ids.tolist()
    await store.notifications.accept(counted(app, node, ids, 5))
    async with store.database.transaction() as blocker:
        await blocker.execute("LOCK TABLE runs")
        call = asyncio.ensure_future(store.notifications.accept(counted(app, node, ids, 3)))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    async with asyncio.timeout(10):
        while await store.database.fetchval(NEWEST, app.id) < 3:
            await asyncio.sleep(0.02)
    assert await shown(store, app, ids) == [5]


async def test_a_key_that_comes_again_counts_once(store, app, node):
    ids = (await store.devices.register_many(app.id, [registration(1), registration(2)], NOW)).ids.tolist()
    key = Idempotency("key", b"hash")
    calls = [store.notifications.accept(counted(app, node, ids, idempotency=key)) for _ in range(5)]
    assert sum(each.replayed for each in await asyncio.gather(*calls)) == 4
    assert (await store.notifications.accept(counted(app, node, ids, idempotency=key))).replayed
    array = [counted(app, node, ids), counted(app, node, ids[:1])]
    for number in range(2):
        numbers = await store.notifications.acceptor.reserve(2)
        done = await store.notifications.acceptor.accept_array(
            array, numbers, Idempotency("array", b"hash"), b"", lambda _: None
        )
        assert done.replayed is bool(number)
    assert await shown(store, app, ids) == [3, 2]


async def test_what_an_app_never_counted_is_nowhere(store, app, node):
    ids = (await store.devices.register_many(app.id, [registration(1, user_id="ada")], NOW)).ids.tolist()
    await store.notifications.accept(accept(app.id, node.id, Devices(ids)))
    await store.badges.set(app.id, ids[0], 0)
    await store.devices.register_many(app.id, [registration(1, user_id="bob")], NOW)
    await store.devices.delete_many(app.id, ids, NOW)
    for table in ("badge_apps", "badge_deltas", "badge_parts"):
        assert await store.database.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert (store.badges.badges.nbytes, await shown(store, app, ids)) == (0, [0])


async def test_what_is_gone_has_no_count_in_any_form(store, app, node):
    wanted = [registration(number, user_id="ada" if number else "bob") for number in range(3)]
    ids = (await store.devices.register_many(app.id, wanted, NOW)).ids.tolist()
    await store.notifications.accept(counted(app, node, ids))
    await store.receipts.folder.fold(1, 3_600)
    assert await store.database.fetchval("SELECT count(*) FROM badge_parts") == 1
    await store.users.delete(app.id, "ada")
    await store.devices.delete_many(app.id, ids[:1], NOW)
    await store.receipts.folder.fold(1, 3_600)
    assert await store.database.fetchval("SELECT count(*) FROM badge_parts") == 0
    assert await shown(store, app, ids) == [0, 0, 0]
