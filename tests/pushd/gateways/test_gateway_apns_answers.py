"""Answers, GOAWAYs and provider tokens: X-07 to X-13, X-20 to X-24 of the fault list, end to end."""

import asyncio
import gc
import time
import weakref
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pushd.outcome import Outcome
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Answer, Close, Goaway, Silence
from pushd.simulator.identity import ProviderKey
from tests.pushd.gateways.apns_world import SILENCE_S, token, until

pytestmark = pytest.mark.asyncio


async def test_x07_goaway_at_once_makes_no_connect_storm(world):
    async with world(queue_timeout_s=0.8, connect_backoff_base_s=0.1, connect_backoff_cap_s=2.0) as w:
        w.fault(Goaway(last="none", close_after_ms=0), at="connect")
        batch = await w.send(50)
        assert set(w.reasons(batch)) <= {"above_goaway", "no_connection", "not_written", "connection_lost"}
        assert w.gateway.reasons.outcome(int(batch.outcomes[-1])) is Outcome.UNPROCESSED
        assert w.record.connections_total <= 6
        assert w.pool.room() <= 32


async def test_a68_connects_per_minute_are_capped_even_where_each_serves(world):
    async with world(bulk_links=1, connects_per_minute_max=4, queue_timeout_s=0.5) as w:
        w.fault(Goaway(last="seen", close_after_ms=0))
        for number in range(1, 10):
            await w.send(1, number)
        assert w.record.connections_total <= 4


@pytest.mark.parametrize("debug", ["text", "empty", "binary", "large", "json"])
async def test_x08_any_debug_data_is_survived(world, debug):
    async with world(bulk_links=1) as w:
        await w.send(1)
        w.fault(Goaway(last="seen", debug=debug, reason="Shutdown", code=0, close_after_ms=20), tokens=[token(2)])
        batch = await w.send(1, 2)
        assert set(w.reasons(batch)) <= {"accepted", "connection_lost"}
        assert w.reasons(await w.send(3, 3)) == {"accepted": 3}


async def test_x09_goaway_without_close_ends_at_the_drain_deadline(world):
    async with world(bulk_links=1, drain_timeout_s=1.0) as w:
        await w.send(1)
        w.fault(Silence(), tokens=[token(2)])
        silent = asyncio.create_task(w.send(1, 2))
        await until(lambda: w.record.connections[0].requests == 2)
        w.fault(Goaway(last="max", close_after_ms=None), tokens=[token(3)])
        await w.send(1, 3)
        assert w.reasons(await silent) == {"connection_lost": 1}, "long before its own deadline"
        await until(lambda: w.simulator.open_connections <= 1)


@pytest.mark.parametrize("framing", ["whole", "headers_only", "bytes", "padded", "empty_frames"])
async def test_x10_x11_bodies_in_any_framing(world, framing):
    async with world() as w:
        action = Answer(
            reason="Unregistered", timestamp=1_700_000_000_000, framing=framing, trailers=framing == "bytes"
        )
        w.fault(action, tokens=[token(2)])
        batch = await w.send(3)
        name = w.reason(batch, 1)
        if framing == "headers_only":
            assert name == "status_410"
        else:
            assert name == "Unregistered"
            assert batch.invalid_since == {1: 1_700_000_000_000}
        assert batch.outcomes[[0, 2]].tolist() == [1, 1]


async def test_x11_html_trailers_and_103(world):
    async with world() as w:
        w.fault(Answer(status=503, html=True), tokens=[token(1)])
        w.fault(Answer(reason="BadTopic", trailers=True), tokens=[token(2)])
        w.fault(Answer(informational=True), tokens=[token(3)])
        w.fault(Answer(reason="PayloadTooLarge", informational=True), tokens=[token(4)])
        w.fault(Answer(status=302, body=""), tokens=[token(5)])
        w.fault(Answer(status=400, body='{"reason": 5, "timestamp": "x"'), tokens=[token(6)])
        batch = await w.send(6)
        names = [w.reason(batch, row) for row in range(6)]
        assert names == ["status_503", "BadTopic", "accepted", "PayloadTooLarge", "status_0", "status_400"] or (
            names[0] == "status_599"
        )
        assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.UNAVAILABLE
        assert w.gateway.reasons.outcome(int(batch.outcomes[4])) is Outcome.UNAVAILABLE


@pytest.mark.parametrize("apns_id", ["missing", "wrong", "same"])
async def test_x12_answers_are_matched_by_stream(world, apns_id):
    async with world() as w:
        w.fault(Answer(apns_id=apns_id))
        w.fault(Answer(reason="Unregistered", apns_id=apns_id), tokens=[token(4)])
        batch = await w.send(20)
        assert w.reasons(batch) == {"accepted": 19, "Unregistered": 1}
        assert w.reason(batch, 3) == "Unregistered"


