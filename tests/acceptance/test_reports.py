"""Reports end to end: a daemon that sends, devices that report with keys and with beacons, and the command line."""

import asyncio
import csv
import io

import orjson
import pytest

from pushd.model.receipt import Event
from pushd.reports.beacons import sign
from pushd.simulator.faults import Answer
from tests.acceptance.test_imports_cli import pushd

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.parametrize("count", [6, 70], ids=["small", "large"])
async def test_what_came_of_a_send_is_told_in_every_way(world, tenant, tmp_path, count):
    phones = {f"phone-{at}": await tenant.register(f"phone-{at}", user_id=f"user-{at % 3}") for at in range(count)}
    odd = phones["phone-1"]
    tenant.fault(Answer(reason="PayloadEmpty"), tokens=[odd["token"]], count=1)
    number = (await tenant.sent(push_tag="harvest", name="Apples"))["id"]
    key = await tenant.device.ok("POST", "/beacon-keys", {"install_id": "phone-0"})
    beacon = {"install_id": "phone-0", "notification_id": number, "event": "clicked", "button": "buy"}
    beacon["signature"] = sign(key["key"], number, Event.CLICKED, "buy")
    posted = await world.session.post(
        world.base.removesuffix("/pushd/v1") + key["path"], data=orjson.dumps({"beacons": [beacon]})
    )
    assert (posted.status, await posted.json()) == (200, {"taken": 1, "repeated": 0, "unknown": 0})
    rows = [{"id": "o", "notification_id": number, "event": "opened"}]
    await tenant.device.ok("POST", "/receipts", {"install_id": "phone-3", "receipts": rows})

    report = await pushd(tenant.server, "report", "show", str(number))
    assert (report["status"], report["sent"], report["opens"]["installs"], report["clicked"]) == (
        "published",
        count - 1,
        2,
        1,
    )
    assert report["buttons"] == [{"button": "buy", "total": 1, "installs": 1}]
    assert report["opens"]["users"] == 1  # both installs are of user-0
    why = await pushd(tenant.server, "report", "why", str(number), str(odd["id"]))
    assert (why["outcome"], why["explanation"]) == ("rejected", "APNs refused the message (PayloadEmpty).")
    opens = await pushd(tenant.server, "report", "opens", str(number), "--users")
    assert [each["user_id"] for each in opens] == ["user-0"]
    (tag,) = await pushd(tenant.server, "report", "tags")
    assert (tag["push_tag"], tag["notifications"]) == ("harvest", 1)
    (compared,) = await pushd(tenant.server, "report", "compare", "harvest")
    assert (compared["targeted"], compared["opened"], compared["clicked"]) == (count, 2, 1)
    points = (await pushd(tenant.server, "report", "series", str(number), "--step", "day"))["points"]
    assert {each["event"]: each["total"] for each in points} == {"clicked": 1, "opened": 1}
    file = tmp_path / "outcomes.csv"
    arguments = ("report", "export", str(number), "--format", "csv", "--output", str(file))
    assert await pushd(tenant.server, *arguments, prints=False) is None
    rows = [*csv.DictReader(io.StringIO(file.read_text()))]
    assert {row["install_id"]: row["outcome"] for row in rows} == {
        name: "rejected" if name == "phone-1" else "accepted" for name in phones
    }


async def test_a_user_is_erased_by_the_running_daemon(tenant):
    device = await tenant.register("phone", user_id="ada")
    await tenant.register("other", user_id="bob")
    number = (await tenant.sent({"type": "users", "ids": ["ada", "bob"]}, {"title": "Hello"}))["id"]
    erasure = await pushd(tenant.server, "report", "erase", "ada")
    assert (erasure["installs"], erasure["devices"]) == (1, 1)
    assert (await tenant.server("GET", f"/devices/{device['id']}")).status == 404
    async with asyncio.timeout(30):
        while (await tenant.server.ok("GET", f"/erasures/{erasure['id']}"))["finished_at"] is None:
            await asyncio.sleep(0.05)
    (told,) = await pushd(tenant.server, "report", "erasures")
    assert (told["id"], told["devices"]) == (erasure["id"], 1)
    view = await tenant.show(number)
    assert view["audience"]["ids"] == ["erased", "bob"]
    assert view["counts"]["accepted"] == 2
    assert (await tenant.sent())["counts"]["targeted"] == 1
