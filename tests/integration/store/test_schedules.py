"""Schedules: accepted with plain sends, found when due, edited, and each occurrence fired once, whatever is lost."""

from __future__ import annotations

import asyncio

import pytest

from pushd.bitset import Devices
from pushd.errors import NotFoundError, UnavailableError
from pushd.model.notification import Delivery, State
from pushd.outcome import QUIET_HOURS, TIME_PASSED
from pushd.store.changes import Aggregate
from pushd.store.database import OutcomeUnknownError
from pushd.store.notifications import Due, Idempotency
from pushd.store.schedules import Firing, Planned
from tests.integration.store.samples import NOW, accept, accept_many
from tests.integration.store.test_notifications import lose_commit as lose_accept
from tests.integration.store.test_resume import new_node
from tests.integration.store.timed import DAILY, firing, later, lose_commit, one_due, rollout, scheduled, send

pytestmark = pytest.mark.asyncio

DAY = 86_400.0


async def rows(store, table):
    return await store.database.fetchval(f"SELECT count(*) FROM {table}")


async def test_a_send_that_is_due_later_is_kept_as_a_schedule_and_nothing_else(store, app, node):
    woken = []
    store.notifications.acceptor.on_scheduled = woken.append
    kept = await store.notifications.accept(scheduled(app.id, node.id, NOW + 60, name="later"))
    assert (kept.scheduled, list(kept.notifications), kept.notification) == (True, [], None)
    assert woken == [NOW + 60]
    stored = await store.schedules.get(app.id, kept.id)
    assert (stored.id, stored.app_id, stored.send) == (kept.id, app.id, send(name="later"))
    assert (stored.created_at, stored.accepted_at) == (NOW - 3_600, NOW - 3_600)
    assert (stored.revision, stored.active, stored.next_at, stored.nominal) == (1, True, NOW + 60, NOW + 60)
    assert (stored.occurred, stored.skipped, stored.ended_at, stored.cancelled_at) == (0, 0, None, None)
    for table in ("notifications", "runs", "targets"):
        assert await rows(store, table) == 0, table


async def test_what_is_due_is_found_first_due_first_and_nothing_else(store, app, node):
    times = [NOW + 5, NOW - 5, NOW + 50, NOW]
    ids = [(await store.notifications.accept(scheduled(app.id, node.id, at))).id for at in times]
    assert [each.id for each in await store.schedules.due(NOW + 5, 10)] == [ids[1], ids[3], ids[0]]
    assert [each.id for each in await store.schedules.due(NOW + 5, 2)] == [ids[1], ids[3]]
    assert [each.id for each in await store.schedules.due(float("inf"), 10)][-1] == ids[2]
    assert await store.schedules.next_at() == NOW - 5
    assert await store.schedules.cancel(app.id, ids[1])
    assert await store.schedules.next_at() == NOW


async def test_nothing_is_due_where_there_is_nothing(store, app):
    assert await store.schedules.due(NOW, 10) == []
    assert await store.schedules.next_at() is None
    assert await store.schedules.get(app.id, 1) is None


async def test_an_array_keeps_plain_sends_and_schedules_together(store, app, node):
    acceptor, told = store.notifications.acceptor, []
    ids = await acceptor.reserve(3)
    wanted = [
        accept(app.id, node.id, Devices([1]), body="first"),
        scheduled(app.id, node.id),
        accept(app.id, node.id, Devices(range(1, 101)), body="last"),
    ]
    key = Idempotency("key", b"hash")
    kept = await acceptor.accept_array(wanted, ids, key, b"told", told.append)
    assert kept.scheduled
    assert [each.id for each in kept.notifications] == [ids[0], ids[2]]
    assert [each.id for each in await store.schedules.due(NOW, 10)] == [ids[1]]
    assert await rows(store, "runs") == 2
    again = await acceptor.accept_array(wanted, await acceptor.reserve(3), key, b"told", told.append)
    assert (again.replayed, again.id, again.scheduled) == (True, ids[0], False)
    assert await rows(store, "schedules") == 1


