"""The fan-out from release to the last commit: credit, lanes, columns, cancel, resume."""

import asyncio

import numpy as np
import pytest

from pushd.batch import Lane, Rendered
from pushd.bitset import Devices
from pushd.errors import UnavailableError
from pushd.fanout.dispatcher import STRAGGLER_ROWS
from pushd.model.app import Settings
from pushd.model.audience import UserNumbers
from pushd.model.device import Shape
from pushd.model.notification import Delivery
from pushd.model.rows import DeviceFlag
from pushd.outcome import (
    ACCEPTED,
    CANCELLED,
    CONNECTION_LOST,
    EXPIRED,
    NO_CREDENTIAL,
    NOT_WRITTEN,
    STOPPED,
    UNREACHABLE,
)
from pushd.store.notifications import INLINE_TARGETS_MAX
from tests.pushd.fanout.conftest import notification, people, rows
from tests.pushd.fanout.doubles import BAD, accept_all

pytestmark = pytest.mark.asyncio


async def test_a_broadcast_reaches_every_device_once_and_its_ledger_is_whole(bench, everyone):
    one = await bench()
    one.index.apply_devices(rows(everyone))
    one.release(notification(1), everyone)
    ledger = one.fanout.ledger(1)
    assert (ledger.targeted, ledger.pending, ledger.drift) == (5_000, 5_000, 0)
    await one.done(1)
    assert one.gateway.devices(1) == list(everyone)
    assert max(one.gateway.sent.values()) == 1
    assert one.store.codes(1) == {ACCEPTED.code: 5_000}
    assert one.fanout.ledger(1) is None
    assert (one.fanout.backlog, one.fanout.unsettled, one.fanout.running) == (0, 0, 0)


async def test_five_hundred_sends_with_five_hundred_payloads_are_one_batch(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 501)))
    for number in range(1, 501):
        one.release(notification(number), [number])
    await one.done(*range(1, 501))
    (batch,) = one.gateway.batches
    assert len(batch) == 500
    assert batch.notifications.tolist() == list(range(1, 501))
    assert batch.ids.tolist() == list(range(1, 501))
    assert len({rendered.payload for rendered in batch.payloads}) == 500
    assert all(b'"number %d"' % (row + 1) in batch.payloads[row].payload for row in range(500))
    assert all(one.store.rows[number, number] == (0, ACCEPTED.code) for number in range(1, 501))


async def test_a_campaign_shares_one_payload(bench, everyone):
    one = await bench()
    one.index.apply_devices(rows(everyone))
    one.release(notification(1), everyone)
    await one.done(1)
    assert {type(batch.payloads) for batch in one.gateway.batches} == {Rendered}
    assert {batch.notifications for batch in one.gateway.batches} == {1}
    assert one.gateway.batches[0].tokens[0] == f"{1:064x}".encode()


async def test_unsettled_rows_stay_within_their_bound_and_sending_stops_there_without_the_store(bench, everyone):
    one = await bench(unsettled_rows_max=1_000, batch_rows_max=200)
    one.index.apply_devices(rows(everyone))
    one.store.down = True
    one.release(notification(1), everyone)
    await asyncio.sleep(0.3)
    # A fifth is kept for the transactional lane, a little for campaigns to come.
    assert 700 <= sum(one.gateway.sent.values()) == one.fanout.unsettled <= 800
    one.release(notification(2), [1])
    await one.until(lambda: one.gateway.devices(2) == [1])
    assert one.fanout.unsettled <= 1_000
    one.store.down = False
    await one.done(1, 2)
    assert one.store.codes(1) == {ACCEPTED.code: 5_000}


async def test_a_full_pool_pulls_no_more_than_it_takes(bench, everyone):
    one = await bench(batch_rows_max=500)
    one.gateway.room_rows = 0
    one.index.apply_devices(rows(everyone))
    one.release(notification(1), everyone)
    await asyncio.sleep(0.05)
    assert not one.gateway.batches
    one.gateway.room_rows = 10_000
    await one.done(1)


