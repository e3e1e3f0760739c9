"""A fan-out on doubles, with devices in a real index."""

import asyncio
import random
import time

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.clock import SystemClock
from pushd.config import FanoutConfig
from pushd.fanout.engine import Fanout
from pushd.model.app import Settings
from pushd.model.audience import Broadcast
from pushd.model.device import Environment, Kind, Route, Shape
from pushd.model.message import Message
from pushd.model.notification import Notification, Send
from pushd.model.rows import DeviceFlag, DeviceRows, Postings, UserRows
from pushd.targeting.index import Index
from tests.pushd.fanout.doubles import MemorySettlements, OneCredential, ScriptedGateway

QUICK = {"retry_base_s": 0.01, "retry_cap_s": 0.05, "unprocessed_pause_s": 0.01, "settle_interval_ms": 5}
BUNDLE = "com.example.app"
LIVE = DeviceFlag.HAS_TOKEN | DeviceFlag.PUSH_ENABLED


def rows(
    ids,
    *,
    app_id=1,
    revision=1,
    flags=LIVE,
    user_ids=None,
    route_id=None,
    bundle=BUNDLE,
    environment=Environment.PRODUCTION,
    kind=Kind.APNS,
    shape=Shape.OWN,
):
    """Images of devices with made-up tokens."""
    ids = np.asarray(ids, np.uint32)
    count = len(ids)
    route = Route(app_id, kind, environment, bundle, shape)
    number = route_id or app_id
    return DeviceRows(
        ids=ids,
        revisions=np.full(count, revision, np.int32),
        route_ids=np.full(count, number, np.int32),
        user_ids=np.zeros(count, np.uint32) if user_ids is None else np.asarray(user_ids, np.uint32),
        flags=np.full(count, int(flags), np.uint8),
        tokens=np.array([f"{each:064x}".encode() for each in ids.tolist()], "S64"),
        tags=Postings(offsets=np.zeros(count + 1, np.int32), ids=np.zeros(0, np.int32), names={}),
        routes={number: route},
    )


def people(ids, *, app_id=1):
    """Images of users."""
    count = len(ids)
    return UserRows(
        ids=np.asarray(ids, np.uint32),
        revisions=np.ones(count, np.int32),
        app_ids=np.full(count, app_id, np.int32),
        external_ids=[f"user-{each}" for each in ids],
        deleted=np.zeros(count, np.bool_),
        tags=Postings(offsets=np.zeros(count + 1, np.int32), ids=np.zeros(0, np.int32), names={}),
    )


def notification(number, *, app_id=1, audience=None, age_s=0.0, **options):
    """A notification as it was accepted `age_s` seconds ago."""
    released = time.time() - age_s
    send = Send(audience=audience or Broadcast(), message=Message(title=f"number {number}"), **options)
    expires = released + send.ttl_s if send.ttl_s is not None else None
    return Notification(
        id=number, app_id=app_id, send=send, created_at=released, released_at=released, expires_at=expires
    )


class Clock(SystemClock):
    """The machine's clocks, set forward by hand."""

    ahead_s = 0.0

    def now(self):
        return super().now() + self.ahead_s

    def monotonic(self):
        return super().monotonic() + self.ahead_s


class Bench:
    """A fan-out and its neighbours."""

    def __init__(self, clock=None, gateway=None, keyring=None, **config):
        self.config = msgspec.convert({**QUICK, **config}, FanoutConfig)
        self.index = Index()
        self.gateway = gateway or ScriptedGateway()
        self.store = MemorySettlements()
        self.keyring = keyring or OneCredential()
        self.fanout = Fanout(
            self.config,
            index=self.index,
            keyring=self.keyring,
            gateways={self.gateway.name: self.gateway},
            settlements=self.store,
            node_id=1,
            clock=clock or SystemClock(),
            source=random.Random(1),
        )
        self.failures = []
        self.fanout.fatal = self.failures.append

    def release(self, given, ids, **options):
        options = {"version": self.index.version} | options
        self.fanout.release(given, Settings(), Devices(ids), **options)

    async def until(self, condition, seconds=60.0):
        """Waits until a condition holds; the ledger must add up all the while."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.fanout.drift == 0
            assert not self.failures, self.failures
            assert time.monotonic() < deadline, "it did not come to that"
            await asyncio.sleep(0.002)
        assert not self.failures, self.failures

    async def done(self, *numbers, seconds=60.0):
        await self.until(lambda: set(numbers) <= set(self.store.finished), seconds)


@pytest_asyncio.fixture
async def bench():
    made = []

    async def make(**config):
        one = Bench(**config)
        made.append(one)
        await one.fanout.start()
        return one

    yield make
    for one in made:
        if isinstance(one.gateway, ScriptedGateway):
            one.gateway.gate.set()
        one.store.down = False
        await one.fanout.stop()
        assert not one.failures, one.failures


@pytest.fixture
def everyone():
    return range(1, 5_001)