async def test_a_repeated_key_is_told_the_schedule_s_id(store, app, node):
    key = Idempotency("key", b"hash")
    first = await store.notifications.accept(scheduled(app.id, node.id, idempotency=key, answer=b"told"))
    again = await store.notifications.accept(scheduled(app.id, node.id, idempotency=key))
    assert (again.id, again.replayed, again.answer) == (first.id, True, b"told")
    assert await rows(store, "schedules") == 1


@pytest.mark.parametrize("commits", [True, False])
async def test_a_lost_commit_of_a_schedule_is_looked_up(store, app, node, monkeypatch, commits):
    await lose_accept(store, monkeypatch, commits=commits)
    if commits:
        kept = await store.notifications.accept(scheduled(app.id, node.id))
        assert (await store.schedules.get(app.id, kept.id)).id == kept.id
    else:
        with pytest.raises(UnavailableError):
            await store.notifications.accept(scheduled(app.id, node.id))
        assert await rows(store, "schedules") == 0


async def test_a_schedule_that_nobody_waits_for_is_not_kept(store, app, node):
    key = Idempotency("key", b"hash")
    async with store.database.transaction() as blocker:
        await blocker.execute("LOCK TABLE schedules")
        call = asyncio.ensure_future(store.notifications.accept(scheduled(app.id, node.id, idempotency=key)))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    async with asyncio.timeout(30):
        while await rows(store, "schedules") or await rows(store, "idempotency"):
            await asyncio.sleep(0.02)


async def test_other_nodes_hear_of_what_is_due_soon(store, app, node):
    position = await store.changes.position()
    soon = await store.notifications.accept(scheduled(app.id, node.id, NOW - 3_600 + 59))
    far = await store.notifications.accept(scheduled(app.id, node.id, NOW))
    heard = [each for each in (await store.changes.read(position)).events if each.aggregate is Aggregate.SCHEDULES]
    assert [(each.app_id, list(each.ids)) for each in heard] == [(app.id, [soon.id])]
    assert far.id > soon.id


async def test_listing_is_newest_first_and_by_what_is_to_come(store, app, other, node):
    ids = [(await store.notifications.accept(scheduled(app.id, node.id))).id for _ in range(4)]
    await store.notifications.accept(scheduled(other.id, node.id))
    await store.schedules.cancel(app.id, ids[0])
    off = await store.schedules.get(app.id, ids[1])
    assert await store.schedules.edit(later(off, active=False))
    assert [each.id for each in await store.schedules.list(app.id, 0, 10)] == ids[::-1]
    assert [each.id for each in await store.schedules.list(app.id, ids[3], 2)] == [ids[2], ids[1]]
    assert [each.id for each in await store.schedules.list(app.id, 0, 10, active=True)] == [ids[3], ids[2]]
    assert [each.id for each in await store.schedules.list(app.id, 0, 10, active=False)] == [ids[1], ids[0]]
    assert [each.id for each in await store.schedules.due(NOW, 10) if each.app_id == app.id] == [ids[2], ids[3]]


async def test_an_edit_is_made_of_what_was_read_and_of_nothing_else(store, app, node):
    due = await one_due(store, app.id, node.id)
    woken = []
    store.notifications.acceptor.on_scheduled = woken.append
    changed = later(due, send=send(DAILY, name="new"), next_at=NOW + 7, nominal=NOW + 6, accepted_at=NOW + 1)
    assert await store.schedules.edit(changed)
    assert woken == [NOW + 7]
    assert await store.schedules.get(app.id, due.id) == later(changed, revision=2)
    assert not await store.schedules.edit(later(due, active=False)), "it was changed since it was read"
    assert not await store.schedules.edit(later(changed, revision=2, id=due.id + 1)), "there is no such"
    off = later(changed, revision=2, active=False)
    assert await store.schedules.edit(off)
    assert woken == [NOW + 7], "nothing comes of what is off"
    assert await store.schedules.due(NOW + 10, 10) == []


