"""The FCM gateway end to end: bodies, streams, tokens of any length, topics, proofs, pace, and X-01 to X-19."""

import asyncio
import functools
import socket

import numpy as np
import orjson
import pytest

from protocols.fcm import Target
from protocols.http2 import ConnectionSettings
from pushd.batch import Bodies, Lane, Rendered
from pushd.gateways import fcm_exchange, fcm_forms
from pushd.outcome import Outcome
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import (
    Answer,
    Close,
    Goaway,
    IgnorePing,
    LateSettings,
    Mute,
    Reset,
    Settings,
    Silence,
    Step,
    Window,
)
from pushd.simulator.fcm_oauth import Script
from pushd.transport.resolve import Address
from tests.pushd.gateways.apns_world import SILENCE_S, until
from tests.pushd.gateways.fcm_world import PAYLOAD, token

pytestmark = pytest.mark.asyncio


async def test_f10_every_row_goes_to_its_own_token_with_the_shared_message(fcm_world):
    async with fcm_world() as w:
        assert w.reasons(await w.send(1_000)) == {"accepted": 1_000}
        assert w.simulator.accepted == {token(number): 1 for number in range(1, 1_001)}
        for push in w.simulator.pushes:
            assert {key: push.content[key] for key in ("android", "notification")} == orjson.loads(PAYLOAD.payload)
            assert push.headers["content-type"] == "application/json"
            assert push.headers[":path"] == "/v1/projects/pushd-demo/messages:send"
        assert not w.record.violation_kinds
        assert w.oauth.requests == 1


async def test_tokens_of_many_lengths_in_one_batch(fcm_world):
    async with fcm_world() as w:
        tokens = [f"t{number:030}" + "x" * (number % 7 * 20) for number in range(300)]
        batch = await w.send(300, tokens=np.array([each.encode() for each in tokens]))
        assert w.reasons(batch) == {"accepted": 300}
        assert set(w.simulator.accepted) == set(tokens)


async def test_messages_that_differ_go_out_as_matrices_filled_up_with_blanks(fcm_world):
    async with fcm_world() as w:
        shared = Rendered(payload=b"", headers=(fcm_forms.TTL_FOLLOWS,), expires_at=int(w.clock.now()) + 100)
        texts = ["x" * (number * 7 % 300) for number in range(499)] + ["y" * 3_000]
        bodies = [b'{"android":{"ttl":"9000s"},"data":{"n":"%b"}}' % text.encode() for text in texts]
        tokens = [f"t{number:030}" + "x" * (number % 3 * 20) for number in range(500)]
        batch = await w.send(500, payloads=Bodies(bodies, shared), tokens=np.array([each.encode() for each in tokens]))
        assert w.reasons(batch) == {"accepted": 500}
        seen = {push.target: push.content for push in w.simulator.pushes}
        assert {seen[token]["data"]["n"]: number for number, token in enumerate(tokens)} == {
            text: number for number, text in enumerate(texts)
        }
        assert {int(content["android"]["ttl"].removesuffix("s")) for content in seen.values()} <= set(range(95, 101))
        assert not w.record.violation_kinds


async def test_each_row_its_own_message_and_its_own_life(fcm_world):
    async with fcm_world() as w:
        headers = (fcm_forms.TTL_FOLLOWS,)
        expires_at = int(w.clock.now()) + 100
        payloads = [
            Rendered(
                payload=b'{"android":{"ttl":"9000s"},"data":{"n":"%d"}}' % number,
                headers=headers,
                expires_at=expires_at,
            )
            for number in range(40)
        ]
        assert w.reasons(await w.send(40, payloads=payloads)) == {"accepted": 40}
        seen = {push.target: push.content for push in w.simulator.pushes}
        for number in range(40):
            content = seen[token(number + 1)]
            assert content["data"] == {"n": str(number)}
            assert 95 <= int(content["android"]["ttl"].removesuffix("s")) <= 100


async def test_tokens_that_could_never_be_one_are_not_sent(fcm_world):
    async with fcm_world() as w:
        for rows in (3, 20):
            tokens = [token(number).encode() for number in range(rows)]
            tokens[1] = b'x"},"topic":"all'
            batch = await w.send(rows, tokens=np.array(tokens))
            assert w.reason(batch, 1) == "INVALID_TOKEN_CONFIRMED"
            assert w.reasons(batch)["accepted"] == rows - 1
        assert all(push.kind == "token" for push in w.simulator.pushes)


