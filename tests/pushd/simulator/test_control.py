"""The simulator's HTTP interface."""

import aiohttp
import pytest

TOKEN = "ab" * 32
ID = "123e4567-e89b-82d3-a456-426614174000"


async def ask(simulator, method, path, **options):
    url = f"http://127.0.0.1:{simulator.control_port}{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        return response.status, await response.json()


async def get(simulator, path):
    status, answer = await ask(simulator, "GET", path)
    assert status == 200
    return answer


@pytest.mark.asyncio
async def test_tells_what_arrived(simulator, connect):
    async with connect(simulator) as client:
        await client.push(apns_id=ID, apns_collapse_id="one")
        await client.push(payload=b"[]")
        summary = await get(simulator, "/summary")
        assert (summary["pushes"], summary["accepted"], summary["open_connections"]) == (2, 1, 1)
        assert summary["statuses"] == {"200": 1, "400": 1}
        assert summary["reasons"] == {"": 1, "BadRequestPayload": 1}
        assert (summary["topics"], summary["push_types"]) == ({"com.example.app": 2}, {"alert": 2})
        told = await get(simulator, f"/pushes?token={TOKEN}")
        assert (told["count"], told["last"]) == (2, 2)
        first, second = told["pushes"]
        assert (first["apns_id"], first["status"], first["payload"]) == (ID, 200, {"aps": {"alert": "hello"}})
        assert ["apns-collapse-id", "one"] in first["headers"]
        assert (second["status"], second["reason"], second["payload"]) == (400, "BadRequestPayload", [])
        assert [push["number"] for push in (await get(simulator, "/pushes?since=1"))["pushes"]] == [2]
        assert await get(simulator, f"/pushes?token={'cd' * 32}") == {"pushes": [], "count": 0}


@pytest.mark.asyncio
async def test_a_payload_that_is_no_json_is_shown_as_base64(simulator, connect):
    async with connect(simulator) as client:
        await client.push(payload=b"\x00\xff")
    shown = (await get(simulator, "/pushes"))["pushes"][0]
    assert (shown["payload"], shown["payload_base64"]) == (None, "AP8=")


@pytest.mark.asyncio
async def test_tells_of_connections_and_violations(simulator, connect):
    async with connect(simulator, sandbox=True) as client:
        await client.push(apns_push_type=None)
        told = await get(simulator, "/connections")
        assert told["total"] == 1
        connection = told["connections"][0]
        assert (connection["environment"], connection["team_id"], connection["key_id"]) == (
            "sandbox",
            "SIMTEAM001",
            "SIMKEY0001",
        )
        assert (connection["tls"], connection["requests"], connection["closed_ms"]) == ("TLSv1.3", 1, None)
        violations = await get(simulator, "/violations")
        assert violations["kinds"] == {"no_push_type": 1}
        assert violations["violations"][0]["connection"] == connection["id"]


@pytest.mark.asyncio
async def test_tells_duplicates(simulator, connect):
    async with connect(simulator) as client:
        for _ in range(2):
            await client.push(apns_id=ID)
    assert await get(simulator, "/duplicates") == {"tokens": {TOKEN: 2}, "apns_ids": {ID: 2}}


@pytest.mark.asyncio
async def test_scripts_faults(simulator, connect):
    fault = {"tokens": [TOKEN], "action": {"type": "answer", "reason": "Unregistered", "timestamp": 5}}
    status, answer = await ask(simulator, "POST", "/faults", json=fault)
    assert (status, answer) == (201, {"id": 1})
    async with connect(simulator) as client:
        assert (await client.push()).json == {"reason": "Unregistered", "timestamp": 5}
        listed = (await get(simulator, "/faults"))["faults"]
        assert [(one["id"], one["struck"], one["fault"]) for one in listed] == [(1, 1, fault)]
        assert await ask(simulator, "DELETE", "/faults/1") == (200, {})
        assert (await ask(simulator, "DELETE", "/faults/1"))[0] == 404
        assert (await client.push()).status == 200
        await ask(simulator, "POST", "/faults", json=fault)
        assert await ask(simulator, "DELETE", "/faults") == (200, {})
        assert (await client.push()).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "action",
    [
        {"type": "slow", "latency_ms": 1},
        {"type": "silence"},
        {"type": "reset", "code": 8, "twice": True},
        {"type": "block", "hex": "88"},
        {"type": "goaway", "last": 7, "debug": "large", "close_after_ms": None},
        {"type": "close", "how": "abort"},
        {"type": "settings", "steps": [{"max_concurrent_streams": 0}, {"after_ms": 5, "initial_window_size": 1}]},
        {"type": "window", "initial_window_size": 0},
        {"type": "mute"},
        {"type": "ignore_ping"},
    ],
)
async def test_every_action_has_a_name(simulator, action):
    assert (await ask(simulator, "POST", "/faults", json={"action": action}))[0] == 201
    told = (await get(simulator, "/faults"))["faults"][0]["fault"]["action"]
    assert told["type"] == action["type"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"action": {"type": "explode"}},
        {"action": {"type": "silence"}, "tokn": ["aa"]},
        {"action": {"type": "answer", "stauts": 500}},
        {"action": {"type": "answer", "status": 99}},
        {"action": {"type": "silence"}, "rate": 2},
        {"action": {"type": "silence"}, "at": "connect"},
        {"action": {"type": "block", "hex": "8"}},
        [1],
    ],
)
async def test_faults_are_validated(simulator, fault):
    status, answer = await ask(simulator, "POST", "/faults", json=fault)
    assert (status, answer["error"]) == (400, "invalid_request")
    assert not simulator.faults.listed()


@pytest.mark.asyncio
async def test_other_mistakes_are_told(simulator):
    assert (await ask(simulator, "POST", "/faults", data=b"{"))[0] == 400
    assert (await ask(simulator, "GET", "/pushes?limit=many"))[0] == 400
    assert (await ask(simulator, "GET", "/pushes?limit=10001"))[0] == 400
    assert (await ask(simulator, "GET", "/nothing"))[0] == 404
    assert (await ask(simulator, "PUT", "/faults"))[0] == 405
    assert (await ask(simulator, "DELETE", "/faults/x"))[0] == 404


@pytest.mark.asyncio
async def test_reset_forgets(simulator, connect):
    async with connect(simulator) as client:
        await client.push()
        await ask(simulator, "POST", "/faults", json={"action": {"type": "silence"}})
        assert await ask(simulator, "POST", "/reset") == (200, {})
        assert (await get(simulator, "/summary"))["pushes"] == 0
        assert (await client.push()).status == 200
