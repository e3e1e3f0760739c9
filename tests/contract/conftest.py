"""Contract tests of the dialects run against a daemon of their own, which takes plain HTTP where a vendor would not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from pushd.config import DialectsConfig, PicturesConfig
from tests.acceptance.conftest import tenant, world
from tests.acceptance.world import World, running

__all__ = ["shared_world", "tenant", "world"]


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def shared_world() -> AsyncIterator[World]:
    async with running(
        http={"auth_failures_per_minute_max": 10_000},
        dialects=DialectsConfig(gravitec_plain_http=True),
        pictures=PicturesConfig(any_host=False),
    ) as made:
        yield made