async def test_edits_at_once_are_one(store, app, node):
    due = await one_due(store, app.id, node.id)
    done = await asyncio.gather(*(store.schedules.edit(later(due, nominal=NOW + n)) for n in range(20)))
    assert sum(done) == 1
    assert (await store.schedules.get(app.id, due.id)).nominal == NOW + done.index(True)


async def test_a_cancelled_schedule_comes_to_nothing(store, app, other, node):
    due = await one_due(store, app.id, node.id)
    assert not await store.schedules.cancel(other.id, due.id)
    assert await store.schedules.cancel(app.id, due.id)
    assert not await store.schedules.cancel(app.id, due.id)
    stored = await store.schedules.get(app.id, due.id)
    assert stored.cancelled_at == stored.ended_at is not None
    assert await store.schedules.fire([firing(due, node.id, Devices([1]))], node.id) == [False]
    assert await rows(store, "notifications") == await rows(store, "occurrences") == 0


async def test_what_is_postponed_is_due_later_for_the_same_occurrence(store, app, node):
    due = await one_due(store, app.id, node.id)
    await store.schedules.postpone([due], NOW + 9)
    await store.schedules.postpone([due], NOW + 99)
    stored = await store.schedules.get(app.id, due.id)
    assert (stored.next_at, stored.nominal, stored.revision) == (NOW + 9, NOW, 2)


# -- firing


async def test_what_is_sent_once_becomes_the_notification_of_its_id(store, app, node):
    due = await one_due(store, app.id, node.id, name="later")
    assert await store.schedules.fire([firing(due, node.id, Devices([3, 1]))], node.id) == [True]
    assert await store.schedules.get(app.id, due.id) is None
    stored = await store.notifications.get(app.id, due.id)
    assert (stored.notification.state, stored.targeted, stored.schedule_id) == (State.RUNNING, 2, None)
    assert (stored.notification.released_at, stored.notification.expires_at) == (NOW, NOW + 3_600)
    assert await store.notifications.pending_devices(app.id, due.id, 0, 10) == [1, 3]
    (decided,) = await store.schedules.occurrences(app.id, due.id, 0, 10)
    assert (decided.at, decided.notification_id, decided.fired) == (NOW, due.id, True)


async def test_a_large_one_keeps_its_targets_in_parts_and_is_resumed(store, app):
    dead = await new_node(store)
    due = await one_due(store, app.id, dead.id)
    devices = Devices(range(5, 3_000_000, 7))
    assert await store.schedules.fire([firing(due, dead.id, devices, delivery=Delivery.AT_MOST_ONCE)], dead.id) == [
        True
    ]
    await dead.stop()
    heir = await new_node(store)
    (left,) = await store.notifications.resumable(heir.id)
    assert (left.notification.id, left.release, left.targeted) == (due.id, 0, len(devices))
    assert left.remaining == devices
    assert left.notification.send.delivery is Delivery.AT_MOST_ONCE
    await heir.stop()


async def test_a_recurrence_goes_on_and_each_occurrence_is_a_notification_of_its_own(store, app, node):
    due = await one_due(store, app.id, node.id, schedule=DAILY)
    acceptor = store.notifications.acceptor
    for day in range(3):
        (number,) = await acceptor.reserve(1)
        following = Due(NOW + (day + 1) * DAY, NOW + (day + 1) * DAY) if day < 2 else None
        made = firing(due, node.id, Devices([1]), notification_id=number, following=following)
        assert await store.schedules.fire([made], node.id) == [True]
        assert (await store.notifications.get(app.id, number)).schedule_id == due.id
        stored = await store.schedules.get(app.id, due.id)
        assert (stored.occurred, stored.revision) == (day + 1, due.revision + 1)
        due = stored
    assert (stored.next_at, stored.nominal) == (None, None)
    assert stored.ended_at is not None
    found = await store.schedules.occurrences(app.id, due.id, NOW + 2 * DAY, 10)
    assert [each.at for each in found] == [NOW + DAY, NOW]


