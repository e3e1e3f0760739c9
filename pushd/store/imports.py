"""Imports in the store: spooled in parts, carried out by one node at a time, chunk by chunk, each with its progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID

from pushd.clock import Clock
from pushd.errors import ConflictError, Fault, NotFoundError, TooManyRequestsError
from pushd.model.device import Kind
from pushd.model.imports import Import, ImportPart, ImportReject, ImportState, Job
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.names import KINDS
from pushd.store.resume import Absences
from pushd.store.times import moment, seconds, seconds_or_none

_COLUMNS = """id, app_id, job, channel_id, state, head, parts, lines, done, rejected, failure, created_at, started_at,
    finished_at"""
_CREATE = f"SELECT {_COLUMNS} FROM create_import($1, $2, $3, $4, $5)"  # noqa: S608  # constants
_GET = f"SELECT {_COLUMNS} FROM imports WHERE app_id = $1 AND id = $2"  # noqa: S608  # constants
_LIST = f"SELECT {_COLUMNS} FROM imports WHERE app_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"  # noqa: S608  # constants
_MINE = f"SELECT {_COLUMNS} FROM imports WHERE node_id = $1 AND state = 'running' ORDER BY id"  # noqa: S608  # constants
_PARTS = "SELECT part, lines, digest FROM import_parts WHERE import_id = $1 AND part > $2 ORDER BY part LIMIT $3"
_PART = """
SELECT p.part, p.lines, p.body, i.lines + 1 - (SELECT sum(lines)::int FROM import_parts WHERE import_id = $1) AS first
FROM import_parts p JOIN imports i ON i.id = p.import_id WHERE p.import_id = $1 ORDER BY p.part LIMIT 1
"""
"""What was carried out is gone: the lines that are left end where the file does."""
_REJECTS = "SELECT line, value, reason FROM import_rejects WHERE import_id = $1 AND line > $2 ORDER BY line LIMIT $3"
_KNOWN_USERS = "SELECT external_id FROM users WHERE app_id = $1 AND external_id = ANY($2) AND deleted_at IS NULL"
_KNOWN_INSTALLS = """
SELECT i.name, u.external_id,
    array(SELECT d.kind FROM devices d WHERE d.install = i.id AND d.deleted_at IS NULL) AS kinds
FROM installs i LEFT JOIN users u ON u.id = i.user_id WHERE i.app_id = $1 AND i.name = ANY($2)
"""
_KNOWN_ADDRESSES = """
SELECT d.address, d.kind, i.name FROM devices d JOIN installs i ON i.id = d.install
WHERE d.app_id = $1 AND d.address = ANY($2)
"""
_ABSENT = """
SELECT r.node_id AS id, coalesce(n.name, '') AS name, n.fenced_at IS NOT NULL OR n.id IS NULL AS gone
FROM (SELECT DISTINCT node_id FROM imports WHERE state = 'running' AND node_id <> $1) r
    LEFT JOIN nodes n ON n.id = r.node_id
WHERE NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.classid = 7002 AND l.objid = r.node_id
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

HEAD_BYTES_MAX = 65_536
"""Of the first line of a file that are kept for its other parts: a header."""

