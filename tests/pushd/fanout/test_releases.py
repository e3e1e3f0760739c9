"""Several releases of one notification: each its own campaign, all of them cancelled, paused and counted together."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pushd.bitset import Devices
from pushd.fanout.heard import Heard
from pushd.model.app import Settings
from pushd.model.notification import Delivery, State
from pushd.model.rows import DeviceFlag
from pushd.outcome import (
    ACCEPTED,
    CANCELLED,
    CONNECTION_LOST,
    EXPIRED,
    FREQUENCY_CAP,
    NOT_WRITTEN,
    STOPPED,
    TIME_PASSED,
    UNREACHABLE,
)
from pushd.store.notifications import Order
from pushd.store.settlements import run_number
from tests.pushd.fanout.conftest import Clock, notification, rows
from tests.pushd.fanout.doubles import DOWN, accept_all

pytestmark = pytest.mark.asyncio


def codes(one, number, *releases):
    """Devices by code of these releases, as settled."""
    runs = {run_number(number, release) for release in releases}
    found = {}
    for (run, device), (_, code) in one.store.rows.items():
        if run in runs:
            found.setdefault(code, []).append(device)
    return {code: sorted(devices) for code, devices in found.items()}


def recall_half(one):
    """The gateway takes the first half of each batch, and hangs; what it did not take comes home when recalled."""
    taken = []

    async def send(batch):
        half = len(batch) // 2
        taken.extend(batch.ids[:half].tolist())
        try:
            await one.gateway.gate.wait()
        except asyncio.CancelledError:
            batch.outcomes[half:] = NOT_WRITTEN.code
            asyncio.get_running_loop().call_later(0.05, land, batch, half)
            raise
        taken.extend(batch.ids[half:].tolist())
        batch.outcomes[:] = ACCEPTED.code

    def land(batch, half):
        batch.outcomes[:half] = ACCEPTED.code

    one.gateway.send = send
    return taken


async def test_each_release_is_settled_and_ends_by_itself(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 201)))
    number = notification(7)
    one.gateway.gate.clear()
    one.release(number, range(1, 101), release=1)
    one.release(number, range(101, 106), release=2)
    assert (one.fanout.running, one.fanout.backlog) == (2, 105)
    assert one.fanout.ledger(7).targeted == one.fanout.ledger(7).pending == 105
    one.gateway.gate.set()
    await one.done(run_number(7, 1), run_number(7, 2))
    assert codes(one, 7, 1) == {ACCEPTED.code: list(range(1, 101))}
    assert codes(one, 7, 2) == {ACCEPTED.code: list(range(101, 106))}, "bitmaps, though they are few"
    assert one.gateway.devices(7) == list(range(1, 106))
    await one.until(lambda: one.fanout.running == 0)
    assert one.fanout.ledger(7) is None
    assert one.fanout.counts(7) is None


async def test_who_was_suppressed_is_counted_and_not_settled_again(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 101)))
    one.gateway.gate.clear()
    groups = ((Devices(range(51, 81)), TIME_PASSED.code), (Devices(range(81, 101)), FREQUENCY_CAP.code))
    one.release(notification(1), range(1, 51), suppressed=groups)
    ledger = one.fanout.ledger(1)
    assert (ledger.targeted, ledger.suppressed, ledger.pending, ledger.drift) == (100, 50, 50, 0)
    assert (one.fanout.drift, one.fanout.backlog) == (0, 50)
    one.gateway.gate.set()
    await one.done(1)
    assert codes(one, 1, 0) == {ACCEPTED.code: list(range(1, 51))}


async def test_counts_of_a_notification_are_those_of_all_its_releases(bench):
    one = await bench(batch_rows_max=500)
    one.index.apply_devices(rows(range(1, 4_001)))
    one.gateway.hangs = lambda batch: bool({2_000, 4_000} & set(batch.ids.tolist()))
    one.gateway.gate.clear()
    one.release(notification(5), range(1, 2_001), release=1)
    one.release(notification(5), range(2_001, 4_001), release=2)
    await one.until(lambda: sum(one.fanout.counts(5).values()) == 3_000)
    ledger = one.fanout.ledger(5)
    assert (ledger.targeted, ledger.accepted, ledger.pending, ledger.drift) == (4_000, 3_000, 1_000, 0)
    one.gateway.gate.set()
    await one.until(lambda: one.fanout.running == 0)


async def test_cancel_ends_all_releases(bench):
    one = await bench(unsettled_rows_max=1_000)
    one.index.apply_devices(rows(range(1, 5_001)))
    one.gateway.gate.clear()
    for release in (1, 2):
        one.release(notification(3), range(release * 2_000 - 1_999, release * 2_000 + 1), release=release)
    one.release(notification(4), [4_500])
    await one.until(lambda: one.gateway.in_flight > 0)
    assert one.fanout.cancel(3)
    assert not one.fanout.cancel(99)
    one.gateway.gate.set()
    await one.done(run_number(3, 1), run_number(3, 2), 4)
    found = codes(one, 3, 1, 2)
    assert sorted(found[ACCEPTED.code] + found[CANCELLED.code]) == list(range(1, 4_001))
    assert len(found[ACCEPTED.code]) <= 1_000
    assert codes(one, 4, 0) == {ACCEPTED.code: [4_500]}


# -- pause


async def test_what_is_paused_waits_and_counts_as_pending(bench):
    one = await bench(unsettled_rows_max=1_000)
    one.index.apply_devices(rows(range(1, 5_001)))
    one.gateway.gate.clear()
    one.release(notification(1), range(1, 4_001))
    await one.until(lambda: one.gateway.in_flight > 0)
    assert one.fanout.pause(1)
    assert not one.fanout.pause(2)
    one.gateway.gate.set()
    await one.until(lambda: one.fanout.unsettled == 0)
    sent = len(one.gateway.devices(1))
    assert 0 < sent <= 1_000, "what was on the wire goes its way"
    one.release(notification(2), [4_500])
    await one.done(2)
    await asyncio.sleep(0.1)
    assert len(one.gateway.devices(1)) == sent, "others go on, it does not"
    ledger = one.fanout.ledger(1)
    assert (ledger.pending, ledger.accepted, ledger.drift) == (4_000 - sent, sent, 0)
    assert one.fanout.unpause(1)
    await one.done(1)
    assert one.gateway.sent.total() == 4_001, "everybody once"


async def test_what_no_link_took_is_taken_back_by_a_pause(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 101)))
    taken = recall_half(one)
    one.gateway.gate.clear()
    one.release(notification(1), range(1, 101))
    await one.until(lambda: len(taken) == 50)
    one.fanout.pause(1)
    await one.until(lambda: one.fanout.unsettled == 0)
    assert codes(one, 1, 0) == {ACCEPTED.code: taken}
    assert one.fanout.ledger(1).pending == 50
    one.gateway.gate.set()
    one.fanout.unpause(1)
    await one.done(1)
    assert sorted(taken) == list(range(1, 101)), "and sent once, by the next batch"


async def test_a_pause_ends_with_the_life_of_the_message(bench):
    clock = Clock()
    one = await bench(clock=clock)
    one.index.apply_devices(rows(range(1, 101)))
    one.release(notification(1, ttl_s=60), range(1, 51), paused=True)
    one.release(notification(2, ttl_s=0), range(51, 61), paused=True)
    await one.done(2)
    assert codes(one, 2, 0) == {EXPIRED.code: list(range(51, 61))}, "now or never is never"
    assert one.fanout.ledger(1).pending == 50
    clock.ahead_s = 61
    await one.done(1)
    assert codes(one, 1, 0) == {EXPIRED.code: list(range(1, 51))}
    assert one.gateway.sent == {}


async def test_a_pause_holds_retries_too(bench):
    one = await bench(retry_base_s=0.02)
    one.index.apply_devices(rows(range(1, 51)))
    one.gateway.script = lambda batch: batch.outcomes.__setitem__(slice(None), DOWN.code)
    one.release(notification(1), range(1, 51))
    await one.until(lambda: one.gateway.sent.total() >= 50)
    one.fanout.pause(1)
    await one.until(lambda: one.fanout.unsettled == 0)
    sent = one.gateway.sent.total()
    one.gateway.script = accept_all
    await asyncio.sleep(0.3)
    assert one.gateway.sent.total() == sent
    one.fanout.unpause(1)
    await one.done(1)
    assert codes(one, 1, 0) == {ACCEPTED.code: list(range(1, 51))}


async def test_what_is_paused_can_be_cancelled(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 201)))
    one.release(notification(1), range(1, 101), release=1, paused=True)
    one.release(notification(1), range(101, 201), release=2, paused=True)
    assert one.fanout.cancel(1)
    assert one.fanout.unpause(1), "of no effect any more"
    await one.done(run_number(1, 1), run_number(1, 2))
    assert codes(one, 1, 1, 2) == {CANCELLED.code: list(range(1, 201))}
    assert one.gateway.sent == {}


async def test_devices_that_go_while_a_pause_lasts_are_not_sent_to(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 11)))
    one.release(notification(1), range(1, 11), paused=True)
    one.index.apply_devices(rows([4], revision=2, flags=DeviceFlag.HAS_TOKEN))
    one.fanout.unpause(1)
    await one.done(1)
    assert codes(one, 1, 0) == {UNREACHABLE.code: [4], ACCEPTED.code: [1, 2, 3, *range(5, 11)]}


async def test_pauses_come_and_go_and_everybody_is_sent_to_once(bench):
    one = await bench(unsettled_rows_max=500)
    one.index.apply_devices(rows(range(1, 5_001)))
    for release in range(1, 6):
        one.release(notification(1), range(release * 1_000 - 999, release * 1_000 + 1), release=release)
    for turn in range(40):
        (one.fanout.unpause if turn % 2 else one.fanout.pause)(1)
        await asyncio.sleep(0.003)
        assert one.fanout.drift == 0
    one.fanout.unpause(1)
    await one.done(*(run_number(1, release) for release in range(1, 6)))
    assert one.gateway.sent.total() == len(one.gateway.sent) == 5_000


# -- resumed


async def test_a_paused_release_is_resumed_paused(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 101)))
    left = msgspec.structs.replace(notification(1), state=State.PAUSED)
    given = {"targeted": 100, "counts": {(0, ACCEPTED.code): 40}, "attempted": Devices()}
    one.fanout.resume(left, Settings(), release=2, remaining=Devices(range(41, 101)), **given)
    await asyncio.sleep(0.05)
    assert one.gateway.sent == {}
    assert (one.fanout.ledger(1).pending, one.fanout.drift) == (60, 0)
    assert one.fanout.unpause(1)
    await one.done(run_number(1, 2))
    assert codes(one, 1, 2) == {ACCEPTED.code: list(range(41, 101))}


async def test_at_most_once_is_kept_release_by_release(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 21)))
    left = notification(1, delivery=Delivery.AT_MOST_ONCE)
    given = {"targeted": 10, "counts": {}, "remaining": Devices(range(1, 11)), "attempted": Devices(range(1, 6))}
    one.fanout.resume(left, Settings(), release=1, **given)
    one.release(left, range(11, 21), release=2)
    await one.done(run_number(1, 1), run_number(1, 2))
    assert codes(one, 1, 1) == {STOPPED.code: list(range(1, 6)), ACCEPTED.code: list(range(6, 11))}
    assert one.store.tried == {
        run_number(1, 1): Devices(range(6, 11)),
        run_number(1, 2): Devices(range(11, 21)),
    }


async def test_a_release_that_another_node_claimed_ends_here_and_the_others_go_on(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 201)))
    lost = run_number(1, 1)
    one.store.disowned = {lost}
    sent = notification(1, delivery=Delivery.AT_MOST_ONCE)
    one.release(sent, range(1, 101), release=1)
    one.release(sent, range(101, 201), release=2)
    await one.done(run_number(1, 2))
    assert one.gateway.devices(1) == list(range(101, 201))


async def test_rows_that_were_lost_are_retried_with_the_life_of_their_release(bench):
    clock = Clock()
    one = await bench(clock=clock)
    one.index.apply_devices(rows(range(1, 3)))
    one.gateway.script = lambda batch: batch.outcomes.__setitem__(slice(None), CONNECTION_LOST.code)
    early, late = (notification(1, ttl_s=60, age_s=age) for age in (59.9, 0))
    one.release(early, [1], release=1)
    one.release(late, [2], release=2)
    await one.done(run_number(1, 1))
    assert codes(one, 1, 1).keys() <= {CONNECTION_LOST.code, EXPIRED.code}
    one.gateway.script = accept_all
    await one.done(run_number(1, 2))
    assert codes(one, 1, 2) == {ACCEPTED.code: [2]}


# -- what was resolved before a change


async def test_who_changed_between_resolution_and_release_is_looked_at_again(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 101)))
    version = one.index.version
    one.index.apply_devices(rows([5, 6], revision=2, flags=DeviceFlag.HAS_TOKEN))
    one.release(notification(1), range(1, 101), version=version)
    await one.done(1)
    assert codes(one, 1, 0)[UNREACHABLE.code] == [5, 6]
    one.release(notification(2), range(1, 101), version=-1)
    await one.done(2)
    assert codes(one, 2, 0)[UNREACHABLE.code] == [5, 6], "nobody knows when these were resolved"


# -- decisions of other nodes


class Orders:
    """What the store says of the runs of this node."""

    def __init__(self):
        self.orders = []
        self.asked = 0

    async def orders_of(self, ids, node_id):
        self.asked += 1
        return [each for each in self.orders if each.notification_id in ids]


@pytest.fixture
def told():
    return Orders()


async def hearing(one, told):
    told.heard = heard = Heard(type("Store", (), {"orders": staticmethod(told.orders_of)}), 1)
    await heard.start()
    heard.begin(one.fanout)
    return heard


async def test_what_other_nodes_decided_is_done_here(bench, told):
    one = await bench(unsettled_rows_max=100)
    one.index.apply_devices(rows(range(1, 2_001)))
    heard = await hearing(one, told)
    one.gateway.gate.clear()
    one.release(notification(1), range(1, 1_001), release=1)
    one.release(notification(2), range(1_001, 2_001))
    told.orders = [Order(1, 1, False, True), Order(2, 0, True, False)]
    await heard.notifications([1, 2])
    one.gateway.gate.set()
    await one.done(2)
    assert one.fanout.ledger(1).pending > 0
    told.orders = [Order(1, 1, False, False)]
    await heard.notifications([1])
    await one.done(run_number(1, 1))
    assert len(one.gateway.devices(1)) == 1_000
    await heard.stop()


async def test_a_decision_that_comes_before_the_release_is_done_when_it_is_here(bench, told):
    """Its commit is known to the store, and not yet here: whoever cancels it meanwhile is heard all the same."""
    one = await bench()
    one.index.apply_devices(rows(range(1, 2_001)))
    heard = await hearing(one, told)
    told.orders = [Order(1, 3, True, False)]
    await heard.notifications([1])
    one.gateway.gate.clear()
    one.release(notification(1), range(1, 2_001), release=3)
    asked = told.asked
    await one.until(lambda: told.asked > asked)
    one.gateway.gate.set()
    await one.done(run_number(1, 3))
    assert CANCELLED.code in codes(one, 1, 3) or len(one.gateway.devices(1)) == 2_000
    asked = told.asked
    await asyncio.sleep(0.6)
    assert told.asked == asked, "nothing is left to be told"
    await heard.stop()
