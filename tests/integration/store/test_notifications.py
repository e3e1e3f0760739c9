"""Accepting in groups, idempotency, reading; five hundred notifications with five hundred payloads as one batch."""

from __future__ import annotations

import asyncio
import re

import asyncpg
import pytest
from msgspec.structs import replace

from pushd.bitset import Devices
from pushd.errors import IdempotencyMismatchError, UnavailableError
from pushd.model.notification import State
from pushd.store import outcomes
from pushd.store.database import OutcomeUnknownError
from pushd.store.notifications import Idempotency
from pushd.store.settlements import Delta, Settlement
from tests.integration.store.samples import NOW, accept, accept_many, rows_of

pytestmark = pytest.mark.asyncio


async def test_an_accepted_send_is_there_with_its_targets(store, app, node):
    done = await store.notifications.accept(
        accept(app.id, node.id, Devices([3, 1, 2]), name="first", created_at=NOW, released_at=NOW, expires_at=NOW + 60)
    )
    assert not done.replayed
    stored = await store.notifications.get(app.id, done.id)
    assert stored.notification == done.notification
    assert (stored.targeted, stored.finished_at, stored.counts) == (3, None, {})
    assert stored.notification.state is State.RUNNING
    assert await store.notifications.pending_devices(app.id, done.id, 1, 10) == [2, 3]
    assert await store.notifications.rename(app.id, done.id, "second")
    assert (await store.notifications.get(app.id, done.id)).notification.send.name == "second"


async def test_a_large_send_keeps_its_targets_in_parts(store, app, node):
    devices = Devices(range(5, 3_000_000, 3))
    done = await store.notifications.accept(accept(app.id, node.id, devices))
    rows = await store.database.fetch("SELECT part, devices FROM targets ORDER BY part")
    assert [row["part"] for row in rows] == [0, 1, 2]
    assert Devices.union(*(Devices.load(row["devices"]) for row in rows)) == devices
    assert (await store.notifications.get(app.id, done.id)).targeted == len(devices)
    assert await store.notifications.pending_devices(app.id, done.id, 2_999_990, 10) == [
        2_999_993,
        2_999_996,
        2_999_999,
    ]


async def test_listing_is_newest_first(store, app, node):
    ids = [(await store.notifications.accept(accept(app.id, node.id, Devices([1])))).id for _ in range(5)]
    first = await store.notifications.list(app.id, 0, 3)
    assert [each.notification.id for each in first] == ids[:1:-1]
    rest = await store.notifications.list(app.id, first[-1].notification.id, 3)
    assert [each.notification.id for each in rest] == ids[1::-1]


async def test_transactional_sends_are_told_from_others_by_their_flag_alone(store, app, other, node):
    sends = [accept(app.id, node.id, Devices([1]), body=body) for body in ("hello", '"transactional":true')]
    sends += [replace(each, send=replace(each.send, transactional=True)) for each in sends]
    made = [(await store.notifications.accept(each)).id for each in sends]
    assert (
        await store.notifications.sorts(app.id, 2**62, 10)
        == [*zip(made, (False, False, True, True), strict=True)][::-1]
    )
    assert await store.notifications.sorts(app.id, made[3], 1) == [(made[2], True)]
    assert await store.notifications.sorts(other.id, 2**62, 10) == []
    found = await store.notifications.these(app.id, made[1:3])
    assert [each.notification.id for each in found] == [made[2], made[1]]
    assert list(await store.notifications.these(other.id, made)) == []


async def test_a_repeated_key_is_answered_as_the_first_time(store, app, other, node):
    key = Idempotency("key", b"hash")
    first = await store.notifications.accept(accept(app.id, node.id, Devices([1]), idempotency=key, answer=b"told"))
    again = await store.notifications.accept(accept(app.id, node.id, Devices([2]), idempotency=key, answer=b"new"))
    assert (again.id, again.replayed, again.answer, again.notification) == (first.id, True, b"told", None)
    with pytest.raises(IdempotencyMismatchError):
        await store.notifications.accept(accept(app.id, node.id, Devices([1]), idempotency=Idempotency("key", b"else")))
    assert len(await store.notifications.list(app.id, 0, 10)) == 1
    assert (await store.idempotency.find(app.id, "key", b"hash")).notification_id == first.id
    assert await store.idempotency.find(app.id, "other", b"hash") is None
    with pytest.raises(IdempotencyMismatchError):
        await store.idempotency.find(app.id, "key", b"else")
    # Another tenant's key of the same name is another key.
    assert not (await store.notifications.accept(accept(other.id, node.id, Devices([1]), idempotency=key))).replayed


