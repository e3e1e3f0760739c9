"""PostgreSQL in trouble: 503 meanwhile, and everything goes on by itself afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time

import asyncpg
import psutil
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.cluster.node import Node
from pushd.config import StoreConfig
from pushd.errors import UnavailableError
from pushd.model.app import Settings
from pushd.model.notification import State
from pushd.store import programs
from pushd.store.database import Database, OutcomeUnknownError
from pushd.store.embedded import EmbeddedServer
from pushd.store.store import Store
from tests.integration.store.samples import NOW, accept, registration, rows_of
from tests.postgres import BINDIRS

pytestmark = pytest.mark.asyncio

QUICK = StoreConfig(
    pool_size=3, connect_timeout_s=1, acquire_timeout_s=1, statement_timeout_s=1, write_timeout_s=1, retry_after_s=0.3
)


@pytest_asyncio.fixture(params=list(BINDIRS))
async def server(request):
    directory = tempfile.mkdtemp(prefix="pushd-test-")
    server = EmbeddedServer(directory, BINDIRS[request.param], settings={"fsync": "off"})
    await server.start()
    yield server
    await server.stop()
    shutil.rmtree(directory)


async def started(server):
    store = Store(QUICK, server.dsn)
    await store.start()
    node = Node(store.database.connect, ping_s=0.1)
    await node.start()
    return store, node, await store.apps.create("one", Settings())


async def eventually(work, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return await work()
        except UnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_killed_server_is_503_until_it_is_back(server, caplog):
    store, node, app = await started(server)
    kept = []
    stop = asyncio.Event()
    slowest = 0.0

    async def produce():
        nonlocal slowest
        while not stop.is_set():
            begin = time.monotonic()
            with contextlib.suppress(UnavailableError):
                kept.append((await store.notifications.accept(accept(app.id, node.id, Devices([1])))).id)
            slowest = max(slowest, time.monotonic() - begin)
            await asyncio.sleep(0.001)

    producers = [asyncio.create_task(produce()) for _ in range(8)]
    await asyncio.sleep(0.3)
    before = len(kept)
    os.kill(server.pid, signal.SIGKILL)
    await server._process.wait()
    with pytest.raises(UnavailableError) as error:
        await store.devices.register_many(app.id, [registration(1)], NOW)
    assert error.value.retry_after_s == 0.3
    # The same place again: crash recovery first.
    await server._launch(await _programs(server))
    await eventually(lambda: store.devices.register_many(app.id, [registration(1)], NOW))
    after = len(kept)
    while len(kept) < after + 20:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*producers)
    assert before > 0
    assert slowest < 6
    assert not [record for record in caplog.records if record.name.startswith("asyncpg")], "one line of ours says it"
    # Exactly what was promised is there: nothing is lost, nothing is left over.
    await asyncio.sleep(0.5)
    there = {row["id"] for row in await store.database.fetch("SELECT id FROM notifications")}
    assert there == set(kept)
    assert {row["notification_id"] for row in await store.database.fetch("SELECT notification_id FROM runs")} == there
    # The node is the same, and may still settle.
    done = await eventually(lambda: store.settlements.settle(rows_of([(kept[0], 1)], finished=(kept[0],)), node.id))
    assert done.refused == frozenset()
    await node.stop()
    await store.stop()


async def _programs(server):
    return programs.find(server._bindir, server._home, server._account)


async def test_a_killed_backend_costs_one_call(store, node, app):
    for _ in range(3):
        await store.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        await eventually(lambda: store.notifications.accept(accept(app.id, node.id, Devices([1]))))
        await eventually(lambda: store.users.list(app.id, 0, 1))


async def test_a_settlement_goes_through_once_the_server_is_back(server):
    store, node, app = await started(server)
    sent = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    settlement = rows_of([(sent.id, 1)], finished=(sent.id,))
    os.kill(server.pid, signal.SIGSTOP)
    # Backends are processes of their own; new connections hang. Stop those, too.
    backends = _children(server.pid)
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(UnavailableError):
        await store.settlements.settle(settlement, node.id)
    assert time.monotonic() - begin < 5
    for pid in (*backends, server.pid):
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: store.settlements.settle(settlement, node.id))
    assert await store.notifications.counts(app.id, sent.id) == {(0, 1): 1}
    assert (await store.notifications.get(app.id, sent.id)).notification.state is State.DONE
    await node.stop()
    await store.stop()


def _children(pid):
    return [each.pid for each in psutil.Process(pid).children()]


async def test_a_server_that_is_not_there_is_unavailable(tmp_path):
    database = Database(QUICK, f"postgresql://pushd@/pushd?host={tmp_path}")
    with pytest.raises(UnavailableError):
        await database.start()
    with pytest.raises(UnavailableError):
        await database.fetchval("SELECT 1")


async def test_deadlines_and_full_pools_are_unavailable_and_pass(dsn):
    database = Database(QUICK, dsn)
    await database.start()
    with pytest.raises(OutcomeUnknownError):
        await database.fetchval("SELECT pg_sleep(5)", timeout_s=0.1)
    assert await database.fetchval("SELECT 1") == 1
    sleepers = [asyncio.create_task(database.fetchval("SELECT pg_sleep(1.5)", timeout_s=3)) for _ in range(3)]
    await asyncio.sleep(0.1)
    begin = time.monotonic()
    with pytest.raises(UnavailableError):
        await database.fetchval("SELECT 1")
    assert time.monotonic() - begin < 1.4
    await asyncio.gather(*sleepers)
    assert await database.fetchval("SELECT 1") == 1
    await database.stop()


@pytest.mark.parametrize("sqlstate", ["53100", "53300", "57P03", "58030", "40P01", "55P03", "25006"])
async def test_trouble_of_the_server_is_unavailable(dsn, sqlstate):
    database = Database(QUICK, dsn)
    await database.start()
    with pytest.raises(UnavailableError) as error:
        await database.execute(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{sqlstate}'; END $$")
    assert not isinstance(error.value, OutcomeUnknownError)
    with pytest.raises(asyncpg.PostgresError):
        await database.execute("SELECT 1 / 0")
    await database.stop()


async def test_a_connection_lost_before_there_were_ids_promises_nothing(store, node, app, monkeypatch):
    fetch = store.database.fetch

    async def lose(query, *args, **options):
        if "notification_ids" in args:
            monkeypatch.setattr(store.database, "fetch", fetch)
            raise OutcomeUnknownError("lost on the way")
        return await fetch(query, *args, **options)

    monkeypatch.setattr(store.database, "fetch", lose)
    with pytest.raises(UnavailableError):
        await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    assert not await fetch("SELECT id FROM notifications")
    assert (await store.notifications.accept(accept(app.id, node.id, Devices([1])))).id


async def test_a_connection_is_used_again_and_whoever_waits_for_one_gets_it(dsn):
    database = Database(QUICK, dsn)
    await database.start()
    served = [await database.fetchval("SELECT pg_backend_pid()") for _ in range(600)]
    assert len(set(served)) <= 2, "one that is looked at by the pool lets another take its place"
    # More at once than there are connections, over and over: nobody waits for one that lies about.
    async with asyncio.timeout(5):
        for _ in range(20):
            found = await asyncio.gather(*(database.fetchval("SELECT pg_backend_pid()") for _ in range(12)))
            assert len(set(found)) <= QUICK.pool_size
    async with database.connection() as first, database.connection() as second, database.connection():
        late = asyncio.create_task(database.fetchval("SELECT pg_backend_pid()"))
        await asyncio.sleep(0.05)
        assert not late.done()
        ids = {await each.fetchval("SELECT pg_backend_pid()") for each in (first, second)}
    assert await late
    assert len(ids) == 2
    await database.stop()


async def test_a_connection_that_ended_while_nobody_used_it_is_replaced(dsn):
    database, other = Database(QUICK, dsn), Database(QUICK, dsn)
    await database.start()
    await other.start()
    pid = await database.fetchval("SELECT pg_backend_pid()")
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    await asyncio.sleep(0.2)  # its end has come in
    assert await database.fetchval("SELECT pg_backend_pid()") != pid
    await database.stop()
    await other.stop()


async def test_a_transaction_that_was_left_open_is_not_handed_on(dsn):
    database = Database(QUICK, dsn)
    await database.start()
    async with database.connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute("CREATE TEMPORARY TABLE left_over (n int) ON COMMIT PRESERVE ROWS")
    async with asyncio.timeout(5):
        while await database.fetchval("SELECT to_regclass('left_over')") is not None:
            await asyncio.sleep(0.01)
    await database.stop()
