"""Two daemons on one database: whichever is killed, each occurrence is sent once."""

import secrets

import pytest

from tests.faults.leaders import take_turns


@pytest.mark.asyncio
async def test_two_daemons_send_each_occurrence_once_whichever_is_killed():
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # shown when it fails: `python -m tests.faults.leaders --seed` repeats it
    report = await take_turns(kills=4, schedules=40, seed=seed)
    print(report)
    assert report["occurrences"] >= 20
