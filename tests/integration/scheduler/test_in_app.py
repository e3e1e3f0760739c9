"""In-app messages with a time on a real store: to whom they come, when, for how long, and once, whoever tries."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from pushd.commands import in_app, inbox, progress, schedules
from pushd.commands.inbox import Owner
from pushd.errors import ConflictError, InvalidRequestError, NotFoundError
from pushd.model.in_app import InAppChange, InAppContent, InAppState, InboxEvent, InboxReport, NewInApp
from pushd.model.schedule import Schedule
from pushd.model.scheduled import ScheduleChange
from pushd.scheduler import in_app as releasing
from pushd.store import firings
from tests.integration.scheduler.test_runner import DAY, HOUR, NOON, at, recurring, utc
from tests.integration.scheduler.world import world

pytestmark = pytest.mark.asyncio
INSTANT = "2026-11-25T09:00"


async def say(here, audience=None, **said):
    """The id of an in-app message."""
    body = {
        "audience": audience or {"type": "broadcast"},
        "content": {"title": "Pears"},
        "presented_when": "immediately",
        "ttl": {"hours": 2},
        **said,
    }
    wanted = msgspec.json.decode(msgspec.json.encode(body), type=NewInApp)
    return msgspec.json.decode((await in_app.create(here.context, here.app.id, wanted)).body)["id"]


async def got(here, install):
    """What an install has, newest first: number, when it came, and until when it is presented."""
    found, _, _ = await inbox.page(
        here.context, here.app.id, Owner(install_id=install), after=None, inbox=False, before=2**40, limit=100
    )
    return [(each.id, each.sent_at, each.expires_at) for each in found]


async def view(here, number):
    return await in_app.get(here.context, here.app.id, number)


async def test_each_occurrence_is_a_message_of_its_own(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        schedule = await say(here, schedule=recurring(every_s=HOUR, starts_at=NOON + HOUR, count=3), name="Hourly")
        await here.until(NOON + 90 * 60)
        assert not here.fanout.sent
        ((first, came, ends),) = await got(here, "one")
        assert first != schedule
        assert (came, ends) == (NOON + HOUR, NOON + 3 * HOUR)
        await here.device("two")  # the audience is resolved when each comes
        await here.until(NOON + 4.5 * HOUR)
        assert [at for _, at, _ in await got(here, "two")] == [NOON + 3 * HOUR]  # the one before is over by then
        kept = await schedules.get(here.context, here.app.id, schedule)
        assert (kept.occurred, kept.skipped, kept.state, kept.in_app.content) == (3, 0, "ended", {"title": "Pears"})
        told, _ = await schedules.occurrences(here.context, here.app.id, schedule, before=0, limit=10)
        assert told[-1].in_app_message_id == first
        assert {each.notification_id for each in told} == {None}
        one = await view(here, first)
        assert (one.schedule_id, one.counts.recipients, one.name, one.schedule) == (schedule, 1, "Hourly", None)


async def test_zone_by_zone_each_for_its_own_time_and_whoever_travels_has_it_once(dsn):
    async with world(dsn, at("2026-11-24T12:00")) as here:
        for install, zone in {
            "berlin": "Europe/Berlin",
            "tokyo": "Asia/Tokyo",
            "none": "",
            "lima": "America/Lima",
        }.items():
            await here.device(install, zone)
        local = {"strategy": "local", "send_at": INSTANT, "past_times": "ignore"}
        number = await say(here, schedule=local, push={"message": {"title": "Pears"}})
        assert (await view(here, number)).state is InAppState.SCHEDULED
        tokyo, berlin, utc_, lima = (
            at(INSTANT, zone) for zone in ("Asia/Tokyo", "Europe/Berlin", "UTC", "America/Lima")
        )
        await here.until(tokyo + 1)
        assert await got(here, "tokyo") == [(number, tokyo, tokyo + 2 * HOUR)]
        for other in ("berlin", "none", "lima"):
            assert await got(here, other) == []
        one = await view(here, number)
        assert (one.state, one.next_at, one.counts.recipients) == (InAppState.LIVE, berlin, 1)
        await here.device("tokyo", "America/Lima")  # it has it already
        await here.until(berlin + 1)
        assert await got(here, "berlin") == [(number, berlin, berlin + 2 * HOUR)]
        assert await got(here, "none") == []
        await here.until(lima + 1)
        assert await got(here, "none") == []  # over by now
        assert await got(here, "lima") == [(number, lima, lima + 2 * HOUR)]
        one = await view(here, number)
        assert (one.next_at, one.counts.recipients, one.expires_at) == (None, 4, lima + 2 * HOUR)
        pushed = [each for each in here.fanout.sent if each.notification.id == one.notification_id]
        assert sorted({each.at for each in pushed}) == [tokyo, berlin, utc_, lima]
        assert all(each.notification.send.message.data == {"in_app_message_id": number} for each in pushed)


async def test_a_user_with_devices_in_two_zones_has_it_once(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        await here.device("east", "Asia/Tokyo", user_id="ada")
        await here.device("west", "Europe/Berlin", user_id="ada")
        number = await say(
            here, schedule={"strategy": "local", "send_at": INSTANT, "past_times": "ignore"}, ttl={"days": 1}
        )
        await here.until(at(INSTANT, "Asia/Tokyo") + 60)
        report = [InboxReport(message_id=number, event=InboxEvent.READ)]
        await inbox.report(here.context, here.app.id, Owner(install_id="west"), report)
        await here.until(at(INSTANT, "Europe/Berlin") + 1)
        ((_, came, _),) = await got(here, "west")
        assert came == at(INSTANT, "Asia/Tokyo")
        one = await view(here, number)
        assert (one.counts.recipients, one.counts.read) == (1, 1)


async def test_zones_whose_time_has_passed_are_counted_and_left_out(dsn18):
    async with world(dsn18, at(INSTANT)) as here:
        await here.device("tokyo", "Asia/Tokyo")
        await here.device("lima", "America/Lima")
        number = await say(here, schedule={"strategy": "local", "send_at": INSTANT, "past_times": "ignore"})
        await here.until(at(INSTANT) + DAY)
        assert await got(here, "tokyo") == []
        one = await view(here, number)
        assert (one.counts.recipients, one.counts.suppressed) == (1, 1)


async def test_what_was_missed_by_too_much_comes_to_nobody_and_later_zones_get_theirs(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        await here.device("tokyo", "Asia/Tokyo")
        await here.device("lima", "America/Lima")
        schedule = {"strategy": "local", "send_at": INSTANT, "past_times": "ignore"}
        number = await say(here, schedule=schedule | {"missed": {"type": "skip"}})
        await here.look()
        here.clock.at = at(INSTANT, "Asia/Tokyo") + 3 * HOUR  # nobody was there
        await here.until(at(INSTANT, "America/Lima") + 1)
        assert await got(here, "tokyo") == []
        assert [each for each, _, _ in await got(here, "lima")] == [number]
        one = await view(here, number)
        assert (one.counts.recipients, one.counts.suppressed) == (1, 1)


async def test_each_user_at_his_preferred_hour(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        for install, hour in (("early", 7), ("late", 20)):
            here.habits.by_device[await here.device(install, "Europe/Berlin", user_id=install)] = hour
        number = await say(
            here,
            schedule={"strategy": "intelligent", "send_at": "2026-11-25", "past_times": "ignore"},
            ttl={"hours": 24},
        )
        await here.until(at("2026-11-26T12:00"))
        assert (await got(here, "late"))[0][:2] == (number, at("2026-11-25T20:00", "Europe/Berlin"))
        here.clock.at = at("2026-11-25T20:00")
        assert (await got(here, "early"))[0][:2] == (number, at("2026-11-25T07:00", "Europe/Berlin"))
        assert (await view(here, number)).counts.recipients == 2
        soon = await say(here, intelligent_delivery=True)
        await here.until(at("2026-11-27T12:00"))
        assert (await view(here, soon)).counts.recipients == 2


@pytest.mark.parametrize("few", [3, 500])
async def test_a_window_cuts_recipients_into_equal_batches_a_minute_apart(dsn18, monkeypatch, few):
    monkeypatch.setattr(releasing, "LETTERS_MAX", few)
    async with world(dsn18, NOON) as here:
        installs = [f"install {number}" for number in range(30)]
        for install in installs:
            await here.device(install, user_id=install if len(install) % 2 else None)
        number = await say(here, release_window_minutes=60)
        await here.look()
        seen = Counter()
        for minute in range(60):
            here.clock.at = NOON + minute * 60
            seen[minute] = sum([len(await got(here, install)) for install in installs])
        steps = [seen[minute] - seen[minute - 1] for minute in range(1, 60)]
        # Users and installs without one are cut apart where there are many.
        assert set(steps) <= {0, 1, 2} if few == 3 else {0, 1}
        assert seen[59] == 30
        came = [(await got(here, install))[0] for install in installs]
        assert len({at for _, at, _ in came}) == (20 if few == 3 else 30)
        assert {ends - at for _, at, ends in came} == {2 * HOUR}
        one = await view(here, number)
        assert (one.counts.recipients, one.expires_at) == (30, NOON + 2 * HOUR + 59 * 60)


async def test_what_is_paused_stays_back_and_comes_when_it_goes_on(dsn18):
    async with world(dsn18, NOON) as here:
        for number in range(10):
            await here.device(f"install {number}")
        number = await say(here, release_window_minutes=60)
        await here.look()
        here.clock.at = NOON + 20 * 60

        async def there():
            return sum([bool(await got(here, f"install {each}")) for each in range(10)])

        before = await there()
        assert 0 < before < 10
        assert (await in_app.pause(here.context, here.app.id, number)).state is InAppState.PAUSED
        here.clock.at = NOON + 90 * 60
        assert await there() == before
        assert (await in_app.resume(here.context, here.app.id, number)).state is InAppState.LIVE
        assert await there() == 10
        came = [(await got(here, f"install {each}"))[0][1] for each in range(10)]
        assert max(came) == NOON + 90 * 60
        here.clock.at = NOON + 90 * 60 + 2 * HOUR - 1
        assert await there() == 10 - before  # whoever got it later has it for as long
        with pytest.raises(ConflictError):
            await in_app.pause(here.context, here.app.id, number)


async def half_round(here):
    """A message with a push, at nine wherever one is; it has come to Tokyo and not to Berlin."""
    await here.device("tokyo", "Asia/Tokyo")
    await here.device("berlin", "Europe/Berlin")
    number = await say(
        here,
        schedule={"strategy": "local", "send_at": INSTANT, "past_times": "ignore"},
        push={"message": {"title": "Pears"}},
    )
    await here.until(at(INSTANT, "Asia/Tokyo") + 1)
    return number


async def test_a_paused_round_goes_on_where_it_stood(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        number = await half_round(here)
        paused = await in_app.pause(here.context, here.app.id, number)
        assert (paused.state, paused.next_at) == (InAppState.PAUSED, None)
        assert (await got(here, "tokyo"))[0][0] == number
        berlin = at(INSTANT, "Europe/Berlin")
        await here.until(berlin + 600)
        assert await got(here, "berlin") == []
        resumed = await in_app.resume(here.context, here.app.id, number)
        assert resumed.state is InAppState.LIVE
        await here.look()
        assert (await got(here, "berlin"))[0][:2] == (number, berlin + 600)
        # The fan-out keeps back what it is given while the push is paused.
        pushed = {(each.at, each.paused) for each in here.of(resumed.notification_id)}
        assert pushed == {(at(INSTANT, "Asia/Tokyo"), False), (berlin, True)}


async def test_a_withdrawn_round_comes_to_nobody_else(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        number = await half_round(here)
        assert (await in_app.cancel(here.context, here.app.id, number)).state is InAppState.CANCELLED
        await here.until(at(INSTANT, "America/Lima"))
        assert await got(here, "tokyo") == await got(here, "berlin") == []
        assert len({each.at for each in here.fanout.sent}) == 1  # the push that went before


async def test_a_schedule_is_changed_switched_off_and_cancelled(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one", tags=["a"])
        await here.device("two")
        context, app = here.context, here.app.id
        schedule = await say(here, schedule=recurring(every_s=HOUR, starts_at=NOON + HOUR), ttl={"days": 1})
        said = msgspec.convert(
            {"content": {"title": "Plums"}, "presented_when": "next_open", "ttl": {"days": 2}}, InAppContent
        )
        tagged = msgspec.convert({"audience": {"type": "tags", "any": ["a"]}}, ScheduleChange).audience
        changed = await schedules.update(context, app, schedule, ScheduleChange(in_app=said, audience=tagged))
        assert changed.in_app.content == {"title": "Plums"}
        await here.until(NOON + HOUR)
        assert len(await got(here, "one")) == 1
        assert await got(here, "two") == []
        await schedules.update(context, app, schedule, ScheduleChange(active=False))
        await here.until(NOON + 3.5 * HOUR)
        assert len(await got(here, "one")) == 1
        await schedules.update(context, app, schedule, ScheduleChange(active=True))
        await here.until(NOON + 4 * HOUR)
        assert len(await got(here, "one")) == 2
        with pytest.raises(InvalidRequestError) as refused:
            await schedules.update(context, app, schedule, ScheduleChange(ttl_s=60))
        assert [fault.pointer for fault in refused.value.faults] == ["/ttl_s"]
        with pytest.raises(NotFoundError):
            await progress.get(context, app, schedule)
        await schedules.cancel(context, app, schedule)
        await here.until(NOON + DAY)
        assert len(await got(here, "one")) == 2


async def test_one_that_waits_is_renamed_paused_and_edited_under_its_own_id(dsn18):
    async with world(dsn18, NOON) as here:
        await here.device("one")
        context, app = here.context, here.app.id
        number = await say(here, schedule=utc(NOON + HOUR))
        await in_app.change(context, app, number, msgspec.convert({"name": "Plums"}, InAppChange))
        assert (await in_app.pause(context, app, number)).state is InAppState.PAUSED
        await here.until(NOON + 2 * HOUR)
        assert await got(here, "one") == []
        later = msgspec.convert(utc(NOON + 3 * HOUR), Schedule)
        await schedules.update(context, app, number, ScheduleChange(schedule=later, active=True))
        await here.until(NOON + 3 * HOUR)
        assert [each for each, _, _ in await got(here, "one")] == [number]
        one = await view(here, number)
        assert (one.name, one.released_at, one.send_at) == ("Plums", NOON + 3 * HOUR, NOON + 3 * HOUR)


async def test_two_nodes_release_each_once(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here, world(dsn18, here.clock.at, beside=here) as other:
        for number, zone in enumerate(("Asia/Tokyo", "Europe/Berlin", "America/Lima")):
            await here.device(f"install {number}", zone)
        local = await say(
            here, schedule={"strategy": "local", "send_at": INSTANT, "past_times": "ignore"}, ttl={"days": 3}
        )
        again = await say(here, schedule=recurring(every_s=HOUR, starts_at=at(INSTANT), count=5), ttl={"days": 3})
        while here.clock.at < at(INSTANT) + DAY:
            here.clock.at += 1_800
            other.clock.at = here.clock.at
            await asyncio.gather(*(each.runner.look() for each in (here, other)))
            await asyncio.gather(*(each.runner.idle() for each in (here, other)))
        await here.look()
        for number in range(3):
            found = [each for each, _, _ in await got(here, f"install {number}")]
            assert len(found) == len(set(found)) == 6
            assert local in found
        assert (await view(here, local)).counts.recipients == 3
        kept = await here.store.schedules.get(here.app.id, again)
        assert (kept.occurred, kept.skipped) == (5, 0)


async def test_local_occurrences_go_round_the_world_each_by_itself(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        await here.device("tokyo", "Asia/Tokyo")
        await here.device("lima", "America/Lima")
        rule = {"rrule": "FREQ=DAILY", "starts_at": INSTANT, "count": 2}
        await say(here, schedule=recurring("local", **rule), ttl={"days": 9}, push={"message": {"title": "Pears"}})
        await here.until(at(INSTANT) + 3 * DAY)
        for install, zone in (("tokyo", "Asia/Tokyo"), ("lima", "America/Lima")):
            came = [each for _, each, _ in await got(here, install)]
            assert came == [at(INSTANT, zone) + DAY, at(INSTANT, zone)]
        assert sorted({each.at for each in here.fanout.sent}) == sorted(
            at(INSTANT, zone) + days * DAY for zone in ("Asia/Tokyo", "America/Lima") for days in (0, 1)
        )


def left(push):
    """Whether what there is of a push goes out: as a schedule, a rollout or a run."""
    return f"""
        SELECT active FROM schedules WHERE id = {push} UNION ALL SELECT paused_at IS NULL FROM rollouts
        WHERE notification_id = {push} UNION ALL SELECT paused_at IS NULL FROM runs WHERE notification_id = {push}"""


async def planned_round(here):
    """The same message before it came to anybody: its push is scheduled, and not planned."""
    await here.device("tokyo", "Asia/Tokyo")
    await here.device("lima", "America/Lima")
    local = {"strategy": "local", "send_at": INSTANT, "past_times": "ignore"}
    number = await say(here, schedule=local, push={"message": {"title": "Pears"}})
    (due,) = await here.store.schedules.due(at(INSTANT), 2)
    await here.runner._releaser.carry_out(due)
    return number


@pytest.mark.parametrize("begin", [planned_round, half_round])
async def test_a_message_and_its_push_are_paused_by_one_commit(dsn18, begin):
    """What holds if the daemon is gone right behind that commit."""
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        number = await begin(here)
        query = left((await view(here, number)).notification_id)

        async def goes():
            return {row["active"] for row in await here.store.database.fetch(query)}

        assert await goes() == {True}
        assert await here.store.in_app.pause(here.app.id, number, here.clock.now(), paused=True)
        assert await goes() == {False}
        assert await here.store.in_app.pause(here.app.id, number, here.clock.now(), paused=False)
        assert await goes() == {True}


async def test_a_push_that_is_fired_while_its_message_is_paused_is_paused(dsn18, monkeypatch):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        number = await planned_round(here)
        writing, written = asyncio.Event(), asyncio.Event()

        async def note_fired(*_):
            writing.set()
            await written.wait()

        monkeypatch.setattr(firings, "note_fired", note_fired)
        here.clock.at = at(INSTANT, "Asia/Tokyo") - DAY / 4
        await here.store.database.execute("UPDATE schedules SET next_at = next_at + interval '1 day' WHERE stage <> ''")
        fired = asyncio.create_task(here.look())
        await writing.wait()
        pausing = asyncio.create_task(in_app.pause(here.context, here.app.id, number))
        await asyncio.sleep(0.1)
        assert not pausing.done()
        written.set()
        assert (await pausing).state is InAppState.PAUSED
        await fired
        push = (await view(here, number)).notification_id
        assert {row["active"] for row in await here.store.database.fetch(left(push))} == {False}


async def test_who_pauses_and_is_overtaken_by_who_resumes_leaves_the_push_going(dsn18, monkeypatch):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        number = await half_round(here)
        pause = here.store.in_app.pause

        async def overtaken(*arguments, paused):
            done = await pause(*arguments, paused=paused)
            if paused:
                await in_app.resume(here.context, here.app.id, number)
            return done

        monkeypatch.setattr(here.store.in_app, "pause", overtaken)
        one = await in_app.pause(here.context, here.app.id, number)
        assert one.state is InAppState.LIVE
        assert {row["active"] for row in await here.store.database.fetch(left(one.notification_id))} == {True}


async def test_a_push_that_was_paused_before_its_time_goes_to_all_whom_the_message_comes_to(dsn18):
    async with world(dsn18, at("2026-11-24T12:00")) as here:
        number = await planned_round(here)
        await in_app.pause(here.context, here.app.id, number)
        late, lima = at(INSTANT, "Asia/Tokyo") + HOUR, at(INSTANT, "America/Lima")
        await here.until(late)
        assert not here.fanout.sent
        await in_app.resume(here.context, here.app.id, number)
        await here.until(late + 1)
        assert (await got(here, "tokyo"))[0][:2] == (number, late)
        await here.until(lima + 1)
        assert (await got(here, "lima"))[0][:2] == (number, lima)
        assert sorted(here.got((await view(here, number)).notification_id).values()) == [late, lima]
