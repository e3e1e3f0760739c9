"""Far sides that the simulator is too polite to play: servers that speak raw bytes over TLS, and stub exchanges."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from contextlib import asynccontextmanager

import msgspec
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.http2 import ConnectionSettings, Field, HeaderPlan, Variable
from pushd.batch import Batch, Lane, Rendered
from pushd.config import TransportConfig
from pushd.model.device import Environment, Kind, Route
from pushd.transport.dial import Dialer
from pushd.transport.exchange import Advice
from pushd.transport.pool import Pool
from pushd.transport.queue import Load
from pushd.transport.resolve import SystemResolver
from pushd.transport.tls import client_context

QUICK = TransportConfig(
    resolve_timeout_s=2.0,
    connect_timeout_s=1.5,
    settings_timeout_s=1.0,
    response_timeout_s=1.5,
    ping_after_s=0.5,
    ping_timeout_s=0.5,
    drain_timeout_s=0.3,
    window_timeout_s=0.3,
    queue_timeout_s=0.7,
    close_timeout_s=0.2,
    connect_backoff_base_s=0.05,
    connect_backoff_cap_s=0.2,
    connects_per_minute_max=1_000,
)

PLAN = HeaderPlan(
    (
        Field(b":method", b"POST"),
        Field(b":scheme", b"https"),
        Variable(b":path", prefix=b"/3/device/"),
        Field(b":authority", b"localhost"),
    )
)

SETTINGS = bytes.fromhex("000000040000000000")
SETTINGS_ACK = bytes.fromhex("000000040100000000")


ACCEPTED_FIRST = bytes.fromhex("0000020105000000012088")
"""`:status 200` on stream 1, behind the table size update that our SETTINGS demand of the first block."""


def frame(kind, flags=0, stream=0, body=b""):
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


async def frames(reader):
    """The client's frames as (type, flags, stream, body), after its preface."""
    await reader.readexactly(24)
    while True:
        head = await reader.readexactly(9)
        body = await reader.readexactly(int.from_bytes(head[:3], "big"))
        yield head[3], head[4], int.from_bytes(head[5:], "big"), body


def certificate(directory, *, names=("localhost",), days=10, label="server"):
    """A self-signed certificate, as (file with certificate and key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, label)])
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    alternatives = [x509.DNSName(each) for each in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] * (
        "localhost" in names
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - dt.timedelta(days=30))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{label}.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return path


class Raw:
    """A TLS server whose connections run a script over (reader, writer), and what it saw."""

    def __init__(self, script, path, alpn=("h2",)):
        self.script = script
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(path)
        if alpn:
            self.context.set_alpn_protocols(list(alpn))
        self.connections = 0
        self.tasks = set()

    async def _serve(self, reader, writer):
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def start(self, plain=False):
        tls = None if plain else self.context
        extra = {} if plain else {"ssl_shutdown_timeout": 0.2}
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, **extra)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class PlainExchange:
    """The least a gateway can be: one path per row, 200 is accepted, anything else rejected with code 200."""

    def __init__(self, stateless=True, settings=None):
        self.settings = settings or ConnectionSettings(header_table_size_zero=stateless)
        self.proven = False
        self.refusal = 0

    def condition(self):
        return Advice.KEEP

    def room(self, outstanding):
        return 1 << 30

    def encode(self, connection, flight, rows):
        batch = flight.load.sending.batch
        tokens = batch.tokens[flight.load.rows[flight.start : flight.start + rows]]
        octets = np.ascontiguousarray(tokens).view(np.uint8).reshape(rows, -1)
        return connection.request_uniform(PLAN, [octets], batch.payloads.payload, flight)

    def classify(self, answers, received):
        self.proven = True
        answers.run.tag.settle(answers.rows, np.where(answers.statuses == 200, 1, 200).astype(np.uint8))
        return Advice.KEEP

    def goaway(self, goaway):
        return Advice.REPLACE

    def unanswered(self):
        return Advice.KEEP


def batch_of(rows, body=b"{}"):
    return Batch(
        route=Route(1, Kind.APNS, Environment.PRODUCTION, "com.example.app"),
        credential_id=1,
        lane=Lane.BULK,
        ids=np.arange(1, rows + 1, dtype=np.uint32),
        tokens=np.array([f"{number:064x}" for number in range(rows)], "S64"),
        revisions=np.ones(rows, np.int32),
        notifications=1,
        payloads=Rendered(payload=body),
    )


def loads(sending):
    batch = sending.batch
    yield Load(sending, np.arange(len(batch)), None, len(batch.payloads.payload), uniform=True)


def pool_to(port, ca_file, *, host="localhost", resolver=None, links=1, exchange=PlainExchange, **settings):
    config = msgspec.structs.replace(QUICK, **settings)
    dialer = Dialer(host, port, client_context(str(ca_file)), resolver or SystemResolver(2.0), config)
    return Pool("far side", dialer, exchange, links, config)


@asynccontextmanager
async def raw_pool(script, tmp_path, *, alpn=("h2",), plain=False, server_names=("localhost",), days=10, **rest):
    """A raw server that runs `script` per connection, and a pool that dials it."""
    path = certificate(tmp_path, names=server_names, days=days)
    raw = Raw(script, path, alpn)
    await raw.start(plain)
    pool = pool_to(raw.port, path, **rest)
    try:
        yield raw, pool
    finally:
        await pool.stop(0.1)
        await raw.stop()


async def push(pool, rows=3, body=b"{}"):
    """The batch after the pool sent it."""
    batch = batch_of(rows, body)
    await asyncio.wait_for(pool.send(batch, loads), 60)
    assert not batch.pending
    return batch
