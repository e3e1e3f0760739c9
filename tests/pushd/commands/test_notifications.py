import asyncio
import hashlib

import msgspec
import pytest

from pushd.commands import devices, notifications, progress
from pushd.commands.notifications import Sent
from pushd.errors import (
    ConflictError,
    IdempotencyMismatchError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    UnknownTargetsError,
)
from pushd.model.app import Settings
from pushd.model.audience import And, Audience, Broadcast, DeviceIds, Tags, UserIds
from pushd.model.message import TTL_MAX_S, Message, PushType
from pushd.model.notification import Send, State
from pushd.store.settlements import Settlement
from pushd.telemetry import ACCEPTED

pytestmark = pytest.mark.asyncio(loop_scope="package")

HELLO = Message(title="Hello")


def wanted(audience: Audience, message: Message = HELLO, **more) -> Send:
    return Send(audience=audience, message=message, **more)


async def send(world, audience: Audience, message: Message = HELLO, key: str | None = None, **more) -> Sent:
    asked = wanted(audience, message, **more)
    idempotency = None if key is None else (key, hashlib.sha256(msgspec.json.encode(asked)).digest())
    answer = await notifications.send(world.context, world.app.id, asked, idempotency)
    return msgspec.json.decode(answer.body, type=Sent)


async def test_a_send_is_committed_then_released(world):
    device = await world.register("a")
    before = ACCEPTED._value.get()
    sent = await send(world, Broadcast(), name="first")
    assert ACCEPTED._value.get() == before + 1
    ((notification, settings, targeted),) = world.fanout.released
    assert (sent.id, sent.targeted, sent.errors) == (notification.id, 1, None)
    assert list(targeted) == [device.id]
    assert settings == world.app.settings
    assert notification.app_id == world.app.id
    assert notification.expires_at == pytest.approx(notification.released_at + TTL_MAX_S, abs=1)
    view = await progress.get(world.context, world.app.id, sent.id)
    assert (view.state, view.name, view.counts.targeted, view.counts.pending) == (State.RUNNING, "first", 1, 1)


async def test_a_short_life_is_counted_from_the_release(world):
    await world.register("a")
    await send(world, Broadcast(), ttl_s=60)
    await send(world, Broadcast(), ttl_s=0)
    first, second = (notification for notification, _, _ in world.fanout.released)
    assert first.expires_at == pytest.approx(first.released_at + 60, abs=1)
    assert second.expires_at == second.released_at
    assert second.send.ttl_s == 0


async def test_push_to_talk_is_now_or_never_by_itself(world):
    await send(world, Broadcast(), Message(push_type=PushType.PUSHTOTALK))
    ((notification, _, _),) = world.fanout.released
    assert notification.send.ttl_s == 0


async def test_tags_and_broadcasts_may_reach_nobody(world):
    for audience in (Broadcast(), Tags(any=["none"])):
        sent = await send(world, audience)
        assert (sent.targeted, sent.errors) == (0, None)
    assert [len(targeted) for _, _, targeted in world.fanout.released] == [0, 0]


async def test_some_named_targets_missing_is_reported_and_all_missing_is_an_error(world):
    device = await world.register("a")
    quiet = await world.register("b", token=None)
    sent = await send(world, DeviceIds([device.id, quiet.id, 999_999]))
    assert sent.targeted == 1
    assert sent.errors.unknown.devices == [999_999]
    assert sent.errors.unsubscribed.devices == [quiet.id]
    with pytest.raises(UnknownTargetsError) as caught:
        await send(world, DeviceIds([quiet.id, 999_999]))
    assert caught.value.status == 400
    assert caught.value.extra["targets"] == {
        "unknown": {"devices": [999_999]},
        "unsubscribed": {"devices": [quiet.id]},
        "count": 2,
    }
    with pytest.raises(UnknownTargetsError):
        await send(world, UserIds(["nobody"]))
    assert len(world.fanout.released) == 1


async def test_named_targets_that_exist_and_match_nothing_are_no_error(world):
    device = await world.register("a", tags=["x"])
    sent = await send(world, And([DeviceIds([device.id]), Tags(any=["y"])]))
    assert (sent.targeted, sent.errors) == (0, None)


