"""Every documented error of the running daemon: its status, its code, and where it points."""

import asyncio

import aiohttp
import orjson
import pytest
import pytest_asyncio

from pushd.config import FanoutConfig
from pushd.simulator.faults import Answer, Slow
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")

HELLO = {"audience": {"type": "broadcast"}, "message": {"title": "Hello"}}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def proxied():
    """A daemon behind a proxy that it trusts, which takes few rows, small bodies and few guesses."""
    http = {"trusted_proxies": ["127.0.0.0/8"], "body_bytes_max": 4096, "auth_failures_per_minute_max": 3}
    fanout = FanoutConfig(backlog_rows_max=10)
    async with running(http=http, fanout=fanout) as world:
        yield world


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/notifications", {"audience": {"type": "broadcast"}}, 400, "invalid_request"),
        ("POST", "/notifications", HELLO | {"audience": {"type": "users", "ids": ["x"]}}, 400, "unknown_targets"),
        ("GET", "/notifications/1000000000", None, 404, "not_found"),
        ("GET", "/notifications/none", None, 404, "not_found"),
        ("GET", "/devices/0", None, 404, "not_found"),
        ("GET", "/nothing", None, 404, "not_found"),
        ("PUT", "/notifications", HELLO, 405, "method_not_allowed"),
        ("DELETE", "/devices", None, 405, "method_not_allowed"),
        ("POST", "/apps", {"name": "x"}, 403, "forbidden"),
    ],
)
async def test_problems_have_status_code_and_type(tenant, method, path, body, status, code):
    answer = await tenant.server(method, path, json=body)
    assert (answer.status, answer.code, answer.body["status"]) == (status, code, status)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.body["type"].endswith(code)
    assert answer.body["title"]
    assert answer.headers["X-Request-Id"]


async def test_no_key_and_wrong_keys_are_unauthorized(proxied):
    for number, key in enumerate((None, "pushd_server_wrong", "")):
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        answer = await proxied.client(key)("GET", "/devices", headers=headers)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_guessing_is_braked_per_address(proxied):
    tenant = await proxied.tenant()
    headers = {"X-Forwarded-For": "203.0.113.99"}
    guesses = [await proxied.client(f"pushd_server_{n}")("GET", "/devices", headers=headers) for n in range(5)]
    assert [answer.status for answer in guesses] == [401, 401, 401, 429, 429]
    assert guesses[-1].code == "too_many_requests"
    assert int(guesses[-1].headers["Retry-After"]) >= 1
    elsewhere = await tenant.server("GET", "/devices", headers={"X-Forwarded-For": "203.0.113.98"})
    assert elsewhere.status == 200


async def test_a_revoked_key_is_no_key(world, tenant):
    made = await tenant.admin.ok("POST", "/keys", {"role": "server"})
    client = world.client(made["secret"])
    assert (await client("GET", "/devices")).status == 200
    await tenant.admin.ok("POST", f"/keys/{made['key']['id']}/revoke")
    assert (await client("GET", "/devices")).status == 401


async def test_bodies_that_are_none(tenant, proxied):
    json = {"Content-Type": "application/json"}
    for data, headers, status in (
        (b"{", json, 400),
        (b"[]", json, 400),
        (b"", json, 400),
        (b'{"audience":{"type":"broadcast"},"audience":1}', json, 400),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ):
        answer = await tenant.server("POST", "/notifications", data=data, headers=headers)
        assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (status, "application/problem+json")
    small = await proxied.tenant()
    large = await small.server("POST", "/notifications", json=HELLO | {"name": "x" * 5000})
    assert (large.status, large.code) == (413, "payload_too_large")


async def test_a_full_daemon_answers_503_and_takes_more_once_there_is_room(proxied):
    tenant = await proxied.tenant()
    await tenant.register_many(8)
    tenant.fault(Slow(latency_ms=400))
    sent = await tenant.send()
    refused = await tenant.server("POST", "/notifications", json=HELLO)
    assert (refused.status, refused.code) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await tenant.finished(sent["id"]))["counts"]["accepted"] == 8
    proxied.simulator.faults.clear()
    async with asyncio.timeout(60):
        while (await tenant.server("POST", "/notifications", json=HELLO)).status != 202:
            await asyncio.sleep(0.05)


async def test_a_stream_that_breaks_off_tells_what_was_kept(tenant):
    async def rows():
        for number in range(3):
            yield orjson.dumps({"install_id": f"i{number}", "bundle": "b", "token": tenant.token()}) + b"\n"
        yield b'{"install_id":"' + b"x" * 300_000
        await asyncio.sleep(5)

    headers = tenant.server._headers | {"Content-Type": "application/x-ndjson"}
    url = f"{tenant.server.base}/devices/bulk"
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers, data=rows()) as answer:
        lines = [orjson.loads(line) async for line in answer.content]
    assert answer.status == 200
    assert [line.get("type") for line in lines][:-1] == ["progress"]
    assert (lines[0]["accepted"], lines[-1]["code"], lines[-1]["status"]) == (3, "payload_too_large", 413)
    assert len((await tenant.server.ok("GET", "/devices"))["items"]) == 3


async def test_a_credential_is_tested_without_sending(world):
    tenant = await world.tenant(credential=False)
    made = await tenant.server.ok("POST", "/credentials", world.credential())
    path = f"/credentials/{made['id']}/test"
    said = await tenant.server.ok("POST", path, {"bundle": "com.example.app"})
    assert said["accepted"] is True
    unknown = await tenant.server("POST", path, json={})
    assert (unknown.status, unknown.pointers) == (400, ["/bundle"])
    await tenant.register("phone")
    assert (await tenant.server.ok("POST", path, {}))["accepted"] is True
    tenant.fault(Answer(reason="InvalidProviderToken"))
    said = await tenant.server.ok("POST", path, {})
    assert (said["accepted"], said["reason"]) == (False, "InvalidProviderToken")
    assert (await tenant.server.ok("GET", f"/credentials/{made['id']}"))["state"] == "active"
    assert (await tenant.server("POST", "/credentials/999999/test", json={})).status == 404
