"""Streams and windows: X-01 to X-06 and X-14 to X-17 of the fault list, end to end."""

import asyncio
import functools
import random

import numpy as np
import pytest

from protocols.http2 import ConnectionSettings
from pushd.batch import Rendered
from pushd.gateways import apns_exchange
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Answer, Goaway, LateSettings, Mute, Reset, Settings, Silence, Slow, Step, Window
from tests.pushd.gateways.apns_world import SILENCE_S, token, until

pytestmark = pytest.mark.asyncio


async def test_x01_a67_silence_is_timed_out_and_the_slot_comes_back_by_ping(world):
    async with world(Behaviour(streams_max=1), bulk_links=1, response_timeout_s=SILENCE_S) as w:
        await w.send(1)
        w.fault(Silence(), tokens=[token(2)])
        silent, next_one = await asyncio.gather(w.send(1, 2), w.send(1, 3))
        assert w.reasons(silent) == {"response_timeout": 1}
        assert w.reasons(next_one) == {"accepted": 1}
        (link,) = w.record.connections
        assert (link.resets, link.pings) == (1, 1)
        assert not w.record.violation_kinds


async def test_x01_others_are_answered_while_some_are_silent(world):
    async with world(response_timeout_s=SILENCE_S) as w:
        w.fault(Silence(), token_prefix=f"{5:063x}")
        batch = await w.send(300)
        assert w.reasons(batch) == {"accepted": 284, "response_timeout": 16}
        assert len(w.record.connections) <= 2


async def test_x02_black_hole_is_found_by_ping_and_closed_once(world):
    async with world(bulk_links=1, ping_after_s=1.0, ping_timeout_s=1.0) as w:
        await w.send(1)
        w.fault(Mute(), tokens=[token(3)])
        batch = await w.send(900, 2)
        reasons = w.reasons(batch)
        assert sum(reasons.values()) == 900
        assert set(reasons) <= {"accepted", "connection_lost"}
        assert reasons["connection_lost"] >= 890
        assert w.at_rest()
        assert w.reasons(await w.send(5, 5_000)) == {"accepted": 5}
        assert len(w.record.connections) == 2


async def test_x03_a61_stream_limit_goes_up_and_down(world):
    limits = [1_000, 1, 0, 500, 3, 40]
    steps = [Step(after_ms=20, max_concurrent_streams=limit) for limit in limits]
    async with world(Behaviour(latency_ms=3), bulk_links=1) as w:
        w.fault(Settings(steps=steps, repeat=5), count=1)
        batches = await asyncio.gather(*(w.send(1_000, 1 + part * 1_000) for part in range(4)))
        reasons = sum((w.reasons(batch) for batch in batches), start=w.reasons(w.batch(0)))
        assert reasons == {"accepted": 4_000}
        assert not w.record.violation_kinds
        assert len(w.record.connections) == 1


async def test_x03_a_limit_of_zero_is_waited_out_then_the_link_replaced(world):
    async with world(bulk_links=1, window_timeout_s=0.2, queue_timeout_s=3) as w:
        await w.send(1)
        w.fault(Settings(steps=[Step(max_concurrent_streams=0)]), tokens=[token(2)])
        await w.send(1, 2)
        await asyncio.sleep(0.05)
        assert w.reasons(await w.send(20, 3)) == {"accepted": 20}
        assert len(w.record.connections) == 2
        assert not w.record.violation_kinds


async def test_x04_one_stream_before_the_first_settings(world):
    async with world(bulk_links=1) as w:
        w.fault(LateSettings(delay_ms=1_000), at="connect")
        sending = asyncio.create_task(w.send(50))
        await until(lambda: w.record.connections and w.record.connections[0].requests)
        (link,) = w.record.connections
        assert link.open_streams_peak <= 1
        assert w.reasons(await sending) == {"accepted": 50}
        assert not w.record.violation_kinds


async def test_x05_a62_refused_streams_come_home_unprocessed(world):
    async with world() as w:
        await w.send(1)
        w.fault(Reset(code=7, twice=True), rate=0.3, sticky=True, per_token=1)
        batch = await w.send(1_000, 2)
        reasons = w.reasons(batch)
        assert reasons["refused_stream"] > 200
        assert reasons["refused_stream"] + reasons["accepted"] == 1_000
        refused = batch.ids[batch.outcomes != 1]
        again = w.batch(len(refused))
        again.tokens = np.array([token(number) for number in refused.tolist()], "S64")
        await w.gateway.send(again)
        assert w.reasons(again) == {"accepted": len(refused)}
        assert not w.record.duplicate_tokens()
        assert len(w.record.accepted_tokens()) == 1_001


async def test_other_resets_are_lost(world):
    async with world() as w:
        w.fault(Reset(code=2), tokens=[token(2)])
        w.fault(Reset(code=8, status=200), tokens=[token(3)])
        assert w.reasons(await w.send(4)) == {"accepted": 2, "stream_reset": 2}


async def test_x06_a63_goaway_twice_then_close(world):
    async with world(Behaviour(latency_ms=30), bulk_links=1) as w:
        await w.send(1)
        w.fault(Goaway(last="before", warn_ms=50, close_after_ms=100), tokens=[token(400)])
        batch = await w.send(1_000, 2)
        reasons = w.reasons(batch)
        assert sum(reasons.values()) == 1_000
        assert set(reasons) <= {"accepted", "above_goaway", "connection_lost"}
        # What went home as unprocessed was not processed, what was accepted was accepted once.
        accepted = w.record.accepted_tokens()
        assert not w.record.duplicate_tokens()
        unprocessed = [token(number) for number in batch.ids[batch.outcomes == 4].tolist()]
        assert not set(unprocessed) & set(accepted)
        assert not w.record.violation_kinds
        assert w.reasons(await w.send(10, 2_000)) == {"accepted": 10}


