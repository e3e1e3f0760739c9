"""Settlement: rows and deltas, compaction, receipts, at-most-once attempts, outcomes read back."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.cluster.node import Node
from pushd.config import StoreConfig
from pushd.errors import UnavailableError
from pushd.model.app import Settings
from pushd.model.notification import Delivery
from pushd.store import settlements
from pushd.store.settlements import Delta, Settlement
from pushd.store.store import Store
from tests.integration.store.samples import accept, accept_many, rows_of

pytestmark = pytest.mark.asyncio


async def wait_until(condition):
    for _ in range(200):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come")


async def test_rows_are_counted_by_gateway_and_code(store, app, node):
    sent = await store.notifications.accept(accept(app.id, node.id, Devices(range(1, 11))))
    settlement = rows_of([(sent.id, device) for device in range(1, 10)])
    settlement.codes[:] = [1, 1, 1, 1, 64, 64, 11, 1, 1]
    settlement.gateways[-1] = 1
    await store.settlements.settle(settlement, node.id)
    assert await store.notifications.counts(app.id, sent.id) == {(0, 1): 5, (0, 64): 2, (0, 11): 1, (1, 1): 1}
    found = await store.notifications.outcome_devices(app.id, sent.id, [(0, 64), (0, 11)], 5, 10)
    assert [tuple(each) for each in found] == [(6, 0, 64), (7, 0, 11)]
    assert await store.notifications.pending_devices(app.id, sent.id, 0, 10) == [10]


async def test_deltas_are_appended_and_compacted_at_the_end(store, app, node):
    devices = Devices(range(1, 2_000_001))
    sent = await store.notifications.accept(accept(app.id, node.id, devices))
    column = np.random.default_rng(1).permutation(devices.column())
    cuts = np.array_split(column, 20)
    for place, cut in enumerate(cuts):
        deltas = [Delta(sent.id, part, 0, 64 if place % 4 == 0 else 1, each) for part, each in Devices.of(cut).parts()]
        await store.settlements.settle(Settlement(deltas=deltas), node.id)
    dead = Devices.of(np.concatenate(cuts[::4]))
    expected = {(0, 1): 1_500_000, (0, 64): 500_000}
    assert await store.notifications.counts(app.id, sent.id) == expected
    first = await store.notifications.outcome_devices(app.id, sent.id, [(0, 64)], 1_048_570, 5)
    assert [each.device_id for each in first] == [each for each in dead if each > 1_048_570][:5]
    small = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    await store.settlements.settle(rows_of([(small.id, 1)], finished=(small.id, sent.id)), node.id)

    async def compacted():
        return await store.database.fetchval("SELECT count(*) FROM outcome_deltas") == 0

    await wait_until(compacted)
    assert await store.database.fetchval("SELECT count(*) FROM outcome_parts") == 4
    assert await store.notifications.counts(app.id, sent.id) == expected
    assert await store.notifications.outcome_devices(app.id, sent.id, [(0, 64)], 1_048_570, 5) == first
    assert await store.notifications.pending_devices(app.id, sent.id, 0, 10) == []


async def test_what_a_killed_process_left_uncompacted_is_compacted_at_the_next_start(store, app, node):
    sent = await store.notifications.accept(accept(app.id, node.id, Devices(range(1, 101))))
    await store.settlements.stop()
    await store.settlements.settle(
        Settlement(deltas=[Delta(sent.id, 0, 0, 1, Devices(range(1, 101)))], finished=[sent.id]), node.id
    )
    store.settlements._compactable.clear()
    await store.settlements.start()

    async def compacted():
        return await store.database.fetchval("SELECT count(*) FROM outcome_parts") == 1

    await wait_until(compacted)
    assert await store.notifications.counts(app.id, sent.id) == {(0, 1): 100}


async def finished(store, app, node, count):
    """So many large sends that are over, each with two deltas in a part."""
    ids = []
    for _ in range(count):
        sent = await store.notifications.accept(accept(app.id, node.id, Devices(range(1, 101))))
        halves = [Delta(sent.id, 0, 0, 1, Devices(range(at, at + 50))) for at in (1, 51)]
        await store.settlements.settle(Settlement(deltas=halves, finished=[sent.id]), node.id)
        ids.append(sent.id)
    return ids


async def test_what_finds_no_room_to_wait_is_looked_for_in_bounded_batches(dsn18, monkeypatch):
    monkeypatch.setattr(settlements, "LEFT_MAX", 2)
    store = Store(StoreConfig(pool_size=6, compactable_max=3), dsn18)
    await store.start()
    node = Node(store.database.connect)
    await node.start()
    app = await store.apps.create("one", Settings())
    async with store.database.transaction() as blocker:
        await blocker.execute("LOCK TABLE outcome_parts IN SHARE MODE")
        running = await store.notifications.accept(accept(app.id, node.id, Devices(range(1, 101))))
        await store.settlements.settle(Settlement(deltas=[Delta(running.id, 0, 0, 1, Devices(range(1, 51)))]), node.id)
        ids = await finished(store, app, node, 9)
        assert len(store.settlements._compactable) == 3

    async def compacted():
        return await store.database.fetchval("SELECT count(*) FROM outcome_deltas") == 1

    await wait_until(compacted)
    for each in ids:
        assert await store.notifications.counts(app.id, each) == {(0, 1): 100}
    assert await store.database.fetchval("SELECT notification_id FROM outcome_deltas") == running.id
    await node.stop()
    await store.stop()


async def test_what_could_not_be_compacted_is_looked_for_again(dsn18, monkeypatch):
    store = Store(StoreConfig(pool_size=6, retry_after_s=0.01, compact_interval_s=0.05), dsn18)
    await store.start()
    node = Node(store.database.connect)
    await node.start()
    app = await store.apps.create("one", Settings())
    compact, left = store.settlements._compact_part, [3]

    async def fails(*args):
        if left[0]:
            left[0] -= 1
            raise UnavailableError
        return await compact(*args)

    monkeypatch.setattr(store.settlements, "_compact_part", fails)
    await finished(store, app, node, 2)

    async def compacted():
        return await store.database.fetchval("SELECT count(*) FROM outcome_deltas") == 0

    await wait_until(compacted)
    assert left == [0]
    await node.stop()
    await store.stop()


async def test_a_settlement_that_is_given_again_is_applied_once(store, app, node):
    sent = await store.notifications.accept(accept(app.id, node.id, Devices([1, 2])))
    large = await store.notifications.accept(accept(app.id, node.id, Devices(range(1, 101))))
    settlement = rows_of([(sent.id, 1), (sent.id, 2)], finished=(sent.id,))
    settlement.deltas = [Delta(large.id, 0, 0, 1, Devices(range(1, 51)))]
    for _ in range(3):
        assert (await store.settlements.settle(settlement, node.id)).refused == frozenset()
    # Others in between do not make it forgotten.
    for _ in range(10):
        await store.settlements.settle(Settlement(), node.id)
    await store.settlements.settle(settlement, node.id)
    assert await store.notifications.counts(app.id, sent.id) == {(0, 1): 2}
    assert await store.notifications.counts(app.id, large.id) == {(0, 1): 50}


async def test_attempts_are_kept_until_the_end(store, app, node):
    sent = await store.notifications.accept(accept(app.id, node.id, Devices([1, 2]), delivery=Delivery.AT_MOST_ONCE))
    await store.settlements.attempted([(sent.id, Devices([1]))], node.id)
    await store.settlements.attempted([(sent.id, Devices([2]))], node.id)
    assert await store.database.fetchval("SELECT count(*) FROM attempts") == 2
    await store.settlements.settle(rows_of([(sent.id, 1), (sent.id, 2)], finished=(sent.id,)), node.id)
    assert await store.database.fetchval("SELECT count(*) FROM attempts") == 0


async def test_settling_is_one_statement_however_much_it_holds(store, app, node):
    done = await accept_many(store, [accept(app.id, node.id, Devices([n])) for n in range(1, 301)])
    ids = [each.id for each in done]
    calls = []
    run = store.database.fetchrow

    async def counted(query, *args, **kwargs):
        calls.append(query)
        return await run(query, *args, **kwargs)

    store.database.fetchrow = counted
    await store.settlements.settle(rows_of([(ids[n], n + 1) for n in range(300)], finished=tuple(ids)), node.id)
    store.database.fetchrow = run
    assert len(calls) == 1