async def test_a69_lanes_have_links_of_their_own(fcm_world):
    async with fcm_world() as w:
        await w.send(1)
        w.fault(Silence())
        bulk = asyncio.create_task(w.send(1_500, 100))
        await until(lambda: sum(link.requests for link in w.record.connections) > 150)
        w.simulator.faults.clear()
        assert w.reasons(await w.send(1, lane=Lane.TRANSACTIONAL)) == {"accepted": 1}
        assert not bulk.done()
        bulk.cancel()


async def test_f11_topics_and_conditions(fcm_world):
    async with fcm_world() as w:
        published = await w.gateway.publish(1, Target("topic", "news"), PAYLOAD)
        assert published.reason.name == "accepted"
        condition = "'a' in topics && !('b' in topics)"
        assert (await w.gateway.publish(1, Target("condition", condition), PAYLOAD)).reason.name == "accepted"
        assert [(push.kind, push.target) for push in w.simulator.pushes] == [
            ("topic", "news"),
            ("condition", condition),
        ]
        with pytest.raises(ValueError):
            await w.gateway.publish(1, Target("topic", "/topics/x"), PAYLOAD)


async def test_f16_topics_take_half_of_what_tokens_take(fcm_world):
    async with fcm_world() as w:
        large = Rendered(payload=orjson.dumps({"data": {"k": "x" * 2048}}))
        published = await w.gateway.publish(1, Target("topic", "news"), large)
        assert published.reason.name == "payload_too_large"
        assert not w.simulator.requests
        assert w.reasons(await w.send(1, payloads=large)) == {"accepted": 1}


async def test_f17_a_credential_is_proven_without_sending(fcm_world):
    async with fcm_world() as w:
        proof = await w.gateway.prove(None, 1)
        assert (proof.accepted, proof.reason) == (True, "accepted")
        (push,) = w.simulator.pushes
        assert push.dry
        assert not w.simulator.accepted
        w.oauth.accounts.clear()
        w.gateway.drop_credential(1)
        w.oauth.revoke()
        refused = await w.gateway.prove(None, 1)
        assert refused.accepted is not True


async def test_f32_the_quota_of_a_project_holds_and_its_room_says_so(fcm_world):
    async with fcm_world(config={"messages_per_minute": 6_000}) as w:
        assert w.reasons(await w.send(90)) == {"accepted": 90}
        assert w.gateway.room(None, 1, Lane.BULK) <= 45  # a second brings 90
        assert w.gateway.room(None, 2, Lane.BULK) > 5  # not seen yet: the same project, found out at its first batch
        batch = await w.send(90, 500)
        assert set(w.reasons(batch)) <= {"accepted", "paced_by_quota"}
        assert w.outcome(batch, 0) in (Outcome.ACCEPTED, Outcome.UNPROCESSED)
        paced = await w.send(500, 1_000, credential=2)
        assert set(w.reasons(paced)) <= {"accepted", "paced_by_quota"}


async def test_f32_429_slows_the_project_and_it_recovers(fcm_world):
    async with fcm_world(config={"ramp_s": 60.0}) as w:
        await w.send(1)
        before = w.gateway.room(None, 1, Lane.BULK)
        w.fault(Answer(reason="QUOTA_EXCEEDED"), count=1)
        batch = await w.send(1, 2)
        assert w.reasons(batch) == {"QUOTA_EXCEEDED": 1}
        assert batch.retry_after == {0: 60.0}
        assert w.gateway.room(None, 1, Lane.BULK) < before * 0.6
        w.clock.slept_s += 30
        assert w.gateway.room(None, 1, Lane.BULK) >= before


