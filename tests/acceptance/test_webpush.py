"""Web Push through the whole daemon: VAPID keys, subscriptions as browsers give them, texts as they read them."""

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from protocols import jwt
from pushd.simulator.faults import Answer, Fault
from pushd.simulator.webpush import PushService
from tests.contract.webpush_far import config_for

from .world import pushd, running

pytestmark = pytest.mark.asyncio
SUBJECT = "mailto:push@example.com"


@asynccontextmanager
async def web_world():
    """A daemon, a push service that it may reach, and an app with VAPID keys."""
    folder = Path(tempfile.mkdtemp(prefix="pushd-webpush-"))
    service = PushService(folder)
    await service.start()
    try:
        async with running(webpush=config_for(service)) as world:
            tenant = await world.tenant(credential=False)
            secret = {"type": "vapid", "subject": SUBJECT}
            made = {"secret": secret, "environment": "production", "name": "web"}
            yield service, tenant, await tenant.server.ok("POST", "/credentials", made)
    finally:
        await service.stop()
        shutil.rmtree(folder, ignore_errors=True)


def subscribe(service, credential, name, http1=False):
    """A browser that subscribes with the key that the credential shows."""
    return service.subscribe(jwt.decode(credential["summary"]["public_key"].encode()), name=name, http1=http1)


async def register(tenant, made, **fields):
    body = {"install_id": made.name, "kind": "webpush", "subscription": made.to_json(), **fields}
    return await tenant.server.ok("PUT", "/devices", body)


async def test_w25_subscriptions_are_made_pushed_to_rotated_and_retired():
    async with web_world() as (service, tenant, credential):
        assert set(credential["summary"]) == {"type", "subject", "public_key"}
        old = [subscribe(service, credential, f"old{n}", http1=n == 3) for n in range(4)]
        for made in old:
            device = await register(tenant, made)
            assert made.endpoint.endswith(device["token_hint"])
            assert made.name in device["install_id"]

        message = {"title": "Hello", "body": "World", "url": "https://example.com/x", "data": {"k": 1}}
        view = await tenant.sent(message=message, ttl_s=600)
        assert view["counts"]["accepted"] == 4
        text = orjson.loads(service.pushes[-1].text)
        assert text["web_push"] == 8030
        assert text["notification"]["data"] == {"k": 1}
        assert text["pushd"]["id"] == view["id"]
        assert {push.name for push in service.pushes} == {made.name for made in old}
        assert {push.protocol for push in service.pushes} == {"h2", "http/1.1"}
        assert 590 <= int(service.pushes[0].headers["ttl"]) <= 600

        path = f"/credentials/{credential['id']}"
        rotated = await tenant.server.ok("PUT", path, {"secret": {"type": "vapid", "subject": SUBJECT}})
        assert rotated["summary"]["public_key"] != credential["summary"]["public_key"]
        assert rotated["summary"]["previous_public_keys"] == credential["summary"]["public_key"]
        new = subscribe(service, rotated, "new")
        await register(tenant, new)
        view = await tenant.sent(message=message)
        assert view["counts"]["accepted"] == 5
        assert service.statuses == {201: 9}

        old[0].gone = True
        view = await tenant.sent(message=message)
        assert (view["counts"]["accepted"], view["counts"]["failed"]) == (4, 1)
        (behind,) = await tenant.behind(view["id"], outcome="unregistered")
        assert behind["reason"] == "errno_106"


async def test_w25_keys_are_made_and_rotated_from_the_command_line():
    async with web_world() as (service, tenant, credential):
        await register(tenant, subscribe(service, credential, "old"))
        made = await pushd(tenant.server, "gateway", "webpush", SUBJECT, "--replace", str(credential["id"]))
        assert (made["id"], made["name"]) == (credential["id"], "web")
        assert made["summary"]["previous_public_keys"] == credential["summary"]["public_key"]
        await register(tenant, subscribe(service, made, "new"))
        assert (await tenant.sent())["counts"]["accepted"] == 2


