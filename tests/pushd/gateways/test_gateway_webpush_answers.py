"""What answers of push services come to: outcomes, waiting, keys that are refused."""

import asyncio
import email.utils
import time

import pytest

from pushd.batch import Lane
from pushd.credentials import vapid_keys
from pushd.model.credential import VapidKeys
from pushd.outcome import Outcome
from pushd.simulator.faults import Answer
from tests.pushd.gateways.webpush_world import ROUTE, FakeClock

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("http1", [False, True])
@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (Answer(status=200), Outcome.ACCEPTED, "accepted"),
        (Answer(status=202), Outcome.ACCEPTED, "accepted"),
        (Answer(status=204), Outcome.ACCEPTED, "accepted"),
        (Answer(status=400, reason="BadTtl"), Outcome.REJECTED, "BadTtl"),
        (Answer(status=400, html=True), Outcome.REJECTED, "status_400"),
        (Answer(status=401, body='{"errno":109}'), Outcome.REJECTED, "errno_109"),
        (Answer(status=403, reason="VapidPkHashMismatch"), Outcome.REJECTED, "VapidPkHashMismatch"),
        (Answer(status=403, html=True), Outcome.REJECTED, "status_403"),
        (Answer(status=404, body='{"errno":102}'), Outcome.UNREGISTERED, "errno_102"),
        (Answer(status=410), Outcome.UNREGISTERED, "status_410"),
        (Answer(status=405), Outcome.REJECTED, "status_405"),
        (Answer(status=406), Outcome.THROTTLED, "status_406"),
        (Answer(status=413, body='{"errno":104}'), Outcome.REJECTED, "errno_104"),
        (Answer(status=418), Outcome.REJECTED, "status_499"),
        (Answer(status=429), Outcome.THROTTLED, "status_429"),
        (Answer(status=500, html=True), Outcome.UNAVAILABLE, "status_500"),
        (Answer(status=502, body='{"errno":900}'), Outcome.UNAVAILABLE, "status_502"),
        (Answer(status=503, body='{"errno":201}'), Outcome.UNAVAILABLE, "errno_201"),
        (Answer(status=522), Outcome.UNAVAILABLE, "status_599"),
        (Answer(status=307), Outcome.REJECTED, "status_300"),
        (Answer(status=206), Outcome.UNAVAILABLE, "status_0"),
    ],
)
async def test_each_answer_has_its_outcome(push_world, answer, outcome, reason, http1):
    async with push_world() as w:
        w.fault(answer, 2)
        batch = await w.send(w.tokens(3, http1=http1))
        assert w.reason(batch, 1) == reason
        assert w.gateway.reasons.outcome(int(batch.outcomes[1])) is outcome
        assert w.reason(batch, 0) == w.reason(batch, 2) == "accepted"


@pytest.mark.parametrize("http1", [False, True])
@pytest.mark.parametrize("framing", ["whole", "headers_only", "bytes", "padded", "empty_frames"])
async def test_x10_x11_answers_in_every_framing(push_world, framing, http1):
    async with push_world() as w:
        w.fault(Answer(status=410, body='{"errno":106}', framing=framing, trailers=framing == "whole"), 1)
        batch = await w.send(w.tokens(2, http1=http1))
        expected = "status_410" if framing == "headers_only" else "errno_106"
        assert [w.reason(batch, row) for row in (0, 1)] == [expected, "accepted"]


async def test_x11_after_103(push_world):
    async with push_world() as w:
        w.fault(Answer(status=404, body='{"errno":102}', informational=True), 1)
        assert w.reason(await w.send(w.tokens(1))) == "errno_102"


@pytest.mark.parametrize("http1", [False, True])
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("5", 5.0), ("86400", 86_400.0), ("999999", 86_400.0), ("-3", 0.0), ("soon", 60.0)],
)
async def test_x24_retry_after(push_world, text, seconds, http1):
    async with push_world() as w:
        w.fault(Answer(status=429, retry_after=text), 1)
        batch = await w.send(w.tokens(1, http1=http1))
        assert batch.retry_after == {0: seconds}
        assert batch.alone == {0}, "one service among many: the others of this credential go on"


