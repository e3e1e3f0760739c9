"""Quiet hours, frequency caps and preferred hours, through HTTP and a whole daemon to the gateway."""

import asyncio
import time

import pytest
import pytest_asyncio

from pushd.daemon import Daemon
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")

DAY_S = 86_400


def reasons(view):
    return {each["reason"]: each["count"] for each in view["reasons"]}


def quiet(begin_s, end_s):
    """Quiet hours by UTC's clock, from and to so many seconds from now, to the minute."""
    begin, end = ((int(time.time()) + each) % DAY_S // 60 for each in (begin_s, end_s))
    return {"from_minute": begin, "to_minute": end}


NOW = (-3_600, 7_200)
LATER = (7_200, 14_400)


async def settle(tenant, **settings):
    await tenant.admin.ok("PATCH", f"/apps/{tenant.app_id}", {"settings": settings})


async def test_quiet_hours_of_the_app_hold_or_drop_by_the_devices_clock(tenant):
    here = await tenant.register("here", time_zone="UTC")
    nowhere = await tenant.register("nowhere")  # by the app's clock
    away = await tenant.register("away", time_zone="Etc/GMT-12")
    await settle(tenant, quiet_hours=quiet(*NOW), time_zone="UTC")
    begun = time.time()
    held = await tenant.send()
    dropped = await tenant.sent(quiet_hours="drop")
    at_once = await tenant.sent(transactional=True)
    assert reasons(dropped) == {"accepted": 1, "quiet_hours": 2}
    assert (dropped["counts"]["suppressed"], at_once["counts"]["accepted"]) == (2, 3)
    waiting = await tenant.until(held["id"], lambda view: view["counts"]["accepted"] == 1)
    assert waiting["state"] == "running"
    assert begun + 7_000 < waiting["next_at"] < begun + 7_260
    assert [tenant.arrived(each["token"]) for each in (here, nowhere, away)] == [1, 1, 3]
    await tenant.server.ok("POST", f"/notifications/{held['id']}/cancel", {})
    assert (await tenant.finished(held["id"]))["counts"]["cancelled"] == 2


async def test_quiet_hours_of_a_user_are_beside_those_of_the_app(tenant):
    for name in ("owl", "lark"):
        await tenant.register(f"phone of {name}", user_id=name, time_zone="UTC")
    await tenant.server.ok("PUT", "/users/owl", {"quiet_hours": quiet(*NOW)})
    await settle(tenant, quiet_hours=quiet(*LATER))
    assert reasons(await tenant.sent(quiet_hours="drop")) == {"accepted": 1, "quiet_hours": 1}
    named = {"type": "users", "ids": ["owl"]}
    assert reasons(await tenant.sent(named, quiet_hours="drop")) == {"quiet_hours": 1}
    await tenant.server.ok("PUT", "/users/owl", {"quiet_hours": None})
    assert reasons(await tenant.sent(named, quiet_hours="drop")) == {"accepted": 1}


@pytest_asyncio.fixture(loop_scope="package")
async def own():
    async with running() as world:
        yield world


async def test_a_cap_outlives_a_restart(own):
    tenant = await own.tenant()
    devices = [await tenant.register(f"phone-{number}", user_id="ada") for number in range(2)]
    alone = await tenant.register("alone")
    await settle(tenant, caps={"offers": {"messages": 2, "window_s": 3_600}})
    named = {"type": "users", "ids": ["ada"]}
    assert reasons(await tenant.sent(named, category="offers")) == {"accepted": 2}

    await own.daemon.stop()
    own.daemon = Daemon(own.daemon.config, environ={})
    await own.daemon.start()

    assert reasons(await tenant.sent(category="offers")) == {"accepted": 3}
    assert reasons(await tenant.sent(category="offers")) == {"accepted": 1, "frequency_cap": 2}
    assert reasons(await tenant.sent(category="offers")) == {"frequency_cap": 3}
    for more in ({"category": "news"}, {}, {"category": "offers", "transactional": True}):
        assert reasons(await tenant.sent(**more)) == {"accepted": 3}
    assert [tenant.arrived(each["token"]) for each in (*devices, alone)] == [5, 5, 5]


async def test_what_is_opened_at_an_hour_is_sent_at_that_hour(own):
    """Learned from receipts: who opens at this hour gets it at once, who opens at another waits for that."""
    if time.time() % 3_600 > 3_570:
        await asyncio.sleep(3_600 - time.time() % 3_600)  # the hour is not to end meanwhile
    tenant = await own.tenant()
    phones = [await tenant.register(f"phone of {name}", user_id=name, time_zone="UTC") for name in ("now", "later")]
    sent = [(await tenant.sent())["id"] for _ in range(4)]
    await own.daemon.store.database.execute(
        "UPDATE notifications SET created_at = created_at - interval '1 day' WHERE id = ANY ($1)", sent
    )
    hour = int(time.time()) // 3_600 * 3_600
    for name, opened in (("now", hour - DAY_S), ("later", hour - DAY_S + 6 * 3_600)):
        rows = [
            {"id": f"{name}-{each}", "notification_id": each, "event": "opened", "at": opened + 1_800.0}
            for each in sent
        ]
        answer = await tenant.device.ok("POST", "/receipts", {"install_id": f"phone of {name}", "receipts": rows})
        assert answer["taken"] == 4
    await own.daemon.store.receipts.folder.fold(older_s=-60)
    sent = await tenant.send(intelligent_delivery=True)
    waiting = await tenant.until(sent["id"], lambda view: view["counts"]["accepted"] == 1)
    assert waiting["next_at"] > time.time()
    assert [tenant.arrived(each["token"]) for each in phones] == [5, 4]
