"""Notifications in the store: accepted in groups, read, listed, renamed, paused and cancelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pushd.clock import Clock
from pushd.model.notification import Notification, State
from pushd.service import Service
from pushd.store.accepts import INLINE_TARGETS_MAX, Accept, Accepted, Acceptor, Due, Idempotency
from pushd.store.badges import BadgeStore
from pushd.store.database import Database
from pushd.store.notification_rows import read_notification
from pushd.store.outcomes import Counts, OutcomeDevice, OutcomeReader, Sending
from pushd.store.release_rows import StoredRelease, read_release
from pushd.store.resume import Resume, Resumer
from pushd.store.times import moment, seconds_or_none

__all__ = [
    "INLINE_TARGETS_MAX",
    "Accept",
    "Accepted",
    "Due",
    "Idempotency",
    "NotificationStore",
    "Order",
    "Stored",
    "StoredRelease",
]

# A schedule that does not recur is the notification that it will be. In one statement: it is always one of both.
_SELECT = """
SELECT n.id, n.app_id, n.created_at, n.released_at, n.expires_at, n.name, n.send, n.targeted, n.schedule_id, o.next_at,
    f.finished_at, (f.cancelled OR r.cancelled OR o.cancelled_at IS NOT NULL) IS TRUE AS cancelled,
    (r.paused OR o.paused_at IS NOT NULL) IS TRUE AS paused,
    r.paused IS NOT NULL OR o.notification_id IS NOT NULL AS running, o.notification_id IS NOT NULL AS rollout,
    false AS scheduled
FROM (SELECT * FROM notifications WHERE app_id = $1 AND {which} ORDER BY id DESC LIMIT $3) n
    LEFT JOIN LATERAL (
        SELECT bool_or(k.cancelled_at IS NOT NULL) AS cancelled, bool_or(k.paused_at IS NOT NULL) AS paused
        FROM runs k WHERE k.notification_id = n.id) r ON true
    LEFT JOIN rollouts o ON o.notification_id = n.id AND o.created_at = n.created_at
    LEFT JOIN finished f ON f.notification_id = n.id AND f.created_at = n.created_at
UNION ALL
(SELECT s.id, s.app_id, s.created_at, coalesce(s.next_at, s.ended_at, s.created_at), NULL, s.name, s.send, 0, NULL,
    CASE WHEN s.active THEN s.next_at END, s.ended_at, s.cancelled_at IS NOT NULL, NOT s.active, false, false, true
FROM schedules s WHERE app_id = $1 AND {which} AND NOT recurring AND in_app IS NULL ORDER BY id DESC LIMIT $3)
ORDER BY id DESC LIMIT $3
"""
_GET = _SELECT.format(which="id = $2")
_LIST = _SELECT.format(which="id < $2")
_THESE = _SELECT.format(which="id = ANY($2)")
# Most sends do not have the words at all, and are not parsed.
_SORT = """send LIKE '%"transactional":true%' AND (send::json ->> 'transactional') = 'true' AS transactional"""
_SORTS = f"""
SELECT id, {_SORT} FROM notifications WHERE app_id = $1 AND id < $2
UNION ALL
SELECT id, {_SORT} FROM schedules WHERE app_id = $1 AND id < $2 AND NOT recurring
ORDER BY id DESC LIMIT $3
"""  # noqa: S608  # constants
_TARGETED = "SELECT id, targeted FROM notifications WHERE app_id = $1 AND id = ANY($2)"
_CANCEL = "SELECT * FROM cancel_notification($1, $2, $3)"
_PAUSE = "SELECT pause_notification($1, $2, $3, $4)"
_RENAME = "UPDATE notifications SET name = $3 WHERE app_id = $1 AND id = $2 RETURNING 1"
_RELEASES = """
SELECT r.* FROM releases r WHERE r.notification_id = $2 AND r.number > $3
    AND EXISTS (SELECT FROM rollouts o WHERE o.notification_id = $2 AND o.app_id = $1) ORDER BY r.number LIMIT $4
"""
_ORDERS = """
SELECT notification_id, release, cancelled_at IS NOT NULL AS cancelled, paused_at IS NOT NULL AS paused
FROM runs WHERE notification_id = ANY($1) AND node_id = $2
"""


class Order(NamedTuple):
    """What is to be done with a run."""

    notification_id: int
    release: int
    cancelled: bool
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A notification as it is kept, and what has been settled of it."""

    notification: Notification
    targeted: int
    finished_at: float | None
    counts: Counts
    """Committed outcomes by (gateway number, code)."""
    schedule_id: int | None = None
    """Of the schedule that it is an occurrence of; what was sent once keeps the schedule's id itself."""
    next_release_at: float | None = None
    """When more of it goes out, by zones, hours or batches; None: all that goes has gone out."""


