"""The rows of releases that one transaction writes: whom each goes to, who gets nothing, what runs, what is to come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import asyncpg
import structlog

from pushd.bitset import Devices
from pushd.errors import UnavailableError
from pushd.model.device import GatewayName
from pushd.store.database import Database, OutcomeUnknownError
from pushd.store.settlements import run_number
from pushd.store.times import moment, seconds

log = structlog.get_logger(__name__)
Result = TypeVar("Result")
Item = TypeVar("Item")

_STATES = ("waiting", "open", "cancelled")
NO_GATEWAY = GatewayName.APNS.number
"""Stands by outcomes that no gateway had a part in: the common codes mean the same for all."""

_FENCE = "SELECT 1 FROM nodes WHERE id = $1 AND fenced_at IS NULL FOR KEY SHARE"
_BY_INDEX = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_material = off
"""
_TARGETS = """
INSERT INTO targets (notification_id, release, part, count, devices, created_at)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::int[], $5::bytea[], $6::timestamptz[])
"""
_RUNS = """
INSERT INTO runs (notification_id, release, app_id, node_id, created_at, at_most_once, paused_at)
SELECT r.id, r.release, r.app, $1, r.created, r.once, CASE WHEN r.paused THEN $2::timestamptz END
FROM unnest($3::bigint[], $4::int[], $5::int[], $6::timestamptz[], $7::boolean[], $8::boolean[])
    AS r (id, release, app, created, once, paused)
"""
_OUTCOMES = """
INSERT INTO outcomes (notification_id, device_id, code, gateway, at)
SELECT *, $1::int, $2::timestamptz FROM unnest($3::bigint[], $4::int[], $5::smallint[])
"""
_DELTAS = """
INSERT INTO outcome_deltas (notification_id, release, app_id, part, code, count, devices, gateway, at)
SELECT *, $1::int, $2::timestamptz
FROM unnest($3::bigint[], $4::int[], $5::int[], $6::int[], $7::smallint[], $8::int[], $9::bytea[])
"""
_RELEASES = """
INSERT INTO releases (notification_id, number, created_at, at, selector, targeted)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::int[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A release to come, to those whom the selector says, or to devices that are known already."""

    number: int = 0
    """The store's to give, from 1 on."""
    at: float
    """UNIX seconds."""
    selector: bytes | None = None
    """JSON, the scheduler's own."""
    devices: Devices | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRelease:
    """A release as it is kept."""

    number: int
    at: float
    """When it is, or was, due."""
    targeted: int | None
    """None: whom it goes to is known when it is due."""
    state: str
    """waiting, open, cancelled"""


class Head(NamedTuple):
    """Which release of which notification."""

    notification_id: int
    release: int
    app_id: int
    created_at: datetime
    """Of the notification."""


