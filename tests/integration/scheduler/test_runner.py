"""The runner on a real store: what is due goes out once, to whom it should, at its time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from pushd.commands import notifications, segments
from pushd.errors import TooManyRequestsError, UnavailableError
from pushd.model.audience import Broadcast
from pushd.model.notification import State
from pushd.model.segment import NewSegment
from pushd.outcome import FREQUENCY_CAP, QUIET_HOURS, TIME_PASSED
from pushd.store.schedules import Scheduled
from tests.integration.scheduler.world import world

pytestmark = pytest.mark.asyncio

DAY = 86_400
HOUR = 3_600


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NOON = at("2026-11-25T12:00")


def utc(when, **more):
    return {"strategy": "utc", "send_at": when, "past_times": "ignore", **more}


def recurring(strategy="utc", missed=None, past_times="ignore", **rule):
    return {"strategy": strategy, "past_times": past_times, "recurrence": rule} | ({"missed": missed} if missed else {})


async def occurrences(here, schedule):
    return [
        (each.at, each.fired)
        for each in reversed(await here.store.schedules.occurrences(here.app.id, schedule, 0, 100))
    ]


async def test_what_goes_out_once_does_so_at_its_time_under_its_own_id(dsn):
    async with world(dsn, NOON) as here:
        device = await here.device("one")
        sent = await here.send(schedule=utc(NOON + HOUR))
        await here.until(NOON + HOUR - 1)
        assert not here.fanout.sent
        late = await here.device("two")  # resolved when it is released
        await here.until(NOON + 2 * HOUR)
        (only,) = here.of(sent)
        assert (only.at, only.devices, only.release) == (NOON + HOUR, {device, late}, 0)
        assert only.notification.released_at == NOON + HOUR
        stored = await here.store.notifications.get(here.app.id, sent)
        assert (stored.targeted, stored.notification.state) == (2, State.RUNNING)
        assert await here.store.schedules.get(here.app.id, sent) is None


async def test_what_recurs_sends_notifications_of_its_own_until_it_is_over(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        schedule = await here.send(schedule=recurring(every_s=DAY, starts_at=NOON + HOUR, count=3))
        await here.until(NOON + 10 * DAY)
        assert [each.at for each in here.fanout.sent] == [NOON + HOUR + number * DAY for number in range(3)]
        numbers = [each.notification.id for each in here.fanout.sent]
        assert schedule not in numbers
        assert len(set(numbers)) == 3
        kept = await here.store.schedules.get(here.app.id, schedule)
        assert (kept.occurred, kept.skipped, kept.next_at) == (3, 0, None)
        assert kept.ended_at is not None
        assert (await here.store.notifications.get(here.app.id, numbers[0])).schedule_id == schedule


async def test_many_are_fired_in_a_few_transactions(dsn18):
    async with world(dsn18, NOON) as here:
        owners = {await here.device(f"phone {number}", user_id=f"user {number}"): number for number in range(40)}
        for number in range(40):
            await here.send({"type": "users", "ids": [f"user {number}"]}, schedule=utc(NOON + HOUR + number % 2))
        fired, fire = [], here.store.schedules.fire

        async def counting(firings, node_id):
            fired.append(len(firings))
            return await fire(firings, node_id)

        here.store.schedules.fire = counting
        here.clock.at = NOON + HOUR + 5
        await here.look()
        assert sum(fired) == 40
        assert len(fired) <= 2
        assert {device for each in here.fanout.sent for device in each.devices} == set(owners)
        assert len(here.fanout.sent) == 40


async def test_after_downtime_the_last_missed_one_runs_and_the_others_are_skipped(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        late = await here.send(schedule=recurring(every_s=HOUR, starts_at=NOON + HOUR))
        never = await here.send(schedule=recurring(every_s=HOUR, starts_at=NOON + HOUR, missed={"type": "skip"}))
        here.clock.at = NOON + 5 * HOUR + 600
        await here.look()
        passed = [NOON + number * HOUR for number in range(1, 6)]
        assert await occurrences(here, late) == [(each, each == passed[-1]) for each in passed]
        assert await occurrences(here, never) == [(each, False) for each in passed]
        kept = await here.store.schedules.get(here.app.id, never)
        assert (kept.occurred, kept.skipped, kept.next_at) == (0, 5, NOON + 6 * HOUR)
        assert len(here.fanout.sent) == 1
        await here.until(NOON + 6 * HOUR)
        assert len(here.fanout.sent) == 3


async def test_what_is_too_late_to_be_sent_says_so_under_its_id(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        sent = await here.send(schedule=utc(NOON + HOUR, missed={"type": "skip"}))
        here.clock.at = NOON + 2 * HOUR
        await here.look()
        assert not here.fanout.sent
        stored = await here.store.notifications.get(here.app.id, sent)
        assert (stored.targeted, stored.notification.state) == (1, State.DONE)
        assert stored.counts == {(0, TIME_PASSED.code): 1}
        assert await here.store.notifications.outcome_devices(here.app.id, sent, [(0, TIME_PASSED.code)], 0, 10)


async def test_a_time_that_is_past_at_acceptance_is_ignored_or_tomorrows(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        ignored = await here.send(schedule=utc(NOON - HOUR))
        tomorrow = await here.send(schedule=utc("2026-11-25T11:00", past_times="next_day"))
        await here.until(NOON + 2 * DAY)
        assert list(here.got(tomorrow).values()) == [NOON - HOUR + DAY]
        assert (await here.store.notifications.get(here.app.id, ignored)).counts == {(0, TIME_PASSED.code): 1}


async def test_zone_by_zone_and_whoever_travels_gets_it_once(dsn):
    async with world(dsn, at("2026-11-24T12:00")) as here:
        tokyo = await here.device("tokyo", "Asia/Tokyo")
        berlin = await here.device("berlin", "Europe/Berlin")
        home = await here.device("home")  # by the app's zone, UTC
        west = await here.device("west", "Asia/Tokyo")
        east = await here.device("east", "America/New_York")
        sent = await here.send(
            schedule={"strategy": "local", "send_at": "2026-11-25T09:00", "past_times": "ignore"}, ttl_s=600
        )
        await here.until(at("2026-11-25T05:00"))
        assert here.got(sent) == {tokyo: at("2026-11-25T00:00"), west: at("2026-11-25T00:00")}
        await here.device("west", "Europe/Berlin")
        await here.device("east", "Asia/Tokyo")
        newcomer = await here.device("newcomer", "Pacific/Honolulu")
        await here.until(at("2026-11-27T00:00"))
        got = here.got(sent)
        assert got == {
            tokyo: at("2026-11-25T00:00"),
            west: at("2026-11-25T00:00"),
            east: at("2026-11-25T08:00"),  # with the next release, as its new zone's time has come
            berlin: at("2026-11-25T09:00", "Europe/Berlin"),
            home: at("2026-11-25T09:00"),
            newcomer: at("2026-11-25T09:00", "Pacific/Honolulu"),  # in a zone that nobody was in
        }
        for each in here.of(sent):
            assert each.notification.released_at == each.at
            assert each.notification.expires_at == each.at + 600
        stored = await here.store.notifications.get(here.app.id, sent)
        assert stored.targeted == 6
        assert stored.next_release_at is None


async def test_zones_whose_time_is_past_are_counted_and_late_ones_too(dsn18):
    async with world(dsn18, at("2026-11-25T06:00")) as here:
        for name in ("Asia/Tokyo", "Europe/Berlin", "America/New_York"):
            await here.device(name, name)
        schedule = {"strategy": "local", "send_at": "2026-11-25T09:00", "past_times": "ignore"}
        sent = await here.send(schedule=schedule | {"missed": {"type": "run", "within_s": 600}})
        await here.look()
        here.clock.at = at("2026-11-25T10:00", "Europe/Berlin")  # nobody was there at nine
        await here.look()
        await here.until(at("2026-11-26T12:00"))
        assert list(here.got(sent).values()) == [at("2026-11-25T09:00", "America/New_York")]
        assert (await here.store.notifications.get(here.app.id, sent)).counts[0, TIME_PASSED.code] == 2


async def test_at_each_users_hour(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        early, late = await here.device("early", "Europe/Berlin"), await here.device("late", "Europe/Berlin")
        here.habits.by_device = {early: 7, late: 21}
        day = {"strategy": "intelligent", "send_at": "2026-11-25", "past_times": "ignore"}
        sent = await here.send(schedule=day)
        soon = await here.send(intelligent_delivery=True)
        named = await here.send({"type": "devices", "ids": [late]}, schedule=day)
        await here.until(at("2026-11-27T00:00"))
        of = "Europe/Berlin"
        assert here.got(sent) == {early: at("2026-11-25T07:00", of), late: at("2026-11-25T21:00", of)}
        assert here.got(soon) == {early: at("2026-11-25T07:00", of), late: at("2026-11-24T21:00", of)}
        assert here.got(named) == {late: at("2026-11-25T21:00", of)}
        assert {frozenset(asked) for asked in here.habits.asked} == {frozenset({early, late}), frozenset({late})}
        page = await here.store.notifications.releases(here.app.id, named, -1, 100)
        assert len(page) == 1  # no others than he could be in


async def test_a_window_goes_out_in_equal_batches_one_a_minute(dsn18):
    async with world(dsn18, NOON) as here:
        devices = [await here.device(f"one {number}") for number in range(150)]
        sent = await here.send(schedule=utc(NOON + HOUR), release_window_minutes=60)
        await here.until(NOON + HOUR + 30)
        gone = await here.device("one 149", token="f" * 64)
        assert gone == devices[149]
        newcomer = await here.device("late")
        await here.until(NOON + 3 * HOUR)
        times = [each.at for each in here.of(sent)]
        assert times == [NOON + HOUR + number * 60 for number in range(60)]
        assert {len(each.devices) for each in here.of(sent)} <= {2, 3}
        assert set(here.got(sent)) == set(devices)
        assert newcomer not in here.got(sent)


async def test_the_fan_out_is_told_who_has_to_be_looked_at_again(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("phone", user_id="ada")
        await here.device("tablet", user_id="ada")
        ada = {"type": "users", "ids": ["ada"]}
        batched = await here.send(ada, schedule=utc(NOON + HOUR), release_window_minutes=60)
        plain = await here.send(ada, schedule=utc(NOON + HOUR))
        other = await here.send(schedule=utc(NOON + HOUR))
        await here.until(NOON + 3 * HOUR)
        assert [each.version for each in here.of(batched)] == [-1, -1]  # found long before they go out
        assert here.of(plain)[0].version == here.of(other)[0].version == here.index.version


async def test_quiet_hours_hold_or_drop(dsn18):
    async with world(dsn18, at("2026-11-25T20:30")) as here:
        await here.settings(quiet_hours={"from_minute": 22 * 60, "to_minute": 7 * 60})
        berlin, home = await here.device("berlin", "Europe/Berlin"), await here.device("home")
        when = at("2026-11-25T21:30")
        sent = await here.send(schedule=utc(when))
        dropped = await here.send(schedule=utc(when), quiet_hours="drop")
        at_once = await here.send(schedule=utc(when), transactional=True)
        await here.until(at("2026-11-26T12:00"))
        assert here.got(sent) == {home: when, berlin: at("2026-11-26T07:00", "Europe/Berlin")}
        assert here.got(at_once) == {home: when, berlin: when}
        (one,) = here.of(dropped)
        assert (one.devices, one.suppressed) == ({home}, {QUIET_HOURS.code: {berlin}})
        stored = await here.store.notifications.get(here.app.id, dropped)
        assert (stored.targeted, stored.counts) == (2, {(0, QUIET_HOURS.code): 1})


async def test_a_cap_is_kept_also_by_what_is_due_at_the_same_time(dsn18):
    async with world(dsn18, NOON) as here:
        await here.settings(caps={"news": {"messages": 2, "window_s": 3600}})
        await here.user("ada")
        phones = {await here.device("phone", user_id="ada"), await here.device("tablet", user_id="ada")}
        ada = {"type": "users", "ids": ["ada"]}
        sent = [await here.send(ada, schedule=utc(NOON + HOUR), category="news") for _ in range(5)]
        await here.until(NOON + HOUR + 1)
        assert sorted(len(here.got(each)) for each in sent) == [0, 0, 0, 2, 2]
        counts = [(await here.store.notifications.get(here.app.id, each)).counts for each in sent]
        assert counts.count({(0, FREQUENCY_CAP.code): 2}) == 3
        later = await here.send(ada, schedule=utc(NOON + 2 * HOUR + 60), category="news")
        await here.until(NOON + 3 * HOUR)
        assert set(here.got(later)) == phones


async def test_what_has_lost_its_audience_is_skipped_or_goes_to_nobody(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        fans = await segments.create(here.context, here.app.id, NewSegment(name="fans", audience=Broadcast()))
        audience = {"type": "segment", "id": fans.uuid}
        once = await here.send(audience, schedule=utc(NOON + HOUR))
        daily = await here.send(audience, schedule=recurring(every_s=DAY, starts_at=NOON + HOUR))
        await segments.delete(here.context, here.app.id, fans.uuid)
        await here.until(NOON + HOUR)
        assert not here.fanout.sent
        stored = await here.store.notifications.get(here.app.id, once)
        assert (stored.targeted, stored.notification.state) == (0, State.DONE)
        assert await occurrences(here, daily) == [(NOON + HOUR, False)]
        assert (await here.store.schedules.get(here.app.id, daily)).next_at == NOON + HOUR + DAY


async def test_where_there_is_no_room_it_waits_and_others_come_first(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one", user_id="ada")
        sent = [
            await here.send({"type": "users", "ids": ["ada"]}, schedule=utc(NOON + HOUR)),
            await here.send(schedule=utc(NOON + HOUR)),
        ]
        here.fanout.full, here.fanout.full_app = TooManyRequestsError("full", retry_after_s=30), here.app.id
        await here.until(NOON + HOUR + 10)
        assert not here.fanout.sent
        kept = await here.store.schedules.get(here.app.id, sent[0])
        assert isinstance(kept, Scheduled)
        assert (kept.nominal, kept.next_at) == (NOON + HOUR, NOON + HOUR + 30)
        here.fanout.full = None
        await here.until(NOON + HOUR + 60)
        assert {each.notification.id: each.at for each in here.fanout.sent} == dict.fromkeys(sent, NOON + HOUR + 30)


async def test_an_edit_or_a_cancel_that_is_faster_wins(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        kept, gone = await here.send(schedule=utc(NOON + HOUR)), await here.send(schedule=utc(NOON + HOUR))
        fire, done = here.store.schedules.fire, []

        async def late(firings, node_id):
            if not done:
                done.append(True)
                await notifications.cancel(here.context, here.app.id, gone)
                one = await here.store.schedules.get(here.app.id, kept)
                changed = Scheduled(
                    **{name: getattr(one, name) for name in Scheduled.__slots__}
                    | {"next_at": NOON + 2 * HOUR, "nominal": NOON + 2 * HOUR}
                )
                assert await here.store.schedules.edit(changed)
            return await fire(firings, node_id)

        here.store.schedules.fire = late
        await here.until(NOON + HOUR + 1)
        assert not here.fanout.sent
        await here.until(NOON + 3 * HOUR)
        assert [each.at for each in here.fanout.sent] == [NOON + 2 * HOUR]


async def test_what_waits_of_a_rollout_can_be_paused_and_cancelled(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        for name in ("Asia/Tokyo", "Europe/Berlin", "America/New_York"):
            await here.device(name, name)
        sent = await here.send(schedule={"strategy": "local", "send_at": "2026-11-25T09:00", "past_times": "ignore"})
        await here.until(at("2026-11-25T01:00"))
        await notifications.pause(here.context, here.app.id, sent)
        await here.until(at("2026-11-25T12:00"))
        assert [each.paused for each in here.of(sent)] == [False, True]
        await notifications.cancel(here.context, here.app.id, sent)
        await here.until(at("2026-11-27T12:00"))
        assert len(here.of(sent)) == 2


async def test_two_that_both_believe_to_lead_send_each_occurrence_once(dsn18):
    async with world(dsn18, NOON) as one, world(dsn18, NOON, beside=one) as two:
        await one.device("phone", user_id="ada")
        zoned = await one.device("tablet", "Asia/Tokyo")
        await one.send(schedule=recurring(every_s=600, starts_at=NOON + 60, count=30))
        await one.send(
            {"type": "users", "ids": ["ada"]}, schedule=recurring(every_s=900, starts_at=NOON + 60, count=20)
        )
        local = await one.send(schedule={"strategy": "local", "send_at": "2026-11-25T23:00", "past_times": "ignore"})
        for step in range(0, 8 * HOUR, 150):
            one.clock.at = two.clock.at = NOON + step
            await asyncio.gather(one.runner.look(), two.runner.look())
            await asyncio.gather(one.runner.idle(), two.runner.idle())
        await asyncio.gather(one.look(), two.look())
        both = one.fanout.sent + two.fanout.sent
        assert len({each.notification.id for each in both if each.notification.id != local}) == 50
        assert len([each for each in both if each.notification.id != local]) == 50
        assert sum(zoned in each.devices for each in both if each.notification.id == local) == 1


async def test_while_the_store_is_away_it_waits(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        await here.send(schedule=utc(NOON + HOUR))
        due = here.store.schedules.due

        async def away(*_):
            raise UnavailableError("away")

        here.store.schedules.due = away
        here.clock.at = NOON + HOUR
        await here.runner.start()
        await asyncio.sleep(0.1)
        assert not here.fanout.sent
        here.store.schedules.due = due
        async with asyncio.timeout(5):
            while not here.fanout.sent:
                await asyncio.sleep(0.01)


async def test_it_wakes_for_what_is_accepted_and_stops_in_good_order(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        await here.runner.start()
        await asyncio.sleep(0.3)
        sent = await here.send(schedule=utc(NOON))
        async with asyncio.timeout(5):
            while not here.of(sent):
                await asyncio.sleep(0.005)