async def test_what_was_missed_is_skipped_and_counted_once(store, app, node):
    due = await one_due(store, app.id, node.id, schedule=DAILY)
    missed = tuple(NOW - day * DAY for day in range(1, 40))
    only = Firing(due=due, occurrence=NOW, skipped=missed, following=Due(NOW + DAY, NOW + DAY))
    assert await store.schedules.fire([only], node.id) == [True]
    stored = await store.schedules.get(app.id, due.id)
    assert (stored.occurred, stored.skipped, stored.next_at) == (0, 40, NOW + DAY)
    (number,) = await store.notifications.acceptor.reserve(1)
    more = firing(stored, node.id, Devices([1]), notification_id=number, skipped=(*missed, NOW, NOW + 5))
    assert await store.schedules.fire([more], node.id) == [True]
    stored = await store.schedules.get(app.id, due.id)
    assert (stored.occurred, stored.skipped) == (1, 41), "what is decided is not decided again"
    found = await store.schedules.occurrences(app.id, due.id, 0, 100)
    assert [each.fired for each in found] == [True, *[False] * 41]


async def test_what_was_sent_once_and_is_skipped_stays_to_say_so(store, app, node):
    due = await one_due(store, app.id, node.id)
    assert await store.schedules.fire([Firing(due=due, occurrence=NOW)], node.id) == [True]
    stored = await store.schedules.get(app.id, due.id)
    assert (stored.skipped, stored.next_at) == (1, None)
    shown = await store.notifications.get(app.id, due.id)
    assert (shown.notification.state, shown.targeted, shown.finished_at) == (State.DONE, 0, stored.ended_at)


async def test_an_occurrence_is_decided_about_once_though_the_schedule_was_set_back(store, app, node):
    due = await one_due(store, app.id, node.id, schedule=DAILY)
    ids = await store.notifications.acceptor.reserve(2)
    following = Due(NOW + DAY, NOW + DAY)
    assert await store.schedules.fire(
        [firing(due, node.id, Devices([1]), notification_id=ids[0], following=following)], node.id
    ) == [True]
    again = await store.schedules.get(app.id, due.id)
    assert await store.schedules.edit(later(again, next_at=NOW, nominal=NOW))
    again = await store.schedules.get(app.id, due.id)
    assert await store.schedules.fire(
        [firing(again, node.id, Devices([1]), notification_id=ids[1], following=following)], node.id
    ) == [False]
    stored = await store.schedules.get(app.id, due.id)
    assert (stored.occurred, stored.next_at) == (1, NOW + DAY), "it goes on all the same"
    assert await rows(store, "notifications") == await rows(store, "runs") == 1


async def test_who_gets_nothing_is_settled_with_the_start(store, app):
    dead = await new_node(store)
    groups = ((Devices([1]), TIME_PASSED.code), (Devices([4, 5]), QUIET_HOURS.code))
    many = tuple((Devices(range(start, 2_000_000, 4)), code) for start, code in ((0, 21), (1, 22)))
    small = await one_due(store, app.id, dead.id)
    assert await store.schedules.fire([firing(small, dead.id, Devices([1, 2, 4, 5]), suppressed=groups)], dead.id)
    large = await one_due(store, app.id, dead.id)
    everyone = Devices(range(2_000_000))
    assert await store.schedules.fire([firing(large, dead.id, everyone, suppressed=many)], dead.id) == [True]
    assert await store.notifications.counts(app.id, small.id) == {(0, 21): 1, (0, 22): 2}
    assert await store.notifications.counts(app.id, large.id) == {(0, 21): 500_000, (0, 22): 500_000}
    await dead.stop()
    heir = await new_node(store)
    lefts = {each.notification.id: each for each in await store.notifications.resumable(heir.id)}
    assert lefts[small.id].remaining == Devices([2])
    assert lefts[small.id].counts == {(0, 21): 1, (0, 22): 2}
    assert lefts[large.id].remaining == everyone - many[0][0] - many[1][0]
    await heir.stop()


