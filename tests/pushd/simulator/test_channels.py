"""Broadcast channels of the simulated APNs: pushes to them, and their management, refused in Apple's words."""

import asyncio
import ssl
import uuid

import aiohttp
import orjson
import pytest

from pushd.model.device import Environment
from pushd.simulator.faults import Answer, Fault, Silence
from pushd.simulator.reasons import STATUSES
from tests.pushd.simulator.conftest import TOPIC, Client, bearer

pytestmark = pytest.mark.asyncio

ID = "123e4567-e89b-82d3-a456-426614174000"
UPDATE = b'{"aps":{"timestamp":1,"event":"update","content-state":{}}}'
CREATE = orjson.dumps({"message-storage-policy": 1, "push-type": "LiveActivity"})


def broadcast(client, channel_id, payload=UPDATE, **changes):
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": f"/4/broadcasts/apps/{TOPIC}",
        ":authority": "localhost",
        "authorization": client.authorization,
        "apns-push-type": "liveactivity",
        "apns-priority": "5",
        "apns-expiration": "0",
        "apns-channel-id": channel_id,
    }
    return call(client, fields, payload, changes)


async def call(client, fields, payload, changes):
    fields = fields | {name.replace("_", "-").replace("--", ":"): value for name, value in changes.items()}
    stream = client.begin([(name, value) for name, value in fields.items() if value is not None], end=not payload)
    if payload:
        client.h2.send_data(stream, payload, end_stream=True)
    client.flush()
    return await client.reply(stream)


def manage(client, method, path=f"/1/apps/{TOPIC}/channels", payload=b"", **changes):
    fields = {
        ":method": method,
        ":scheme": "https",
        ":path": path,
        ":authority": "localhost",
        "authorization": client.authorization,
    }
    return call(client, fields, payload, changes)


class Managing:
    """A connection to the management host."""

    def __init__(self, simulator, *, sandbox=False):
        self.simulator = simulator
        self.port = simulator.sandbox_management_port if sandbox else simulator.management_port

    async def __aenter__(self):
        context = ssl.create_default_context(cafile=str(self.simulator.ca_file))
        context.set_alpn_protocols(["h2"])
        self.transport, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(bearer(self.simulator.identity)),
            "127.0.0.1",
            self.port,
            ssl=context,
            server_hostname="localhost",
        )
        client.start()
        return client

    async def __aexit__(self, *_):
        self.transport.abort()


async def test_a38_a_broadcast_is_taken_and_its_request_id_echoed(simulator, connect):
    channel_id = simulator.channels.create(Environment.PRODUCTION, TOPIC, stores=False)
    async with connect(simulator) as client:
        reply = await broadcast(client, channel_id, apns_request_id=ID)
        assert (reply.status, reply.headers["apns-request-id"], reply.body) == (200, ID, b"")
        assert "apns-id" not in reply.headers
    (push,) = simulator.record.pushes()
    assert (bytes.fromhex(push.token).decode(), push.apns_id) == (channel_id, ID)


