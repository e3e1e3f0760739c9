"""Rollouts in the store: notifications in several releases, found when each is due, and opened once, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pushd.badges import Increment, increment
from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.model.notification import Delivery, Notification, State
from pushd.store.badges import BadgeStore
from pushd.store.database import Database
from pushd.store.firing_events import note_opened
from pushd.store.notification_rows import read_notification
from pushd.store.release_rows import Head, Planned, ReleaseRows, by_index, columns, fence, for_certain, in_parts
from pushd.store.schedules import FAR
from pushd.store.tallies import Tally, keep
from pushd.store.times import moment, moment_or_none, seconds, seconds_or_none

__all__ = ["DueRelease", "Opening", "Planned", "RolloutStore"]

_DUE = """
SELECT n.*, o.revision, o.paused_at IS NOT NULL AS paused, r.number, r.at, r.selector, r.targeted AS known
FROM (SELECT * FROM rollouts WHERE next_at <= $1 ORDER BY next_at LIMIT $2) o
    JOIN notifications n ON n.app_id = o.app_id AND n.id = o.notification_id AND n.created_at = o.created_at
    CROSS JOIN LATERAL (
        SELECT * FROM releases w WHERE w.notification_id = o.notification_id AND w.created_at = o.created_at
            AND w.state = 0 ORDER BY w.at, w.number LIMIT 1) r
ORDER BY o.next_at
"""
_NEXT = "SELECT min(next_at) FROM rollouts WHERE next_at > $1"
_KNOWN = """
SELECT t.notification_id, t.devices FROM unnest($1::bigint[], $2::int[]) AS w (id, number)
    JOIN targets t ON t.notification_id = w.id AND t.release = w.number
"""
_TARGETED = "SELECT devices FROM targets WHERE notification_id = $1"
# In one order, so that two nodes wait for each other and never in a circle. Who waited looks at the revision again.
_WIN = """
SELECT o.notification_id AS id FROM unnest($1::bigint[], $2::int[]) AS w (id, revision)
    JOIN rollouts o ON o.notification_id = w.id
WHERE o.revision = w.revision AND o.next_at IS NOT NULL ORDER BY o.notification_id FOR UPDATE OF o
"""
_OPEN = """
UPDATE releases r SET state = 1, targeted = w.targeted, released_at = w.released, expires_at = w.expires
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::int[], $5::timestamptz[], $6::timestamptz[])
    AS w (id, number, created, targeted, released, expires)
WHERE r.notification_id = w.id AND r.number = w.number AND r.created_at = w.created
"""
_REPLACE = """
DELETE FROM targets t USING unnest($1::bigint[], $2::int[]) AS w (id, number)
WHERE t.notification_id = w.id AND t.release = w.number
"""
_LAST = """
SELECT w.id, (SELECT r.number FROM releases r WHERE r.notification_id = w.id ORDER BY r.number DESC LIMIT 1) AS number
FROM unnest($1::bigint[]) AS w (id)
"""
_GO_ON = """
UPDATE rollouts o SET revision = o.revision + 1, next_at = (
    SELECT r.at FROM releases r WHERE r.notification_id = o.notification_id AND r.created_at = o.created_at
        AND r.state = 0 ORDER BY r.at LIMIT 1)
WHERE o.notification_id = ANY($1)
"""
_COUNT = """
UPDATE notifications n SET targeted = n.targeted + w.more
FROM unnest($1::int[], $2::bigint[], $3::timestamptz[], $4::int[]) AS w (app, id, created, more)
WHERE n.app_id = w.app AND n.id = w.id AND n.created_at = w.created
"""
_FINISH = "SELECT finish_rollouts($1, $2)"
# Waits for a transaction of ours that may still run, and makes one fail that comes later.
_RAISE = """
WITH held AS (
    SELECT o.notification_id AS id FROM unnest($1::bigint[]) AS w (id) JOIN rollouts o ON o.notification_id = w.id
    ORDER BY o.notification_id FOR UPDATE OF o
)
UPDATE rollouts o SET revision = o.revision + 1 FROM held WHERE o.notification_id = held.id
"""
_OPENED = """
SELECT w.id, w.number, EXISTS (
        SELECT FROM runs k WHERE k.notification_id = w.id AND k.release = w.number AND k.node_id = $1) AS runs,
    EXISTS (SELECT FROM releases r WHERE r.notification_id = w.id AND r.number = w.number AND r.state = 1) AS open