class NotificationStore(Service):
    """Notifications of every app."""

    def __init__(
        self, database: Database, clock: Clock, compact: Callable[[Sequence[int]], None], badges: BadgeStore
    ) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._compact = compact
        self._outcomes = OutcomeReader(database)
        self._resumer = Resumer(database)
        self.acceptor = Acceptor(database, badges)
        """Takes what is accepted; this store reads it."""

    async def start(self) -> None:
        """Begins to accept."""
        self.acceptor.fatal = self.fatal
        await self.acceptor.start()

    async def stop(self) -> None:
        """Accepts nothing more."""
        await self.acceptor.stop()
        await super().stop()

    async def accept(self, accept: Accept) -> Accepted:
        """As the acceptor does."""
        return await self.acceptor.accept(accept)

    async def get(self, app_id: int, notification_id: int) -> Stored | None:
        """The notification; None when the app has no such one."""
        found = await self._stored(_GET, app_id, notification_id, 1)
        return found[0] if found else None

    async def list(self, app_id: int, before: int, limit: int) -> Sequence[Stored]:
        """Notifications with ids below `before` (0: all), the newest first."""
        return await self._stored(_LIST, app_id, before or 2**62, limit)

    async def these(self, app_id: int, ids: Sequence[int]) -> Sequence[Stored]:
        """The notifications of these ids, the newest first."""
        return await self._stored(_THESE, app_id, list(ids), len(ids))

    async def sorts(self, app_id: int, before: int, limit: int) -> Sequence[tuple[int, bool]]:
        """Ids below `before`, the newest first, and whether each is transactional."""
        rows = await self._database.fetch(_SORTS, app_id, before, limit)
        return [(row["id"], row["transactional"]) for row in rows]

    async def cancel(self, app_id: int, notification_id: int) -> bool:
        """Whether something of it ran or waited: it goes out to nobody more, whatever crashes."""
        row = await self._database.fetchrow(_CANCEL, app_id, notification_id, moment(self._clock.now()))
        self._compact(row["compactable"] or ())
        return bool(row["ended"])

    async def pause(self, app_id: int, notification_id: int) -> bool:
        """Whether something of it runs or waits: that goes out to nobody until it is let go on."""
        return bool(await self._database.fetchval(_PAUSE, app_id, notification_id, moment(self._clock.now()), True))

    async def unpause(self, app_id: int, notification_id: int) -> bool:
        """Whether something of it runs or waits: that goes on."""
        return bool(await self._database.fetchval(_PAUSE, app_id, notification_id, moment(self._clock.now()), False))

    async def orders(self, notification_ids: Sequence[int], node_id: int) -> Sequence[Order]:
        """What is to be done with what a node runs of these notifications."""
        return [Order(*row) for row in await self._database.fetch(_ORDERS, list(notification_ids), node_id)]

    async def releases(self, app_id: int, notification_id: int, after: int, limit: int) -> Sequence[StoredRelease]:
        """The releases of a rollout with numbers above `after`, ascending; of a plain send none."""
        rows = await self._database.fetch(_RELEASES, app_id, notification_id, after, limit)
        return [read_release(row) for row in rows]

    async def rename(self, app_id: int, notification_id: int, name: str | None) -> bool:
        """Whether the app has such a notification, which has this name now."""
        return bool(await self._database.fetchval(_RENAME, app_id, notification_id, name))

    async def counts(self, app_id: int, notification_id: int) -> Counts:
        """Committed outcomes of a notification by (gateway number, code)."""
        return (await self._outcomes.counts(app_id, [notification_id])).get(notification_id, {})

    async def outcome_devices(
        self, app_id: int, notification_id: int, wanted: Sequence[tuple[int, int]], after: int, limit: int
    ) -> Sequence[OutcomeDevice]:
        """Devices with ids above `after`, ascending, that ended with one of the (gateway number, code) pairs."""
        return await self._outcomes.devices(app_id, notification_id, wanted, after, limit)

    async def pending_devices(self, app_id: int, notification_id: int, after: int, limit: int) -> Sequence[int]:
        """Ids above `after`, ascending, of targeted devices without a committed outcome."""
        return await self._outcomes.pending(app_id, notification_id, after, limit)

    async def device_history(self, app_id: int, device_id: int, limit: int) -> Sequence[Sending]:
        """What was settled for a device, the newest notification first."""
        return await self._outcomes.history(app_id, device_id, limit)

    async def resumable(self, node_id: int, limit: int = 1000) -> Sequence[Resume]:
        """What dead nodes left unfinished, claimed for this node, at most so many; ask again until there is none."""
        return await self._resumer.claim(node_id, limit)

    def give_back(self, lefts: Iterable[Resume]) -> None:
        """Takes back what was claimed and could not be begun: `resumable` has it again."""
        self._resumer.give_back(lefts)

    async def _stored(self, query: str, app_id: int, *args: Any) -> Sequence[Stored]:
        rows = await self._database.fetch(query, app_id, *args)
        counts = await self._outcomes.counts(app_id, [row["id"] for row in rows])
        # A release that is opened between the two adds to both.
        growing = [row["id"] for row in rows if row["rollout"] and row["finished_at"] is None]
        found = await self._database.fetch(_TARGETED, app_id, growing) if growing else ()
        targeted = {row["id"]: row["targeted"] for row in (*rows, *found)}
        return [_stored(row, targeted[row["id"]], counts.get(row["id"], {})) for row in rows]


def _stored(row: Any, targeted: int, counts: Counts) -> Stored:
    return Stored(
        notification=read_notification(row, _state(row)),
        targeted=targeted,
        finished_at=seconds_or_none(row["finished_at"]),
        counts=counts,
        schedule_id=row["schedule_id"],
        next_release_at=seconds_or_none(row["next_at"]),
    )


def _state(row: Any) -> State:
    if row["cancelled"]:
        return State.CANCELLED
    if row["finished_at"] is not None:
        return State.DONE
    if row["scheduled"]:
        return State.PAUSED if row["paused"] else State.SCHEDULED
    if not row["running"]:
        return State.DONE
    return State.PAUSED if row["paused"] else State.RUNNING
