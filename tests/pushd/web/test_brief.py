"""Requests that repeat themselves take a shorter way, and nobody can tell."""

import asyncio
import json

import pytest

from pushd.errors import ConflictError
from pushd.web import brief
from pushd.web.answer import Answer

from .conftest import GET

pytestmark = pytest.mark.asyncio


def post(body: bytes, *headers: str) -> bytes:
    lines = [
        "POST /swallow HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        *headers,
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
def begun(monkeypatch) -> list[bytes]:
    """The bodies of the requests that went the short way."""
    seen = []
    made = brief.BriefIncoming.__init__

    def note(self, message, body, connection):
        seen.append(body)
        made(self, message, body, connection)

    monkeypatch.setattr(brief.BriefIncoming, "__init__", note)
    return seen


async def test_a_head_that_came_before_is_not_parsed_again(serve, connect, begun):
    async with serve() as server, connect(server.port) as one, connect(server.port) as two:
        answers = []
        for wire, body in ((one, b"12"), (one, b"34"), (two, b"56"), (two, b"7"), (one, b"8"), (one, b"")):
            wire.write(post(body))
            answers.append((await wire.answer())[::2])
        assert answers == [(200, b"2"), (200, b"2"), (200, b"2"), (200, b"1"), (200, b"1"), (200, b"0")]
        assert begun == [b"34", b"56", b"8"]


async def test_heads_that_say_more_are_always_parsed(serve, connect, begun):
    async with serve() as server, connect(server.port) as wire:
        for _ in range(2):
            wire.write(b"POST /swallow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n")
            assert (await wire.answer())[::2] == (200, b"1")
            wire.write(GET.replace(b"GET", b"HEAD"))
            assert (await wire.head())[0] == 200
            wire.write(post(b"12", "Content-Encoding: identity"))
            assert (await wire.answer())[0] == 200
        assert begun in ([], [b"12"])
        for _ in range(2):
            async with connect(server.port) as other:
                other.write(GET.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n"))
                assert (await other.answer())[0] == 200
                assert await other.closed() == b""
        assert begun in ([], [b"12"])


@pytest.mark.parametrize("cut", [1, 20, -3, -1])
async def test_pieces_of_a_known_request_are_one_request(serve, connect, cut):
    async with serve() as server, connect(server.port) as wire:
        for _ in range(3):
            wire.write(post(b"123456"))
            assert (await wire.answer())[2] == b"6"
            wire.write(post(b"123456")[:cut])
            await asyncio.sleep(0.02)
            wire.write(post(b"123456")[cut:])
            assert (await wire.answer())[2] == b"6"


async def test_what_comes_meanwhile_is_answered_after(serve, connect, begun):
    go_on = asyncio.Event()

    async def slow(incoming):
        raw = await incoming.body(types=frozenset({"application/json"}), bytes_max=1000, timeout_s=1)
        if raw == b"2":
            await go_on.wait()
        return Answer(raw)

    async with serve(endpoints=[("POST", "/slow", slow)]) as server, connect(server.port) as wire:
        for body in (b"1", b"2"):
            wire.write(post(body).replace(b"/swallow", b"/slow"))
            await asyncio.sleep(0.02)
        wire.write(post(b"3").replace(b"/swallow", b"/slow") + GET[:9])
        await asyncio.sleep(0.02)
        wire.write(GET[9:] + post(b"4").replace(b"/swallow", b"/slow"))
        await asyncio.sleep(0.02)
        assert begun == [b"2"]
        go_on.set()
        assert [(await wire.answer())[2] for _ in range(5)] == [b"1", b"2", b"3", b'"hello"', b"4"]
        wire.write(post(b"5").replace(b"/swallow", b"/slow"))
        assert (await wire.answer())[2] == b"5"
        assert begun == [b"2", b"5"]


async def test_errors_are_told_the_same_way(serve, connect, begun):
    async def conflict(_):
        raise ConflictError("Taken")

    async with serve(endpoints=[("GET", "/conflict", conflict)]) as server:
        async with connect(server.port) as wire:
            for _ in range(3):
                wire.write(GET.replace(b"/hello", b"/conflict"))
                status, headers, body = await wire.answer()
                assert (status, headers["content-type"]) == (409, "application/problem+json")
                assert json.loads(body)["detail"] == "Taken"
            wire.write(post(b"x" * 1001))
            assert (await wire.answer())[0] == 413
            assert await wire.closed() == b""
        for _ in range(2):
            async with connect(server.port) as wire:
                wire.write(GET.replace(b"/hello", b"/broken"))
                status, headers, body = await wire.answer()
                assert (status, headers["connection"]) == (500, "close")
                assert json.loads(body)["reference"] == headers["x-request-id"]
                assert await wire.closed() == b""
        async with connect(server.port) as wire:
            wire.write(post(b"x" * 1001))
            assert (await wire.answer())[0] == 413
            assert await wire.closed() == b""
    assert len(begun) == 4


async def test_a_stop_waits_for_it_and_a_client_that_leaves_does_no_harm(serve, connect, begun):
    go_on, left = asyncio.Event(), []

    async def slow(incoming):
        if begun:
            await go_on.wait()
            left.append(incoming.transport is None)
        return Answer(b"1")

    request = GET.replace(b"/hello", b"/slow")
    async with serve(endpoints=[("GET", "/slow", slow)]) as server, connect(server.port) as stays:
        stays.write(request)
        assert (await stays.answer())[0] == 200
        async with connect(server.port) as leaves:
            leaves.write(request)
            await asyncio.sleep(0.02)
        stays.write(request)
        await asyncio.sleep(0.02)
        stop = asyncio.create_task(server.stop())
        await asyncio.sleep(0.02)
        assert not stop.done()
        go_on.set()
        assert (await stays.answer())[2] == b"1"
        assert await stays.closed() == b""
        await stop
    assert sorted(left) == [False, True]
    assert len(begun) == 2


async def test_a_stop_does_not_wait_for_it_for_ever(serve, connect, begun):
    ended = []

    async def slow(_):
        if begun:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(1)
        return Answer(b"1")

    request = GET.replace(b"/hello", b"/slow")
    async with serve(endpoints=[("GET", "/slow", slow)], stop_timeout_s=0.1) as server, connect(server.port) as wire:
        wire.write(request)
        assert (await wire.answer())[0] == 200
        wire.write(request)
        await asyncio.sleep(0.02)
        async with asyncio.timeout(60):
            await server.stop()
        assert await wire.closed() == b""
        await asyncio.sleep(0.02)
        assert ended == [1]


async def test_a_long_answer_outlives_the_keep_alive_and_an_idle_connection_does_not(serve, connect, begun):
    async def slow(_):
        await asyncio.sleep(0.5 if begun else 0)
        return Answer(b"1")

    request = GET.replace(b"/hello", b"/slow")
    async with (
        serve(endpoints=[("GET", "/slow", slow)], keepalive_timeout_s=0.2) as server,
        connect(server.port) as wire,
    ):
        for _ in range(2):
            wire.write(request)
            assert (await wire.answer())[2] == b"1"
        assert len(begun) == 1
        assert await wire.closed() == b""


async def test_a_client_that_is_quicker_than_the_turn_after_its_answer_goes_the_short_way(serve, connect, begun):
    class Quick(Answer):
        """Its client has the next request here before aiohttp's handler waits for it."""

        async def write_eof(self):
            await super().write_eof()
            for part in (post(b"22")[:50], post(b"22")[50:]):
                asyncio.get_running_loop().call_soon(self._incoming.protocol.data_received, part)

    async def endpoint(incoming):
        return Quick(b"slow") if incoming.raw_query else Answer(b"brief")

    async with serve(endpoints=[("GET", "/quick", endpoint)]) as server, connect(server.port) as wire:
        wire.write(post(b"11"))
        assert (await wire.answer())[2] == b"2"
        for number in range(3):
            wire.write(GET.replace(b"/hello", b"/quick?%d" % number))  # a head that is new each time
            assert [(await wire.answer())[2] for _ in range(2)] == [b"slow", b"2"]
        assert begun == [b"22"] * 3
