"""Schedules in the store: found by the time at which they are due, read, edited, cancelled, and fired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pushd.clock import Clock
from pushd.model.notification import Send
from pushd.store.accept_rows import Due, encode
from pushd.store.accepts import Acceptor
from pushd.store.badges import BadgeStore
from pushd.store.database import Database
from pushd.store.firings import Firer, Firing
from pushd.store.release_rows import Planned
from pushd.store.times import moment, moment_or_none, seconds, seconds_or_none

__all__ = ["Due", "Firing", "Occurrence", "Planned", "ScheduleStore", "Scheduled"]

SOON_S = 60.0
"""Other nodes hear at once of what is due within this; the rest they find by looking."""
ID_MAX = 2**62
FAR = 32_503_680_000.0
"""The year 3000: nothing is due later."""

_DUE = "SELECT * FROM due_schedules($1, $2, $3, $4)"
_NEXT = "SELECT next_at FROM due_schedules($1, 1, $2, $3)"
# What goes round the world, stage by stage, is no schedule to anybody but whoever releases it.
_GET = """
SELECT * FROM schedules WHERE app_id = $1 AND id = $2 AND stage IS NULL
    AND ($3::boolean IS NULL OR (in_app IS NOT NULL) = $3)
"""
_LIST = """
SELECT * FROM schedules WHERE app_id = $1 AND id < $2 AND stage IS NULL
    AND ($4::boolean IS NULL OR (active AND next_at IS NOT NULL) = $4) ORDER BY id DESC LIMIT $3
"""
_OCCURRENCES = """
SELECT o.* FROM occurrences o WHERE o.schedule_id = $2 AND o.at < $3 AND (
    EXISTS (SELECT FROM schedules s WHERE s.app_id = $1 AND s.id = $2)
    OR EXISTS (SELECT FROM notifications n WHERE n.app_id = $1 AND n.id = $2)
    OR EXISTS (SELECT FROM in_app_messages m WHERE m.app_id = $1 AND m.id = $2)) ORDER BY o.at DESC LIMIT $4
"""
_EDIT = """
WITH changed AS (
    UPDATE schedules SET revision = revision + 1, name = $4, send = $5, recurring = $6, active = $7, next_at = $8,
        nominal = $9, accepted_at = $10, ended_at = $11, in_app = $13
    WHERE app_id = $1 AND id = $2 AND revision = $3 AND stage IS NULL RETURNING id
)
SELECT changed.id, CASE WHEN $12 THEN note_change(11::smallint, $1, ARRAY[changed.id::int]) END FROM changed
"""
_CANCEL = """
UPDATE schedules SET cancelled_at = $3, ended_at = $3, next_at = NULL, revision = revision + 1
WHERE app_id = $1 AND id = $2 AND ended_at IS NULL AND stage IS NULL
    AND ($4::boolean IS NULL OR (in_app IS NOT NULL) = $4) RETURNING 1
"""
_WAITING = """
SELECT * FROM schedules WHERE app_id = $1 AND id < $2 AND in_app IS NOT NULL AND NOT recurring AND stage IS NULL
ORDER BY id DESC LIMIT $3
"""
_POSTPONE = """
UPDATE schedules SET revision = revision + 1, next_at = $4
WHERE app_id = $1 AND id = $2 AND revision = $3 AND next_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """A send that is kept until its time comes, once or again and again."""

    id: int
    app_id: int
    send: Send
    created_at: float
    accepted_at: float
    """As of when its time is judged: of its acceptance, or of the edit that changed its time."""
    revision: int
    active: bool
    next_at: float | None
    """When it is to be looked at; None: no more."""
    nominal: float | None
    """The occurrence that it is looked at for."""
    occurred: int
    skipped: int
    ended_at: float | None
    cancelled_at: float | None
    in_app: bytes | None = None
    """What in-app messages say, JSON; None: it sends notifications."""
    stage: bytes | None = None
    """Of one in-app message that goes round the world: what its releases go by, the scheduler's own JSON."""

    @property
    def recurring(self) -> bool:
        """Whether its occurrences are notifications of their own; else it becomes the notification of its id."""
        return self.send.schedule is not None and self.send.schedule.recurrence is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """What became of an occurrence whose time has come."""

    at: float
    notification_id: int | None
    fired: bool
    decided_at: float


