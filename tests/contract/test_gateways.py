"""One suite over every gateway: what the fan-out relies on, whatever the vendor. A gateway joins with a `Far`."""

import asyncio
import time
from email.utils import formatdate

import pytest
import pytest_asyncio

from pushd.batch import Lane
from pushd.outcome import COMMON_REASONS, Outcome

from .apns_broadcast_far import ApnsBroadcastFar
from .apns_certificate_far import ApnsCertificateFar
from .apns_far import ApnsFar
from .email_far import EmailFar
from .far import PATIENT, SILENT
from .fcm_far import FcmFar
from .hms_far import HmsFar
from .safari_far import SafariFar
from .webpush_far import WebPushFar, WebPushHttp1Far

pytestmark = pytest.mark.asyncio

FARS = {
    "apns": ApnsFar,
    "apns_broadcast": ApnsBroadcastFar,
    "apns_certificate": ApnsCertificateFar,
    "fcm": FcmFar,
    "email": EmailFar,
    "hms": HmsFar,
    "safari": SafariFar,
    "webpush": WebPushFar,
    "webpush_http1": WebPushHttp1Far,
}


@pytest_asyncio.fixture(params=FARS)
async def far(request, tmp_path):
    made = FARS[request.param]()
    await made.start(tmp_path / "far", SILENT if "silence" in request.node.name else PATIENT)
    yield made
    await made.stop()


async def test_reasons_are_a_table_that_starts_with_the_common_ones(far):
    table = far.gateway.reasons
    for reason in COMMON_REASONS:
        assert table.by_code[reason.code] is reason
    assert len(table.by_code) > len(COMMON_REASONS)
    assert all(0 < code < 256 and table.outcome(code) for code in table.by_code)


async def test_accepted(far):
    batch = await far.send(250)
    assert set(far.outcomes(batch)) == {Outcome.ACCEPTED}
    assert far.received() == {far.token(number): 1 for number in range(1, 251)}
    assert not batch.retry_after
    assert not batch.invalid_since


async def test_an_empty_batch_comes_back(far):
    batch = await far.send(0)
    assert len(batch) == 0
    assert far.outcomes(batch) == []


async def test_each_row_its_own_message(far):
    batch = await far.send(40, payloads=[far.message(number) for number in range(40)])
    assert set(far.outcomes(batch)) == {Outcome.ACCEPTED}


async def test_permanent_refusal(far):
    far.refuse(2)
    batch = await far.send(3)
    assert far.outcomes(batch) == [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.ACCEPTED]
    assert not batch.invalid_since


async def test_dead_token(far):
    far.kill(3)
    batch = await far.send(3)
    assert far.outcomes(batch) == [Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.UNREGISTERED]
    assert batch.invalid_since.keys() == {2}
    assert far.dead_since_ms in (None, batch.invalid_since[2])


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [("0", 0.0), ("5", 5.0), ("-1", 0.0), ("later", None), ("99999999999", 86_400.0)]
)
async def test_throttled(far, retry_after, seconds):
    far.throttle(1, retry_after)
    batch = await far.send(2)
    assert far.outcomes(batch) == [Outcome.THROTTLED, Outcome.ACCEPTED]
    seconds = far.unthrottled_s if seconds is None or not far.tells_when else seconds
    assert batch.retry_after == ({} if seconds is None else {0: seconds})


async def test_throttled_until_a_date(far):
    far.throttle(1, formatdate(time.time() + 30, usegmt=True))
    batch = await far.send(2)
    assert far.outcomes(batch) == [Outcome.THROTTLED, Outcome.ACCEPTED]
    assert batch.retry_after == ({0: pytest.approx(29, abs=2)} if far.tells_when else {})


async def test_outage(far):
    far.outage()
    batch = await far.send(20)
    assert set(far.outcomes(batch)) <= {Outcome.UNAVAILABLE, Outcome.UNPROCESSED, Outcome.LOST}
    assert Outcome.UNAVAILABLE in far.outcomes(batch)


async def test_silence(far):
    await far.send(1)
    far.silence(5)
    batch = await far.send(10)
    assert far.outcomes(batch) == [Outcome.LOST if number == 5 else Outcome.ACCEPTED for number in range(1, 11)]


