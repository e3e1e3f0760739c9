"""The pace of an FCM project: ramp, halving, climbing back, the part kept for passwords."""

import asyncio

import pytest

from pushd.batch import Lane
from pushd.clock import SystemClock
from pushd.config.fcm import FcmConfig
from pushd.gateways.fcm_quota import Quota, Quotas

pytestmark = pytest.mark.asyncio


class FakeClock(SystemClock):
    def __init__(self):
        self.at = 1_000.0

    def monotonic(self):
        return self.at


def quota(**settings):
    clock = FakeClock()
    return clock, Quota(clock, FcmConfig(**settings))


async def spend(clock, bucket, seconds, step_s=0.1):
    """Messages sent while everything that may go goes."""
    sent = 0
    for _ in range(int(seconds / step_s)):
        clock.at += step_s
        if rows := bucket.room(Lane.BULK):
            assert await bucket.take(rows, Lane.BULK, 0)
            sent += rows
    return sent


async def test_f32_ninety_per_cent_of_the_quota_and_no_more():
    clock, bucket = quota(ramp_s=0)
    await spend(clock, bucket, 5)
    sent = await spend(clock, bucket, 60)
    assert 530_000 <= sent <= 541_000


async def test_f33_a_project_begins_low_and_rises_over_a_minute():
    clock, bucket = quota()
    assert bucket.rate == pytest.approx(900)
    first = await spend(clock, bucket, 10)
    await spend(clock, bucket, 40)
    assert bucket.rate < 9_000
    await spend(clock, bucket, 20)
    assert bucket.rate == pytest.approx(9_000)
    assert first < 25_000
    clock.at += 120
    assert bucket.room(Lane.BULK) <= 900


async def test_f32_a_refusal_halves_the_rate_once_per_round_and_it_climbs_back():
    clock, bucket = quota()
    await spend(clock, bucket, 70)
    for _ in range(500):
        bucket.exceeded(None)
    assert bucket.rate == pytest.approx(4_500)
    clock.at += 1.5
    bucket.exceeded(None)
    assert bucket.rate < 2_500
    await spend(clock, bucket, 61)
    assert bucket.rate == pytest.approx(9_000)


async def test_f32_however_often_it_is_refused_a_project_goes_on_trying():
    clock, bucket = quota()
    for _ in range(100):
        clock.at += 1.1
        bucket.exceeded(None)
    assert bucket.rate >= 89
    clock.at += 1
    assert bucket.room(Lane.BULK) > 0


async def test_a_retry_after_stops_the_project_for_a_while():
    clock, bucket = quota(ramp_s=0)
    bucket.exceeded(5.0)
    clock.at += 4.9
    assert bucket.room(Lane.TRANSACTIONAL) == 0
    clock.at += 0.2
    assert bucket.room(Lane.TRANSACTIONAL) > 0
    bucket.exceeded(86_400.0)
    clock.at += 61
    assert bucket.room(Lane.BULK) > 0


async def test_bulk_leaves_room_for_passwords():
    _, bucket = quota(ramp_s=0)
    assert await bucket.take(bucket.room(Lane.BULK), Lane.BULK, 0)
    assert bucket.room(Lane.BULK) == 0
    assert bucket.room(Lane.TRANSACTIONAL) >= 890
    assert not await bucket.take(1, Lane.BULK, 0)
    assert bucket.room(Lane.DOUBTFUL) == 0, "a campaign of bad tokens is a campaign"
    assert await bucket.take(1, Lane.TRANSACTIONAL, 0)


async def test_a_batch_beyond_the_bucket_goes_into_debt_that_the_next_one_waits_for():
    clock, bucket = quota(ramp_s=0)
    assert await bucket.take(20_000, Lane.BULK, 0)
    clock.at += 1
    assert not await bucket.take(1, Lane.TRANSACTIONAL, 0)
    clock.at += 0.5
    assert await bucket.take(1, Lane.TRANSACTIONAL, 0)


async def test_who_waits_gets_a_turn():
    clock, bucket = quota(ramp_s=0)
    await bucket.take(12_000, Lane.BULK, 0)
    waiting = asyncio.create_task(bucket.take(10, Lane.BULK, 5.0))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    clock.at += 2
    assert await asyncio.wait_for(waiting, 60)


async def test_one_quota_per_project():
    quotas = Quotas(FakeClock(), FcmConfig())
    assert quotas.of("demo-app") is quotas.of("demo-app")
    assert quotas.of("demo-app") is not quotas.of("other-app")
