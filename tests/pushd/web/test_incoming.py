import asyncio
import gzip
import json
import zlib

import pytest

pytestmark = pytest.mark.asyncio


def post(headers, body=b"", path=b"/swallow"):
    return b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n" + body


def sized(body, more=b""):
    return post(b"Content-Length: %d%s" % (len(body), more), body)


async def code(wire):
    status, headers, body = await wire.answer()
    return status, json.loads(body)["code"], headers.get("connection")


async def test_a_body_comes_whole_or_in_pieces(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(sized(b"x" * 10))
        assert (await wire.answer())[2] == b"10"
        wire.write(sized(b"x" * 10)[:-5])
        await asyncio.sleep(0.05)
        wire.write(b"xxxxx")
        assert (await wire.answer())[2] == b"10"
        wire.write(post(b"Transfer-Encoding: chunked", b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"))
        assert (await wire.answer())[2] == b"7"
        wire.write(post(b"Content-Length: 0"))
        assert (await wire.answer())[2] == b"0"


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(post(b"Content-Length: 1001"))
        assert await code(wire) == (413, "payload_too_large", "close")
        assert await wire.closed() == b""


async def test_a_body_that_turns_out_too_large(serve, connect):
    async with serve() as server:
        for pieces in (1, 30):
            async with connect(server.port) as wire:
                wire.write(post(b"Transfer-Encoding: chunked"))
                for _ in range(pieces):
                    wire.write(b"%x\r\n%s\r\n" % (1200 // pieces, b"x" * (1200 // pieces)))
                    await asyncio.sleep(0)
                assert await code(wire) == (413, "payload_too_large", "close")


async def test_a_slow_body_is_cut(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(post(b"Content-Length: 100", b"x"))

        async def drip():
            for _ in range(40):
                wire.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        started = asyncio.get_running_loop().time()
        assert await code(wire) == (408, "request_timeout", "close")
        await wire.closed()
        assert asyncio.get_running_loop().time() - started < 2
        dripping.cancel()


async def test_compressed_bodies_count_inflated(serve, connect):
    async with serve() as server:
        async with connect(server.port) as wire:
            wire.write(sized(gzip.compress(b"x" * 500), b"\r\nContent-Encoding: gzip"))
            assert (await wire.answer())[2] == b"500"
            wire.write(sized(zlib.compress(b"x" * 500), b"\r\nContent-Encoding: deflate"))
            assert (await wire.answer())[2] == b"500"
        bomb = gzip.compress(b"\0" * 50_000_000)
        async with connect(server.port) as wire:
            wire.write(post(b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip"))
            wire.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(bomb), bomb))
            assert await code(wire) == (413, "payload_too_large", "close")
        async with connect(server.port) as wire:
            wire.write(sized(b"this is no gzip", b"\r\nContent-Encoding: gzip"))
            assert (await wire.answer())[0] == 400


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"application/json", 200),
        (b"application/json; charset=utf-8", 200),
        (b'Application/JSON;charset="UTF-8"', 200),
        (b"application/json; charset=latin-1", 415),
        (b"application/x-www-form-urlencoded", 415),
        (b"text/plain", 415),
    ],
)
async def test_content_types(serve, connect, content_type, status):
    async with serve() as server, connect(server.port) as wire:
        wire.write(sized(b"{}", b"\r\nContent-Type: " + content_type))
        got, _, body = await wire.answer()
        assert got == status
        if status == 415:
            assert json.loads(body)["code"] == "unsupported_media_type"


async def test_who_asks_before_sending_is_told_to_go_on(serve, connect):
    async with serve() as server, connect(server.port) as wire:
        wire.write(post(b"Content-Length: 3\r\nExpect: 100-continue"))
        assert (await wire.head())[0] == 100
        wire.write(b"abc")
        assert (await wire.answer())[2] == b"3"
        wire.write(post(b"Content-Length: 3000\r\nExpect: 100-continue"))
        assert await code(wire) == (413, "payload_too_large", "close")