async def test_x06_a_replacement_is_opened_in_parallel(world):
    async with world(Behaviour(latency_ms=5), bulk_links=1) as w:
        await w.send(1)
        w.fault(Slow(latency_ms=3_000), tokens=[token(2)])
        w.fault(Goaway(last="max", close_after_ms=None), tokens=[token(3)])
        slow = asyncio.create_task(w.send(1, 2))
        await until(lambda: w.record.connections[0].requests == 2)
        await w.send(1, 3)
        others = await w.send(200, 10)
        assert w.reasons(others) == {"accepted": 200}
        assert not slow.done()
        assert w.reasons(await slow) == {"accepted": 1}
        assert len(w.record.connections) == 2


async def test_x14_small_windows_are_waited_for(world):
    body = Rendered(payload=b'{"aps":{"alert":"' + b"x" * 500 + b'"}}', headers=(("apns-push-type", "alert"),))
    sizes = [
        Step(initial_window_size=0),
        Step(after_ms=40, initial_window_size=10),
        Step(after_ms=40, initial_window_size=65_535),
    ]
    async with world(bulk_links=1, response_timeout_s=5, ping_after_s=5) as w:
        w.fault(Settings(steps=sizes, repeat=3), at="connect")
        batch = await w.send(200, payloads=body)
        assert w.reasons(batch) == {"accepted": 200}
        assert not w.record.violation_kinds


async def test_x14_a71_connection_window_is_reserved_for_whole_bodies(world):
    body = Rendered(payload=b'{"aps":{"alert":"' + b"x" * 3_000 + b'"}}', headers=(("apns-push-type", "alert"),))
    async with world(bulk_links=1, window_timeout_s=3, queue_timeout_s=3, response_timeout_s=5) as w:
        await w.send(1)
        w.fault(Window(hold_ms=300), tokens=[token(2)])
        await w.send(1, 2)
        batch = await w.send(200, 3, payloads=body)
        assert w.reasons(batch) == {"accepted": 200}
        assert not w.record.violation_kinds


async def test_x14_windows_that_shrink_below_zero(world):
    body = Rendered(payload=b'{"aps":{"alert":"' + b"x" * 2_000 + b'"}}', headers=(("apns-push-type", "alert"),))
    async with world(Behaviour(latency_ms=2), bulk_links=1, response_timeout_s=5, ping_after_s=5) as w:
        await w.send(1)
        w.fault(
            Settings(
                steps=[
                    Step(initial_window_size=1_000),
                    Step(after_ms=5, initial_window_size=10),
                    Step(after_ms=30, initial_window_size=65_535),
                ]
            ),
            tokens=[token(2)],
        )
        batch = await w.send(300, 2, payloads=body)
        assert w.reasons(batch) == {"accepted": 300}
        assert not w.record.violation_kinds


async def test_x15_a73_ids_run_out_without_loss(world, monkeypatch):
    near = functools.partial(ConnectionSettings, first_stream_id=2**31 - 401, spare_streams=100)
    monkeypatch.setattr(apns_exchange, "ConnectionSettings", near)
    async with world(bulk_links=1) as w:
        batches = await asyncio.gather(*(w.send(100, 1 + 100 * part) for part in range(6)))
        assert all(w.reasons(batch) == {"accepted": 100} for batch in batches)
        assert len(w.record.connections) >= 3
        assert not w.record.duplicate_tokens()


async def test_x16_an_answer_before_the_body_was_read_counts(world):
    async with world() as w:
        w.fault(Answer(early=True), tokens=[token(2), token(3)])
        assert w.reasons(await w.send(5)) == {"accepted": 5}


async def test_x17_half_of_the_senders_cancel(world):
    dice = random.Random(17)
    async with world(Behaviour(latency_ms=5, streams_max=30), bulk_links=1) as w:
        batches = [w.batch(20, 1 + 20 * part) for part in range(60)]
        tasks = [asyncio.create_task(w.gateway.send(batch)) for batch in batches]
        doomed = [part for part in range(60) if part % 2]
        await asyncio.sleep(0)  # what is cancelled before its first step never came to the gateway
        for part in doomed:
            asyncio.get_running_loop().call_later(dice.random() * 0.1, tasks[part].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)
        for part, batch in enumerate(batches):
            assert not batch.pending
            assert set(w.reasons(batch)) <= ({"accepted", "not_written"} if part in doomed else {"accepted"})
        assert w.at_rest()
        assert len(w.record.connections) == 1
        accepted = sum(int((batch.outcomes == 1).sum()) for batch in batches)
        assert w.record.total == accepted
        assert w.reasons(await w.send(10, 9_000)) == {"accepted": 10}


async def test_a67_a_peer_that_confirms_no_reset_is_left(world):
    async with world(bulk_links=1, response_timeout_s=1.0, ping_timeout_s=0.5) as w:
        await w.send(1)
        w.fault(Mute(), tokens=[token(2)])
        lost = await w.send(1, 2)
        assert w.reasons(lost) == {"response_timeout": 1}
        await until(lambda: w.record.connections[0].ended is not None)
        assert w.reasons(await w.send(3, 6)) == {"accepted": 3}
        assert len(w.record.connections) == 2
