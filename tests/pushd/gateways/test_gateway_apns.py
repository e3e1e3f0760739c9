"""The APNs gateway against the simulator: what arrives, and what comes home."""

import asyncio
import ssl

import numpy as np
import pytest

from protocols import apns
from pushd.batch import Bodies, Lane, Rendered
from pushd.gateways.apns_exchange import OUTCOMES, REASONS
from pushd.model.device import Environment, Kind, Route
from pushd.outcome import VENDOR_CODES_FROM, Outcome
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Answer, LateSettings, Silence
from pushd.simulator.identity import Identity, ProviderKey
from tests.pushd.gateways.apns_world import PAYLOAD, ROUTE, token, until

pytestmark = pytest.mark.asyncio


async def test_a_batch_is_accepted_and_arrives_as_it_should(world):
    async with world() as w:
        batch = await w.send(500)
        assert w.reasons(batch) == {"accepted": 500}
        push = w.record.last(token(5))
        headers = dict(push.headers)
        assert push.apns_id == "00000000-0000-8007-8000-000000000005"
        assert headers["apns-topic"] == "com.example.app"
        assert headers["apns-expiration"] == "0"
        assert "apns-collapse-id" not in headers
        assert push.payload == PAYLOAD.payload
        assert w.record.total == 500
        assert not w.record.violation_kinds
        assert w.at_rest()


async def test_bodies_that_differ_go_out_as_matrices_filled_up_with_blanks(world):
    bodies = [b'{"aps":{"alert":"%d%s"}}' % (number, b"!" * (number * 7 % 300)) for number in range(500)]
    longest = max(map(len, bodies))
    async with world() as w:
        batch = await w.send(500, payloads=Bodies(bodies, PAYLOAD))
        assert w.reasons(batch) == {"accepted": 500}
        assert not w.record.violation_kinds
        for number, body in enumerate(bodies):
            push = w.record.last(token(number + 1))
            assert push.payload.rstrip(b" ") == body
            assert len(body) <= len(push.payload) <= min(longest, len(body) + 64)
            assert push.apns_id == f"00000000-0000-8007-8000-{number + 1:012x}"
        assert dict(w.record.last(token(1)).headers)["apns-topic"] == "com.example.app"
        assert w.at_rest()


async def test_five_hundred_sends_with_five_hundred_payloads_are_one_batch(world):
    payloads = [
        Rendered(
            payload=b'{"aps":{"alert":"%d%s"}}' % (number, b"!" * (number % 90)),
            headers=(
                ("apns-push-type", "background" if number % 3 == 0 else "alert"),
                ("apns-priority", "5" if number % 3 == 0 else "10"),
            ),
            collapse_id=f"c{number}" if number % 2 else None,
            expires_at=2_000_000_000 + (0 if number % 5 else number),
        )
        for number in range(500)
    ]
    async with world() as w:
        batch = await w.send(500, payloads=payloads, notifications=np.arange(1_000, 1_500))
        assert w.reasons(batch) == {"accepted": 500}
        assert not w.record.violation_kinds
        for number in range(500):  # columns where many are alike, one by one where few are
            push = w.record.last(token(number + 1))
            headers = dict(push.headers)
            assert push.payload.rstrip(b" ") == payloads[number].payload
            assert len(push.payload) < len(payloads[number].payload) + 64
            assert headers["apns-push-type"] == dict(payloads[number].headers)["apns-push-type"]
            assert headers["apns-expiration"] == str(payloads[number].expires_at)
            assert headers.get("apns-collapse-id") == (f"c{number}" if number % 2 else None)
            assert push.apns_id == apns.apns_id(1_000 + number, number + 1)


async def test_uniform_batches_carry_collapse_id_and_expiration(world):
    rendered = Rendered(payload=PAYLOAD.payload, headers=PAYLOAD.headers, collapse_id="n-7", expires_at=1_999_999_999)
    async with world() as w:
        await w.send(30, payloads=rendered)
        headers = dict(w.record.last(token(30)).headers)
        assert (headers["apns-collapse-id"], headers["apns-expiration"]) == ("n-7", "1999999999")


