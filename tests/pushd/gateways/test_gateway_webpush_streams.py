"""Web Push under faults of streams, windows and connections: the X-list, end to end."""

import asyncio
import functools
import random

import numpy as np
import pytest

from protocols.http2 import ConnectionSettings
from pushd.batch import Rendered
from pushd.gateways import webpush_exchange
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import (
    Answer,
    Block,
    Close,
    Goaway,
    LateSettings,
    Mute,
    Reset,
    Settings,
    Silence,
    Step,
    Window,
)
from tests.pushd.gateways.apns_world import SILENCE_S

pytestmark = pytest.mark.asyncio


def behaviour(**rest):
    return Behaviour(**{"streams_max": 100, "streams_before_token": 100, **rest})


async def test_x01_a67_silence_is_timed_out_and_others_are_answered(push_world):
    async with push_world(transport={"bulk_links": 1, "response_timeout_s": SILENCE_S}) as w:
        await w.send(w.tokens(1))
        w.fault(Silence(), 5)
        batch = await w.send(w.tokens(80))
        assert w.reasons(batch) == {"accepted": 79, "response_timeout": 1}
        (link,) = w.service.record.connections
        assert (link.resets, link.pings) == (1, 1)
        assert not w.service.record.violation_kinds


async def test_x02_black_hole(push_world):
    async with push_world(transport={"bulk_links": 1, "ping_after_s": 1.0, "ping_timeout_s": 1.0}) as w:
        await w.send(w.tokens(1))
        w.fault(Mute(), 3)
        batch = await w.send(w.tokens(90, 2))
        reasons = w.reasons(batch)
        assert set(reasons) <= {"accepted", "connection_lost"}
        assert sum(reasons.values()) == 90
        assert w.at_rest()
        w.service.faults.clear()
        assert w.reasons(await w.send(w.tokens(5, 500))) == {"accepted": 5}


async def test_x03_stream_limit_goes_up_and_down(push_world):
    steps = [Step(after_ms=10, max_concurrent_streams=limit) for limit in (100, 1, 0, 50, 3, 40)]
    async with push_world(behaviour=behaviour(latency_ms=3), transport={"bulk_links": 1}) as w:
        w.fault(Settings(steps=steps, repeat=3), count=1)
        batches = await asyncio.gather(*(w.send(w.tokens(200, 1 + part * 200)) for part in range(3)))
        assert all(w.reasons(batch) == {"accepted": 200} for batch in batches)
        assert not w.service.record.violation_kinds


async def test_x04_late_settings(push_world):
    async with push_world(transport={"bulk_links": 1, "settings_timeout_s": 2}) as w:
        w.fault(LateSettings(delay_ms=300), at="connect")
        batch = await w.send(w.tokens(50))
        assert set(w.reasons(batch)) <= {"accepted", "response_timeout"}
        assert "streams_before_settings" not in w.service.record.violation_kinds


async def test_x05_refused_streams_are_not_processed(push_world):
    async with push_world() as w:
        w.fault(Reset(twice=True), rate=0.3)
        batch = await w.send(w.tokens(300))
        reasons = w.reasons(batch)
        assert set(reasons) == {"accepted", "refused_stream"}
        w.service.faults.clear()
        rest = [token for token, code in zip(w.tokens(300), batch.outcomes.tolist(), strict=True) if code != 1]
        assert w.reasons(await w.send(rest)) == {"accepted": len(rest)}
        assert set(w.accepted.values()) == {1}


async def test_x06_goaway_twice_then_close(push_world):
    async with push_world(transport={"bulk_links": 1}) as w:
        await w.send(w.tokens(1, 1_000))
        w.fault(Goaway(last="seen", warn_ms=20, close_after_ms=100), count=1)
        batches = await asyncio.gather(*(w.send(w.tokens(50, 1 + 50 * part)) for part in range(6)))
        reasons = sum((w.reasons(batch) for batch in batches), start=w.reasons(batches[0]) - w.reasons(batches[0]))
        assert set(reasons) <= {"accepted", "above_goaway"}
        assert set(w.accepted.values()) == {1}
        assert "stream_after_goaway" not in w.service.record.violation_kinds


async def test_x07_goaway_at_once_again_and_again_is_no_storm(push_world):
    settings = {"connect_backoff_base_s": 0.1, "connect_backoff_cap_s": 0.4, "queue_timeout_s": 1.0}
    async with push_world(transport=settings) as w:
        w.fault(Goaway(last="none", code=0), at="connect")
        batch = await w.send(w.tokens(10))
        assert set(w.reasons(batch)) <= {"no_connection", "not_written", "above_goaway"}
        assert w.service.record.connections_total < 20


@pytest.mark.parametrize("debug", ["json", "text", "empty", "binary", "large"])
async def test_x08_debug_data(push_world, debug):
    async with push_world() as w:
        w.fault(Goaway(debug=debug, close_after_ms=50), count=1)
        assert set(w.reasons(await w.send(w.tokens(20)))) <= {"accepted", "above_goaway", "connection_lost"}
        assert w.reasons(await w.send(w.tokens(3, 100))) == {"accepted": 3}


