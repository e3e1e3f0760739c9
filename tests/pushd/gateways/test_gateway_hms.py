"""The HMS gateway against its simulator: many devices to a request, and what happens to each of them."""

import asyncio
from collections import Counter

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from pushd.batch import Batch, Lane, Rendered
from pushd.config import HmsConfig
from pushd.gateways.hms import HmsGateway
from pushd.model.credential import HmsClient
from pushd.model.device import Environment, Kind, Route
from pushd.outcome import Outcome
from pushd.simulator.faults import Answer, Silence
from pushd.simulator.hms import HmsSimulator
from pushd.simulator.identity import Identity

from .apns_world import PATIENT, FakeClock

pytestmark = pytest.mark.asyncio

ROUTE = Route(1, Kind.HMS, Environment.PRODUCTION, "com.example.app")
MESSAGE = Rendered(payload=b'{"validate_only":false,"message":{"data":"{}","token":[]}}')


class World:
    def __init__(self, directory):
        self.clock = FakeClock()
        self.identity = Identity(directory)
        self.simulator = HmsSimulator(self.identity, clock=self.clock)
        ((client_id, client_secret),) = self.simulator.clients.items()
        self.secrets = {1: HmsClient(client_id=client_id, client_secret=client_secret)}

    async def start(self, transport=PATIENT, **settings):
        await self.simulator.start()
        self.config = HmsConfig(
            host="localhost",
            port=self.simulator.port,
            oauth_host="localhost",
            oauth_port=self.simulator.port,
            ca_file=str(self.identity.ca_file),
            oauth_backoff_base_s=0.01,
            oauth_backoff_cap_s=0.05,
            oauth_wait_s=1.0,
            **settings,
        )
        self.gateway = HmsGateway(self.config, transport, self, self.clock)
        await self.gateway.start()

    def secret(self, credential_id):
        return self.secrets.get(credential_id)

    def batch(self, rows, first=1, payloads=MESSAGE, lane=Lane.BULK):
        ids = np.arange(first, first + rows, dtype=np.uint32)
        return Batch(
            route=ROUTE,
            credential_id=1,
            lane=lane,
            ids=ids,
            tokens=np.array([token(number).encode() for number in ids.tolist()]),
            revisions=np.ones(rows, np.int32),
            notifications=7,
            payloads=payloads,
        )

    async def send(self, rows, first=1, **rest):
        batch = self.batch(rows, first, **rest)
        await asyncio.wait_for(self.gateway.send(batch), 60)
        assert not batch.pending
        return batch

    def reasons(self, batch):
        return Counter(self.gateway.reasons.name(code) for code in batch.outcomes.tolist())


def token(number):
    return f"IQAAAACy{number:08d}"


@pytest_asyncio.fixture
async def w(tmp_path):
    made = World(tmp_path / "hms")
    await made.start()
    yield made
    await made.gateway.stop(1.0)
    await made.simulator.stop()
    assert not made.simulator.violations


async def test_h04_a_thousand_devices_are_one_request(w):
    assert w.reasons(await w.send(2_500)) == {"accepted": 2_500}
    assert sorted(len(body["message"]["token"]) for body in w.simulator.requests) == [500, 1_000, 1_000]
    assert set(w.simulator.arrived.values()) == {1}
    assert len(w.simulator.arrived) == 2_500


async def test_h07_transactional_requests_are_smaller(w):
    await w.send(250, lane=Lane.TRANSACTIONAL)
    assert sorted(len(body["message"]["token"]) for body in w.simulator.requests) == [50, 100, 100]


async def test_h04_rows_with_one_token_send_it_once(w):
    batch = w.batch(3)
    batch.tokens[:] = token(1).encode()
    await w.gateway.send(batch)
    assert w.reasons(batch) == {"accepted": 3}
    assert w.simulator.arrived == {token(1): 1}


async def test_rows_that_share_a_message_share_a_request(w):
    other = Rendered(payload=MESSAGE.payload.replace(b'"{}"', b'"other"'))
    await w.send(40, payloads=[MESSAGE, other] * 20)
    assert sorted((body["message"]["data"], len(body["message"]["token"])) for body in w.simulator.requests) == [
        ("other", 20),
        ("{}", 20),
    ]


async def test_what_could_never_be_a_token_is_not_sent(w):
    batch = w.batch(3)
    batch.tokens[1] = b'x","y'
    await w.gateway.send(batch)
    assert w.reasons(batch) == {"accepted": 2, "illegal_token": 1}
    assert len(w.simulator.arrived) == 2


