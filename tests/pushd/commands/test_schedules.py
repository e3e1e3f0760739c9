"""Schedules whose time comes just when somebody changes, pauses or cancels them."""

import asyncio

import msgspec
import pytest

from pushd.bitset import Devices
from pushd.commands import notifications, progress, schedules
from pushd.commands.notifications import Sent
from pushd.errors import ConflictError, InvalidRequestError, NotFoundError
from pushd.model.audience import Broadcast, UserIds
from pushd.model.message import Message
from pushd.model.notification import Send, State
from pushd.model.schedule import PastTimes, Recurrence, Schedule, Strategy
from pushd.model.scheduled import ScheduleChange, ScheduleState
from pushd.store.accepts import Accept
from pushd.store.schedules import Firing, ScheduleStore
from pushd.telemetry import ACCEPTED

pytestmark = pytest.mark.asyncio(loop_scope="package")

FAR = 2_000_000_000
LATER = Schedule(strategy=Strategy.UTC, send_at=FAR, past_times=PastTimes.IGNORE)
HOURLY = Schedule(strategy=Strategy.UTC, past_times=PastTimes.IGNORE, recurrence=Recurrence(every_s=3600))


async def send(world, schedule=LATER, audience=None) -> int:
    asked = Send(audience=audience or Broadcast(), message=Message(title="x"), schedule=schedule)
    answer = await notifications.send(world.context, world.app.id, asked)
    return msgspec.json.decode(answer.body, type=Sent).id


async def fire(world, number: int, devices: Devices) -> None:
    """What the runner does when the time of a schedule comes that goes out once."""
    context = world.context
    due = await context.store.schedules.get(world.app.id, number)
    now = context.clock.now()
    start = Accept(
        app_id=world.app.id,
        send=due.send,
        targeted=devices,
        node_id=context.node_id,
        created_at=now,
        released_at=now,
        expires_at=now + 60,
    )
    firing = Firing(due=due, occurrence=due.nominal, notification_id=number, start=start)
    assert await context.store.schedules.fire([firing], context.node_id) == [True]


def fires_before(world, monkeypatch, call: str, number: int, devices: Devices) -> None:
    """Lets its time come when a method of the store is called for the first time."""
    whole = getattr(ScheduleStore, call)
    left = [number]

    async def late(store, *args, **kwargs):
        if left:
            await fire(world, left.pop(), devices)
        return await whole(store, *args, **kwargs)

    monkeypatch.setattr(ScheduleStore, call, late)


async def state(world, number: int) -> State:
    return (await progress.get(world.context, world.app.id, number)).state


async def test_nothing_is_resolved_or_released_before_its_time(world):
    await world.register("a")
    accepted = ACCEPTED._value.get()
    number = await send(world)
    assert world.fanout.released == []
    assert ACCEPTED._value.get() == accepted + 1
    assert await state(world, number) is State.SCHEDULED


async def test_a_full_fanout_takes_what_is_for_later(world):
    world.fanout.full = ConflictError("full")
    try:
        assert await send(world)
    finally:
        world.fanout.full = None


@pytest.mark.parametrize("call", ["get", "edit"])
async def test_a_pause_that_comes_with_its_time_pauses_what_runs(world, monkeypatch, call):
    device = await world.register("a")
    number = await send(world)
    fires_before(world, monkeypatch, call, number, Devices([device.id]))
    await notifications.pause(world.context, world.app.id, number)
    assert await state(world, number) is State.PAUSED
    assert world.fanout.paused == [number]
    await notifications.resume(world.context, world.app.id, number)
    assert await state(world, number) is State.RUNNING


async def test_a_name_that_comes_with_its_time_is_kept(world, monkeypatch):
    device = await world.register("a")
    number = await send(world)
    fires_before(world, monkeypatch, "edit", number, Devices([device.id]))
    await notifications.rename(world.context, world.app.id, number, "late")
    assert (await progress.get(world.context, world.app.id, number)).name == "late"


