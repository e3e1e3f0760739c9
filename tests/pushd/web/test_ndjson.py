import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushd.errors import PayloadTooLargeError, RequestTimeoutError
from pushd.web.ndjson import LineReader


class Chunks:
    def __init__(self, *chunks):
        self.chunks = list(chunks)

    async def readany(self):
        while self.chunks and self.chunks[0] == b"":
            self.chunks.pop(0)
        wait, chunk = 0, self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, tuple):
            wait, chunk = chunk
        await asyncio.sleep(wait)
        return chunk


def reader(*chunks, bytes_max=10_000, line_bytes_max=100, idle_s=1.0):
    return LineReader(Chunks(*chunks), bytes_max=bytes_max, line_bytes_max=line_bytes_max, idle_s=idle_s)


async def gather(lines, rows_max=3, linger_s=0.5, into=None):
    got = [] if into is None else into
    async for first, rows in lines.batches(rows_max, linger_s):
        got.append((first, list(rows)))  # what came before an error counts too
    return got


@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=12), st.data(), st.integers(1, 5))
@settings(max_examples=60)
def test_lines_come_in_order_however_the_stream_is_cut(lines, data, rows_max):
    whole = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    batches = asyncio.run(gather(reader(*pieces), rows_max))
    got = [line for _, rows in batches for line in rows]
    while lines and not lines[-1]:
        lines = lines[:-1]
    assert got[: len(lines)] == lines
    assert not any(got[len(lines) :])
    at = 1
    for first, rows in batches:
        assert first == at
        assert 0 < len(rows) <= rows_max
        at += len(rows)


@pytest.mark.asyncio
async def test_a_slow_stream_is_handed_on_without_waiting_for_a_full_batch():
    lines = reader(b"a\nb\nc", (0.15, b"\nd\n"))
    assert await gather(lines, 100, linger_s=0.03) == [(1, [b"a", b"b"]), (3, [b"c", b"d"])]


@pytest.mark.asyncio
async def test_silence_ends_it_after_what_came_before():
    lines, got = reader(b"a\nb", (5, b"\n"), idle_s=0.05), []
    with pytest.raises(RequestTimeoutError):
        await gather(lines, 10, linger_s=1, into=got)
    assert got == [(1, [b"a"])]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("chunks", "limits"),
    [
        ((b"a\nb\n" + b"x" * 60 + b"\nc\n",), {"line_bytes_max": 50}),
        ((b"a\nb\n", b"x" * 30, b"x" * 30), {"line_bytes_max": 50}),
        ((b"a\nb\n", b"cccc\n" * 20), {"bytes_max": 50}),
    ],
    ids=["long line", "long line in pieces", "long stream"],
)
async def test_limits_end_it_after_what_came_before(chunks, limits):
    got = []
    with pytest.raises(PayloadTooLargeError):
        await gather(reader(*chunks, **limits), 10, into=got)
    assert [line for _, rows in got for line in rows] == [b"a", b"b"]


@pytest.mark.asyncio
async def test_leaving_early_leaves_nothing_running():
    lines = reader(b"a\nb\n", (60, b"c\n"), idle_s=100)
    async for _ in lines.batches(10, linger_s=0.01):
        break
    before = len(asyncio.all_tasks())
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= before
