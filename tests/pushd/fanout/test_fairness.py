"""Nobody delays another: how credit is shared between apps, their outlets, lanes, and gateways that hang. By counts."""

import asyncio
from collections import Counter

import pytest

from pushd.batch import Lane
from pushd.config import FanoutConfig
from pushd.fanout.lanes import Lanes
from pushd.model.notification import Delivery
from pushd.outcome import ACCEPTED, NOT_WRITTEN, RESPONSE_TIMEOUT
from tests.pushd.fanout.conftest import notification, rows
from tests.pushd.fanout.doubles import DOWN, accept_all
from tests.pushd.fanout.test_lanes import outlet, wave

BLOCK = 65_536


def ids_of(app_id, count):
    return range(app_id * BLOCK, app_id * BLOCK + count)


def populate(one, app_id, count, bundles=1):
    """Devices of an app, spread over so many bundles."""
    ids = ids_of(app_id, count)
    for number in range(bundles):
        own = [device for device in ids if device % bundles == number]
        one.index.apply_devices(
            rows(own, app_id=app_id, route_id=1_000 * app_id + number, bundle=f"com.example.app{number}")
        )
    return ids


def flying(gateway):
    """Rows in flight by app."""
    counts = Counter()
    for batch in gateway.batches:
        counts[batch.route.app_id] += batch.pending
    return counts


async def settled(one, passes=5):
    """After so many looks of the dispatcher."""
    for _ in range(passes):
        await asyncio.sleep(0.01)


# -- the arithmetic, without a loop


