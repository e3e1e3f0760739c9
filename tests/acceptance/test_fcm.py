"""FCM through the whole daemon: a key file as Google gives it, sends, dead tokens, a refused account."""

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from pushd.config.fcm import FcmConfig
from pushd.simulator.faults import Answer, Fault
from pushd.simulator.fcm import LocalFcm

from .world import pushd, running

pytestmark = pytest.mark.asyncio


def token(number):
    return f"d3Fg_x:APA91b-{number:040}"


@asynccontextmanager
async def fcm_world():
    """A daemon, a local FCM, and an app with its key file."""
    folder = Path(tempfile.mkdtemp(prefix="pushd-fcm-"))
    local = LocalFcm(folder)
    await local.start()
    config = FcmConfig(
        host="localhost",
        port=local.port,
        oauth_host="localhost",
        oauth_port=local.oauth_port,
        ca_file=str(local.ca_file),
        quota_retry_s=0.1,
        server_error_retry_s=0.1,
    )
    try:
        async with running(fcm=config) as world:
            tenant = await world.tenant(credential=False)
            made = {"secret": local.key_file, "environment": "production", "name": "android"}
            yield local, tenant, await tenant.server.ok("POST", "/credentials", made)
    finally:
        await local.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def register(tenant, count, first=1):
    rows = [
        {"install_id": f"i{number}", "kind": "fcm", "token": token(number), "platform": "android"}
        for number in range(first, first + count)
    ]
    *_, summary = await tenant.server.lines("/devices/bulk", rows)
    assert summary["accepted"] == count


async def test_a_key_file_is_uploaded_from_the_command_line(tmp_path):
    async with fcm_world() as (local, tenant, credential):
        file = tmp_path / "key.json"
        file.write_bytes(orjson.dumps(local.key_file))
        options = ("--package", "com.example.a", "--package", "com.example.b", "--replace", str(credential["id"]))
        made = await pushd(tenant.server, "gateway", "fcm", str(file), *options)
        assert made["summary"]["packages"] == "com.example.a, com.example.b"
        assert local.key_file["private_key"] not in str(made)
        proof = await pushd(tenant.server, "gateway", "test", str(made["id"]))
        assert proof["accepted"] is True


async def test_f01_f02_f16_what_is_taken_and_what_is_refused_at_the_door():
    async with fcm_world() as (local, tenant, credential):
        assert credential["gateway"] == "fcm"
        assert credential["summary"] == {
            "type": "service_account",
            "project_id": "pushd-demo",
            "client_email": local.account.client_email,
            "private_key_id": local.account.key_id,
        }
        proof = await tenant.server.ok("POST", f"/credentials/{credential['id']}/test", {})
        assert proof["accepted"] is True
        assert not local.accepted

        body = {"audience": {"type": "broadcast"}, "message": {"title": "T", "data": {"x": "y" * 4_100}}}
        answer = await tenant.server("POST", "/notifications", json=body)
        assert (answer.status, answer.pointers) == (400, ["/message/data"])
        assert "fcm payload" in str(answer.body)

        for field, value in {"project_id": "../../v2", "private_key": "no key"}.items():
            made = {"secret": {**local.key_file, field: value}, "environment": "production", "name": "bad"}
            answer = await tenant.server("POST", "/credentials", json=made)
            assert (answer.status, answer.pointers) == (400, [f"/secret/{field}"])


async def test_sends_reach_devices_and_dead_tokens_leave():
    async with fcm_world() as (local, tenant, _):
        await register(tenant, 300)
        await asyncio.sleep(1.1)  # a token that registered within a second of its death's report stays
        local.faults.add(Fault(action=Answer(reason="UNREGISTERED"), tokens=[token(7)]))
        local.faults.add(Fault(action=Answer(reason="UNAVAILABLE"), rate=0.05, per_token=1))
        view = await tenant.sent(message={"title": "Hello", "body": "World", "data": {"k": 1}}, ttl_s=600)
        assert (view["counts"]["accepted"], view["counts"]["failed"]) == (299, 1)
        (behind,) = await tenant.behind(view["id"], outcome="unregistered")
        assert behind["reason"] == "UNREGISTERED"
        content = local.pushes[-1].content
        assert content["notification"] == {"title": "Hello", "body": "World"}
        assert content["data"]["k"] == "1"
        assert orjson.loads(content["data"]["pushd"])["id"] == view["id"]
        assert content["android"]["notification"]["tag"] == f"pushd-{view['id']}"
        assert "collapse_key" not in content["android"]
        assert 500 <= int(content["android"]["ttl"].removesuffix("s")) <= 600
        again = await tenant.sent(message={"title": "Again"})
        assert again["counts"]["targeted"] == 299
        assert set(local.accepted.values()) == {2}
        assert local.oauth.requests == 1


async def test_g07_a_refused_account_holds_its_messages_until_it_is_resumed():
    async with fcm_world() as (local, tenant, credential):
        await register(tenant, 5)
        fault = local.faults.add(Fault(action=Answer(status=403, reason="PERMISSION_DENIED")))
        view = await tenant.server.ok(
            "POST", "/notifications", {"audience": {"type": "broadcast"}, "message": {"title": "Held"}}
        )
        for _ in range(100):
            shown = await tenant.server.ok("GET", f"/credentials/{credential['id']}")
            if shown["state"] == "paused":
                break
            await asyncio.sleep(0.02)
        assert (shown["state"], shown["paused_reason"]) == ("paused", "PERMISSION_DENIED")
        assert not local.accepted
        local.faults.remove(fault)
        await tenant.server.ok("POST", f"/credentials/{credential['id']}/resume", {})
        done = await tenant.finished(view["id"])
        assert done["counts"]["accepted"] == 5
