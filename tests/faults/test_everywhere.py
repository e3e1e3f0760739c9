"""Every vendor at once, in bad weather on every link and through kills: one history, one verdict."""

import secrets

import pytest

from tests.faults.everywhere import everywhere
from tests.faults.vendors import KINDS


@pytest.mark.asyncio
async def test_bad_weather_and_kills_lose_nothing_at_any_vendor():
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # `python -m tests.faults.everywhere --seed` repeats it
    report = await everywhere(8.0, 2, 1_200, seed)
    print(report)
    assert not report["lost"]
    assert all(report["pushes"][kind] for kind in KINDS)
    assert sum(report["connections_struck"].values()), "no link was ever struck: nothing was shown"