@pytest.mark.parametrize("call", ["get", "edit"])
async def test_a_change_that_comes_with_its_time_changes_nothing(world, monkeypatch, call):
    device = await world.register("a")
    number = await send(world)
    fires_before(world, monkeypatch, call, number, Devices([device.id]))
    with pytest.raises(ConflictError):
        await schedules.update(world.context, world.app.id, number, ScheduleChange(message=Message(title="late")))
    view = await progress.get(world.context, world.app.id, number)
    assert (view.state, view.message.title) == (State.RUNNING, "x")


async def test_a_cancel_and_the_time_of_a_schedule_never_both_win(world):
    device = await world.register("a")
    for _ in range(5):
        number = await send(world)
        fired, cancelled = await asyncio.gather(
            fire(world, number, Devices([device.id])),
            notifications.cancel(world.context, world.app.id, number),
            return_exceptions=True,
        )
        # Cancelled first, it does not fire; fired first, what it became is cancelled.
        assert cancelled is None
        assert fired is None or isinstance(fired, AssertionError)
        assert await state(world, number) is State.CANCELLED
        found = await world.context.store.schedules.get(world.app.id, number)
        assert (found is None) == (fired is None)


async def test_who_is_always_overtaken_gives_up(world, monkeypatch):
    number = await send(world)

    async def overtaken(*_: object) -> bool:
        return False

    monkeypatch.setattr(ScheduleStore, "edit", overtaken)
    with pytest.raises(ConflictError):
        await schedules.update(world.context, world.app.id, number, ScheduleChange(active=False))


async def test_a_recurrence_goes_on_where_it_would_be_by_now(world):
    number = await send(world, HOURLY, UserIds(ids=["nobody"]))
    context, app_id = world.context, world.app.id
    stored = await context.store.schedules.get(app_id, number)
    off = await schedules.update(context, app_id, number, ScheduleChange(active=False))
    assert (off.state, off.next) == (ScheduleState.INACTIVE, [])
    # As if it had been off for a day: what came meanwhile never was.
    past = msgspec.structs.replace(
        HOURLY, recurrence=Recurrence(every_s=3600, starts_at=stored.nominal - 86_400 - 1_800, count=30)
    )
    await schedules.update(context, app_id, number, ScheduleChange(schedule=past))
    on = await schedules.update(context, app_id, number, ScheduleChange(active=True))
    assert (on.state, on.occurred, on.skipped) == (ScheduleState.ACTIVE, 0, 0)
    assert context.clock.now() - 61 < on.next[0] <= context.clock.now() + 3600
    assert on.next == [on.next[0] + hour * 3600 for hour in range(5)]


async def test_an_app_that_is_gone_has_no_schedules(world):
    for asked in (
        schedules.get(world.context, 999_999, 1),
        schedules.update(world.context, 999_999, 1, ScheduleChange(active=False)),
        schedules.cancel(world.context, 999_999, 1),
        notifications.pause(world.context, 999_999, 1),
        notifications.resume(world.context, 999_999, 1),
    ):
        with pytest.raises(NotFoundError):
            await asked


async def test_what_could_not_be_accepted_any_more_can_still_be_named_and_switched(world, monkeypatch):
    number = await send(world)
    context, app_id = world.context, world.app.id

    def refuse(*_: object) -> None:
        raise InvalidRequestError("too large for a gateway that the app has by now")

    monkeypatch.setattr(schedules, "examine", refuse)
    assert (await schedules.update(context, app_id, number, ScheduleChange(name="named"))).name == "named"
    for active, expected in ((False, ScheduleState.INACTIVE), (True, ScheduleState.ACTIVE)):
        assert (await schedules.update(context, app_id, number, ScheduleChange(active=active))).state is expected
    with pytest.raises(InvalidRequestError):
        await schedules.update(context, app_id, number, ScheduleChange(ttl_s=5))
