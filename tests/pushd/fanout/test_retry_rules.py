"""The rules of retry one by one, under a clock that is set forward by hand: life, Retry-After, budget."""

import asyncio
import math
import random

import numpy as np
import pytest

from pushd.batch import Lane
from pushd.config import FanoutConfig
from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.lanes import OutletKey, PoolKey
from pushd.fanout.retry import TICK_S, Backoff, Budget, Budgets, Later
from pushd.model.app import Settings
from pushd.model.device import Environment, GatewayName, Kind, Route
from pushd.outcome import ACCEPTED, COMMON_REASONS, EXPIRED, NOT_WRITTEN, Outcome, Reason, Reasons
from tests.pushd.fanout.conftest import Clock, notification, rows
from tests.pushd.fanout.doubles import DOWN, SLOW_DOWN, accept_all

KEY = OutletKey(Route(1, Kind.APNS, Environment.PRODUCTION, "com.example.app"), 1, Lane.BULK)


@pytest.fixture
def campaign():
    """One that has nothing yet."""
    known = {"notification": notification(1), "run": 1, "settings": Settings(), "kinds": frozenset({Kind.APNS})}
    return Campaign(**known, lane=Lane.BULK, targeted=100, inline=False)


def set_forward(one, seconds):
    one.clock.ahead_s += seconds
    one.fanout._dispatcher.pump_soon()


@pytest.fixture
def at(bench):
    """A fan-out whose clock is set by hand; nothing happens by itself within a minute."""

    async def make(**config):
        clock = Clock()
        settings = {"retry_base_s": 60.0, "retry_cap_s": 600.0, **config}
        one = await bench(clock=clock, **settings)
        one.clock = clock
        return one

    return make


def answers(code, retry_after=None, attempts=1):
    """Answers the first attempts with a code, and with Retry-After; later ones are accepted."""

    def script(batch):
        if batch.attempt > attempts:
            accept_all(batch)
            return
        batch.outcomes[:] = code
        if retry_after is not None:
            batch.retry_after.update(dict.fromkeys(range(len(batch)), retry_after))

    return script


# -- within the message's life


def test_g05_a_retry_falls_into_what_is_left_of_the_life_or_there_is_none():
    backoff = Backoff(FanoutConfig(retry_base_s=1.0, retry_cap_s=300.0), random.Random(1))
    for left_s in (0.01, 1.0, 30.0):
        delays = [backoff.delay(12, left_s=left_s) for _ in range(300)]
        assert 0 <= min(delays) < 0.1 * left_s, "full jitter over what is left"
        assert 0.8 * left_s < max(delays) <= 0.9 * left_s
    assert all(20 <= backoff.delay(3, 20.0, left_s=40.0) <= 24 for _ in range(100))
    assert backoff.delay(1, 20.0, left_s=20.0) is None, "the gateway wants to be left alone for longer than that"
    assert backoff.delay(1, 0.0, left_s=0.0) is None
    assert backoff.delay(5_000) <= 300, "however many attempts there were"


@pytest.mark.asyncio
async def test_g05_rows_told_to_stay_away_for_longer_than_they_live_end_at_once_with_that_reason(at):
    one = await at()
    one.index.apply_devices(rows(range(1, 11)))
    one.gateway.script = answers(SLOW_DOWN.code, retry_after=500.0)
    one.release(notification(1, ttl_s=120), range(1, 11))
    await one.done(1)
    assert one.store.codes(1) == {SLOW_DOWN.code: 10}
    assert len(one.gateway.batches) == 1


@pytest.mark.asyncio
async def test_g05_a_message_with_little_life_left_is_retried_within_it(at):
    one = await at()
    one.index.apply_devices(rows([1]))
    one.gateway.script = answers(DOWN.code)
    one.release(notification(1, ttl_s=10), [1])
    await one.until(lambda: one.gateway.batches and one.fanout.unsettled == 0)
    set_forward(one, 9.1)
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 1}, "though the back-off is a minute"


