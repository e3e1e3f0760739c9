import asyncio
import json
import socket
import time

import pytest
import structlog

from pushd.errors import UnavailableError
from pushd.web.answer import Answer

from .conftest import GET

pytestmark = pytest.mark.asyncio


async def test_an_answer_leaves_in_one_piece_and_the_connection_stays(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        seen = set()
        for _ in range(3):
            wire.write(GET)
            status, headers, body = await wire.answer()
            assert (status, body, headers["content-type"]) == (200, b'"hello"', "application/json")
            assert "connection" not in headers
            assert headers["date"].endswith("GMT")
            seen.add(headers["x-request-id"])
        assert len(seen) == 3


async def test_pipelined_requests_are_answered_in_order(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(GET + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert [(await wire.answer())[0] for _ in range(3)] == [200, 404, 200]


async def test_http_1_0_closes(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(b"GET /hello HTTP/1.0\r\n\r\n")
        status, headers, body = await wire.answer()
        assert (status, headers["connection"], body) == (200, "close", b'"hello"')
        assert await wire.closed() == b""


async def test_who_asks_to_close_is_closed(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(GET.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
        assert (await wire.answer())[1]["connection"] == "close"
        assert await wire.closed() == b""


async def test_head_has_no_body(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(GET.replace(b"GET", b"HEAD"))
        status, headers = await wire.head()
        assert (status, headers["content-length"]) == (200, "7")
        wire.write(GET)
        assert (await wire.answer())[2] == b'"hello"'


async def test_what_is_not_there_is_a_problem(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, body = await wire.answer()
        problem = json.loads(body)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert problem["code"] == "not_found"
        assert problem["type"] == "/pushd/v1/docs#problem-not_found"
        wire.write(b"DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, body = await wire.answer()
        assert (status, headers["allow"], json.loads(body)["code"]) == (405, "GET, HEAD", "method_not_allowed")


async def test_a_bug_shows_a_reference_and_nothing_else(serve, connect):
    with structlog.testing.capture_logs() as logs:
        async with serve() as server, connect(server.port) as wire:
            wire.write(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, body = await wire.answer()
            assert await wire.closed() == b""
    problem = json.loads(body)
    assert (status, problem["code"], headers["connection"]) == (500, "internal", "close")
    assert "secret cause" not in body.decode()
    (line,) = [line for line in logs if line["event"] == "request_failed"]
    assert line["reference"] == problem["reference"] == headers["x-request-id"]
    assert str(line["exc_info"]) == "the secret cause"
    (line,) = [line for line in logs if line["event"] == "request"]
    assert (line["status"], line["code"]) == (500, "internal")


async def test_retryable_errors_say_when(serve, connect):
    async def away(_):
        raise UnavailableError("PostgreSQL is away", retry_after_s=2.2)

    async with serve(endpoints=[("GET", "/away", away)]) as server, connect(server.port) as wire:
        wire.write(b"GET /away HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, body = await wire.answer()
        assert (status, headers["retry-after"], json.loads(body)["detail"]) == (503, "3", "PostgreSQL is away")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 3000 + b"\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 90) for i in range(30)) + b"\r\n",
        b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"a" * 3000,
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["one long", "many", "unfinished", "path"],
)
async def test_headers_are_bounded(serve, connect, request_):
    async with serve(header_bytes_max=2048) as server, connect(server.port) as wire:
        wire.write(request_)
        status, headers, body = await wire.answer()
        assert (status, headers["connection"], json.loads(body)["code"]) == (431, "close", "headers_too_large")


async def test_headers_in_drips_are_bounded(serve, connect):
    async with serve(header_bytes_max=500) as server, connect(server.port) as wire:
        for piece in (
            b"GET /hello HTTP/1.1\r\nHost: x\r\n",
            b"X-One: " + b"a" * 300 + b"\r\n",
            b"X-Two: " + b"a" * 300,
        ):
            wire.write(piece)
            await asyncio.sleep(0.02)
        assert (await wire.answer())[0] == 431


async def test_a_body_that_overtakes_its_handler_is_no_header(serve):
    async def measure(incoming):
        raw = await incoming.body(types=frozenset({"application/json"}), bytes_max=1_000_000, timeout_s=5)
        return Answer(b"%d" % len(raw))

    head = b"POST /measure HTTP/1.1\r\nHost: x\r\nContent-Length: 800000\r\n\r\n"
    async with serve(endpoints=[("POST", "/measure", measure)]) as server:
        with socket.create_connection(("127.0.0.1", server.port), 5) as client:
            for request in (GET, *[head + bytes(800_000)] * 3):
                sending = asyncio.create_task(asyncio.to_thread(client.sendall, request))
                await asyncio.sleep(0.01)
                time.sleep(0.05)  # so that the loop finds all of it at once, and reads several times
                await sending
                answer = await asyncio.to_thread(client.recv, 65_536)
                assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert answer.endswith(b"\r\n\r\n800000")


async def test_slow_headers_are_cut_first_or_later(serve, connect):
    async with (
        serve(header_timeout_s=0.2) as server,
        connect(server.port) as silent,
        connect(server.port) as slow,
        connect(server.port) as later,
    ):
        slow.write(b"GET /hello HTTP/1.1\r\nHo")
        later.write(GET)
        assert (await later.answer())[0] == 200
        later.write(b"GET /hello HT")
        assert [await wire.closed() for wire in (silent, slow, later)] == [b"", b"", b""]


async def test_an_idle_connection_is_kept_beyond_the_header_deadline_and_not_beyond_its_own(serve, connect):
    async with serve(header_timeout_s=0.1, keepalive_timeout_s=0.4) as server, connect(server.port) as wire:
        wire.write(GET)
        assert (await wire.answer())[0] == 200
        await asyncio.sleep(0.2)
        wire.write(GET)
        assert (await wire.answer())[0] == 200
        assert await wire.closed() == b""


async def test_what_is_not_http_is_a_problem(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        status, headers, body = await wire.answer()
        assert (status, headers["content-type"], json.loads(body)["code"]) == (
            400,
            "application/problem+json",
            "invalid_request",
        )
        assert await wire.closed() == b""


async def test_an_address_has_so_many_connections(serve, connect):
    async with serve(connections_per_address_max=2) as server:
        async with connect(server.port) as one, connect(server.port) as two, connect(server.port) as third:
            for wire in (one, two):
                wire.write(GET)
                assert (await wire.answer())[0] == 200
            third.write(GET)  # it is told all the same, though nobody reads this
            status, headers, body = await third.answer()
            assert (status, headers["connection"], headers["retry-after"]) == (429, "close", "1")
            assert json.loads(body)["code"] == "too_many_requests"
            assert await third.closed() == b""
        await asyncio.sleep(0.05)
        async with connect(server.port) as again:
            again.write(GET)
            assert (await again.answer())[0] == 200


async def test_all_together_have_so_many_connections(serve, connect):
    async with serve(connections_max=2, trusted_proxies=["127.0.0.0/8"]) as server:
        async with connect(server.port) as one, connect(server.port) as two, connect(server.port) as third:
            for wire in (one, two):
                wire.write(GET)
                assert (await wire.answer())[0] == 200
            status, headers, body = await third.answer()
            assert (status, headers["connection"], json.loads(body)["code"]) == (503, "close", "unavailable")
        await asyncio.sleep(0.05)
        async with connect(server.port) as again:
            again.write(GET)
            assert (await again.answer())[0] == 200


async def test_trusted_proxies_are_not_counted(serve, connect):
    async with (
        serve(connections_per_address_max=1, trusted_proxies=["127.0.0.0/8"]) as server,
        connect(server.port) as one,
        connect(server.port) as two,
    ):
        for wire in (one, two):
            wire.write(GET)
            assert (await wire.answer())[0] == 200


async def test_behind_a_proxy_the_client_is_who_it_says(serve, connect):
    async def who(incoming):
        return Answer(f"{incoming.client.address} {incoming.client.secure}".encode())

    request = (
        b"GET /who HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n"
    )
    for networks, expected in ((["127.0.0.1"], b"203.0.113.9 True"), ([], b"127.0.0.1 False")):
        async with (
            serve(trusted_proxies=networks, endpoints=[("GET", "/who", who)]) as server,
            connect(server.port) as wire,
        ):
            wire.write(request)
            assert (await wire.answer())[2] == expected


async def test_a_stop_finishes_what_is_being_answered_and_takes_no_more(serve, connect):
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_):
        begun.set()
        await go.wait()
        return Answer(b"done")

    async with (
        serve(endpoints=[("GET", "/slow", slow)]) as server,
        connect(server.port) as wire,
        connect(server.port) as idle,
    ):
        idle.write(GET)
        await idle.answer()
        wire.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        assert await idle.closed() == b""
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", server.port)
        go.set()
        assert (await wire.answer())[2] == b"done"
        await stopping
        assert await wire.closed() == b""


async def test_a_stop_does_not_wait_for_ever(serve, connect):
    begun = asyncio.Event()

    async def endless(_):
        begun.set()
        await asyncio.Event().wait()

    async with (
        serve(stop_timeout_s=0.1, endpoints=[("GET", "/endless", endless)]) as server,
        connect(server.port) as wire,
    ):
        wire.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        async with asyncio.timeout(60):
            await server.stop()
        assert await wire.closed() == b""


async def test_a_client_that_leaves_is_no_error(serve, connect):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def reading(incoming):
        begun.set()
        try:
            await incoming.body(types=frozenset({"application/json"}), bytes_max=1000, timeout_s=5)
        finally:
            ended.set()

    with structlog.testing.capture_logs() as logs:
        async with serve(endpoints=[("POST", "/reading", reading)]) as server:
            async with connect(server.port) as wire:
                wire.write(b"POST /reading HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
                await begun.wait()
            async with asyncio.timeout(60):
                await ended.wait()
    assert not [line for line in logs if line["log_level"] == "error"]
    assert [line["status"] for line in logs if line["event"] == "request"] == [499]


async def test_every_request_has_one_line(serve, connect):
    with structlog.testing.capture_logs() as logs:
        async with serve() as server, connect(server.port) as wire:
            wire.write(GET)
            _, headers, _ = await wire.answer()
            wire.write(b"GET /nobody/anna@example.com HTTP/1.1\r\nHost: x\r\n\r\n")
            await wire.answer()
    first, second = [line for line in logs if line["event"] == "request"]
    assert first["id"] == headers["x-request-id"]
    assert (first["method"], first["route"], first["status"], first["address"]) == ("GET", "/hello", 200, "127.0.0.1")
    assert (second["route"], second["status"], second["code"]) == ("", 404, "not_found")
    assert "anna" not in str(logs)
