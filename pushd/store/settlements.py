"""Settlements: what became of rows, dead tokens and ended notifications, committed at once under the node's fence."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import numpy as np
import structlog
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.errors import UnavailableError
from pushd.model.rows import DeviceRows
from pushd.service import Service, is_set_within
from pushd.store.columns import unpack_devices
from pushd.store.database import Database
from pushd.store.literals import numbers
from pushd.store.names import Names
from pushd.store.times import moment

log = structlog.get_logger(__name__)

_SETTLE = """
SELECT r.refused, r.compactable, (r.retired).*
FROM settle($1, $2, $3, $4::text::bigint[], $5::text::int[], $6::text::smallint[], $7::text::smallint[], $8, $9, $10,
        $11, $12, $13, $14, $15, $16, $17, $18, $19::text::bigint[], $20::text::bigint[], $21::text::bigint[])
    AS r (refused, compactable, retired)
"""
# Under the fence, as settling is: who was fenced meanwhile waits for the row of its node, and then writes nothing.
_ATTEMPTED = """
WITH fence AS (SELECT 1 FROM nodes WHERE id = $1 AND fenced_at IS NULL FOR KEY SHARE)
INSERT INTO attempts (notification_id, release, devices)
SELECT r.notification_id, r.release, a.devices FROM unnest($2::bigint[], $3::bytea[]) AS a (run, devices)
    CROSS JOIN LATERAL run_of(a.run) r
WHERE r.node_id = $1 AND EXISTS (SELECT FROM fence)
RETURNING notification_id + (release::bigint << 32) AS run
"""
# Of the first part that has any.
_DELTAS = """
SELECT * FROM outcome_deltas WHERE notification_id = $1 AND part = (
    SELECT d.part FROM outcome_deltas d WHERE d.notification_id = $1 ORDER BY d.part LIMIT 1) FOR UPDATE
"""
_COMPACT = """
WITH gone AS (DELETE FROM outcome_deltas WHERE notification_id = $1 AND part = $3)
INSERT INTO outcome_parts (notification_id, app_id, part, gateway, code, count, devices, at, created_at)
SELECT $1, $2, $3, p.gateway, p.code, p.count, p.devices, f.finished_at, f.created_at
FROM unnest($4::smallint[], $5::smallint[], $6::int[], $7::bytea[]) AS p (gateway, code, count, devices)
    JOIN finished f ON f.notification_id = $1