def take_turns(lanes, looks=200):
    """Every gateway answers a tenth of what it has; then batches go out to whose turn it is, while credit lasts."""
    for _ in range(looks):
        for one in lanes:
            one.release(one.in_flight // 10)
        while sum(take_turn(lanes, share) for share in lanes.ready(Lane.BULK, 0.0)):
            pass


def take_turn(lanes, share):
    for one in list(share.line):
        if (allowed := min(2_000, lanes.allowance(one, 0.0))) > 0:
            one.acquire(allowed, 0.0)
            lanes.turn(one)
            return True
    return False


def take_all(lanes, one, now=0.0):
    """What an outlet gets that takes whatever it may."""
    taken = 0
    while (rows := lanes.allowance(one, now)) > 0:
        one.acquire(rows, now)
        taken += rows
    return taken


def test_one_alone_gets_nearly_all_of_its_lane():
    config = FanoutConfig()
    lane_max = config.unsettled_rows_max * (1 - config.transactional_credit_ratio)
    lanes = Lanes(config)
    assert 0.92 * lane_max <= take_all(lanes, outlet(lanes, 1)) <= lane_max


def test_there_is_always_some_left_for_a_newcomer():
    lanes = Lanes(FanoutConfig())
    taken = [take_all(lanes, outlet(lanes, number)) for number in range(1, 9)]
    assert taken[1] >= 1_000, "a newcomer behind one that took all it may"
    assert taken[2] >= 64, "and so on"
    assert min(taken[:4]) > 0
    assert sum(taken) <= 16_000


@pytest.mark.parametrize("apps", [2, 3, 10])
def test_apps_that_come_and_go_share_evenly_whatever_they_held_at_first(apps):
    lanes = Lanes(FanoutConfig())
    outlets = [outlet(lanes, number) for number in range(1, apps + 1)]
    take_all(lanes, outlets[0])
    for one in outlets:
        one.add(wave(one))
    take_turns(lanes)
    held = [one.in_flight for one in outlets]
    assert max(held) < 1.2 * min(held)
    assert sum(held) > 0.85 * 16_000


def test_an_app_with_ten_outlets_gets_one_share():
    lanes = Lanes(FanoutConfig())
    many = [outlet(lanes, number, app_id=1) for number in range(1, 11)]
    single = outlet(lanes, 11, app_id=2)
    for one in (*many, single):
        one.add(wave(one))
    take_turns(lanes)
    assert 0.8 < sum(one.in_flight for one in many) / single.in_flight < 1.25
    within = [one.in_flight for one in many]
    assert max(within) < 1.3 * min(within)


def test_a_lane_keeps_its_part_from_the_other():
    lanes = Lanes(FanoutConfig())
    bulk, single = outlet(lanes, 1), outlet(lanes, 1, lane=Lane.TRANSACTIONAL)
    assert take_all(lanes, single) <= 16_000
    assert take_all(lanes, bulk) >= 3_500
    lanes = Lanes(FanoutConfig())
    bulk, single = outlet(lanes, 1), outlet(lanes, 1, lane=Lane.TRANSACTIONAL)
    assert take_all(lanes, bulk) <= 16_000
    assert take_all(lanes, single) >= 3_500


def test_who_is_not_answered_any_more_gets_a_probe_and_an_answer_opens_it_again():
    config = FanoutConfig()
    lanes = Lanes(config)
    one = outlet(lanes, 1)
    one.acquire(1_000, 0.0)
    assert lanes.allowance(one, config.silence_s) > 1_000, "not yet"
    assert lanes.allowance(one, config.silence_s + 0.1) <= 0
    one.landed(1_000, 20.0, answered=False, lost=True)
    one.release(1_000)
    assert lanes.allowance(one, 20.0) == config.probe_rows
    lanes.prune(100.0)
    assert lanes.outlet(one.key) is one, "its silence is remembered while retries may come"
    one.acquire(32, 100.0)
    one.landed(32, 100.1, answered=True, lost=False)
    assert lanes.allowance(one, 100.1) > 1_000
    one.release(32)
    lanes.prune(100.2)
    assert lanes.outlet(one.key) is not one


def test_waiting_for_a_commit_is_not_silence():
    lanes = Lanes(FanoutConfig())
    one = outlet(lanes, 1)
    one.acquire(1_000, 0.0)
    one.landed(1_000, 0.1, answered=True, lost=False)
    assert lanes.allowance(one, 60.0) > 1_000


# -- the fan-out


@pytest.mark.asyncio
async def test_newcomers_finish_while_a_gateway_that_hangs_holds_all_it_may(bench):
    one = await bench(unsettled_rows_max=2_000, batch_rows_max=500)
    one.gateway.hangs = lambda batch: batch.route.app_id == 1
    one.gateway.gate.clear()
    one.release(notification(1, app_id=1), populate(one, 1, 5_000))
    await one.until(lambda: flying(one.gateway)[1] > 1_400)
    for app_id in (2, 3, 4):
        one.release(notification(app_id, app_id=app_id), populate(one, app_id, 1_000))
    await one.done(2, 3, 4)
    assert flying(one.gateway)[1] > 1_400, "it still hangs"
    one.gateway.gate.set()
    await one.done(1)


@pytest.mark.asyncio
async def test_a_newcomer_finishes_behind_several_that_hang(bench):
    one = await bench(unsettled_rows_max=20_000)
    one.gateway.hangs = lambda batch: batch.route.app_id < 4
    one.gateway.gate.clear()
    for app_id in (1, 2, 3):
        one.release(notification(app_id, app_id=app_id), populate(one, app_id, 20_000))
        await settled(one)
    assert sum(flying(one.gateway).values()) > 15_000
    one.release(notification(4, app_id=4), populate(one, 4, 300))
    await one.done(4)
    one.gateway.gate.set()
    await one.done(1, 2, 3)


@pytest.mark.asyncio
async def test_one_bundle_that_hangs_does_not_stop_the_others_of_its_app(bench):
    one = await bench(unsettled_rows_max=2_000, batch_rows_max=500)
    one.gateway.hangs = lambda batch: batch.route.bundle == "com.example.app0"
    one.gateway.gate.clear()
    ids = populate(one, 1, 8_000, bundles=2)
    one.release(notification(1, app_id=1), [device for device in ids if device % 2 == 0])
    await one.until(lambda: flying(one.gateway)[1] > 1_400)
    one.release(notification(2, app_id=1), [device for device in ids if device % 2 == 1])
    await one.done(2)
    one.gateway.gate.set()
    await one.done(1)


@pytest.mark.asyncio
async def test_an_app_with_ten_bundles_has_no_more_in_flight_than_one_with_one(bench):
    one = await bench(unsettled_rows_max=4_000, batch_rows_max=100)
    one.gateway.gate.clear()
    both = {1: populate(one, 1, 6_000, bundles=10), 2: populate(one, 2, 6_000)}
    for app_id, ids in both.items():
        one.release(notification(app_id, app_id=app_id), ids)
    await settled(one)
    counts = flying(one.gateway)
    assert 0.75 < counts[1] / counts[2] < 1.34, counts
    one.gateway.gate.set()
    await one.done(1, 2)


@pytest.mark.asyncio
async def test_transactional_sends_pass_a_campaign_a_slow_tenant_and_a_stalled_credential(bench):
    one = await bench(unsettled_rows_max=2_000, batch_rows_max=500)
    one.gateway.hangs = lambda batch: batch.lane is Lane.BULK
    one.gateway.gate.clear()
    for app_id in (1, 2):
        one.release(notification(app_id, app_id=app_id), populate(one, app_id, 5_000))
    await settled(one)
    populate(one, 3, 200)
    for number in range(200):
        one.release(notification(100 + number, app_id=3), [ids_of(3, 200)[number]])
    await one.done(*range(100, 300))
    one.gateway.gate.set()
    await one.done(1, 2)


@pytest.mark.asyncio
async def test_a_flood_flagged_transactional_does_not_starve_campaigns(bench):
    one = await bench(unsettled_rows_max=2_000, batch_rows_max=500)
    one.gateway.hangs = lambda batch: batch.lane is Lane.TRANSACTIONAL
    one.gateway.gate.clear()
    one.release(notification(1, app_id=1, transactional=True), populate(one, 1, 5_000))
    await settled(one)
    one.release(notification(2, app_id=2), populate(one, 2, 2_000))
    await one.done(2)
    one.gateway.gate.set()
    await one.done(1)


@pytest.mark.asyncio
async def test_a_gateway_that_never_answers_is_only_probed_until_it_does(bench):
    one = await bench(unsettled_rows_max=4_000, batch_rows_max=1_000, retry_budget_min=10_000, probe_rows=8)
    one.gateway.script = lambda batch: batch.outcomes.fill(RESPONSE_TIMEOUT.code)
    ids = populate(one, 1, 3_000)
    one.gateway.gate.clear()
    one.release(notification(1, app_id=1), ids)
    await one.until(lambda: flying(one.gateway)[1] > 2_000)
    first = len(one.gateway.batches)
    one.gateway.gate.set()
    await one.until(lambda: len(one.gateway.batches) > first + 10)
    assert max(len(batch) for batch in one.gateway.batches[first:]) <= 8
    one.gateway.script = accept_all
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 3_000}
    assert max(len(batch) for batch in one.gateway.batches[first:]) > 8


