"""Events of dialects are kept by the commit that accepts their notifications, or not at all."""

import asyncio
import time

import asyncpg
import pytest

from pushd.bitset import Devices
from pushd.errors import PushdError
from pushd.model.dialect_event import KeptEvent, Told
from pushd.model.vendor_key import DialectName
from pushd.store.accepts import Due
from tests.integration.store.samples import accept

pytestmark = pytest.mark.asyncio
CUBE = DialectName.CONNECTYCUBE


def kept(event_id, **given):
    told = {
        "channel": "apns",
        "environment": "production",
        "message": 'payload="Grüße"\\',
        "tag_query": '{"any":"doctor"}',
    }
    return KeptEvent(
        id=event_id, dialect=CUBE, user_id=7, created_at=1_790_000_000.0, target="id:9", told=Told(**told | given)
    )


async def accepted(store, app, node, *events, **fields):
    """The ids of sends that are those events, accepted together."""
    acceptor = store.notifications.acceptor
    ids = await acceptor.reserve(len(events))
    accepts = [accept(app.id, node.id, Devices([1]), event=event, **fields) for event in events]
    told = asyncio.get_running_loop().create_future()
    done = acceptor.accept_array(accepts, ids, None, b"", told.set_result)
    await done
    await told
    return ids


async def test_an_event_comes_with_its_notification(store, app, node):
    first, second = await store.dialect_events.ids(2)
    one, two = await accepted(store, app, node, kept(first), kept(second, channel="gcm", universal=True, name="x"))
    event = await store.dialect_events.get(app.id, CUBE, first)
    assert (event.notification_id, event.user_id, event.created_at) == (one, 7, 1_790_000_000.0)
    assert (event.told.message, event.told.tag_query, event.active) == ('payload="Grüße"\\', '{"any":"doctor"}', False)
    other = await store.dialect_events.get(app.id, CUBE, second)
    assert (other.notification_id, other.told.channel, other.told.universal, other.told.name) == (two, "gcm", True, "x")
    assert await store.database.fetchval("SELECT target FROM dialect_events WHERE id = $1", first) == "id:9"


async def test_what_is_kept_as_a_schedule_has_its_event_too(store, app, node):
    [number] = await store.dialect_events.ids(1)
    at = time.time() + 3_600
    [schedule] = await accepted(store, app, node, kept(number, date=int(at)), due=Due(at, at))
    event = await store.dialect_events.get(app.id, CUBE, number)
    assert (event.notification_id, event.told.date, event.active) == (schedule, int(at), True)


async def test_none_of_several_events_is_there_where_one_cannot_be(store, app, node):
    first, second = await store.dialect_events.ids(2)
    await accepted(store, app, node, kept(first))
    with pytest.raises((PushdError, asyncpg.PostgresError)):
        await accepted(store, app, node, kept(second), kept(first))
    assert await store.dialect_events.get(app.id, CUBE, second) is None
    assert len(await store.notifications.list(app.id, 0, 10)) == 1


async def test_an_event_that_nobody_waits_for_any_more_is_not_kept(store, app, node):
    [number] = await store.dialect_events.ids(1)
    async with store.database.transaction() as blocker:
        await blocker.execute("LOCK TABLE runs")
        call = asyncio.ensure_future(accepted(store, app, node, kept(number)))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    async with asyncio.timeout(20):
        while store.notifications.acceptor._under_way:
            await asyncio.sleep(0.02)
    assert await store.database.fetchval("SELECT count(*) FROM runs") == 0
    assert await store.dialect_events.get(app.id, CUBE, number) is None