@pytest.mark.asyncio
async def test_g05_rows_for_which_the_budget_has_nothing_expire_there(at):
    one = await at(retry_budget_min=2, retry_base_s=1.0)
    one.index.apply_devices(rows(range(1, 11)))
    one.gateway.script = answers(DOWN.code, attempts=99)
    one.release(notification(1, ttl_s=60), range(1, 11))
    await one.until(lambda: one.gateway.batches and one.fanout.unsettled == 0)
    set_forward(one, 2.0)
    await one.until(lambda: len(one.gateway.batches) >= 2)
    set_forward(one, 100.0)
    await one.done(1)
    assert one.store.codes(1)[EXPIRED.code] >= 8


# -- Retry-After


def of(number, environment=Environment.PRODUCTION):
    """Devices of another bundle: another outlet of the same pool, or of another where the environment is."""
    ids = range(number * 1_000, number * 1_000 + 200)
    return ids, rows(ids, route_id=number, bundle=f"com.example.app{number}", environment=environment)


@pytest.mark.asyncio
async def test_a_service_that_is_down_rests_its_whole_pool_and_no_other(at):
    one = await at(retry_base_s=0.001)
    people = {number: of(number) for number in (1, 2, 3)} | {4: of(4, Environment.SANDBOX)}
    for _, images in people.values():
        one.index.apply_devices(images)
    one.gateway.script = answers(DOWN.code, retry_after=30.0)
    one.release(notification(1), people[1][0])
    await one.until(lambda: one.gateway.batches and one.fanout.unsettled == 0)
    one.gateway.script = accept_all
    one.release(notification(2), people[2][0])  # the same pool through another bundle
    one.release(notification(3), people[3][0][:50])  # the transactional lane has links of its own
    one.release(notification(4), people[4][0])
    await one.done(3, 4)
    await asyncio.sleep(0.05)
    assert one.gateway.devices(2) == []
    assert len(one.gateway.batches) == 3
    set_forward(one, 29.0)
    await asyncio.sleep(0.05)
    assert one.gateway.devices(2) == []
    set_forward(one, 1.1)
    await one.done(1, 2)
    assert one.store.codes(1) == one.store.codes(2) == {ACCEPTED.code: 200}


@pytest.mark.asyncio
async def test_a_throttled_device_rests_alone(at):
    one = await at()
    one.index.apply_devices(rows(range(1, 301)))
    one.gateway.script = answers(SLOW_DOWN.code, retry_after=30.0)
    one.release(notification(1), range(1, 101))
    await one.until(lambda: one.gateway.batches and one.fanout.unsettled == 0)
    one.gateway.script = accept_all
    one.release(notification(2), range(101, 201))
    await one.done(2)
    assert len(one.store.rows) == 100
    set_forward(one, 100.0)
    await one.done(1)


def waits_alone(code, seconds):
    """Answers the first of each device with a code and a wait of its own; later ones are accepted."""
    met = set()

    def script(batch):
        accept_all(batch)
        fresh = [row for row, device in enumerate(batch.ids.tolist()) if device not in met]
        met.update(batch.ids.tolist())
        batch.outcomes[fresh] = code
        batch.wait_alone(fresh, seconds)

    return script


@pytest.mark.asyncio
async def test_a_wait_that_is_a_rows_own_rests_nobody_else_even_where_a_service_is_down(at):
    one = await at(retry_base_s=0.001)
    one.index.apply_devices(rows(range(1, 301)))
    one.gateway.script = waits_alone(DOWN.code, 30.0)
    one.release(notification(1), range(1, 101))
    await one.until(lambda: one.gateway.batches and one.fanout.unsettled == 0)
    one.gateway.script = accept_all
    one.release(notification(2), range(101, 201))
    await one.done(2)
    assert one.store.codes(2) == {ACCEPTED.code: 100}
    set_forward(one, 31.0)
    await one.done(1)
    assert {batch.attempt for batch in one.gateway.batches if batch.notifications == 1} == {1, 2}