_job: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An import that this node carries out, as it stood when it was looked at."""

    id: int
    app_id: int
    job: Job
    channel_id: int
    head: bytes
    """The first line of the file."""
    done: int


class Spooled(NamedTuple):
    """The first part that is not carried out as a whole."""

    part: int
    first: int
    """Number of its first line in the file, from 1."""
    lines: int
    body: bytes


class Rejects(NamedTuple):
    """Lines of a chunk that came to nothing, one entry for each, ascending."""

    numbers: Sequence[int]
    values: Sequence[str]
    reasons: Sequence[str]


class Known(NamedTuple):
    """Which of some names are there."""

    users: AbstractSet[str]
    installs: Mapping[str, str | None]
    """Those that are there, and whose they are."""
    devices: AbstractSet[tuple[str, Kind]]
    """Installs and the kinds of their devices."""
    addresses: Mapping[bytes, tuple[str, Kind]]
    """The install and kind of the device that has an address."""


class ImportStore:
    """Imports of every app."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._absences = Absences(database.config.node_grace_s)
        self.started = asyncio.Event()
        """Set when there may be something to carry out."""

    async def create(self, app_id: int, job: Job, channel_id: int | None, most: int) -> Import:
        """A new import that takes parts. NotFoundError; TooManyRequestsError where `most` are not finished."""
        text = msgspec.json.encode(job).decode()
        try:
            row = await self._database.fetchrow(_CREATE, moment(self._clock.now()), app_id, text, channel_id, most)
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        if row is None:
            retry_after_s = self._database.config.retry_after_s
            detail = f"The app has {most} imports that are not finished, as many as it may have"
            raise TooManyRequestsError(detail, retry_after_s=retry_after_s)
        return _import(row)

    async def put_part(self, app_id: int, import_id: int, part: int, lines: int, digest: bytes, body: bytes) -> None:
        """Nothing, once the part is stored: the same one again is too. NotFoundError, ConflictError."""
        head = body[: body.find(b"\n") + 1 or HEAD_BYTES_MAX][:HEAD_BYTES_MAX] if part == 1 else b""
        became = await self._database.fetchval(
            "SELECT put_import_part($1, $2, $3, $4, $5, $6, $7, $8)",
            *(moment(self._clock.now()), app_id, import_id, part, lines, digest, body, head),
        )
        _judge(became)

    async def start(self, app_id: int, import_id: int) -> None:
        """Nothing, once the import waits for its turn, or had it. NotFoundError, ConflictError."""
        _judge(
            await self._database.fetchval(
                "SELECT start_import($1, $2, $3)", moment(self._clock.now()), app_id, import_id
            )
        )
        self.started.set()

    async def get(self, app_id: int, import_id: int) -> Import | None:
        """The import; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, import_id)
        return None if row is None else _import(row)

    async def list(self, app_id: int, before: int, limit: int) -> Sequence[Import]:
        """Imports with ids below `before` (0: all), the newest first."""
        return [_import(row) for row in await self._database.fetch(_LIST, app_id, before or 2**31 - 1, limit)]

    async def parts(self, import_id: int, after: int, limit: int) -> Sequence[ImportPart]:
        """Parts that are there still, with numbers above `after`, ascending."""
        rows = await self._database.fetch(_PARTS, import_id, after, limit)
        return [ImportPart(part=row["part"], lines=row["lines"], digest=row["digest"].hex()) for row in rows]

    async def rejects(self, import_id: int, after: int, limit: int) -> Sequence[ImportReject]:
        """Rejected lines with numbers above `after`, ascending."""
        rows = await self._database.fetch(_REJECTS, import_id, after, limit)
        return [ImportReject(line=row["line"], value=row["value"], reason=row["reason"]) for row in rows]

    async def discard(self, import_id: int) -> None:
        """Nothing, once an import that was never started is as if it had not been."""
        await self._database.execute("DELETE FROM imports WHERE id = $1 AND state = 'uploading'", import_id)

    async def end(self, import_id: int, state: ImportState, failure: str | None = None) -> bool:
        """Whether the import had not ended, and has now."""
        return bool(
            await self._database.fetchval(
                "SELECT end_import($1, $2, $3, $4)", moment(self._clock.now()), import_id, state.value, failure
            )
        )

    async def take(self, node_id: int, room: int) -> Sequence[Work]:
        """What this node carries out, at most `room` of it newly taken; what dead nodes had waits for a turn again."""
        absent = await self._database.fetch(_ABSENT, node_id)
        if others := self._absences.over(absent, asyncio.get_running_loop().time()):
            await self._database.fetchval("SELECT claim_imports($1, $2)", node_id, others)
        while room > 0 and await self._database.fetchval("SELECT take_import($1)", node_id) is not None:
            room -= 1
        return [_work(row) for row in await self._database.fetch(_MINE, node_id)]

    async def look(self, node_id: int, import_id: int) -> Work | None:
        """The import as it stands now; None where this node does not carry it out any more."""
        return next(
            (work for work in map(_work, await self._database.fetch(_MINE, node_id)) if work.id == import_id), None
        )

    async def next_part(self, work: Work) -> Spooled | None:
        """The part in which the next line is; None when there is none."""
        row = await self._database.fetchrow(_PART, work.id)
        return None if row is None else Spooled(row["part"], row["first"], row["lines"], row["body"])

    @asynccontextmanager
    async def chunk(self, node_id: int, work: Work, done: int) -> AsyncIterator[Any]:
        """A connection in a transaction that carries out the lines behind `done`, or None where another node may.

        Until it is committed nobody else takes the import; after that nobody carries these lines out again.
        """
        async with self._database.transaction() as connection:
            held = await connection.fetchval("SELECT hold_import($1, $2, $3)", node_id, work.id, done)
            yield connection if held else None

    async def advance(
        self, connection: Any, work: Work, lines: int, ended: int | None, rejects: Rejects, most: int
    ) -> None:
        """Notes in a chunk's transaction that so many lines more are done; `ended`: the part that ends with them."""
        await connection.execute(
            "SELECT advance_import($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *(moment(self._clock.now()), work.id, lines, ended, len(rejects.numbers)),
            *(list(rejects.numbers), list(rejects.values), list(rejects.reasons), most),
        )

    async def known(
        self, app_id: int, users: Collection[str], installs: Collection[str], addresses: Collection[bytes]
    ) -> Known:
        """Which of these users, installs and addresses (`address_of`) the app has."""
        there = await self._database.fetch(_KNOWN_USERS, app_id, list(users)) if users else ()
        rows = await self._database.fetch(_KNOWN_INSTALLS, app_id, list(installs)) if installs else ()
        named = [UUID(each) for each in addresses]
        taken = await self._database.fetch(_KNOWN_ADDRESSES, app_id, named) if named else ()
        return Known(
            {row["external_id"] for row in there},
            {row["name"]: row["external_id"] for row in rows},
            {(row["name"], KINDS[kind]) for row in rows for kind in row["kinds"]},
            {row["address"].bytes: (row["name"], KINDS[row["kind"]]) for row in taken},
        )

    async def sweep(self, upload_keep_s: float, keep_s: float) -> int:
        """How many imports ended long ago, and are forgotten; uploads that nobody goes on with are cancelled."""
        now = self._clock.now()
        swept = await self._database.fetchval(
            "SELECT sweep_imports($1, $2, $3)", moment(now), moment(now - upload_keep_s), moment(now - keep_s)
        )
        return int(swept)


def _judge(became: str) -> None:
    """Returns when a part was stored, or an import started."""
    if became == "missing":
        raise NotFoundError("There is no such import")
    if became == "closed":
        raise ConflictError("The import takes no more: it was started or has ended")
    if became == "other":
        fault = Fault("part", "was uploaded with other content before")
        raise ConflictError("Another part has this number", faults=[fault])
    if became == "gaps":
        raise ConflictError("The parts have to be numbered from 1 without gaps, and there has to be one")


def _work(row: Any) -> Work:
    return Work(
        id=row["id"],
        app_id=row["app_id"],
        job=_job.decode(row["job"]),
        channel_id=row["channel_id"] or 0,
        head=row["head"],
        done=row["done"],
    )


def _import(row: Any) -> Import:
    return Import(
        id=row["id"],
        job=_job.decode(row["job"]),
        state=ImportState(row["state"]),
        parts=row["parts"],
        lines=row["lines"],
        done=row["done"],
        rejected=row["rejected"],
        failure=row["failure"],
        created_at=seconds(row["created_at"]),
        started_at=seconds_or_none(row["started_at"]),
        finished_at=seconds_or_none(row["finished_at"]),
    )
