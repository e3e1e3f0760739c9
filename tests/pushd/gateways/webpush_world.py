"""A Web Push gateway in front of local push services, with deadlines that suit tests."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest

from pushd.batch import Batch, Lane, Rendered
from pushd.clock import SystemClock
from pushd.config.webpush import WebPushConfig
from pushd.credentials import vapid_keys
from pushd.gateways.webpush import WebPushGateway
from pushd.model.credential import VapidKeys
from pushd.model.device import Environment, Kind, Route
from pushd.simulator.faults import Fault
from pushd.simulator.identity import Identity
from pushd.simulator.webpush import PushService
from tests.contract.webpush_far import address, public
from tests.pushd.gateways.apns_world import PATIENT, Credentials, FakeClock

__all__ = ["PAYLOAD", "ROUTE", "FakeClock", "World", "push_world"]

ROUTE = Route(1, Kind.WEBPUSH, Environment.PRODUCTION, "")
PAYLOAD = Rendered(payload=b'{"notification":{"title":"hello"}}', headers=(("urgency", "high"), ("topic", "pushd-7")))


class World:
    """Push services and a gateway that may reach them."""

    def __init__(self, services, clock=None, transport=PATIENT, resolver=None, **config):
        self.services = services
        self.service = services[0]
        self.clock = clock or SystemClock()
        self.secret = vapid_keys.complete(VapidKeys(subject="mailto:push@example.com"), None)
        self.credentials = Credentials({1: self.secret})
        settings = {
            "hosts_added": tuple(f"{s.name}:{port}" for s in services for port in (s.port, s.http1_port)),
            "networks_allowed": ("127.0.0.0/8", "::1/128"),
            "ca_file": str(self.service.identity.ca_file),
            "encrypt_workers": 0,
        }
        self.gateway = WebPushGateway(
            WebPushConfig(**{**settings, **config}), transport, self.credentials, self.clock, resolver
        )

    def subscriber(self, number, service=None, http1=False, secret=None):
        service = service or self.service
        name = f"n{number}"
        known = service.subscribers.get(name)
        return known or service.subscribe(public(secret or self.secret), name=name, http1=http1)

    def tokens(self, rows, first=1, service=None, http1=False):
        return [address(self.subscriber(n, service, http1)) for n in range(first, first + rows)]

    def batch(self, tokens, payloads=PAYLOAD, lane=Lane.BULK, credential=1, notifications=7):
        rows = len(tokens)
        return Batch(
            route=ROUTE,
            credential_id=credential,
            lane=lane,
            ids=np.arange(1, rows + 1, dtype=np.uint32),
            tokens=np.array([token.encode() for token in tokens], None if rows else "S1"),
            revisions=np.ones(rows, np.int32),
            notifications=notifications,
            payloads=payloads,
        )

    async def send(self, tokens, **rest):
        batch = self.batch(tokens, **rest)
        await asyncio.wait_for(self.gateway.send(batch), 60)
        assert not batch.pending
        return batch

    def fault(self, action, number=None, service=None, **rest):
        tokens = [] if number is None else [f"n{number}"]
        return (service or self.service).faults.add(Fault(action=action, tokens=tokens, **rest))

    def reasons(self, batch):
        """How many rows ended for each reason."""
        return Counter(self.gateway.reasons.name(code) for code in batch.outcomes.tolist())

    def reason(self, batch, row=0):
        return self.gateway.reasons.name(int(batch.outcomes[row]))

    @property
    def accepted(self):
        """Accepted pushes by name of subscription, over all services."""
        return sum((service.accepted for service in self.services), Counter())

    @property
    def plaintexts(self):
        """What browsers read, by name of subscription."""
        return {push.name: push.text for service in self.services for push in service.pushes}

    def at_rest(self):
        """No row is forgotten anywhere."""
        return all(way.waiting == 0 for way in self.gateway._ways.values())


@pytest.fixture
def push_world(tmp_path):
    """`async with push_world(services=2, padding_block_bytes=128) as w`: settings of Web Push by keyword."""

    @asynccontextmanager
    async def make(services=1, transport=None, names=("localhost",), behaviour=None, **rest):
        identity = Identity(tmp_path / "identity", names=names)
        made = [PushService(identity, name=names[n % len(names)], behaviour=behaviour) for n in range(services)]
        for service in made:
            await service.start()
        world = World(made, transport=msgspec.structs.replace(PATIENT, **(transport or {})), **rest)
        await world.gateway.start()
        try:
            yield world
        finally:
            await world.gateway.stop(0.3)
            for service in made:
                await service.stop()

    return make