async def test_a_bulk_send_is_encrypted_by_workers_and_read_by_every_browser():
    async with web_world() as (service, tenant, credential):
        made = [subscribe(service, credential, f"n{n}") for n in range(400)]
        rows = [{"install_id": each.name, "kind": "webpush", "subscription": each.to_json()} for each in made]
        *_, summary = await tenant.server.lines("/devices/bulk", rows)
        assert summary["accepted"] == 400
        service.faults.add(Fault(action=Answer(status=503, retry_after="0"), rate=0.05, per_token=1))
        view = await tenant.sent()
        assert view["counts"]["accepted"] == 400
        assert set(service.accepted.values()) == {1}
        assert len(service.accepted) == 400
        assert {orjson.loads(push.text)["notification"]["title"] for push in service.pushes} == {"Hello"}
        assert not service.record.violation_kinds


async def test_w47_a_push_service_that_is_down_delays_no_other():
    async with web_world() as (service, tenant, credential):
        down = [subscribe(service, credential, f"down{n}") for n in range(30)]
        well = [subscribe(service, credential, f"well{n}", http1=True) for n in range(30)]  # at a port of its own
        rows = [{"install_id": each.name, "kind": "webpush", "subscription": each.to_json()} for each in down + well]
        await tenant.server.lines("/devices/bulk", rows)
        away = Fault(action=Answer(status=503, retry_after="2"), tokens=[each.name for each in down])
        service.faults.add(away)
        first = await tenant.send(ttl_s=600)
        await tenant.until(first["id"], lambda view: view["counts"]["accepted"] == 30)
        second = await tenant.send(ttl_s=600)
        await tenant.until(second["id"], lambda view: view["counts"]["accepted"] == 30)
        assert {name[:4] for name in service.accepted} == {"well"}
        service.faults.clear()
        for sent in (first, second):
            view = await tenant.finished(sent["id"])
            assert (view["counts"]["accepted"], view["counts"]["failed"]) == (60, 0)
        assert set(service.accepted.values()) == {2}


async def test_a_message_that_no_browser_takes_is_refused_before_it_is_accepted():
    async with web_world() as (_, tenant, _credential):
        body = {"audience": {"type": "broadcast"}, "message": {"title": "T", "data": {"x": "y" * 4_000}}}
        answer = await tenant.server("POST", "/notifications", json=body)
        assert answer.status == 400
        assert answer.pointers == ["/message/data"]


async def test_w42_a_subscription_that_points_inside_is_refused():
    async with web_world() as (service, tenant, credential):
        made = subscribe(service, credential, "n1")
        for endpoint in ("https://169.254.169.254/latest", "https://localhost/x", "http://fcm.googleapis.com/x"):
            body = {"install_id": "i", "kind": "webpush", "subscription": {**made.to_json(), "endpoint": endpoint}}
            answer = await tenant.server("PUT", "/devices", json=body)
            assert answer.status == 400
            assert answer.pointers == ["/subscription/endpoint"]
            assert endpoint not in str(answer.body)
        await asyncio.sleep(0)
        assert not service.pushes


async def test_g07_a_refused_key_holds_its_messages_until_it_is_resumed():
    async with web_world() as (service, tenant, credential):
        await register(tenant, subscribe(service, credential, "browser"))
        proof = await tenant.server.ok("POST", f"/credentials/{credential['id']}/test", {})
        assert proof["accepted"] is not False
        fault = service.faults.add(Fault(action=Answer(status=401)))
        sent = await tenant.send(ttl_s=600)
        view = await tenant.until(sent["id"], lambda view: view["counts"]["pending"] == 1)
        assert view["counts"]["failed"] == 0
        service.faults.remove(fault)
        await tenant.server.ok("POST", f"/credentials/{credential['id']}/resume", {})
        assert (await tenant.finished(sent["id"]))["counts"]["accepted"] == 1