@pytest.mark.asyncio
async def test_rows_that_never_went_out_wait_without_using_up_an_attempt_and_without_resting_others(at):
    one = await at(retry_base_s=0.001, attempts_max=1)
    one.index.apply_devices(rows(range(1, 301)))
    one.gateway.script = waits_alone(NOT_WRITTEN.code, 30.0)
    one.release(notification(1), range(1, 101))
    await one.until(lambda: one.gateway.batches and one.fanout.unsettled == 0)
    one.gateway.script = accept_all
    one.release(notification(2), range(101, 201))
    await one.done(2)
    assert len(one.gateway.batches) == 2
    set_forward(one, 29.0)
    await asyncio.sleep(0.05)
    assert len(one.gateway.batches) == 2
    set_forward(one, 2.0)
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 100}
    assert {batch.attempt for batch in one.gateway.batches} == {1}


def test_a_quota_speaks_for_the_pool_where_the_vendor_says_so():
    mine = Reasons((Reason(64, "quota", Outcome.THROTTLED, pool_wide=True), Reason(65, "busy", Outcome.THROTTLED)))
    assert [mine.speaks_for_pool(code) for code in (64, 65)] == [True, False]
    speaking = {each.name for each in COMMON_REASONS if mine.speaks_for_pool(each.code)}
    assert speaking == {"malformed_response", "internal_error"}


@pytest.mark.asyncio
async def test_a_pool_is_tried_again_before_an_hour_that_a_gateway_asked_for_is_over(at):
    one = await at(pool_retry_after_max_s=60.0)
    one.index.apply_devices(rows([1, 2]))
    one.gateway.script = answers(DOWN.code, retry_after=3_000.0)
    one.release(notification(1), [1])
    await one.until(lambda: one.gateway.batches and one.fanout.unsettled == 0)
    one.gateway.script = accept_all
    one.release(notification(2), [2])
    set_forward(one, 60.1)
    await one.done(2)
    assert one.gateway.devices(1) == [1], "the row itself obeys"
    assert len(one.gateway.batches) == 2
    set_forward(one, 3_100.0)
    await one.done(1)


# -- the budget


def test_g06_while_retries_fail_they_stay_a_tenth_of_first_attempts():
    """Half of everything fails for ten minutes (X-25)."""
    config = FanoutConfig()
    budget, source = Budget(config), random.Random(2)
    waiting = 0
    first = again = 0
    for second in range(600):
        budget.sent(1_000, float(second))
        granted = budget.grant(waiting, float(second))
        failed = sum(source.random() < 0.5 for _ in range(granted))
        budget.answered(granted - failed, failed)
        waiting += 500 - granted + failed
        if second >= 60:
            first, again = first + 1_000, again + granted
    assert 0.08 * first < again <= 0.1 * first


def test_g06_after_an_outage_the_budget_doubles_while_retries_are_accepted_and_halves_when_they_fail():
    config = FanoutConfig(retry_budget_min=100, retry_budget_max=50_000)
    budget, waiting, rounds = Budget(config), 1_000_000, []
    for second in range(1, 60):
        rounds.append(budget.grant(waiting, 1_000.0 + second))
        budget.answered(rounds[-1], 0)
    assert rounds[:6] == [100, 200, 400, 800, 1_600, 3_200]
    assert sum(rounds) == 50_000, "to its bound"
    for _ in range(20):
        budget.answered(80, 20)
    assert budget.grant(waiting, 5_000.0) == 100


def test_g06_rows_that_came_back_unprocessed_were_no_first_attempts():
    budget = Budget(FanoutConfig(retry_budget_min=0))
    for second in range(20):  # the same rows, refused over and over
        budget.sent(1_000, float(second))
        if second < 19:
            budget.sent(-1_000, float(second))
    assert budget.grant(1_000, 20.0) == 100
    assert budget.grant(1_000, 200.0) == 0


def test_g06_a_budget_is_a_pools():
    budgets = Budgets(FanoutConfig())
    key = PoolKey(GatewayName.APNS, Environment.PRODUCTION, 7, Lane.BULK)
    assert budgets.of(key) is budgets.of(PoolKey(*key))
    assert budgets.of(key) is not budgets.of(key._replace(lane=Lane.TRANSACTIONAL))
    budgets.of(key).sent(1, 0.0)
    budgets.forget_idle(59.0)
    assert len(budgets) == 1
    budgets.forget_idle(61.0)
    assert len(budgets) == 0


