import numpy as np
import pytest

from pushd.bitset import Devices
from pushd.commands import notifications, pages, progress
from pushd.errors import NotFoundError
from pushd.model.audience import Broadcast, DeviceIds
from pushd.model.device import GatewayName
from pushd.model.message import Message
from pushd.model.notification import Ledger, Send, State
from pushd.outcome import ACCEPTED, CANCELLED, EXPIRED, UNREACHABLE
from pushd.store.settlements import Delta, Settlement
from tests.pushd.commands.world import BAD, DEAD

pytestmark = pytest.mark.asyncio(loop_scope="package")

APNS = GatewayName.APNS.number


async def send(world, audience=None):
    await notifications.send(
        world.context, world.app.id, Send(audience=audience or Broadcast(), message=Message(title="Hello"))
    )
    notification, _, targeted = world.fanout.released[-1]
    return notification.id, [*targeted]


async def settle(world, notification_id: int, outcomes: dict[int, int], *, bitmaps: bool, done: bool) -> None:
    ids = np.array([*outcomes], np.uint32)
    codes = np.array([*outcomes.values()], np.int16)
    rows = {
        "notifications": np.full(len(ids), notification_id, np.int64),
        "devices": ids,
        "gateways": np.full(len(ids), APNS, np.int16),
        "codes": codes,
    }
    deltas = [
        Delta(notification_id, part, APNS, code, piece)
        for code in sorted(set(outcomes.values()))
        for part, piece in Devices([each for each, had in outcomes.items() if had == code]).parts()
    ]
    settlement = Settlement(**({"deltas": deltas} if bitmaps else rows), finished=[notification_id] if done else [])
    await world.context.store.settlements.settle(settlement, world.context.node_id)


async def behind(world, notification_id: int, outcome=None, reason=None, after=0, limit=1000):
    return await progress.outcome_devices(
        world.context, world.app.id, notification_id, outcome=outcome, reason=reason, after=after, limit=limit
    )


@pytest.mark.parametrize("count", [10, 70])
async def test_counts_reasons_and_devices_behind_each_outcome(world, count):
    """Small sends keep rows, large ones bitmaps: both answer alike."""
    for number in range(count):
        await world.register(f"i{number}")
    notification_id, ids = await send(world)
    large = count > 64
    fates = {
        ids[0]: DEAD.code,
        ids[1]: BAD.code,
        ids[2]: EXPIRED.code,
        ids[3]: CANCELLED.code,
        ids[4]: UNREACHABLE.code,
    }
    fates |= dict.fromkeys(ids[5:-1], ACCEPTED.code)
    await settle(world, notification_id, fates, bitmaps=large, done=False)

    view = await progress.get(world.context, world.app.id, notification_id)
    assert view.state is State.RUNNING
    assert view.counts == Ledger(
        targeted=count, accepted=count - 6, failed=2, expired=1, cancelled=1, suppressed=1, pending=1
    )
    assert view.counts.drift == 0
    assert {(row.reason, row.outcome): row.count for row in view.reasons} == {
        ("accepted", "accepted"): count - 6,
        ("Unregistered", "unregistered"): 1,
        ("BadTopic", "rejected"): 1,
        ("expired", "expired"): 1,
        ("cancelled", "cancelled"): 1,
        ("no_longer_reachable", "suppressed"): 1,
    }
    assert [row.count for row in view.reasons] == sorted((row.count for row in view.reasons), reverse=True)

    assert [row.device_id for row in await behind(world, notification_id, "accepted")] == ids[5:-1]
    assert [(row.device_id, row.reason) for row in await behind(world, notification_id, "failed")] == [
        (ids[0], "Unregistered"),
        (ids[1], "BadTopic"),
    ]
    (dead,) = await behind(world, notification_id, "unregistered")
    assert (dead.device_id, dead.outcome, dead.gateway) == (ids[0], "unregistered", GatewayName.APNS)
    assert [row.device_id for row in await behind(world, notification_id, reason="BadTopic")] == [ids[1]]
    assert await behind(world, notification_id, "accepted", reason="BadTopic") == []
    (pending,) = await behind(world, notification_id, "pending")
    assert (pending.device_id, pending.outcome, pending.reason) == (ids[-1], "pending", None)
    assert await behind(world, notification_id, "pending", reason="BadTopic") == []
    for name, device_id in (("expired", ids[2]), ("cancelled", ids[3]), ("suppressed", ids[4])):
        assert [row.device_id for row in await behind(world, notification_id, name)] == [device_id]
    assert len(await behind(world, notification_id)) == count - 1

    await settle(world, notification_id, {ids[-1]: ACCEPTED.code}, bitmaps=large, done=True)
    done = await progress.get(world.context, world.app.id, notification_id)
    assert (done.state, done.counts.pending, done.counts.accepted) == (State.DONE, 0, count - 5)
    assert done.finished_at is not None
    assert await behind(world, notification_id, "pending") == []


