"""PostgreSQL in every kind of trouble in fan-outs: 503 meanwhile, nothing lost or repeated, no restart of pushd."""

import secrets

import pytest

from tests.faults.outage import TROUBLES, suffer

MEMORY_GROWTH_MAX_MB = 64
AWAY = ("kill", "stop", "freeze", "disk_full", "log_disk_full")
"""Troubles in which no send can be accepted."""


@pytest.mark.asyncio
async def test_fan_outs_wait_for_a_postgres_in_trouble_and_go_on():
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # `python -m tests.faults.outage --seed` repeats it
    report = await suffer(list(TROUBLES), 20_000, seed, away_s=3.0)
    print(report)
    assert not report["lost"]
    assert all(report["refusals"][name] for name in AWAY)
    assert report["resident_mb_most"] - report["resident_mb_before"] < MEMORY_GROWTH_MAX_MB
