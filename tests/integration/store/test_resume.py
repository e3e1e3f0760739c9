"""Resume: exactly what was targeted and is not settled, claimed by liveness, under a fence; after kill -9, too."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from pushd.bitset import Devices
from pushd.cluster.node import FencedError, Node
from pushd.errors import UnavailableError
from pushd.model.notification import Delivery, State
from pushd.store import resume
from pushd.store.resume import Absences, died
from pushd.store.settlements import Delta, Settlement
from tests.integration.store.samples import NOW, accept, accept_many, registration, rows_of
from tests.mortal import mortal

pytestmark = pytest.mark.asyncio


async def new_node(store, **options):
    node = Node(store.database.connect, **options)
    await node.start()
    return node


async def test_nothing_of_a_living_node_can_be_claimed(store, app, node):
    await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    second = await new_node(store)
    assert list(await store.notifications.resumable(second.id)) == []
    assert list(await store.notifications.resumable(node.id)) == []
    await second.stop()


async def test_what_a_dead_node_left_is_claimed_once_and_whole(store, app):
    dead = await new_node(store)
    small = await store.notifications.accept(accept(app.id, dead.id, Devices([1, 2, 3]), name="small"))
    large = await store.notifications.accept(accept(app.id, dead.id, Devices(range(1, 1_100_001))))
    over = await store.notifications.accept(accept(app.id, dead.id, Devices([9])))
    settlement = rows_of([(small.id, 2), (over.id, 9)], finished=(over.id,))
    half = Devices(range(1, 1_050_001))
    settlement.deltas = [Delta(large.id, part, 0, 1, each) for part, each in half.parts()]
    await store.settlements.settle(settlement, dead.id)
    await store.notifications.cancel(app.id, large.id)
    await dead.stop()

    first, second = await new_node(store), await new_node(store)
    claims = await asyncio.gather(store.notifications.resumable(first.id), store.notifications.resumable(second.id))
    claimed = {each.notification.id: each for claim in claims for each in claim}
    assert sum(map(len, claims)) == 2
    assert sorted(claimed) == [small.id, large.id]
    one, two = claimed[small.id], claimed[large.id]
    assert one.notification == small.notification
    assert (one.targeted, one.counts, one.remaining, one.attempted) == (3, {(0, 1): 1}, Devices([1, 3]), Devices())
    assert two.notification.state is State.CANCELLED
    assert (two.targeted, two.counts) == (1_100_000, {(0, 1): 1_050_000})
    assert two.remaining == Devices(range(1_050_001, 1_100_001))
    await first.stop()
    await second.stop()


async def test_what_was_given_out_is_not_read_again_with_each_portion(store, app, monkeypatch):
    dead = await new_node(store)
    sent = await accept_many(store, [accept(app.id, dead.id, Devices([n])) for n in range(1, 41)])
    await dead.stop()
    heir, reads, fetch = await new_node(store), [], store.database.fetch

    async def counted(query, *args, **options):
        rows = await fetch(query, *args, **options)
        if query == resume._CLAIMED:
            reads.append(len(rows))
        return rows

    monkeypatch.setattr(store.database, "fetch", counted)
    found = []
    while claim := await store.notifications.resumable(heir.id, 4):
        found += [each.notification.id for each in claim]
        # Those that could not be begun come in a later round, and none else does.
        if len(found) == 20:
            store.notifications.give_back(claim[:1])
    assert sorted(found) == sorted([*(each.id for each in sent), found[16]])
    assert max(reads) == 4
    assert sum(reads) <= 3 * 40
    reads.clear()
    assert await store.notifications.resumable(heir.id, 4) == ()
    assert reads == []
    await heir.stop()


async def test_claims_come_in_portions(store, app):
    dead = await new_node(store)
    await accept_many(store, [accept(app.id, dead.id, Devices([n])) for n in range(1, 26)])
    await dead.stop()
    heir = await new_node(store)
    sizes = []
    while claim := await store.notifications.resumable(heir.id, 10):
        sizes.append(len(claim))
    assert sizes == [10, 10, 5]
    await heir.stop()


async def test_at_most_once_says_what_was_attempted(store, app):
    dead = await new_node(store)
    sent = await store.notifications.accept(
        accept(app.id, dead.id, Devices(range(1, 101)), delivery=Delivery.AT_MOST_ONCE)
    )
    await store.settlements.attempted([(sent.id, Devices(range(1, 61)))], dead.id)
    await store.settlements.settle(Settlement(deltas=[Delta(sent.id, 0, 0, 1, Devices(range(1, 41)))]), dead.id)
    await dead.stop()
    heir = await new_node(store)
    (left,) = await store.notifications.resumable(heir.id)
    assert left.remaining == Devices(range(41, 101))
    assert left.attempted == Devices(range(41, 61))
    await heir.stop()


async def test_a_fenced_node_may_attempt_nothing(store, app):
    dead = await new_node(store)
    sent = await store.notifications.accept(accept(app.id, dead.id, Devices([1, 2]), delivery=Delivery.AT_MOST_ONCE))
    await dead.stop()
    heir = await new_node(store)
    assert await store.notifications.resumable(heir.id)
    assert await store.settlements.attempted([(sent.id, Devices([1]))], dead.id) == {sent.id}
    assert await store.database.fetchval("SELECT count(*) FROM attempts") == 0
    assert await store.settlements.attempted([(sent.id, Devices([1]))], heir.id) == frozenset()
    await heir.stop()


async def cut_off(store, node):
    """Ends a node's session in the server, as a partition would, without telling the node."""
    node._connection.terminate()
    for _ in range(200):
        if await store.database.fetchval(
            "SELECT pg_try_advisory_lock(7002, $1) AND pg_advisory_unlock(7002, $1)", node.id
        ):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the lock stays")


