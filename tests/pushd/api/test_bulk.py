import asyncio

import pytest

from pushd.api.bulk import BulkProgress, BulkReject, BulkSummary, LineType, carry_out_lines
from pushd.clock import SystemClock
from pushd.errors import Fault, UnavailableError
from pushd.model.user import UserChange
from pushd.web.ndjson import LineReader


class Feed:
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = [*chunks]

    async def readany(self) -> bytes:
        await asyncio.sleep(0)
        return self.chunks.pop(0) if self.chunks else b""


def reader(*chunks: bytes) -> LineReader:
    return LineReader(Feed(*chunks), bytes_max=10_000_000, line_bytes_max=10_000, idle_s=5)


class Taker:
    """Takes rows whose external id is not `bad`."""

    def __init__(self) -> None:
        self.chunks: list[list[UserChange]] = []

    async def __call__(self, rows):
        self.chunks.append(rows)
        bad = {at: [Fault("/external_id", "is bad")] for at, row in enumerate(rows) if row.external_id == "bad"}
        return [at for at in range(len(rows)) if at not in bad], bad


async def answers(source: LineReader, take, *, with_ids: bool = False):
    body = LineType(UserChange)
    return [line async for line in carry_out_lines(source, body, take, clock=SystemClock(), with_ids=with_ids)]


@pytest.mark.asyncio
async def test_lines_are_counted_and_rejects_are_numbered():
    take = Taker()
    text = (
        b'{"external_id":"a"}\n\n{"external_id":7}\n{"external_id":"bad"}\nnot json\n'
        b'{"external_id":"b","x":1}\n{"external_id":"c"}'
    )
    lines = await answers(reader(text[:30], text[30:]), take)
    *rejects, progress, summary = lines
    assert [(each.line, each.pointer) for each in rejects if isinstance(each, BulkReject)] == [
        (3, "/external_id"),
        (4, "/external_id"),
        (5, ""),
        (6, "/x"),
    ]
    assert progress == BulkProgress(lines=7, accepted=2, rejected=4)
    assert isinstance(summary, BulkSummary)
    assert (summary.lines, summary.accepted, summary.rejected) == (7, 2, 4)
    assert [row.external_id for row in take.chunks[0]] == ["a", "bad", "c"]


@pytest.mark.asyncio
async def test_chunks_follow_each_other_and_ids_come_when_asked():
    take = Taker()
    text = b"".join(b'{"external_id":"%d"}\n' % number for number in range(12_000))
    lines = await answers(reader(text), take, with_ids=True)
    assert [len(chunk) for chunk in take.chunks] == [4_000, 4_000, 4_000]
    progress = [line for line in lines if isinstance(line, BulkProgress)]
    assert [line.lines for line in progress] == [4_000, 8_000, 12_000]
    assert [len(line.ids) for line in progress] == [4_000, 4_000, 4_000]


@pytest.mark.asyncio
async def test_an_empty_stream_has_a_summary():
    (summary,) = await answers(reader(), Taker())
    assert (summary.lines, summary.accepted, summary.rejected) == (0, 0, 0)


@pytest.mark.asyncio
async def test_trouble_ends_the_answer_with_its_error():
    async def full(rows):
        raise UnavailableError

    with pytest.raises(UnavailableError):
        await answers(reader(b'{"external_id":"a"}\n'), full)


@pytest.mark.asyncio
async def test_a_chunk_is_begun_while_the_one_before_is_carried_out():
    begun, go = [], asyncio.Event()

    async def slow(rows):
        begun.append(len(rows))
        if len(begun) == 2:
            go.set()
        await asyncio.wait_for(go.wait(), 60)
        return list(range(len(rows))), {}

    text = b"".join(b'{"external_id":"%d"}\n' % number for number in range(4_010))
    *_, summary = await answers(reader(text), slow)
    assert (begun, summary.accepted) == ([4_000, 10], 4_010)
