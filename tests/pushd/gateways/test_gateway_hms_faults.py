"""HMS under the faults of the list, as far as HTTP/1.1 has them: a peer that answers by script, octet for octet."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from email.utils import formatdate

import msgspec
import pytest
import structlog

from pushd.batch import Lane
from pushd.config import HmsConfig
from pushd.gateways.hms import HmsGateway
from pushd.outcome import Outcome
from pushd.simulator.faults import Answer, Silence
from pushd.simulator.identity import Identity

from .apns_world import PATIENT, SILENCE_S
from .test_gateway_hms import ROUTE, World, token

pytestmark = pytest.mark.asyncio
OK = b'{"code":"80000000","msg":"Success","requestId":"1"}'


def answer(body=OK, status=b"200 OK", *fields):
    head = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


class Peer:
    """Answers sends by a script; access tokens come from the simulator beside it."""

    def __init__(self, identity, script, host):
        self.identity, self.script, self.host = identity, script, host
        self.connections = self.requests = 0
        self._writers = []

    async def start(self):
        self.server = await asyncio.start_server(self._serve, self.host, 0, ssl=self.identity.tls(("http/1.1",)))
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self):
        self.server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
                self.requests += 1
                await self.script(reader, writer, int(fields[b"content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
def hms(tmp_path):
    """`async with hms(script, **settings) as w`: a gateway whose sends go to a peer that follows a script."""

    @asynccontextmanager
    async def make(script, peer_identity=None, host="127.0.0.1", transport=None, **settings):
        w = World(tmp_path / "hms")
        await w.simulator.start()
        peer = w.peer = Peer(peer_identity or w.identity, script, host)
        await peer.start()
        config = HmsConfig(
            host="localhost" if host == "127.0.0.1" else host,
            port=peer.port,
            oauth_host="localhost",
            oauth_port=w.simulator.port,
            ca_file=str(w.identity.ca_file),
            **{"tokens_per_request": 1, **settings},
        )
        w.gateway = HmsGateway(config, msgspec.structs.replace(PATIENT, **(transport or {})), w, w.clock)
        await w.gateway.start()
        try:
            yield w
        finally:
            await w.gateway.stop(0.3)
            await peer.stop()
            await w.simulator.stop()

    return make


def always(octets):
    async def script(reader, writer, length):
        await reader.readexactly(length)
        writer.write(octets)

    return script


def outcomes(w, batch):
    return Counter(w.gateway.reasons.outcome(code) for code in batch.outcomes.tolist())


async def test_x01_x02_a_peer_that_never_answers_costs_its_rows_and_no_more(hms):
    hangs = True

    async def script(reader, writer, length):
        await reader.readexactly(length)
        if not hangs:
            writer.write(answer())

    async with hms(script, transport={"response_timeout_s": SILENCE_S, "queue_timeout_s": SILENCE_S}) as w:
        batch = await w.send(8)
        assert set(w.reasons(batch)) <= {"response_timeout", "not_written"}
        assert w.reasons(batch)["response_timeout"] >= 4
        assert outcomes(w, batch)[Outcome.LOST] + outcomes(w, batch)[Outcome.UNPROCESSED] == 8
        hangs = False
        assert w.reasons(await w.send(20, 100)) == {"accepted": 20}
        assert w.gateway.room(ROUTE, 1, Lane.BULK) == 8, "nothing is forgotten"


async def test_x06_x09_a_connection_that_ends_after_an_answer_costs_nothing(hms):
    async with hms(always(answer(OK, b"200 OK", b"connection: close"))) as w:
        assert w.reasons(await w.send(30)) == {"accepted": 30}
        assert w.peer.requests == 30


async def test_x07_a_peer_that_hangs_up_at_once_is_not_stormed(hms):
    async def script(reader, writer, length):
        writer.transport.abort()

    async with hms(script) as w:
        batch = await w.send(40)
        assert set(outcomes(w, batch)) <= {Outcome.LOST, Outcome.UNPROCESSED}
        assert w.peer.connections <= 40, "none was repeated on its own account"


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_x10_answers_in_pieces(hms, size):
    body = b'{"code":"80300007","msg":"all","requestId":"%s"}' % (b"9" * 40)

    async def script(reader, writer, length):
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(body), size):
            piece = body[at : at + size]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    async with hms(script) as w:
        assert w.reasons(await w.send(3)) == {"80300007_all_tokens_invalid": 3}


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (answer(b"", b"503 Service Unavailable"), "flow_control"),
        (answer(b"<html><h1>Bad Gateway</h1></html>", b"502 Bad Gateway"), "status_502"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + answer(), "accepted"),
        (
            b"HTTP/1.1 500 Oops\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n",
            "status_500",
        ),
        (answer(b"", b"204 No Content").replace(b"content-length: 0\r\n", b""), "no_answer_of_hms"),
        (answer(OK * 20_000), "status_200_without_code"),
        (b"220 relay.example ESMTP\r\n", "connection_lost"),
    ],
)
async def test_x11_answers_of_every_shape(hms, octets, reason):
    async with hms(always(octets)) as w:
        batch = await w.send(2)
        assert w.reasons(batch) == {reason: 2}
        assert not batch.invalid_since


@pytest.mark.parametrize(
    "request_id", [b"", b'"requestId":"wrong"', b'"requestId":7', b'"requestId":"1","requestId":"2"']
)
async def test_x12_an_answer_belongs_to_its_request_whatever_id_it_names(hms, request_id):
    body = b'{"code":"80000000","msg":"Success"%s}' % (b"," + request_id if request_id else b"")
    async with hms(always(answer(body))) as w:
        assert w.reasons(await w.send(12)) == {"accepted": 12}


async def test_x13_thousands_of_rejections_on_few_connections(hms):
    refusal = answer(b'{"code":"80100003","msg":"no","requestId":"1"}', b"400 Bad Request")
    async with hms(always(refusal)) as w:
        assert w.reasons(await w.send(3_000)) == {"80100003_bad_structure": 3_000}
        assert w.peer.connections <= 4


async def test_x14_a_peer_that_reads_late_is_waited_for(hms):
    async def script(reader, writer, length):
        await asyncio.sleep(0.2)
        await reader.readexactly(length)
        writer.write(answer())

    async with hms(script, tokens_per_request=1_000) as w:
        assert w.reasons(await w.send(4_000)) == {"accepted": 4_000}


async def test_x16_a_200_before_the_body_was_read_is_an_acceptance(hms):
    async def script(reader, writer, length):
        writer.write(answer())
        await reader.readexactly(length)

    async with hms(script, tokens_per_request=1_000) as w:
        assert w.reasons(await w.send(2_000)) == {"accepted": 2_000}


async def test_x17_half_of_the_senders_cancel(hms):
    async def script(reader, writer, length):
        await reader.readexactly(length)
        await asyncio.sleep(0.005)
        writer.write(answer())

    async with hms(script) as w:
        batches = [w.batch(5, 1 + 5 * part) for part in range(30)]
        tasks = [asyncio.create_task(w.gateway.send(batch)) for batch in batches]
        for number, task in enumerate(tasks):
            await asyncio.sleep(0.001)
            if number % 2:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(60):
            while any(batch.pending for batch in batches):
                await asyncio.sleep(0.01)
        assert all(w.reasons(batch) == {"accepted": 5} for batch in batches[::2])
        assert w.reasons(await w.send(3, 9_000)) == {"accepted": 3}
        assert w.gateway.room(ROUTE, 1, Lane.BULK) == 8


@pytest.mark.parametrize("wrong", ["chain", "name", "silent"])
async def test_x18_who_cannot_be_trusted_gets_nothing_and_is_not_stormed(hms, tmp_path, wrong):
    wrongly = {
        "chain": {"peer_identity": Identity(tmp_path / "other")},
        "name": {"host": "127.0.0.2"},  # its certificate is for 127.0.0.1
        "silent": {"transport": {"connect_timeout_s": 0.5, "queue_timeout_s": 1.0}},
    }
    async with hms(always(answer()), **wrongly[wrong]) as w:
        if wrong == "silent":  # listens, and never says a word of TLS
            await w.peer.stop()
            w.peer.server = await asyncio.start_server(lambda *_: asyncio.sleep(5), "127.0.0.1", w.peer.port)
        batch = await w.send(20)
        assert set(outcomes(w, batch)) == {Outcome.UNPROCESSED}
        assert w.peer.requests == 0
        assert w.peer.connections <= 4


async def test_x18_a_name_and_chain_that_fit_are_taken(hms):
    async with hms(always(answer())) as w:
        assert w.reasons(await w.send(2)) == {"accepted": 2}


@pytest.fixture
def simulated(tmp_path):
    @asynccontextmanager
    async def make(**settings):
        w = World(tmp_path / "hms")
        await w.start(**settings)
        try:
            yield w
        finally:
            await w.gateway.stop(0.3)
            await w.simulator.stop()

    return make


@pytest.mark.parametrize(("wall_s", "slept_s"), [(7_200, 0), (-7_200, 0), (0, 5_400)])
async def test_x20_clocks_that_jump(simulated, wall_s, slept_s):
    async with simulated() as w:
        await w.send(1)
        w.clock.wall_s += wall_s
        w.clock.slept_s += slept_s
        with structlog.testing.capture_logs() as logs:
            assert w.reasons(await w.send(20, 10)) == {"accepted": 20}
        assert w.simulator.logins <= 2
        assert sum(line["log_level"] == "error" for line in logs) <= 1


@pytest.mark.parametrize(
    ("form", "seconds"),
    [("0", 0.0), ("5", 5.0), ("86400", 86_400.0), ("-3", 0.0), ("soon", None), ("9" * 20, 86_400.0), ("date", 30.0)],
)
async def test_x24_retry_after_in_every_form(simulated, form, seconds):
    async with simulated() as w:
        told = formatdate(time.time() + 30, usegmt=True) if form == "date" else form
        w.simulator.fault(Answer(status=503, retry_after=told))
        batch = await w.send(3)
        expected = {} if seconds is None else dict.fromkeys(range(3), pytest.approx(seconds, abs=2))
        assert batch.retry_after == expected


async def test_x25_503_on_half_leaves_the_others_alone(simulated):
    async with simulated(tokens_per_request=1) as w:
        await w.send(1)
        w.simulator.fault(Answer(status=503), rate=0.5)
        reasons = w.reasons(await w.send(400, 10))
        assert set(reasons) == {"accepted", "flow_control"}
        assert 100 < reasons["accepted"] < 300


async def test_x26_a_gateway_that_dies_in_the_middle_leaves_no_row_pending_and_none_twice(simulated):
    async with simulated(tokens_per_request=1) as w:
        await w.send(1)
        w.simulator.fault(Silence(), token(300))
        batch = w.batch(500, 10)
        sending = asyncio.create_task(w.gateway.send(batch))
        await asyncio.sleep(0.05)
        await w.gateway.stop(0.0)
        await asyncio.wait_for(sending, 60)
        assert set(outcomes(w, batch)) <= {Outcome.ACCEPTED, Outcome.LOST, Outcome.UNPROCESSED}
        assert outcomes(w, batch)[Outcome.UNPROCESSED] > 0
        assert all(count == 1 for count in w.simulator.arrived.values())
