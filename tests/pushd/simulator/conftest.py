"""An independent client for the simulator: python-hyper's h2 as the client over asyncio TLS, and PyJWT for tokens."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.events
import jwt
import orjson
import pytest
import pytest_asyncio
from h2.config import H2Configuration
from h2.connection import H2Connection
from hpack import NeverIndexedHeaderTuple

from pushd.model.device import Environment
from pushd.simulator.identity import Identity, ProviderKey
from pushd.simulator.simulator import Simulator

TOKEN = "ab" * 32
TOPIC = "com.example.app"
PATIENCE_S = 60.0
PAYLOAD = b'{"aps":{"alert":"hello"}}'

SECOND_KEY = ProviderKey(key_id="SIMKEY0002")
OTHER_TEAM = ProviderKey(team_id="OTHERTEAM1", key_id="OTHERKEY01")
SANDBOX_KEY = ProviderKey(key_id="SANDBOXKEY", environments=(Environment.SANDBOX,))
TOPIC_KEY = ProviderKey(key_id="TOPICKEY01", topics=(TOPIC,), related="pair")
TOPIC_KEY_2 = ProviderKey(key_id="TOPICKEY02", topics=(TOPIC, "com.example.two"), related="pair")
TOPIC_KEY_3 = ProviderKey(key_id="TOPICKEY03", topics=("com.example.three",))
KEYS = (ProviderKey(), SECOND_KEY, OTHER_TEAM, SANDBOX_KEY, TOPIC_KEY, TOPIC_KEY_2, TOPIC_KEY_3)


@dataclass
class Reply:
    """What came back on one stream."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    frames: list[tuple[str, Any]] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def reason(self) -> str:
        return self.json["reason"]


class Boundless(H2Connection):
    """h2's client without its own stream limit: tests decide how many are too many."""

    @property
    def open_outbound_streams(self) -> int:
        return -(2**31)


