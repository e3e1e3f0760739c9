"""NDJSON in, NDJSON out: a stream of lines carried out chunk by chunk, with rejects by line and a summary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from pushd.clock import Clock
from pushd.errors import Fault, InvalidRequestError
from pushd.web.decode import JsonBody
from pushd.web.ndjson import LineReader

T = TypeVar("T")

CHUNK_ROWS = 5_000
"""Lines of one transaction; a progress line follows each."""

CarryOut = Callable[[list[T]], Awaitable[tuple[list[int], dict[int, list[Fault]]]]]
"""Carries out a chunk: ids of the rows that were taken, in order; faults of the others by position."""


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


class Bulk(Struct):
    """Totals of a stream while it is read."""

    lines: int = 0
    accepted: int = 0
    rejected: int = 0

    def progress(self, ids: list[int] | UnsetType) -> BulkProgress:
        """Where the stream stands."""
        return BulkProgress(lines=self.lines, accepted=self.accepted, rejected=self.rejected, ids=ids)


async def carry_out_lines(
    lines: LineReader, body: JsonBody[T], carry_out: CarryOut[T], *, clock: Clock, with_ids: bool
) -> AsyncIterator[BulkLine]:
    """The answer to a stream: rejects and progress chunk by chunk, the summary last."""
    started, total = clock.monotonic(), Bulk()
    async for first, raw in lines.batches(CHUNK_ROWS):
        rows, numbers, rejects = decode(body, raw, first)
        ids, bad = await carry_out(rows) if rows else ([], {})
        rejects += [_reject(numbers[row], fault) for row, faults in bad.items() for fault in faults]
        total.lines = first + len(raw) - 1
        total.accepted += len(ids)
        total.rejected += len({reject.line for reject in rejects})
        for reject in sorted(rejects, key=_line):
            yield reject
        yield total.progress(ids if with_ids else UNSET)
    yield BulkSummary(
        lines=total.lines,
        accepted=total.accepted,
        rejected=total.rejected,
        seconds=round(clock.monotonic() - started, 3),
    )


def decode(body: JsonBody[T], raw: list[bytes], first: int) -> tuple[list[T], list[int], list[BulkReject]]:
    """The rows of raw lines, the line number of each, and the lines that are none; blank lines are passed over."""
    rows: list[T] = []
    numbers: list[int] = []
    rejects: list[BulkReject] = []
    for number, line in enumerate(raw, first):
        if not line or line.isspace():
            continue
        try:
            rows.append(body.decode_line(line))
            numbers.append(number)
        except InvalidRequestError as error:
            rejects += [_reject(number, fault) for fault in error.faults]
    return rows, numbers, rejects


def _reject(number: int, fault: Fault) -> BulkReject:
    return BulkReject(line=number, pointer=fault.pointer, detail=fault.detail)


def _line(reject: BulkReject) -> int:
    return reject.line


def lines_body(type_: Any) -> JsonBody[Any]:
    """The decoder of one line."""
    return JsonBody(type_)
