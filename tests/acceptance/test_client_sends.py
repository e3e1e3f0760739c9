"""Whether apps may send: as often as their app lets each user, servers as they like."""

from __future__ import annotations

import pytest

from pushd.commands import client_sends
from pushd.errors import ForbiddenError, NotFoundError, TooManyRequestsError
from pushd.model.app import Role
from pushd.reports.limits import ClientSends

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.fixture
def context(world):
    return world.daemon.context


async def test_only_servers_send_until_the_app_says_otherwise(context, tenant):
    await client_sends.admit(context, tenant.app_id, Role.SERVER, None)
    with pytest.raises(ForbiddenError):
        await client_sends.admit(context, tenant.app_id, Role.DEVICE, 7)
    settings = {"client_sends_per_minute": 3}
    await tenant.admin.ok("PATCH", f"/apps/{tenant.app_id}", {"settings": settings})
    with pytest.raises(ForbiddenError):
        await client_sends.admit(context, tenant.app_id, Role.DEVICE, None)
    for user_id in (7, 8):
        for _ in range(3):
            await client_sends.admit(context, tenant.app_id, Role.DEVICE, user_id)
        with pytest.raises(TooManyRequestsError) as told:
            await client_sends.admit(context, tenant.app_id, Role.DEVICE, user_id)
        assert 0 < told.value.retry_after_s <= 20
    only = {"client_sends_per_minute": 3, "client_send_channels": ["open"]}
    await tenant.admin.ok("PATCH", f"/apps/{tenant.app_id}", {"settings": only})
    await client_sends.admit(context, tenant.app_id, Role.DEVICE, 9, channel="open")
    for channel in ("closed", None):
        with pytest.raises(ForbiddenError):
            await client_sends.admit(context, tenant.app_id, Role.DEVICE, 9, channel=channel)
        await client_sends.admit(context, tenant.app_id, Role.SERVER, None, channel=channel)
    with pytest.raises(NotFoundError):
        await client_sends.admit(context, 2**31 - 1, Role.DEVICE, 7)


@pytest.mark.parametrize("most", [1, 7, 1_000, 10_000])
async def test_so_many_at_once_and_then_one_by_one(most):
    sends = ClientSends()
    for _ in range(most):
        sends.admit(1, 1, most, 100.0)
    with pytest.raises(TooManyRequestsError) as told:
        sends.admit(1, 1, most, 100.0)
    sends.admit(1, 1, most, 100.0 + told.value.retry_after_s + 0.001)
    with pytest.raises(TooManyRequestsError):
        sends.admit(1, 1, most, 100.0 + told.value.retry_after_s + 0.002)
