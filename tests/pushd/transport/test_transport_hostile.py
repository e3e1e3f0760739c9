"""Hostile servers, X-27 (T-30 to T-39) and X-28: the link closes, every row has an outcome, nothing spins."""

import asyncio
import resource

import pytest
from structlog.testing import capture_logs

from pushd import outcome
from tests.pushd.transport.far_sides import (
    ACCEPTED_FIRST,
    SETTINGS,
    SETTINGS_ACK,
    frame,
    frames,
    push,
    raw_pool,
)

pytestmark = pytest.mark.asyncio

DATA, HEADERS, RST, SETTING, PROMISE, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
UNPROCESSED_OR_LOST = {
    reason.code
    for reason in (
        outcome.NOT_WRITTEN,
        outcome.REFUSED_STREAM,
        outcome.ABOVE_GOAWAY,
        outcome.NO_CONNECTION,
        outcome.CONNECTION_LOST,
        outcome.RESPONSE_TIMEOUT,
        outcome.STREAM_RESET,
    )
}


def setting(*pairs):
    return frame(SETTING, body=b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


async def hello(reader, writer, first=SETTINGS):
    """The server's half of the opening, after the client's."""
    await reader.read(65_536)
    writer.write(first + SETTINGS_ACK)
    await writer.drain()
    await asyncio.sleep(0.03)


def says(*parts, first=SETTINGS):
    """A script that says these bytes after the opening, then listens."""

    async def script(reader, writer):
        await hello(reader, writer, first)
        for part in parts:
            writer.write(part)
            await writer.drain()
        await reader.read()

    return script


FLOOD = 30_000
ATTACKS = {
    "t01_push": frame(PROMISE, 4, 1, b"\0\0\0\2\x88"),
    "t03_oversize": (20_000).to_bytes(3, "big") + b"\0\0\0\0\0\1" + bytes(64),
    "t12_padding": frame(DATA, 8, 1, b"\xff\0"),
    "t13_even_stream": frame(HEADERS, 5, 2, b"\x88"),
    "t30_continuations": frame(HEADERS, 0, 1, b"\x20") + frame(CONTINUATION, 0, 1) * FLOOD,
    "t31_long_value": frame(HEADERS, 4, 1, b"\x20\x88\x00\x01a\x7f" + b"\xff" * 9 + b"\x7f"),
    "t31_big_list": frame(HEADERS, 0, 1, b"\x20\x88")
    + b"".join(frame(CONTINUATION, 0, 1, b"\x00\x01a\x7f\x81\x7e" + bytes(16_255)) for _ in range(5)),
    "t32_settings": SETTINGS * FLOOD,
    "t32_pings": frame(PING, body=b"12345678") * FLOOD,
    "t32_resets_of_idle_streams": frame(RST, 0, 99, bytes(4)) * FLOOD,
    "t32_empty_data": frame(HEADERS, 4, 1, b"\x20\x88") + frame(DATA, 0, 1) * FLOOD,
    "t32_window_updates": frame(WINDOW, body=b"\0\0\0\1") * FLOOD,
    "t33_flapping": setting((1, 2**32 - 1), (4, 0), (3, 0)) * 6_000 + setting((4, 2**31 - 1), (3, 9)) * 6_000,
    "t33_too_large_window": setting((4, 2**31)),
    "t36_endless_103": frame(HEADERS, 4, 1, b"\x20\x08\x03103") + frame(HEADERS, 4, 1, b"\x08\x03103") * FLOOD,
    "t36_bodies_without_end": frame(HEADERS, 4, 1, b"\x20\x08\x03410") + frame(DATA, 0, 1, bytes(16_384)) * 300,
    "t37_promises": frame(PROMISE, 0, 1, b"\0\0\0\2" + bytes(8_000)) * 50,
    "x28_size_update_missing": frame(HEADERS, 5, 1, b"\x88"),
    "x28_index_62": frame(HEADERS, 5, 1, b"\x20\xbe"),
    "x28_index_0": frame(HEADERS, 5, 1, b"\x20\x80"),
    "x28_late_size_update": frame(HEADERS, 5, 1, b"\x20\x88\x20"),
    "x28_truncated": frame(HEADERS, 5, 1, b"\x20\x08\x03"),
    "t02_settings_length": frame(SETTING, body=b"\0\1\0"),
    "t10_ping_length": frame(PING, body=b"1234"),
    "garbage": b"HTTP/1.1 200 OK\r\n\r\n" * 10,
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_x27_x28_attacks_end_the_link(tmp_path, attack):
    with capture_logs() as logs:
        async with raw_pool(says(ATTACKS[attack]), tmp_path) as (raw, pool):
            batch = await push(pool, 5)
            assert set(batch.outcomes.tolist()) <= UNPROCESSED_OR_LOST
            assert raw.connections <= 12
            await asyncio.sleep(0.25)
            assert pool.outstanding == pool.waiting == 0
    closed = [entry["why"] for entry in logs if entry["event"] == "link_closed"]
    assert closed
    assert "protocol error" in closed[0] or "no answer" in closed[0]


async def test_t02_the_first_frame_must_be_settings(tmp_path):
    async def script(reader, writer):
        await reader.read(65_536)
        writer.write(frame(PING, body=bytes(8)))
        await reader.read()

    async with raw_pool(script, tmp_path) as (_, pool):
        assert set((await push(pool)).outcomes.tolist()) <= UNPROCESSED_OR_LOST


async def test_t34_window_in_single_bytes_meets_the_deadline(tmp_path):
    async def script(reader, writer):
        await hello(reader, writer, setting((4, 0)))
        while True:
            writer.write(frame(WINDOW, 0, 1, b"\0\0\0\1"))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_pool(script, tmp_path) as (_, pool):
        begun = asyncio.get_running_loop().time()
        batch = await push(pool, 1, b"x" * 3_000)
        assert batch.outcomes.tolist() == [outcome.RESPONSE_TIMEOUT.code]
        assert asyncio.get_running_loop().time() - begun < 2


@pytest.mark.parametrize("dribble", [b"", b"\0\0\5\1\5\0", b"\0"])
async def test_t35_slow_loris(tmp_path, dribble):
    async with raw_pool(says(dribble), tmp_path) as (raw, pool):
        batch = await push(pool, 4)
        assert set(batch.outcomes.tolist()) <= UNPROCESSED_OR_LOST
        assert raw.connections <= 4


async def test_t35_one_byte_at_a_time_is_life_but_not_an_answer(tmp_path):
    async def script(reader, writer):
        await hello(reader, writer)
        while True:  # unknown frames, endlessly
            for byte in frame(0x77, 0, 0, b"abcdef"):
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0.01)

    async with raw_pool(script, tmp_path) as (_, pool):
        assert (await push(pool, 1)).outcomes.tolist() == [outcome.RESPONSE_TIMEOUT.code]


async def test_t39_refusing_every_stream_does_not_spin(tmp_path):
    async def script(reader, writer):
        writer.write(SETTINGS + SETTINGS_ACK)
        async for kind, _, stream, _ in frames(reader):
            if kind == HEADERS:
                writer.write(frame(RST, 0, stream, b"\0\0\0\7"))

    async with raw_pool(script, tmp_path) as (raw, pool):
        for _ in range(5):
            assert (await push(pool, 1)).outcomes.tolist() == [outcome.REFUSED_STREAM.code]
        assert raw.connections == 1


async def test_t39_goaway_on_every_accept_is_paced(tmp_path):
    script = says(frame(GOAWAY, body=bytes(8)))
    async with raw_pool(script, tmp_path, connect_backoff_base_s=0.1, connect_backoff_cap_s=5.0) as (raw, pool):
        for _ in range(3):
            assert set((await push(pool, 2)).outcomes.tolist()) <= UNPROCESSED_OR_LOST
        assert raw.connections <= 8


async def test_memory_stays_flat_under_floods(tmp_path):
    flood = frame(PING, body=b"12345678") * FLOOD

    async with raw_pool(says(*[flood] * 5), tmp_path) as (_, pool):
        await push(pool, 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(3):
            await push(pool, 1)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


async def test_x28_stateless_headers_are_given_up_where_the_peer_cannot(tmp_path):
    """RFC 9113 section 4.3.1 warns of such peers: they go on without a table size update."""

    async def script(reader, writer):
        await hello(reader, writer)
        writer.write(frame(HEADERS, 5, 1, b"\x88"))
        await reader.read()

    async with raw_pool(script, tmp_path) as (raw, pool):
        assert (await push(pool, 1)).outcomes.tolist() == [outcome.CONNECTION_LOST.code]
        assert (await push(pool, 1)).outcomes.tolist() == [outcome.ACCEPTED.code]
        assert raw.connections == 2


async def test_a65_what_never_left_is_unprocessed(tmp_path):
    """A server that grants all and reads little: at its end most rows had not left our buffers."""

    async def script(reader, writer):
        await hello(reader, writer, setting((3, 1_000), (4, 2**31 - 1)) + frame(WINDOW, body=b"\x70\0\0\0"))
        writer.write(ACCEPTED_FIRST)
        await writer.drain()
        writer.transport.pause_reading()
        await asyncio.sleep(0.15)
        writer.transport.abort()

    little = {"write_high_water_bytes": 65_536, "write_chunk_bytes": 16_384, "run_bytes_max": 8_000_000}
    async with raw_pool(script, tmp_path, queue_timeout_s=0.3, **little) as (_, pool):
        batch = await push(pool, 1_000, b"x" * 30_000)
        codes = batch.outcomes
        assert set(codes.tolist()) <= {1, outcome.CONNECTION_LOST.code, outcome.NOT_WRITTEN.code, 5}
        first_link = codes[1:900]
        lost = (first_link == outcome.CONNECTION_LOST.code).nonzero()[0]
        not_written = (first_link == outcome.NOT_WRITTEN.code).nonzero()[0]
        assert codes[0] == outcome.ACCEPTED.code
        assert len(lost) > 10
        assert len(not_written) > 10
        assert lost[0] < not_written[0]


async def test_pings_of_the_peer_are_answered(tmp_path):
    seen = []

    async def script(reader, writer):
        writer.write(SETTINGS + SETTINGS_ACK + frame(PING, body=b"abcdefgh"))
        async for kind, flags, _, body in frames(reader):
            seen.append((kind, flags, body))
            if kind == PING:
                writer.write(ACCEPTED_FIRST)

    async with raw_pool(script, tmp_path) as (_, pool):
        assert (await push(pool, 1)).outcomes.tolist() == [outcome.ACCEPTED.code]
    assert (PING, 1, b"abcdefgh") in seen


async def test_t09_we_say_goodbye(tmp_path):
    seen = bytearray()

    async def script(reader, writer):
        await hello(reader, writer)
        writer.write(ACCEPTED_FIRST)
        while data := await reader.read(65_536):
            seen.extend(data)

    async with raw_pool(script, tmp_path, idle_close_s=0.1) as (_, pool):
        assert (await push(pool, 1)).outcomes.tolist() == [outcome.ACCEPTED.code]
        await asyncio.sleep(0.25)
        assert pool.idle
    assert bytes(seen).endswith(frame(GOAWAY, body=bytes(8)))