@pytest.mark.parametrize("devices", [Devices(), Devices([1, 2]), Devices(range(1, 101))], ids=["none", "few", "many"])
async def test_what_goes_to_nobody_is_over_at_once(store, app, node, devices):
    due = await one_due(store, app.id, node.id)
    passed = ((devices, TIME_PASSED.code),) if devices else ()
    assert await store.schedules.fire([firing(due, node.id, devices, suppressed=passed)], node.id) == [True]
    stored = await store.notifications.get(app.id, due.id)
    assert (stored.notification.state, stored.targeted) == (State.DONE, len(devices))
    assert stored.finished_at is not None
    assert sum(stored.counts.values()) == len(devices)
    assert await rows(store, "runs") == 0
    async with asyncio.timeout(30):
        while await rows(store, "outcome_deltas"):
            await asyncio.sleep(0.01)
    assert sum((await store.notifications.get(app.id, due.id)).counts.values()) == len(devices)


async def test_many_are_fired_in_one_transaction_and_what_was_changed_is_left_out(store, app, node):
    for number in range(200):
        await store.notifications.accept(scheduled(app.id, node.id, NOW - number))
    found = await store.schedules.due(NOW, 500)
    for each in found[::3]:
        assert await store.schedules.cancel(app.id, each.id)
    made = [firing(each, node.id, Devices([row + 1])) for row, each in enumerate(found)]
    done = await store.schedules.fire(made, node.id)
    assert done == [row % 3 != 0 for row in range(200)]
    assert await rows(store, "notifications") == await rows(store, "runs") == await rows(store, "occurrences") == 133
    assert await store.schedules.due(NOW, 500) == []


async def test_two_nodes_that_fire_at_once_fire_once(store, app):
    nodes = [await new_node(store) for _ in range(2)]
    for number in range(300):
        await store.notifications.accept(scheduled(app.id, nodes[0].id, NOW - number))
    found = await store.schedules.due(NOW, 500)
    chunks = [found[at : at + 30] for at in range(0, 300, 30)]
    sides = [(node, chunk) for chunk in chunks for node in nodes] + [(nodes[0], found[::-1])]
    done = await asyncio.gather(
        *(
            store.schedules.fire([firing(each, node.id, Devices([1])) for each in chunk], node.id)
            for node, chunk in sides
        )
    )
    assert sum(map(sum, done)) == 300
    owners = {row["notification_id"]: row["node_id"] for row in await store.database.fetch("SELECT * FROM runs")}
    for (node, chunk), won in zip(sides, done, strict=True):
        assert all(owners[each.id] == node.id for each, mine in zip(chunk, won, strict=True) if mine)
    assert await rows(store, "occurrences") == 300
    for node in nodes:
        await node.stop()


async def test_a_fenced_node_fires_nothing(store, app):
    dead = await new_node(store)
    due = await one_due(store, app.id, dead.id)
    await dead.stop()
    with pytest.raises(UnavailableError):
        await store.schedules.fire([firing(due, dead.id, Devices([1]))], dead.id)
    assert await store.schedules.due(NOW, 10) == [due]


@pytest.mark.parametrize("kind", ["plain", "rollout", "skipped"])
@pytest.mark.parametrize("commits", [True, False])
async def test_a_firing_whose_commit_was_lost_is_told_as_it_is(store, app, node, monkeypatch, commits, kind):
    due = await one_due(store, app.id, node.id, schedule=DAILY)
    (number,) = await store.notifications.acceptor.reserve(1)
    following = Due(NOW + DAY, NOW + DAY)
    made = {
        "plain": firing(due, node.id, Devices([1]), notification_id=number, following=following),
        "rollout": rollout(due, node.id, Planned(at=NOW), notification_id=number, following=following),
        "skipped": Firing(due=due, occurrence=NOW, following=following),
    }[kind]
    lost = lose_commit(store, monkeypatch, "INSERT INTO occurrences", commits=commits)
    assert await store.schedules.fire([made], node.id) == [commits]
    assert lost
    assert await rows(store, "occurrences") == int(commits)
    assert await rows(store, "notifications") == int(commits and kind != "skipped")
    assert await store.schedules.fire([made], node.id) == [False], "what comes late finds another revision"
    stored = await store.schedules.get(app.id, due.id)
    assert (stored.next_at, stored.occurred + stored.skipped) == ((NOW + DAY, 1) if commits else (NOW, 0))


