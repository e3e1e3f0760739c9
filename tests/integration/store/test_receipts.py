"""Receipts taken in groups, known again, folded into bitmaps; what was opened and settled read back as sets."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.errors import UnavailableError
from pushd.model.receipt import OPENING, Event, Receipt
from pushd.store.partitions import Maintenance
from pushd.store.past import EventCount
from pushd.store.receipts import Taken, event_keys
from pushd.store.settlements import Delta, Settlement
from pushd.store.store import Store
from tests.integration.store.samples import NOW, accept, registration, rows_of
from tests.integration.store.test_maintenance import At, partitions

pytestmark = pytest.mark.asyncio

FAR = Devices(range(3_000_000, 3_000_100))
"""Devices that nobody has: they make a send a large one, in two parts."""

CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE '%take_receipts%' AND pid <> pg_backend_pid()
"""


def receipt(install: int, notification_id: int, event: Event = Event.OPENED, number: int = 0, **fields) -> Receipt:
    given = {"id": f"{install}-{event}-{number}", "install_id": f"install-{install}"} | fields
    return Receipt(notification_id=notification_id, event=event, **given)


async def registered(store, app, installs, **fields):
    """Device ids by install."""
    wanted = [registration(install, **fields) for install in installs]
    done = await store.devices.register_many(app.id, wanted, NOW)
    return dict(zip(installs, done.ids.tolist(), strict=True))


async def sent_to(store, app, node, devices, **fields):
    done = await store.notifications.accept(accept(app.id, node.id, Devices(devices), **fields))
    return await store.past.sent(app.id, done.id)


@pytest.mark.parametrize("more", [Devices(), FAR], ids=["small", "large"])
async def test_what_was_reported_is_a_set_of_devices(store, app, node, more):
    ids = await registered(store, app, range(1, 6))
    voip = await registered(store, app, [1], kind="apns_voip", token="ff" * 32)
    sent = await sent_to(store, app, node, Devices(ids.values()) | more)
    told = await store.receipts.take(
        app.id,
        [
            receipt(1, sent.id),
            receipt(2, sent.id, Event.CLICKED, button="yes"),
            receipt(3, sent.id, Event.CLICKED, button="no"),
            receipt(4, sent.id, Event.DELIVERED),
            receipt(5, sent.id, Event.DISMISSED),
        ],
    )
    assert told == Taken(5, 0, 0)
    for _ in range(2):
        assert await store.past.reported(sent, OPENING) == Devices([ids[1], ids[2], ids[3], voip[1]])
        assert await store.past.reported(sent, [Event.CLICKED]) == Devices([ids[2], ids[3]])
        assert await store.past.reported(sent, [Event.CLICKED], ["no", "maybe"]) == Devices([ids[3]])
        assert await store.past.reported(sent, [Event.DELIVERED]) == Devices([ids[4]])
        assert await store.past.reported(sent, [Event.READ]) == Devices()
        await store.receipts.folder.fold(older_s=-3600)  # the same once it is folded
    assert await store.past.targets(sent) == Devices(ids.values()) | more


async def test_an_event_counts_once_however_often_it_comes(store, app, node):
    ids = await registered(store, app, [1, 2], user_id="ada")
    sent = await sent_to(store, app, node, ids.values())
    first = [
        receipt(1, sent.id),
        receipt(1, sent.id),
        receipt(2, sent.id, id="1-opened-0"),
        receipt(1, sent.id, number=1),
    ]
    assert await store.receipts.take(app.id, first) == Taken(3, 1, 0)
    together = await asyncio.gather(*(store.receipts.take(app.id, first) for _ in range(20)))
    assert together == [Taken(0, 4, 0)] * 20
    assert await store.past.counts(sent) == {Event.OPENED: EventCount(total=3, installs=2, users=1)}


