"""What the fan-out makes of every gateway's answers: the right consequence for each row, and a ledger that is exact."""

import asyncio
import dataclasses
import time

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from pushd.content.kinds import kinds
from pushd.model.message import PushType
from pushd.outcome import Outcome
from tests.pushd.content.samples import PLAINEST
from tests.pushd.fanout.conftest import Bench, Clock, notification, rows
from tests.pushd.fanout.doubles import OneCredential

from .far import SILENT
from .test_gateways import FARS

pytestmark = pytest.mark.asyncio
DEVICES = 40


@pytest_asyncio.fixture(params=FARS)
async def through(request, tmp_path):
    """A fan-out in front of a gateway, with devices of its kind; its clock is set forward by hand."""
    far = FARS[request.param]()
    await far.start(tmp_path / "far", SILENT)
    one = Bench(clock=Clock(), gateway=far.gateway, keyring=OneCredential(1), attempts_max=2)
    one.far, one.clock = far, one.fanout._clock
    route = far.route
    images = rows(range(1, DEVICES + 1), bundle=route.bundle, environment=route.environment, kind=route.kind)
    tokens = np.array([far.token(number).encode() for number in range(1, DEVICES + 1)])
    one.index.apply_devices(dataclasses.replace(images, tokens=tokens))
    await one.fanout.start()
    yield one
    await one.fanout.stop()
    await far.stop()
    assert not one.failures, one.failures


def release(one):
    made = notification(1)
    (push_type,) = [each for each in PushType if one.far.route.kind in kinds(each) and each is not PushType.BACKGROUND]
    send = msgspec.structs.replace(made.send, message=PLAINEST[push_type])
    one.release(msgspec.structs.replace(made, send=send), range(1, DEVICES + 1))


async def test_every_answer_has_its_consequence_and_the_ledger_is_exact(through):
    one, far = through, through.far
    far.refuse(1)
    far.kill(2)
    far.throttle(3, "0")
    far.babble(4)
    far.silence(5)
    release(one)
    deadline = time.monotonic() + 60
    while 1 not in one.store.finished:
        assert one.fanout.drift == 0
        assert time.monotonic() < deadline
        one.clock.ahead_s += 30.0  # whatever waits, its time comes
        one.fanout._dispatcher.pump_soon()
        await asyncio.sleep(0.05)
    table = far.gateway.reasons
    ended = {device: table.outcome(code) for (_, device), (_, code) in one.store.rows.items()}
    assert ended == dict.fromkeys(range(1, DEVICES + 1), Outcome.ACCEPTED) | {
        1: Outcome.REJECTED,
        2: Outcome.UNREGISTERED,
        3: Outcome.THROTTLED,
        4: Outcome.UNAVAILABLE,
        5: Outcome.LOST,
    }
    assert [each.ids.tolist() for each in one.store.retired] == [[2]]
    assert {token: count for token, count in far.received().items() if count != 1} in ({}, {far.token(5): 2})
    assert not one.keyring.pauses


async def test_a_refused_credential_pauses_and_keeps_every_row(through):
    one, far = through, through.far
    far.refuse_credential()
    release(one)
    await one.until(lambda: one.keyring.pauses, 60)
    await one.until(lambda: one.fanout.unsettled == 0, 60)
    assert {credential for credential, *_ in one.keyring.pauses} == {1}
    assert not one.store.retired
    assert one.fanout.ledger(1).pending + len(one.store.rows) == DEVICES
    refused = {far.gateway.reasons.outcome(code) for _, code in one.store.rows.values()}
    assert refused <= {Outcome.REJECTED}, "a few subscriptions' own, before it is the key's fault (W-25)"
    assert one.fanout.drift == 0