@pytest.mark.parametrize("http1", [False, True])
async def test_w47_a_service_that_is_down_rests_and_no_other(push_world, http1):
    clock = FakeClock()
    async with push_world(services=2, clock=clock) as w:
        there, here = (w.tokens(40, 1 + 100 * n, service, http1) for n, service in enumerate(w.services))
        w.fault(Answer(status=503, retry_after="30"), 5, count=1)
        first = await w.send(there[4:5])
        assert first.retry_after == {0: 30.0}
        both = await w.send(there + here)
        assert w.reasons(both) == {"push_service_rests": 40, "accepted": 40}
        assert w.gateway.reasons.outcome(207) is Outcome.UNPROCESSED
        assert both.retry_after.keys() == both.alone == set(range(40))
        assert all(25 < seconds <= 30 for seconds in both.retry_after.values())
        assert w.gateway.room(ROUTE, 1, Lane.BULK) > 0
        clock.slept_s += 31
        assert w.reasons(await w.send(there)) == {"accepted": 40}


async def test_w47_what_waits_for_a_service_that_begins_to_rest_comes_home(push_world):
    async with push_world(transport={"bulk_links": 1}, streams_first=1) as w:
        w.fault(Answer(status=503, retry_after="86400"), 1)
        batch = await w.send(w.tokens(500))
        assert w.reasons(batch) == {"status_503": 1, "push_service_rests": 499}
        assert batch.retry_after[0] == 86_400, "the row itself obeys"
        assert all(0 < batch.retry_after[row] <= 60 for row in range(1, 500))


async def test_a_429_is_one_subscriptions_and_several_in_a_row_are_the_keys_at_this_service(push_world):
    async with push_world(transport={"bulk_links": 1}) as w:
        for number in (1, 2, 4):
            w.fault(Answer(status=429, retry_after="20"), number)
        for number in (1, 2, 3, 4):  # 3 is accepted between them
            await w.send(w.tokens(1, number))
        assert w.reasons(await w.send(w.tokens(5, 10))) == {"accepted": 5}
        for number in (1, 2, 4):
            batch = await w.send(w.tokens(1, number))
            assert w.reasons(batch) == {"status_429": 1}
        assert w.reasons(await w.send(w.tokens(5, 10))) == {"push_service_rests": 5}
        (origin,) = w.gateway._origins.values()
        another = vapid_keys.VapidRing(vapid_keys.complete(VapidKeys(subject="mailto:b@example.com"), None))
        assert not origin.judge.rests_s(another.key(another.current)), "another app's key was not too fast"


async def test_x24_retry_after_as_a_date(push_world):
    async with push_world() as w:
        w.fault(Answer(status=503, retry_after=email.utils.formatdate(time.time() + 30, usegmt=True)), 1)
        batch = await w.send(w.tokens(1))
        assert 28 <= batch.retry_after[0] <= 30


async def test_x22_a_dead_subscription_is_spared_while_it_is_brand_new(push_world):
    """What registered within the last minute is newer than the answer says: it stays, and the next push asks again."""
    async with push_world() as w:
        w.fault(Answer(status=410), 1)
        batch = await w.send(w.tokens(1))
        age_s = time.time() - batch.invalid_since[0] / 1000
        assert 59 <= age_s <= 62


async def test_x23_nothing_but_404_and_410_ends_a_subscription(push_world):
    async with push_world(key_refusals_max=1_000) as w:
        for status in (400, 401, 403, 405, 413, 429, 500, 503):
            w.service.faults.clear()
            w.fault(Answer(status=status, html=True))
            batch = await w.send(w.tokens(5))
            assert Outcome.UNREGISTERED not in {w.gateway.reasons.outcome(code) for code in batch.outcomes.tolist()}
            assert not batch.invalid_since