async def test_what_is_unknown_in_part_is_told_and_the_rest_is_taken(store, app, other, node):
    await registered(store, app, [1])
    await registered(store, other, [9])
    sent = await sent_to(store, app, node, [1])
    theirs = await sent_to(store, other, node, [2])
    told = await store.receipts.take(
        app.id,
        [
            receipt(1, sent.id),
            receipt(1, theirs.id),
            receipt(9, sent.id),
            receipt(1, 2_000_000_000),
            receipt(77, sent.id),
        ],
    )
    assert told == Taken(1, 0, 4)
    assert await store.receipts.take(app.id, [receipt(77, sent.id)]) == Taken(0, 0, 1)
    assert await store.database.fetchval("SELECT count(*) FROM receipts") == 1
    assert await store.past.sent(other.id, sent.id) is None


async def test_requests_that_share_a_transaction_get_their_own_counts(store, app, other, node):
    await registered(store, app, [1, 2, 3])
    await registered(store, other, [1])
    mine, theirs = await sent_to(store, app, node, [1]), await sent_to(store, other, node, [9])
    assert await store.receipts.take(app.id, [receipt(1, mine.id)]) == Taken(1, 0, 0)
    asked = [
        store.receipts.take(app.id, [receipt(1, mine.id), receipt(2, mine.id)]),
        store.receipts.take(other.id, [receipt(1, theirs.id), receipt(1, mine.id), receipt(2, theirs.id)]),
        store.receipts.take(app.id, [receipt(3, mine.id, install_id=None), receipt(9, mine.id)], "install-3"),
    ]
    assert await asyncio.gather(*asked) == [Taken(1, 1, 0), Taken(1, 0, 2), Taken(1, 0, 1)]


async def test_times_are_kept_between_the_send_and_the_arrival(dsn, app, node):
    store = Store(StoreConfig(), dsn, At(NOW))
    await store.start()
    try:
        await registered(store, app, [1, 2, 3, 4])
        sent = await sent_to(store, app, node, [1], created_at=NOW - 100, released_at=NOW - 100)
        times = {1: 0.0, 2: NOW - 40.5, 3: NOW + 9_000, 4: None}
        await store.receipts.take(app.id, [receipt(install, sent.id, at=at) for install, at in times.items()])
        opens = await store.past.install_opens(sent, 0, 10)
        assert {each.name: each.at for each in opens} == {
            "install-1": NOW - 100,
            "install-2": NOW - 40.5,
            "install-3": NOW,
            "install-4": NOW,
        }
    finally:
        await store.stop()


async def test_first_times_of_opening_by_install_and_by_user(store, app, node):
    await registered(store, app, [1, 2], user_id="ada")
    await registered(store, app, [3], user_id="bob")
    await registered(store, app, [4])
    sent = await sent_to(store, app, node, [1], created_at=NOW - 86_400 * 365, released_at=NOW)
    base = NOW - 86_400 * 300
    await store.receipts.take(
        app.id,
        [
            receipt(1, sent.id, at=base + 50),
            receipt(1, sent.id, number=1, at=base + 40),
            receipt(2, sent.id, Event.CLICKED, at=base + 30),
            receipt(2, sent.id, Event.DELIVERED, at=base),
            receipt(3, sent.id, at=base + 60),
            receipt(4, sent.id, at=base + 70),
        ],
    )
    first = await store.past.install_opens(sent, 0, 3)
    rest = await store.past.install_opens(sent, first[-1].position, 3)
    assert [(each.name, each.at - base) for each in (*first, *rest)] == [
        ("install-1", 40),
        ("install-2", 30),
        ("install-3", 60),
        ("install-4", 70),
    ]
    users = await store.past.user_opens(sent, 0, 1)
    users += await store.past.user_opens(sent, users[-1].position, 5)
    assert [(each.name, each.at - base) for each in users] == [("ada", 30), ("bob", 60)]
    await store.users.delete(app.id, "ada")
    assert [each.name for each in await store.past.user_opens(sent, 0, 5)] == [None, "bob"]


