"""What the acceptance tests share: one daemon with a simulator behind it, and for each test an app of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.acceptance.world import Tenant, World, running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def world() -> AsyncIterator[World]:
    async with running() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="package")
async def tenant(world: World) -> AsyncIterator[Tenant]:
    yield await world.tenant()
    world.simulator.faults.clear()