async def test_a_transactional_send_does_not_wait_behind_a_campaign(bench, everyone):
    one = await bench(batch_rows_max=500, unsettled_rows_max=2_000)
    one.index.apply_devices(rows(everyone))
    one.gateway.gate.clear()
    one.release(notification(1), everyone)
    await one.until(lambda: one.gateway.in_flight >= 1_400)
    one.release(notification(2), [17])
    await one.until(lambda: one.gateway.devices(2) == [17])
    assert one.gateway.batches[-1].lane is Lane.TRANSACTIONAL
    one.gateway.gate.set()
    await one.done(1, 2)


async def test_a_large_send_flagged_transactional_has_the_lane_too(bench, everyone):
    one = await bench()
    one.index.apply_devices(rows(everyone))
    one.release(notification(1, transactional=True), everyone)
    await one.done(1)
    assert {batch.lane for batch in one.gateway.batches} == {Lane.TRANSACTIONAL}


async def test_apps_take_turns(bench):
    one = await bench(batch_rows_max=100, unsettled_rows_max=500)
    one.index.apply_devices(rows(range(1, 3_001)))
    one.index.apply_devices(rows(range(65_536, 66_536), app_id=2))
    one.release(notification(1), range(1, 3_001))
    one.release(notification(2, app_id=2), range(65_536, 66_536))
    await one.done(1, 2)
    order = [batch.notifications for batch in one.gateway.batches]
    assert order.index(2) <= 4, "the second app waited for the first"
    assert order[: 2 * 8].count(2) >= 5


async def test_cancel_ends_what_waits_and_keeps_what_is_in_flight(bench, everyone):
    one = await bench(batch_rows_max=100, unsettled_rows_max=500)
    one.index.apply_devices(rows(everyone))
    one.gateway.gate.clear()
    one.release(notification(1), everyone)
    await one.until(lambda: one.gateway.in_flight >= 350)
    await asyncio.sleep(0.02)
    flying = one.gateway.in_flight
    assert one.fanout.cancel(1)
    assert not one.fanout.cancel(2)
    one.gateway.gate.set()
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: flying, CANCELLED.code: 5_000 - flying}


async def test_a_resume_sends_exactly_what_is_left(bench, everyone):
    one = await bench()
    one.index.apply_devices(rows(everyone))
    left = Devices(range(3_001, 5_001))
    counts = {(0, ACCEPTED.code): 2_990, (0, BAD.code): 10}
    given = notification(1)
    one.fanout.resume(given, Settings(), targeted=5_000, counts=counts, remaining=left, attempted=Devices())
    assert one.fanout.ledger(1).drift == 0
    await one.done(1)
    assert one.gateway.devices(1) == list(range(3_001, 5_001))


async def test_a_resume_at_most_once_sends_nothing_that_was_tried(bench, everyone):
    one = await bench()
    one.index.apply_devices(rows(everyone))
    one.fanout.resume(
        notification(1, delivery=Delivery.AT_MOST_ONCE),
        Settings(),
        targeted=5_000,
        counts={},
        remaining=Devices(everyone),
        attempted=Devices(range(1, 2_001)),
    )
    await one.done(1)
    assert one.gateway.devices(1) == list(range(2_001, 5_001))
    assert one.store.codes(1) == {STOPPED.code: 2_000, ACCEPTED.code: 3_000}
    assert set(one.store.tried[1]) == set(range(2_001, 5_001)), "each try is committed before it is made"


async def test_at_most_once_rows_wait_while_their_try_cannot_be_committed(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.store.down = True
    one.release(notification(1, delivery=Delivery.AT_MOST_ONCE), [1])
    await asyncio.sleep(0.05)
    assert not one.gateway.batches
    one.store.down = False
    await one.done(1)


async def test_at_most_once_rows_that_another_node_took_are_not_sent(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 4)))
    one.store.disowned = {1}
    for number in (1, 2, 3):
        one.release(notification(number, delivery=Delivery.AT_MOST_ONCE), [number])
    await one.done(2, 3)
    await one.until(lambda: one.fanout.running == 0)
    assert one.gateway.devices(1) == []
    assert (one.gateway.devices(2), one.gateway.devices(3)) == ([2], [3])


