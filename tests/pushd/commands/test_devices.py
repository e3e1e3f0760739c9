import asyncio

import pytest

from pushd.commands import audience, devices
from pushd.commands.devices import DeviceChange
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.audience import Broadcast, DeviceIds, Tags, UserIds
from pushd.model.device import Kind, Platform, Registration
from pushd.model.message import PushType

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def reached(world, wanted, push_type=PushType.ALERT) -> int:
    return (await audience.count(world.context, world.app.id, wanted, push_type)).devices


async def test_a_registration_is_reachable_when_it_is_answered(world):
    device = await world.register("i", user_id="ada", tags=["News"], platform=Platform.IOS, locale="en")
    assert device.reachable
    assert (device.user_id, device.tags, device.platform, device.locale) == ("ada", ["News"], Platform.IOS, "en")
    for wanted in (Broadcast(), DeviceIds([device.id]), UserIds(["ada"]), Tags(all=["news"])):
        assert await reached(world, wanted) == 1
    assert len(device.token_hint) == 4


async def test_registering_again_keeps_the_id_and_what_is_not_said(world):
    first = await world.register("i", user_id="ada", tags=["a"], locale="en")
    again = await world.register("i", locale=None)
    assert again.id == first.id
    assert (again.user_id, again.tags, again.locale) == ("ada", ["a"], None)
    assert again.token_hint != first.token_hint
    assert await reached(world, Broadcast()) == 1


async def test_the_newest_registration_of_a_token_wins_with_its_user(world):
    token = world.token()
    old = await world.register("old", token=token, user_id="ada")
    new = await world.register("new", token=token, user_id="bob")
    assert new.id != old.id
    assert not (await devices.get(world.context, world.app.id, old.id)).reachable
    assert await reached(world, UserIds(["ada"])) == 0
    assert await reached(world, UserIds(["bob"])) == 1
    assert await reached(world, Broadcast()) == 1


async def test_a_moved_install_belongs_to_its_new_user_only(world):
    device = await world.register("i", user_id="ada")
    await world.register("i", user_id="bob")
    assert await reached(world, UserIds(["ada"])) == 0
    assert await reached(world, UserIds(["bob"])) == 1
    await devices.change(world.context, world.app.id, device.id, DeviceChange(user_id=None))
    assert await reached(world, UserIds(["bob"])) == 0
    assert await reached(world, Broadcast()) == 1


async def test_an_install_without_a_token_exists_and_is_not_reached(world):
    device = await world.register("i", token=None, tags=["a"])
    assert not device.reachable
    assert device.token_hint == ""
    found = await audience.count(world.context, world.app.id, Broadcast(), PushType.ALERT)
    assert (found.devices, found.skipped) == (0, {"no_token": 1})


async def test_ordinary_messages_do_not_ring(world):
    await world.register("i")
    await world.register("i", kind=Kind.APNS_VOIP)
    assert await reached(world, Broadcast()) == 1
    assert await reached(world, Broadcast(), PushType.VOIP) == 1


async def test_changes_are_the_installs(world):
    alert = await world.register("i")
    voip = await world.register("i", kind=Kind.APNS_VOIP)
    change = DeviceChange(push_enabled=False, tags=["quiet"], user_id="ada", time_zone="Europe/Berlin")
    changed = await devices.change(world.context, world.app.id, alert.id, change)
    assert (changed.push_enabled, changed.reachable, changed.tags, changed.user_id) == (False, False, ["quiet"], "ada")
    other = await devices.get(world.context, world.app.id, voip.id)
    assert (other.push_enabled, other.tags, other.user_id) == (False, ["quiet"], "ada")
    assert await reached(world, Broadcast()) == 0
    assert await reached(world, Broadcast(), PushType.VOIP) == 0
    back = await devices.change(world.context, world.app.id, alert.id, DeviceChange(push_enabled=True))
    assert back.reachable
    assert (back.tags, back.token_hint, back.registered_at) == (["quiet"], alert.token_hint, alert.registered_at)


async def test_faults_point_at_their_fields(world):
    device = await world.register("i")
    with pytest.raises(InvalidRequestError) as caught:
        await devices.change(world.context, world.app.id, device.id, DeviceChange(time_zone="nowhere", locale="1"))
    assert {fault.pointer for fault in caught.value.faults} == {"/time_zone", "/locale"}
    with pytest.raises(InvalidRequestError) as caught:
        await world.register("i", token="zz")
    assert [fault.pointer for fault in caught.value.faults] == ["/token"]


