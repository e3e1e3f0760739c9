"""The ledger's drift can be wrong: a row that is forgotten in the books shows on the gauge, and nowhere else."""

import asyncio

import pytest

from tests.faults.world import world


@pytest.mark.asyncio
async def test_a_row_that_is_not_accounted_for_shows_as_drift():
    async with world(20_000, fast=True, module="tests.faults.miscount") as here:
        assert await here.metric("pushd_ledger_drift") == 0
        promise = await here.broadcast()
        async with asyncio.timeout(30):
            while not await here.metric("pushd_ledger_drift"):
                await asyncio.sleep(0.01)
        assert await here.metric("pushd_ledger_drift") == 1
        counts = (await here.call("GET", f"/notifications/{promise.id}"))["counts"]
        assert sum(counts.values()) - counts["targeted"] == counts["targeted"] - 1