async def test_what_became_unreachable_or_changed_hands_is_suppressed(bench):
    one = await bench()
    one.index.apply_users(people([5, 6]))
    one.index.apply_devices(rows(range(1, 11), user_ids=[5] * 10))
    given = notification(1, audience=UserNumbers([5]))
    one.index.apply_devices(rows([3], revision=2, flags=DeviceFlag.HAS_TOKEN, user_ids=[5]))
    one.index.apply_devices(rows([4], revision=2, user_ids=[6]))
    one.fanout.resume(given, Settings(), targeted=10, counts={}, remaining=Devices(range(1, 11)), attempted=Devices())
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 8, UNREACHABLE.code: 2}
    assert one.gateway.devices(1) == [1, 2, 5, 6, 7, 8, 9, 10]


async def test_a_retry_never_carries_a_message_to_another_user(bench):
    one = await bench()
    one.index.apply_users(people([5, 6]))
    one.index.apply_devices(rows([1], user_ids=[5]))

    def lose_once(batch):
        if batch.attempt == 1:
            one.index.apply_devices(rows([1], revision=2, user_ids=[6]))
            batch.outcomes[:] = CONNECTION_LOST.code
        else:
            accept_all(batch)

    one.gateway.script = lose_once
    one.release(notification(1, audience=UserNumbers([5])), [1])
    await one.done(1)
    assert one.store.codes(1) == {UNREACHABLE.code: 1}
    assert len(one.gateway.batches) == 1


async def test_nobody_to_send_to_is_done_at_once(bench):
    one = await bench()
    one.release(notification(1), [])
    await one.done(1)
    assert not one.gateway.batches


async def test_devices_without_a_credential_fail_at_once(bench):
    one = await bench()
    one.keyring.id = None
    one.index.apply_devices(rows(range(1, 101)))
    one.release(notification(1), range(1, 101))
    await one.done(1)
    assert one.store.codes(1) == {NO_CREDENTIAL.code: 100}


async def test_an_expired_notification_is_not_sent_but_ttl_zero_goes_once(bench):
    one = await bench()
    one.index.apply_devices(rows([1, 2]))
    one.release(notification(1, ttl_s=5, age_s=10), [1])
    one.release(notification(2, ttl_s=0, age_s=10), [2])
    await one.done(1, 2)
    assert one.store.codes(1) == {EXPIRED.code: 1}
    assert one.store.codes(2) == {ACCEPTED.code: 1}


async def test_an_expired_campaign_ends_in_one_look_however_little_room_there_is(bench, everyone, monkeypatch):
    one = await bench()
    one.index.apply_devices(rows(everyone))
    one.gateway.room_rows = 1
    planner, looks = one.fanout._dispatcher._planner, []
    plan = planner.plan
    monkeypatch.setattr(planner, "plan", lambda *given: looks.append(1) or plan(*given))
    one.release(notification(1, ttl_s=5, age_s=10), everyone)
    await one.done(1)
    assert one.store.codes(1) == {EXPIRED.code: 5_000}
    assert len(looks) == 1


async def test_stragglers_do_not_hold_the_credit_of_their_neighbours(bench):
    one = await bench(unsettled_rows_max=1_000, batch_rows_max=100)
    one.index.apply_devices(rows(range(1, 2_001)))
    late = asyncio.Event()

    async def send(batch):
        one.gateway.batches.append(batch)
        one.gateway.sent.update(batch.ids.tolist())
        batch.outcomes[1:] = ACCEPTED.code
        await late.wait()
        batch.outcomes[0] = ACCEPTED.code

    one.gateway.send = send
    one.release(notification(1), range(1, 2_001))
    await one.until(lambda: len(one.gateway.sent) == 2_000)
    small = sum(len(batch) for batch in one.gateway.batches if len(batch) < STRAGGLER_ROWS)
    await one.until(lambda: one.fanout.unsettled <= len(one.gateway.batches) + small)
    late.set()
    await one.done(1)


