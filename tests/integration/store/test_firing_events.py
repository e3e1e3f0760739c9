"""Events of schedules: fired, skipped, released part by part, finished, cancelled before their time."""

from __future__ import annotations

import asyncio

import orjson
import pytest
import pytest_asyncio

from pushd.bitset import Devices
from pushd.model.event import DEFAULT_BITS, EventType, bits
from pushd.outcome import CANCELLED, FREQUENCY_CAP, QUIET_HOURS
from pushd.store.events import START
from pushd.store.notifications import Due
from pushd.store.schedules import Planned
from pushd.store.settlements import Delta, Settlement
from tests.integration.store.samples import NOW, accept
from tests.integration.store.timed import DAILY, firing, one_due, opening, rollout, scheduled

pytestmark = pytest.mark.asyncio


async def told(store, app):
    """Types, notifications and data of the app's events."""
    rows = (await store.events.read(app.id, START, DEFAULT_BITS, 100)).rows
    return [(row.type, row.notification_id, orjson.loads(row.data)) for row in rows]


@pytest_asyncio.fixture
async def listening(store, app):
    await store.events.listen(app.id, DEFAULT_BITS, 60)


async def test_a_one_off_from_its_acceptance_to_its_end(store, app, node, listening):
    kept = due = await one_due(store, app.id, node.id, name="later")
    devices = Devices(range(1, 101))
    assert await store.schedules.fire([firing(due, node.id, devices)], node.id) == [True]
    assert await store.schedules.fire([firing(due, node.id, devices)], node.id) == [False]
    await store.settlements.settle(Settlement(deltas=[Delta(kept.id, 0, 0, 1, devices)], finished=[kept.id]), node.id)
    assert await told(store, app) == [
        (EventType.ACCEPTED, kept.id, {"name": "later", "due_at": NOW}),
        (EventType.SCHEDULE_FIRED, kept.id, {"schedule_id": kept.id, "occurrence": NOW}),
        (EventType.RELEASED, kept.id, {"release": 0, "targeted": 100}),
        (EventType.OUTCOMES, kept.id, {"codes": [[0, 1, 100]]}),
        (EventType.FINISHED, kept.id, {"cancelled": False, "codes": [[0, 1, 100]]}),
    ]


async def test_occurrences_that_are_skipped_and_one_that_reaches_nobody(store, app, node, listening):
    kept = due = await one_due(store, app.id, node.id, schedule=DAILY)
    nobody = Devices([1, 2])
    (number,) = await store.notifications.acceptor.reserve(1)
    fired = firing(
        due,
        node.id,
        nobody,
        skipped=(NOW - 86_400,),
        following=Due(NOW + 86_400, NOW + 86_400),
        notification_id=number,
        suppressed=((nobody, QUIET_HOURS.code),),
    )
    assert await store.schedules.fire([fired], node.id) == [True]
    assert (await told(store, app))[1:] == [
        (EventType.SCHEDULE_SKIPPED, None, {"schedule_id": kept.id, "occurrence": NOW - 86_400}),
        (EventType.SCHEDULE_FIRED, number, {"schedule_id": kept.id, "occurrence": NOW}),
        (EventType.OUTCOMES, number, {"codes": [[0, QUIET_HOURS.code, 2]]}),
        (EventType.FINISHED, number, {"cancelled": False, "codes": [[0, QUIET_HOURS.code, 2]]}),
    ]


async def test_a_rollout_tells_of_each_part_and_once_of_its_end(store, app, node, listening):
    kept = due = await one_due(store, app.id, node.id)
    parts = [Planned(at=NOW + at, selector=b"{}") for at in (0, 60)]
    assert await store.schedules.fire([rollout(due, node.id, *parts)], node.id) == [True]
    for number, devices in ((1, Devices([1, 2])), (2, Devices([3]))):
        (release,) = await store.rollouts.due(NOW + 3_600, 10)
        assert await store.rollouts.open([opening(release, devices)], node.id) == [True]
        run = kept.id + (number << 32)
        await store.settlements.settle(Settlement(deltas=[Delta(run, 0, 0, 1, devices)], finished=[run]), node.id)
    assert (await told(store, app))[2:] == [
        (EventType.RELEASED, kept.id, {"release": 1, "targeted": 2}),
        (EventType.OUTCOMES, kept.id, {"codes": [[0, 1, 2]]}),
        (EventType.RELEASED, kept.id, {"release": 2, "targeted": 1}),
        (EventType.OUTCOMES, kept.id, {"codes": [[0, 1, 1]]}),
        (EventType.FINISHED, kept.id, {"cancelled": False, "codes": [[0, 1, 3]]}),
    ]