async def test_x09_goaway_and_never_close(push_world):
    async with push_world(transport={"bulk_links": 1}) as w:
        w.fault(Silence(), 4)
        w.fault(Goaway(close_after_ms=None), 2, count=1)
        batch = await w.send(w.tokens(10))
        assert set(w.reasons(batch)) <= {"accepted", "above_goaway", "connection_lost", "response_timeout"}
        assert w.at_rest()


async def test_x13_many_rejections_on_one_connection(push_world):
    async with push_world(transport={"bulk_links": 1}) as w:
        w.fault(Answer(status=413, body='{"errno":104,"message":"%s"}' % ("x" * 400)))
        for part in range(5):
            batch = await w.send(w.tokens(400, 1 + 400 * part))
            assert w.reasons(batch) == {"errno_104": 400}
        assert w.service.record.connections_total == 1


async def test_x14_small_windows_are_waited_for(push_world):
    sizes = [Step(initial_window_size=size, after_ms=40) for size in (0, 10, 65_535)]
    async with push_world(transport={"bulk_links": 1}) as w:
        w.fault(Settings(steps=sizes, repeat=2), at="connect")
        batch = await w.send(w.tokens(90), payloads=Rendered(payload=bytes(500)))
        assert w.reasons(batch) == {"accepted": 90}
        assert not w.service.record.violation_kinds


async def test_x14_a71_connection_window_is_reserved_for_whole_bodies(push_world):
    async with push_world(transport={"bulk_links": 1}) as w:
        await w.send(w.tokens(1))
        w.fault(Window(hold_ms=300), 2)
        await w.send(w.tokens(1, 2))
        batch = await w.send(w.tokens(100, 3), payloads=Rendered(payload=bytes(3_993)))
        assert w.reasons(batch) == {"accepted": 100}
        assert not w.service.record.violation_kinds


async def test_x15_stream_ids_run_out(push_world, monkeypatch):
    settings = functools.partial(ConnectionSettings, first_stream_id=2**31 - 201, spare_streams=20)
    monkeypatch.setattr(webpush_exchange, "ConnectionSettings", settings)
    async with push_world(transport={"bulk_links": 1}) as w:
        batches = [await w.send(w.tokens(50, 1 + 50 * part)) for part in range(4)]
        assert all(w.reasons(batch) == {"accepted": 50} for batch in batches)
        assert w.service.record.connections_total >= 2


async def test_x16_an_answer_before_the_body_was_read(push_world):
    async with push_world() as w:
        w.fault(Answer(status=201, early=True))
        assert w.reasons(await w.send(w.tokens(30))) == {"accepted": 30}


async def test_x17_half_of_the_callers_go_away(push_world):
    async with push_world(encrypt_workers=1, behaviour=behaviour(latency_ms=5)) as w:
        dice = random.Random(17)
        batches = [w.batch(w.tokens(100, 1 + 100 * part)) for part in range(20)]
        tasks = [asyncio.create_task(w.gateway.send(batch)) for batch in batches]
        for task in tasks[::2]:
            await asyncio.sleep(dice.uniform(0, 0.01))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(100):
            if all(not batch.pending for batch in batches):
                break
            await asyncio.sleep(0.05)
        for part, batch in enumerate(batches):
            allowed = {"accepted", "not_written"} if part % 2 == 0 else {"accepted"}
            assert set(w.reasons(batch)) <= allowed
        assert set(w.accepted.values()) == {1}
        sent = sum(int(np.count_nonzero(batch.outcomes == 1)) for batch in batches)
        assert sum(w.accepted.values()) == sent
        assert w.gateway.room(batches[0].route, 1, batches[0].lane) == 4_000


@pytest.mark.parametrize("how", ["fin", "abort", "mid_frame"])
async def test_x26_cut_connections_lose_only_what_was_written(push_world, how):
    async with push_world(transport={"bulk_links": 1}) as w:
        await w.send(w.tokens(1, 1_000))
        w.fault(Close(how=how), 30, count=1)
        batch = await w.send(w.tokens(60))
        assert set(w.reasons(batch)) <= {"accepted", "connection_lost", "not_written"}
        assert set(w.accepted.values()) == {1}


@pytest.mark.parametrize("block", ["", "80", "be", "3fe1ff", "88ff", "40"])
async def test_x28_hostile_header_blocks(push_world, block):
    async with push_world() as w:
        w.fault(Block(hex=block), 3)
        batch = await w.send(w.tokens(6))
        assert not batch.pending
        w.service.faults.clear()
        assert w.reasons(await w.send(w.tokens(5, 100))) == {"accepted": 5}


async def test_x18_a_wrong_name_and_an_untrusted_chain_are_no_connection(push_world):
    async with push_world(names=("other.example",), ca_file="", transport={"queue_timeout_s": 1.0}) as w:
        assert w.reasons(await w.send(w.tokens(2, http1=True))) in ({"no_connection": 2}, {"endpoint_not_allowed": 2})