async def test_pages_of_devices_follow_ids(world):
    for number in range(5):
        await world.register(f"i{number}")
    notification_id, ids = await send(world)
    await settle(world, notification_id, dict.fromkeys(ids, ACCEPTED.code), bitmaps=False, done=True)
    first = await behind(world, notification_id, limit=2)
    second = await behind(world, notification_id, after=first[-1].device_id, limit=2)
    assert [row.device_id for row in first + second] == ids[:4]


async def test_what_runs_here_is_told_live(world):
    device = await world.register("a")
    notification_id, _ = await send(world, DeviceIds([device.id]))
    live = Ledger(targeted=1, accepted=1)
    world.fanout.live[notification_id] = (live, {(APNS, ACCEPTED.code): 1})
    view = await progress.get(world.context, world.app.id, notification_id)
    assert view.counts == live
    assert [row.reason for row in view.reasons] == ["accepted"]
    # Once it is stored as finished the stored counts are the truth.
    await settle(world, notification_id, {device.id: BAD.code}, bitmaps=False, done=True)
    view = await progress.get(world.context, world.app.id, notification_id)
    assert (view.counts.accepted, view.counts.failed) == (0, 1)


async def test_notifications_are_listed_newest_first(world):
    sent = [(await send(world))[0] for _ in range(4)]
    first, _ = await progress.list_page(world.context, world.app.id, before=2**31, limit=3)
    rest, _ = await progress.list_page(world.context, world.app.id, before=first[-1].id, limit=3)
    assert [view.id for view in first + rest] == sent[::-1]


async def test_a_page_of_large_sends_ends_early(world, monkeypatch):
    sent = [(await send(world))[0] for _ in range(25)]
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", 1_000)
    found, more = await progress.list_page(world.context, world.app.id, before=2**31, limit=25)
    assert more
    assert [view.id for view in found] == sent[: -len(found) - 1 : -1]
    assert 0 < len(found) < 25
    monkeypatch.undo()
    found, more = await progress.list_page(world.context, world.app.id, before=2**31, limit=25)
    assert ([view.id for view in found], more) == (sent[::-1], False)
    assert len((await progress.list_page(world.context, world.app.id, before=2**31, limit=100))[0]) == 25


async def test_a_devices_history_is_newest_first_and_its_own(world):
    devices = [await world.register(f"i{number}") for number in range(70)]
    mine = devices[7].id
    large, ids = await send(world)
    await settle(world, large, dict.fromkeys(ids, ACCEPTED.code), bitmaps=True, done=True)
    small, _ = await send(world, DeviceIds([mine]))
    await settle(world, small, {mine: DEAD.code}, bitmaps=False, done=True)
    other, _ = await send(world, DeviceIds([devices[8].id]))
    await settle(world, other, {devices[8].id: ACCEPTED.code}, bitmaps=False, done=True)
    found = await progress.history(world.context, world.app.id, mine, limit=10)
    assert [(row.notification_id, row.outcome, row.reason) for row in found] == [
        (small, "unregistered", "Unregistered"),
        (large, "accepted", "accepted"),
    ]
    assert len(await progress.history(world.context, world.app.id, mine, limit=1)) == 1
    with pytest.raises(NotFoundError):
        await progress.history(world.context, (await world.another_app()).app.id, mine, limit=10)
