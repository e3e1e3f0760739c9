"""Dialling: TLS faults (X-18) and DNS faults (X-19), and that none of them makes a storm."""

import asyncio
import socket
import ssl

import pytest
from structlog.testing import capture_logs

from pushd.transport.resolve import Address, SystemResolver
from pushd.transport.tls import client_context
from tests.pushd.transport.far_sides import (
    ACCEPTED_FIRST,
    SETTINGS,
    SETTINGS_ACK,
    Raw,
    batch_of,
    certificate,
    loads,
    pool_to,
    push,
    raw_pool,
)

pytestmark = pytest.mark.asyncio


async def polite(reader, writer):
    """Speaks no HTTP/2 at all; only the handshake matters here."""
    await reader.read(65_536)
    await asyncio.sleep(5)


async def failures(script, tmp_path, **rest):
    """Kinds of failed connects while three rows waited, their code, and how often the server was reached."""
    with capture_logs() as logs:
        async with raw_pool(script, tmp_path, **rest) as (raw, pool):
            batch = await push(pool)
            return (
                {entry["kind"] for entry in logs if entry["event"] == "connect_failed"},
                set(batch.outcomes.tolist()),
                len([entry for entry in logs if entry["event"] == "connect_failed"]),
                raw.connections,
            )


NO_CONNECTION = {5}


async def test_x18_wrong_host(tmp_path):
    kinds, codes, tries, _ = await failures(polite, tmp_path, server_names=("elsewhere.example",))
    assert (kinds, codes) == ({"certificate"}, NO_CONNECTION)
    assert 1 <= tries <= 12


async def test_x18_expired(tmp_path):
    kinds, codes, tries, _ = await failures(polite, tmp_path, days=-1)
    assert (kinds, codes) == ({"certificate"}, NO_CONNECTION)
    assert 1 <= tries <= 12


async def test_x18_unknown_issuer(tmp_path):
    other = certificate(tmp_path, label="other")
    raw = Raw(polite, certificate(tmp_path))
    await raw.start()
    pool = pool_to(raw.port, other)
    with capture_logs() as logs:
        assert set((await push(pool)).outcomes.tolist()) == NO_CONNECTION
    assert {entry["kind"] for entry in logs if entry["event"] == "connect_failed"} == {"certificate"}
    await pool.stop(0.1)
    await raw.stop()


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
async def test_x18_no_h2(tmp_path, alpn):
    kinds, codes, tries, _ = await failures(polite, tmp_path, alpn=alpn)
    assert (kinds, codes) == ({"alpn"}, NO_CONNECTION)
    assert 1 <= tries <= 12


async def test_x18_handshake_stall(tmp_path):
    async def deaf(reader, writer):
        await asyncio.sleep(5)

    kinds, codes, tries, _ = await failures(deaf, tmp_path, plain=True, connect_timeout_s=0.2)
    assert codes == NO_CONNECTION
    assert kinds <= {"tcp", "tls"}
    assert 1 <= tries <= 6


async def test_x18_no_tls_at_all(tmp_path):
    async def chatty(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    kinds, codes, _, _ = await failures(chatty, tmp_path, plain=True)
    assert codes == NO_CONNECTION
    assert kinds == {"tls"}


async def test_x18_a_certificate_demanded_after_the_handshake(tmp_path):
    """TLS 1.3 tells a client that its certificate is missing after the handshake: rows are lost or wait, no storm."""
    path = certificate(tmp_path)
    raw = Raw(polite, path)
    raw.context.verify_mode = ssl.CERT_REQUIRED
    raw.context.load_verify_locations(path)
    await raw.start()
    pool = pool_to(raw.port, path)
    batch = await push(pool)
    assert set(batch.outcomes.tolist()) <= {2, 5, 6}
    await pool.stop(0.1)
    await raw.stop()


async def test_tls_floor_and_alpn():
    context = client_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert names
    assert all(name.startswith("ECDHE-") for name in names)


async def test_nobody_listens(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pool = pool_to(port, certificate(tmp_path))
    with capture_logs() as logs:
        assert set((await push(pool)).outcomes.tolist()) == NO_CONNECTION
    kinds = [entry["kind"] for entry in logs if entry["event"] == "connect_failed"]
    assert set(kinds) == {"tcp"}
    assert len(kinds) <= 12
    await pool.stop(0.1)


class Answers:
    """A resolver that says what it is told, and counts."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return [Address(socket.AF_INET, each, port) for each in answer]


@pytest.mark.parametrize("failure", [socket.gaierror(socket.EAI_NONAME, "unknown"), TimeoutError()])
async def test_x19_no_address(tmp_path, failure):
    resolver = Answers(failure)
    pool = pool_to(1, certificate(tmp_path), resolver=resolver)
    with capture_logs() as logs:
        assert set((await push(pool)).outcomes.tolist()) == NO_CONNECTION
    assert {entry["kind"] for entry in logs if entry["event"] == "connect_failed"} == {"dns"}
    assert 1 <= resolver.asked <= 12
    await pool.stop(0.1)


async def test_x19_a03_the_next_address_is_tried_and_each_connect_asks_anew(tmp_path):
    """One dead address of three; Linux takes any of 127/8, so what refuses is told from what listens."""

    async def accept(reader, writer):
        await reader.read(65_536)
        writer.write(SETTINGS + SETTINGS_ACK)
        await asyncio.sleep(0.05)
        writer.write(ACCEPTED_FIRST)
        await reader.read()

    resolver = Answers(["127.0.0.9", "127.0.0.1", "127.0.0.8"])
    async with raw_pool(accept, tmp_path, resolver=resolver) as (raw, pool):
        assert (await push(pool, 1)).outcomes.tolist() == [1]
        assert (raw.connections, resolver.asked) == (1, 1)


async def test_x19_the_system_resolver_says_so_when_there_is_none():
    with pytest.raises(OSError):
        await SystemResolver(5).resolve("name.invalid", 443)


async def test_x19_the_system_resolver_has_a_deadline():
    with pytest.raises(TimeoutError):
        await SystemResolver(0).resolve("localhost", 443)


async def test_a03_addresses_are_spread():
    seen = set()
    for _ in range(40):
        addresses = await SystemResolver(2).resolve("localhost", 443)
        seen.add(addresses[0].host)
        assert all(address.port == 443 for address in addresses)
    assert seen


async def test_rows_wait_a_bounded_time_for_a_connection(tmp_path):
    resolver = Answers(TimeoutError())
    pool = pool_to(1, certificate(tmp_path), resolver=resolver, queue_timeout_s=0.2)
    begun = asyncio.get_running_loop().time()
    batches = [batch_of(5) for _ in range(3)]
    await asyncio.gather(*(pool.send(batch, loads) for batch in batches))
    assert asyncio.get_running_loop().time() - begun < 1
    assert all(set(batch.outcomes.tolist()) == NO_CONNECTION for batch in batches)
    assert pool.room() <= 32
    await pool.stop(0.1)