async def test_x01_silence_is_lost_and_its_slot_comes_back(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        await w.send(1)
        w.fault(Silence(), tokens=[token(5)])
        batch = await w.send(10, 2)
        assert w.reasons(batch) == {"accepted": 9, "response_timeout": 1}
        assert w.outcome(batch, 3) is Outcome.LOST
        assert w.reasons(await w.send(20, 100)) == {"accepted": 20}
        assert w.at_rest()


async def test_f18_f31_what_may_have_been_taken_or_failed_is_repeated_by_no_one_here(fcm_world):
    """FCM knows no idempotency key: whether to repeat is the message's policy, and not before Google's ten seconds."""
    async with fcm_world(bulk_links=1, server_errors_max=100) as w:
        await w.send(1)
        w.fault(Silence(), tokens=[token(3)], count=1)  # a second time each would be accepted
        w.fault(Answer(reason="INTERNAL"), tokens=[token(4)], count=1)
        w.fault(Answer(reason="UNAVAILABLE", retry_after="7"), tokens=[token(5)], count=1)
        batch = await w.send(10, 2)
        assert [w.outcome(batch, row) for row in (1, 2, 3)] == [Outcome.LOST, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE]
        assert batch.retry_after == {2: 10.0, 3: 7.0}


async def test_x02_a_black_hole_costs_one_connection_and_no_row(fcm_world):
    async with fcm_world(bulk_links=1, response_timeout_s=SILENCE_S, ping_after_s=1.0, ping_timeout_s=1.0) as w:
        await w.send(1)
        w.fault(Mute(), tokens=[token(100)], count=1)
        w.fault(IgnorePing(), tokens=[token(99)], count=1)
        batch = await w.send(1_000, 2)
        assert set(w.reasons(batch)) <= {
            "accepted",
            "connection_lost",
            "response_timeout",
            "not_written",
            "no_connection",
        }
        assert w.at_rest()
        assert w.reasons(await w.send(5, 5_000)) == {"accepted": 5}
        assert not any(count > 1 for count in w.simulator.accepted.values())


async def test_x03_stream_limits_that_move_are_obeyed(fcm_world):
    steps = [Step(after_ms=15, max_concurrent_streams=limit) for limit in (1000, 1, 0, 500)]
    async with fcm_world(Behaviour(streams_max=1, streams_before_token=1, latency_ms=2), bulk_links=1) as w:
        w.fault(Settings(steps=steps), at="connect")
        assert set(w.reasons(await w.send(600))) <= {"accepted", "refused_stream"}
        assert not w.record.violation_kinds


async def test_f10_googles_hundred_streams_are_obeyed(fcm_world):
    async with fcm_world(Behaviour(streams_max=100, streams_before_token=100, latency_ms=3)) as w:
        assert w.reasons(await w.send(1_000)) == {"accepted": 1_000}
        assert max(link.open_streams_peak for link in w.record.connections) <= 100
        assert not w.record.violation_kinds


async def test_x04_late_settings_get_one_stream_at_most(fcm_world):
    async with fcm_world(settings_timeout_s=1.5, bulk_links=1) as w:
        w.fault(LateSettings(delay_ms=300), at="connect", count=1)
        assert w.reasons(await w.send(50)) == {"accepted": 50}
        assert not w.record.violation_kinds


async def test_x05_refused_streams_are_free(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        w.fault(Reset(code=7, twice=True), rate=0.3)
        batch = await w.send(400)
        reasons = w.reasons(batch)
        assert set(reasons) == {"accepted", "refused_stream"}
        assert w.gateway.reasons.by_code[3].outcome is Outcome.UNPROCESSED
        assert sum(w.simulator.accepted.values()) == reasons["accepted"]


@pytest.mark.parametrize("debug", ["text", "empty", "binary", "large", "json"])
async def test_x06_x08_goaway_in_every_form(fcm_world, debug):
    async with fcm_world(bulk_links=1) as w:
        await w.send(1)
        w.fault(Goaway(last="before", warn_ms=10, debug=debug, close_after_ms=50), tokens=[token(20)], count=1)
        batch = await w.send(40, 2)
        assert set(w.reasons(batch)) <= {"accepted", "above_goaway", "connection_lost", "not_written"}
        assert w.reasons(await w.send(5, 100)) == {"accepted": 5}
        assert not any(count > 1 for count in w.simulator.accepted.values())


async def test_x07_goaway_at_once_makes_no_connect_storm(fcm_world):
    async with fcm_world(queue_timeout_s=0.8, connect_backoff_base_s=0.1, connect_backoff_cap_s=2.0) as w:
        w.fault(Goaway(last="none", close_after_ms=0), at="connect")
        batch = await w.send(50)
        assert set(w.reasons(batch)) <= {"above_goaway", "no_connection", "not_written", "connection_lost"}
        assert w.record.connections_total <= 6


async def test_x09_goaway_without_close_ends_at_the_drain_deadline(fcm_world):
    async with fcm_world(bulk_links=1, drain_timeout_s=1.0) as w:
        await w.send(1)
        w.fault(Silence(), tokens=[token(2)])
        silent = asyncio.create_task(w.send(1, 2))
        await until(lambda: w.record.connections[0].requests == 2)
        w.fault(Goaway(last="max", close_after_ms=None), tokens=[token(3)])
        await w.send(1, 3)
        assert w.reasons(await silent) == {"connection_lost": 1}


async def test_x14_windows_that_open_late_are_waited_for(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        window = Window(initial_window_size=0, stream_credit=100, stream_credit_after_ms=100, hold_ms=200)
        w.fault(window, at="connect", count=1)
        w.fault(Settings(steps=[Step(after_ms=400, initial_window_size=65_535)]), at="connect", count=1)
        assert w.reasons(await w.send(300)) == {"accepted": 300}
        assert not w.record.violation_kinds


async def test_x12_answers_are_matched_by_stream_whatever_they_name(fcm_world):
    async with fcm_world(Behaviour(latency_ms=2, streams_max=1000, streams_before_token=1000)) as w:
        w.fault(Answer(status=200, body='{"name":"projects/other/messages/0"}'), rate=0.3)
        w.fault(Answer(reason="UNREGISTERED"), tokens=[token(40)])
        batch = await w.send(100)
        assert w.reasons(batch) == {"accepted": 99, "UNREGISTERED": 1}
        assert w.reason(batch, 39) == "UNREGISTERED"


async def test_x15_stream_ids_run_out_without_loss(fcm_world, monkeypatch):
    near = functools.partial(ConnectionSettings, first_stream_id=2**31 - 401, spare_streams=100)
    monkeypatch.setattr(fcm_exchange, "ConnectionSettings", near)
    async with fcm_world(bulk_links=1) as w:
        batches = await asyncio.gather(*(w.send(100, 1 + 100 * part) for part in range(6)))
        assert all(w.reasons(batch) == {"accepted": 100} for batch in batches)
        assert w.record.connections_total >= 3
        assert set(w.simulator.accepted.values()) == {1}


async def test_x16_a_200_before_the_body_is_an_acceptance(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        w.fault(Answer(early=True, status=200))
        assert w.reasons(await w.send(30)) == {"accepted": 30}
        assert not w.record.violation_kinds


async def test_x17_half_of_the_senders_cancel(fcm_world):
    async with fcm_world(Behaviour(latency_ms=5, streams_max=50, streams_before_token=50)) as w:
        batches = [w.batch(30, 1 + 30 * part) for part in range(30)]
        tasks = [asyncio.create_task(w.gateway.send(batch)) for batch in batches]
        for number, task in enumerate(tasks):
            await asyncio.sleep(0.001)
            if number % 2:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(w.reasons(batch) == {"accepted": 30} for batch in batches[::2])
        await until(w.at_rest)
        assert not any(batch.pending for batch in batches)
        assert w.reasons(await w.send(3, 9_000)) == {"accepted": 3}


async def test_x17_cancelling_while_the_login_is_awaited(fcm_world):
    async with fcm_world() as w:
        w.oauth.scripts.append(Script(503, b"", 0.3))
        batch = w.batch(10)
        task = asyncio.create_task(w.gateway.send(batch))
        await asyncio.sleep(0.05)
        assert w.gateway.room(None, 1, Lane.BULK) > 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert w.reasons(batch) == {"not_written": 10}


class _Names:
    def __init__(self, answer):
        self.answer = answer

    async def resolve(self, _host, port):
        if isinstance(self.answer, OSError):
            raise self.answer
        return [Address(socket.AF_INET, host, port) for host in self.answer]


async def test_x19_a_dead_address_among_several_and_a_name_that_is_none(fcm_world):
    async with fcm_world(resolver=_Names(["127.0.0.2", "127.0.0.1"])) as w:
        assert w.reasons(await w.send(10)) == {"accepted": 10}
    async with fcm_world(resolver=_Names(OSError("NXDOMAIN")), queue_timeout_s=1.0) as w:
        assert w.reasons(await w.send(10)) == {"no_connection": 10}


async def test_a65_a_connection_that_ends_loses_what_was_written_and_repeats_nothing(fcm_world):
    async with fcm_world(Behaviour(latency_ms=20, streams_max=50, streams_before_token=50), bulk_links=1) as w:
        await w.send(1)
        w.fault(Close(how="abort"), tokens=[token(30)])
        reasons = w.reasons(await w.send(200, 2))
        assert set(reasons) <= {"accepted", "connection_lost", "not_written"}
        assert 1 <= reasons["connection_lost"] <= 50
        assert not any(count > 1 for count in w.simulator.accepted.values())
