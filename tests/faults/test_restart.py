"""A restart goes on within moments: the form for CI of `python -m tests.faults.restart`."""

import pytest

from tests.faults.restart import FIRST_PUSH_S, restart


@pytest.mark.asyncio
async def test_the_first_push_comes_within_five_seconds_of_a_kill():
    """A promise to users and no benchmark: with a tenth of the devices there is room to spare."""
    report = await restart(devices=100_000, kills=1, seed=1)
    print(report)
    assert max(report["kill_to_first_push_s"]) < FIRST_PUSH_S