async def test_a_stop_waits_for_what_flies_and_leaves_the_rest_unsettled(bench, everyone):
    one = await bench(batch_rows_max=100, unsettled_rows_max=500)
    one.index.apply_devices(rows(everyone))
    one.gateway.gate.clear()
    one.release(notification(1), everyone)
    await one.until(lambda: one.gateway.in_flight >= 350)
    await asyncio.sleep(0.02)
    flying = one.gateway.in_flight
    stopping = asyncio.create_task(one.fanout.stop())
    await asyncio.sleep(0.02)
    with pytest.raises(UnavailableError):
        one.fanout.check_room()
    one.gateway.gate.set()
    await stopping
    assert one.store.codes(1) == {ACCEPTED.code: flying}
    assert not one.store.finished


async def test_waiting_for_answers_leaves_a_stop_little_time_to_commit(bench, monkeypatch):
    one = await bench(drain_timeout_s=0.2)
    one.index.apply_devices(rows([1]))
    given = []
    drain = one.fanout._recorder.drain
    monkeypatch.setattr(one.fanout._recorder, "drain", lambda timeout_s: given.append(timeout_s) or drain(timeout_s))
    monkeypatch.setattr("pushd.fanout.engine.COMMIT_S", 0.01)
    one.gateway.gate.clear()
    one.release(notification(1), [1])
    await one.until(lambda: one.gateway.in_flight == 1)
    await one.fanout.stop()
    assert given[0] < 0.1, "both together take as long as a stop may"


async def test_outcomes_are_kept_as_the_store_keeps_targets(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 101)))
    kept = []
    settle = one.store.settle
    one.store.settle = lambda settlement, node_id: kept.append(settlement) or settle(settlement, node_id)
    one.release(notification(1), range(1, 101))
    one.release(notification(2), range(1, INLINE_TARGETS_MAX + 1))
    await one.done(1, 2)
    assert {delta.run for each in kept for delta in each.deltas} == {1}
    assert {number for each in kept for number in each.notifications.tolist()} == {2}


async def test_a_full_fanout_says_when_to_come_back(bench):
    one = await bench(backlog_rows_max=100, campaigns_max=2)
    one.index.apply_devices(rows(range(1, 101)))
    one.gateway.gate.clear()
    one.release(notification(1), range(1, 51))
    one.fanout.check_room(50)
    with pytest.raises(UnavailableError) as error:
        one.fanout.check_room(51)
    assert 1.0 <= error.value.retry_after_s <= 600.0
    one.release(notification(2), [60])
    with pytest.raises(UnavailableError):
        one.fanout.check_room(1)


async def test_drift_is_seen_when_the_ledger_is_wrong(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 11)))
    one.gateway.gate.clear()
    one.release(notification(1), range(1, 11))
    await one.until(lambda: one.gateway.in_flight == 10)
    assert one.fanout.drift == 0
    one.fanout._campaigns.get(1).in_flight -= 3
    assert one.fanout.drift == 3
    one.fanout._campaigns.get(1).in_flight += 3


async def test_a_notification_that_another_node_took_is_let_go(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 41)))
    one.store.disowned = {1}
    one.release(notification(1), range(1, 41))
    await one.until(lambda: one.fanout.running == 0)
    assert one.fanout.backlog == 0