async def test_days_of_opening_anything(dsn, app, node):
    store = Store(StoreConfig(), dsn, At(NOW))
    await store.start()
    try:
        ids = await registered(store, app, [1, 2, 3, 4])
        sent = await sent_to(store, app, node, [1], created_at=NOW - 86_400 * 40, released_at=NOW)
        days = {1: 0, 2: 3, 3: 20}
        receipts = [receipt(each, sent.id, at=NOW - 86_400 * ago) for each, ago in days.items()]
        await store.receipts.take(app.id, [*receipts, receipt(4, sent.id, Event.DELIVERED)])
        for _ in range(2):
            for since, expected in ((0, [1]), (3, [1, 2]), (19, [1, 2]), (20, [1, 2, 3])):
                found = await store.past.opened_since(app.id, NOW - 86_400 * since, NOW)
                assert found == Devices([ids[each] for each in expected]), since
            await store.receipts.folder.fold(older_s=-3600)
        assert await store.database.fetchval("SELECT count(*) FROM opened_day_deltas") == 0
        assert await store.database.fetchval("SELECT sum(count) FROM opened_days") == 3
    finally:
        await store.stop()


async def test_folding_adds_to_what_was_folded_and_loses_nothing_meanwhile(store, app, node):
    installs = range(1, 301)
    ids = await registered(store, app, installs)
    sent = await sent_to(store, app, node, Devices(ids.values()) | FAR)

    taking = True

    async def folding():
        folded = 0
        while taking:
            folded += await store.receipts.folder.fold(1, 0)
        return folded

    work = asyncio.create_task(folding())
    for at in range(0, 300, 10):
        await store.receipts.take(app.id, [receipt(install, sent.id) for install in installs[at : at + 10]])
        assert await store.past.reported(sent, OPENING) == Devices([ids[each] for each in installs[: at + 10]])
    taking = False
    assert await work > 1
    while await store.receipts.folder.fold(1, 0):
        pass
    assert await store.database.fetchval("SELECT count(*) FROM receipt_deltas") == 0
    assert await store.database.fetchval("SELECT sum(count) FROM receipt_parts") == 300
    assert await store.past.reported(sent, OPENING) == Devices(ids.values())


async def test_buttons_without_end_do_not_fill_the_store(store, app, node):
    ids = await registered(store, app, range(1, 121))
    sent = await sent_to(store, app, node, Devices(ids.values()) | FAR)
    for at in (1, 61):
        rows = [receipt(each, sent.id, Event.CLICKED, button=f"b{each:03}") for each in range(at, at + 60)]
        await store.receipts.take(app.id, rows)
        await store.receipts.folder.fold(1, 0)
    assert await store.database.fetchval("SELECT count(DISTINCT button) FROM receipt_parts") == 101
    assert await store.past.reported(sent, [Event.CLICKED], ["b007"]) == Devices([ids[7]])
    assert await store.past.reported(sent, OPENING) == Devices(ids.values())


async def test_two_stores_fold_the_same_notification(store, dsn, app, node):
    ids = await registered(store, app, range(1, 101))
    sent = await sent_to(store, app, node, Devices(ids.values()) | FAR)
    second = Store(StoreConfig(), dsn)
    await second.start()
    try:
        for install in range(1, 101):
            await store.receipts.take(app.id, [receipt(install, sent.id)])
            if not install % 10:
                await asyncio.gather(store.receipts.folder.fold(1, 0), second.receipts.folder.fold(1, 0))
        assert await second.past.reported(sent, OPENING) == Devices(ids.values())
    finally:
        await second.stop()


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_how_it_ended_running_and_finished(store, app, node, large):
    devices = Devices(range(1, 11)) | (FAR if large else Devices())
    sent = await sent_to(store, app, node, devices)

    def settlement(pairs, code, finished=()):
        if not large:
            return rows_of([(sent.id, device) for device in pairs], code, finished)
        deltas = [Delta(sent.id, part, 0, code, piece) for part, piece in Devices(pairs).parts()]
        return Settlement(deltas=deltas, finished=finished)

    await store.settlements.settle(settlement([1, 2, 3], 1), node.id)
    await store.settlements.settle(settlement([4, 5], 64), node.id)
    assert await store.past.ended(sent, [(0, 1)]) == Devices([1, 2, 3])
    assert await store.past.ended(sent, [(0, 64), (0, 65)]) == Devices([4, 5])
    rest = devices - Devices(range(1, 6))
    await store.settlements.settle(settlement(rest, 1, (sent.id,)), node.id)
    await store.settlements.compact(sent.id)
    assert await store.past.ended(sent, [(0, 1)]) == devices - Devices([4, 5])
    assert await store.past.ended(sent, [(0, 64)]) == Devices([4, 5])
    assert await store.past.ended(sent, [(1, 1)]) == Devices()
    assert await store.past.ended(sent, []) == Devices()