async def test_a_zombie_s_settlements_are_refused_and_it_learns_so(store, app):
    zombie = await new_node(store, ping_s=60)
    await store.devices.register_many(app.id, [registration(1)], NOW)
    sent = await store.notifications.accept(accept(app.id, zombie.id, Devices([1, 2])))
    await store.settlements.settle(rows_of([(sent.id, 1)]), zombie.id)
    await cut_off(store, zombie)
    heir = await new_node(store)
    (left,) = await store.notifications.resumable(heir.id)
    assert left.remaining == Devices([2])
    late = await store.settlements.settle(rows_of([(sent.id, 2)], finished=(sent.id,)), zombie.id)
    assert late.refused == frozenset({sent.id})
    assert await store.notifications.counts(app.id, sent.id) == {(0, 1): 1}
    with pytest.raises(UnavailableError):
        await store.notifications.accept(accept(app.id, zombie.id, Devices([1])))
    assert list(await store.notifications.resumable(zombie.id)) == []
    with pytest.raises(FencedError):
        await zombie._return()
    done = await store.settlements.settle(rows_of([(sent.id, 2)], finished=(sent.id,)), heir.id)
    assert done.refused == frozenset()
    await zombie.stop()
    await heir.stop()


async def test_rows_that_another_node_owns_are_refused_and_the_rest_is_written(store, app, node):
    second = await new_node(store)
    mine = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    theirs = await store.notifications.accept(accept(app.id, second.id, Devices([1])))
    large = await store.notifications.accept(accept(app.id, second.id, Devices(range(1, 101))))
    settlement = rows_of([(mine.id, 1), (theirs.id, 1)], finished=(mine.id, theirs.id))
    settlement.deltas = [Delta(large.id, 0, 0, 1, Devices([5]))]
    done = await store.settlements.settle(settlement, node.id)
    assert done.refused == frozenset({theirs.id, large.id})
    assert await store.notifications.counts(app.id, mine.id) == {(0, 1): 1}
    for other in (theirs, large):
        assert await store.notifications.counts(app.id, other.id) == {}
        assert (await store.notifications.get(app.id, other.id)).notification.state is State.RUNNING
    await second.stop()


async def test_a_claim_waits_for_a_settlement_under_way(store, app):
    dead = await new_node(store, ping_s=60)
    sent = await store.notifications.accept(accept(app.id, dead.id, Devices([1, 2])))
    heir = await new_node(store)
    async with store.database.transaction() as slow:
        # A settlement of the dead node that has not committed yet holds the node's row.
        await slow.execute("SELECT 1 FROM nodes WHERE id = $1 FOR NO KEY UPDATE", dead.id)
        await slow.execute("INSERT INTO outcomes VALUES (1, $1, 0, 1, now())", sent.id)
        await cut_off(store, dead)
        claim = asyncio.ensure_future(store.notifications.resumable(heir.id))
        await asyncio.sleep(0.1)
        assert not claim.done()
    (left,) = await claim
    assert left.remaining == Devices([2])
    await dead.stop()
    await heir.stop()


