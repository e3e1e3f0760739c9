"""A scheduler on a real store and index, under a clock that stands still; a fan-out that notes what it is given."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from contextlib import asynccontextmanager

import msgspec
import numpy as np

from pushd.clock import SystemClock
from pushd.cluster.node import Node
from pushd.commands import devices, notifications, users
from pushd.commands.context import Context
from pushd.commands.definitions import Definitions
from pushd.commands.scheduling import runner
from pushd.config import Config
from pushd.config.scheduler import SchedulerConfig
from pushd.inbox.catalogue import Catalogue
from pushd.model.app import Settings
from pushd.model.device import Registration
from pushd.model.notification import Send
from pushd.model.user import UserChange
from pushd.scheduler.gate import Gate
from pushd.store.store import Store
from pushd.targeting.index import Index
from tests.pushd.commands.world import NoCredentials

CONFIG = Config(scheduler=SchedulerConfig(retry_s=0.02, lead_s=0.05, look_s=0.2))


class Clock(SystemClock):
    """Wall time that the test sets; it only goes on when it is told to."""

    def __init__(self, at):
        self.at = at

    def now(self):
        return self.at


class Habits:
    """Preferred hours by device; noon for all others."""

    def __init__(self):
        self.by_device = {}
        self.asked = []

    async def hours(self, app_id, devices, at):
        self.asked.append(set(devices))
        ids = devices.column()
        return ids, np.array([self.by_device.get(each, 12) for each in ids.tolist()], np.int8)


@dataclasses.dataclass(frozen=True)
class Sent:
    """What the fan-out was given."""

    at: float
    notification: object
    release: int
    devices: frozenset
    suppressed: dict
    paused: bool
    version: int


class NotingFanout:
    """Notes what is released, by the test's clock; `full` is raised instead of taking more."""

    def __init__(self, clock):
        self.reasons = {}
        self._clock = clock
        self.sent = []
        self.full = None
        self.full_app = 0

    def check_room(self, rows=1, app_id=0):
        if self.full is not None and app_id == self.full_app:
            raise self.full

    def release(self, notification, settings, devices, *, release=0, suppressed=(), paused=False, version=-1):
        reasons = defaultdict(set)
        for some, code in suppressed:
            reasons[code] |= set(some)
        self.sent.append(
            Sent(self._clock.now(), notification, release, frozenset(devices), dict(reasons), paused, version)
        )

    def cancel(self, notification_id):
        return True

    def pause(self, notification_id):
        return True

    def unpause(self, notification_id):
        return True

    def ledger(self, notification_id):
        return None

    def counts(self, notification_id):
        return None


class World:
    """A node and its scheduler, with an app."""

    def __init__(self, store, node, clock, index, app):
        self.clock, self.store, self.index, self.app = clock, store, index, app
        self.habits, self.fanout = Habits(), NotingFanout(clock)
        self.gate = Gate(index, store.tallies, node.id)
        self.context = Context(
            store=store,
            index=index,
            definitions=Definitions(store, index),
            keyring=NoCredentials(),
            vault=None,
            gateways={},
            fanout=self.fanout,
            clock=clock,
            config=CONFIG,
            node_id=node.id,
            gate=self.gate,
            inbox=Catalogue(store.in_app, CONFIG.inbox, clock),
        )
        self.runner = runner(self.context, self.fanout, self.gate, self.habits)
        self._tokens = itertools.count(1)

    async def device(self, install, zone="", **fields):
        """The id of a registered device, in a zone."""
        token = f"{self.app.id:032x}{next(self._tokens):032x}"
        fields = {"bundle": "example.app", "token": token, "time_zone": zone, **fields}
        made = await devices.register(self.context, self.app.id, Registration(install_id=install, **fields))
        return made.id

    async def user(self, name, **fields):
        await users.put(self.context, self.app.id, UserChange(external_id=name, **fields))

    async def settings(self, **fields):
        """Changes the app."""
        self.app = await self.store.apps.update(self.app.id, settings=msgspec.convert(fields, Settings))

    async def send(self, audience=None, **said):
        """The id of a send."""
        body = {"audience": audience or {"type": "broadcast"}, "message": {"title": "Pears"}, **said}
        wanted = msgspec.json.decode(msgspec.json.encode(body), type=Send)
        answer = await notifications.send(self.context, self.app.id, wanted)
        return msgspec.json.decode(answer.body)["id"]

    async def look(self):
        """Does all that is due now."""
        while True:
            await self.runner.look()
            await self.runner.idle()
            if not await self.due():
                return

    async def due(self):
        """Whether something is due still."""
        now = self.clock.now()
        return await self.store.schedules.due(now, 1) or await self.store.rollouts.due(now, 1)

    async def until(self, at):
        """Lets time go by, stopping whenever something is due."""
        while True:
            await self.look()
            now = self.clock.now()
            ahead = [await self.store.schedules.next_at(now), await self.store.rollouts.next_at(now)]
            soonest = min((each for each in ahead if each is not None), default=at)
            if soonest >= at:
                break
            self.clock.at = soonest
        self.clock.at = at
        await self.look()

    def of(self, notification_id):
        """What was sent of a notification."""
        return [each for each in self.fanout.sent if each.notification.id == notification_id]

    def got(self, notification_id):
        """When each device was sent it; fails where one was twice."""
        found = {}
        for each in self.of(notification_id):
            for device in each.devices:
                assert device not in found, "sent twice"
                found[device] = each.at
        return found


@asynccontextmanager
async def stored(dsn, clock):
    """A store and a node of it under a clock."""
    store = Store(CONFIG.store, dsn, clock)
    await store.start()
    node = Node(store.database.connect)
    await node.start()
    try:
        yield store, node
    finally:
        await node.stop()
        await store.stop()


@asynccontextmanager
async def world(dsn, at, beside=None):
    """A world whose clock shows a time; `beside` another one it is a second node for the same app."""
    clock = Clock(at)
    async with stored(dsn, clock) as (store, node):
        app = beside.app if beside else await store.apps.create("orchard", Settings(time_zone="UTC"))
        made = World(store, node, clock, beside.index if beside else Index(clock), app)
        try:
            yield made
        finally:
            await made.runner.stop()
            await made.context.finish(5)
