"""Retry, pacing, budget, refused credentials and retirement."""

import asyncio
import random

import msgspec
import numpy as np
import pytest

from pushd.config import FanoutConfig
from pushd.fanout.breaker import RetireBreaker
from pushd.fanout.retry import Backoff, Budget
from pushd.model.audience import Broadcast
from pushd.model.device import Kind
from pushd.model.message import LiveActivity, Message, PushType
from pushd.model.notification import Delivery, Send
from pushd.outcome import (
    ACCEPTED,
    CANCELLED,
    CONNECTION_LOST,
    EXPIRED,
    NO_CREDENTIAL,
    NOT_WRITTEN,
    RESPONSE_TIMEOUT,
)
from tests.pushd.fanout.conftest import notification, rows
from tests.pushd.fanout.doubles import BAD, DOWN, GONE, REFUSED, SLOW_DOWN, TOPIC_REFUSED, accept_all


def once(code, then=accept_all):
    """Answers first attempts with a code, later ones by `then`."""

    def script(batch):
        if batch.attempt == 1:
            batch.outcomes[:] = code
        else:
            then(batch)

    return script


@pytest.mark.asyncio
async def test_an_outage_is_retried_and_counted_once(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 51)))
    one.gateway.script = once(DOWN.code)
    one.release(notification(1), range(1, 51))
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 50}
    assert {batch.attempt for batch in one.gateway.batches} == {1, 2}


@pytest.mark.asyncio
async def test_attempts_end_with_the_reason_of_the_last(bench):
    one = await bench(attempts_max=3)
    one.index.apply_devices(rows([1]))
    one.gateway.script = lambda batch: batch.outcomes.fill(DOWN.code)
    one.release(notification(1), [1])
    await one.done(1)
    assert [batch.attempt for batch in one.gateway.batches] == [1, 2, 3]
    assert one.store.codes(1) == {DOWN.code: 1}


@pytest.mark.asyncio
async def test_a_rejected_message_is_not_retried(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.gateway.script = lambda batch: batch.outcomes.fill(BAD.code)
    one.release(notification(1), [1])
    await one.done(1)
    assert len(one.gateway.batches) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [CONNECTION_LOST.code, RESPONSE_TIMEOUT.code])
@pytest.mark.parametrize("delivery", list(Delivery))
async def test_g02_an_unknown_outcome_follows_the_message_policy(bench, code, delivery):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.gateway.script = once(code)
    one.release(notification(1, delivery=delivery), [1])
    await one.done(1)
    again = delivery is Delivery.AT_LEAST_ONCE
    assert one.store.codes(1) == {ACCEPTED.code if again else code: 1}
    assert len(one.gateway.batches) == (2 if again else 1)


@pytest.mark.asyncio
async def test_g05_a_retry_never_outlives_the_message(bench):
    one = await bench()
    one.index.apply_devices(rows([1, 2]))
    one.gateway.script = lambda batch: batch.outcomes.fill(SLOW_DOWN.code)
    one.release(notification(1, ttl_s=0), [1])
    one.release(notification(2, ttl_s=1, age_s=0.95), [2])
    await one.done(1, 2)
    assert one.store.codes(1) == {SLOW_DOWN.code: 1}
    assert set(one.store.codes(2)) <= {SLOW_DOWN.code, EXPIRED.code}


@pytest.mark.asyncio
async def test_x24_retry_after_is_obeyed_per_row(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 5)))
    at = {}

    def script(batch):
        now = asyncio.get_running_loop().time()
        at.update({(batch.attempt, device): now for device in batch.ids.tolist()})
        if batch.attempt == 1:
            batch.outcomes[:] = SLOW_DOWN.code
            batch.retry_after.update({0: 0.3, 1: 0.3, 2: 0.0})
        else:
            accept_all(batch)

    one.gateway.script = script
    one.release(notification(1), range(1, 5))
    await one.done(1)
    waited = [at[2, device] - at[1, device] for device in range(1, 5)]
    assert min(waited[:2]) >= 0.3 > max(waited[2:])


