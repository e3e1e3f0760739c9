"""Imports: made, filled with parts, started, read, listed and cancelled; the importer carries them out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from hashlib import sha256

from pushd.commands import channels
from pushd.commands.context import Context
from pushd.commands.import_lines import Head, LineFault, count_lines, cut, names_of
from pushd.commands.text import check_text
from pushd.errors import (
    ConflictError,
    Fault,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    UnavailableError,
)
from pushd.model.imports import Import, ImportPart, ImportReject, ImportState, Job, Subscribe, Unsubscribe, Users
from pushd.store.imports import HEAD_BYTES_MAX

SLICE_LINES = 1_000
"""Lines that are checked at a stretch, some 2 ms: then others have the event loop."""
DIGEST = "Content-Digest"


class InvalidFileError(InvalidRequestError):
    """A file has lines that cannot be: `lines` says which, as far as they were looked at."""

    def __init__(self, lines: Sequence[LineFault]) -> None:
        super().__init__("The file is not valid", faults=[each.fault() for each in lines])
        self.lines = tuple(lines)


async def create(context: Context, app_id: int, job: Job) -> Import:
    """A new import that takes parts. InvalidRequestError, TooManyRequestsError."""
    channel_id = None
    check_text(job)
    if isinstance(job, Subscribe | Unsubscribe):
        found = await context.store.channels.get(app_id, job.channel)
        if found is None:
            raise InvalidRequestError(faults=[Fault("/channel", "is not a channel of the app")])
        channel_id = found.id
    return await context.store.imports.create(app_id, job, channel_id, context.config.imports.open_per_app_max)


async def put_part(
    context: Context, app_id: int, import_id: int, part: int, body: bytes, digest: bytes | None = None
) -> ImportPart:
    """The part, which is stored for good. `digest`: what the sender says its SHA-256 is.

    The same part under the same number is taken again and again. NotFoundError, ConflictError, InvalidRequestError.
    """
    limits = context.config.imports
    if not 0 < part <= limits.parts_max:
        raise InvalidRequestError(faults=[Fault("part", f"is not from 1 to {limits.parts_max}")])
    if len(body) > limits.part_bytes_max:
        raise PayloadTooLargeError(f"A part may have {limits.part_bytes_max} bytes")
    if not body:
        raise InvalidRequestError("A part has at least one line")
    found = sha256(body).digest()
    if digest is not None and digest != found:
        raise InvalidRequestError(faults=[Fault(DIGEST, "is not that of the part as it arrived")])
    if part == 1:
        job = (await get(context, app_id, import_id)).job
        if isinstance(job, Users) and job.format == "csv":
            head = cut(body, 1)[0][0]
            if len(head) > HEAD_BYTES_MAX:
                raise InvalidRequestError(faults=[Fault("/1/1", f"the header is longer than {HEAD_BYTES_MAX:,} bytes")])
            Head(head)
    lines = count_lines(body)
    await context.store.imports.put_part(app_id, import_id, part, lines, found, body)
    return ImportPart(part=part, lines=lines, digest=found.hex())


async def start(context: Context, app_id: int, import_id: int) -> Import:
    """The import, which will be carried out whatever happens. NotFoundError, ConflictError."""
    await context.store.imports.start(app_id, import_id)
    return await get(context, app_id, import_id)


async def get(context: Context, app_id: int, import_id: int) -> Import:
    """The import; NotFoundError."""
    found = await context.store.imports.get(app_id, import_id)
    if found is None:
        raise NotFoundError("There is no such import")
    return found


async def list_page(context: Context, app_id: int, *, before: int, limit: int) -> Sequence[Import]:
    """Imports with ids below `before` (0: all), the newest first."""
    return await context.store.imports.list(app_id, before, limit)


async def parts(context: Context, app_id: int, import_id: int, *, after: int, limit: int) -> Sequence[ImportPart]:
    """Parts that are there and not carried out yet, with numbers above `after`, ascending. NotFoundError."""
    await get(context, app_id, import_id)
    return await context.store.imports.parts(import_id, after, limit)


async def rejects(context: Context, app_id: int, import_id: int, *, after: int, limit: int) -> Sequence[ImportReject]:
    """Lines that came to nothing, as far as they are kept, with numbers above `after`, ascending. NotFoundError."""
    await get(context, app_id, import_id)
    return await context.store.imports.rejects(import_id, after, limit)


async def cancel(context: Context, app_id: int, import_id: int) -> Import:
    """The import, which goes on no more; what was done stays. NotFoundError, ConflictError where it has ended."""
    found = await get(context, app_id, import_id)
    if (
        not await context.store.imports.end(import_id, ImportState.CANCELLED)
        and found.state is not ImportState.CANCELLED
    ):
        raise ConflictError("The import has ended")
    return await get(context, app_id, import_id)


async def subscribers_file(context: Context, app_id: int, channel: str | int, chunks: AsyncIterator[bytes]) -> Import:
    """The import that subscribes the users of a file, which was stored and checked whole: CSV of one column.

    NotFoundError, TooManyRequestsError, PayloadTooLargeError; InvalidFileError with what is wrong, and nothing is kept.
    """
    found = await channels.get(context, app_id, channel)
    made = await context.store.imports.create(
        app_id, Subscribe(channel=found.uuid), found.id, context.config.imports.open_per_app_max
    )
    started = False
    try:
        await _spool(context, app_id, made.id, chunks)
        shown = await start(context, app_id, made.id)
        started = True
        return shown
    finally:
        if not started:
            with suppress(UnavailableError):  # then it is swept when its time is over
                await context.whole(context.store.imports.discard(made.id))


async def _spool(context: Context, app_id: int, import_id: int, chunks: AsyncIterator[bytes]) -> None:
    """Stores a file in parts of whole lines, and checks each of its lines."""
    limits = context.config.imports
    faults: list[LineFault] = []
    part = lines = 0
    async for body in _parts(chunks, limits.part_bytes_max):
        if body is None:
            faults.append(LineFault(lines + 1, 1, f"a line is longer than {limits.part_bytes_max} bytes", ""))
            break
        part += 1
        if part > limits.parts_max:
            raise PayloadTooLargeError(
                f"The file is longer than {limits.parts_max} parts of {limits.part_bytes_max} bytes"
            )
        await _check(lines + 1, body, faults, limits.faults_max)
        if len(faults) >= limits.faults_max:
            break
        if not faults:
            await context.store.imports.put_part(
                app_id, import_id, part, count_lines(body), sha256(body).digest(), body
            )
        lines += count_lines(body)
    if not lines and not faults:
        faults.append(LineFault(1, 1, "the file is empty", ""))
    if faults:
        raise InvalidFileError(faults[: limits.faults_max])


async def _check(first: int, body: bytes, faults: list[LineFault], most: int) -> None:
    """Adds what is wrong with the lines of a part, in slices."""
    rest = body
    while rest and len(faults) < most:
        lines, rest = cut(rest, SLICE_LINES)
        faults += names_of(first, lines).faults
        first += len(lines)
        await asyncio.sleep(0)


async def _parts(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes | None]:
    """Whole lines of at most so many bytes together; None, as the last, where a line is longer."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) > most:
            end = held.rfind(b"\n", 0, most) + 1
            if not end:
                yield None
                return
            yield bytes(held[:end])
            del held[:end]
    if held:
        yield bytes(held)
