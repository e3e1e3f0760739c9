"""The statements of the wire path look rows up by their keys, even where statistics say that the tables are empty.

A table whose rows come and go (`runs`) is empty as often as not when it is vacuumed, and keeps its pages. A plan made
then that holds every row of it against every row of a settlement is right in a test, and far too slow at noon.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
import orjson
import pytest
import pytest_asyncio

from pushd.badges import COUNTED
from pushd.bitset import Devices
from pushd.model.app import Settings
from pushd.model.notification import Delivery
from pushd.store.accept_rows import Due
from pushd.store.dialect_events import _PAGE
from pushd.store.in_app import _LIST
from pushd.store.notifications import Idempotency
from pushd.store.schedules import Planned
from pushd.store.settlements import Delta, Retirement, Settlement, run_number
from tests.integration.store.samples import NOW, accept, accept_many, registration, rows_of
from tests.integration.store.test_resume import new_node
from tests.integration.store.timed import DAILY, LOCAL, firing, opening, rollout, scheduled

pytestmark = pytest.mark.asyncio

COUNT = 400
EXPLAIN = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_analyze = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = json;
SET client_min_messages = log;
"""
TRANSIENT = ("attempts", "badge_deltas", "idempotency", "outcome_deltas", "runs", "schedules")
EMPTY = f"UPDATE pg_class SET reltuples = 0, relpages = 1 WHERE relname IN {TRANSIENT}"


class Part(NamedTuple):
    """A node of a plan that was executed, and how many rows it looked at in vain."""

    in_vain: float
    kind: str
    query: str