async def test_an_old_key_is_free_again(store, app, node):
    key = Idempotency("key", b"hash")
    first = await store.notifications.accept(accept(app.id, node.id, Devices([1]), idempotency=key))
    await store.database.execute("UPDATE idempotency SET created_at = created_at - interval '2 days'")
    assert await store.idempotency.find(app.id, "key", b"hash") is None
    second = await store.notifications.accept(
        accept(app.id, node.id, Devices([1]), idempotency=Idempotency("key", b"else"))
    )
    assert second.id != first.id
    assert not second.replayed
    assert (await store.idempotency.find(app.id, "key", b"else")).notification_id == second.id


async def test_one_group_with_repeats_of_keys(store, app, node):
    calls = [
        accept(app.id, node.id, Devices([1]), idempotency=Idempotency(f"k{number % 5}", b"h%d" % (number % 10 // 5)))
        for number in range(100)
    ]
    done = await accept_many(store, calls)
    kept = [each for each in done if not isinstance(each, Exception) and not each.replayed]
    refused = [each for each in done if isinstance(each, IdempotencyMismatchError)]
    assert len(kept) == 5
    assert len(refused) == 50
    assert {each.id for each in done if not isinstance(each, Exception)} == {each.id for each in kept}
    assert len(await store.notifications.list(app.id, 0, 1000)) == 5


async def test_the_same_keys_from_many_sides_at_once(store, app, node):
    results = await asyncio.gather(
        *(
            store.notifications.accept(
                accept(app.id, node.id, Devices([1]), idempotency=Idempotency(f"k{number % 7}", b"h"))
            )
            for number in range(300)
        )
    )
    assert len({each.id for each in results}) == 7
    assert sum(not each.replayed for each in results) == 7


async def test_data_that_postgresql_refuses_splits_the_group(store, app, node):
    calls = [accept(app.id, node.id, Devices([1]), body=f"body {number}") for number in range(50)]
    calls[17] = accept(app.id, node.id, Devices([1]), name="a\0b")
    done = await accept_many(store, calls)
    assert [row for row, each in enumerate(done) if isinstance(each, Exception)] == [17]
    assert len(await store.notifications.list(app.id, 0, 100)) == 49


async def test_five_hundred_notifications_with_five_hundred_payloads_accepted_and_settled(store, app, node):
    done = await accept_many(
        store, [accept(app.id, node.id, Devices([number]), body=f"code {number}") for number in range(1, 501)]
    )
    ids = [each.id for each in done]
    assert len(set(ids)) == 500
    settlement = rows_of(list(zip(ids, range(1, 501), strict=True)), finished=tuple(ids))
    settlement.codes[::10] = 64
    assert (await store.settlements.settle(settlement, node.id)).refused == frozenset()
    listed = await store.notifications.list(app.id, 0, 500)
    assert {each.notification.state for each in listed} == {State.DONE}
    assert [each.notification.send.message.body for each in reversed(listed)] == [f"code {n}" for n in range(1, 501)]
    assert [each.counts for each in reversed(listed)] == [{(0, 64 if n % 10 == 1 else 1): 1} for n in range(1, 501)]
    history = await store.notifications.device_history(app.id, 11, 10)
    assert [tuple(each)[:3] for each in history] == [(ids[10], 0, 64)]


async def test_the_history_of_a_device_reads_one_part_per_campaign(store, app, node):
    device = 1_500_000
    campaign = await store.notifications.accept(accept(app.id, node.id, Devices(range(1_000_000, 2_000_000))))
    single = await store.notifications.accept(accept(app.id, node.id, Devices([device])))
    await store.settlements.settle(rows_of([(single.id, device)], code=64, finished=(single.id,)), node.id)
    await store.settlements.settle(
        Settlement(
            deltas=[
                Delta(campaign.id, part, 0, 1, each) for part, each in Devices(range(1_000_000, 2_000_000)).parts()
            ],
            finished=[campaign.id],
        ),
        node.id,
    )
    expected = [(single.id, 0, 64), (campaign.id, 0, 1)]
    assert [tuple(each)[:3] for each in await store.notifications.device_history(app.id, device, 10)] == expected
    await store.settlements.compact(campaign.id)
    assert [tuple(each)[:3] for each in await store.notifications.device_history(app.id, device, 10)] == expected
    assert await store.notifications.device_history(app.id, 999_999, 10) == []
    assert len(await store.notifications.device_history(app.id, device, 1)) == 1


CAMPAIGNS = """
INSERT INTO outcome_parts (notification_id, app_id, part, gateway, code, count, devices, at, created_at)
SELECT n, $1, 0, 0, c, 1, CASE WHEN c = 1 AND n % $2::int = 0 THEN $3::bytea ELSE $4::bytea END, now(), now()
FROM generate_series(1, 1000) n, generate_series(1, 3) c
"""


async def test_the_history_of_a_device_looks_at_the_newest_campaigns_and_no_others(store, app, monkeypatch):
    """However many there are, and at a few at a time, until there is enough of it."""
    mine, others = Devices([7]).dump(), Devices([8]).dump()
    await store.database.execute(CAMPAIGNS, app.id, 40, mine, others)
    await store.database.execute("ANALYZE outcome_parts")
    found = await store.notifications.device_history(app.id, 7, 100)
    assert [tuple(each)[:3] for each in found] == [(number, 0, 1) for number in range(1_000, 500, -40)]
    reads, fetch = [], store.database.fetch

    async def counted(query, *args, **options):
        rows = await fetch(query, *args, **options)
        reads.append((query, len(rows)))
        return rows

    monkeypatch.setattr(store.database, "fetch", counted)
    assert len(await store.notifications.device_history(app.id, 7, 2)) == 2
    assert [rows for query, rows in reads if "k.devices" in query] == [48, 48, 48]
    monkeypatch.undo()
    query = outcomes._CAMPAIGNS
    for number, value in enumerate((app.id, 0, 10), 1):
        query = query.replace(f"${number}", str(value))
    (plan,) = await store.database.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
    looked = [int(each) for each in re.findall(r'"Actual Rows": (\d+)', plan[0])]
    assert max(looked) <= 100


async def test_cancel_is_kept_and_shown(store, app, node):
    done = await store.notifications.accept(accept(app.id, node.id, Devices([1, 2])))
    assert await store.notifications.cancel(app.id, done.id)
    assert (await store.notifications.get(app.id, done.id)).notification.state is State.CANCELLED
    await store.settlements.settle(rows_of([(done.id, 1), (done.id, 2)], code=12, finished=(done.id,)), node.id)
    stored = await store.notifications.get(app.id, done.id)
    assert stored.notification.state is State.CANCELLED
    assert stored.finished_at is not None
    assert not await store.notifications.cancel(app.id, done.id)


async def lose_commit(store, monkeypatch, *, commits: bool):
    """The next write's connection is lost, after or before it was committed."""
    write = store.database.fetch
    left = [1]

    async def lossy(query, *args, **kwargs):
        if "accept_notifications" in query and left[0]:
            left[0] = 0
            if commits:
                await write(query, *args, **kwargs)
            raise OutcomeUnknownError("lost")
        return await write(query, *args, **kwargs)

    monkeypatch.setattr(store.database, "fetch", lossy)


async def test_a_commit_whose_answer_was_lost_is_found_again(store, app, node, monkeypatch):
    await lose_commit(store, monkeypatch, commits=True)
    done = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    assert (await store.notifications.get(app.id, done.id)).notification == done.notification


async def test_a_commit_that_never_came_is_unavailable_and_cannot_come_later(store, app, node, monkeypatch):
    await lose_commit(store, monkeypatch, commits=False)
    with pytest.raises(UnavailableError):
        await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    assert list(await store.notifications.list(app.id, 0, 10)) == []
    # What was on its way with the old epoch is refused, should it still arrive.
    with pytest.raises(asyncpg.PostgresError) as error:
        await store.database.fetch(
            "SELECT accept_notifications($1, 0, '1 day'" + ", '{}'" * 30 + ")",
            node.id,
        )
    assert error.value.sqlstate == "PD503"
    assert not (await store.notifications.accept(accept(app.id, node.id, Devices([1])))).replayed


async def test_what_nobody_waits_for_any_more_is_not_kept(store, app, node):
    async with store.database.transaction() as blocker:
        await blocker.execute("LOCK TABLE runs")
        call = asyncio.ensure_future(
            store.notifications.accept(accept(app.id, node.id, Devices([1]), idempotency=Idempotency("k", b"h")))
        )
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    kept = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    for _ in range(100):
        if not await store.database.fetchval("SELECT count(*) FROM idempotency"):
            break
        await asyncio.sleep(0.02)
    assert [each.notification.id for each in await store.notifications.list(app.id, 0, 10)] == [kept.id]
    assert await store.database.fetchval("SELECT array_agg(notification_id) FROM runs") == [kept.id]


@pytest.mark.parametrize("again", ["found", "written", "while it is taken back"])
async def test_what_a_repetition_was_told_stays_though_the_first_was_given_up(store, app, node, monkeypatch, again):
    """COMMIT's answer is lost, the caller hears 503 and comes again under its key before that is looked into."""
    acceptor, released, looks = store.notifications.acceptor, [], asyncio.Event()
    resolve = acceptor._committer._resolve

    async def late(items):
        await looks.wait()
        return await resolve(items)

    monkeypatch.setattr(acceptor._committer, "_resolve", late)
    await lose_commit(store, monkeypatch, commits=True)
    wanted = accept(app.id, node.id, Devices([1]), idempotency=Idempotency("key", b"hash"), answer=b"told")
    with pytest.raises(UnavailableError):
        await acceptor.accept(wanted, released.append)
    if again == "found":
        promised = (await store.idempotency.find(app.id, "key", b"hash")).notification_id
        assert await store.notifications.cancel(app.id, promised)
        acceptor.cancel(promised)
    elif again == "written":
        promised = (await acceptor.accept(wanted, released.append)).id
        released.clear()  # of the repetition: it starts nothing
    else:
        async with store.database.transaction() as teller:
            promised = await teller.fetchval("UPDATE idempotency SET promised = true RETURNING notification_id")
            looks.set()
            await asyncio.sleep(0.2)
            assert not released
    looks.set()
    async with asyncio.timeout(60):
        while not released:
            await asyncio.sleep(0.01)
    ((notification,),) = [each.notifications for each in released]
    assert notification.id == promised
    assert notification.state is (State.CANCELLED if again == "found" else State.RUNNING)
    assert await store.database.fetchval("SELECT notification_id FROM runs") == promised
    assert (await store.notifications.get(app.id, promised)).targeted == 1


async def test_what_a_repetition_in_the_same_group_was_told_stays_though_the_first_gave_up(store, app, node):
    acceptor, released = store.notifications.acceptor, []
    wanted = accept(app.id, node.id, Devices([1]), idempotency=Idempotency("key", b"hash"), answer=b"told")
    async with store.database.transaction() as blocker:
        await blocker.execute("LOCK TABLE runs")
        first, again = (acceptor.accept(wanted, released.append) for _ in range(2))
        await asyncio.sleep(0.1)
        assert acceptor._committer.waiting == 0, "both are being written"
        first.cancel()
    promised = await asyncio.wait_for(again, 30)
    assert promised.replayed
    async with asyncio.timeout(30):
        while len(released) < 2:
            await asyncio.sleep(0.01)
    assert [notification.id for each in released for notification in each.notifications] == [promised.id]
    assert await store.database.fetchval("SELECT notification_id FROM runs") == promised.id
    assert (await store.notifications.get(app.id, promised.id)).targeted == 1


async def test_a_node_that_is_not_registered_may_not_accept(store, app):
    with pytest.raises(UnavailableError):
        await store.notifications.accept(accept(app.id, 4711, Devices([1])))


async def test_a_send_after_the_last_number_says_so(store, app, node):
    await store.database.execute("SELECT setval('notification_ids', 2147483647)")
    with pytest.raises(UnavailableError, match="No numbers for notifications are left"):
        await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    assert await store.database.fetchval("SELECT count(*) FROM notifications") == 0
