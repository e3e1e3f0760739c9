"""Real servers over TLS on loopback: nghttpd (Debian's nghttp2-server) and nginx (Debian's nginx)."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocols.http2 import Connection, ConnectionSettings, Field, HeaderPlan, Indexing, Variable
from tests.mortal import mortal

from .pair import Summary, column

DEADLINE_S = 20.0
"""For a server to start, and for a whole conversation."""
PLAN = HeaderPlan(
    (
        Field(b":method", b"POST"),
        Field(b":scheme", b"https"),
        Field(b":authority", b"localhost"),
        Variable(b":path", Indexing.WITHOUT, b"/3/device/"),
        Field(b"authorization", b"bearer " + b"J" * 180, Indexing.WITHOUT),
        Field(b"apns-topic", b"com.example.app"),
        Variable(b"apns-id"),
    )
)
KNOWN, UNKNOWN = b"%08x" % 1, b"%08x" % 2
NGINX = """
daemon off;
master_process off;
pid {base}/nginx.pid;
error_log {base}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {base}/body;
    proxy_temp_path {base}/proxy;
    fastcgi_temp_path {base}/fastcgi;
    uwsgi_temp_path {base}/uwsgi;
    scgi_temp_path {base}/scgi;
    keepalive_requests 1000000;
    http2_max_concurrent_streams 128;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {base}/cert.pem;
        ssl_certificate_key {base}/key.pem;
        location /3/device/00000001 {{ return 200; }}
        location / {{ default_type application/json; return 410 '{{"reason":"Unregistered"}}'; }}
    }}
}}
"""


def binary(name: str) -> str:
    """Where a server's binary is; the test fails, and says why, if it is nowhere."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install nghttp2-server nginx")
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A directory with a self-signed certificate and a document root with one device."""
    path = tmp_path_factory.mktemp("interop")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (path / "key.pem").write_bytes(pem)
    (path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (path / "3" / "device").mkdir(parents=True)
    (path / "3" / "device" / KNOWN.decode()).write_bytes(b"")
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(command: list[str], port: int):
    """The port of a server that accepts connections; the process is ended by its id."""
    process = subprocess.Popen(
        mortal(*command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    process.kill()
                    pytest.fail(f"{command[0]} did not start: {process.communicate()[1]!r}")
                time.sleep(0.02)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def nghttpd(base: Path, *options: str):
    port = free_port()
    files = [str(port), str(base / "key.pem"), str(base / "cert.pem")]
    with running([binary("nghttpd"), "-a", "127.0.0.1", "-d", str(base), *options, *files], port):
        yield port


@contextmanager
def nginx(base: Path):
    port = free_port()
    (base / "nginx.conf").write_text(NGINX.format(base=base, port=port))
    command = [binary("nginx"), "-p", str(base), "-e", str(base / "error.log"), "-c", str(base / "nginx.conf")]
    with running(command, port):
        yield port


class Talk:
    """A blocking client over TLS."""

    def __init__(self, base: Path, port: int, settings: ConnectionSettings) -> None:
        context = ssl.create_default_context(cafile=base / "cert.pem")
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        assert self.socket.selected_alpn_protocol() == "h2"
        self.client = Connection(settings)
        self.summary = Summary()
        self.until = time.monotonic() + DEADLINE_S
        self.client.initiate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def turn(self) -> None:
        """Sends what is to be sent, and reads once."""
        assert time.monotonic() < self.until, "no end in time"
        self.flush()
        octets = self.socket.recv(65_536)
        assert octets, "closed by the server"
        self.summary.add(self.client.receive(octets))
        self.flush()

    def flush(self) -> None:
        octets = self.client.data_to_send()
        if octets:
            self.socket.sendall(octets)

    def send(self, tokens: list[bytes], body: bytes, *, uniform: bool = True) -> None:
        """Sends a request for each token as room allows, and reads every answer."""
        at = 0
        while at < len(tokens) or self.client.open_streams:
            rows = min(self.client.room(len(body)), len(tokens) - at)
            assert self.client.open_streams + rows <= self.client.stream_limit
            if rows:
                some = tokens[at : at + rows]
                ids = [b"%036d" % number for number in range(at, at + rows)]
                if uniform:
                    self.client.request_uniform(PLAN, [column(some), column(ids)], body, at)
                else:
                    self.client.request_each(PLAN, list(zip(some, ids, strict=True)), body, at)
                at += rows
            self.turn()


def converse(
    base: Path, port: int, settings: ConnectionSettings, body: bytes = b'{"aps":{}}'
) -> tuple[Talk, list[bytes]]:
    """Some hundred requests, known and unknown devices mixed, in both ways of asking."""
    tokens = [KNOWN] * 300 + [UNKNOWN if row % 3 else KNOWN for row in range(60)] + [KNOWN] * 100
    with Talk(base, port, settings) as talk:
        talk.send(tokens, body)
        talk.send(tokens, body, uniform=False)
        talk.client.ping(b"farewell")
        while not talk.summary.ping_acks:
            talk.turn()
        talk.client.close()
        talk.flush()
    assert talk.client.settings_acknowledged
    assert talk.client._responses.decoder.stateless == settings.header_table_size_zero
    assert (talk.client.open_streams, talk.summary.resets, talk.summary.goaways) == (0, {}, [])
    return talk, tokens * 2


@pytest.mark.parametrize("zero", [True, False])
def test_nginx(base, zero):
    with nginx(base) as port:
        talk, tokens = converse(base, port, ConnectionSettings(header_table_size_zero=zero))
    assert talk.client.stream_limit == 128
    statuses = talk.summary.statuses
    assert [statuses[1 + 2 * row] for row in range(len(tokens))] == [200 if t == KNOWN else 410 for t in tokens]
    assert set(talk.summary.bodies.values()) == {b'{"reason":"Unregistered"}'}
    assert len(talk.summary.bodies) == tokens.count(UNKNOWN)


OPTIONS = {
    "plain": [],
    "padding": ["-b", "100"],
    "early response": ["--early-response"],
    "trailers": ["--trailer", "x-sum: 1"],
    "no request table": ["-c", "0"],
    "small request table": ["-c", "100"],
    "small windows": ["-w", "8", "-W", "12"],
    "no response table": ["--encoder-header-table-size", "0"],
    "few streams": ["-m", "3"],
}


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_nghttpd(base, options, zero):
    limit = [] if "-m" in options else ["-m", "200"]
    with nghttpd(base, *limit, *options) as port:
        talk, tokens = converse(base, port, ConnectionSettings(header_table_size_zero=zero), b"p" * 1_500)
    statuses = talk.summary.statuses
    assert [statuses[1 + 2 * row] for row in range(len(tokens))] == [200 if t == KNOWN else 404 for t in tokens]
    assert len(talk.summary.bodies) == tokens.count(UNKNOWN)
    assert all(b"404" in body for body in talk.summary.bodies.values())