@dataclass(slots=True)
class ReleaseRows:
    """Collects rows, and writes them in a transaction of the caller's."""

    _targets: list[tuple[Any, ...]] = field(default_factory=list)
    _runs: list[tuple[Any, ...]] = field(default_factory=list)
    _outcomes: list[tuple[Any, ...]] = field(default_factory=list)
    _deltas: list[tuple[Any, ...]] = field(default_factory=list)
    _settled: list[tuple[Any, ...]] = field(default_factory=list)
    _releases: list[tuple[Any, ...]] = field(default_factory=list)

    def targets(self, head: Head, devices: Devices) -> None:
        """Whom it goes to, or would have gone to, as bitmaps."""
        for part, piece in devices.parts():
            self._targets.append((head.notification_id, head.release, part, len(piece), piece.dump(), head.created_at))

    def run(self, head: Head, *, once: bool, paused: bool = False) -> None:
        """That it goes out from now on."""
        self._runs.append((head.notification_id, head.release, head.app_id, head.created_at, once, paused))

    def suppressed(self, head: Head, groups: Sequence[tuple[Devices, int]], *, inline: bool = False) -> None:
        """Who gets nothing, with the code of the reason: settled with the release, so that nobody sends it later."""
        if groups:
            self._settled.append((run_number(head.notification_id, head.release), head.app_id))
        for devices, code in groups:
            if inline:
                self._outcomes += [(head.notification_id, device, code) for device in devices]
                continue
            for part, piece in devices.parts():
                self._deltas.append(
                    (head.notification_id, head.release, head.app_id, part, code, len(piece), piece.dump())
                )

    def waiting(self, head: Head, planned: Planned) -> None:
        """That it goes out later."""
        known = planned.devices
        selector = None if planned.selector is None else planned.selector.decode()
        targeted = None if known is None else len(known)
        self._releases.append(
            (head.notification_id, head.release, head.created_at, moment(planned.at), selector, targeted)
        )
        if known is not None:
            self.targets(head, known)

    @property
    def settled(self) -> list[list[Any]] | None:
        """Who gets nothing, as note_outcomes is told it: columns of releases, of rows and of sets; None: nobody."""
        if not self._settled:
            return None
        rows = [(notification, device, NO_GATEWAY, code) for notification, device, code in self._outcomes]
        sets = [
            (run_number(notification, release), NO_GATEWAY, code, count, devices)
            for notification, release, _, _, code, count, devices in self._deltas
        ]
        return [*columns(self._settled, 2), *columns(rows, 4), *columns(sets, 5)]

    async def write(self, connection: Any, node_id: int, now: datetime) -> None:
        """Writes what was collected; each kind of row that there is none of costs nothing."""
        for statement, head, rows in (
            (_TARGETS, (), self._targets),
            (_RUNS, (node_id, now), self._runs),
            (_OUTCOMES, (NO_GATEWAY, now), self._outcomes),
            (_DELTAS, (NO_GATEWAY, now), self._deltas),
            (_RELEASES, (), self._releases),
        ):
            if rows:
                await connection.execute(statement, *head, *columns(rows, len(rows[0])))


def read_release(row: Any) -> StoredRelease:
    """The release of a row."""
    return StoredRelease(
        number=row["number"], at=seconds(row["at"]), targeted=row["targeted"], state=_STATES[row["state"]]
    )


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows of so many values as columns."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


async def by_index(connection: Any) -> None:
    """Has this transaction go by indexes: of tables that grow by a million rows the planner may know nothing yet."""
    await connection.execute(_BY_INDEX)


async def fence(connection: Any, node_id: int) -> None:
    """Holds the node's row to the end of the transaction: whoever fences the node waits. UnavailableError if it is."""
    await by_index(connection)
    if await connection.fetchval(_FENCE, node_id) is None:
        raise UnavailableError("This node may not write now", retry_after_s=1)


async def for_certain(
    database: Database, write: Callable[[], Awaitable[Result]], look: Callable[[], Awaitable[Result]]
) -> Result:
    """What a write came to. Where its COMMIT was lost `look` says that, however long PostgreSQL is away.

    `look` has to make sure that the write is over, and cannot come later. UnavailableError: nothing was written.
    """
    try:
        return await write()
    except OutcomeUnknownError:
        log.warning("commit_lost", retry_s=database.config.retry_after_s)
    while True:
        try:
            return await look()
        except UnavailableError:
            await asyncio.sleep(database.config.retry_after_s)


async def in_parts(write: Callable[[Sequence[Item]], Awaitable[list[bool]]], items: Sequence[Item]) -> list[bool]:
    """What `write` makes of the items. One whose data PostgreSQL refuses is False, and harms no other."""
    if not items:
        return []
    try:
        return await write(items)
    except asyncpg.PostgresError as error:
        if len(items) == 1:
            log.error("write_refused", sqlstate=error.sqlstate)  # noqa: TRY400  # a trace shows values
            return [False]
    middle = len(items) // 2
    return [*await in_parts(write, items[:middle]), *await in_parts(write, items[middle:])]
