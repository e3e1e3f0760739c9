"""An FCM gateway in front of the local FCM, with deadlines that suit tests."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest

from pushd.batch import Batch, Lane, Rendered
from pushd.config.fcm import FcmConfig
from pushd.gateways.fcm import FcmGateway
from pushd.model.credential import FcmServiceAccount
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Fault
from pushd.simulator.fcm import LocalFcm
from pushd.simulator.identity import Identity
from tests.pushd.gateways.apns_world import PATIENT, Credentials, FakeClock

ROUTE = Route(1, Kind.FCM, Environment.PRODUCTION, "com.example.app")
PAYLOAD = Rendered(payload=b'{"android":{"priority":"HIGH"},"notification":{"title":"hello"}}')


class FcmWorld:
    """A local FCM and a gateway that knows it."""

    def __init__(self, simulator, clock, transport, resolver=None, **config):
        self.simulator, self.clock = simulator, clock
        secret = msgspec.convert(simulator.key_file, FcmServiceAccount)
        self.credentials = Credentials({1: secret, 2: secret})
        self.config = FcmConfig(
            host="localhost",
            port=simulator.port,
            oauth_host="localhost",
            oauth_port=simulator.oauth_port,
            ca_file=str(simulator.ca_file),
            **{"ramp_s": 0, "oauth_wait_s": 0.5, "quota_wait_s": 0.2, "oauth_backoff_cap_s": 0.05, **config},
        )
        self.gateway = FcmGateway(self.config, transport, self.credentials, clock, resolver)

    @property
    def record(self):
        return self.simulator.record

    @property
    def oauth(self):
        return self.simulator.oauth

    def fault(self, action, **where):
        return self.simulator.faults.add(Fault(action=action, **where))

    def batch(self, rows=1, first=1, payloads=PAYLOAD, lane=Lane.BULK, credential=1, tokens=None):
        ids = np.arange(first, first + rows, dtype=np.uint32)
        return Batch(
            route=ROUTE,
            credential_id=credential,
            lane=lane,
            ids=ids,
            tokens=np.array([token(number).encode() for number in ids.tolist()]) if tokens is None else tokens,
            revisions=np.ones(rows, np.int32),
            notifications=7,
            payloads=payloads,
        )

    async def send(self, rows=1, first=1, **rest):
        batch = self.batch(rows, first, **rest)
        await asyncio.wait_for(self.gateway.send(batch), 60)
        assert not batch.pending
        return batch

    def reasons(self, batch):
        """How many rows ended for each reason."""
        return Counter(self.gateway.reasons.name(code) for code in batch.outcomes.tolist())

    def reason(self, batch, row=0):
        return self.gateway.reasons.name(int(batch.outcomes[row]))

    def outcome(self, batch, row=0):
        return self.gateway.reasons.outcome(int(batch.outcomes[row]))

    @property
    def pool(self):
        (pool,) = self.gateway.pools
        return pool

    def at_rest(self):
        """No row is forgotten anywhere."""
        return all(pool.waiting == 0 and pool.outstanding == 0 for pool in self.gateway.pools)


def token(number):
    return f"d3Fg_x:APA91b-{number:040}"


@pytest.fixture(scope="session")
def fcm_identity(tmp_path_factory):
    """Certificates and the account's key, which take long to make."""
    return Identity(tmp_path_factory.mktemp("fcm"))


@pytest.fixture
def fcm_world(fcm_identity):
    """`async with fcm_world(...) as w`: behaviour, gateway settings (`config`) and transport settings by keyword."""

    @asynccontextmanager
    async def make(behaviour=None, clock=None, config=None, resolver=None, **settings):
        clock = clock or FakeClock()
        behaviour = behaviour or Behaviour(streams_max=1000, streams_before_token=1000)
        simulator = LocalFcm(fcm_identity, behaviour=behaviour, clock=clock)
        await simulator.start()
        transport = msgspec.structs.replace(PATIENT, **settings)
        made = FcmWorld(simulator, clock, transport, resolver, **(config or {}))
        await made.gateway.start()
        try:
            yield made
        finally:
            await made.gateway.stop(1.0)
            await simulator.stop()

    return make
