"""Broadcast channels in the store: kept beside their devices, found by key, and gone with their app."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pushd.errors import IdempotencyMismatchError
from pushd.model.device import Environment, Kind
from pushd.model.live_activity import LiveActivityChannel
from tests.integration.store.samples import NOW, registration

pytestmark = pytest.mark.asyncio

KEY = ("key-1", b"h" * 32)


async def made(store, app, number=0, **fields):
    channel_id = f"AAA{number}"
    address = {"install_id": f"channel:{channel_id}", "token": channel_id, "kind": Kind.APNS_CHANNEL}
    done = await store.devices.register_many(app.id, [registration(number, **address)], NOW)
    given = {
        "id": int(done.ids[0]),
        "channel_id": channel_id,
        "bundle": "com.example",
        "environment": Environment.PRODUCTION,
        "stores": False,
        "reachable": True,
        "created_at": NOW + number,
    }
    return LiveActivityChannel(**given | fields)


async def test_a_channel_is_kept_listed_and_forgotten(store, app, other):
    channels = store.live_activity_channels
    one, two = await made(store, app, 1), await made(store, app, 2, bundle="com.other", stores=True)
    assert [await channels.put(app.id, each) for each in (one, two)] == [one, two]
    assert await channels.get(app.id, two.id) == two
    assert await channels.list(app.id, 0, 10) == [one, two]
    assert await channels.list(app.id, one.id, 10) == [two]
    assert await channels.list(app.id, 0, 1) == [one]
    assert await channels.list(app.id, 0, 10, bundle="com.other") == [two]
    assert await channels.list(app.id, 0, 10, environment=1) == []
    assert await channels.get(other.id, one.id) is None
    assert await channels.list(other.id, 0, 10) == []
    await channels.delete(other.id, one.id)
    assert await channels.get(app.id, one.id) == one
    await channels.delete(app.id, one.id)
    assert await channels.get(app.id, one.id) is None


async def test_a_channel_outlives_its_device(store, app):
    one = await store.live_activity_channels.put(app.id, await made(store, app))
    await store.devices.delete_many(app.id, [one.id], NOW)
    assert await store.live_activity_channels.get(app.id, one.id) == msgspec.structs.replace(one, reachable=False)


async def test_a_key_brings_one_channel_whoever_comes_first(store, app, other):
    channels = store.live_activity_channels
    wanted = [await made(store, app, number) for number in range(5)]
    kept = await asyncio.gather(*(channels.put(app.id, each, KEY) for each in wanted))
    assert len({each.id for each in kept}) == 1
    assert await channels.list(app.id, 0, 10) == kept[:1]
    assert await channels.find(app.id, *KEY) == kept[0]
    assert await channels.find(other.id, *KEY) is None
    with pytest.raises(IdempotencyMismatchError):
        await channels.find(app.id, KEY[0], b"x" * 32)
    await channels.delete(app.id, kept[0].id)
    assert await channels.find(app.id, *KEY) is None


async def test_a_channel_that_is_taken_over_again_is_as_apple_says(store, app):
    one = await store.live_activity_channels.put(app.id, await made(store, app), KEY)
    again = await store.live_activity_channels.put(app.id, msgspec.structs.replace(one, stores=True))
    assert again == msgspec.structs.replace(one, stores=True)
    assert await store.live_activity_channels.find(app.id, *KEY) == again


async def test_channels_go_with_their_app(store, app):
    one = await store.live_activity_channels.put(app.id, await made(store, app))
    assert await store.apps.delete(app.id)
    assert await store.live_activity_channels.get(app.id, one.id) is None