async def test_a_firing_that_is_still_under_way_is_waited_for(store, app, node, monkeypatch):
    """The connection is lost while COMMIT hangs in the server: whoever looks waits for it."""
    due = await one_due(store, app.id, node.id)
    made = firing(due, node.id, Devices([1]))
    late = await store.database.connect()
    hanging = late.transaction()
    await hanging.start()
    await late.fetch("SELECT * FROM schedules WHERE id = $1 FOR UPDATE", due.id)
    monkeypatch.setattr(store.schedules._firer, "_write", lost_on_the_way)
    call = asyncio.ensure_future(store.schedules.fire([made], node.id))
    await asyncio.sleep(0.2)
    assert not call.done()
    await late.execute("INSERT INTO runs VALUES ($1, 0, $2, $3, now(), false)", due.id, app.id, node.id)
    await hanging.commit()
    assert await asyncio.wait_for(call, 30) == [True]
    await late.close()


async def lost_on_the_way(firings, node_id):
    raise OutcomeUnknownError("lost")


async def test_data_that_postgresql_refuses_harms_no_other_firing(store, app, node):
    for number in range(9):
        await store.notifications.accept(scheduled(app.id, node.id, NOW - number))
    found = await store.schedules.due(NOW, 10)
    made = [firing(each, node.id, Devices([1])) for each in found]
    made[4] = firing(found[4], node.id, Devices([1]), name="a\0b")
    assert await store.schedules.fire(made, node.id) == [row != 4 for row in range(9)]
    assert [each.id for each in await store.schedules.due(NOW, 10)] == [found[4].id]


# -- beside notifications


async def test_what_is_scheduled_is_shown_among_notifications_until_it_is_one(store, app, node):
    plain = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    once = await store.notifications.accept(scheduled(app.id, node.id, NOW, name="once"))
    again = await store.notifications.accept(scheduled(app.id, node.id, NOW + 1, schedule=DAILY))
    shown = await store.notifications.get(app.id, once.id)
    assert (shown.notification.state, shown.notification.send.name) == (State.SCHEDULED, "once")
    assert (shown.targeted, shown.next_release_at, shown.notification.released_at) == (0, NOW, NOW)
    assert await store.notifications.get(app.id, again.id) is None, "each of its occurrences will be one"
    listed = await store.notifications.list(app.id, 0, 10)
    assert [each.notification.id for each in listed] == [once.id, plain.id]
    assert [each.notification.id for each in await store.notifications.list(app.id, once.id, 10)] == [plain.id]
    assert [each.notification.id for each in await store.notifications.list(app.id, 0, 1)] == [once.id]
    (due,) = await store.schedules.due(NOW, 10)
    await store.schedules.fire([firing(due, node.id, Devices([1]))], node.id)
    listed = await store.notifications.list(app.id, 0, 10)
    assert [(each.notification.id, each.notification.state) for each in listed] == [
        (once.id, State.RUNNING),
        (plain.id, State.RUNNING),
    ]


async def test_what_is_scheduled_is_cancelled_as_a_notification(store, app, other, node):
    due = await one_due(store, app.id, node.id)
    assert not await store.notifications.cancel(other.id, due.id)
    assert await store.notifications.cancel(app.id, due.id)
    assert (await store.schedules.get(app.id, due.id)).cancelled_at is not None
    assert not await store.notifications.cancel(app.id, due.id)
    assert await store.schedules.due(NOW, 10) == []
    assert not await store.notifications.pause(app.id, due.id)


async def test_a_cancel_beside_a_firing_meets_either_the_schedule_or_what_it_became(store, app, node):
    for _ in range(20):
        due = await one_due(store, app.id, node.id)
        fired, cancelled = await asyncio.gather(
            store.schedules.fire([firing(due, node.id, Devices([1]))], node.id),
            store.notifications.cancel(app.id, due.id),
        )
        assert cancelled
        run = await store.database.fetchrow("SELECT * FROM runs WHERE notification_id = $1", due.id)
        assert (run is not None) is fired[0]
        assert run is None or run["cancelled_at"] is not None