async def test_g07_a_few_refusals_of_our_key_are_those_subscriptions_own(push_world):
    async with push_world() as w:
        tokens = w.tokens(60)
        for n in range(1, 21):
            w.service.subscribers[f"n{n}"].key = b"\x04another"
        await w.send(tokens[50:])
        batch = await w.send(tokens[:50])
        assert w.reasons(batch) == {"status_403": 20, "accepted": 30}


async def test_g07_a_key_that_is_always_refused_pauses_the_credential(push_world):
    async with push_world() as w:
        w.fault(Answer(status=401, body='{"errno":109}'))
        batch = await w.send(w.tokens(100))
        reasons = w.reasons(batch)
        assert reasons["errno_109"] == 9
        assert reasons["vapid_key_refused"] == 91
        assert w.gateway.reasons.outcome(205) is Outcome.MISCONFIGURED


async def test_g07_a_refused_token_is_signed_anew_once(push_world):
    clock = FakeClock()
    async with push_world(clock=clock, transport={"bulk_links": 1}) as w:
        await w.send(w.tokens(1))
        clock.wall_s += 61
        clock.slept_s += 61
        w.fault(Answer(status=401), 1, count=1)
        assert w.reason(await w.send(w.tokens(1))) == "vapid_token_renewed"
        assert w.gateway._tokens.signed == 1
        assert w.reason(await w.send(w.tokens(1))) == "accepted"
        assert w.gateway._tokens.signed == 2


async def test_g07_a_new_token_that_is_refused_pauses_the_credential(push_world):
    async with push_world() as w:
        w.fault(Answer(status=403, reason="BadJwtToken"))
        batch = await w.send(w.tokens(50))
        assert set(w.reasons(batch)) == {"BadJwtToken"}
        assert w.gateway._tokens.signed == 1


@pytest.mark.parametrize("http1", [False, True])
async def test_a_service_that_no_operator_named_cannot_pause_a_credential(push_world, http1, monkeypatch):
    async with push_world() as w:
        monkeypatch.setattr(w.gateway._guard, "names", lambda _target: False)
        monkeypatch.setattr(w.gateway._guard, "allows", lambda _target, _app_id: True)
        w.fault(Answer(status=403, reason="BadJwtToken"))
        batch = await w.send(w.tokens(20, http1=http1))
        outcomes = {w.gateway.reasons.outcome(code) for code in batch.outcomes.tolist()}
        assert Outcome.MISCONFIGURED not in outcomes
        held = await w.send(w.tokens(20, http1=http1))
        assert w.reasons(held) == {"push_service_held": 20}
        assert all(590 < seconds <= 600 for seconds in held.retry_after.values())


async def test_wns_says_in_headers_what_it_dropped(push_world):
    async with push_world() as w:
        judge = None
        await w.send(w.tokens(1))
        (origin,) = [each for each in w.gateway._origins.values() if each.target.port == w.service.port]
        judge = origin.judge
        ring = w.gateway._ring(1)
        key = ring.key(ring.current)
        said = judge.judge(key, 201, b"", [(b"x-wns-notificationstatus", b"dropped")])
        assert w.gateway.reasons.name(said.code) == "wns_dropped"
        said = judge.judge(key, 200, b"", [(b"x-wns-status", b"channelthrottled"), (b"retry-after", b"9")])
        assert (w.gateway.reasons.outcome(said.code), said.retry_after_s) == (Outcome.THROTTLED, 9.0)


async def test_x25_half_of_the_answers_are_503_and_the_others_go_on(push_world):
    async with push_world() as w:
        w.fault(Answer(status=503), rate=0.5)
        batches = await asyncio.gather(*(w.send(w.tokens(200, 1 + 200 * part)) for part in range(5)))
        for batch in batches:
            reasons = w.reasons(batch)
            assert reasons["accepted"] > 40
            assert set(reasons) <= {"accepted", "status_503", "not_written", "connection_lost"}
