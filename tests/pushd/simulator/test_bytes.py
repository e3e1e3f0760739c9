"""The simulator's connection fed byte by byte: cut anywhere it says the same, broken anywhere it only hangs up."""

import asyncio
import random
import time
from itertools import pairwise

import jwt
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.clock import SystemClock
from pushd.model.device import Environment
from pushd.simulator.apns import ApnsConnection
from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import FaultBook
from pushd.simulator.identity import Identity
from pushd.simulator.provider import ProviderTokens
from pushd.simulator.record import Record
from pushd.simulator.world import World

TOKENS = [f"{number:064x}" for number in range(4)]


class Wire(asyncio.Transport):
    """A transport that only collects."""

    def __init__(self):
        super().__init__()
        self.data, self.ended = b"", False

    def write(self, data):
        self.data += data

    def close(self):
        self.ended = True

    abort = close

    def is_closing(self):
        return self.ended

    def set_write_buffer_limits(self, high=None, low=None):
        pass


@pytest.fixture(scope="module")
def who(tmp_path_factory):
    who = Identity(tmp_path_factory.mktemp("bytes"))
    claims = {"iss": "SIMTEAM001", "iat": int(time.time())}
    who.token = jwt.encode(claims, who.pem("SIMKEY0001"), "ES256", {"kid": "SIMKEY0001"})
    return who


def world(who):
    behaviour, clock = Behaviour(streams_before_token=100), SystemClock()
    return World(
        behaviour=behaviour,
        clock=clock,
        tokens=ProviderTokens(who, behaviour, clock),
        faults=FaultBook(0),
        record=Record(behaviour),
        dice=random.Random(0),
    )


def client_bytes(who):
    """A preface and four requests: two good, one refused, one with its body in three frames."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
    client.remote_settings.max_concurrent_streams = 100
    client.initiate_connection()
    for number, device in enumerate(TOKENS):
        fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", f"/3/device/{device}"),
            (":authority", "localhost"),
            ("authorization", f"bearer {who.token}"),
            ("apns-topic", "com.example.app"),
            ("apns-push-type", "alert"),
            ("apns-priority", "7" if number == 1 else "10"),
        ]
        client.send_headers(2 * number + 1, fields)
        body = b'{"aps":{}}'
        for at in range(0, len(body), 4 if number == 2 else 64):
            client.send_data(2 * number + 1, body[at : at + (4 if number == 2 else 64)])
        client.end_stream(2 * number + 1)
    return client, client.data_to_send()


async def feed(who, pieces):
    transport, this = Wire(), world(who)
    connection = ApnsConnection(this, Environment.PRODUCTION, set())
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
    connection.connection_lost(None)
    return transport, this


def answers(client, data):
    told = {}
    for event in client.receive_data(data):
        if isinstance(event, ResponseReceived):
            told[event.stream_id] = [int(dict(event.headers)[":status"]), b""]
        elif isinstance(event, DataReceived):
            told[event.stream_id][1] += event.data
    return told


@given(cuts=st.sets(st.integers(1, 1_400), max_size=12))
@settings(max_examples=30)
def test_cut_anywhere_it_says_the_same(who, cuts):
    client, data = client_bytes(who)
    ends = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(ends)]
    transport, this = asyncio.run(feed(who, pieces))
    assert answers(client, transport.data) == {
        1: [200, b""],
        3: [400, b'{"reason":"BadPriority"}'],
        5: [200, b""],
        7: [200, b""],
    }
    assert this.record.total == 4


def test_cut_into_single_bytes(who):
    client, data = client_bytes(who)
    transport, this = asyncio.run(feed(who, [data[at : at + 1] for at in range(len(data))]))
    assert [status for status, _ in answers(client, transport.data).values()] == [200, 400, 200, 200]
    assert this.record.total == 4


@given(data=st.data())
@settings(max_examples=150)
def test_broken_anywhere_it_only_hangs_up(who, data):
    _, sound = client_bytes(who)
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, 9_999)) * len(broken) // 10_000] = data.draw(st.integers(0, 255))
    transport, this = asyncio.run(feed(who, [bytes(broken)]))
    assert this.record.total <= 4
    assert transport.ended or not any(kind.endswith("Error") for kind in this.record.violation_kinds)


@given(noise=st.binary(max_size=200))
@settings(max_examples=100)
def test_noise_after_the_preface_only_hangs_up(who, noise):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    transport, this = asyncio.run(feed(who, [preface, bytes.fromhex("000000040000000000"), noise]))
    assert transport.ended or not any(kind.endswith("Error") for kind in this.record.violation_kinds)