async def test_schedules_of_a_deleted_app_are_never_due(store, app, node):
    due = await one_due(store, app.id, node.id)
    assert await store.apps.delete(app.id)
    assert await store.schedules.due(NOW, 10) == []
    assert await store.schedules.fire([firing(due, node.id, Devices([1]))], node.id) == [False]
    with pytest.raises(NotFoundError):
        await store.notifications.accept(scheduled(app.id, node.id))


async def test_a_deleted_apps_schedules_end_slice_by_slice_and_whatever_just_fired_is_cancelled(
    store, app, node, monkeypatch
):
    monkeypatch.setattr("pushd.store.apps.ENDED_AT_ONCE", 3)
    for each in range(8):
        await store.notifications.accept(scheduled(app.id, node.id, at=NOW + each))
    dues = await store.schedules.due(NOW + 1, 10)
    firings = [firing(due, node.id, Devices([1])) for due in dues]
    fired, deleted = await asyncio.gather(store.schedules.fire(firings, node.id), store.apps.delete(app.id))
    assert deleted
    left = "SELECT count(*) FROM schedules WHERE app_id = $1 AND (ended_at IS NULL OR next_at IS NOT NULL)"
    assert await store.database.fetchval(left, app.id) == 0
    running = await store.database.fetch("SELECT cancelled_at IS NOT NULL AS ended FROM runs WHERE app_id = $1", app.id)
    assert [row["ended"] for row in running] == [True] * sum(fired)


@pytest.mark.parametrize("due", [None, Due(NOW, NOW)])
async def test_what_is_accepted_beside_a_deletion_ends_with_the_rest(store, app, node, due):
    async with store.database.transaction() as blocker:
        await blocker.execute(
            "INSERT INTO idempotency (app_id, key, body_hash, notification_id, answer, created_at)"
            " VALUES ($1, 'k', '', 1, '', now())",
            app.id,
        )
        wanted = accept(app.id, node.id, Devices([1]), idempotency=Idempotency("k", b""), due=due)
        accepting = asyncio.ensure_future(store.notifications.accept(wanted))
        await asyncio.sleep(0.1)  # it has found the app, and waits for the key
        deleting = asyncio.ensure_future(store.apps.delete(app.id))
        await asyncio.sleep(0.1)
        assert not accepting.done()
        assert await store.database.fetchval("SELECT deleted_at IS NOT NULL FROM apps")
        await blocker.execute("DELETE FROM idempotency")
    assert (await accepting).id
    assert await deleting
    running = "SELECT notification_id FROM runs WHERE cancelled_at IS NULL"
    waiting = "SELECT id FROM schedules WHERE cancelled_at IS NULL"
    assert await store.database.fetch(waiting if due else running) == []


async def test_a_deleted_apps_runs_end_slice_by_slice_and_each_is_told_of(store, app, other, node, monkeypatch):
    monkeypatch.setattr("pushd.store.apps.ENDED_AT_ONCE", 3)
    mine, theirs = [
        [each.id for each in await accept_many(store, [accept(whose.id, node.id, Devices([1]))] * 8)]
        for whose in (app, other)
    ]
    assert await store.apps.delete(app.id)
    running = await store.database.fetch("SELECT notification_id FROM runs WHERE cancelled_at IS NULL")
    assert {row["notification_id"] for row in running} == set(theirs)
    told = await store.database.fetch("SELECT ids FROM changes WHERE aggregate = 10 ORDER BY xid")
    assert [len(row["ids"]) for row in told] == [3, 3, 2]
    assert sorted(number for row in told for number in row["ids"]) == sorted(mine)


async def test_what_ended_long_ago_is_purged(store, app, node):
    ids = [(await store.notifications.accept(scheduled(app.id, node.id))).id for _ in range(3)]
    for each in ids[:2]:
        await store.schedules.cancel(app.id, each)
    await store.database.execute("UPDATE schedules SET ended_at = now() - interval '401 days' WHERE id = $1", ids[0])
    await store.maintenance.purge()
    assert [each.id for each in await store.schedules.list(app.id, 0, 10)] == [ids[2], ids[1]]