async def test_a_node_takes_up_a_lost_session_with_the_same_id(store, app):
    node = await new_node(store, ping_s=0.05)
    before = node.id
    await store.database.execute("SELECT pg_terminate_backend($1)", node._connection.get_server_pid())
    for _ in range(200):
        await asyncio.sleep(0.02)
        if node.alive and await store.database.fetchval(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 7002 AND objid = $1 AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            node.id,
        ):
            break
    assert (node.alive, node.id) == (True, before)
    assert not (await store.notifications.accept(accept(app.id, node.id, Devices([1])))).replayed
    await node.stop()


async def test_a_fenced_node_is_fatal(store, app):
    zombie = await new_node(store, ping_s=0.05)
    died = asyncio.get_running_loop().create_future()
    zombie.fatal = died.set_result
    await store.notifications.accept(accept(app.id, zombie.id, Devices([1])))
    await store.database.execute("UPDATE nodes SET fenced_at = now() WHERE id = $1", zombie.id)
    assert isinstance(await asyncio.wait_for(died, 60), FencedError)
    await zombie.stop()


async def test_a_silent_node_loses_its_session(store):
    silent = await new_node(store, ping_s=60, timeout_s=1)
    await asyncio.sleep(1.3)
    assert await store.database.fetchval("SELECT pg_try_advisory_lock(7002, $1)", silent.id)
    await silent.stop()


CHILD = textwrap.dedent(
    """
    import asyncio, sys
    from pushd.bitset import Devices
    from pushd.cluster.node import Node
    from pushd.config import StoreConfig
    from pushd.store.settlements import Delta, Settlement
    from pushd.store.store import Store
    from tests.integration.store.samples import accept, rows_of

    async def main():
        store = Store(StoreConfig(pool_size=2), sys.argv[1])
        await store.start()
        node = Node(store.database.connect)
        await node.start()
        small = await store.notifications.accept(accept(1, node.id, Devices([1, 2, 3])))
        large = await store.notifications.accept(accept(1, node.id, Devices(range(1, 50_001))))
        settlement = rows_of([(small.id, 3)])
        settlement.deltas = [Delta(large.id, 0, 0, 1, Devices(range(1, 20_001)))]
        await store.settlements.settle(settlement, node.id)
        print(small.id, large.id, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
    """
)