"""
# One look into the index for each notification, however many deltas it has; no more of them than are asked for.
_LEFT = """
WITH RECURSIVE found (id) AS (
    (SELECT d.notification_id FROM outcome_deltas d WHERE d.notification_id > $1 ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT d.notification_id FROM found CROSS JOIN LATERAL (
        SELECT n.notification_id FROM outcome_deltas n WHERE n.notification_id > found.id ORDER BY 1 LIMIT 1) d
)
SELECT found.id FROM found WHERE EXISTS (SELECT FROM finished f WHERE f.notification_id = found.id) LIMIT $2
"""

LEFT_MAX = 1_000
"""Notifications that are looked for at once, of those that are to be compacted."""
SLICE_DELTAS = 256
"""Deltas that are joined at a stretch, a few ms: then others have the event loop."""
RELEASE_BITS = 32
"""A run, a release of a notification that goes out, is named by one number: the notification's id below these bits."""


def run_number(notification_id: int, release: int) -> int:
    """The number of a run: of release 0, which is the whole of nearly every notification, the notification's id."""
    return notification_id | release << RELEASE_BITS


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """Devices of one part of a large send that ended the same way."""

    run: int
    part: int
    gateway: int
    code: int
    devices: Devices


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Retirement:
    """Devices whose tokens a gateway called dead, as columns."""

    ids: NDArray[np.uint32]
    revisions: NDArray[np.int32]
    """Of the token that was sent to: a device that has another by now is left alone."""
    at_ms: NDArray[np.int64]
    """As of when the token is dead, ms since the epoch: one that was registered after that is left alone (A-50)."""
    reason: str
    credential_id: int = 0
    """Of the sender; 0: not known. A revival can name it."""


@dataclass(slots=True, eq=False, kw_only=True)
class Settlement:
    """One commit of the recorder. Given again after an error it is applied once all the same."""

    notifications: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    devices: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    gateways: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    codes: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    """Rows of small sends, as columns of one length."""
    deltas: Sequence[Delta] = ()
    """Of large sends."""
    retired: Sequence[Retirement] = ()
    finished: Sequence[int] = ()
    """Runs of which nothing is left to do."""
    receipt: int = field(default_factory=lambda: secrets.randbits(62))
    """By which a commit whose answer was lost is known again."""


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """What a settlement came to."""

    retired: DeviceRows | None
    """Images of the devices that were retired."""
    refused: frozenset[int]
    """Runs that another node owns by now: nothing was written for them."""


class SettlementStore(Service):
    """Where the fan-out's results go."""

    def __init__(self, database: Database, names: Names, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._names = names
        self._clock = clock
        self._compactable: deque[int] = deque()
        """What is compacted next; what finds no room here is found in the store."""
        self._overlooked = False
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Begins to compact what is finished, and what an earlier process left."""
        self.spawn(self._compact_finished(), "compaction")

    async def attempted(self, attempts: Sequence[tuple[int, Devices]], node_id: int) -> frozenset[int]:
        """Commits what is about to be written, for runs that go out at most once; which may not be written.

        Those belong to another node by now, or are gone. UnavailableError.
        """
        runs = [run for run, _ in attempts]
        rows = await self._database.fetch(_ATTEMPTED, node_id, runs, [devices.dump() for _, devices in attempts])
        return frozenset(runs) - {row["run"] for row in rows}

    async def settle(self, settlement: Settlement, node_id: int) -> Committed:
        """What was committed, in one transaction. UnavailableError: give the same settlement again."""
        row = await self._database.fetchrow(
            _SETTLE,
            *(node_id, settlement.receipt, moment(self._clock.now())),
            *_row_columns(settlement),
            *_delta_columns(settlement.deltas),
            *_retired_columns(settlement.retired),
            numbers(_named(settlement)),
            *_finished_columns(settlement.finished),
        )
        refused = frozenset(row["refused"])
        self.compact_soon(row["compactable"] or ())
        if row["ids"] is None:
            return Committed(None, refused)
        return Committed(await self._names.name_devices(unpack_devices(row)), refused)

    def compact_soon(self, notification_ids: Sequence[int]) -> None:
        """Takes finished notifications to be compacted; those for which there is no room are looked for later."""
        if notification_ids:
            room = max(0, self._database.config.compactable_max - len(self._compactable))
            self._compactable.extend(notification_ids[:room])
            self._overlooked |= len(notification_ids) > room
            self._wake.set()

    async def compact(self, notification_id: int) -> None:
        """Joins the deltas of a finished notification: one row per part, gateway and code.

        Part by part, so that memory is needed for one of them, however large the send was; readers join both forms.
        """
        while await self._compact_part(notification_id):
            pass

    async def _compact_part(self, notification_id: int) -> bool:
        """Whether deltas of a part were joined; not, where there are none, or somebody else joined them."""
        async with self._database.transaction() as connection:
            timeout_s = self._database.config.bulk_timeout_s
            rows = await connection.fetch(_DELTAS, notification_id, timeout=timeout_s)
            if not rows:
                return False
            sets = await _joined(rows)
            await connection.execute(
                _COMPACT,
                *(notification_id, rows[0]["app_id"], rows[0]["part"]),
                *([key[place] for key in sets] for place in range(2)),
                [len(each) for each in sets.values()],
                [each.dump() for each in sets.values()],
                timeout=timeout_s,
            )
        return True

    async def _compact_finished(self) -> None:
        clock = asyncio.get_running_loop().time
        look_at = clock()
        while True:
            self._wake.clear()
            while self._compactable:
                await self._compact_one(self._compactable.popleft())
            if self._overlooked or clock() >= look_at:
                self._overlooked = False
                await self._compact_left()
                look_at = clock() + self._database.config.compact_interval_s
            else:
                await is_set_within(self._wake, look_at - clock())

    async def _compact_left(self) -> None:
        """Compacts what found no room, what failed, and what nodes that are gone have left."""
        behind = 0
        while left := await self._left(behind):
            for notification_id in left:
                await self._compact_one(notification_id)
            behind = left[-1]

    async def _left(self, behind: int) -> list[int]:
        """Some finished notifications that have deltas, with ids above `behind`, ascending."""
        timeout_s = self._database.config.bulk_timeout_s
        try:
            return [row["id"] for row in await self._database.fetch(_LEFT, behind, LEFT_MAX, timeout_s=timeout_s)]
        except (UnavailableError, asyncpg.PostgresError) as error:
            log.warning("compaction_waits", error=str(error))
            return []

    async def _compact_one(self, notification_id: int) -> None:
        try:
            await self.compact(notification_id)
        except (UnavailableError, asyncpg.PostgresError) as error:
            # Reading does without it; it is found again.
            log.warning("compaction_failed", notification=notification_id, error=str(error))
            await asyncio.sleep(self._database.config.retry_after_s)


async def _joined(rows: Sequence[Any]) -> dict[tuple[int, int], Devices]:
    """Devices of deltas by gateway and code; joined in slices."""
    sets: dict[tuple[int, int], Devices] = {}
    for at in range(0, len(rows), SLICE_DELTAS):
        pieces: dict[tuple[int, int], list[Devices]] = defaultdict(list)
        for row in rows[at : at + SLICE_DELTAS]:
            pieces[row["gateway"], row["code"]].append(Devices.load(row["devices"]))
        for key, some in pieces.items():
            sets[key] = Devices.union(sets.get(key, Devices()), *some)
        await asyncio.sleep(0)
    return sets


def _named(settlement: Settlement) -> list[int]:
    """Every run that a settlement speaks of, once; rows of small sends are of release 0."""
    named = set(np.unique(settlement.notifications).tolist())
    named.update(delta.run for delta in settlement.deltas)
    named.update(settlement.finished)
    return sorted(named)


def _row_columns(settlement: Settlement) -> list[Any]:
    return [
        numbers(settlement.notifications.tolist()),
        numbers(settlement.devices.tolist()),
        numbers(settlement.gateways.tolist()),
        numbers(settlement.codes.tolist()),
    ]


def _delta_columns(deltas: Sequence[Delta]) -> list[Any]:
    return [
        [delta.run for delta in deltas],
        [delta.part for delta in deltas],
        [delta.gateway for delta in deltas],
        [delta.code for delta in deltas],
        [len(delta.devices) for delta in deltas],
        [delta.devices.dump() for delta in deltas],
    ]


def _finished_columns(finished: Sequence[int]) -> list[str]:
    """Plain sends, and runs of rollouts, which are over with the last of them."""
    if not finished or max(finished) >> RELEASE_BITS == 0:
        return [numbers(finished), "{}"]
    plain = [run for run in finished if run >> RELEASE_BITS == 0]
    return [numbers(plain), numbers([run for run in finished if run >> RELEASE_BITS])]


def _retired_columns(retired: Sequence[Retirement]) -> list[Any]:
    return [
        [number for each in retired for number in each.ids.tolist()],
        [number for each in retired for number in each.revisions.tolist()],
        [moment(at / 1000) for each in retired for at in each.at_ms.tolist()],
        [each.reason for each in retired for _ in range(len(each.ids))],
        [each.credential_id for each in retired for _ in range(len(each.ids))],
    ]
