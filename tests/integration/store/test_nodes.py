"""Two nodes on one database, each with a fan-out: what one decides the other does, what one leaves the other ends."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import msgspec
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.clock import SystemClock
from pushd.cluster.node import Node
from pushd.config import FanoutConfig, StoreConfig
from pushd.fanout.engine import Fanout
from pushd.fanout.heard import Heard
from pushd.model.app import Settings
from pushd.model.notification import State
from pushd.outcome import ACCEPTED, CANCELLED, QUIET_HOURS
from pushd.store.changes import Listeners
from pushd.store.schedules import Planned
from pushd.store.store import Store
from pushd.targeting.index import Index
from tests.integration.store.samples import NOW, accept
from tests.integration.store.test_resume import cut_off
from tests.integration.store.timed import LOCAL, firing, opening, rollout, scheduled
from tests.pushd.fanout.conftest import rows
from tests.pushd.fanout.doubles import OneCredential, ScriptedGateway

pytestmark = pytest.mark.asyncio

DEVICES = 4_000
QUICK = {"settle_interval_ms": 5, "unsettled_rows_max": 400, "batch_rows_max": 100}


class Daemon:
    """A node with what cancels, pauses, sends and settles in a daemon."""

    def __init__(self, dsn: str) -> None:
        self.store = Store(StoreConfig(pool_size=3, retry_after_s=0.2, feed_poll_ms=100), dsn)
        self.gateway = ScriptedGateway()
        self._stack = AsyncExitStack()

    async def start(self) -> Daemon:
        await self._begin(self.store)
        self.node = Node(self.store.database.connect, ping_s=60)
        await self._begin(self.node)
        self.index = Index()
        self.index.apply_devices(rows(range(1, DEVICES + 1)))
        self.heard = Heard(self.store.notifications, self.node.id)
        await self._begin(self.heard)
        await self._begin(self.store.follow(Listeners(on_notifications=self.heard.notifications)))
        self.fanout = Fanout(
            msgspec.convert(QUICK, FanoutConfig),
            index=self.index,
            keyring=OneCredential(),
            gateways={self.gateway.name: self.gateway},
            settlements=self.store.settlements,
            node_id=self.node.id,
            clock=SystemClock(),
            source=random.Random(1),
        )
        await self._begin(self.fanout)
        self.heard.begin(self.fanout)
        return self

    async def _begin(self, service) -> None:
        await service.start()
        self._stack.push_async_callback(service.stop)

    async def stop(self) -> None:
        self.gateway.gate.set()
        await self._stack.aclose()

    async def die(self) -> None:
        """As kill -9 does: nothing more is launched, heard or settled, and the session ends."""
        self.fanout._dispatcher._draining = True
        await self.fanout._dispatcher.cancel_tasks()
        await self.fanout._recorder.cancel_tasks()
        await cut_off(self.store, self.node)

    async def send(self, app, targets) -> int:
        """A plain send, accepted and released here."""
        kept = await self.store.notifications.accept(accept(app.id, self.node.id, targets))
        self.fanout.release(kept.notification, Settings(), targets)
        return kept.id

    async def open_next(self, targets, **fields) -> int:
        """Opens the next release that is due, here; the notification."""
        (release,) = await self.store.rollouts.due(NOW, 1)
        made = opening(release, targets, expires_at=None, **fields)
        assert await self.store.rollouts.open([made], self.node.id) == [True]
        given = msgspec.structs.replace(release.notification, expires_at=None)
        held = Devices.union(Devices(), *(devices for devices, _ in made.suppressed))
        options = {"release": release.number, "suppressed": made.suppressed, "paused": release.paused}
        self.fanout.release(given, Settings(), targets - held, **options)
        return release.notification.id

    async def take_over(self) -> list[tuple[int, int]]:
        """Goes on with what a dead node left; which releases."""
        taken = []
        async with asyncio.timeout(60):
            while not taken:
                for left in await self.store.notifications.resumable(self.node.id):
                    taken.append((left.notification.id, left.release))
                    self.fanout.resume(
                        left.notification,
                        Settings(),
                        release=left.release,
                        targeted=left.targeted,
                        counts=left.counts,
                        remaining=left.remaining,
                        attempted=left.attempted,
                    )
                await asyncio.sleep(0.05)
        return sorted(taken)


@pytest_asyncio.fixture
async def nodes(dsn18):
    pair = [await Daemon(dsn18).start() for _ in range(2)]
    yield pair
    for each in pair:
        await each.stop()


@pytest_asyncio.fixture
async def app(nodes):
    return await nodes[0].store.apps.create("one", Settings())


async def until(condition, seconds=60.0):
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.01)
    return found


async def finished(one, app, number):
    async def over():
        stored = await one.store.notifications.get(app.id, number)
        return stored if stored.finished_at is not None else None

    return await until(over)


async def begun(one):
    """Returns when some of what a node runs is on the wire, and hangs there."""

    async def some():
        return one.gateway.in_flight

    await until(some)


async def rolling_out(one, app, *planned):
    await one.store.notifications.accept(scheduled(app.id, one.node.id, schedule=LOCAL))
    (due,) = await one.store.schedules.due(NOW, 1)
    assert await one.store.schedules.fire([rollout(due, one.node.id, *planned)], one.node.id) == [True]
    return due.id


def by_code(stored):
    return {code: count for (_, code), count in stored.counts.items()}


async def test_a_cancel_through_the_other_node_ends_what_runs_here(nodes, app):
    here, there = nodes
    here.gateway.gate.clear()
    number = await here.send(app, Devices(range(1, DEVICES + 1)))
    await begun(here)
    assert await there.store.notifications.cancel(app.id, number)

    async def withdrawn():
        return here.fanout.ledger(number).pending == here.gateway.in_flight

    await until(withdrawn)
    here.gateway.gate.set()
    stored = await finished(there, app, number)
    assert stored.notification.state is State.CANCELLED
    sent = len(here.gateway.devices(number))
    assert by_code(stored) == {ACCEPTED.code: sent, CANCELLED.code: DEVICES - sent}
    assert sent <= QUICK["unsettled_rows_max"]


async def test_releases_on_two_nodes_are_paused_and_go_on_through_either(nodes, app):
    here, there = nodes
    number = await rolling_out(here, app, *(Planned(at=NOW - late) for late in (2, 1)))
    half = DEVICES // 2
    for one in nodes:
        one.gateway.gate.clear()
    await here.open_next(Devices(range(1, half + 1)))
    await there.open_next(Devices(range(half + 1, DEVICES + 1)))
    for one in nodes:
        await begun(one)
    assert await there.store.notifications.pause(app.id, number)

    async def paused():
        return all(one.fanout._campaigns.of(number)[0].paused for one in nodes)

    await until(paused)
    for one in nodes:
        one.gateway.gate.set()

    async def at_rest():
        return all(one.fanout.unsettled == 0 for one in nodes)

    await until(at_rest)
    stored = await here.store.notifications.get(app.id, number)
    sent = sum(len(one.gateway.devices(number)) for one in nodes)
    assert (stored.notification.state, by_code(stored)) == (State.PAUSED, {ACCEPTED.code: sent})
    assert sent <= 2 * QUICK["unsettled_rows_max"]
    assert await here.store.notifications.unpause(app.id, number)
    stored = await finished(there, app, number)
    assert (stored.notification.state, by_code(stored)) == (State.DONE, {ACCEPTED.code: DEVICES})
    assert all(one.gateway.sent.total() == len(one.gateway.sent) == half for one in nodes)


async def test_pauses_and_a_cancel_from_both_sides_leave_a_ledger_that_adds_up(nodes, app):
    here, there = nodes
    number = await rolling_out(here, app, *(Planned(at=NOW - late) for late in (4, 3, 2, 1)))
    quarter, source = DEVICES // 4, random.Random(7)
    for place, one in enumerate((here, there, there, here)):
        part = Devices(range(place * quarter + 1, (place + 1) * quarter + 1))
        asleep = ((Devices(range(place * quarter + 1, place * quarter + 101)), QUIET_HOURS.code),)
        await one.open_next(part, suppressed=asleep)
    for _ in range(12):
        decide = source.choice([each.store.notifications for each in nodes])
        await (decide.pause if source.random() < 0.6 else decide.unpause)(app.id, number)
        await asyncio.sleep(source.random() * 0.03)
    await there.store.notifications.cancel(app.id, number)
    stored = await finished(here, app, number)
    sent = sum(len(one.gateway.devices(number)) for one in nodes)
    assert sum(one.gateway.sent.total() for one in nodes) == sent
    expected = {ACCEPTED.code: sent, QUIET_HOURS.code: 400, CANCELLED.code: DEVICES - 400 - sent}
    assert by_code(stored) == {code: count for code, count in expected.items() if count}
    assert await here.store.notifications.pending_devices(app.id, number, 0, 10) == []


async def test_releases_of_a_dead_node_are_ended_by_the_other_and_each_device_is_settled_once(nodes, app):
    here, there = nodes
    number = await rolling_out(here, app, *(Planned(at=NOW - late) for late in (3, 2, 1)))
    third = DEVICES // 4
    asleep = Devices(range(1, 101))
    here.gateway.hangs = lambda batch: here.gateway.sent.total() > 600  # before even the first is through
    here.gateway.gate.clear()
    await here.open_next(Devices(range(1, third + 1)), suppressed=((asleep, QUIET_HOURS.code),))
    await here.open_next(Devices(range(third + 1, 2 * third + 1)))
    await there.open_next(Devices(range(2 * third + 1, 3 * third + 1)))
    await begun(here)
    await here.die()
    assert await there.take_over() == [(number, 1), (number, 2)]
    stored = await finished(there, app, number)
    assert by_code(stored) == {ACCEPTED.code: 3 * third - 100, QUIET_HOURS.code: 100}
    assert not asleep & Devices(there.gateway.devices(number)), "whom quiet hours kept it from does not get it now"
    assert await there.store.database.fetchval("SELECT count(*) FROM finished WHERE notification_id = $1", number) == 1


async def test_what_was_fired_and_never_begun_is_begun_by_the_other(nodes, app):
    here, there = nodes
    await here.store.notifications.accept(scheduled(app.id, here.node.id))
    (due,) = await here.store.schedules.due(NOW, 1)
    asleep = ((Devices(range(1, 11)), QUIET_HOURS.code),)
    made = firing(due, here.node.id, Devices(range(1, 51)), suppressed=asleep, expires_at=None)
    assert await here.store.schedules.fire([made], here.node.id) == [True]
    assert await there.store.notifications.pause(app.id, due.id)
    await here.die()
    assert await there.take_over() == [(due.id, 0)]
    await asyncio.sleep(0.1)
    assert there.gateway.sent == {}, "it was paused before"
    assert await there.store.notifications.unpause(app.id, due.id)
    stored = await finished(there, app, due.id)
    assert by_code(stored) == {ACCEPTED.code: 40, QUIET_HOURS.code: 10}
    assert there.gateway.devices(due.id) == list(range(11, 51))
