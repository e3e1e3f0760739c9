"""A dry run of an import over HTTP: NDJSON in, what its lines would come to out, and nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from pushd.api.operation import Operation
from pushd.api.request import Request
from pushd.commands.context import Context
from pushd.commands.import_check import Check
from pushd.model.imports import CheckCounts, RecordLine
from pushd.web.caller import Caller
from pushd.web.ndjson import LineReader

CHUNK_ROWS = 2_000
"""Lines that are looked up at once; a line with the counts so far follows."""


class CheckParams(Struct, frozen=True):
    """How lines are to be checked."""

    create_channels: Annotated[bool, Meta(description="Whether channels that are not there would be made.")] = False


class CheckReject(Struct, frozen=True, kw_only=True, tag="reject", tag_field="type"):
    """A line that would come to nothing."""

    line: Annotated[int, Meta(description="Number of the line, from 1.")]
    value: Annotated[str, Meta(description="What the line names, or its beginning.")]
    reason: str


class CheckProgress(CheckCounts, frozen=True, kw_only=True, tag="progress", tag_field="type"):
    """What the lines so far would come to."""


class CheckSummary(CheckCounts, frozen=True, kw_only=True, tag="summary", tag_field="type"):
    """The last line: what all of them would come to."""


CheckLine = CheckReject | CheckProgress | CheckSummary


async def check(context: Context, caller: Caller, request: Request[None, CheckParams]) -> AsyncIterator[CheckLine]:
    """POST /imports/check."""
    return _answer(Check(context, caller.app, request.params.create_channels), request.lines())


async def _answer(whole: Check, lines: LineReader) -> AsyncIterator[CheckLine]:
    counts = CheckCounts()
    async for first, raw in lines.batches(CHUNK_ROWS):
        done = await whole.take(first, raw)
        for each in done.faults:
            yield CheckReject(line=each.line, value=each.value, reason=each.detail)
        counts = done.counts
        yield CheckProgress(**_fields(counts))
    yield CheckSummary(**_fields(counts))


def _fields(counts: CheckCounts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in CheckCounts.__struct_fields__}


OPERATIONS = (
    Operation(
        name="checkImport",
        method="POST",
        path="/imports/check",
        tag="imports",
        summary="Says what an import of records would come to",
        description="A dry run: one record a line (NDJSON), as in an import whose job is `records`. The answer is a "
        "stream: rejects by line, counts after every 2,000 lines, and a summary as its last line. Nothing is written.",
        handler=check,
        params=CheckParams,
        body_lines=RecordLine,
        answer_lines=CheckLine,
        example={"user": {"external_id": "ada"}, "install": {"install_id": "a-1", "subscribe": ["news"]}},
    ),
)