async def test_a_deleted_device_is_gone_and_its_id_stays_unused(world):
    device = await world.register("i")
    await devices.delete(world.context, world.app.id, device.id)
    assert await reached(world, Broadcast()) == 0
    for command in (devices.get, devices.delete):
        with pytest.raises(NotFoundError):
            await command(world.context, world.app.id, device.id)
    assert (await world.register("i")).id > device.id


async def test_a_device_of_another_install_is_not_there_for_who_names_one(world):
    device = await world.register("mine")
    context, app = world.context, world.app.id
    assert (await devices.get(context, app, device.id, install_id="mine")).id == device.id
    with pytest.raises(NotFoundError):
        await devices.get(context, app, device.id, install_id="other")
    with pytest.raises(NotFoundError):
        await devices.delete(context, app, device.id, install_id="other")
    with pytest.raises(NotFoundError):
        await devices.change(context, app, device.id, DeviceChange(tags=[]), install_id="other")


async def test_devices_of_another_app_are_not_there(world):
    other = await world.another_app()
    device = await world.register("i", user_id="ada")
    for command in (devices.get, devices.delete):
        with pytest.raises(NotFoundError):
            await command(world.context, other.app.id, device.id)
    with pytest.raises(NotFoundError):
        await devices.change(world.context, other.app.id, device.id, DeviceChange(tags=["x"]))
    assert await reached(other, Broadcast()) == 0
    found = await audience.count(world.context, other.app.id, DeviceIds([device.id]), PushType.ALERT)
    assert (found.devices, found.errors.unknown.devices) == (0, [device.id])
    # The same install and token in another app are another device.
    mine = await other.register("i", token="ab" * 32)
    theirs = await world.register("j", token="ab" * 32)
    assert mine.id != theirs.id
    assert await reached(other, Broadcast()) == 1


async def test_pages_filter_by_install_and_user(world):
    a = await world.register("a", user_id="ada")
    b = await world.register("b", user_id="ada")
    c = await world.register("c")

    async def listed(**named):
        found = await devices.list_page(world.context, world.app.id, **{"after": 0, "limit": 10, **named})
        return [device.id for device in found]

    assert await listed() == [a.id, b.id, c.id]
    assert await listed(after=a.id, limit=1) == [b.id]
    assert await listed(user_id="ada") == [a.id, b.id]
    assert await listed(install_id="c") == [c.id]
    assert await listed(user_id="nobody") == []


async def test_bulk_gives_ids_in_order_and_keeps_bad_rows_apart(world):
    rows = [
        Registration(install_id=f"i{n}", bundle="b", token=world.token() if n % 3 else "bad", tags=[f"t{n % 2}"])
        for n in range(30)
    ]
    ids, bad = await devices.register_many(world.context, world.app.id, rows)
    assert sorted(bad) == list(range(0, 30, 3))
    found = await devices.list_page(world.context, world.app.id, after=0, limit=100)
    by_id = {device.id: device.install_id for device in found}
    assert [by_id[device_id] for device_id in ids] == [f"i{n}" for n in range(30) if n % 3]
    assert await reached(world, Broadcast()) == 20


async def test_later_lines_win_within_a_chunk(world):
    token, other = world.token(), world.token()
    rows = [
        Registration(install_id="a", bundle="b", token=token, user_id="ada"),
        Registration(install_id="a", bundle="b", token=other),
        Registration(install_id="b", bundle="b", token=other, user_id="bob"),
    ]
    ids, bad = await devices.register_many(world.context, world.app.id, rows)
    assert not bad
    assert ids[0] == ids[1] != ids[2]
    assert await reached(world, Broadcast()) == 1
    assert await reached(world, UserIds(["bob"])) == 1


async def test_the_index_holds_what_the_store_would_load(world):
    await asyncio.gather(*(world.register(f"i{n % 7}", user_id=f"u{n % 3}", tags=[f"t{n}"]) for n in range(20)))
    loaded = await world.reloaded()
    for wanted in (Broadcast(), UserIds(["u0", "u1"]), Tags(any=["t19", "t18"]), Tags(exclude=["t15"])):
        kinds = frozenset(Kind)
        live = world.context.index.resolve(world.app.id, wanted, kinds)
        assert loaded.resolve(world.app.id, wanted, kinds).devices == live.devices
        assert live.devices


async def test_work_goes_on_when_the_asker_goes_away(world):
    asked = asyncio.create_task(world.register("i"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await world.context.finish(5)
    assert len(await devices.list_page(world.context, world.app.id, after=0, limit=10)) == await reached(
        world, Broadcast()
    )