class Plans:
    """What was executed."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def __call__(self, connection, message) -> None:
        found = re.search(r"plan:\s*(\{.*)", message.message, re.DOTALL)
        if found and "typeinfo_tree" not in message.message:  # the driver's own, once for each type
            plan = orjson.loads(found[1])
            self._look(plan["Plan"], plan["Query Text"])

    def _look(self, node, query) -> None:
        removed = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Join Filter", "Index Recheck"))
        self.parts.append(Part(removed * node["Actual Loops"], node["Node Type"], query))
        for inner in node.get("Plans", ()):
            self._look(inner, query)


@pytest_asyncio.fixture
async def plans(store, app, node):
    """A way to hear of every plan made for what is done, with tables that come and go thought to be empty.

    Somebody listens to all events of the app, so that these are written, too.
    """
    heard, plain = Plans(), store.database.connection
    await store.database.execute("INSERT INTO listeners (app_id, webhooks) VALUES ($1, 65535)", app.id)

    @asynccontextmanager
    async def connection():
        async with plain() as own:
            await own.execute(EXPLAIN)  # whichever it is: the store keeps connections at hand
            own.add_log_listener(heard)
            try:
                yield own
            finally:
                own.remove_log_listener(heard)

    store.database.connection = connection

    @asynccontextmanager
    async def explained():
        await store.database.execute("ANALYZE")
        await store.database.execute(EMPTY)
        heard.parts.clear()
        yield
        await asyncio.sleep(0)  # what was heard last is told in a turn of its own
        assert heard.parts
        worst = max(heard.parts, key=lambda part: part.in_vain)
        assert worst.in_vain <= COUNT, worst

    return explained


async def test_small_sends_are_accepted_and_settled_row_by_row(store, app, node, plans):
    many = [accept(app.id, node.id, Devices([1 + place])) for place in range(COUNT)]
    async with plans():
        sent = await accept_many(store, many)
    ids = [each.id for each in sent]
    async with plans():
        await store.settlements.settle(rows_of([(each, 1) for each in ids], finished=tuple(ids)), node.id)
    assert await store.database.fetchval("SELECT count(*) FROM finished") == COUNT


async def test_keys_are_found_row_by_row(store, app, node, plans):
    def keyed():
        return [
            accept(app.id, node.id, Devices([1]), idempotency=Idempotency(f"key-{place}", b"hash"))
            for place in range(COUNT)
        ]

    first = [each.id for each in await accept_many(store, keyed())]
    async with plans():
        again = [each.id for each in await accept_many(store, keyed())]
    assert again == first


async def test_large_sends_are_attempted_and_settled_part_by_part(store, app, node, plans):
    devices = Devices(range(1, 101))
    once = [accept(app.id, node.id, devices, delivery=Delivery.AT_MOST_ONCE) for _ in range(COUNT)]
    ids = [each.id for each in await accept_many(store, once)]
    async with plans():
        assert not await store.settlements.attempted([(each, devices) for each in ids], node.id)
    deltas = [Delta(each, 0, 0, 1, devices) for each in ids]
    async with plans():
        await store.settlements.settle(Settlement(deltas=deltas, finished=ids), node.id)
    assert await store.database.fetchval("SELECT count(*) FROM attempts") == 0


async def test_what_a_dead_node_left_is_read_run_by_run(store, app, plans):
    first = await new_node(store)
    devices = Devices(range(1, 101))
    once = [accept(app.id, first.id, devices, delivery=Delivery.AT_MOST_ONCE) for _ in range(COUNT)]
    ids = [each.id for each in await accept_many(store, once)]
    assert not await store.settlements.attempted([(each, devices) for each in ids], first.id)
    half = Devices(range(1, 51))
    await store.settlements.settle(Settlement(deltas=[Delta(each, 0, 0, 1, half) for each in ids]), first.id)
    await first.stop()
    second = await new_node(store)
    async with plans():
        resumes = await store.notifications.resumable(second.id)
    assert {(len(each.remaining), len(each.attempted)) for each in resumes} == {(50, 50)}
    await second.stop()


async def test_schedules_are_fired_and_postponed_row_by_row(store, app, node, plans):
    following = Due(NOW + 86_400, NOW + 86_400)
    await accept_many(store, [scheduled(app.id, node.id) for _ in range(COUNT)])
    await accept_many(store, [scheduled(app.id, node.id, schedule=DAILY) for _ in range(COUNT)])
    async with plans():
        await store.schedules.postpone(await store.schedules.due(NOW, 2 * COUNT), NOW + 1)
    due = await store.schedules.due(NOW + 1, 2 * COUNT)
    fresh = iter(await store.notifications.acceptor.reserve(COUNT))
    again = [{"notification_id": next(fresh), "following": following} if each.recurring else {} for each in due]
    firings = [firing(each, node.id, Devices([1]), **more) for each, more in zip(due, again, strict=True)]
    async with plans():
        assert await store.schedules.fire(firings, node.id) == [True] * len(due)
    assert await store.database.fetchval("SELECT count(*) FROM runs") == 2 * COUNT
    assert await store.database.fetchval("SELECT count(*) FROM schedules") == COUNT


async def test_devices_are_registered_and_retired_row_by_row(store, app, node, plans):
    made = [registration(place, user_id=f"user-{place}", tags=["a"]) for place in range(COUNT * 10)]
    for begin in range(0, len(made), COUNT):
        await store.devices.register_many(app.id, made[begin : begin + COUNT], NOW)
    async with plans():
        ids = (await store.devices.register_many(app.id, made[:COUNT], NOW + 60)).ids
    dead = Retirement(
        ids=ids, revisions=np.ones(COUNT, np.int32), at_ms=np.full(COUNT, int(NOW + 90) * 1000), reason="unregistered"
    )
    async with plans():
        done = await store.settlements.settle(Settlement(retired=[dead]), node.id)
    assert len(done.retired) == COUNT


async def test_releases_to_come_of_a_deleted_app_are_found_among_those_of_others(store, app, other, plans):
    await store.database.execute(
        "INSERT INTO rollouts (notification_id, app_id, created_at, next_at)"
        " SELECT n, CASE WHEN n > 2 THEN $1::int ELSE $2 END, now(), now() FROM generate_series(1, $3::int) n",
        *(other.id, app.id, 20 * COUNT),
    )
    async with plans():
        assert await store.apps.delete(app.id)
    waiting = await store.database.fetch("SELECT app_id, count(*) FROM rollouts WHERE next_at IS NOT NULL GROUP BY 1")
    assert [tuple(row) for row in waiting] == [(other.id, 20 * COUNT - 2)]


async def test_badges_of_many_apps_are_counted_app_by_app(store, node, plans):
    apps = [(await store.apps.create(f"app {number}", Settings())).id for number in range(20)]

    async def set_badges(*counts):
        for device, app_id in enumerate(apps, 1):
            for count in counts:
                await store.badges.set(app_id, device, count)

    await set_badges(*range(COUNT // 10))
    await store.badges.catch_up(apps)
    await set_badges(7)
    many = [accept(app_id, node.id, Devices([device]), badge_from=COUNTED) for device, app_id in enumerate(apps, 1)]
    async with plans():
        await accept_many(store, many)
    devices = np.arange(1, 21, dtype=np.uint32)
    assert store.badges.badges.of(devices).tolist() == [8] * 20
    await set_badges(9)
    async with plans():
        await store.badges.heard(apps)
    assert store.badges.badges.of(devices).tolist() == [9] * 20
    async with plans():
        assert await store.receipts.folder.fold(1, 0) == 20


async def test_releases_are_ended_run_by_run(store, app, node, plans):
    devices = Devices(range(1, 101))
    await accept_many(store, [scheduled(app.id, node.id, schedule=LOCAL) for _ in range(COUNT)])
    dues = await store.schedules.due(NOW, COUNT)
    planned = Planned(number=1, at=NOW, selector=None, devices=devices)
    firings = [rollout(due, node.id, planned, delivery=Delivery.AT_MOST_ONCE) for due in dues]
    async with plans():
        assert all(await store.schedules.fire(firings, node.id))
    releases = await store.rollouts.due(NOW, COUNT)
    async with plans():
        assert all(await store.rollouts.open([opening(each, devices) for each in releases], node.id))
    runs = [run_number(each.notification.id, 1) for each in releases]
    assert not await store.settlements.attempted([(each, devices) for each in runs], node.id)
    async with plans():
        await store.settlements.settle(
            Settlement(deltas=[Delta(each, 0, 0, 1, devices) for each in runs], finished=runs), node.id
        )
    assert await store.database.fetchval("SELECT count(*) FROM attempts") == 0
    assert await store.database.fetchval("SELECT count(*) FROM finished") == COUNT


async def test_lists_look_their_schedules_up_one_by_one(store, app, node, plans):
    await accept_many(store, [scheduled(app.id, node.id, schedule=DAILY) for _ in range(COUNT)])
    await store.database.execute(
        "INSERT INTO in_app_messages (id, app_id, created_at, audience, body, updated_at)"
        " SELECT s.id, s.app_id, now(), '{}', '{}', now() FROM schedules s"
    )
    await store.database.execute(
        "INSERT INTO dialect_events (id, app_id, dialect, user_id, notification_id, told, created_at, updated_at)"
        " SELECT s.id, s.app_id, 'connectycube', 1, s.id, '', to_timestamp(0), to_timestamp(0) FROM schedules s"
    )
    async with plans():
        assert len(await store.database.fetch(_LIST, app.id, 1 << 40, 100)) == 100
    async with plans():
        assert len(await store.database.fetch(_PAGE, app.id, "connectycube", 1, 0, 100)) == 100
    async with plans():
        assert not await store.dialect_events.purge(NOW)