async def test_a30_tokens_of_any_length_go_together_and_impossible_ones_never_leave(world):
    async with world() as w:
        batch = w.batch(6)
        batch.tokens = np.array([b"ab" * 32, b"cd" * 50, b"ef" * 32, b"../x", b"", b"abc"])
        await w.gateway.send(batch)
        assert [w.reason(batch, row) for row in range(6)] == ["accepted"] * 3 + ["BadDeviceToken"] * 3
        assert w.record.accepted_tokens() == {"ab" * 32: 1, "cd" * 50: 1, "ef" * 32: 1}


async def test_rows_that_have_an_outcome_are_not_sent(world):
    async with world() as w:
        batch = w.batch(4)
        batch.outcomes[[0, 2]] = 12
        await w.gateway.send(batch)
        assert batch.outcomes.tolist() == [12, 1, 12, 1]
        assert w.record.total == 2
        done = w.batch(2)
        done.settle_pending(12)
        await w.gateway.send(done)


async def test_a32_topic_follows_push_type(world):
    rendered = Rendered(payload=b'{"a":1}', headers=(("apns-push-type", "voip"), ("apns-priority", "10")))
    route = Route(1, Kind.APNS_VOIP, Environment.SANDBOX, "com.example.app")
    async with world() as w:
        batch = await w.send(2, payloads=rendered, route=route)
        assert w.reasons(batch) == {"accepted": 2}
        assert w.record.topics == {"com.example.app.voip": 2}


async def test_a05_environments_credentials_and_lanes_have_links_of_their_own(world):
    sandbox = ROUTE._replace(environment=Environment.SANDBOX)
    async with world(keys=[ProviderKey(), ProviderKey(team_id="OTHERTEAM1", key_id="OTHERKEY01")]) as w:
        await asyncio.gather(
            w.send(3),
            w.send(3, lane=Lane.TRANSACTIONAL),
            w.send(3, route=sandbox),
            w.send(3, credential=2),
        )
        links = list(w.record.connections)
        assert len(links) == len(w.gateway.pools) == 4
        assert {link.requests for link in links} == {3}
        assert not w.record.violation_kinds


async def test_a06_a_dropped_credential_drains_and_opens_anew(world):
    async with world() as w:
        await w.send(5)
        w.gateway.drop_credential(1)
        assert w.gateway.pools == []
        assert w.reasons(await w.send(5)) == {"accepted": 5}
        first, second = w.record.connections
        assert first.ended is not None
        assert second.ended is None


async def test_a06_rows_in_flight_of_a_dropped_credential_are_answered(world):
    async with world(Behaviour(latency_ms=100)) as w:
        await w.send(1)
        going = asyncio.create_task(w.send(50, 2))
        await until(lambda: w.pool.outstanding)
        w.gateway.drop_credential(1)
        assert w.reasons(await going) == {"accepted": 50}


async def test_rows_without_a_usable_credential_are_misconfigured(world):
    async with world() as w:
        batch = await w.send(3, credential=99)
        assert w.reasons(batch) == {"no_credential": 3}


async def test_a60_first_request_alone_until_it_is_accepted(world):
    async with world(Behaviour(streams_before_token=1_000, latency_ms=500)) as w:
        sending = asyncio.create_task(w.send(300))
        await until(lambda: w.record.connections and w.record.connections[0].requests)
        assert max(link.open_streams_peak for link in w.record.connections) == 1
        assert w.reasons(await sending) == {"accepted": 300}
        assert max(link.open_streams_peak for link in w.record.connections) > 1


async def test_a69_load_spreads_over_links(world):
    async with world(Behaviour(streams_max=20, latency_ms=2)) as w:
        await asyncio.gather(*(w.send(200, 1 + 200 * part) for part in range(4)))
        requests = sorted(link.requests for link in w.record.connections)
        assert len(requests) == 2
        assert requests[0] > 200


