import numpy as np
import pytest

from pushd.commands import audience, retirements
from pushd.errors import InvalidRequestError
from pushd.model.audience import Broadcast
from pushd.model.message import PushType
from pushd.store import devices as stored
from pushd.store.settlements import Retirement, Settlement

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def retire(world, devices, reason="Unregistered", credential_id=0):
    context = world.context
    ids = np.array([device.id for device in devices], np.uint32)
    now = int(context.clock.now() * 1000)
    retirement = Retirement(
        ids=ids,
        revisions=context.index.columns(ids).revisions,
        at_ms=np.full(len(ids), now, np.int64),
        reason=reason,
        credential_id=credential_id,
    )
    settled = await context.store.settlements.settle(Settlement(retired=[retirement]), context.node_id)
    context.index.apply_devices(settled.retired)


async def reached(world) -> int:
    return (await audience.count(world.context, world.app.id, Broadcast(), PushType.ALERT)).devices


async def test_retired_devices_are_counted_and_come_back(world):
    devices = [await world.register(f"i{n}") for n in range(6)]
    since = world.context.clock.now()
    await retire(world, devices[:3], credential_id=4)
    await retire(world, devices[3:5], reason="BadDeviceToken", credential_id=5)
    assert await reached(world) == 1
    groups = await retirements.summary(world.context, world.app.id, since=since - 1)
    assert [(group.reason, group.credential_id, group.devices) for group in groups] == [
        ("Unregistered", 4, 3),
        ("BadDeviceToken", 5, 2),
    ]
    assert all(since - 1 <= group.first_at <= group.last_at for group in groups)
    assert await retirements.summary(world.context, world.app.id, since=0, until=since - 60) == []

    async def revive(**named) -> int:
        return (await retirements.revive(world.context, world.app.id, since=since - 1, **named)).devices

    assert await revive(until=since - 0.5) == 0
    assert await revive(reason="Other") == 0
    assert await revive(credential_id=4) == 3
    assert await reached(world) == 4
    assert await revive(reason="BadDeviceToken") == 2
    assert await reached(world) == 6
    assert await revive() == 0
    assert await retirements.summary(world.context, world.app.id, since=0) == []


async def test_registering_again_revives_by_itself(world):
    device = await world.register("i", token="ab" * 32)
    await retire(world, [device])
    assert await reached(world) == 0
    again = await world.register("i", token="ab" * 32)
    assert (again.id, again.retired_at, again.reachable) == (device.id, None, True)
    assert await reached(world) == 1


async def test_another_app_keeps_its_dead(world):
    other = await world.another_app()
    device = await other.register("i")
    await retire(other, [device])
    assert (await retirements.revive(world.context, world.app.id, since=0)).devices == 0
    assert await retirements.summary(world.context, world.app.id, since=0) == []
    assert await reached(other) == 0


async def test_a_span_that_ends_before_it_begins_is_refused(world):
    with pytest.raises(InvalidRequestError) as caught:
        await retirements.revive(world.context, world.app.id, since=10, until=5)
    assert [fault.pointer for fault in caught.value.faults] == ["/since"]


async def test_however_many_come_back_they_are_taken_in_some_at_a_time(world, monkeypatch):
    monkeypatch.setattr(stored, "REVIVED_ROWS", 2)
    await retire(world, [await world.register(f"i{n}") for n in range(5)])
    assert await reached(world) == 0
    apply, sizes = world.context.index.apply_devices, []

    def counted(rows):
        sizes.append(len(rows))
        apply(rows)

    monkeypatch.setattr(world.context.index, "apply_devices", counted)
    assert (await retirements.revive(world.context, world.app.id, since=0)).devices == 5
    assert sizes == [2, 2, 1]
    assert await reached(world) == 5
