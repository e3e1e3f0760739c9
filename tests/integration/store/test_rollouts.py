"""Rollouts: releases found when due, opened once, resumed each by itself, ended with the last; the ledger is exact."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from pushd.bitset import Devices
from pushd.errors import UnavailableError
from pushd.model.notification import Delivery, State
from pushd.outcome import CANCELLED, FREQUENCY_CAP, TIME_PASSED
from pushd.store.changes import Aggregate
from pushd.store.database import OutcomeUnknownError
from pushd.store.notifications import Order
from pushd.store.schedules import Planned
from pushd.store.settlements import Delta, Settlement, run_number
from tests.integration.store.samples import NOW, accept, rows_of
from tests.integration.store.test_resume import new_node
from tests.integration.store.timed import LOCAL, lose_commit, one_due, opening, rolling, rollout
from tests.mortal import mortal

pytestmark = pytest.mark.asyncio

EAST, WEST = b'{"zones":["Asia/Tokyo"]}', b'{"zones":["America/Lima"]}'
EARLY, LATE = Planned(at=NOW - 60, selector=EAST), Planned(at=NOW, selector=WEST)


async def count(store, table):
    return await store.database.fetchval(f"SELECT count(*) FROM {table}")


async def open_next(store, node, targets, **fields):
    """Opens whatever is due next, to these."""
    (release,) = await store.rollouts.due(NOW + 1_000, 10)
    assert await store.rollouts.open([opening(release, targets, **fields)], node.id) == [True]
    return release


def ending(run, devices, code=1):
    """A settlement that ends a run of a rollout."""
    parts = [Delta(run, part, 0, code, piece) for part, piece in devices.parts()]
    return Settlement(deltas=parts, finished=[run])


async def settled(store, node, notification_id, release, devices, code=1):
    done = await store.settlements.settle(ending(run_number(notification_id, release), devices, code), node.id)
    assert done.refused == frozenset()


async def ledger(store, app, notification_id):
    """State, targeted, what is committed by code, and how many wait."""
    stored = await store.notifications.get(app.id, notification_id)
    pending = await store.notifications.pending_devices(app.id, notification_id, 0, 10_000_000)
    assert stored.targeted == sum(stored.counts.values()) + len(pending)
    return stored.notification.state, stored.targeted, {code: n for (_, code), n in stored.counts.items()}, len(pending)


async def test_releases_are_due_one_after_the_other(store, app, node):
    first = await rolling(store, app.id, node.id, LATE, EARLY)
    assert (first.number, first.at, first.selector, first.devices) == (2, NOW - 60, EAST, None)
    assert (first.revision, first.paused, first.notification.released_at) == (1, False, NOW)
    assert await store.rollouts.next_at() == NOW - 60
    assert await store.rollouts.due(NOW - 61, 10) == []
    assert await store.rollouts.open([opening(first, Devices([1, 2]))], node.id) == [True]
    assert await store.rollouts.next_at() == NOW
    (second,) = await store.rollouts.due(NOW, 10)
    assert (second.number, second.selector, second.revision) == (1, WEST, 2)
    assert await store.rollouts.targeted(second.notification.id) == Devices([1, 2])
    assert await store.rollouts.open([opening(second, Devices([3]))], node.id) == [True]
    assert await store.rollouts.due(NOW + 1_000, 10) == []
    assert await store.rollouts.next_at() is None
    assert await store.rollouts.targeted(second.notification.id) == Devices([1, 2, 3])


async def test_rollouts_are_due_by_their_next_release_one_of_each(store, app, node):
    numbers = {}
    for late in (3, 1, 2):
        due = await one_due(store, app.id, node.id, schedule=LOCAL)
        planned = [Planned(at=NOW - late - minute) for minute in (0, -60, -120)]
        assert await store.schedules.fire([rollout(due, node.id, *planned)], node.id) == [True]
        numbers[late] = due.id
    found = await store.rollouts.due(NOW, 10)
    assert [each.notification.id for each in found] == [numbers[3], numbers[2], numbers[1]]
    assert [each.number for each in found] == [1, 1, 1]
    assert [each.notification.id for each in await store.rollouts.due(NOW, 2)] == [numbers[3], numbers[2]]


async def test_a_release_is_opened_once(store, app, node):
    release = await rolling(store, app.id, node.id, EARLY, LATE)
    done = await asyncio.gather(*(store.rollouts.open([opening(release, Devices([n]))], node.id) for n in range(1, 21)))
    assert sum(map(sum, done)) == 1
    winner = done.index([True]) + 1
    assert await store.rollouts.targeted(release.notification.id) == Devices([winner])
    assert await count(store, "runs") == 1


async def test_two_nodes_that_open_at_once_open_each_release_once(store, app):
    nodes = [await new_node(store) for _ in range(2)]
    for _ in range(30):
        due = await one_due(store, app.id, nodes[0].id, schedule=LOCAL)
        assert all(await store.schedules.fire([rollout(due, nodes[0].id, EARLY, LATE)], nodes[0].id))

    async def lead(node):
        won = 0
        while found := await store.rollouts.due(NOW, 7):
            random.Random(won).shuffle(found)
            won += sum(await store.rollouts.open([opening(each, Devices([1])) for each in found], node.id))
        return won

    assert sum(await asyncio.gather(*(lead(node) for node in (*nodes, *nodes)))) == 60
    assert await count(store, "runs") == 60
    for node in nodes:
        await node.stop()


async def test_each_release_is_resumed_by_itself_with_its_own_life(store, app):
    dead = await new_node(store)
    release = await rolling(store, app.id, dead.id, EARLY, LATE)
    number = release.notification.id
    everyone = Devices(range(1, 2_000_001))
    passed = Devices(range(1, 101))
    await open_next(store, dead, everyone, suppressed=((passed, TIME_PASSED.code),))
    await open_next(store, dead, Devices([3_000_000]), expires_at=None)
    half = Devices(range(1, 1_000_001)) - passed
    parts = [Delta(run_number(number, 1), part, 0, 1, piece) for part, piece in half.parts()]
    await store.settlements.settle(Settlement(deltas=parts), dead.id)
    await dead.stop()
    heir = await new_node(store)
    first, second = sorted(await store.notifications.resumable(heir.id), key=lambda left: left.release)
    assert (first.release, first.targeted, first.counts) == (1, 2_000_000, {(0, 1): 999_900, (0, 21): 100})
    assert first.remaining == Devices(range(1_000_001, 2_000_001))
    assert (first.notification.released_at, first.notification.expires_at) == (NOW - 60, NOW)
    assert (second.release, second.targeted, second.counts) == (2, 1, {})
    assert second.remaining == Devices([3_000_000])
    assert (second.notification.released_at, second.notification.expires_at) == (NOW, None)
    store.notifications.give_back([second])
    assert [left.release for left in await store.notifications.resumable(heir.id)] == [2]
    await settled(store, heir, number, 1, Devices(range(1_000_001, 2_000_001)))
    await settled(store, heir, number, 2, Devices([3_000_000]))
    state = await ledger(store, app, number)
    assert state == (State.DONE, 2_000_001, {1: 1_999_901, 21: 100}, 0)
    await heir.stop()


CHILD = textwrap.dedent(
    """
    import asyncio, sys
    from pushd.bitset import Devices
    from pushd.cluster.node import Node
    from pushd.config import StoreConfig
    from pushd.store.settlements import Delta, Settlement, run_number
    from pushd.store.store import Store
    from tests.integration.store.test_rollouts import EARLY, LATE, open_next
    from tests.integration.store.timed import rolling

    async def main():
        store = Store(StoreConfig(pool_size=2), sys.argv[1])
        await store.start()
        node = Node(store.database.connect)
        await node.start()
        number = (await rolling(store, 1, node.id, EARLY, LATE)).notification.id
        await open_next(store, node, Devices(range(1, 50_001)), suppressed=((Devices(range(1, 101)), 21),))
        await open_next(store, node, Devices([60_000, 60_001]))
        settled = [Delta(run_number(number, 1), 0, 0, 1, Devices(range(101, 20_001)))]
        settled.append(Delta(run_number(number, 2), 0, 0, 1, Devices([60_000])))
        await store.settlements.settle(Settlement(deltas=settled), node.id)
        print(number, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
    """
)


async def test_releases_of_a_killed_process_are_resumed_each_by_itself(store, app, dsn):
    child = await asyncio.create_subprocess_exec(
        *mortal(sys.executable, "-c", CHILD, dsn),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    try:
        while not (line := (await asyncio.wait_for(child.stdout.readline(), 60)).strip()).isdigit():
            assert line, "it ended before it was done"
        heir = await new_node(store)
        assert list(await store.notifications.resumable(heir.id)) == []
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    async with asyncio.timeout(60):
        while not (claim := await store.notifications.resumable(heir.id)):
            await asyncio.sleep(0.02)
    assert [(left.release, left.remaining) for left in claim] == [
        (1, Devices(range(20_001, 50_001))),
        (2, Devices([60_001])),
    ]
    assert [left.counts for left in claim] == [{(0, 1): 19_900, (0, 21): 100}, {(0, 1): 1}]
    number = int(line)
    for left in claim:
        await settled(store, heir, number, left.release, left.remaining)
    assert await ledger(store, app, number) == (State.DONE, 50_002, {1: 49_902, 21: 100}, 0)
    await heir.stop()


async def test_releases_of_one_notification_are_claimed_in_portions(store, app):
    dead = await new_node(store)
    release = await rolling(store, app.id, dead.id, *(Planned(at=NOW - 60 + n) for n in range(9)))
    for device in range(1, 10):
        await open_next(store, dead, Devices([device]))
    await dead.stop()
    heir = await new_node(store)
    portions = []
    while claim := await store.notifications.resumable(heir.id, 4):
        portions.append([(left.notification.id, left.release, left.remaining) for left in claim])
    assert [len(each) for each in portions] == [4, 4, 1]
    whole = [(release.notification.id, number, Devices([number])) for number in range(1, 10)]
    assert [each for portion in portions for each in portion] == whole
    await heir.stop()


async def test_at_most_once_says_of_each_release_what_was_attempted(store, app):
    dead = await new_node(store)
    release = await rolling(store, app.id, dead.id, EARLY, LATE, delivery=Delivery.AT_MOST_ONCE)
    number = release.notification.id
    await open_next(store, dead, Devices([1, 2, 3]))
    await open_next(store, dead, Devices([4, 5]))
    tried = [(run_number(number, 1), Devices([1])), (run_number(number, 2), Devices([4, 5]))]
    assert await store.settlements.attempted([*tried, (run_number(number, 3), Devices([9]))], dead.id) == {
        run_number(number, 3)
    }
    await settled(store, dead, number, 2, Devices([4, 5]))
    assert await count(store, "attempts") == 1
    await dead.stop()
    heir = await new_node(store)
    (left,) = await store.notifications.resumable(heir.id)
    assert (left.release, left.remaining, left.attempted) == (1, Devices([1, 2, 3]), Devices([1]))
    await heir.stop()


async def test_a_rollout_is_over_with_its_last_release_and_its_last_run(store, app, node):
    release = await rolling(store, app.id, node.id, EARLY, LATE)
    number = release.notification.id
    assert await ledger(store, app, number) == (State.RUNNING, 0, {}, 0)
    await open_next(store, node, Devices([1, 2]))
    await settled(store, node, number, 1, Devices([1, 2]))
    assert await ledger(store, app, number) == (State.RUNNING, 2, {1: 2}, 0)
    assert (await store.notifications.get(app.id, number)).next_release_at == NOW
    await open_next(store, node, Devices([3]))
    assert await ledger(store, app, number) == (State.RUNNING, 3, {1: 2}, 1)
    await settled(store, node, number, 2, Devices([3]), code=64)
    assert await ledger(store, app, number) == (State.DONE, 3, {1: 2, 64: 1}, 0)
    async with asyncio.timeout(30):
        while await count(store, "outcome_deltas"):
            await asyncio.sleep(0.01)
    assert await ledger(store, app, number) == (State.DONE, 3, {1: 2, 64: 1}, 0)


async def test_two_nodes_that_end_the_last_two_runs_at_once_end_the_notification(store, app):
    nodes = [await new_node(store) for _ in range(2)]
    for _ in range(10):
        release = await rolling(store, app.id, nodes[0].id, EARLY, LATE)
        number = release.notification.id
        for node, device in zip(nodes, (1, 2), strict=True):
            await open_next(store, node, Devices([device]))
        async with store.database.transaction() as blocker:
            # Both are made to meet where the last one is found.
            await blocker.execute("SELECT 1 FROM rollouts WHERE notification_id = $1 FOR UPDATE", number)
            ends = [
                asyncio.ensure_future(settled(store, node, number, place, Devices([place])))
                for place, node in enumerate(nodes, 1)
            ]
            await asyncio.sleep(0.05)
            assert not any(end.done() for end in ends)
        await asyncio.gather(*ends)
        assert await ledger(store, app, number) == (State.DONE, 2, {1: 2}, 0)
    assert await count(store, "finished") == 10
    for node in nodes:
        await node.stop()


async def test_runs_end_and_releases_open_at_once_and_nothing_is_left_over(store, app):
    """Opened and settled by two nodes in any order, plain sends between: every rollout is over once, and adds up."""
    nodes = [await new_node(store) for _ in range(2)]
    numbers = []
    for _ in range(12):
        due = await one_due(store, app.id, nodes[0].id, schedule=LOCAL)
        planned = [Planned(at=NOW - 100 + n) for n in range(4)]
        assert all(await store.schedules.fire([rollout(due, nodes[0].id, *planned)], nodes[0].id))
        numbers.append(due.id)
    running: list[asyncio.Task[None]] = []

    async def lead(node):
        while found := await store.rollouts.due(NOW, 5):
            made = [opening(each, Devices([each.number * 10, each.number * 10 + 1])) for each in found]
            won = await store.rollouts.open(made, node.id)
            plain = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
            ended = Settlement()
            for each in (each for each, mine in zip(made, won, strict=True) if mine):
                one = ending(run_number(each.id, each.release.number), each.targets)
                ended.deltas, ended.finished = [*ended.deltas, *one.deltas], [*ended.finished, *one.finished]
            both = rows_of([(plain.id, 1)], finished=(plain.id, *ended.finished))
            both.deltas = ended.deltas
            running.append(asyncio.create_task(_settle(store, both, node)))

    await asyncio.gather(*(lead(node) for node in nodes))
    await asyncio.gather(*running)
    for number in numbers:
        assert await ledger(store, app, number) == (State.DONE, 8, {1: 8}, 0)
    assert await count(store, "runs") == 0
    assert await count(store, "finished") == len(numbers) + len(running)
    for node in nodes:
        await node.stop()


async def _settle(store, settlement, node):
    assert not (await store.settlements.settle(settlement, node.id)).refused


async def test_runs_of_one_notification_on_two_nodes_are_refused_each_by_itself(store, app, node):
    second = await new_node(store)
    release = await rolling(store, app.id, node.id, EARLY, LATE)
    number = release.notification.id
    await open_next(store, node, Devices([1]))
    await open_next(store, second, Devices([2]))
    both = ending(run_number(number, 1), Devices([1]))
    other = ending(run_number(number, 2), Devices([2]))
    both.deltas, both.finished = [*both.deltas, *other.deltas], [*both.finished, *other.finished]
    done = await store.settlements.settle(both, node.id)
    assert done.refused == {run_number(number, 2)}
    assert await ledger(store, app, number) == (State.RUNNING, 2, {1: 1}, 1)
    repeated = await store.settlements.settle(both, node.id)
    assert repeated.refused == {run_number(number, 2)}, "its answer was lost: it is told again, and applied once"
    await second.stop()


async def test_devices_that_are_known_wait_and_count_from_the_start(store, app, node):
    batches = [Devices(range(start, 3_001, 3)) for start in (1, 2, 3)]
    planned = [Planned(at=NOW - 10 + place, devices=devices) for place, devices in enumerate(batches)]
    release = await rolling(store, app.id, node.id, *planned)
    number = release.notification.id
    assert (release.devices, release.selector) == (batches[0], None)
    assert await ledger(store, app, number) == (State.RUNNING, 3_000, {}, 3_000)
    assert await store.rollouts.targeted(number) == Devices(range(1, 3_001))
    assert await store.rollouts.open([opening(release, batches[0])], node.id) == [True]
    (second,) = await store.rollouts.due(NOW, 10)
    assert second.devices == batches[1]
    listed = await store.notifications.releases(app.id, number, -1, 10)
    assert [(each.number, each.at, each.targeted, each.state) for each in listed] == [
        (1, NOW - 10, 1_000, "open"),
        (2, NOW - 9, 1_000, "waiting"),
        (3, NOW - 8, 1_000, "waiting"),
    ]
    assert [each.number for each in await store.notifications.releases(app.id, number, 1, 1)] == [2]
    assert await ledger(store, app, number) == (State.RUNNING, 3_000, {}, 3_000)


async def test_who_is_held_goes_into_further_releases(store, app, node):
    release = await rolling(store, app.id, node.id, EARLY)
    number = release.notification.id
    held = (Planned(at=NOW + 30, devices=Devices([7, 8])), Planned(at=NOW + 20, devices=Devices([9])))
    capped = ((Devices([2]), FREQUENCY_CAP.code),)
    made = opening(release, Devices([1, 2]), further=held, suppressed=capped)
    assert await store.rollouts.open([made], node.id) == [True]
    assert await ledger(store, app, number) == (State.RUNNING, 5, {23: 1}, 4)
    (again,) = await store.rollouts.due(NOW + 100, 10)
    assert (again.number, again.at, again.devices) == (3, NOW + 20, Devices([9]))
    later = opening(again, Devices(), further=(Planned(at=NOW + 99, devices=Devices([9])),))
    assert await store.rollouts.open([later], node.id) == [True], "it is quiet there still"
    (again,) = await store.rollouts.due(NOW + 100, 10)
    assert (again.number, again.devices) == (2, Devices([7, 8]))
    await store.rollouts.open(
        [opening(again, Devices([8]), further=(Planned(at=NOW + 99, devices=Devices([7])),))], node.id
    )
    assert await ledger(store, app, number) == (State.RUNNING, 5, {23: 1}, 4)
    assert await store.rollouts.targeted(number) == Devices([1, 2, 7, 8, 9])
    await settled(store, node, number, 1, Devices([1]))
    await settled(store, node, number, 2, Devices([8]))
    for device in (9, 7):
        release = await open_next(store, node, Devices([device]))
        assert release.devices == Devices([device])
        await settled(store, node, number, release.number, Devices([device]))
    assert await ledger(store, app, number) == (State.DONE, 5, {1: 4, 23: 1}, 0)


@pytest.mark.parametrize("devices", [Devices(), Devices([1, 2])], ids=["nobody", "suppressed"])
async def test_a_release_to_nobody_runs_nothing_and_the_last_one_ends_it(store, app, node, devices):
    release = await rolling(store, app.id, node.id, EARLY, LATE)
    number = release.notification.id
    suppressed = ((devices, TIME_PASSED.code),) if devices else ()
    await open_next(store, node, devices, suppressed=suppressed)
    assert (await ledger(store, app, number))[0] is State.RUNNING
    await open_next(store, node, Devices())
    assert await count(store, "runs") == 0
    assert await ledger(store, app, number) == (State.DONE, len(devices), {21: 2} if devices else {}, 0)


async def test_a_fenced_node_opens_nothing(store, app):
    dead = await new_node(store)
    release = await rolling(store, app.id, dead.id, EARLY)
    await dead.stop()
    with pytest.raises(UnavailableError):
        await store.rollouts.open([opening(release, Devices([1]))], dead.id)
    assert await count(store, "runs") == await count(store, "targets") == 0


@pytest.mark.parametrize("kind", ["sent", "suppressed", "further"])
@pytest.mark.parametrize("commits", [True, False])
async def test_an_opening_whose_commit_was_lost_is_told_as_it_is(store, app, node, monkeypatch, commits, kind):
    release = await rolling(store, app.id, node.id, EARLY, LATE)
    made = {
        "sent": opening(release, Devices([1, 2])),
        "suppressed": opening(release, Devices([1]), suppressed=((Devices([1]), TIME_PASSED.code),)),
        "further": opening(release, Devices(), further=(Planned(at=NOW, devices=Devices([4])),)),
    }[kind]
    lost = lose_commit(store, monkeypatch, "JOIN rollouts", commits=commits)
    assert await store.rollouts.open([made], node.id) == [commits]
    assert lost
    assert await store.rollouts.open([made], node.id) == [False], "what comes late finds another revision"
    assert await count(store, "runs") == int(commits and kind == "sent")
    assert len(await store.rollouts.targeted(made.id)) == (len(made.targets) + len(made.further)) * commits
    (again,) = await store.rollouts.due(NOW, 10)
    assert (again.number == 1) is not commits


async def test_an_opening_that_is_still_under_way_is_waited_for(store, app, node, monkeypatch):
    release = await rolling(store, app.id, node.id, EARLY, LATE)
    late = await store.database.connect()
    hanging = late.transaction()
    await hanging.start()
    await late.fetch("SELECT * FROM rollouts WHERE notification_id = $1 FOR UPDATE", release.notification.id)

    async def lost_on_the_way(openings, node_id):
        raise OutcomeUnknownError("lost")

    monkeypatch.setattr(store.rollouts, "_write", lost_on_the_way)
    call = asyncio.ensure_future(store.rollouts.open([opening(release, Devices([1]))], node.id))
    await asyncio.sleep(0.2)
    assert not call.done()
    await late.execute(
        "INSERT INTO runs VALUES ($1, $2, $3, $4, now(), false)",
        *(release.notification.id, release.number, app.id, node.id),
    )
    await hanging.commit()
    assert await asyncio.wait_for(call, 30) == [True]
    await late.close()


# -- cancel and pause


async def test_cancel_ends_what_waits_and_settles_who_was_targeted(store, app, node):
    known = Planned(at=NOW + 5, devices=Devices(range(1_000_000, 1_100_000)))
    release = await rolling(store, app.id, node.id, EARLY, LATE, known)
    number = release.notification.id
    await open_next(store, node, Devices([1, 2]))
    (stale,) = await store.rollouts.due(NOW, 10)
    position = await store.changes.position()
    assert await store.notifications.cancel(app.id, number)
    events = (await store.changes.read(position)).events
    assert [list(each.ids) for each in events if each.aggregate is Aggregate.NOTIFICATIONS] == [[number]]
    assert await store.rollouts.open([opening(stale, Devices([3]))], node.id) == [False]
    assert await store.rollouts.due(NOW + 100, 10) == []
    assert await ledger(store, app, number) == (State.CANCELLED, 100_002, {CANCELLED.code: 100_000}, 2)
    assert [each.state for each in await store.notifications.releases(app.id, number, 0, 10)] == [
        *("open", "cancelled", "cancelled")
    ]
    assert await store.notifications.orders([number], node.id) == [Order(number, 1, True, False)]
    await settled(store, node, number, 1, Devices([1, 2]), CANCELLED.code)
    assert await ledger(store, app, number) == (State.CANCELLED, 100_002, {CANCELLED.code: 100_002}, 0)
    assert (await store.notifications.get(app.id, number)).finished_at is not None
    assert not await store.notifications.cancel(app.id, number)


@pytest.mark.parametrize("devices", [None, Devices(range(500))], ids=["selected", "known"])
async def test_cancel_of_what_only_waits_is_the_end_of_it(store, app, other, node, devices):
    release = await rolling(store, app.id, node.id, Planned(at=NOW, selector=WEST, devices=devices))
    number = release.notification.id
    assert not await store.notifications.cancel(other.id, number)
    assert await store.notifications.cancel(app.id, number)
    many = len(devices or ())
    assert await ledger(store, app, number) == (State.CANCELLED, many, {12: many} if many else {}, 0)
    async with asyncio.timeout(30):
        while await count(store, "outcome_deltas"):
            await asyncio.sleep(0.01)
    assert await ledger(store, app, number) == (State.CANCELLED, many, {12: many} if many else {}, 0)


async def test_a_paused_rollout_opens_its_releases_paused(store, app):
    dead = await new_node(store)
    release = await rolling(store, app.id, dead.id, EARLY, LATE)
    number = release.notification.id
    assert await store.notifications.pause(app.id, number)
    assert await store.rollouts.open([opening(release, Devices([1]))], dead.id) == [False]
    (paused,) = await store.rollouts.due(NOW, 10)
    assert paused.paused
    assert await store.rollouts.open([opening(paused, Devices([1]))], dead.id) == [True]
    assert await ledger(store, app, number) == (State.PAUSED, 1, {}, 1)
    assert await store.notifications.orders([number], dead.id) == [Order(number, 1, False, True)]
    await dead.stop()
    heir = await new_node(store)
    (left,) = await store.notifications.resumable(heir.id)
    assert left.notification.state is State.PAUSED
    assert await store.notifications.unpause(app.id, number)
    assert await store.notifications.orders([number], heir.id) == [Order(number, 1, False, False)]
    (again,) = await store.rollouts.due(NOW, 10)
    assert (again.paused, again.number) == (False, 2)
    await heir.stop()


async def test_plain_sends_are_paused_and_cancelled_too(store, app, other, node):
    sent = await store.notifications.accept(accept(app.id, node.id, Devices([1, 2])))
    assert not await store.notifications.pause(other.id, sent.id)
    assert await store.notifications.pause(app.id, sent.id)
    assert await store.notifications.pause(app.id, sent.id)
    assert (await store.notifications.get(app.id, sent.id)).notification.state is State.PAUSED
    assert await store.notifications.unpause(app.id, sent.id)
    assert (await store.notifications.get(app.id, sent.id)).notification.state is State.RUNNING
    assert await store.notifications.releases(app.id, sent.id, -1, 10) == []
    assert await store.notifications.cancel(app.id, sent.id)
    assert not await store.notifications.pause(app.id, sent.id), "nothing of it is sent any more"
    await store.settlements.settle(rows_of([(sent.id, 1), (sent.id, 2)], code=12, finished=(sent.id,)), node.id)
    assert not await store.notifications.unpause(app.id, sent.id)
    assert not await store.notifications.pause(app.id, 4711)


async def test_a_finished_rollout_is_not_paused(store, app, node):
    release = await rolling(store, app.id, node.id, EARLY)
    await open_next(store, node, Devices([1]))
    await settled(store, node, release.notification.id, 1, Devices([1]))
    assert not await store.notifications.pause(app.id, release.notification.id)


async def test_cancel_beside_openings_and_ends_leaves_nothing_running(store, app):
    nodes = [await new_node(store) for _ in range(2)]
    for turn in range(15):
        known = Planned(at=NOW + 1, devices=Devices([100, 101]))
        release = await rolling(store, app.id, nodes[0].id, EARLY, LATE, known)
        number = release.notification.id
        await store.rollouts.open([opening(release, Devices([1]))], nodes[0].id)
        (second,) = await store.rollouts.due(NOW, 1)
        calls = [
            store.rollouts.open([opening(second, Devices([2]))], nodes[1].id),
            store.notifications.cancel(app.id, number),
            settled(store, nodes[0], number, 1, Devices([1])),
        ]
        random.Random(turn).shuffle(calls)
        done = await asyncio.gather(*calls)
        if [True] in done:
            assert await store.notifications.orders([number], nodes[1].id) == [Order(number, 2, True, False)]
            await settled(store, nodes[1], number, 2, Devices([2]), CANCELLED.code)
        opened = int([True] in done)
        expected = {1: 1, CANCELLED.code: 2 + opened}
        assert await ledger(store, app, number) == (State.CANCELLED, 3 + opened, expected, 0)
        assert (await store.notifications.get(app.id, number)).finished_at is not None
    for node in nodes:
        await node.stop()


async def test_rollouts_of_a_deleted_app_are_never_due(store, app, node):
    release = await rolling(store, app.id, node.id, EARLY, LATE)
    await open_next(store, node, Devices([1]))
    (waiting,) = await store.rollouts.due(NOW, 1)
    assert await store.apps.delete(app.id)
    assert await store.rollouts.due(NOW, 10) == []
    assert await store.rollouts.open([opening(waiting, Devices([2]))], node.id) == [False]
    number = release.notification.id
    assert await store.notifications.orders([number], node.id) == [Order(number, 1, True, False)]
    await settled(store, node, number, 1, Devices([1]), CANCELLED.code)
    assert (await store.notifications.get(app.id, number)).finished_at is not None


async def test_a_rollout_goes_with_the_month_of_its_notification(store, app, node):
    made = NOW + 86_400 * 300
    await rolling(store, app.id, node.id, EARLY, created_at=made)
    assert await count(store, "rollouts_default") == 1
    await store.database.execute("SELECT make_partitions(to_timestamp($1), 1)", made)
    assert await count(store, "rollouts_default") == await count(store, "releases_default") == 0
    assert await store.rollouts.next_at() == NOW - 60
    await store.database.execute("SELECT drop_partitions(to_timestamp($1))", made + 86_400 * 62)
    assert await store.rollouts.next_at() is None
