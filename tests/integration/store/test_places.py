"""Locations, geofences and crossings in the store: order, races, what shares a commit, what goes with what."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from msgspec import convert

from pushd.errors import NotFoundError, UnavailableError
from pushd.model.geofence import GeofenceChange, Trigger
from pushd.store.changes import Aggregate
from pushd.store.locations import Crossed, Crossing, Report
from tests.integration.store.samples import NOW, registration

pytestmark = pytest.mark.asyncio

A, B = (488_584_000, 22_945_000), (457_640_000, 48_357_000)
TRIGGER = convert({"message": {"title": "Hello"}, "min_interval_s": 0}, Trigger)


async def device(store, app, number, **fields):
    done = await store.devices.register_many(app.id, [registration(number, **fields)], NOW)
    return int(done.ids[0])


async def geofence(store, app, **fields):
    given = {"name": "Fence", "bounds": {}, "enabled": True, "tags": [], "on_enter": None, "on_exit": None, **fields}
    return await store.geofences.create(app.id, GeofenceChange(**given), 1000)


def report(app, device_id, place, at=NOW, **fields):
    return Report(app.id, device_id, place, None, at, **fields)


async def stored(store, device_id):
    rows = await store.locations.images(np.array([device_id], np.uint32))
    return rows.revisions.item(0), rows.latitudes.item(0), rows.longitudes.item(0)


async def test_images_are_of_all_devices_of_the_install_with_growing_revisions(store, app):
    first, second = await device(store, app, 1), await device(store, app, 1, kind="fcm")
    done = await store.locations.put(report(app, first, A))
    assert done.kept
    assert done.rows.ids.tolist() == [first, second]
    assert set(done.rows.app_ids.tolist()) == {app.id}
    again = await store.locations.put(report(app, second, B, NOW + 1))
    assert (again.rows.revisions > done.rows.revisions).all()
    late = await store.locations.put(report(app, first, A, NOW - 1))
    assert (late.kept, len(late.rows)) == (False, 0)
    assert await stored(store, second) == (int(again.rows.revisions[0]), *B)


async def test_of_reports_that_share_a_commit_the_latest_counts_whatever_their_order(store, app):
    one, two = await device(store, app, 1), await device(store, app, 2)
    times = [3, 9, 1, 9, 5]
    reports = [report(app, one, (number, number), NOW + time) for number, time in enumerate(times)]
    done = await asyncio.gather(*map(store.locations.put, [*reports, report(app, two, A)]))
    assert done[3].kept
    assert done[5].kept
    assert (await stored(store, one))[1:] == (3, 3)
    assert (await stored(store, two))[1:] == A


async def test_who_is_not_there_is_not_found_and_harms_nobody(store, app):
    there, gone = await device(store, app, 1), await device(store, app, 2)
    await store.devices.delete_many(app.id, [gone], NOW)
    other = await store.apps.create("other", app.settings)
    done = await asyncio.gather(
        store.locations.put(report(app, there, A)),
        store.locations.put(report(app, gone, A)),
        store.locations.put(report(app, 999_999, A)),
        store.locations.put(report(other, there, B, NOW + 9)),
        store.locations.put(report(app, there, B, NOW + 9, install_id="somebody else")),
        return_exceptions=True,
    )
    assert done[0].kept
    assert all(isinstance(each, NotFoundError) for each in done[1:])
    assert (await stored(store, there))[1:] == A
    assert (await stored(store, gone))[0] == 0


async def test_reports_and_deletions_at_once_leave_nothing_behind(store, app):
    ids = [await device(store, app, number) for number in range(20)]
    await asyncio.gather(
        *(store.locations.put(report(app, each, A)) for each in ids),
        *(store.devices.delete_many(app.id, [each], NOW) for each in ids[::2]),
        return_exceptions=True,
    )
    kept = await store.database.fetchval("SELECT count(*) FROM install_locations")
    assert kept == 10
    assert (
        await store.database.fetchval(
            "SELECT count(*) FROM install_locations l WHERE NOT EXISTS (SELECT FROM installs i WHERE i.id = l.install)"
        )
        == 0
    )


async def test_the_feed_names_devices_with_the_revision_of_their_location(store, app):
    one = await device(store, app, 1)
    position = await store.changes.position()
    done = await store.locations.put(report(app, one, A))
    two = await device(store, app, 1, kind="fcm")
    await store.locations.forget(app.id, one)
    events = [each for each in (await store.changes.read(position)).events if each.aggregate is Aggregate.LOCATIONS]
    revision = int(done.rows.revisions[0])
    assert [(list(each.ids), list(each.revisions)) for each in events] == [
        ([one], [revision]),
        ([two], [revision]),
        ([one, two], [0, 0]),
    ]


async def test_the_oldest_are_forgotten_first_and_so_many_at_once(store, app):
    ids = [await device(store, app, number) for number in range(5)]
    for number, each in enumerate(ids):
        await store.locations.put(report(app, each, A, NOW - number))
    assert (await store.locations.forget_before(NOW - 1, 2)).tolist() in ([ids[4], ids[3]], [ids[3], ids[4]])
    assert (await store.locations.forget_before(NOW - 1, 2)).tolist() == [ids[2]]
    assert (await store.locations.forget_before(NOW - 1, 2)).tolist() == []
    async with store.snapshot() as snapshot:
        loaded = [int(each) for rows in [rows async for rows in store.locations.load(snapshot)] for each in rows.ids]
    named = await store.database.fetch("SELECT install FROM devices WHERE id = ANY($1) ORDER BY 1", ids[:2])
    assert loaded == [row["install"] for row in named]


async def test_crossings_commit_with_the_location_and_are_taken_in_batches(store, app):
    ids = [await device(store, app, number) for number in range(4)]
    fence, other = await geofence(store, app, on_enter=TRIGGER), await geofence(store, app)
    told = []
    moves = []

    def cross(app_id, before, after):
        moves.append((app_id, before, after))
        return [Crossing(fence, True, 0), Crossing(other, False, None)]

    store.locations.crossed = Crossed(cross, lambda app_id, count: told.append((app_id, count)))
    await asyncio.gather(*(store.locations.put(report(app, each, A)) for each in ids[:3]))
    await store.locations.put(report(app, ids[0], B, NOW + 1))
    assert moves[-1] == (app.id, A, B)
    assert {move[1] for move in moves[:3]} == {None}
    assert sum(count for _, count in told) == 4
    assert await store.crossings.waiting() == {app.id: 4}
    first, second = await store.crossings.take(10, 60)
    assert (first.devices, first.geofence_id, first.entered, first.crossings) == (ids[:3], fence, True, 3)
    assert (second.devices, second.crossings) == (ids[:1], 1)
    assert await store.crossings.take(10, 60) == []
    await store.crossings.done([first.number])
    assert await store.crossings.waiting() == {app.id: 1}
    shown = await store.geofences.get(app.id, fence)
    assert (shown.activation_count, shown.exit_count) == (4, 0)
    shown = await store.geofences.get(app.id, other)
    assert (shown.activation_count, shown.exit_count) == (0, 4)


async def test_a_batch_that_nobody_finished_is_taken_again_as_it_was(store, app):
    ids = [await device(store, app, number) for number in range(3)]
    fence = await geofence(store, app, on_enter=TRIGGER)
    store.locations.crossed = Crossed(lambda *_: [Crossing(fence, True, 0)])
    for each in ids[:2]:
        await store.locations.put(report(app, each, A))
    (taken,) = await store.crossings.take(10, 0.01)
    await store.locations.put(report(app, ids[2], A))
    await asyncio.sleep(0.05)
    again, fresh = await store.crossings.take(10, 60)
    assert again == taken
    assert fresh.devices == [ids[2]]


async def test_what_belongs_to_a_geofence_or_an_install_goes_with_it(store, app):
    one, two = await device(store, app, 1), await device(store, app, 2)
    fence = await geofence(store, app, on_enter=TRIGGER)
    store.locations.crossed = Crossed(lambda *_: [Crossing(fence, True, 60)])
    await asyncio.gather(*(store.locations.put(report(app, each, A)) for each in (one, two)))
    await store.devices.delete_many(app.id, [one], NOW)
    (batch,) = await store.crossings.take(10, 60)
    assert batch.devices == [two]
    await store.locations.forget(app.id, two)
    assert await store.database.fetchval("SELECT count(*) FROM crossing_rests") == 0
    assert await store.geofences.delete(app.id, fence)
    for table in ("crossings", "crossing_rests", "geofence_counts"):
        assert await store.database.fetchval(f"SELECT count(*) FROM {table}") == 0
    # A crossing of a fence that is gone by the time that it commits.
    assert (await store.locations.put(report(app, two, B, NOW + 5))).kept
    assert await store.crossings.waiting() == {}


async def test_places_of_an_app_that_is_gone_are_swept(store, app):
    kept = await store.apps.create("kept", app.settings)
    for each in (app, kept):
        for number in range(3):
            await store.locations.put(report(each, await device(store, each, number), A))
        await geofence(store, each)
    await store.apps.delete(app.id)
    sweeps = [await store.locations.sweep(0, 2) for _ in range(3)]
    assert sweeps == [(0, True), (0, False), (0, False)]
    for table, count in (("geofences", 1), ("install_locations", 3)):
        rows = await store.database.fetch(f"SELECT app_id FROM {table}")
        assert [row["app_id"] for row in rows] == [kept.id] * count


async def test_forgetting_and_a_report_that_rests_wait_for_each_other_and_never_in_a_circle(store, app):
    one = await device(store, app, 1)
    fence = await geofence(store, app, on_enter=TRIGGER)
    store.locations.crossed = Crossed(lambda *_: [Crossing(fence, True, 60)])
    for number in range(20):
        await store.locations.put(report(app, one, A, NOW + number))
        at_once = store.locations.put(report(app, one, B, NOW + number)), store.locations.forget(app.id, one)
        kept, gone = await asyncio.gather(*at_once)
        assert (kept.kept, gone.tolist()) == (True, [one])


async def test_reports_without_room_for_their_crossings_keep_the_connection(store, app):
    one = await device(store, app, 1)
    fence = await geofence(store, app, on_enter=TRIGGER)
    store.locations.crossed = Crossed(lambda *_: [Crossing(fence, True, 0)], room=lambda _: 0)
    backends = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    before = {row["pid"] for row in await store.database.fetch(backends)}
    for number in range(5):
        with pytest.raises(UnavailableError):
            await store.locations.put(report(app, one, A, NOW + number))
    assert {row["pid"] for row in await store.database.fetch(backends)} >= before
    assert (await stored(store, one))[0] == 0
