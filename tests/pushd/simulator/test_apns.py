"""Requests to the simulated APNs, and Apple's answers to them: one test per documented reason."""

import time
import uuid

import pytest

from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Answer, Fault
from pushd.simulator.reasons import STATUSES

TOKEN = "ab" * 32
ID = "123e4567-e89b-82d3-a456-426614174000"
BIG = b'{"a":"' + b"x" * 4_088 + b'"}'
"""4,096 bytes."""


class StoppedClock:
    """A clock that tests move."""

    def __init__(self):
        self.wall, self.steady = time.time(), 1_000.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.steady

    def pass_s(self, seconds):
        self.wall += seconds
        self.steady += seconds


@pytest.mark.asyncio
async def test_accepts_a_push_and_echoes_its_id(simulator, connect):
    async with connect(simulator) as client:
        reply = await client.push(apns_id=ID)
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["apns-id"] == ID
        assert "apns-unique-id" not in reply.headers
    assert simulator.record.count(TOKEN) == 1


@pytest.mark.asyncio
async def test_makes_an_id_where_none_was_sent(simulator, connect):
    async with connect(simulator) as client:
        reply = await client.push()
        assert str(uuid.UUID(reply.headers["apns-id"])).upper() == reply.headers["apns-id"]


@pytest.mark.asyncio
async def test_a39_only_the_sandbox_gives_a_unique_id(simulator, connect):
    async with connect(simulator, sandbox=True) as client:
        reply = await client.push(apns_id=ID)
        assert reply.status == 200
        assert uuid.UUID(reply.headers["apns-unique-id"])


REFUSED_FIELDS = {
    "MethodNotAllowed": [{"__method": "GET"}, {"__method": "PUT"}],
    "BadPath": [{"__path": "/"}, {"__path": "/3/devices/" + TOKEN}, {"__path": "/4/device/" + TOKEN}],
    "MissingDeviceToken": [{"__path": "/3/device/"}, {"__path": "/3/device"}],
    "MissingProviderToken": [{"authorization": None}, {"authorization": "bearer "}, {"authorization": "Basic eA=="}],
    "InvalidProviderToken": [{"authorization": "bearer abc"}, {"authorization": "bearer a.b.c"}],
    "BadMessageId": [{"apns_id": "1"}, {"apns_id": ID.upper()}, {"apns_id": ID.replace("-", "")}],
    "MissingTopic": [{"apns_topic": None}, {"apns_topic": ""}],
    "BadTopic": [{"apns_topic": "no topic"}, {"apns_topic": "x" * 300}, {"apns_topic": "<com.example.app>"}],
    "InvalidPushType": [
        {"apns_push_type": "alarm"},
        {"apns_topic": "com.example.app.voip"},
        {"apns_push_type": "voip", "apns_topic": "com.example.app.voip-ptt"},
    ],
    "DeviceTokenNotForTopic": [{"apns_push_type": "voip"}, {"apns_push_type": "liveactivity"}],
    "BadPriority": [
        {"apns_priority": "7"},
        {"apns_priority": "high"},
        {"apns_push_type": "background"},
        {"apns_push_type": "background", "apns_priority": None},
        {
            "apns_push_type": "liveactivity",
            "apns_topic": "com.example.app.push-type.liveactivity",
            "apns_priority": "1",
        },
    ],
    "BadExpirationDate": [{"apns_expiration": "soon"}, {"apns_expiration": "-1"}, {"apns_expiration": "1.5"}],
    "BadCollapseId": [{"apns_collapse_id": "x" * 65}, {"apns_collapse_id": ""}],
    "BadDeviceToken": [
        {"__path": "/3/device/xyz"},
        {"__path": "/3/device/" + "a" * 63},
        {"__path": "/3/device/" + "a" * 65},
        {"__path": "/3/device/" + "aa" * 300},
        {"__path": "/3/device/" + TOKEN + "/"},
        {"__path": "/3/device/" + TOKEN + "?x"},
    ],
}


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", REFUSED_FIELDS)
async def test_refuses_fields(simulator, connect, reason):
    for number, changes in enumerate(REFUSED_FIELDS[reason], 1):
        async with connect(simulator) as client:
            reply = await client.push(**changes)
            assert (reply.status, reply.json) == (STATUSES[reason], {"reason": reason}), changes
            assert uuid.UUID(reply.headers["apns-id"])
        assert simulator.record.reasons == {reason: number}


