import pytest

from pushd.commands import audience, devices
from pushd.commands.devices import DeviceChange
from pushd.errors import InvalidRequestError
from pushd.model.audience import And, Broadcast, DeviceIds, Not, Tags, UserIds, UserNumbers
from pushd.model.device import Environment, Kind, Platform
from pushd.model.message import PushType

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_count_is_split_and_says_what_it_skips(world):
    await world.register("a", platform=Platform.IOS)
    await world.register("b", platform=Platform.IOS, environment=Environment.SANDBOX)
    await world.register("c", platform=Platform.ANDROID, kind=Kind.FCM, token="fcm-token")
    await world.register("f")
    await world.register("d", token=None)
    await world.register("d", kind=Kind.APNS_VOIP)
    off = await world.register("e")
    await devices.change(world.context, world.app.id, off.id, DeviceChange(push_enabled=False))
    found = await audience.count(world.context, world.app.id, Broadcast(), PushType.ALERT)
    assert found.devices == 4
    assert found.platforms == {"android": 1, "ios": 2, "unknown": 1}
    assert found.kinds == {"apns": 3, "fcm": 1}
    assert found.environments == {"production": 3, "sandbox": 1}
    assert found.skipped == {"no_token": 1, "other_kind": 1, "push_disabled": 1}
    assert found.errors is None
    narrow = await audience.count(world.context, world.app.id, Not(Tags(any=["none"])), PushType.ALERT)
    assert narrow.platforms == found.platforms
    silent = await audience.count(world.context, world.app.id, Broadcast(), PushType.VOIP)
    assert (silent.devices, silent.kinds) == (1, {"apns_voip": 1})


async def test_named_targets_that_are_missing_are_told_apart(world):
    here = await world.register("a", user_id="ada")
    quiet = await world.register("b", token=None, user_id="bob")
    wanted = And([DeviceIds([here.id, quiet.id, 2_000_000]), UserIds(["ada", "bob", "eve"])])
    found = await audience.count(world.context, world.app.id, wanted, PushType.ALERT)
    assert found.devices == 1
    assert found.errors.unknown.devices == [2_000_000]
    assert found.errors.unknown.users == ["eve"]
    assert found.errors.unsubscribed.devices == [quiet.id]
    assert found.errors.unsubscribed.users == ["bob"]
    assert found.errors.count == 4
    numbers = await audience.count(world.context, world.app.id, UserNumbers([7_000_000]), PushType.ALERT)
    assert numbers.errors.unknown.user_numbers == [7_000_000]


async def test_an_audience_that_says_nothing_is_refused(world):
    with pytest.raises(InvalidRequestError) as caught:
        await audience.count(world.context, world.app.id, Tags(), PushType.ALERT)
    assert caught.value.faults[0].pointer == "/audience"
    with pytest.raises(InvalidRequestError):
        await audience.count(world.context, world.app.id, UserIds(["a\0"]), PushType.ALERT)
