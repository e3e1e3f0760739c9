"""Notifications in the store: accepted in groups, read, listed, renamed and cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pushd.errors import PushdError
from pushd.model.notification import Notification, Send, State
from pushd.service import Service
from pushd.store.accepts import INLINE_TARGETS_MAX, Accept, Accepted, Acceptor, Idempotency
from pushd.store.database import Database
from pushd.store.outcomes import Counts, OutcomeDevice, OutcomeReader, Sending
from pushd.store.resume import Resume, Resumer
from pushd.store.times import seconds, seconds_or_none

__all__ = ["INLINE_TARGETS_MAX", "Accept", "Accepted", "Idempotency", "NotificationStore", "Stored"]

_SELECT = """
SELECT n.id, n.app_id, n.created_at, n.released_at, n.expires_at, n.name, n.send, n.targeted, r.cancelled_at,
    r.notification_id IS NOT NULL AS running, f.finished_at, coalesce(f.cancelled, false) AS cancelled
FROM {notifications} n LEFT JOIN runs r ON r.notification_id = n.id
    LEFT JOIN finished f ON f.notification_id = n.id AND f.created_at = n.created_at
ORDER BY n.id DESC
"""
_GET = _SELECT.format(notifications="(SELECT * FROM notifications WHERE app_id = $1 AND id = ANY($2))")
_LIST = _SELECT.format(
    notifications="(SELECT * FROM notifications WHERE app_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3)"
)
_CANCEL = """
UPDATE runs SET cancelled_at = coalesce(cancelled_at, now()) WHERE notification_id = $2 AND app_id = $1 RETURNING 1
"""
_RENAME = "UPDATE notifications SET name = $3 WHERE app_id = $1 AND id = $2 RETURNING 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A notification as it is kept, and what has been settled of it."""

    notification: Notification
    targeted: int
    finished_at: float | None
    counts: Counts
    """Committed outcomes by (gateway number, code)."""


class NotificationStore(Service):
    """Notifications of every app."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._outcomes = OutcomeReader(database)
        self._resumer = Resumer(database)
        self.acceptor = Acceptor(database)
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

    async def accept_many(self, accepts: Sequence[Accept]) -> Sequence[Accepted | PushdError]:
        """The same for each of several sends, in order, errors in their places."""
        done = await asyncio.gather(*(self.accept(each) for each in accepts), return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException) and not isinstance(each, PushdError):
                raise each
        return [each for each in done if isinstance(each, Accepted | PushdError)]

    async def get(self, app_id: int, notification_id: int) -> Stored | None:
        """The notification; None when the app has no such one."""
        found = await self._stored(_GET, app_id, [notification_id])
        return found[0] if found else None

    async def list(self, app_id: int, before: int, limit: int) -> Sequence[Stored]:
        """Notifications with ids below `before` (0: all), the newest first."""
        return await self._stored(_LIST, app_id, before or 2**62, limit)

    async def cancel(self, app_id: int, notification_id: int) -> Notification | None:
        """The notification, which goes out to nobody more, also after a crash; None when it is not running."""
        if not await self._database.fetchval(_CANCEL, app_id, notification_id):
            return None
        stored = await self.get(app_id, notification_id)
        return stored.notification if stored else None

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
        self._resumer.give_back(left.notification.id for left in lefts)

    async def _stored(self, query: str, app_id: int, *args: Any) -> Sequence[Stored]:
        rows = await self._database.fetch(query, app_id, *args)
        counts = await self._outcomes.counts(app_id, [row["id"] for row in rows])
        return [_stored(row, counts.get(row["id"], {})) for row in rows]


def _stored(row: Any, counts: Counts) -> Stored:
    cancelled = row["cancelled_at"] is not None or row["cancelled"]
    state = State.CANCELLED if cancelled else State.RUNNING if row["running"] else State.DONE
    return Stored(
        notification=read_notification(row, state),
        targeted=row["targeted"],
        finished_at=seconds_or_none(row["finished_at"]),
        counts=counts,
    )


def read_notification(row: Any, state: State) -> Notification:
    """The notification of a row; its name may have been edited since it was sent."""
    send = msgspec.json.decode(row["send"], type=Send)
    if send.name != row["name"]:
        send = msgspec.structs.replace(send, name=row["name"])
    return Notification(
        id=row["id"],
        app_id=row["app_id"],
        send=send,
        created_at=seconds(row["created_at"]),
        released_at=seconds(row["released_at"]),
        expires_at=seconds_or_none(row["expires_at"]),
        state=state,
    )