async def test_h06_a_partial_success_ends_exactly_what_it_names(w):
    w.simulator.unregistered |= {token(3), token(900)}
    batch = await w.send(1_000)
    assert w.reasons(batch) == {"accepted": 998, "illegal_token": 2}
    assert [int(row) for row in np.flatnonzero(batch.outcomes != 1)] == [2, 899]
    assert batch.invalid_since.keys() == {2, 899}
    assert set(w.simulator.arrived.values()) == {1}


async def test_x23_all_tokens_invalid_is_said_of_all(w):
    w.simulator.unregistered |= {token(number) for number in range(1, 21)}
    batch = await w.send(20)
    assert w.reasons(batch) == {"80300007_all_tokens_invalid": 20}
    assert len(batch.invalid_since) == 20
    assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.UNREGISTERED


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ('{"code":"80100000","msg":"{\\"illegal_tokens\\":"}', Outcome.ACCEPTED),
        ('{"code":80100000,"msg":"{\\"illegal_tokens\\":[\\"IQAAAACy00000001\\"]}"}', Outcome.UNAVAILABLE),
        ('{"code":80300007}', Outcome.UNAVAILABLE),
        ("<html>", Outcome.UNAVAILABLE),
    ],
)
async def test_x30_answers_that_cannot_be_trusted_end_no_token(w, body, outcome):
    w.simulator.fault(Answer(status=200, body=body))
    batch = await w.send(5)
    assert {w.gateway.reasons.outcome(code) for code in batch.outcomes.tolist()} == {outcome}
    assert not batch.invalid_since


async def test_h01_one_login_serves_all_and_is_renewed_ahead(w):
    await asyncio.gather(*(w.send(1, number) for number in range(1, 60)))
    assert w.simulator.logins == 1
    w.clock.slept_s += 3_400
    await w.send(1)
    async with asyncio.timeout(60):
        while w.simulator.logins < 2:
            await asyncio.sleep(0.01)
    w.clock.slept_s += 300
    assert w.reasons(await w.send(1)) == {"accepted": 1}
    assert w.simulator.logins == 2


async def test_h06_x21_a_refused_access_token_is_replaced_once(w):
    await w.send(1)
    w.simulator.revoke()
    sent = await asyncio.gather(*(w.send(30, 1 + 30 * part) for part in range(20)))
    assert {code for batch in sent for code in batch.outcomes.tolist()} == {1}
    assert w.simulator.logins == 2
    assert all(count == 1 for number, count in w.simulator.arrived.items() if number != token(1))


async def test_g07_a_wrong_secret_holds_the_credential_without_a_storm(w):
    w.secrets[1] = msgspec.structs.replace(w.secrets[1], client_secret="wrong")
    batch = await w.send(300)
    assert w.reasons(batch) == {"oauth_refused": 300}
    assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.MISCONFIGURED
    assert w.simulator.logins <= 2
    assert (await w.gateway.prove(ROUTE, 1)).accepted is False


async def test_h03_by_project(w):
    w.simulator.projects["736430079244"] = w.secrets[1].client_id
    w.secrets[1] = msgspec.structs.replace(w.secrets[1], project_id="736430079244")
    assert w.reasons(await w.send(2)) == {"accepted": 2}
    w.secrets[1] = msgspec.structs.replace(w.secrets[1], project_id="1")
    w.gateway.drop_credential(1)
    batch = await w.send(2)
    assert w.reasons(batch) == {"status_404": 2}
    assert w.gateway.reasons.outcome(int(batch.outcomes[0])) is Outcome.MISCONFIGURED


async def test_h06_flow_control_speaks_for_the_whole_credential(w):
    w.simulator.fault(Answer(status=503, retry_after="7"))
    batch = await w.send(10)
    assert w.reasons(batch) == {"flow_control": 10}
    assert w.gateway.reasons.speaks_for_pool(int(batch.outcomes[0]))
    assert batch.retry_after == dict.fromkeys(range(10), 7.0)


async def test_h07_a_request_without_an_answer_is_lost_for_all_of_its_rows(w):
    w.simulator.fault(Silence(), token(5), count=1)
    batch = await w.send(1_500)
    assert w.reasons(batch) == {"accepted": 500, "response_timeout": 1_000}


async def test_nobody_listening_is_unprocessed(w):
    await w.send(1)
    await w.simulator.stop()
    batch = await w.send(4_000)
    assert {w.gateway.reasons.outcome(code) for code in batch.outcomes.tolist()} <= {Outcome.UNPROCESSED, Outcome.LOST}
    assert Outcome.UNPROCESSED in {w.gateway.reasons.outcome(code) for code in batch.outcomes.tolist()}


async def test_the_next_batch_after_the_last_answer_is_served_at_once(w):
    for number in range(50):
        await asyncio.wait_for(w.send(1, number + 1), 60)
    assert len(w.simulator.arrived) == 50