class ScheduleStore:
    """Schedules of every app."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        acceptor: Acceptor,
        compact: Callable[[Sequence[int]], None],
        badges: BadgeStore,
    ) -> None:
        self._database = database
        self._clock = clock
        self._acceptor = acceptor
        self._firer = Firer(database, clock, compact, badges)

    async def due(self, before: float, limit: int, after: tuple[float, int] | None = None) -> list[Scheduled]:
        """Schedules that are due by a time, the first due first, behind one that was read before: `next_at` and id."""
        behind = (None, None) if after is None else (moment(after[0]), after[1])
        return [_scheduled(row) for row in await self._database.fetch(_DUE, moment(min(before, FAR)), limit, *behind)]

    async def next_at(self, after: float = 0.0) -> float | None:
        """When the first one is due that is due later than `after`; None: none ever."""
        return seconds_or_none(await self._database.fetchval(_NEXT, moment(FAR), moment(after), ID_MAX))

    async def get(self, app_id: int, schedule_id: int, *, in_app: bool | None = None) -> Scheduled | None:
        """The schedule; None when the app has no such one, or it has become what it was for.

        `in_app`: only one of in-app messages, or only one of notifications.
        """
        row = await self._database.fetchrow(_GET, app_id, schedule_id, in_app)
        return None if row is None else _scheduled(row)

    async def occurrences(self, app_id: int, schedule_id: int, before: float, limit: int) -> Sequence[Occurrence]:
        """What has come of occurrences of before a time (0: of all), the newest first."""
        rows = await self._database.fetch(_OCCURRENCES, app_id, schedule_id, moment(before or FAR), limit)
        return [
            Occurrence(
                at=seconds(row["at"]),
                notification_id=row["notification_id"],
                fired=row["notification_id"] is not None,
                decided_at=seconds(row["decided_at"]),
            )
            for row in rows
        ]

    async def edit(self, changed: Scheduled) -> bool:
        """Whether the schedule has this send, activity, times and end now; False: it was changed before, or is gone."""
        coming = changed.next_at if changed.active else None
        row = await self._database.fetchrow(
            _EDIT,
            *(changed.app_id, changed.id, changed.revision),
            *(changed.send.name, encode(changed.send).decode(), changed.recurring, changed.active),
            *(moment_or_none(changed.next_at), moment_or_none(changed.nominal)),
            *(moment(changed.accepted_at), moment_or_none(changed.ended_at)),
            coming is not None and coming <= self._clock.now() + SOON_S,
            None if changed.in_app is None else changed.in_app.decode(),
        )
        if row is not None and coming is not None and self._acceptor.on_scheduled is not None:
            self._acceptor.on_scheduled(coming)
        return row is not None

    async def cancel(self, app_id: int, schedule_id: int, *, in_app: bool | None = None) -> bool:
        """Whether there was something to come of the schedule, and nothing is any more; `in_app` as for `get`."""
        now = moment(self._clock.now())
        return bool(await self._database.fetchval(_CANCEL, app_id, schedule_id, now, in_app))

    async def waiting_in_app(self, app_id: int, before: int, limit: int) -> Sequence[Scheduled]:
        """In-app messages that wait for their one time, or were cancelled before, of ids below `before`, newest first.

        Of these ids the store has no in-app messages.
        """
        return [_scheduled(row) for row in await self._database.fetch(_WAITING, app_id, before, limit)]

    async def postpone(self, due: Sequence[Scheduled], until: float) -> None:
        """Lets those that have not changed since they were read be due at another time, for the same occurrence."""
        keys = [(each.app_id, each.id, each.revision, moment(until)) for each in sorted(due, key=lambda each: each.id)]
        async with self._database.transaction() as connection:
            await connection.executemany(_POSTPONE, keys)

    async def fire(self, firings: Sequence[Firing], node_id: int) -> list[bool]:
        """For each whether it is carried out, whole, and this node has what it sends; else nothing of it is written.

        False: the schedule was changed meanwhile, or is gone; or the occurrence was decided about before: then the
        schedule goes on all the same. UnavailableError: nothing of any is written.
        """
        return await self._firer.fire(firings, node_id)

    async def list(self, app_id: int, before: int, limit: int, *, active: bool | None = None) -> Sequence[Scheduled]:
        """Schedules with ids below `before` (0: all), newest first; those of which something comes, or the others."""
        return [_scheduled(row) for row in await self._database.fetch(_LIST, app_id, before or 2**62, limit, active)]


def _scheduled(row: Any) -> Scheduled:
    return Scheduled(
        id=row["id"],
        app_id=row["app_id"],
        send=msgspec.json.decode(row["send"], type=Send),
        created_at=seconds(row["created_at"]),
        accepted_at=seconds(row["accepted_at"]),
        revision=row["revision"],
        active=row["active"],
        next_at=seconds_or_none(row["next_at"]),
        nominal=seconds_or_none(row["nominal"]),
        occurred=row["occurred"],
        skipped=row["skipped"],
        ended_at=seconds_or_none(row["ended_at"]),
        cancelled_at=seconds_or_none(row["cancelled_at"]),
        in_app=None if row["in_app"] is None else row["in_app"].encode(),
        stage=None if row["stage"] is None else row["stage"].encode(),
    )