@pytest.mark.asyncio
@pytest.mark.parametrize("changes", [{"apns_collapse_id": "é" * 32}, {"apns_collapse_id": "x" * 64}])
async def test_a35_sixty_four_bytes_of_collapse_id_are_taken(simulator, connect, changes):
    async with connect(simulator) as client:
        fields = [(name.encode(), value.encode()) for name, value in client.headers(**changes)]
        stream = client.begin(fields)
        client.h2.send_data(stream, b"{}", end_stream=True)
        client.flush()
        assert (await client.reply(stream)).status == 200


@pytest.mark.asyncio
async def test_a35_the_collapse_id_is_measured_in_bytes(simulator, connect):
    async with connect(simulator) as client:
        fields = [(name.encode(), value.encode()) for name, value in client.headers(apns_collapse_id="é" * 33)]
        stream = client.begin(fields)
        client.h2.send_data(stream, b"{}", end_stream=True)
        client.flush()
        assert (await client.reply(stream)).reason == "BadCollapseId"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("push_type", "topic"),
    [
        ("alert", ""),
        ("background", ""),
        ("mdm", ""),
        ("voip", ".voip"),
        ("complication", ".complication"),
        ("fileprovider", ".pushkit.fileprovider"),
        ("location", ".location-query"),
        ("liveactivity", ".push-type.liveactivity"),
        ("pushtotalk", ".voip-ptt"),
        ("controls", ".push-type.controls"),
        ("widgets", ".push-type.widgets"),
    ],
)
async def test_a32_each_push_type_has_its_topic(simulator, connect, push_type, topic):
    async with connect(simulator) as client:
        reply = await client.push(
            apns_push_type=push_type, apns_topic="com.example.app" + topic, apns_priority="5", apns_expiration="0"
        )
        assert reply.status == 200
    assert simulator.record.push_types == {push_type: 1}


@pytest.mark.asyncio
async def test_a30_longer_device_tokens_are_taken(simulator, connect):
    async with connect(simulator) as client:
        assert (await client.push("cd" * 80)).status == 200
        assert (await client.push("CD" * 80)).status == 200
    assert simulator.record.count("cd" * 80) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["apns-topic", "apns-id", "apns-priority", "authorization"])
async def test_a37_duplicate_headers(simulator, connect, name):
    async with connect(simulator) as client:
        fields = client.headers(apns_id=ID)
        stream = client.begin([*fields, (name, dict(fields)[name])])
        client.h2.send_data(stream, b"{}", end_stream=True)
        client.flush()
        reply = await client.reply(stream)
        assert (reply.status, reply.json) == (400, {"reason": "DuplicateHeaders"})


@pytest.mark.asyncio
async def test_a37_host_beside_authority(simulator, connect):
    async with connect(simulator) as client:
        assert (await client.push(host="localhost")).reason == "DuplicateHeaders"


@pytest.mark.asyncio
async def test_payload_empty(simulator, connect):
    async with connect(simulator) as client:
        reply = await client.push(payload=b"")
        assert (reply.status, reply.json) == (400, {"reason": "PayloadEmpty"})


@pytest.mark.asyncio
async def test_a40_payload_too_large(simulator, connect):
    voip = {"apns_push_type": "voip", "apns_topic": "com.example.app.voip"}
    async with connect(simulator) as client:
        assert (await client.push(payload=BIG)).status == 200
        reply = await client.push(payload=BIG + b" ")
        assert (reply.status, reply.json) == (413, {"reason": "PayloadTooLarge"})
        assert (await client.push(payload=BIG + b" " * 1024, **voip)).status == 200
        assert (await client.push(payload=BIG + b" " * 1025, **voip)).status == 413