async def test_x13_x23_thousands_of_rejections_on_one_connection(world):
    async with world(bulk_links=1, response_timeout_s=10, queue_timeout_s=10) as w:
        w.fault(Answer(reason="BadDeviceToken"))
        for part in range(3):
            batch = await w.send(2_000, 1 + part * 2_000)
            assert w.reasons(batch) == {"BadDeviceToken": 2_000}
            assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.UNREGISTERED
            assert not batch.invalid_since
        assert w.record.connections_total == 1


async def test_a51_stream_limits_after_rejections_are_obeyed(world):
    async with world(Behaviour(throttle_on_rejection=True, streams_max=100), bulk_links=1) as w:
        w.fault(Answer(reason="BadDeviceToken"), rate=0.05)
        batch = await w.send(600)
        assert set(w.reasons(batch)) <= {"accepted", "BadDeviceToken", "refused_stream"}
        assert not w.record.violation_kinds


async def test_x22_timestamps_of_410(world):
    past, now = 1_700_000_000_000, time.time() * 1000
    async with world() as w:
        w.fault(Answer(reason="Unregistered", timestamp=past), tokens=[token(1)])
        w.fault(Answer(reason="ExpiredToken", timestamp=past // 1000), tokens=[token(2)])
        w.fault(Answer(reason="Unregistered", timestamp="missing"), tokens=[token(3)])
        w.fault(Answer(reason="Unregistered", timestamp="future"), tokens=[token(4)])
        batch = await w.send(5)
        since = batch.invalid_since
        assert since[0] == past
        assert since[1] == past // 1000 * 1000
        assert abs(since[2] - now) < 5_000
        assert abs(since[3] - now) < 5_000
        assert set(since) == {0, 1, 2, 3}


async def test_x24_retry_after_in_every_form(world):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    old = format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)
    forms = ["0", "5", "86400", date, "-3", "soon", "99999999999999999999", old]
    async with world(server_errors_max=100) as w:
        for number, form in enumerate(forms, 1):
            reason = "TooManyRequests" if number % 2 else "ServiceUnavailable"
            w.fault(Answer(reason=reason, retry_after=form), tokens=[token(number)])
        batch = await w.send(len(forms) + 1)
        waits = batch.retry_after
        assert (waits[0], waits[1], waits[2], waits[4], waits[6], waits[7]) == (0, 5, 86_400, 0, 86_400, 0)
        assert 25 < waits[3] <= 30
        assert set(waits) == {0, 1, 2, 3, 4, 6, 7}


async def test_several_server_errors_in_a_row_replace_the_link(world):
    async with world(bulk_links=1, server_errors_max=5) as w:
        await w.send(1)
        w.fault(Answer(reason="InternalServerError"), count=5)
        assert w.reasons(await w.send(5, 2)) == {"InternalServerError": 5}
        assert w.reasons(await w.send(5, 7)) == {"accepted": 5}
        assert w.record.connections_total == 2


async def test_server_errors_between_acceptances_leave_the_link_alone(world):
    async with world(Behaviour(latency_ms=20), bulk_links=1, server_errors_max=5) as w:
        await w.send(1)
        w.fault(Answer(reason="InternalServerError"), tokens=[token(number) for number in range(2, 1_002, 4)])
        assert w.reasons(await w.send(1_000, 2)) == {"accepted": 750, "InternalServerError": 250}
        assert w.record.connections_total == 1


async def test_a_batch_that_is_home_is_free_without_the_garbage_collector(world):
    async with world() as w:
        await w.send(1)
        gc.disable()
        try:
            batch = await w.send(100, 2)
            outcomes = weakref.ref(batch.outcomes)
            del batch
            for number in range(200, 204):  # a link remembers its last run
                await w.send(1, number)
            assert outcomes() is None
        finally:
            gc.enable()


async def test_a64_shutdown_and_idle_timeout_replace_the_link(world):
    async with world(bulk_links=1) as w:
        for at, reason in enumerate(("Shutdown", "IdleTimeout"), 1):
            await w.send(1, at * 10)
            w.fault(Answer(reason=reason), tokens=[token(at * 10 + 1)])
            assert w.reasons(await w.send(1, at * 10 + 1)) == {reason: 1}
        await w.send(1)
        assert w.record.connections_total == 3


async def test_g07_a_refused_credential_stops_the_pool_at_once(world):
    async with world(Behaviour(latency_ms=20), bulk_links=1) as w:
        w.fault(Answer(reason="InvalidProviderToken"))
        batch = await w.send(2_000)
        assert w.reasons(batch) == {"InvalidProviderToken": 2_000}
        assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.MISCONFIGURED
        assert w.record.total == 1
        assert w.pool.room() <= 32


async def test_a64_a_goaway_can_refuse_the_credential(world):
    async with world(Behaviour(latency_ms=50), bulk_links=1) as w:
        await w.send(1)
        fault = Goaway(last="before", code=0, debug="json", reason="BadCertificateEnvironment", close_after_ms=200)
        w.fault(fault, tokens=[token(100)])
        batch = await w.send(2_000, 2)
        reasons = w.reasons(batch)
        assert reasons["BadCertificateEnvironment"] > 900
        assert set(reasons) <= {"accepted", "BadCertificateEnvironment"}


async def test_one_bad_topic_does_not_stop_the_others(world):
    async with world() as w:
        w.fault(Answer(reason="TopicDisallowed"), tokens=[token(2)])
        batch = await w.send(50)
        assert w.reasons(batch) == {"accepted": 49, "TopicDisallowed": 1}
        assert w.gateway.reasons.by_code[int(batch.outcomes[1])].topic_only
        assert w.record.connections_total <= 2


async def test_a05_an_unrelated_key_gets_a_new_connection(world):
    async with world(bulk_links=1) as w:
        await w.send(1)
        w.fault(Answer(reason="UnrelatedKeyIdInToken"), tokens=[token(2)])
        assert w.reasons(await w.send(1, 2)) == {"UnrelatedKeyIdInToken": 1}
        assert w.reasons(await w.send(1, 3)) == {"accepted": 1}
        assert w.record.connections_total == 2


async def test_a15_too_many_token_updates_drains_and_mints_nothing(world):
    async with world(bulk_links=1) as w:
        await w.send(1)
        w.fault(Answer(reason="TooManyProviderTokenUpdates"), tokens=[token(2)])
        assert w.reasons(await w.send(1, 2)) == {"TooManyProviderTokenUpdates": 1}
        assert w.reasons(await w.send(1, 3)) == {"accepted": 1}
        assert w.record.connections_total == 2
        assert {link.provider_tokens for link in w.record.connections} == {1}


async def test_a13_links_change_token_after_fifty_minutes_and_not_before(world):
    async with world(bulk_links=1, idle_close_s=1e9) as w:
        await w.send(5)
        for _ in range(4):
            w.clock.wall_s += 1_000
            w.clock.slept_s += 1_000
            assert w.reasons(await w.send(5, 10)) == {"accepted": 5}
        (link,) = w.record.connections
        assert link.provider_tokens == 2
        assert not w.record.violation_kinds


async def test_a16_an_expired_token_is_replaced_on_a_new_link(world):
    async with world(bulk_links=1) as w:
        await w.send(1)
        w.clock.wall_s += 1_500
        w.clock.slept_s += 1_500
        w.fault(Answer(reason="ExpiredProviderToken"), count=1)
        assert w.reasons(await w.send(1, 2)) == {"ExpiredProviderToken": 1}
        assert w.reasons(await w.send(1, 3)) == {"accepted": 1}
        assert w.record.connections_total == 2


@pytest.mark.parametrize(("wall_s", "slept_s"), [(7_200, 0), (-7_200, 0), (5_400, 5_400), (5_400, 0)])
async def test_x20_a17_clocks_that_jump(world, wall_s, slept_s):
    async with world(bulk_links=1) as w:
        await w.send(1)
        w.clock.wall_s += wall_s
        w.clock.slept_s += slept_s
        assert w.reasons(await w.send(100, 2)) == {"accepted": 100}
        assert not w.record.violation_kinds
        assert all(link.provider_tokens <= 2 for link in w.record.connections)


async def test_x21_one_token_for_all_links(world, monkeypatch):
    from pushd.credentials import apns_tokens

    signed = []
    original = apns_tokens.jwt.es256
    monkeypatch.setattr(apns_tokens.jwt, "es256", lambda *parts: signed.append(1) or original(*parts))
    async with world(bulk_links=4) as w:
        await asyncio.gather(*(w.send(10, 1 + 10 * part) for part in range(200)))
        assert len(signed) == 1


async def test_a16_silence_on_a_new_link_is_taken_for_an_expired_token(world):
    async with world(bulk_links=1, response_timeout_s=SILENCE_S) as w:
        w.fault(Silence(), count=1)
        assert w.reasons(await w.send(1)) == {"response_timeout": 1}
        assert w.reasons(await w.send(3, 2)) == {"accepted": 3}
        assert w.record.connections_total == 2


@pytest.mark.parametrize("how", ["fin", "abort", "mid_frame"])
async def test_a65_a_connection_that_ends_loses_what_was_written(world, how):
    async with world(Behaviour(latency_ms=20, streams_max=50), bulk_links=1) as w:
        await w.send(1)
        w.fault(Close(how=how), tokens=[token(30)])
        batch = await w.send(200, 2)
        reasons = w.reasons(batch)
        assert set(reasons) <= {"accepted", "connection_lost", "not_written"}
        assert 1 <= reasons["connection_lost"] <= 50
        # No row is repeated by the gateway itself.
        assert not w.record.duplicate_tokens()
        assert w.reasons(await w.send(5, 900)) == {"accepted": 5}


async def test_a18_keys_of_the_other_environment_are_misconfigured(world):
    from pushd.model.device import Environment

    keys = [ProviderKey(key_id="SANDBOXKEY", environments=[Environment.SANDBOX])]
    async with world(keys=keys) as w:
        batch = await w.send(30)
        (name,) = w.reasons(batch)
        assert "Environment" in name
        assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.MISCONFIGURED