REFUSED = {
    "BadPath": {"__path": "/4/broadcasts/apps/a b"},
    "MethodNotAllowed": {"__method": "PUT"},
    "MissingProviderToken": {"authorization": None},
    "BadMessageId": {"apns_request_id": "7"},
    "TopicDisallowed": {"__path": f"/4/broadcasts/apps/{TOPIC}.push-type.liveactivity"},
    "MissingPushType": {"apns_push_type": None},
    "InvalidPushType": {"apns_push_type": "alert"},
    "MissingChannelId": {"apns_channel_id": None},
    "BadChannelId": {"apns_channel_id": "no-base64"},
    "ChannelNotRegistered": {"apns_channel_id": "AAAA"},
    "BadPriority": {"apns_priority": "1"},
    "BadExpirationDate": {"apns_expiration": None},
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_a38_broadcasts_are_refused_in_apples_words(simulator, connect, reason):
    channel_id = simulator.channels.create(Environment.PRODUCTION, TOPIC, stores=True)
    async with connect(simulator) as client:
        reply = await broadcast(client, channel_id, **REFUSED[reason])
        assert (reply.status, reply.json) == (STATUSES[reason], {"reason": reason})


async def test_a38_bodies_and_storage(simulator, connect):
    lasting, fleeting = (simulator.channels.create(Environment.PRODUCTION, TOPIC, stores=s) for s in (True, False))
    big = b'{"a":"' + b"x" * 5_112 + b'"}'
    async with connect(simulator) as client:
        assert (await broadcast(client, lasting, big)).status == 200
        assert (await broadcast(client, lasting, big + b" ")).reason == "PayloadTooLarge"
        assert (await broadcast(client, lasting, b"")).reason == "PayloadEmpty"
        assert (await broadcast(client, lasting, b"[]")).reason == "BadRequestPayload"
        assert (await broadcast(client, lasting, apns_expiration="2000000000")).status == 200
        assert (await broadcast(client, fleeting, apns_expiration="2000000000")).reason == "BadExpirationDate"
        simulator.channels.not_enabled.add(TOPIC)
        assert (await broadcast(client, lasting)).reason == "FeatureNotEnabled"
    assert not simulator.record.violation_kinds
    async with connect(simulator) as client:
        await broadcast(client, lasting, apns_topic=TOPIC)
    assert simulator.record.violation_kinds == {"topic_of_broadcast": 1}


async def test_a38_a_channel_lives_from_its_creation_to_its_deletion(simulator):
    async with Managing(simulator) as client:
        created = await manage(client, "POST", payload=CREATE, apns_request_id=ID)
        channel_id = created.headers["apns-channel-id"]
        assert (created.status, created.headers["apns-request-id"], created.body) == (201, ID, b"")
        read = await manage(client, "GET", apns_channel_id=channel_id)
        assert (read.status, read.json) == (200, {"message-storage-policy": 1, "push-type": "LiveActivity"})
        assert uuid.UUID(read.headers["apns-request-id"])
        listed = await manage(client, "GET", f"/1/apps/{TOPIC}/all-channels")
        assert listed.json == {"channels": [channel_id]}
        async with Managing(simulator, sandbox=True) as other:
            assert (await manage(other, "GET", f"/1/apps/{TOPIC}/all-channels")).json == {"channels": []}
        assert (await manage(client, "DELETE", apns_channel_id=channel_id)).status == 204
        assert (await manage(client, "DELETE", apns_channel_id=channel_id)).reason == "ChannelNotRegistered"
        assert (await manage(client, "GET", f"/1/apps/{TOPIC}/all-channels")).json == {"channels": []}
    assert simulator.record.total == 0


UNMANAGED = {
    "BadPath": ("GET", {"path": "/1/apps//channels"}),
    "MethodNotAllowed": ("PUT", {}),
    "MissingProviderToken": ("GET", {"authorization": None}),
    "BadMessageId": ("GET", {"apns_request_id": "x"}),
    "TopicDisallowed": ("POST", {"path": f"/1/apps/{TOPIC}.voip/channels", "payload": CREATE}),
    "MissingChannelId": ("GET", {}),
    "BadChannelId": ("DELETE", {"apns_channel_id": "?"}),
    "ChannelNotRegistered": ("GET", {"apns_channel_id": "AAAA"}),
    "BadRequestPayload": ("POST", {"payload": b'{"push-type":"alert"}'}),
}


@pytest.mark.parametrize("reason", UNMANAGED)
async def test_a38_management_refuses_in_apples_words(simulator, reason):
    method, rest = UNMANAGED[reason]
    async with Managing(simulator) as client:
        reply = await manage(client, method, **rest)
        assert (reply.status, reply.json) == (STATUSES[reason], {"reason": reason})


async def test_a38_there_are_so_many_channels_and_no_more(simulator):
    simulator.channels.channels_max = 1
    async with Managing(simulator) as client:
        assert (await manage(client, "POST", payload=CREATE)).status == 201
        assert (await manage(client, "POST", payload=CREATE)).reason == "CannotCreateChannelConfig"
    calls = {"POST 201": 1, "POST CannotCreateChannelConfig": 1}
    assert simulator.channels.calls == calls
    base = f"http://127.0.0.1:{simulator.control_port}"
    async with aiohttp.ClientSession(base) as session, session.get("/summary") as answer:
        assert (await answer.json())["channel_management"] == calls


async def test_management_is_scripted_by_its_path(simulator, connect):
    path = f"/1/apps/{TOPIC}/all-channels"
    simulator.faults.add(Fault(action=Answer(reason="Service Unavailable", retry_after="7"), topic=path, count=1))
    simulator.faults.add(Fault(action=Silence(), topic=f"/1/apps/{TOPIC}/channels"))
    channel_id = simulator.channels.create(Environment.PRODUCTION, TOPIC, stores=False)
    async with Managing(simulator) as client, connect(simulator) as pushing:
        reply = await manage(client, "GET", path)
        assert (reply.status, reply.reason, reply.headers["retry-after"]) == (503, "Service Unavailable", "7")
        assert (await manage(client, "GET", path)).status == 200
        assert (await broadcast(pushing, channel_id)).status == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(manage(client, "POST", payload=CREATE), 0.2)