async def test_room_is_credit(world):
    async with world(Behaviour(streams_max=1_200, latency_ms=50), queue_rows_max=5_000) as w:
        assert w.gateway.room(ROUTE, 1, Lane.BULK) == 2_000
        await asyncio.gather(w.send(600), w.send(600, 601))
        assert w.gateway.room(ROUTE, 1, Lane.BULK) in (3_400, 4_800)  # one link, or two by now
        waiting = [asyncio.create_task(w.send(2_000, 2_000 * part)) for part in (1, 2, 3, 4)]
        await asyncio.sleep(0.01)
        assert w.gateway.room(ROUTE, 1, Lane.BULK) == 0
        for task in waiting:
            await task
        assert not w.record.violation_kinds


async def test_stop_settles_everything(world):
    async with world() as w:
        await w.send(1)
        w.fault(Silence())
        batches = [w.batch(900, 900 * part) for part in range(1, 8)]
        sending = [asyncio.create_task(w.gateway.send(batch)) for batch in batches]
        await until(lambda: sum(link.requests for link in w.record.connections) > 1_000)
        await w.gateway.stop(0.1)
        await asyncio.gather(*sending)
        reasons = sum((w.reasons(batch) for batch in batches), start=w.reasons(w.batch(0)))
        assert set(reasons) == {"daemon_stopped", "not_written"}
        assert reasons["daemon_stopped"] == sum(link.requests for link in w.record.connections) - 1
        late = await w.send(1)
        assert w.reasons(late) == {"not_written": 1}
        assert w.gateway.room(ROUTE, 1, Lane.BULK) == 0


async def test_g03_a_server_that_never_speaks_is_left(world):
    async with world(settings_timeout_s=0.2, queue_timeout_s=1.0) as w:
        w.fault(LateSettings(delay_ms=60_000), at="connect")
        batch = await w.send(3)
        # The one that was written while nothing was known is lost; the others were never written.
        assert set(w.reasons(batch)) <= {"connection_lost", "no_connection", "not_written"}
        assert w.reasons(batch)["connection_lost"] >= 1


@pytest.mark.parametrize("index", range(len(apns.REASONS)))
async def test_every_reason_has_its_code_and_outcome(index):
    row = apns.REASONS[index]
    reason = REASONS.by_code[VENDOR_CODES_FROM + index]
    assert reason.outcome is OUTCOMES[row.verdict]
    assert reason.name == (row.reason or f"status_{row.status}")


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("BadDeviceToken", Outcome.UNREGISTERED),
        ("Unregistered", Outcome.UNREGISTERED),
        ("PayloadTooLarge", Outcome.REJECTED),
        ("TopicDisallowed", Outcome.MISCONFIGURED),
        ("InvalidProviderToken", Outcome.MISCONFIGURED),
        ("TooManyRequests", Outcome.THROTTLED),
        ("TooManyProviderTokenUpdates", Outcome.THROTTLED),
        ("InternalServerError", Outcome.UNAVAILABLE),
        ("ServiceUnavailable", Outcome.UNAVAILABLE),
        ("Shutdown", Outcome.UNAVAILABLE),
        ("ExpiredProviderToken", Outcome.UNAVAILABLE),
        ("NeverHeardOf", Outcome.REJECTED),
    ],
)
async def test_reasons_come_home(world, reason, outcome):
    async with world() as w:
        status = 400 if reason == "NeverHeardOf" else None
        w.fault(Answer(reason=reason, status=status), tokens=[token(2)])
        await w.send(1)
        batch = await w.send(3)
        code = int(batch.outcomes[1])
        assert w.gateway.reasons.outcome(code) is outcome
        assert batch.outcomes[[0, 2]].tolist() == [1, 1]
        assert w.at_rest()


async def test_a02_t15_tls_12_with_a_modern_suite_is_enough(world, tmp_path):
    context = Identity(tmp_path / "simulator").tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with world(tls=context) as w:
        assert w.reasons(await w.send(20)) == {"accepted": 20}


async def test_a02_t15_what_is_older_is_refused(world, tmp_path):
    context = Identity(tmp_path / "simulator").tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-GCM-SHA384")  # RSA key exchange: Appendix A of RFC 9113 forbids it
    async with world(tls=context, queue_timeout_s=1.0) as w:
        assert w.reasons(await w.send(2)) == {"no_connection": 2}