@pytest.mark.asyncio
async def test_apps_take_turns_however_many_outlets_they_have(bench):
    one = await bench(unsettled_rows_max=1_000, batch_rows_max=50)
    first, second = populate(one, 1, 4_000, bundles=8), populate(one, 2, 2_000)
    one.release(notification(1, app_id=1), first)
    one.release(notification(2, app_id=2), second)
    await one.done(1, 2)
    order = [batch.route.app_id for batch in one.gateway.batches for _ in range(len(batch))]
    until_the_second_was_done = order[: len(order) - order[::-1].index(2)]
    assert until_the_second_was_done.count(1) < 2_800


# -- in flight is bounded, whatever comes (PostgreSQL away)


@pytest.mark.asyncio
@pytest.mark.parametrize("delivery", list(Delivery))
async def test_with_a_store_that_never_commits_sending_stops_at_the_bound_however_many_campaigns(bench, delivery):
    one = await bench(unsettled_rows_max=1_000, batch_rows_max=200)
    people = {app_id: populate(one, app_id, 1_200) for app_id in range(1, 9)}
    one.store.down = True
    numbers = []
    for number in range(40):
        app_id = number % 8 + 1
        ids = people[app_id][: 60 if number >= 32 else None]  # some in the transactional lane
        one.release(notification(number + 1, app_id=app_id, delivery=delivery), ids)
        numbers.append(number + 1)
    await settled(one, 10)
    sent = sum(one.gateway.sent.values())
    page, dispatcher = one.fanout._recorder._page, one.fanout._dispatcher
    for _ in range(5):  # nothing moves, and nothing grows
        held = (one.fanout.unsettled, page.rows, len(dispatcher._flights), len(dispatcher._tasks))
        await settled(one, 2)
        assert (one.fanout.unsettled, page.rows, len(dispatcher._flights), len(dispatcher._tasks)) == held
    assert one.fanout.unsettled <= 1_000
    assert sum(one.gateway.sent.values()) == sent <= 1_000
    assert sent > 500 or delivery is Delivery.AT_MOST_ONCE, "at most once nothing goes before its try is committed"
    one.store.down = False
    await one.done(*numbers)
    assert max(one.gateway.sent.values()) == 1
    assert one.fanout.unsettled == one.fanout.backlog == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [DOWN.code, NOT_WRITTEN.code])
async def test_rows_that_come_back_keep_the_bound(bench, code):
    one = await bench(unsettled_rows_max=1_000, batch_rows_max=200, retry_budget_min=10_000)
    left = [30]

    def script(batch):
        left[0] -= 1
        batch.outcomes[:] = code if left[0] > 0 else ACCEPTED.code

    one.gateway.script = script
    for app_id in (1, 2, 3):
        one.release(notification(app_id, app_id=app_id), populate(one, app_id, 2_000))
    await one.done(1, 2, 3)
    assert one.gateway.in_flight_max <= 1_000
    assert sum(one.store.codes(number)[ACCEPTED.code] for number in (1, 2, 3)) == 6_000


@pytest.mark.asyncio
async def test_a_single_send_goes_out_between_two_batches_of_a_campaign(bench, everyone):
    one = await bench(batch_rows_max=100)
    one.index.apply_devices(rows(everyone))
    one.release(notification(1), everyone)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    one.release(notification(2), [7])
    await one.done(1, 2)
    lanes = [batch.lane for batch in one.gateway.batches]
    assert lanes.count(Lane.BULK) == 50
    assert lanes.index(Lane.TRANSACTIONAL) < 10
