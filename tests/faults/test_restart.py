"""A restart goes on within moments: the form for CI of `python -m tests.faults.restart`."""

import pytest

from tests.faults.restart import FIRST_PUSH_S, restart


@pytest.mark.asyncio
async def test_the_first_push_comes_within_five_seconds_of_a_kill():
    """Seconds of CPU, for others may have the cores; `python -m tests.faults.restart` goes by the clock."""
    report = await restart(devices=100_000, kills=1, seed=1)
    print(report)
    assert max(report["first_push_cpu_s"]) < FIRST_PUSH_S