async def test_receipts_age_out_with_their_notification(store, app, node):
    await registered(store, app, [1])
    old = NOW - 86_400 * 30
    await Maintenance(store.database, At(old)).make_partitions()
    sent = await sent_to(store, app, node, Devices([1]) | FAR, created_at=old, released_at=old)
    await store.receipts.take(app.id, [receipt(1, sent.id, at=old + 60)])
    await store.receipts.folder.fold(older_s=-86_400 * 3650)
    assert await store.database.fetchval("SELECT count(*) FROM receipt_parts") == 1
    end = Maintenance(store.database, At(NOW + 86_400 * 440))
    await end.drop_partitions()
    for table in ("receipts", "receipt_parts", "opened_days", "notifications"):
        assert await store.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert not [name for name in await partitions(store) if name.endswith("_2026_12")]


async def test_a_group_of_many_requests_is_one_transaction(store, app, node):
    await registered(store, app, range(1, 501))
    sent = await sent_to(store, app, node, FAR)
    asked = [
        store.receipts.take(app.id, [receipt(install, sent.id) for install in range(at, at + 10)])
        for at in range(1, 501, 10)
    ]
    assert await asyncio.gather(*asked) == [Taken(10, 0, 0)] * 50
    assert await store.database.fetchval("SELECT count(*) FROM receipt_deltas") <= 3


async def test_event_keys_differ():
    keys = event_keys([f"event-{number}" for number in range(10_000)])
    assert len(np.unique(keys)) == 10_000
    assert event_keys(["event-1"]) == event_keys(["event-1"])


async def test_batches_that_are_said_again_until_they_are_answered_count_once(store, dsn, app, node):
    installs = range(1, 201)
    ids = await registered(store, app, installs)
    sent = await sent_to(store, app, node, Devices(ids.values()) | FAR)
    refused = 0

    async def insist(batch):
        nonlocal refused
        while True:
            try:
                return await store.receipts.take(app.id, batch)
            except UnavailableError:
                refused += 1
                await asyncio.sleep(0.02)

    connection = await asyncpg.connect(dsn)
    try:
        told, at = [], 0
        async with asyncio.timeout(60):
            while at < 200 or not refused:  # a cut may meet nothing under way
                first = at % 200
                batches = [
                    [receipt(each, sent.id) for each in installs[n : n + 4]] for n in range(first, first + 20, 4)
                ]
                *answers, _ = await asyncio.gather(*map(insist, batches), connection.execute(CUT))
                told += answers
                at += 20
    finally:
        await connection.close()
    for _ in range(store.database.config.pool_size):  # the last cut may have left connections that are none
        with suppress(UnavailableError):
            await store.database.fetchval("SELECT 1")
    assert all((each.taken + each.repeated, each.unknown) == (4, 0) for each in told)
    assert await store.past.counts(sent) == {Event.OPENED: EventCount(total=200, installs=200, users=0)}
    assert await store.past.reported(sent, OPENING) == Devices(ids.values())
