"""Content, outcomes, opens and events go by months, each after its own days, by a clock that is moved."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.model.receipt import Event, Receipt
from pushd.store.partitions import EVENTS, OPENS, OUTCOMES, Maintenance
from pushd.store.receipts import Taken
from pushd.store.settlements import Delta, Settlement
from pushd.store.store import Store
from tests.integration.store.samples import NOW, accept, registration
from tests.integration.store.test_maintenance import At, partitions

pytestmark = pytest.mark.asyncio

DAY_S = 86_400
FAR = Devices(range(3_000_000, 3_000_100))


class Moved(At):
    """A clock that is set."""

    def move(self, days: int) -> None:
        self._now = NOW + days * DAY_S


@pytest_asyncio.fixture
async def clock():
    return Moved(NOW)  # January 2027


@pytest_asyncio.fixture
async def store(dsn, clock):
    made = Store(StoreConfig(pool_size=4), dsn, clock)
    await made.start()
    yield made
    await made.stop()


def kept_by(store, **config):
    store.database.config = msgspec.structs.replace(store.database.config, **config)


async def months(store, tables):
    """The first months of these tables that are there."""
    names = [name for name in await partitions(store) if name.rsplit("_", 2)[0] in tables and "default" not in name]
    return sorted({name[-7:] for name in names})


async def lived(store, app, node):
    """A large send in January that is settled and opened; (its id, a device)."""
    done = await store.devices.register_many(app.id, [registration(1)], NOW)
    (device,) = done.ids.tolist()
    sent = await store.notifications.accept(
        accept(app.id, node.id, FAR | Devices([device]), created_at=NOW, released_at=NOW)
    )
    deltas = [Delta(sent.id, part, 0, 1, piece) for part, piece in (FAR | Devices([device])).parts()]
    await store.settlements.settle(Settlement(deltas=deltas, finished=[sent.id]), node.id)
    await store.settlements.compact(sent.id)
    opened = Receipt(id="a", notification_id=sent.id, event=Event.OPENED, install_id="install-1")
    assert await store.receipts.take(app.id, [opened]) == Taken(1, 0, 0)
    await store.receipts.folder.fold(older_s=-3600)
    return sent.id, device


async def rows(store, *tables):
    return {table: await store.database.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


async def test_each_goes_after_its_own_days(store, clock, app, node):
    number, _ = await lived(store, app, node)
    kept_by(store, history_keep_days=300, outcomes_keep_days=100, opens_keep_days=30, events_keep_days=10)
    maintenance = store.maintenance
    full = await rows(store, "notifications", *OUTCOMES, *OPENS)
    assert full["notifications"] == full["receipts"] == full["finished"] == 1
    assert full["targets"] == full["outcome_parts"] == 2
    clock.move(20)  # some days are over, and the month is not: nothing goes but months before it
    await maintenance.drop_partitions()
    assert "2027_01" in await months(store, OPENS)
    assert await rows(store, "notifications", *OUTCOMES, *OPENS) == full
    clock.move(50)
    assert await maintenance.drop_partitions() >= len(OPENS)
    assert await rows(store, *OPENS) == dict.fromkeys(OPENS, 0)
    assert (await rows(store, *OUTCOMES))["outcome_parts"] == 2
    clock.move(120)
    await maintenance.drop_partitions()
    assert await rows(store, *OUTCOMES) == dict.fromkeys(OUTCOMES, 0)
    assert (await store.notifications.get(app.id, number)).notification.id == number
    sent = await store.past.sent(app.id, number)
    assert (await store.past.targets(sent), await store.reports.ended(sent, 1)) == (Devices(), None)
    clock.move(330)
    await maintenance.drop_partitions()
    assert await store.notifications.get(app.id, number) is None


async def test_nothing_outlives_the_notification_it_is_about(store, clock, app, node):
    await lived(store, app, node)
    kept_by(store, history_keep_days=60, outcomes_keep_days=400, opens_keep_days=400)
    clock.move(100)
    await store.maintenance.drop_partitions()
    assert sum((await rows(store, "notifications", *OUTCOMES, *OPENS)).values()) == 0


async def test_what_came_late_is_no_exception(store, clock, app, node):
    """A receipt of a month whose receipts are gone lands in the default partition, and goes from there."""
    number, _ = await lived(store, app, node)
    kept_by(store, history_keep_days=0, opens_keep_days=30)
    clock.move(70)
    await store.maintenance.drop_partitions()
    late = Receipt(id="b", notification_id=number, event=Event.READ, install_id="install-1")
    assert await store.receipts.take(app.id, [late]) == Taken(1, 0, 0)
    assert await rows(store, "receipts_default") == {"receipts_default": 1}
    await store.maintenance.drop_partitions()
    assert await rows(store, "receipts") == {"receipts": 0}


async def test_nothing_is_dropped_where_nothing_is_configured(store, clock, app, node):
    await lived(store, app, node)
    before = await rows(store, "notifications", *OUTCOMES, *OPENS)
    kept_by(store, history_keep_days=0)
    clock.move(4_000)
    assert await store.maintenance.drop_partitions() == 0
    assert await rows(store, "notifications", *OUTCOMES, *OPENS) == before


async def test_every_partitioned_table_is_kept_for_a_time_of_its_kind(store):
    parents = await store.database.fetch("SELECT partrelid::regclass::text AS name FROM pg_partitioned_table")
    with_notifications = {"notifications", "rollouts", "releases", "occurrences", "tallies"}
    in_app = {row["name"] for row in parents if row["name"].startswith("in_app_")}
    assert {row["name"] for row in parents} <= {*OUTCOMES, *OPENS, *EVENTS, *with_notifications, *in_app}
    assert await Maintenance(store.database, At(NOW)).make_partitions() >= 0
    assert np.array(await months(store, OPENS)).size > 0