async def test_a_killed_process_s_work_is_resumed(store, app, dsn):
    child = await asyncio.create_subprocess_exec(
        *mortal(sys.executable, "-c", CHILD, dsn),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    try:
        while True:
            line = (await asyncio.wait_for(child.stdout.readline(), 30)).decode()
            with contextlib.suppress(ValueError):
                small, large = map(int, line.split())
                break
        heir = await new_node(store)
        assert list(await store.notifications.resumable(heir.id)) == []
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    claim = []
    for _ in range(250):
        if claim := await store.notifications.resumable(heir.id):
            break
        await asyncio.sleep(0.02)
    remaining = {each.notification.id: each.remaining for each in claim}
    assert remaining == {small: Devices([1, 2]), large: Devices(range(20_001, 50_001))}
    await heir.stop()


# -- a node that lost its session may come back


@pytest.fixture
def graceful(store):
    """The store of a node that gives others some time to come back."""
    store.notifications._resumer._absences = Absences(0.6)
    return store


async def sessions_end(store, *nodes):
    """What a restart of PostgreSQL does to nodes."""
    for node in nodes:
        await store.database.execute("SELECT pg_terminate_backend($1, 2000)", node._connection.get_server_pid())


async def test_who_is_back_first_does_not_take_the_others_for_dead(graceful, app):
    store = graceful
    first = await new_node(store, ping_s=0.02, name="here:1")
    second = await new_node(store, ping_s=0.3, name="elsewhere:1")
    died = []
    first.fatal = second.fatal = died.append
    sent = await store.notifications.accept(accept(app.id, second.id, Devices([1, 2])))
    await sessions_end(store, first, second)
    end = asyncio.get_running_loop().time() + 1.5
    while asyncio.get_running_loop().time() < end:
        assert list(await store.notifications.resumable(first.id)) == []
        await asyncio.sleep(0.05)
    assert (first.alive, second.alive, died) == (True, True, [])
    assert not (await store.settlements.settle(rows_of([(sent.id, 1), (sent.id, 2)]), second.id)).refused
    await first.stop()
    await second.stop()


async def test_who_does_not_come_back_in_time_is_fenced_and_its_work_is_claimed(graceful, app):
    store = graceful
    heir = await new_node(store, name="here:1")
    lost = await new_node(store, ping_s=60, name="elsewhere:1")
    died = asyncio.get_running_loop().create_future()
    lost.fatal = died.set_result
    sent = await store.notifications.accept(accept(app.id, lost.id, Devices([1, 2])))
    await sessions_end(store, lost)
    begun = asyncio.get_running_loop().time()
    while not (claim := await store.notifications.resumable(heir.id)):
        await asyncio.sleep(0.05)
    assert asyncio.get_running_loop().time() - begun >= 0.55
    assert claim[0].remaining == Devices([1, 2])
    assert (await store.settlements.settle(rows_of([(sent.id, 1)]), lost.id)).refused == {sent.id}
    returning = asyncio.create_task(lost._return())
    with pytest.raises(FencedError):
        await asyncio.wait_for(returning, 60)
    await lost.stop()
    await heir.stop()


async def test_nobody_waits_for_a_node_that_said_goodbye_or_whose_process_is_gone(graceful, app):
    store = graceful
    heir = await new_node(store, name="here:1")
    stopped = await new_node(store, name="elsewhere:1")
    await store.notifications.accept(accept(app.id, stopped.id, Devices([1])))
    await stopped.stop()
    assert len(await store.notifications.resumable(heir.id)) == 1
    child = await asyncio.create_subprocess_exec("true")
    await child.wait()
    killed = await new_node(store, ping_s=60, name=f"{socket.gethostname()}:{child.pid}")
    await store.notifications.accept(accept(app.id, killed.id, Devices([1])))
    await sessions_end(store, killed)
    assert len(await store.notifications.resumable(heir.id)) == 1
    await killed.stop()
    await heir.stop()


def absent(*ids, gone=False):
    return [{"id": each, "name": "elsewhere:1", "gone": gone} for each in ids]


async def test_absence_is_counted_from_when_it_is_seen_and_pauses_of_ours_prove_little():
    absences = Absences(9.0)
    assert absences.over(absent(1), 100.0) == []
    assert absences.over(absent(1), 103.0) == []
    assert absences.over([], 104.0) == [], "it came back"
    assert absences.over(absent(1, 2), 105.0) == []
    assert absences.over(absent(1, 2), 400.0) == [], "nobody looked for five minutes"
    assert absences.over(absent(1, 2), 403.0) == []
    assert absences.over(absent(1), 406.0) == [1]
    assert absences.over(absent(5, gone=True), 407.0) == [5]


async def test_a_process_of_this_machine_that_lives_is_not_dead():
    here = socket.gethostname()
    assert died(f"{here}:{os.getpid()}"), "an earlier process had our number; it is not there any more"
    assert not died(f"{here}:{os.getppid()}")
    assert not died(f"{here}:1"), "whoever that belongs to"
    assert not died("elsewhere:999999999")
    assert not died(f"{here}:")


@pytest.mark.parametrize("lost", ["the answer of the claim", "a read after it"])
async def test_what_was_claimed_and_not_read_is_given_out_by_the_next_claim(store, app, monkeypatch, lost):
    dead = await new_node(store)
    sent = await store.notifications.accept(accept(app.id, dead.id, Devices([1, 2])))
    await dead.stop()
    heir = await new_node(store)
    database, failed = store.database, []

    def breaking(call, statement):
        async def broken(query, *args, **options):
            answer = await call(query, *args, **options)
            if statement in query and not failed:
                failed.append(query)
                raise UnavailableError
            return answer

        return broken

    monkeypatch.setattr(database, "fetchval", breaking(database.fetchval, "claim_runs"))
    if lost == "a read after it":
        monkeypatch.undo()
        monkeypatch.setattr(database, "fetch", breaking(database.fetch, "FROM targets"))
    with pytest.raises(UnavailableError):
        await store.notifications.resumable(heir.id)
    assert failed
    (left,) = await store.notifications.resumable(heir.id)
    assert (left.notification.id, left.remaining) == (sent.id, Devices([1, 2]))
    assert list(await store.notifications.resumable(heir.id)) == []
    store.notifications.give_back([left])
    assert [each.notification.id for each in await store.notifications.resumable(heir.id)] == [sent.id]
    assert list(await store.notifications.resumable(heir.id)) == []
    await heir.stop()