class Client(asyncio.Protocol):
    """One connection; sends what it is told, checks little, remembers everything."""

    def __init__(self, authorization: str | None = None) -> None:
        self.h2 = Boundless(
            H2Configuration(
                client_side=True,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.authorization = authorization
        self.events: list[h2.events.Event] = []
        self.replies: dict[int, Reply] = {}
        self.settings: list[dict[int, int]] = []
        self.goaways: list[tuple[int, int, bytes]] = []
        self.pings_answered: list[bytes] = []
        self.window_updates: list[tuple[int, int]] = []
        self.closed = asyncio.Event()
        self.changed = asyncio.Event()
        self.raw = b""
        self.next_stream = 1
        self.automatic_credit = True

    def connection_made(self, transport) -> None:
        self.transport = transport

    def start(self, **settings: int) -> None:
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        self.raw += data
        for frame in self._frames(data):
            self._frame(frame)
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self.changed.set()
        for reply in self.replies.values():
            reply.done.set()

    def _frames(self, data: bytes):
        """GOAWAYs are taken out: h2's client would refuse to go on after the first."""
        self._buffer = getattr(self, "_buffer", b"") + data
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big") + 9
            if len(self._buffer) < size:
                return
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            yield frame

    def _frame(self, frame: bytes) -> None:
        kind, stream = frame[3], int.from_bytes(frame[5:9], "big")
        if kind == 7:
            payload = frame[9:]
            self.goaways.append((int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big"), payload[8:]))
            return
        if kind == 3 and stream in self.replies:
            self.replies[stream].resets.append(int.from_bytes(frame[9:13], "big"))
            if self.replies[stream].done.is_set():
                return  # the second RST_STREAM of X-05
        if stream in self.replies:
            self.replies[stream].frames.append((kind, frame))
        for event in self.h2.receive_data(frame):
            self._event(event)
        self.flush()

    def _event(self, event: h2.events.Event) -> None:
        self.events.append(event)
        match event:
            case h2.events.ResponseReceived():
                reply = self.replies[event.stream_id]
                reply.headers = dict(event.headers)
                reply.status = int(reply.headers[":status"])
            case h2.events.DataReceived():
                self.replies[event.stream_id].body += event.data
                if self.automatic_credit and event.flow_controlled_length:
                    self.h2.increment_flow_control_window(event.flow_controlled_length)
            case h2.events.StreamEnded() | h2.events.StreamReset():
                self.replies[event.stream_id].done.set()
            case h2.events.RemoteSettingsChanged():
                self.settings.append({int(k): v.new_value for k, v in event.changed_settings.items()})
            case h2.events.PingAckReceived():
                self.pings_answered.append(event.ping_data)
            case h2.events.WindowUpdated():
                self.window_updates.append((event.stream_id, event.delta))

    # What tests call

    def headers(self, token: str = TOKEN, **changes: str | None) -> list[tuple[str, str]]:
        fields = {
            ":method": "POST",
            ":scheme": "https",
            ":path": f"/3/device/{token}",
            ":authority": "localhost",
            "authorization": self.authorization,
            "apns-topic": TOPIC,
            "apns-push-type": "alert",
            "apns-priority": "10",
        }
        fields.update({name.replace("_", "-").replace("--", ":"): value for name, value in changes.items()})
        return [(name, value) for name, value in fields.items() if value is not None]

    def begin(self, fields: list[tuple[str, str]], *, end: bool = False, keep_out: bool = True) -> int:
        if keep_out:  # A-42; h2's encoder indexes whatever it is not told to leave alone
            fields = [NeverIndexedHeaderTuple(*f) if f[0] in (":path", "authorization") else f for f in fields]
        stream = self.next_stream
        self.next_stream += 2
        self.replies[stream] = Reply()
        self.h2.send_headers(stream, fields, end_stream=end)
        return stream

    def post(self, token: str = TOKEN, payload: bytes = PAYLOAD, **changes: str | None) -> int:
        stream = self.begin(self.headers(token, **changes), end=not payload)
        if payload:
            for at in range(0, len(payload), 16_384):
                self.h2.send_data(stream, payload[at : at + 16_384], end_stream=at + 16_384 >= len(payload))
        return stream

    async def reply(self, stream: int) -> Reply:
        await asyncio.wait_for(self.replies[stream].done.wait(), PATIENCE_S)
        return self.replies[stream]

    async def push(self, token: str = TOKEN, payload: bytes = PAYLOAD, **changes: str | None) -> Reply:
        stream = self.post(token, payload, **changes)
        self.flush()
        return await self.reply(stream)

    async def until(self, condition: Callable[[], Any]) -> None:
        async def wait() -> None:
            while not condition():
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(wait(), PATIENCE_S)

    async def gone(self) -> None:
        """The connection was closed."""
        await asyncio.wait_for(self.closed.wait(), PATIENCE_S)

    async def ready(self) -> None:
        """The first push was accepted and the stream limit raised."""
        assert (await self.push()).status == 200
        await self.until(lambda: len(self.settings) >= 2)


def bearer(identity: Identity, key_id: str = "SIMKEY0001", *, age_s: float = 0.0, **changes: Any) -> str:
    """An authorization header by PyJWT; `changes` replace claims, `alg` and `kid` replace the header's."""
    claims = {"iss": identity.keys[key_id].team_id, "iat": int(time.time() - age_s)}
    head = {"kid": changes.pop("kid", key_id)}
    claims.update(changes)
    return "bearer " + jwt.encode(claims, identity.pem(key_id), algorithm="ES256", headers=head)


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory) -> Path:
    """One identity for all tests: keys cost time to make."""
    directory = tmp_path_factory.mktemp("simulator")
    Identity(directory, KEYS)
    return directory


@pytest_asyncio.fixture
async def make_simulator(state_dir):
    """Starts simulators that end with the test."""
    started: list[Simulator] = []

    async def make(**options: Any) -> Simulator:
        simulator = Simulator(state_dir, keys=KEYS, **options)
        await simulator.start()
        started.append(simulator)
        return simulator

    yield make
    for simulator in started:
        await simulator.stop()


@pytest_asyncio.fixture
async def simulator(make_simulator) -> Simulator:
    return await make_simulator()


@asynccontextmanager
async def connected(
    simulator: Simulator, *, sandbox: bool = False, start: bool = True, authorization: str | None = ""
) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=str(simulator.ca_file))
    context.set_alpn_protocols(["h2"])
    if authorization == "":
        authorization = bearer(simulator.identity)
    port = simulator.sandbox_port if sandbox else simulator.port
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(
        lambda: Client(authorization), "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    try:
        if start:
            client.start()
        yield client
    finally:
        transport.abort()


@pytest.fixture
def connect():
    return connected


@pytest.fixture(name="bearer")
def bearer_fixture(simulator):
    def make(key_id: str = "SIMKEY0001", **options: Any) -> str:
        return bearer(simulator.identity, key_id, **options)

    return make