async def test_credential_refused(far):
    far.refuse_credential()
    batch = await far.send(200)
    assert set(far.outcomes(batch)) == {Outcome.MISCONFIGURED}
    assert not far.received()


async def test_a_credential_is_proven_without_sending(far):
    assert (await far.gateway.prove(far.route, 1)).accepted is (True if far.provable else None)
    assert not far.received()
    assert (await far.gateway.prove(far.route, 77)).accepted is False
    far.refuse_credential()
    refused = await far.gateway.prove(far.route, 1)
    assert (refused.accepted, bool(refused.reason)) == (False if far.provable else None, True)


async def test_a_credential_cannot_be_proven_while_the_vendor_is_away(far):
    far.outage()
    assert (await far.gateway.prove(far.route, 1)).accepted is None


async def test_no_credential(far):
    batch = await far.send(2, credential_id=77)
    assert set(far.outcomes(batch)) == {Outcome.MISCONFIGURED}


async def test_malformed_answer(far):
    far.babble(1)
    batch = await far.send(2)
    assert far.outcomes(batch) == [Outcome.UNAVAILABLE, Outcome.ACCEPTED]


async def test_a_cut_connection_loses_or_returns_rows_and_repeats_none(far):
    await far.send(1, 1_000)
    far.cut(7)
    batch = await far.send(50)
    outcomes = far.outcomes(batch)
    assert set(outcomes) <= {Outcome.ACCEPTED, Outcome.LOST, Outcome.UNPROCESSED}
    assert outcomes[6] is Outcome.LOST
    assert all(count == 1 for count in far.received().values())
    assert set(far.outcomes(await far.send(5, 2_000))) == {Outcome.ACCEPTED}


async def test_a_polite_goodbye_costs_nothing(far):
    await far.send(1, 1_000)
    far.leave()
    sent = [await far.send(20, 1 + 20 * part) for part in range(5)]
    outcomes = {outcome for batch in sent for outcome in far.outcomes(batch)}
    assert outcomes <= {Outcome.ACCEPTED, Outcome.UNPROCESSED}
    assert all(count == 1 for count in far.received().values())


async def test_a_cancelled_sender_harms_nobody(far):
    batches = [far.batch(30, 1 + 30 * part) for part in range(20)]
    tasks = [asyncio.create_task(far.gateway.send(batch)) for batch in batches]
    await asyncio.sleep(0.005)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(30):
        while any(batch.pending for batch in batches):
            await asyncio.sleep(0.01)
    for part, batch in enumerate(batches):
        allowed = {Outcome.ACCEPTED} if part % 2 else {Outcome.ACCEPTED, Outcome.UNPROCESSED}
        assert set(far.outcomes(batch)) <= allowed


async def test_room_shrinks_as_rows_wait_and_lanes_are_apart(far):
    whole = far.gateway.room(far.route, 1, Lane.BULK)
    assert whole > 0
    sending = asyncio.create_task(far.gateway.send(far.batch(min(whole, far.many))))
    await asyncio.sleep(0)
    assert far.gateway.room(far.route, 1, Lane.BULK) < whole
    assert far.gateway.room(far.route, 1, Lane.TRANSACTIONAL) > 0
    assert far.gateway.room(far.route, 2, Lane.BULK) == whole
    await sending


async def test_a_dropped_credential_is_asked_for_anew(far):
    await far.send(2)
    del far.secrets[1]
    assert set(far.outcomes(await far.send(1, 10))) == {Outcome.ACCEPTED}
    far.gateway.drop_credential(1)
    assert set(far.outcomes(await far.send(1, 20))) == {Outcome.MISCONFIGURED}


async def test_stop_leaves_no_row_pending(far):
    await far.send(1, 1_000)
    far.silence(3)
    batches = [far.batch(200, 1 + 200 * part) for part in range(5)]
    tasks = [asyncio.create_task(far.gateway.send(batch)) for batch in batches]
    await asyncio.sleep(0.01)
    await far.gateway.stop(0.1)
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert not any(batch.pending for batch in batches)
    assert set(far.outcomes(await far.send(1))) == {Outcome.UNPROCESSED}
