"""A gateway in front of the simulator, with deadlines that suit tests."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest

from pushd.batch import Batch, Lane, Rendered
from pushd.clock import SystemClock
from pushd.config import ApnsConfig, TransportConfig
from pushd.gateways.apns import ApnsGateway
from pushd.model.credential import ApnsToken
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Fault
from pushd.simulator.simulator import Simulator

TOPIC = "com.example.app"
ROUTE = Route(1, Kind.APNS, Environment.PRODUCTION, TOPIC)
PAYLOAD = Rendered(payload=b'{"aps":{"alert":"hello"}}', headers=(("apns-push-type", "alert"), ("apns-priority", "10")))
PATIENT = TransportConfig(
    resolve_timeout_s=20.0,
    connect_timeout_s=20.0,
    settings_timeout_s=20.0,
    response_timeout_s=20.0,
    ping_after_s=20.0,
    ping_timeout_s=20.0,
    drain_timeout_s=20.0,
    window_timeout_s=20.0,
    queue_timeout_s=20.0,
    close_timeout_s=0.2,
    connect_backoff_base_s=0.02,
    connect_backoff_cap_s=0.1,
    connects_per_minute_max=10_000,
)
"""Deadlines that no busy machine reaches; whoever tests one of them sets that one."""
SILENCE_S = 3.0
"""A deadline where the far side is silent on purpose: long for whatever else is answered, short to wait for."""


class FakeClock(SystemClock):
    """The machine's clocks, set forward by hand."""

    def __init__(self):
        self.wall_s = self.slept_s = 0.0

    def now(self):
        return super().now() + self.wall_s

    def monotonic(self):
        return super().monotonic() + self.slept_s


class Credentials:
    """What the gateway needs of a keyring."""

    def __init__(self, secrets):
        self.secrets = secrets

    def secret(self, credential_id):
        return self.secrets.get(credential_id)


class World:
    """A simulator and a gateway that knows it."""

    def __init__(self, simulator, clock, transport, resolver=None):
        self.simulator = simulator
        self.clock = clock
        keys = simulator.identity.keys.values()
        secrets = {
            number: ApnsToken(team_id=key.team_id, key_id=key.key_id, private_key=simulator.identity.pem(key.key_id))
            for number, key in enumerate(keys, 1)
        }
        self.credentials = Credentials(secrets)
        config = ApnsConfig(
            production_host="localhost",
            sandbox_host="localhost",
            production_port=simulator.port,
            sandbox_port=simulator.sandbox_port,
            ca_file=str(simulator.ca_file),
        )
        self.gateway = ApnsGateway(config, transport, self.credentials, clock, resolver)

    @property
    def record(self):
        return self.simulator.record

    def fault(self, action, **where):
        return self.simulator.faults.add(Fault(action=action, **where))

    def batch(self, rows=1, first=1, payloads=PAYLOAD, notifications=7, lane=Lane.BULK, route=ROUTE, credential=1):
        ids = np.arange(first, first + rows, dtype=np.uint32)
        tokens = np.array([token(number) for number in ids.tolist()], "S64")
        return Batch(
            route=route,
            credential_id=credential,
            lane=lane,
            ids=ids,
            tokens=tokens,
            revisions=np.ones(rows, np.int32),
            notifications=notifications,
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

    @property
    def pool(self):
        (pool,) = self.gateway.pools
        return pool

    def at_rest(self):
        """No row is forgotten anywhere."""
        return all(pool.waiting == 0 and pool.outstanding == 0 for pool in self.gateway.pools)


async def until(holds, seconds=60.0):
    """Returns once it holds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


def token(number):
    return f"{number:064x}"


@pytest.fixture
def world(tmp_path):
    """`async with world(...) as w`: behaviour and transport settings by keyword."""

    @asynccontextmanager
    async def make(behaviour=None, resolver=None, clock=None, keys=(), tls=None, names=(), **settings):
        clock = clock or FakeClock()
        simulator = Simulator(
            tmp_path / "simulator", behaviour=behaviour or Behaviour(), clock=clock, keys=keys, tls=tls, names=names
        )
        await simulator.start()
        made = World(simulator, clock, msgspec.structs.replace(PATIENT, **settings), resolver)
        await made.gateway.start()
        try:
            yield made
        finally:
            await made.gateway.stop(1.0)
            await simulator.stop()

    return make
