"""`pushd doctor --index`: what the daemon has in memory against its tables, on the command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson
import pytest

from tests.acceptance.world import Tenant, World

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def doctor(world: World, folder: Path):
    """Exit status, and the findings by what was looked at."""
    key = folder / "key"
    key.write_text(world.admin_key)
    url = world.base.removesuffix("/pushd/v1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pushd", "doctor", "--index", "--url", url, "--key-file", str(key), "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, {each["check"]: (each["ok"], each["detail"]) for each in orjson.loads(out)}


async def test_the_index_is_compared_with_the_database(world: World, tenant: Tenant, tmp_path: Path):
    await tenant.register("a", user_id="ada", tags=["news"], alias="hall")
    device = await tenant.register("b", locale="de", tags=["news"])
    status, found = await doctor(world, tmp_path)
    assert (status, set(found), found["index"][0]) == (0, {"index"}, True)
    assert found["index"][1].endswith("users compared")
    # Behind the daemon's back.
    labels = "UPDATE devices SET labels = $2 WHERE id = $1"
    had = await world.daemon.store.database.fetchval("SELECT labels FROM devices WHERE id = $1", int(device["id"]))
    await world.daemon.store.database.execute(labels, int(device["id"]), None)
    status, found = await doctor(world, tmp_path)
    assert (status, found["index"][0]) == (1, False)
    assert found["devices: tag or channel"] == (False, f"1 differ from the database: {device['id']}")
    await world.daemon.store.database.execute(labels, int(device["id"]), had)
    assert (await doctor(world, tmp_path))[0] == 0


async def test_only_an_admin_may_ask(tenant: Tenant):
    answer = await tenant.server("POST", "/index/check")
    assert answer.status == 403
