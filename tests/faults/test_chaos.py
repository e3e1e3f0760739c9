"""The proxy does to connections what its names say; and pushd lives through it on every link."""

import asyncio
import random
import secrets
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from tests.faults.chaos import Proxy, Weather
from tests.faults.storm import MEMORY_GROWTH_MAX_MB, endure


@asynccontextmanager
async def echoing():
    """A proxy before a server that says everything back, a client's streams, and what the server heard of ends."""
    ended = asyncio.Event()

    async def echo(reader, writer):
        try:
            while data := await reader.read(1_000):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
            ended.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname(), random.Random(7))
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
        yield proxy, reader, writer, ended
    finally:
        writer.close()
        await proxy.stop()
        server.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("weather", "size", "least_s"),
    [
        (Weather(), 1_000_000, 0.0),
        (Weather(latency_s=0.1, jitter_s=0.05), 100_000, 0.2),
        (Weather(slice_max=1), 3_000, 0.0),
        (Weather(slice_max=1_400), 100_000, 0.0),
        (Weather(bytes_per_s=100_000), 20_000, 0.2),
    ],
)
async def test_the_proxy_carries_every_byte_in_order_and_as_late_as_told(weather, size, least_s):
    async with echoing() as (proxy, reader, writer, _):
        proxy.weather = weather
        sent, begun = random.Random(1).randbytes(size), monotonic()
        writer.write(sent)
        assert await asyncio.wait_for(reader.readexactly(size), 30) == sent
        assert monotonic() - begun >= least_s


@pytest.mark.asyncio
async def test_an_end_is_passed_on():
    async with echoing() as (_, reader, writer, ended):
        writer.write(b"the last")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 5) == b"the last"
        await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.asyncio
async def test_a_reset_is_heard_on_both_sides():
    async with echoing() as (proxy, reader, _, ended):
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)
        await asyncio.wait_for(ended.wait(), 5)
        assert proxy.struck == 1


@pytest.mark.asyncio
async def test_a_half_open_connection_takes_everything_and_says_nothing():
    async with echoing() as (proxy, reader, writer, ended):
        proxy.halve()
        await asyncio.wait_for(ended.wait(), 5)
        writer.write(bytes(100_000))
        await asyncio.wait_for(writer.drain(), 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)


@pytest.mark.asyncio
async def test_silence_holds_bytes_back_and_new_connections_too():
    async with echoing() as (proxy, reader, writer, _):
        async with proxy.silence():
            writer.write(b"held")
            late_reader, late_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            late_writer.write(b"late")
            for each in (reader, late_reader):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(each.read(1), 0.3)
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"held"
        assert await asyncio.wait_for(late_reader.readexactly(4), 5) == b"late"
        late_writer.close()


@pytest.mark.asyncio
async def test_bad_weather_on_every_link_loses_nothing_and_memory_stays_bounded():
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")  # `python -m tests.faults.storm --seed` repeats it
    report = await endure(35, 20_000, seed)
    print(report)
    assert not report["lost"]
    assert all(report["connections_struck"].values())
    assert report["rows_without_an_answer"], "no push was ever cut off: nothing was shown"
    assert report["resident_mb_most"] - report["resident_mb_before"] < MEMORY_GROWTH_MAX_MB
