"""FCM's answers end to end: the error table, doubtful tokens, logins, Retry-After; X-10 to X-13 and X-18 to X-25."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import orjson
import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pushd.batch import Bodies, Lane, Rendered
from pushd.outcome import Outcome
from pushd.simulator.faults import Answer
from pushd.simulator.fcm_oauth import Script
from pushd.simulator.fcm_rules import refusal
from pushd.transport.pool import ROOM_MIN
from tests.pushd.gateways.apns_world import until
from tests.pushd.gateways.fcm_world import token

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("framing", ["whole", "headers_only", "bytes", "padded", "empty_frames"])
async def test_x10_x11_bodies_in_any_framing(fcm_world, framing):
    async with fcm_world() as w:
        w.fault(Answer(reason="UNREGISTERED", framing=framing, trailers=framing == "bytes"), tokens=[token(2)])
        batch = await w.send(3)
        if framing == "headers_only":  # a 404 without FcmError is no word about a token
            assert w.reason(batch, 1) == "status_404"
            assert w.outcome(batch, 1) is Outcome.MISCONFIGURED
        else:
            assert w.reason(batch, 1) == "UNREGISTERED"
            assert w.outcome(batch, 1) is Outcome.UNREGISTERED
            assert batch.outcomes[[0, 2]].tolist() == [1, 1]


async def test_x11_html_trailers_and_103(fcm_world):
    async with fcm_world() as w:
        w.fault(Answer(status=502, html=True), tokens=[token(1)])
        w.fault(Answer(reason="SENDER_ID_MISMATCH", trailers=True), tokens=[token(2)])
        w.fault(Answer(informational=True), tokens=[token(3)])
        w.fault(Answer(status=302, body=""), tokens=[token(4)])
        w.fault(Answer(status=400, body='{"error": {"details": 5'), tokens=[token(5)])
        batch = await w.send(6)
        names = [w.reason(batch, row) for row in range(6)]
        assert names == ["status_599", "SENDER_ID_MISMATCH", "accepted", "status_0", "status_400", "accepted"]
        assert [w.outcome(batch, row).name for row in (0, 1, 3, 4)] == [
            "UNAVAILABLE",
            "UNREGISTERED",
            "UNAVAILABLE",
            "REJECTED",
        ]


async def test_x13_x23_thousands_of_dead_tokens_on_one_connection(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        w.fault(Answer(reason="UNREGISTERED"))
        assert w.reasons(await w.send(1_500)) == {"UNREGISTERED": 1_500}
        assert w.record.connections_total == 1


async def test_x23_a_404_without_fcm_error_pauses_and_ends_no_token(fcm_world):
    async with fcm_world() as w:
        other = msgspec.structs.replace(w.credentials.secrets[1], project_id="other-project")
        w.credentials.secrets[1] = other
        batch = await w.send(50)
        assert w.reasons(batch) == {"NOT_FOUND": 50}
        assert w.outcome(batch) is Outcome.MISCONFIGURED
        assert w.simulator.requests == 1
        assert not batch.invalid_since


async def test_f01_an_account_of_another_project_is_refused(fcm_world):
    async with fcm_world() as w:
        w.oauth.account("second-project")
        try:
            secret = msgspec.structs.replace(w.credentials.secrets[1], project_id="second-project")
            w.credentials.secrets[3] = secret
            batch = await w.send(10, credential=3)
            assert w.reasons(batch) == {"PERMISSION_DENIED": 10}
            assert (await w.gateway.prove(None, 3)).accepted is False
        finally:
            w.oauth.accounts.pop("pushd@second-project.iam.gserviceaccount.com")


async def test_a_token_that_is_none_is_asked_about_before_it_is_given_up(fcm_world):
    async with fcm_world() as w:
        w.fault(Answer(reason="INVALID_ARGUMENT"), tokens=[token(2)])
        batch = await w.send(1, 2)
        assert w.reasons(batch) == {"INVALID_TOKEN_CONFIRMED": 1}
        assert w.outcome(batch) is Outcome.UNREGISTERED
        assert w.simulator.requests == 2


async def test_a_token_that_a_sound_message_finds_well_is_kept(fcm_world):
    async with fcm_world() as w:
        w.fault(Answer(reason="INVALID_ARGUMENT"), tokens=[token(2)], count=1)
        batch = await w.send(1, 2)
        assert w.reasons(batch) == {"INVALID_ARGUMENT": 1}
        assert w.outcome(batch) is Outcome.REJECTED
        (push,) = w.simulator.pushes
        assert (push.dry, push.content["token"]) == (True, token(2))
        assert not w.simulator.accepted


async def test_a_message_that_was_taken_before_needs_no_question(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        await w.send(1, 5_000)
        w.fault(Answer(reason="INVALID_ARGUMENT"), tokens=[token(90)])
        batch = await w.send(100)
        assert w.reason(batch, 89) == "INVALID_TOKEN_CONFIRMED"
        assert w.reasons(batch)["accepted"] == 99


async def test_a_message_that_was_taken_says_nothing_of_one_that_differs(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        await w.send(1, 5_000)
        w.fault(Answer(reason="INVALID_ARGUMENT"), tokens=[token(90)], count=1)
        bodies = [b'{"data":{"n":"%03d"}}' % number for number in range(100)]
        batch = await w.send(100, payloads=Bodies(bodies, Rendered(payload=b"")))
        assert w.reason(batch, 89) == "INVALID_ARGUMENT"  # the token was asked about, and is one
        assert w.reasons(batch)["accepted"] == 99


async def test_questions_are_bounded_and_past_that_tokens_are_kept(fcm_world):
    async with fcm_world(config={"probes_max": 5}) as w:
        w.fault(Answer(reason="INVALID_ARGUMENT"))
        batch = await w.send(50)
        reasons = w.reasons(batch)
        assert set(reasons) == {"INVALID_TOKEN", "INVALID_TOKEN_CONFIRMED"}
        assert reasons["INVALID_TOKEN_CONFIRMED"] >= 5
        by_name = {reason.name: reason.outcome for reason in w.gateway.reasons.by_code.values()}
        assert by_name["INVALID_TOKEN"] is Outcome.REJECTED


async def test_no_doubted_row_stays_open_when_the_gateway_stops(fcm_world):
    async with fcm_world() as w:
        await w.send(1)
        w.fault(Answer(reason="INVALID_ARGUMENT"), tokens=[token(2)], count=1)
        w.fault(Answer(reason="INVALID_ARGUMENT", latency_ms=60_000), tokens=[token(2)])
        sending = asyncio.create_task(w.send(1, 2))
        await until(lambda: w.record.connections[0].requests == 3)
        await w.gateway.stop(0.1)
        assert w.reasons(await sending) == {"INVALID_TOKEN": 1}


async def test_a_faulty_field_is_the_messages_fault_and_told_once(fcm_world):
    async with fcm_world() as w:
        wrong = Rendered(payload=b'{"android":{"ttl":"soon"},"data":{"k":"v"}}')
        with structlog.testing.capture_logs() as logs:
            batch = await w.send(30, payloads=wrong)
        assert w.reasons(batch) == {"INVALID_ARGUMENT": 30}
        told = [line for line in logs if line["event"] == "fcm_field_refused"]
        assert [line["field"] for line in told] == ["message.android.ttl"]
        assert w.record.connections_total <= 2


async def test_third_party_refusals_hold_their_rows_alone(fcm_world):
    async with fcm_world() as w:
        w.fault(Answer(reason="THIRD_PARTY_AUTH_ERROR"), token_prefix=token(1)[:-1])
        with structlog.testing.capture_logs() as logs:
            batch = await w.send(20)
        assert w.reasons(batch) == {"accepted": 11, "THIRD_PARTY_AUTH_ERROR": 9}
        assert w.outcome(batch, 0) is Outcome.UNAVAILABLE
        assert set(batch.retry_after.values()) == {900.0}
        assert batch.alone == set(batch.retry_after)
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["fcm_third_party_key_refused"]
        assert w.oauth.requests == 1


async def test_f04_a_refused_access_token_is_replaced_once_for_all(fcm_world):
    async with fcm_world() as w:
        await w.send(10)
        w.oauth.revoke()
        first = await w.send(100, 100)
        assert set(w.reasons(first)) <= {"accepted", "UNAUTHENTICATED"}
        assert w.reasons(first)["UNAUTHENTICATED"] >= 1
        assert w.reasons(await w.send(100, 100)) == {"accepted": 100}
        assert w.oauth.requests == 2
        assert w.record.connections_total <= 2


async def test_f04_a_second_refusal_is_the_accounts_and_pauses(fcm_world):
    async with fcm_world() as w:
        w.fault(Answer(status=401, reason="UNAUTHENTICATED"))
        batch = await w.send(20)
        assert w.reasons(batch) == {"UNAUTHENTICATED": 1, "UNAUTHENTICATED_AGAIN": 19}
        assert (w.outcome(batch, 0), w.outcome(batch, 19)) == (Outcome.UNAVAILABLE, Outcome.MISCONFIGURED)
        assert w.oauth.requests == 2


async def test_x21_two_hundred_batches_and_an_expired_token_make_one_fetch(fcm_world):
    async with fcm_world(config={"oauth_wait_s": 10.0}) as w:
        await w.send(1)
        w.clock.slept_s += 3_700
        w.clock.wall_s += 3_700
        batches = await asyncio.gather(*(w.send(5, 10 + 5 * part) for part in range(200)))
        assert {name for batch in batches for name in w.reasons(batch)} == {"accepted"}
        assert w.oauth.requests == 2


@pytest.mark.parametrize(("wall_s", "slept_s"), [(7_200, 0), (-7_200, 0), (5_400, 0), (5_400, 5_400)])
async def test_x20_clocks_that_jump_and_machines_that_sleep(fcm_world, wall_s, slept_s):
    async with fcm_world() as w:
        await w.send(1)
        w.clock.wall_s += wall_s
        w.clock.slept_s += slept_s
        seen = set()
        for part in range(3):
            seen |= set(w.reasons(await w.send(20, 100 + 20 * part)))
            await asyncio.sleep(0.05)
        assert seen <= {"accepted", "UNAUTHENTICATED"}
        assert w.reasons(await w.send(20, 900)) == {"accepted": 20}


async def test_f05_a_deleted_key_pauses_and_an_outage_of_the_endpoint_does_not(fcm_world):
    async with fcm_world() as w:
        w.oauth.always = Script(400, b'{"error":"invalid_grant"}')
        batch = await w.send(10)
        assert w.reasons(batch) == {"oauth_refused": 10}
        assert w.outcome(batch) is Outcome.MISCONFIGURED
        proof = await w.gateway.prove(None, 1)
        assert (proof.accepted, proof.reason) == (False, "oauth_refused")
        w.oauth.always = Script(503, b"")
        w.gateway.drop_credential(1)
        batch = await w.send(10)
        assert w.reasons(batch) == {"oauth_unavailable": 10}
        assert w.outcome(batch) is Outcome.UNPROCESSED
        assert (await w.gateway.prove(None, 1)).accepted is None
        w.oauth.always = None
        assert w.reasons(await w.send(10)) == {"accepted": 10}


async def test_f05_rows_that_wait_for_a_login_are_counted(fcm_world):
    async with fcm_world() as w:
        w.oauth.scripts.append(Script(503, b"", 0.2))
        sending = asyncio.create_task(w.send(500))
        await asyncio.sleep(0.05)
        assert w.gateway.room(None, 1, Lane.BULK) <= ROOM_MIN - 500
        assert w.reasons(await sending) == {"accepted": 500}


async def test_f01_a_key_that_is_not_the_accounts_is_refused(fcm_world):
    async with fcm_world() as w:
        key = rsa.generate_private_key(65537, 2048)
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        w.credentials.secrets[5] = msgspec.structs.replace(w.credentials.secrets[1], private_key=pem)
        assert w.reasons(await w.send(3, credential=5)) == {"oauth_refused": 3}
        w.credentials.secrets[6] = msgspec.structs.replace(w.credentials.secrets[1], private_key="no key")
        assert w.reasons(await w.send(3, credential=6)) == {"no_credential": 3}


async def test_x24_retry_after_in_every_form(fcm_world):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    forms = ["0", "5", "86400", date, "-3", "soon", "99999999999999999999"]
    async with fcm_world(server_errors_max=100) as w:
        for number, form in enumerate(forms, 1):
            reason = "QUOTA_EXCEEDED" if number % 2 else "UNAVAILABLE"
            w.fault(Answer(reason=reason, retry_after=form), tokens=[token(number)])
        batch = await w.send(len(forms) + 1)
        waits = batch.retry_after
        assert (waits[0], waits[1], waits[2], waits[4], waits[6]) == (0, 5, 86_400, 0, 86_400)
        assert 25 < waits[3] <= 30
        assert waits[5] == 10.0  # nothing sane was said: what Google's guide asks for
        assert 7 not in waits
        assert batch.alone == {5}, "what FCM asks for it asks of the project; our own rule is for the row"


async def test_f30_first_waits_follow_googles_guide(fcm_world):
    async with fcm_world(server_errors_max=100) as w:
        w.fault(Answer(reason="QUOTA_EXCEEDED"), tokens=[token(1)])
        w.fault(Answer(reason="INTERNAL"), tokens=[token(2)])
        device = refusal("QUOTA_EXCEEDED", quota="device").body.decode()
        w.fault(Answer(status=429, body=device), tokens=[token(3)])
        batch = await w.send(4)
        assert batch.retry_after == {0: 60.0, 1: 10.0, 2: 60.0}
        assert batch.alone == {0, 1, 2}
        assert w.reason(batch, 2) == "DEVICE_QUOTA_EXCEEDED"


async def test_f32_a_projects_quota_speaks_for_all_of_it_and_a_devices_for_that_device(fcm_world):
    async with fcm_world() as w:
        table = w.gateway.reasons
        speaks = {reason.name for code, reason in table.by_code.items() if table.speaks_for_pool(code)}
        assert {"QUOTA_EXCEEDED", "status_429", "UNAVAILABLE"} <= speaks
        assert not speaks & {"DEVICE_QUOTA_EXCEEDED", "TOPIC_QUOTA_EXCEEDED", "paced_by_quota", "oauth_unavailable"}
        assert not table.slows_link.any(), "Google counts refusals against the quota, not against a connection"
        device = refusal("QUOTA_EXCEEDED", quota="device").body.decode()
        w.fault(Answer(status=429, body=device, retry_after="7"), tokens=[token(1)])
        w.fault(Answer(reason="INTERNAL", retry_after="8"), tokens=[token(2)])
        w.fault(Answer(reason="QUOTA_EXCEEDED", retry_after="9"), tokens=[token(3)])
        batch = await w.send(3)
        assert batch.retry_after == {0: 7.0, 1: 8.0, 2: 9.0}
        assert batch.alone == {0, 1}


async def test_one_device_that_is_throttled_does_not_slow_the_project(fcm_world):
    async with fcm_world() as w:
        await w.send(1)
        before = w.gateway.room(None, 1, Lane.BULK)
        device = refusal("QUOTA_EXCEEDED", quota="device").body.decode()
        w.fault(Answer(status=429, body=device), tokens=[token(3)])
        await w.send(1, 3)
        assert w.gateway.room(None, 1, Lane.BULK) >= before - 10


async def test_f32_the_quota_of_the_far_side_is_met_with_patience(fcm_world):
    async with fcm_world(config={"quota_pause_max_s": 0.2}) as w:
        w.simulator.quota_per_minute = 100
        batch = await w.send(150)
        assert w.reasons(batch)["accepted"] <= 100
        assert set(w.reasons(batch)) == {"accepted", "QUOTA_EXCEEDED"}
        assert w.outcome(batch, 149) in (Outcome.THROTTLED, Outcome.ACCEPTED)


async def test_x25_503_on_half_leaves_the_others_alone(fcm_world):
    async with fcm_world(server_errors_max=1_000) as w:
        await w.send(1)
        w.fault(Answer(reason="UNAVAILABLE"), rate=0.5)
        batch = await w.send(1_000, 10)
        reasons = w.reasons(batch)
        assert set(reasons) == {"accepted", "UNAVAILABLE"}
        assert 300 < reasons["accepted"] < 700


async def test_several_server_errors_in_a_row_replace_the_link(fcm_world):
    async with fcm_world(bulk_links=1, server_errors_max=5) as w:
        await w.send(1)
        w.fault(Answer(reason="INTERNAL"), count=5)
        assert w.reasons(await w.send(5, 2)) == {"INTERNAL": 5}
        assert w.reasons(await w.send(5, 7)) == {"accepted": 5}
        assert w.record.connections_total == 2


async def test_server_errors_between_acceptances_leave_the_link_alone(fcm_world):
    async with fcm_world(bulk_links=1, server_errors_max=5) as w:
        await w.send(1)
        w.fault(Answer(reason="INTERNAL"), tokens=[token(number) for number in range(2, 1_002, 4)])
        assert w.reasons(await w.send(1_000, 2)) == {"accepted": 750, "INTERNAL": 250}
        assert w.record.connections_total == 1


async def test_g07_a_refused_account_stops_the_pool_at_once(fcm_world):
    async with fcm_world(bulk_links=1) as w:
        w.fault(Answer(status=403, reason="PERMISSION_DENIED"))
        assert w.reasons(await w.send(2_000)) == {"PERMISSION_DENIED": 2_000}
        assert w.simulator.requests == 1


async def test_g09_no_secret_reaches_a_log(fcm_world):
    with structlog.testing.capture_logs() as logs:
        async with fcm_world() as w:
            await w.send(5)
            w.fault(Answer(status=401, reason="UNAUTHENTICATED"))
            await w.send(5, 10)
            await w.send(5, 10)
            w.oauth.always = Script(400, b'{"error":"invalid_grant","error_description":"secret words"}')
            w.gateway.drop_credential(1)
            await w.send(5, 20)
            key = w.credentials.secrets[1].private_key
    said = orjson.dumps(logs, default=str).decode()
    for secret in ("ya29.", token(1), "secret words", key.splitlines()[1]):
        assert secret not in said