FROM unnest($2::bigint[], $3::int[]) AS w (id, number)
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DueRelease:
    """The next release of a rollout, whose time has come."""

    notification: Notification
    number: int
    at: float
    selector: bytes | None
    """JSON, as it was planned."""
    devices: Devices | None
    """Those that are known already."""
    revision: int
    """Of the rollout."""
    paused: bool
    """What is opened now waits until the notification goes on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opening:
    """What a release that is due becomes."""

    release: DueRelease
    """As it was read: nothing of the rollout must have changed since."""
    targets: Devices
    """Whom it goes to, and who gets nothing of it."""
    released_at: float
    expires_at: float | None
    further: tuple[Planned, ...] = ()
    """Releases to come: those who are held, batches."""
    suppressed: tuple[tuple[Devices, int], ...] = ()
    """Of the targets, disjoint: those who get nothing, with the code of the reason."""
    tally: Tally | None = None
    """Who of it is counted for a frequency cap."""

    @property
    def id(self) -> int:
        """Of the notification."""
        return self.release.notification.id

    @property
    def head(self) -> Head:
        """Which release of which notification it is."""
        notification = self.release.notification
        return Head(notification.id, self.release.number, notification.app_id, moment(notification.created_at))

    @property
    def runs(self) -> bool:
        """Whether it goes out to anybody."""
        return len(self.targets) > sum(len(devices) for devices, _ in self.suppressed)

    @property
    def more(self) -> int:
        """Devices that are targeted with it and were not before."""
        further = sum(len(planned.devices) for planned in self.further if planned.devices is not None)
        return len(self.targets) + further - len(self.release.devices or ())


class RolloutStore:
    """Rollouts of every app."""

    def __init__(
        self, database: Database, clock: Clock, compact: Callable[[Sequence[int]], None], badges: BadgeStore
    ) -> None:
        self._database = database
        self._clock = clock
        self._compact = compact
        self._badges = badges

    async def due(self, before: float, limit: int) -> list[DueRelease]:
        """The next release of rollouts that are due by a time, the first due first; one of each notification."""
        rows = await self._database.fetch(_DUE, moment(min(before, FAR)), limit)
        known: dict[int, Devices] = {row["id"]: Devices() for row in rows if row["known"] is not None}
        keys = [(row["id"], row["number"]) for row in rows if row["id"] in known]
        for row in await self._database.fetch(_KNOWN, *columns(keys, 2)) if keys else ():
            known[row["notification_id"]] |= Devices.load(row["devices"])
        return [
            DueRelease(
                notification=read_notification(row, State.PAUSED if row["paused"] else State.RUNNING),
                number=row["number"],
                at=seconds(row["at"]),
                selector=None if row["selector"] is None else row["selector"].encode(),
                devices=known.get(row["id"]),
                revision=row["revision"],
                paused=row["paused"],
            )
            for row in rows
        ]

    async def next_at(self, after: float = 0.0) -> float | None:
        """When the first release is due that is due later than `after`; None: none ever."""
        return seconds_or_none(await self._database.fetchval(_NEXT, moment(after)))

    async def targeted(self, notification_id: int) -> Devices:
        """Whom the releases so far went to, and those that are known of releases to come."""
        rows = await self._database.fetch(_TARGETED, notification_id)
        return Devices.union(Devices(), *(Devices.load(row["devices"]) for row in rows))

    async def open(self, openings: Sequence[Opening], node_id: int) -> list[bool]:
        """For each whether it is carried out, whole, and this node has it to send; else nothing of it is written.

        False: another release was opened, or the notification was paused or ended meanwhile. UnavailableError: nothing
        of any is written.
        """
        return await in_parts(lambda some: self._certain(some, node_id), openings)

    async def _certain(self, openings: Sequence[Opening], node_id: int) -> list[bool]:
        return await for_certain(
            self._database, lambda: self._write(openings, node_id), lambda: self._look(openings, node_id)
        )

    async def _write(self, openings: Sequence[Opening], node_id: int) -> list[bool]:
        now = moment(self._clock.now())
        async with self._database.transaction() as connection:
            await fence(connection, node_id)
            keys = [(each.id, each.release.revision) for each in openings]
            won = {row["id"] for row in await connection.fetch(_WIN, *columns(keys, 2))}
            winners = [each for each in openings if each.id in won]
            if not winners:
                return [False] * len(openings)
            rows = await _open(connection, winners, node_id, now)
            await keep(connection, node_id, [each.tally for each in winners if each.tally is not None])
            idle = [each.id for each in winners if not each.runs]
            over = await connection.fetchval(_FINISH, idle, now) if idle else None
            await note_opened(connection, winners, rows, now)
            counted = await self._badges.write(connection, _increments(winners))
        self._compact(over or ())
        await self._badges.apply(counted)
        return [each.id in won for each in openings]

    async def _look(self, openings: Sequence[Opening], node_id: int) -> list[bool]:
        """What became of openings whose COMMIT was lost."""
        keys = [(each.id, each.release.number) for each in openings]
        async with self._database.transaction() as connection:
            await by_index(connection)
            await connection.execute(_RAISE, [each.id for each in openings])
            rows = await connection.fetch(_OPENED, node_id, *columns(keys, 2))
        await self._badges.catch_up({each.app_id for each in _increments(openings)})
        found = {(row["id"], row["number"]): row for row in rows}
        return [found[key]["runs" if each.runs else "open"] for key, each in zip(keys, openings, strict=True)]


async def _open(connection: Any, winners: Sequence[Opening], node_id: int, now: datetime) -> ReleaseRows:
    """What it wrote of the releases."""
    rows = ReleaseRows()
    numbers = await _numbers(connection, winners)
    for each in winners:
        rows.targets(each.head, each.targets)
        rows.suppressed(each.head, each.suppressed)
        if each.runs:
            once = each.release.notification.send.delivery is Delivery.AT_MOST_ONCE
            rows.run(each.head, once=once, paused=each.release.paused)
        for number, planned in enumerate(each.further, numbers.get(each.id, 0) + 1):
            rows.waiting(each.head._replace(release=number), planned)
    if replaced := [(each.id, each.release.number) for each in winners if each.release.devices is not None]:
        await connection.execute(_REPLACE, *columns(replaced, 2))
    await connection.execute(_OPEN, *columns([_opened(each) for each in winners], 6))
    await rows.write(connection, node_id, now)
    await connection.execute(_GO_ON, [each.id for each in winners])
    if counted := [(each.head, each.more) for each in winners if each.more]:
        keys = [(head.app_id, head.notification_id, head.created_at, more) for head, more in counted]
        await connection.execute(_COUNT, *columns(keys, 4))
    return rows


def _increments(openings: Sequence[Opening]) -> list[Increment]:
    """What messages that go out now count."""
    pairs = [(each, each.release.notification) for each in openings]
    found = [increment(sent.app_id, sent.send, each.targets, each.suppressed) for each, sent in pairs]
    return [each for each in found if each is not None]


def _opened(opening: Opening) -> tuple[Any, ...]:
    head, times = opening.head, (moment(opening.released_at), moment_or_none(opening.expires_at))
    return head.notification_id, head.release, head.created_at, len(opening.targets), *times


async def _numbers(connection: Any, winners: Sequence[Opening]) -> dict[int, int]:
    """The highest number that a release has, of those that get more."""
    ids = [each.id for each in winners if each.further]
    return {row["id"]: row["number"] for row in await connection.fetch(_LAST, ids)} if ids else {}