async def test_what_flies_of_a_notification_that_another_node_took_does_not_go_out_again(bench):
    one = await bench(batch_rows_max=10, unsettled_rows_max=1_000)
    one.index.apply_devices(rows(range(1, 41)))
    one.store.disowned = {1}
    second = asyncio.Event()

    async def send(batch):
        one.gateway.batches.append(batch)
        if batch.ids[0] == 1:
            accept_all(batch)
        else:
            await second.wait()
            batch.outcomes[:] = NOT_WRITTEN.code

    one.gateway.send = send
    one.release(notification(1), range(1, 41))
    await one.until(lambda: one.fanout.running == 0)
    second.set()
    await asyncio.sleep(0.05)
    await one.until(lambda: one.fanout.unsettled == 0)
    assert one.fanout.backlog == 0
    assert len(one.gateway.batches) == 4
    assert len({device for batch in one.gateway.batches for device in batch.ids.tolist()}) == 40


async def test_nothing_to_settle_is_not_committed(bench):
    one = await bench(settle_interval_ms=1)
    one.index.apply_devices(rows([1]))
    one.gateway.gate.clear()
    one.release(notification(1), [1])
    await one.until(lambda: one.gateway.in_flight == 1)
    await asyncio.sleep(0.05)
    assert one.store.commits == 0
    one.gateway.gate.set()
    await one.done(1)
    assert one.store.commits == 1


async def test_rows_that_no_link_took_are_free_of_attempts_but_rest(bench):
    one = await bench(attempts_max=2)
    one.index.apply_devices(rows(range(1, 11)))
    left = iter(range(6))

    def refuse_a_while(batch):
        assert batch.attempt == 1
        batch.outcomes[:] = ACCEPTED.code if next(left, None) is None else NOT_WRITTEN.code

    one.gateway.script = refuse_a_while
    one.release(notification(1), range(1, 11))
    await one.done(1)
    assert len(one.gateway.batches) == 7
    assert one.store.codes(1) == {ACCEPTED.code: 10}
    assert np.all([len(batch) == 10 for batch in one.gateway.batches])


async def test_devices_that_moved_to_a_bundle_without_a_credential_do_not_end_what_flies(bench):
    one = await bench()
    one.keyring.without = {"com.example.other"}
    one.index.apply_devices(rows(range(1, 11)))
    one.release(notification(1), range(1, 11))
    one.index.apply_devices(rows([4], revision=2, route_id=77, bundle="com.example.other"))
    one.gateway.gate.clear()
    await one.until(lambda: one.gateway.in_flight == 9)
    await asyncio.sleep(0.03)
    assert not one.store.finished, "nine rows have no outcome yet"
    one.gateway.gate.set()
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 9, NO_CREDENTIAL.code: 1}
    assert one.fanout.backlog == 0


async def test_each_batch_has_one_shape_and_devices_that_changed_theirs_get_the_new_one(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 11)))
    one.index.apply_devices(rows(range(11, 21), route_id=78, shape=Shape.KUMULOS))
    one.release(notification(1), range(1, 21))
    one.index.apply_devices(rows([4], revision=2, route_id=78, shape=Shape.KUMULOS))
    await one.done(1)
    told = {shape: set() for shape in Shape}
    for batch in one.gateway.batches:
        bodies = [batch.payloads] if isinstance(batch.payloads, Rendered) else batch.payloads
        assert {b"k.message" in each.payload for each in bodies} == {batch.route.shape is Shape.KUMULOS}
        told[batch.route.shape] |= set(batch.ids.tolist())
    assert told[Shape.OWN] == set(range(1, 11)) - {4}
    assert told[Shape.KUMULOS] == {4, *range(11, 21)}
    assert one.store.codes(1) == {ACCEPTED.code: 20}


async def test_a_failure_in_planning_is_fatal_and_not_forgotten(bench, monkeypatch):
    one = await bench()
    one.index.apply_devices(rows([1]))

    def broken(*_):
        raise RuntimeError("planning is broken")

    monkeypatch.setattr(one.fanout._dispatcher._planner, "plan", broken)
    one.release(notification(1), [1])
    async with asyncio.timeout(60):
        while not one.failures:
            await asyncio.sleep(0.01)
    progress = one.fanout.progress
    await asyncio.sleep(0.05)
    assert one.fanout.progress == progress, "the watchdog sees it, too"
    one.failures.clear()
