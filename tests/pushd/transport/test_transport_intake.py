"""What links read: every octet in its order, however it was cut, and no more memory than it takes."""

import asyncio
import tracemalloc

import pytest

from pushd.transport.dial import Dialer
from pushd.transport.intake import READ_BYTES, Intake
from pushd.transport.resolve import SystemResolver
from pushd.transport.tls import client_context
from tests.pushd.transport.far_sides import QUICK, Raw, certificate

RECORDS, RECORD_BYTES = 200, 100


class Reads(Intake):
    """Keeps what it reads."""

    def __init__(self, expected):
        self.expected = expected
        self.heard = []
        self.whole = asyncio.Event()
        self.peak_bytes = 0

    def open(self, transport):
        self.transport = transport

    def data_received(self, data):
        if tracemalloc.is_tracing():
            self.peak_bytes = max(self.peak_bytes, tracemalloc.get_traced_memory()[1])
        self.heard.append(data)
        if sum(map(len, self.heard)) >= self.expected:
            self.whole.set()


async def read_from(tmp_path, pieces, go=None):
    """What a protocol reads of a server that writes these pieces once `go` is set."""
    over = asyncio.Event()

    async def script(reader, writer):
        if go is not None:
            await go.wait()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        await over.wait()

    path = certificate(tmp_path)
    server = Raw(script, path)
    await server.start()
    reads = Reads(sum(map(len, pieces)))
    dialer = Dialer("localhost", server.port, client_context(ca_file=str(path)), SystemResolver(2.0), QUICK)
    try:
        await dialer.dial(reads)
        if go is not None:
            tracemalloc.start()
            go.set()
        await asyncio.wait_for(reads.whole.wait(), 30)
    finally:
        tracemalloc.stop()
        over.set()
        await server.stop()
    reads.transport.abort()
    return reads


@pytest.mark.asyncio
async def test_what_is_larger_than_the_buffer_comes_whole_and_in_order(tmp_path):
    pieces = [bytes([number]) * (READ_BYTES // 2 + 7 * number) for number in range(12)]
    reads = await read_from(tmp_path, pieces)
    assert b"".join(reads.heard) == b"".join(pieces)


@pytest.mark.asyncio
async def test_small_records_take_no_large_memory(tmp_path):
    pieces = [bytes([number % 256]) * RECORD_BYTES for number in range(RECORDS)]
    reads = await read_from(tmp_path, pieces, asyncio.Event())
    assert b"".join(reads.heard) == b"".join(pieces)
    assert all(type(each) is bytes for each in reads.heard)
    assert 0 < reads.peak_bytes < READ_BYTES // 2