@pytest.mark.asyncio
async def test_cancelled_rows_are_not_retried(bench):
    one = await bench(retry_base_s=0.2, retry_cap_s=0.2)
    one.index.apply_devices(rows(range(1, 11)))
    one.gateway.script = once(DOWN.code)
    one.release(notification(1), range(1, 11))
    await one.until(lambda: one.fanout.unsettled == 0 and one.gateway.batches)
    one.fanout.cancel(1)
    await one.done(1)
    assert one.store.codes(1) == {CANCELLED.code: 10}


@pytest.mark.asyncio
async def test_g07_a_refused_credential_pauses_and_keeps_its_messages(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 101)))
    one.gateway.script = lambda batch: batch.outcomes.fill(REFUSED.code)
    one.release(notification(1), range(1, 51))
    await one.until(lambda: one.keyring.pauses)
    one.release(notification(2), range(51, 101))
    await asyncio.sleep(0.05)
    assert len(one.gateway.batches) == 1
    assert one.keyring.pauses == [(7, "refused", None)]
    assert one.fanout.ledger(1).pending == 50
    one.gateway.script = accept_all
    one.keyring.paused.clear()
    one.fanout.credentials_changed()
    await one.done(1, 2)
    assert one.store.codes(1) == one.store.codes(2) == {ACCEPTED.code: 50}


