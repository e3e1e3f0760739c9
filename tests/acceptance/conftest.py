"""What the acceptance tests share: one daemon with a simulator behind it, and for each test an app of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.acceptance.world import Tenant, World, running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def shared_world() -> AsyncIterator[World]:
    async with running() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="package")
async def world(shared_world: World) -> AsyncIterator[World]:
    """The shared one; what a test scripted of the simulator ends with the test."""
    yield shared_world
    shared_world.simulator.faults.clear()


@pytest_asyncio.fixture(loop_scope="package")
async def tenant(world: World) -> Tenant:
    return await world.tenant()
