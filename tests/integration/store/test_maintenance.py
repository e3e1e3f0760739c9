"""Partitions by month, made ahead and dropped when old; short-lived rows purged; migrations with checksums."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime

import asyncpg
import pytest

from pushd.bitset import Devices
from pushd.clock import SystemClock
from pushd.config import StoreConfig
from pushd.errors import ConfigError
from pushd.store.database import Database
from pushd.store.migrations import Migration, migrate, read_migrations, status
from pushd.store.partitions import Maintenance
from pushd.store.store import Store
from tests.integration.store.samples import NOW, accept, rows_of

pytestmark = pytest.mark.asyncio

PARTITIONED = {"notifications", "targets", "finished", "outcomes", "outcome_parts"}


class At(SystemClock):
    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now


async def partitions(store):
    rows = await store.database.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent IN"
        " (SELECT partrelid FROM pg_partitioned_table)"
    )
    return {row["name"] for row in rows}


async def test_months_are_made_ahead_and_dropped_when_they_are_old(store):
    later = Maintenance(store.database, At(NOW))  # January 2027
    assert await later.make_partitions() > 0
    assert await later.make_partitions() == 0
    names = await partitions(store)
    for table in PARTITIONED:
        assert {f"{table}_2027_01", f"{table}_2027_03", f"{table}_default"} <= names
    end = Maintenance(store.database, At(NOW + 86_400 * 430))
    assert await end.drop_partitions() >= len(PARTITIONED)
    assert not any(name.endswith("_2027_01") for name in await partitions(store))
    assert any(name.endswith("_2027_03") for name in await partitions(store))


async def test_rows_of_a_month_without_a_partition_come_home_when_it_is_made(store, app, node):
    future = 2_000_000_000.0  # May 2033
    sent = await store.notifications.accept(
        accept(app.id, node.id, Devices([1]), created_at=future, released_at=future)
    )
    assert await store.database.fetchval("SELECT count(*) FROM notifications_default") == 1
    await Maintenance(store.database, At(future)).make_partitions()
    assert await store.database.fetchval("SELECT count(*) FROM notifications_default") == 0
    assert await store.database.fetchval("SELECT count(*) FROM notifications_2033_05") == 1
    assert (await store.notifications.get(app.id, sent.id)).notification == sent.notification


async def test_two_nodes_make_partitions_at_once(dsn):
    stores = [Store(StoreConfig(pool_size=2), dsn, At(NOW + 86_400 * 200)) for _ in range(2)]
    await asyncio.gather(*(each.start() for each in stores))
    month = datetime.fromtimestamp(NOW + 86_400 * 200, UTC)
    made = [await each.database.fetchval("SELECT to_regclass($1)::text", f"outcomes_{month:%Y_%m}") for each in stores]
    for each in stores:
        await each.stop()
    assert made == [f"outcomes_{month:%Y_%m}"] * 2


async def test_outcomes_go_to_the_month_in_which_they_are_settled(store, app, node):
    sent = await store.notifications.accept(accept(app.id, node.id, Devices([1])))
    await store.settlements.settle(rows_of([(sent.id, 1)], finished=(sent.id,)), node.id)
    assert await store.database.fetchval("SELECT count(*) FROM outcomes_default") == 0
    assert await store.database.fetchval("SELECT count(*) FROM finished_default") == 0


async def test_short_lived_rows_are_purged(store, app, node):
    for table, column in (("changes", "at"), ("idempotency", "created_at")):
        await store.database.execute(
            {
                "changes": "INSERT INTO changes (aggregate, ids, at) SELECT 1, '{1}', now() - n * interval '1 day'"
                " FROM generate_series(0, 3) n",
                "idempotency": "INSERT INTO idempotency SELECT 1, n::text, '', 1, '', now() - n * interval '1 day'"
                " FROM generate_series(0, 3) n",
            }[table]
        )
        await store.maintenance.purge()
        old = f"SELECT count(*) FROM {table} WHERE {column} < now() - interval '1 day'"
        assert await store.database.fetchval(old) == 0
        assert await store.database.fetchval(f"SELECT count(*) FROM {table}") > 0
    await store.database.execute("INSERT INTO nodes (name, fenced_at) VALUES ('old', now() - interval '2 days')")
    await store.maintenance.purge()
    assert await store.database.fetchval("SELECT array_agg(id) FROM nodes") == [node.id]


async def test_migrations_are_applied_once_and_never_changed(dsn):
    database = Database(StoreConfig(pool_size=3), dsn)
    await database.start()
    try:
        known = read_migrations()
        assert await migrate(database) == []
        assert all(each.applied_at is not None for each in await status(database))
        more = [*known, Migration(len(known) + 1, "more", "CREATE TABLE more (a int); INSERT INTO more VALUES (1)")]
        assert await migrate(database, more) == more[-1:]
        with pytest.raises(ConfigError, match="newer"):
            await migrate(database, known)
        changed = [*known, dataclasses.replace(more[-1], sql="CREATE TABLE more (b int)")]
        with pytest.raises(ConfigError, match="changed"):
            await migrate(database, changed)
        broken = [*more, Migration(len(more) + 1, "broken", "CREATE TABLE half (a int); SELECT 1 / 0")]
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(database, broken)
        assert await database.fetchval("SELECT to_regclass('half')::text") is None
    finally:
        await database.stop()


async def test_runs_go_with_the_month_of_their_notification(store, app, node):
    old = await store.notifications.accept(accept(app.id, node.id, Devices([1]), created_at=NOW, released_at=NOW))
    later = NOW + 86_400 * 425
    kept = await store.notifications.accept(accept(app.id, node.id, Devices([2]), created_at=later, released_at=later))
    await Maintenance(store.database, At(NOW)).make_partitions()
    await Maintenance(store.database, At(NOW + 86_400 * 430)).drop_partitions()
    assert [row["notification_id"] for row in await store.database.fetch("SELECT * FROM runs")] == [kept.id]
    assert old.id != kept.id