async def test_what_cannot_be_sent_is_refused_before_it_is_kept(world):
    await world.register("a")
    for bad, pointer in (
        (Message(title="a", badge=1, badge_increment=1), "/message/badge_increment"),
        (Message(title="a\0"), "/message/title"),
        (Message(title="a", data={"k": "x" * 5000}), None),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await send(world, Broadcast(), bad)
        assert pointer is None or [fault.pointer for fault in caught.value.faults] == [pointer]
    assert world.fanout.released == []
    assert await progress.list_page(world.context, world.app.id, before=2**31, limit=10) == ([], False)


async def test_a_full_fan_out_takes_nothing(world):
    await world.register("a")
    world.fanout.full = UnavailableError("full", retry_after_s=7)
    with pytest.raises(UnavailableError) as caught:
        await send(world, Broadcast())
    assert caught.value.retry_after_s == 7
    assert await progress.list_page(world.context, world.app.id, before=2**31, limit=10) == ([], False)


async def test_the_same_key_and_request_is_answered_as_the_first_time(world):
    device = await world.register("a")
    audience = DeviceIds([device.id, 777_777])
    asked = wanted(audience)
    key = ("k-1", hashlib.sha256(b"one").digest())
    first = await notifications.send(world.context, world.app.id, asked, key)
    await devices.delete(world.context, world.app.id, device.id)
    world.fanout.full = UnavailableError("full")
    again = await notifications.send(world.context, world.app.id, asked, key)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.body == first.body
    assert len(world.fanout.released) == 1


async def test_the_same_key_with_another_request_is_a_mismatch(world):
    await send(world, Broadcast(), key="k")
    with pytest.raises(IdempotencyMismatchError):
        await send(world, Broadcast(), Message(title="Other"), key="k")
    other = await world.another_app()
    assert (await send(other, Broadcast(), Message(title="Other"), key="k")).targeted == 0


async def test_one_of_many_at_once_with_one_key_is_sent(world):
    await world.register("a")
    key = ("k", hashlib.sha256(b"x").digest())
    answers = await asyncio.gather(
        *(notifications.send(world.context, world.app.id, wanted(Broadcast()), key) for _ in range(8))
    )
    assert len({answer.body for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert len(world.fanout.released) == 1


async def test_a_send_is_released_though_the_asker_went_away(world):
    await world.register("a")
    async with world.context.store.database.transaction() as blocker:
        await blocker.execute("LOCK TABLE runs")
        asked = asyncio.create_task(send(world, Broadcast()))
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    async with asyncio.timeout(60):
        while not world.fanout.released:
            await asyncio.sleep(0.01)
    stored, _ = await progress.list_page(world.context, world.app.id, before=2**31, limit=10)
    assert [view.id for view in stored] == [notification.id for notification, _, _ in world.fanout.released]


async def test_only_the_name_changes(world):
    sent = await send(world, Broadcast(), name="before")
    await notifications.rename(world.context, world.app.id, sent.id, "after")
    assert (await progress.get(world.context, world.app.id, sent.id)).name == "after"
    await notifications.rename(world.context, world.app.id, sent.id, None)
    assert (await progress.get(world.context, world.app.id, sent.id)).name is None
    with pytest.raises(InvalidRequestError):
        await notifications.rename(world.context, world.app.id, sent.id, "a\0")


async def test_cancelling_is_stored_first_and_done_once(world):
    await world.register("a")
    sent = await send(world, Broadcast())
    await notifications.cancel(world.context, world.app.id, sent.id)
    assert world.fanout.cancelled == [sent.id]
    assert (await progress.get(world.context, world.app.id, sent.id)).state is State.CANCELLED
    await notifications.cancel(world.context, world.app.id, sent.id)
    await finish(world, sent.id)
    await notifications.cancel(world.context, world.app.id, sent.id)
    assert (await progress.get(world.context, world.app.id, sent.id)).state is State.CANCELLED


async def hold_answers(world, monkeypatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Lets accepts commit, and their answers wait: (set when one is committed, to be set to let it go on)."""
    write = world.context.store.database.fetch
    committed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(query, *args, **kwargs):
        rows = await write(query, *args, **kwargs)
        if "accept_notifications" in query:
            committed.set()
            await go_on.wait()
        return rows

    monkeypatch.setattr(world.context.store.database, "fetch", slow)
    return committed, go_on


async def test_a_cancel_between_commit_and_release_stops_the_send(world, monkeypatch):
    await world.register("a")
    monkeypatch.setattr(world.fanout, "knows_what_runs", True)
    committed, go_on = await hold_answers(world, monkeypatch)
    asked = asyncio.create_task(send(world, Broadcast()))
    await committed.wait()
    number = await world.context.store.database.fetchval("SELECT max(notification_id) FROM runs")
    await notifications.cancel(world.context, world.app.id, number)
    assert world.fanout.released == []
    go_on.set()
    sent = await asked
    assert (sent.id, sent.targeted) == (number, 1)
    ((notification, _, _),) = world.fanout.released
    assert notification.state is State.CANCELLED
    assert world.fanout.cancelled == [number, number]
    monkeypatch.undo()
    again = await send(world, Broadcast())
    assert world.fanout.released[-1][0].state is State.RUNNING
    assert again.id not in world.fanout.cancelled
    assert world.context.store.notifications.acceptor._under_way == {}


async def test_what_is_done_cannot_be_cancelled(world):
    sent = await send(world, Broadcast())
    await finish(world, sent.id)
    with pytest.raises(ConflictError):
        await notifications.cancel(world.context, world.app.id, sent.id)
    assert (await progress.get(world.context, world.app.id, sent.id)).state is State.DONE


async def test_notifications_of_another_app_are_not_there(world):
    other = await world.another_app()
    sent = await send(world, Broadcast())
    for asked in (
        progress.get(world.context, other.app.id, sent.id),
        notifications.cancel(world.context, other.app.id, sent.id),
        notifications.rename(world.context, other.app.id, sent.id, "mine"),
        progress.outcome_devices(world.context, other.app.id, sent.id, outcome=None, reason=None, after=0, limit=10),
    ):
        with pytest.raises(NotFoundError):
            await asked
    assert await progress.list_page(world.context, other.app.id, before=2**31, limit=10) == ([], False)
    assert (await progress.get(world.context, world.app.id, sent.id)).name is None
    assert world.fanout.cancelled == []


async def test_an_app_that_is_gone_sends_nothing(world):
    with pytest.raises(NotFoundError):
        await notifications.send(world.context, 999_999, wanted(Broadcast()))
    assert Settings() == (await world.another_app()).app.settings


async def finish(world, notification_id: int) -> None:
    await world.context.store.settlements.settle(Settlement(finished=[notification_id]), world.context.node_id)
