"""Caps over restarts and among nodes, on a real PostgreSQL, against a list of what was sent."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict

import numpy as np
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.errors import UnavailableError
from pushd.model.caps import Cap
from pushd.outcome import FREQUENCY_CAP
from pushd.scheduler import counting, pauses
from pushd.scheduler.gate import Gate
from pushd.store.changes import ChangeStore, Follower, Listeners
from pushd.store.database import Database
from pushd.store.tallies import TallyStore, keep
from tests.pushd.scheduler.crowd import Someone, app_of, everyone, index_of, send_of

pytestmark = pytest.mark.asyncio
NOW = 1_800_000_000
OFFERS = send_of(category="offers")


@pytest_asyncio.fixture
async def database(dsn):
    database = Database(StoreConfig(pool_size=6, retry_after_s=0.2, feed_poll_ms=50), dsn)
    await database.start()
    yield database
    await database.stop()


class Nodes:
    """Gates of several daemons over one database, and what was sent through them."""

    def __init__(self, database, people, cap):
        self.database, self.tallies, self.people = database, TallyStore(database), people
        self.app = app_of(caps={"offers": cap})
        self.index = index_of(people)
        self.gates = [Gate(self.index, self.tallies, number) for number in range(3)]
        self.ids = [0, 1, 2]

    async def commit(self, admission, node=0):
        """As the runner does: kept in the transaction that releases, then told."""
        if admission.tally is not None:
            async with self.database.transaction() as connection:
                await keep(connection, self.ids[node], [admission.tally])
        self.gates[node].sent(admission)

    async def send(self, devices, at, node=0):
        """The devices that it went to."""
        admission = await self.gates[node].judge(self.app, OFFERS, devices, at)
        await self.commit(admission, node)
        return admission.go

    def restart(self, node=0):
        self.ids[node] += 3
        self.gates[node] = Gate(self.index, self.tallies, self.ids[node])


PEOPLE = [
    *(Someone(id=number, user=1 + number // 3, install=number) for number in range(1, 30)),
    # Two devices of an install that belongs to nobody, one of another, and one of which no install is known.
    Someone(30, install=100),
    Someone(31, install=100),
    Someone(32, install=101),
    Someone(33),
]


async def no_images(ids):
    raise AssertionError(f"nobody changed {ids}")


async def test_a_person_with_several_devices_is_one(database):
    nodes = Nodes(database, PEOPLE, Cap(messages=1, window_s=3600))
    assert await nodes.send(Devices([1, 30]), NOW) == Devices([1, 30])
    admission = await nodes.gates[0].judge(nodes.app, OFFERS, everyone(PEOPLE), NOW + 3599)
    assert admission.dropped == ((Devices([1, 2, 30, 31]), FREQUENCY_CAP),)
    assert admission.go == everyone(PEOPLE) - Devices([1, 2, 30, 31])
    await nodes.commit(admission)
    assert await nodes.send(everyone(PEOPLE), NOW + 3600) == Devices([1, 2, 30, 31])


async def test_what_is_judged_and_not_sent_is_not_counted(database):
    nodes = Nodes(database, PEOPLE, Cap(messages=1, window_s=3600))
    gate, devices = nodes.gates[0], Devices([1, 4, 7])
    first = await gate.judge(nodes.app, OFFERS, devices, NOW)
    second = await gate.judge(nodes.app, OFFERS, devices, NOW)
    assert (first.go, second.go) == (devices, Devices())  # the first may still go out
    assert second.tally is None
    del first
    gc.collect()
    third = await gate.judge(nodes.app, OFFERS, devices, NOW + 1)
    assert third.go == devices
    await nodes.commit(third)
    del third, second
    assert await nodes.send(devices, NOW + 2) == Devices()


@pytest.mark.parametrize("turns", [3, 8, 14, 20])
async def test_who_stops_asking_half_way_leaves_nothing_counted(database, turns, monkeypatch):
    for name in ("SLICE_ROWS", "SLICE_CELLS"):
        monkeypatch.setattr(counting, name, 2)
    monkeypatch.setattr(pauses, "SLICE_S", 0.0)
    nodes = Nodes(database, PEOPLE, Cap(messages=1, window_s=3600))
    assert await nodes.send(Devices([1]), NOW) == Devices([1])
    if turns > 10:
        nodes.restart()  # it stops while what was sent is read
    asking = asyncio.create_task(nodes.gates[0].judge(nodes.app, OFFERS, everyone(PEOPLE), NOW + 1))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], asyncio.CancelledError)
    del asking
    gc.collect()
    assert await nodes.send(everyone(PEOPLE), NOW + 2) == everyone(PEOPLE) - Devices([1, 2])
    assert await asyncio.gather(*(database.fetchval("SELECT 1") for _ in range(6))) == [1] * 6


async def test_a_notification_counts_once_however_many_releases_it_has(database):
    nodes = Nodes(database, PEOPLE, Cap(messages=2, window_s=3600))
    first, second, other = Devices([3, 6]), Devices([4, 5, 9]), Devices([3, 4])  # users 2, 3; 2, 2, 4

    async def release(devices, at, notification_id, node=0):
        return await nodes.gates[node].judge(nodes.app, OFFERS, devices, at, notification_id)

    await nodes.commit(await release(first, NOW, 7))
    pending = await release(second, NOW + 60, 7)
    again = await release(second, NOW + 60, 7)  # nothing of the one before is committed
    assert (pending.go, again.go) == (second, second)
    assert set(pending.tally.persons) == {4}
    assert again.tally is None
    del again
    await nodes.commit(pending)
    nodes.restart()
    assert (await release(first | second, NOW + 120, 7)).tally is None
    await nodes.commit(await release(other, NOW + 180, 8))  # the second message of user 2
    assert (await release(other, NOW + 240, 9)).go == Devices()
    assert (await release(other, NOW + 240, 8, node=1)).go == other
    assert (await release(Devices([4]), NOW + 300, 7, node=2)).go == Devices([4])


async def test_a_cap_that_is_changed_counts_what_was_sent_before(database):
    nodes = Nodes(database, PEOPLE, Cap(messages=1, window_s=60))
    devices = Devices([1])
    assert await nodes.send(devices, NOW) == devices
    reserved = await nodes.gates[0].judge(nodes.app, OFFERS, devices, NOW + 60)
    nodes.app = app_of(caps={"offers": Cap(messages=3, window_s=3600)})
    assert await nodes.send(devices, NOW + 61) == devices
    assert await nodes.send(devices, NOW + 62) == Devices()  # two were sent, one may be
    await nodes.commit(reserved)
    assert await nodes.send(devices, NOW + 63) == Devices()
    nodes.app = app_of()
    assert await nodes.send(devices, NOW + 64) == devices


async def test_what_is_transactional_or_of_no_category_is_not_counted(database):
    nodes = Nodes(database, PEOPLE, Cap(messages=1, window_s=3600))
    for send in (send_of(category="offers", transactional=True), send_of(), send_of(category="news")):
        for _ in range(3):
            admission = await nodes.gates[0].judge(nodes.app, send, Devices([1]), NOW)
            assert admission.go == Devices([1])
            assert admission.tally is None
            await nodes.commit(admission)
    assert await nodes.send(Devices([1]), NOW) == Devices([1])


async def test_what_was_counted_elsewhere_is_heard_by_the_feed(database):
    nodes = Nodes(database, PEOPLE, Cap(messages=2, window_s=3600))
    heard = asyncio.Event()

    async def on_tallies(app_ids):
        await nodes.gates[1].heard(app_ids)
        heard.set()

    changes = ChangeStore(database)
    position = await changes.position()
    listeners = Listeners(on_tallies=on_tallies)
    follower = Follower(changes, database, listeners, no_images, no_images, lambda: position)
    await follower.start()
    devices = Devices([1, 4])
    assert await nodes.send(devices, NOW, node=1) == devices
    heard.clear()
    assert await nodes.send(devices, NOW + 1, node=0) == devices
    await asyncio.wait_for(heard.wait(), 10)
    assert await nodes.send(devices, NOW + 2, node=1) == Devices()
    await follower.stop()
    nodes.gates[0].renew()  # without the feed: who becomes the leader
    assert await nodes.send(devices, NOW + 2, node=0) == Devices()


async def test_an_outage_lets_nobody_through_and_costs_nobody_anything(dsn18):
    database = Database(StoreConfig(pool_size=2, connect_timeout_s=1, acquire_timeout_s=0.5), dsn18)
    await database.start()
    nodes = Nodes(database, PEOPLE, Cap(messages=1, window_s=3600))
    await nodes.send(Devices([1]), NOW)
    nodes.restart()
    await database.stop()
    with pytest.raises(UnavailableError):
        await nodes.gates[0].judge(nodes.app, OFFERS, Devices([1, 4]), NOW + 1)
    await database.start()
    assert await nodes.send(Devices([1, 4]), NOW + 2) == Devices([4])
    await database.stop()


@pytest.mark.parametrize("seed", range(4))
async def test_never_more_than_the_cap_over_restarts_and_nodes(database, seed, monkeypatch):
    """Random sends from three nodes, some at once, some that come to nothing, some nodes started anew meanwhile."""
    for name in ("SLICE_ROWS", "SLICE_CELLS"):
        monkeypatch.setattr(counting, name, 5)
    monkeypatch.setattr(pauses, "SLICE_S", 0.0)
    rng = np.random.default_rng(seed)
    cap = Cap(messages=int(rng.integers(1, 4)), window_s=int(rng.integers(60, 600)))
    nodes = Nodes(database, PEOPLE, cap)
    person = {each.id: each.user or -(each.install or 1_000 + each.id) for each in PEOPLE}
    sent: dict[int, list[int]] = defaultdict(list)
    now = NOW
    for _ in range(60):
        now += int(rng.integers(0, 120))
        node = int(rng.integers(0, 3))
        if rng.random() < 0.15:
            nodes.restart(node)
        nodes.gates[node].renew()
        chosen = [
            Devices(rng.choice(np.arange(1, 34), int(rng.integers(1, 20)), replace=False).tolist())
            for _ in range(int(rng.integers(1, 4)))
        ]
        admissions = await asyncio.gather(
            *(nodes.gates[node].judge(nodes.app, OFFERS, devices, now) for devices in chosen)
        )
        before = {each: [at for at in times if at > now - cap.window_s] for each, times in sent.items()}
        granted: dict[int, int] = defaultdict(int)
        for devices, admission in zip(chosen, admissions, strict=True):
            over = Devices.union(Devices(), *(dropped for dropped, _ in admission.dropped))
            assert admission.go | over == devices
            assert not admission.go & over
            for each in {person[device] for device in admission.go}:
                granted[each] += 1
        for each in {person[device] for devices in chosen for device in devices}:
            asked = sum(any(person[device] == each for device in devices) for devices in chosen)
            assert granted[each] == min(asked, cap.messages - len(before.get(each, [])))
        for admission in admissions:
            if rng.random() < 0.7:
                await nodes.commit(admission, node)
                for each in {person[device] for device in admission.go}:
                    sent[each].append(now)
        del admission, admissions
    assert any(len(times) > cap.messages for times in sent.values())
    for times in sent.values():
        for begin in times:
            assert sum(begin <= each < begin + cap.window_s for each in times) <= cap.messages
