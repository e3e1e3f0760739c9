"""Ends of installs in the store: who goes on in time stays, whoever looks at that moment; deleted apps are nobody's."""

from __future__ import annotations

import asyncio

import pytest

from pushd.errors import NotFoundError
from pushd.model.device import Kind
from pushd.store import expirations
from pushd.store.times import moment
from tests.integration.store.samples import NOW, registration, token

pytestmark = pytest.mark.asyncio


async def test_an_install_that_is_to_go_on_is_not_taken_away_beside(store, app):
    await store.devices.register_many(app.id, [registration(1)], NOW)
    assert await store.expirations.set(app.id, "install-1", NOW - 1)
    async with store.database.transaction() as connection:
        await connection.execute(expirations._SET, app.id, "install-1", moment(NOW + 60))
        deleting = asyncio.create_task(store.expirations.delete(app.id, NOW))
        await asyncio.sleep(0.1)
    assert len((await deleting).ids) == 0
    assert await store.expirations.get(app.id, "install-1") == NOW + 60


async def test_an_install_goes_with_all_its_devices_or_not_at_all(store, app, monkeypatch):
    monkeypatch.setattr(expirations, "ROWS", 1)
    wanted = [registration(number) for number in (1, 2)]
    wanted += [registration(number, kind=Kind.APNS_VOIP, token=token(10 + number)) for number in (1, 2)]
    await store.devices.register_many(app.id, wanted, NOW)
    for number in (1, 2):
        assert await store.expirations.set(app.id, f"install-{number}", NOW - 1)
    assert [len((await store.expirations.delete(app.id, NOW)).ids) for _ in range(3)] == [2, 2, 0]
    assert not await store.expirations.set(app.id, "install-1", None)


async def test_installs_of_a_deleted_app_keep_nobody_from_looking(store, app, other):
    for each in (app, other):
        await store.devices.register_many(each.id, [registration(1, token=token(each.id))], NOW)
        await store.expirations.set(each.id, "install-1", NOW - 1)
    await store.apps.delete(app.id)
    assert await store.expirations.apps(NOW) == [other.id]
    with pytest.raises(NotFoundError):
        await store.expirations.set(app.id, "install-1", NOW)