@pytest.mark.asyncio
async def test_a_hopeless_body_is_refused_before_its_end(simulator, connect):
    async with connect(simulator) as client:
        stream = client.begin(client.headers())
        client.h2.send_data(stream, b"x" * 16_384)
        client.h2.send_data(stream, b"x" * 16_384)
        client.flush()
        reply = await client.reply(stream)
        assert (reply.status, reply.reason) == (413, "PayloadTooLarge")
        await client.until(lambda: reply.resets == [0])
        assert (await client.push()).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("payload", "changes"),
    [(b"\x1f\x8b\x08", {}), (b"{}", {"content_encoding": "gzip"}), (b"[1]", {}), (b'{"a":', {}), (b"null", {})],
)
async def test_compressed_and_other_payloads_are_refused(simulator, connect, payload, changes):
    async with connect(simulator) as client:
        reply = await client.push(payload=payload, **changes)
        assert (reply.status, reply.json) == (400, {"reason": "BadRequestPayload"})


@pytest.mark.asyncio
async def test_the_request_line_is_judged_before_the_provider_token_and_that_before_the_rest(simulator, connect):
    async with connect(simulator) as client:
        assert (await client.push(__method="GET", authorization=None)).reason == "MethodNotAllowed"
        assert (await client.push("xyz", authorization=None, apns_topic=None)).reason == "MissingProviderToken"
        assert (await client.push("xyz", apns_topic=None, payload=b"")).reason == "MissingTopic"
        assert (await client.push("xyz", payload=b"")).reason == "BadDeviceToken"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reason",
    [
        "BadCertificate",
        "BadCertificateEnvironment",
        "DeviceTokenNotForTopic",
        "ExpiredToken",
        "Forbidden",
        "IdleTimeout",
        "InternalServerError",
        "ServiceUnavailable",
        "Shutdown",
        "TooManyRequests",
        "Unregistered",
    ],
)
async def test_reasons_that_only_a_fault_gives(simulator, connect, reason):
    simulator.faults.add(Fault(tokens=[TOKEN], action=Answer(reason=reason, timestamp="missing")))
    async with connect(simulator) as client:
        reply = await client.push()
        assert (reply.status, reply.json) == (STATUSES[reason], {"reason": reason})
        assert (await client.push("cd" * 32)).status == 200
    assert simulator.record.reasons == {reason: 1, "": 1}


# Provider tokens


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "options",
    [
        {"kid": "UNKNOWNKEY"},
        {"iss": "OTHERTEAM1"},
        {"iat": "1700000000000"},
        {"iat": int(time.time()) + 3_000},
        {"key_id": "OTHERKEY01", "kid": "SIMKEY0001", "iss": "SIMTEAM001"},
    ],
)
async def test_a10_forged_provider_tokens(simulator, connect, bearer, options):
    async with connect(simulator, authorization=bearer(**options)) as client:
        reply = await client.push()
        assert (reply.status, reply.json) == (403, {"reason": "InvalidProviderToken"})


@pytest.mark.asyncio
async def test_a11_a_der_signature_or_another_algorithm_is_invalid(simulator, connect, bearer):
    import jwt

    good = bearer().removeprefix("bearer ")
    head, claims, _ = good.split(".")
    hmac = jwt.encode({"iss": "SIMTEAM001", "iat": int(time.time())}, "s" * 32, headers={"kid": "SIMKEY0001"})
    for bad in (f"{head}.{claims}.MEQCIA", f"{head}.{claims}.{'A' * 86}", hmac, good + "="):
        async with connect(simulator, authorization="bearer " + bad) as client:
            assert (await client.push()).reason == "InvalidProviderToken"


@pytest.mark.asyncio
async def test_a10_both_spellings_of_bearer(simulator, connect, bearer):
    async with connect(simulator, authorization=bearer().replace("bearer", "Bearer")) as client:
        assert (await client.push()).status == 200


@pytest.mark.asyncio
async def test_a12_an_old_provider_token_expires_and_wedges_its_connection(simulator, connect, bearer):
    async with connect(simulator, authorization=bearer(age_s=3_601)) as client:
        reply = await client.push()
        assert (reply.status, reply.json) == (403, {"reason": "ExpiredProviderToken"})
        assert (await client.push(authorization=bearer())).reason == "ExpiredProviderToken"
    async with connect(simulator) as client:
        assert (await client.push()).status == 200


@pytest.mark.asyncio
async def test_a12_a_pinned_provider_token_expires_in_use(make_simulator, connect):
    clock = StoppedClock()
    simulator = await make_simulator(clock=clock)
    async with connect(simulator) as client:
        assert (await client.push()).status == 200
        clock.pass_s(3_590)
        assert (await client.push()).status == 200
        clock.pass_s(20)
        assert (await client.push()).reason == "ExpiredProviderToken"


