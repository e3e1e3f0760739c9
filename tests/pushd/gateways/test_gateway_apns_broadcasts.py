"""Pushes to broadcast channels: one request each, under Apple's rules for them (A-04, A-38)."""

import base64

import numpy as np
import pytest

from pushd.batch import Rendered
from pushd.gateways.apns_exchange import REASONS
from pushd.model.device import Environment, Kind, Route
from pushd.outcome import Outcome
from pushd.simulator.faults import Answer
from tests.pushd.gateways.apns_world import PAYLOAD, TOPIC, token

pytestmark = pytest.mark.asyncio

CHANNELS = Route(1, Kind.APNS_CHANNEL, Environment.PRODUCTION, TOPIC)
UPDATE = Rendered(
    payload=b'{"aps":{"timestamp":1,"event":"update","content-state":{}}}',
    headers=(("apns-push-type", "liveactivity"), ("apns-priority", "10")),
)


def channel(number):
    return base64.b64encode(number.to_bytes(16, "big")).decode()


def batch_of(w, ids, payloads=UPDATE, **rest):
    batch = w.batch(len(ids), payloads=payloads, route=CHANNELS, **rest)
    batch.tokens = np.array([each.encode() for each in ids])
    return batch


async def send(w, ids, **rest):
    batch = batch_of(w, ids, **rest)
    await w.gateway.send(batch)
    return batch


def made(w, *numbers, stores=False, environment=Environment.PRODUCTION):
    ids = [channel(number) for number in numbers]
    for each in ids:
        w.simulator.channels.add(environment, TOPIC, each, stores=stores)
    return ids


async def test_a04_a38_a_broadcast_is_one_request_with_these_fields(world):
    async with world() as w:
        batch = await send(w, made(w, 1), notifications=7)
        assert w.reasons(batch) == {"accepted": 1}
        (push,) = w.record.pushes()
        headers = dict(push.headers)
        assert headers == {
            ":method": "POST",
            ":scheme": "https",
            ":path": "/4/broadcasts/apps/com.example.app",
            ":authority": f"localhost:{w.simulator.port}",
            "authorization": headers["authorization"],
            "apns-push-type": "liveactivity",
            "apns-priority": "10",
            "apns-channel-id": channel(1),
            "apns-request-id": "00000000-0000-8007-8000-000000000001",
            "apns-expiration": "0",
        }
        assert push.payload == UPDATE.payload
        assert not w.record.violation_kinds


@pytest.mark.parametrize("rows", [3, 200])
async def test_a38_each_channel_of_a_batch_gets_its_own_request(world, rows):
    async with world() as w:
        batch = await send(w, made(w, *range(rows)))
        assert w.reasons(batch) == {"accepted": rows}
        accepted = w.record.accepted_tokens()
        assert {bytes.fromhex(each).decode(): count for each, count in accepted.items()} == {
            channel(number): 1 for number in range(rows)
        }
        assert not w.record.violation_kinds


async def test_a38_messages_of_their_own_and_ids_of_any_length(world):
    async with world() as w:
        ids = made(w, *range(20))
        long = base64.b64encode(b"x" * 90).decode()
        w.simulator.channels.add(Environment.PRODUCTION, TOPIC, long, stores=False)
        payloads = [Rendered(payload=b'{"aps":{"n":%d}}' % number, headers=UPDATE.headers) for number in range(21)]
        batch = await send(w, [*ids, long], payloads=payloads)
        assert w.reasons(batch) == {"accepted": 21}
        assert w.reasons(await send(w, [*ids, long])) == {"accepted": 21}


@pytest.mark.parametrize("rows", [2, 20])
async def test_a38_what_is_no_channel_id_is_not_sent(world, rows):
    async with world() as w:
        ids = ["no id", *made(w, *range(1, rows))]
        batch = await send(w, ids)
        assert w.reason(batch, 0) == "BadChannelId"
        assert w.reasons(batch)["accepted"] == rows - 1
        assert w.record.total == rows - 1


async def test_a_channel_that_is_gone_is_unregistered_as_of_now(world):
    async with world() as w:
        batch = await send(w, [*made(w, 1), channel(2)])
        assert [w.reason(batch, row) for row in (0, 1)] == ["accepted", "ChannelNotRegistered"]
        assert REASONS.outcome(int(batch.outcomes[1])) is Outcome.UNREGISTERED
        assert batch.invalid_since.keys() == {1}
        assert REASONS.slows_link[batch.outcomes[1]]


async def test_a34_a_channel_that_stores_nothing_takes_no_expiry_but_0(world):
    async with world() as w:
        lasting = Rendered(payload=UPDATE.payload, headers=UPDATE.headers, expires_at=2_000_000_000)
        batch = await send(w, [*made(w, 1), *made(w, 2, stores=True)], payloads=lasting)
        assert [w.reason(batch, row) for row in (0, 1)] == ["BadExpirationDate", "accepted"]


async def test_a05_devices_and_channels_of_a_credential_share_links(world):
    async with world() as w:
        assert w.reasons(await send(w, made(w, 1))) == {"accepted": 1}
        assert w.reasons(await w.send(5, payloads=PAYLOAD)) == {"accepted": 5}
        assert w.record.connections_total == 1
        assert w.record.count(token(3)) == 1


async def test_a04_the_other_environment_has_other_channels(world):
    async with world() as w:
        ids = made(w, 1, environment=Environment.SANDBOX)
        assert w.reasons(await send(w, ids)) == {"ChannelNotRegistered": 1}
        batch = batch_of(w, ids)
        batch.route = CHANNELS._replace(environment=Environment.SANDBOX)
        await w.gateway.send(batch)
        assert w.reasons(batch) == {"accepted": 1}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("FeatureNotEnabled", Outcome.MISCONFIGURED),
        ("TopicMismatch", Outcome.MISCONFIGURED),
        ("MissingPushType", Outcome.REJECTED),
        ("BadRequestPayload", Outcome.REJECTED),
        ("Service Unavailable", Outcome.UNAVAILABLE),
    ],
)
async def test_reasons_of_broadcasts(world, reason, outcome):
    async with world() as w:
        ids = made(w, 1)
        w.fault(Answer(reason=reason), tokens=ids)
        batch = await send(w, ids)
        assert (w.reason(batch), REASONS.outcome(int(batch.outcomes[0]))) == (reason, outcome)
