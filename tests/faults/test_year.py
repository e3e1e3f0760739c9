"""Seven weeks with a leap day and changes of clocks in both hemispheres, and a daemon that dies on the way.

`python -m tests.faults.year` lets a whole year go by.
"""

import secrets

import pytest

from tests.faults.year import live_through


@pytest.mark.asyncio
async def test_what_goes_out_is_what_the_almanac_says_each_once():
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # shown when it fails: `python -m tests.faults.year --seed` repeats it
    report = await live_through(days=48, crashes=6, seed=seed, begin="2028-02-20")
    print(report)
    assert report["kills"] >= 2
    assert report["pushes"] > 300