@pytest.mark.asyncio
async def test_a_replaced_credential_takes_over_what_waits(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.gateway.script = lambda batch: batch.outcomes.fill(REFUSED.code if batch.credential_id == 7 else ACCEPTED.code)
    one.release(notification(1), [1])
    await one.until(lambda: one.keyring.pauses)
    one.keyring.id = 8
    one.fanout.credentials_changed()
    await one.done(1)
    assert [batch.credential_id for batch in one.gateway.batches] == [7, 8]


@pytest.mark.asyncio
async def test_a_refused_topic_holds_only_its_bundle(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.gateway.script = lambda batch: batch.outcomes.fill(TOPIC_REFUSED.code)
    one.release(notification(1), [1])
    await one.until(lambda: one.keyring.pauses)
    assert one.keyring.pauses == [(7, "topic_refused", "com.example.app")]
    one.keyring.paused.clear()
    one.gateway.script = accept_all
    one.fanout.credentials_changed()
    await one.done(1)


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [NOT_WRITTEN.code, REFUSED.code])
@pytest.mark.parametrize("following", [8, None])
async def test_rows_that_come_back_after_their_credential_went_go_on_with_the_next_or_end(bench, code, following):
    one = await bench()
    one.index.apply_devices(rows([1, 2]))
    one.gateway.script = lambda batch: batch.outcomes.fill(code if batch.credential_id == 7 else ACCEPTED.code)
    one.gateway.gate.clear()
    one.release(notification(1), [1, 2])
    await one.until(lambda: one.gateway.in_flight == 2)
    one.keyring.id = following
    one.fanout.credentials_changed()
    one.gateway.gate.set()
    await one.done(1)
    assert one.store.codes(1) == {NO_CREDENTIAL.code if following is None else ACCEPTED.code: 2}
    assert not one.keyring.pauses
    assert one.fanout.unsettled == 0


@pytest.mark.asyncio
async def test_a_late_refusal_of_the_old_secret_does_not_pause_the_new_one(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.gateway.script = lambda batch: batch.outcomes.fill(REFUSED.code if len(one.gateway.batches) == 1 else 1)
    one.gateway.gate.clear()
    one.release(notification(1), [1])
    await one.until(lambda: one.gateway.in_flight == 1)
    one.keyring.secrets.clear()
    one.fanout.credentials_changed()
    one.gateway.gate.set()
    await one.done(1)
    assert not one.keyring.pauses
    assert one.store.codes(1) == {ACCEPTED.code: 1}


@pytest.mark.asyncio
async def test_a_refusal_after_a_cancel_ends_the_rows_instead_of_keeping_them(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.gateway.script = lambda batch: batch.outcomes.fill(REFUSED.code)
    one.gateway.gate.clear()
    one.release(notification(1), [1])
    await one.until(lambda: one.gateway.in_flight == 1)
    one.fanout.cancel(1)
    one.gateway.gate.set()
    await one.done(1)
    assert one.store.codes(1) == {CANCELLED.code: 1}


@pytest.mark.asyncio
async def test_messages_behind_a_paused_credential_expire_there(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.keyring.paused[7, None] = True
    one.release(notification(1, ttl_s=1), [1])
    await one.done(1)
    assert one.store.codes(1) == {EXPIRED.code: 1}


@pytest.mark.asyncio
async def test_now_or_never_is_never_behind_a_paused_credential(bench):
    one = await bench()
    one.index.apply_devices(rows([1]))
    one.keyring.paused[7, None] = True
    one.release(notification(1, ttl_s=0), [1])
    await one.done(1)
    assert one.store.codes(1) == {EXPIRED.code: 1}


@pytest.mark.asyncio
async def test_messages_expire_while_their_gateway_rests(bench):
    one = await bench(unprocessed_pause_s=60.0, retry_cap_s=60.0)
    one.index.apply_devices(rows([1]))
    one.gateway.script = lambda batch: batch.outcomes.fill(NOT_WRITTEN.code)
    one.release(notification(1, ttl_s=1), [1])
    await one.done(1)
    assert one.store.codes(1) == {EXPIRED.code: 1}


@pytest.mark.asyncio
async def test_a50_dead_tokens_are_retired_with_revision_and_time(bench):
    one = await bench()
    one.index.apply_devices(rows(range(1, 101), revision=3))

    def some_are_gone(batch):
        accept_all(batch)
        gone = batch.ids % 10 == 0
        batch.outcomes[gone] = GONE.code
        batch.invalid_since.update({int(row): 1_000 + int(batch.ids[row]) for row in np.flatnonzero(gone)})

    one.gateway.script = some_are_gone
    one.release(notification(1), range(1, 101))
    await one.done(1)
    (retirement,) = one.store.retired
    assert retirement.ids.tolist() == list(range(10, 101, 10))
    assert retirement.revisions.tolist() == [3] * 10
    assert retirement.at_ms.tolist() == list(range(10, 101, 10)), "a second is left for clocks that differ"
    assert retirement.reason == "gone"


@pytest.mark.asyncio
async def test_x23_when_every_token_looks_dead_none_is_retired(bench):
    one = await bench(batch_rows_max=500)
    one.index.apply_devices(rows(range(1, 2_001)))
    one.gateway.script = lambda batch: batch.outcomes.fill(GONE.code)
    one.release(notification(1), range(1, 2_001))
    await one.done(1)
    assert one.store.codes(1) == {GONE.code: 2_000}, "they are still counted"
    assert not one.store.retired


@pytest.mark.asyncio
async def test_g04_channels_and_devices_are_judged_apart(bench):
    one = await bench(batch_rows_max=500)
    one.index.apply_devices(rows(range(1, 101)))
    one.index.apply_devices(rows(range(201, 231), kind=Kind.APNS_CHANNEL, route_id=7))

    def channels_are_gone(batch):
        channels = batch.route.kind is Kind.APNS_CHANNEL
        batch.outcomes[:] = np.where((batch.ids == 1) | channels, GONE.code, ACCEPTED.code)

    one.gateway.script = channels_are_gone
    update = Message(push_type=PushType.CHANNEL, live_activity=LiveActivity(event="update", content_state={}))
    broadcast = notification(1)
    one.release(msgspec.structs.replace(broadcast, send=Send(audience=Broadcast(), message=update)), range(201, 231))
    await one.done(1)
    assert one.store.codes(1) == {GONE.code: 30}
    assert not one.store.retired, "thirty channels and none alive: that is a wrong bundle or environment"
    one.release(notification(2), range(1, 101))
    await one.done(2)
    (retirement,) = one.store.retired
    assert retirement.ids.tolist() == [1], "what is said of channels keeps no dead device"


def test_g04_the_breaker_opens_on_share_or_without_proof_and_closes_again():
    breaker = RetireBreaker(FanoutConfig())
    breaker.seen(0.0, dead=9, accepted=0)
    assert not breaker.open, "a handful proves nothing"
    breaker.seen(1.0, dead=1, accepted=0)
    assert breaker.open, "ten dead and none accepted"
    breaker.seen(2.0, dead=0, accepted=5)
    assert not breaker.open
    breaker.seen(3.0, dead=200, accepted=100)
    assert breaker.open, "two thirds are dead"
    breaker.seen(400.0, dead=1, accepted=10)
    assert not breaker.open, "the window has passed"


def test_g05_backoff_is_full_jitter_within_its_cap():
    config = FanoutConfig(retry_base_s=1.0, retry_cap_s=60.0)
    backoff = Backoff(config, random.Random(3))
    for attempt, ceiling in ((1, 1), (2, 2), (4, 8), (20, 60)):
        delays = [backoff.delay(attempt) for _ in range(500)]
        assert 0 <= min(delays) < ceiling * 0.05
        assert ceiling * 0.95 < max(delays) <= ceiling
    assert 10 <= backoff.delay(1, 10.0) <= 11
    assert backoff.delay(1, 1e9) <= config.retry_after_max_s + 1
    assert backoff.delay(1, -5.0) <= 1
    assert backoff.pause(0.0) == config.unprocessed_pause_s
    assert backoff.pause(50.0) == 60.0


def test_windows_do_not_grow_with_the_rate_of_what_they_count():
    config = FanoutConfig()
    budget, breaker = Budget(config), RetireBreaker(config)
    for step in range(10_000):
        budget.sent(1, step / 1_000)
        budget.grant(1, step / 1_000)
        breaker.seen(step / 1_000, dead=0, accepted=1)
    assert len(budget._first) <= 11
    assert len(budget._again) <= 11
    assert len(breaker._window) <= 3
    assert not budget.idle(10.0)
    assert not breaker.idle(10.0)
    assert budget.idle(80.0)
    assert breaker.idle(400.0)


def test_g06_retries_stay_within_a_share_of_first_attempts():
    budget = Budget(FanoutConfig(retry_budget_ratio=0.1, retry_budget_min=10, retry_budget_window_s=60))
    assert budget.grant(25, 0.0) == 10, "a small sender retries at all"
    budget.sent(1_000, 1.0)
    assert budget.grant(500, 2.0) == 90
    assert budget.grant(1, 3.0) == 0
    assert budget.grant(5, 60.5) == 5, "the first grants have left the window"
    assert budget.grant(500, 200.0) == 10


@pytest.mark.asyncio
async def test_g06_the_budget_defers_and_does_not_drop(bench):
    one = await bench(retry_budget_min=5, retry_budget_max=5, retry_budget_window_s=0.2)
    one.index.apply_devices(rows(range(1, 41)))
    one.gateway.script = once(DOWN.code)
    one.release(notification(1), range(1, 41))
    await one.done(1)
    assert one.store.codes(1) == {ACCEPTED.code: 40}
    assert max(len(batch) for batch in one.gateway.batches if batch.attempt == 2) <= 5


@pytest.mark.asyncio
async def test_g06_the_budget_outlives_its_outlet_and_everything_idle_is_forgotten(bench, monkeypatch):
    monkeypatch.setattr("pushd.fanout.dispatcher.SWEEP_S", 0.01)
    one = await bench(retry_budget_min=5, retry_budget_window_s=0.5, retire_breaker_window_s=0.5)
    one.index.apply_devices(rows(range(1, 11)))
    one.gateway.script = lambda batch: batch.outcomes.fill(NOT_WRITTEN.code if len(one.gateway.batches) == 1 else 1)
    one.release(notification(1), range(1, 11))
    await one.done(1)
    dispatcher = one.fanout._dispatcher
    await one.until(lambda: not list(dispatcher.lanes))
    assert dispatcher._budgets, "what was sent a moment ago still counts"
    await one.until(lambda: not dispatcher._budgets and not dispatcher._harvester.breakers)