@pytest.mark.asyncio
async def test_g06_ten_bundles_of_one_credential_have_one_budget(at):
    one = await at(retry_budget_min=30, retry_base_s=0.001)
    people = [of(number) for number in range(1, 11)]
    for _, images in people:
        one.index.apply_devices(images)
    one.gateway.script = answers(DOWN.code, attempts=99)
    for number, (ids, _) in enumerate(people):
        one.release(notification(number + 1), ids)
    await one.until(lambda: len(one.gateway.sent) == 2_000)
    await asyncio.sleep(0.3)
    retries = sum(one.gateway.sent.values()) - 2_000
    assert 100 < retries <= 200, "a tenth of what was sent first, not thirty for each"


@pytest.mark.asyncio
async def test_g06_a_campaign_that_met_an_outage_recovers_whole(bench):
    one = await bench(retry_budget_min=20, retry_base_s=0.001, retry_cap_s=0.002)
    one.index.apply_devices(rows(range(1, 3_001)))
    one.gateway.script = answers(DOWN.code)
    one.release(notification(1), range(1, 3_001))
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 3_000}
    retried = [len(batch) for batch in one.gateway.batches if batch.attempt == 2]
    assert max(retried) > 100, "it grew as retries were accepted"


# -- unprocessed


@pytest.mark.asyncio
async def test_t39_unprocessed_rows_rest_twice_as_long_each_time_and_use_up_nothing(at):
    one = await at(attempts_max=1, unprocessed_pause_s=10.0, retry_cap_s=60.0, retry_budget_min=0)
    one.index.apply_devices(rows(range(1, 11)))
    one.gateway.script = lambda batch: batch.outcomes.fill(NOT_WRITTEN.code)
    one.release(notification(1), range(1, 11))
    pauses = (10, 20, 40, 60, 60)
    for tries, pause_s in enumerate(pauses, 1):
        await one.until(lambda tries=tries: len(one.gateway.batches) == tries and one.fanout.unsettled == 0)
        set_forward(one, pause_s - 0.5)
        await asyncio.sleep(0.02)
        assert len(one.gateway.batches) == tries
        set_forward(one, 0.6)
    one.gateway.script = accept_all
    await one.done(1)
    assert {batch.attempt for batch in one.gateway.batches} == {1}


# -- rows that fail one by one


def later_of(campaign, *puts, rows_max=100):
    """What falls due of waves of one row each, put for these times."""
    later = Later(rows_max)
    for number, (due, latest) in enumerate(puts):
        wave = Wave(campaign=campaign, route=KEY.route, ids=np.array([number], np.uint32), attempt=2)
        later.put(due, KEY, wave, latest=latest)
    return later


def test_what_falls_due_in_one_tick_goes_out_again_as_one_wave(campaign):
    later = later_of(campaign, *((10.0 + at * TICK_S / 20, math.inf) for at in range(1, 15)))
    assert later.next_due() == pytest.approx(10.0 + TICK_S), "never before its time"
    assert later.due(10.0) == []
    ((key, wave),) = later.due(10.0 + TICK_S + 1e-6)
    assert (key, wave.attempt, wave.ids.tolist()) == (KEY, 2, list(range(14)))
    assert campaign.waiting == 14


def test_a_wave_that_fills_a_batch_or_was_withdrawn_grows_no_more(campaign):
    later = later_of(campaign, *((10.01, math.inf) for _ in range(5)), rows_max=2)
    assert sorted(len(wave.ids) for _, wave in later.due(11)) == [1, 2, 2]
    later = later_of(campaign, (10.01, math.inf))
    campaign.waves.clear()
    later.put(10.01, KEY, Wave(campaign=campaign, route=KEY.route, ids=np.array([9], np.uint32), attempt=2))
    assert [wave.ids.tolist() for _, wave in later.due(11)] == [[9]]


def test_g05_a_tick_never_takes_a_retry_past_the_message_s_life(campaign):
    assert later_of(campaign, (10.01, 10.02)).next_due() == 10.01
