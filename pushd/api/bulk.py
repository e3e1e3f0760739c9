"""NDJSON in, NDJSON out: a stream of lines carried out chunk by chunk, with rejects by line and a summary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from pushd.clock import Clock
from pushd.errors import Fault, InvalidRequestError
from pushd.web.decode import JsonBody
from pushd.web.ndjson import LineReader

T = TypeVar("T")

CHUNK_ROWS = 4_000
"""Lines of one transaction; a progress line follows each. More of them would hold the event loop too long at a time."""

Carried = tuple[list[int], dict[int, list[Fault]]]
"""Ids of the rows that were taken, in order; faults of the others by position."""
CarryOut = Callable[[list[T]], Coroutine[Any, Any, Carried]]
"""Carries out a chunk, after those that were begun before it."""


class BulkReject(Struct, frozen=True, kw_only=True, tag="reject", tag_field="type"):
    """A line that was not taken; the others were."""

    line: Annotated[int, Meta(description="Number of the line, from 1.")]
    pointer: Annotated[str, Meta(description="JSON pointer (RFC 6901) into the line.")]
    detail: str


class BulkProgress(Struct, frozen=True, kw_only=True, tag="progress", tag_field="type"):
    """So far, after a chunk was committed: what it counts is stored and can be sent to."""

    lines: Annotated[int, Meta(description="Lines read, blank ones included.")]
    accepted: int
    rejected: int
    ids: (
        Annotated[list[int], Meta(description="With `ids=true`: of this chunk's lines, in order; rejects left out.")]
        | UnsetType
    ) = UNSET


class BulkSummary(Struct, frozen=True, kw_only=True, tag="summary", tag_field="type"):
    """The last line. An answer that ends without it was cut off: what was counted before is stored."""

    lines: int
    accepted: int
    rejected: int
    seconds: float


BulkLine = BulkReject | BulkProgress | BulkSummary


class BulkParams(Struct, frozen=True):
    """Parameters of a bulk operation."""

    ids: Annotated[bool, Meta(description="Whether progress lines carry the numeric ids.")] = False


class Chunk(NamedTuple, Generic[T]):
    """Lines of one transaction, decoded."""

    last: int
    """Number of the last line."""
    rows: list[T]
    numbers: list[int]
    """Line number of each row."""
    rejects: list[BulkReject]


class Bulk(Struct):
    """Totals of a stream while it is read."""

    lines: int = 0
    accepted: int = 0
    rejected: int = 0

    def progress(self, ids: list[int] | UnsetType) -> BulkProgress:
        """Where the stream stands."""
        return BulkProgress(lines=self.lines, accepted=self.accepted, rejected=self.rejected, ids=ids)


class LineType(Generic[T]):
    """How lines of one type are decoded."""

    __slots__ = ("_body", "_quick")

    def __init__(self, type_: Any, *, flat: bool = False) -> None:
        """`flat`: its fields are texts, flags and lists of texts, so that nothing can be deep or a number."""
        self._body: JsonBody[T] = JsonBody(type_)
        self._quick: Callable[[bytes], T] = msgspec.json.Decoder(type_).decode if flat else self._body.decode_line

    def decode(self, first: int, raw: list[bytes]) -> Chunk[T]:
        """The rows of raw lines, and the lines that are none; blank lines are passed over."""
        chunk: Chunk[T] = Chunk(first + len(raw) - 1, [], [], [])
        for number, line in enumerate(raw, first):
            if not line or line.isspace():
                continue
            try:
                chunk.rows.append(self._decode(line))
                chunk.numbers.append(number)
            except InvalidRequestError as error:
                chunk.rejects.extend(_reject(number, fault) for fault in error.faults)
        return chunk

    def _decode(self, line: bytes) -> T:
        try:
            return self._quick(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._body.decode_line(line)  # says what is wrong with it


async def carry_out_lines(
    lines: LineReader,
    line_type: LineType[T],
    carry_out: CarryOut[T],
    *,
    clock: Clock,
    with_ids: bool,
) -> AsyncIterator[BulkLine]:
    """The answer to a stream: rejects and progress chunk by chunk, the summary last.

    While a chunk is committed the next one is read, decoded and begun.
    """
    started, total = clock.monotonic(), Bulk()
    begun: set[asyncio.Future[Carried]] = set()
    try:
        async for chunk, done in _ahead(_begun(lines, line_type, carry_out, begun)):
            ids, bad = await done
            begun.discard(done)
            rejects = chunk.rejects + [_reject(chunk.numbers[row], each) for row in bad for each in bad[row]]
            total.lines = chunk.last
            total.accepted += len(ids)
            total.rejected += len({reject.line for reject in rejects})
            for reject in sorted(rejects, key=_line):
                yield reject
            yield total.progress(ids if with_ids else UNSET)
    finally:
        await asyncio.gather(*begun, return_exceptions=True)
    seconds = round(clock.monotonic() - started, 3)
    yield BulkSummary(lines=total.lines, accepted=total.accepted, rejected=total.rejected, seconds=seconds)


async def _begun(
    lines: LineReader,
    line_type: LineType[T],
    carry_out: CarryOut[T],
    begun: set[asyncio.Future[Carried]],
) -> AsyncIterator[tuple[Chunk[T], asyncio.Future[Carried]]]:
    """Chunks that are being carried out."""
    async for first, raw in lines.batches(CHUNK_ROWS):
        chunk = line_type.decode(first, raw)
        done = asyncio.ensure_future(carry_out(chunk.rows))
        begun.add(done)
        yield chunk, done


async def _ahead(source: AsyncIterator[T]) -> AsyncIterator[T]:
    """The items of a source, each asked for while the one before is in use."""
    coming = asyncio.ensure_future(anext(source, None))
    try:
        while (item := await coming) is not None:
            coming = asyncio.ensure_future(anext(source, None))
            yield item
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _reject(number: int, fault: Fault) -> BulkReject:
    return BulkReject(line=number, pointer=fault.pointer, detail=fault.detail)


def _line(reject: BulkReject) -> int:
    return reject.line