@pytest.mark.asyncio
async def test_a12_one_connection_changes_its_token_once_in_twenty_minutes(make_simulator, connect, bearer):
    clock = StoppedClock()
    simulator = await make_simulator(clock=clock)
    first, second, third = bearer(), bearer(age_s=1), bearer(age_s=2)
    async with connect(simulator, authorization=first) as client:
        assert (await client.push()).status == 200
        reply = await client.push(authorization=second)
        assert (reply.status, reply.json) == (429, {"reason": "TooManyProviderTokenUpdates"})
        assert (await client.push()).status == 200
        clock.pass_s(1_201)
        assert (await client.push(authorization=second)).status == 200
        assert (await client.push(authorization=third)).status == 429
        assert simulator.record.connections[-1].provider_tokens == 2
    async with connect(simulator, authorization=third) as client:
        assert (await client.push()).status == 200


@pytest.mark.asyncio
async def test_a05_a_connection_belongs_to_one_team(simulator, connect, bearer):
    async with connect(simulator) as client:
        assert (await client.push()).status == 200
        reply = await client.push(authorization=bearer("OTHERKEY01"))
        assert (reply.status, reply.json) == (403, {"reason": "InvalidProviderToken"})
        assert (await client.push()).status == 200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("SIMKEY0001", "SIMKEY0002", "TooManyProviderTokenUpdates"),
        ("TOPICKEY01", "TOPICKEY02", "TooManyProviderTokenUpdates"),
        ("SIMKEY0001", "TOPICKEY01", "UnrelatedKeyIdInToken"),
        ("TOPICKEY01", "SIMKEY0001", "UnrelatedKeyIdInToken"),
        ("TOPICKEY01", "TOPICKEY03", "UnrelatedKeyIdInToken"),
    ],
)
async def test_a05_key_families(simulator, connect, bearer, first, second, reason):
    async with connect(simulator, authorization=bearer(first)) as client:
        assert (await client.push()).status == 200
        assert (await client.push(authorization=bearer(second))).json == {"reason": reason}


@pytest.mark.asyncio
async def test_a18_a_key_of_the_other_environment(simulator, connect, bearer):
    async with connect(simulator, authorization=bearer("SANDBOXKEY")) as client:
        reply = await client.push()
        assert (reply.status, reply.json) == (403, {"reason": "BadEnvironmentKeyIdInToken"})
    async with connect(simulator, sandbox=True, authorization=bearer("SANDBOXKEY")) as client:
        assert (await client.push()).status == 200


@pytest.mark.asyncio
async def test_a18_a_topic_key_serves_its_topics_only(simulator, connect, bearer):
    async with connect(simulator, authorization=bearer("TOPICKEY03")) as client:
        reply = await client.push()
        assert (reply.status, reply.json) == (400, {"reason": "TopicDisallowed"})
        assert (await client.push(apns_topic="com.example.three")).status == 200


@pytest.mark.asyncio
async def test_a05_a_bundle_that_comes_later_needs_a_new_connection(simulator, connect):
    simulator.tokens.topics["SIMTEAM001"] = frozenset({"com.example.app"})
    async with connect(simulator) as client:
        assert (await client.push()).status == 200
        simulator.tokens.topics["SIMTEAM001"] |= {"com.example.new"}
        assert (await client.push(apns_topic="com.example.new")).reason == "TopicDisallowed"
    async with connect(simulator) as client:
        assert (await client.push(apns_topic="com.example.new")).status == 200


@pytest.mark.asyncio
async def test_a06_a_revoked_key_is_refused_on_open_connections(simulator, connect):
    async with connect(simulator) as client:
        assert (await client.push()).status == 200
        simulator.tokens.revoked.add("SIMKEY0001")
        assert (await client.push()).reason == "InvalidProviderToken"


@pytest.mark.asyncio
async def test_a51_patience_with_bad_tokens_ends(make_simulator, connect):
    simulator = await make_simulator(behaviour=Behaviour(bad_tokens_max=3))
    async with connect(simulator) as client:
        for _ in range(3):
            await client.push("xyz")
        await client.gone()
        assert client.goaways == [(5, 0, b'{"reason":"BadDeviceToken"}')]