async def outcomes(store, app):
    """Devices by notification and code, as they were told one by one."""
    rows = (await store.events.read(app.id, START, bits([EventType.DEVICE_OUTCOMES]), 100)).rows
    return sorted(
        (row.notification_id, orjson.loads(row.data)["code"], sorted(row.ids or Devices.load(row.devices)))
        for row in rows
    )


@pytest.mark.parametrize("many", [3, 100])
async def test_who_gets_nothing_of_a_release_is_told_device_by_device(store, app, node, many):
    await store.events.listen(app.id, bits(EventType), 60)
    due = await one_due(store, app.id, node.id)
    quiet, capped, go = Devices([1, 2]), Devices(range(3, 3 + many)), Devices([1_000])
    suppressed = ((quiet, QUIET_HOURS.code), (capped, FREQUENCY_CAP.code))
    fired = firing(due, node.id, quiet | capped | go, suppressed=suppressed)
    assert await store.schedules.fire([fired], node.id) == [True]
    assert await outcomes(store, app) == [
        (due.id, QUIET_HOURS.code, [1, 2]),
        (due.id, FREQUENCY_CAP.code, list(capped)),
    ]
    assert (await told(store, app))[2:] == [
        (EventType.RELEASED, due.id, {"release": 0, "targeted": 3 + many}),
        (EventType.OUTCOMES, due.id, {"codes": [[0, QUIET_HOURS.code, 2], [0, FREQUENCY_CAP.code, many]]}),
    ]


async def test_who_gets_nothing_of_a_rollout_and_who_was_still_to_come_are_told(store, app, node):
    await store.events.listen(app.id, bits(EventType), 60)
    due = await one_due(store, app.id, node.id)
    parts = [Planned(at=NOW, selector=b"{}"), Planned(at=NOW + 60, devices=Devices([7, 8]))]
    assert await store.schedules.fire([rollout(due, node.id, *parts)], node.id) == [True]
    (release,) = await store.rollouts.due(NOW, 10)
    nobody = Devices([1, 2])
    opened = opening(release, nobody, suppressed=((nobody, QUIET_HOURS.code),))
    assert await store.rollouts.open([opened], node.id) == [True]
    assert await outcomes(store, app) == [(due.id, QUIET_HOURS.code, [1, 2])]
    assert await store.notifications.cancel(app.id, due.id)
    assert await outcomes(store, app) == [(due.id, CANCELLED.code, [7, 8]), (due.id, QUIET_HOURS.code, [1, 2])]
    assert (await told(store, app))[2:] == [
        (EventType.OUTCOMES, due.id, {"codes": [[0, QUIET_HOURS.code, 2]]}),
        (EventType.OUTCOMES, due.id, {"codes": [[0, CANCELLED.code, 2]]}),
        (EventType.FINISHED, due.id, {"cancelled": True, "codes": [[0, CANCELLED.code, 2], [0, QUIET_HOURS.code, 2]]}),
    ]


async def test_what_is_cancelled_before_its_time_is_over(store, app, node, listening):
    kept = await store.notifications.accept(scheduled(app.id, node.id, NOW))
    assert await store.notifications.cancel(app.id, kept.id)
    assert (await told(store, app))[1:] == [(EventType.FINISHED, kept.id, {"cancelled": True, "codes": []})]


async def test_what_nobody_was_told_of_is_told_to_be_over(store, app, node, listening):
    async def given_up(wanted):
        async with store.database.transaction() as blocker:
            await blocker.execute("LOCK TABLE runs, schedules")
            call = asyncio.ensure_future(store.notifications.accept(wanted))
            await asyncio.sleep(0.1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    for wanted in (accept(app.id, node.id, Devices([1])), scheduled(app.id, node.id)):
        await given_up(wanted)
        async with asyncio.timeout(20):
            while not any(each[0] is EventType.FINISHED for each in await told(store, app)):
                await asyncio.sleep(0.02)
        heard = await told(store, app)
        assert heard[-1] == (EventType.FINISHED, heard[0][1], {"cancelled": True, "codes": []})
        await store.database.execute("DELETE FROM events")
    assert await store.database.fetchval("SELECT count(*) FROM notifications") == 0
    assert await store.database.fetchval("SELECT count(*) FROM schedules") == 0
