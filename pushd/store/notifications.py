"""Notifications in the store: accepted in groups, read, listed, renamed and cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import msgspec

from pushd.bitset import Devices
from pushd.config import StoreConfig
from pushd.errors import IdempotencyMismatchError, PushdError, UnavailableError
from pushd.model.device import Kind
from pushd.model.notification import Delivery, Notification, Send, State
from pushd.service import Service
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.outcomes import Counts, OutcomeDevice, OutcomeReader, Sending
from pushd.store.resume import Resume, Resumer
from pushd.store.times import seconds, seconds_or_none

INLINE_TARGETS_MAX = 64
"""Up to this many devices are kept in the notification's own row, and their outcomes as rows; more: bitmaps."""

_ACCEPT = """
SELECT * FROM accept_notifications($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22)
"""
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
_IDS = "SELECT nextval('notification_ids') FROM generate_series(1, $1)"
_KNOWN = "SELECT id FROM notifications WHERE app_id = ANY($1) AND id = ANY($2)"
# The key is the caller's again, and nothing will send what nobody was promised.
_FORGET = """
WITH targets_gone AS (DELETE FROM targets WHERE notification_id = ANY($1)),
    runs_gone AS (DELETE FROM runs WHERE notification_id = ANY($1)),
    keys_gone AS (DELETE FROM idempotency WHERE notification_id = ANY($1))
DELETE FROM notifications WHERE id = ANY($1) AND app_id = ANY($2)
"""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's key, and SHA-256 of the request that it came with."""

    key: str
    body_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """A send to be kept, with the devices that it resolved to."""

    app_id: int
    send: Send
    targeted: Devices
    node_id: int
    """Who will send it."""
    created_at: float
    released_at: float
    expires_at: float | None = None
    kinds: frozenset[Kind] = frozenset()
    """Kinds of address that it was resolved for; they follow from the message, so they are not stored."""
    idempotency: Idempotency | None = None
    answer: bytes = b""
    """What a repetition of the request is told, beside the id."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A send that is kept from now on; or one that the same key brought before."""

    id: int
    replayed: bool
    answer: bytes
    notification: Notification | None
    """As the fan-out takes it; None when replayed."""


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
        self._config: StoreConfig = database.config
        self._outcomes = OutcomeReader(database)
        self._resumer = Resumer(database)
        self._epochs: dict[int, int] = {}
        self._committer: Committer[_Item, Accepted] = Committer(
            "accepts", database.config, self._write, self._resolve, self._abandon, lanes=2
        )

    async def start(self) -> None:
        """Begins to accept."""
        self._committer.fatal = self.fatal
        await self._committer.start()

    async def stop(self) -> None:
        """Accepts nothing more."""
        await self._committer.stop()
        await super().stop()

    async def accept(self, accept: Accept) -> Accepted:
        """The accepted send, committed with its targets: it survives any crash from here.

        IdempotencyMismatchError when the key came with another request; UnavailableError when it is not kept.
        """
        return await self._committer.submit(_Item(accept))

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

    async def _write(self, items: Sequence[_Item]) -> Sequence[Accepted | PushdError]:
        await self._number(items)
        results: list[Accepted | PushdError | None] = [None] * len(items)
        for node_id in {item.accept.node_id for item in items}:
            rows = [row for row, item in enumerate(items) if item.accept.node_id == node_id]
            written = await self._write_for(node_id, [items[row] for row in rows])
            for row, result in zip(rows, written, strict=True):
                results[row] = result
        return [each for each in results if each is not None]

    async def _write_for(self, node_id: int, items: Sequence[_Item]) -> Sequence[Accepted | PushdError]:
        """Writes a group of one node: keys that repeat within it wait for their first."""
        firsts: dict[tuple[int, str], int] = {}
        repeats: dict[int, int] = {}
        for row, item in enumerate(items):
            if (given := item.accept.idempotency) is not None:
                earliest = firsts.setdefault((item.accept.app_id, given.key), row)
                if earliest != row:
                    repeats[row] = earliest
        fresh = [row for row in range(len(items)) if row not in repeats]
        columns = _columns([items[row] for row in fresh])
        keep = timedelta(seconds=self._config.idempotency_keep_s)
        known: dict[int, Any] = {}
        for told in await self._database.fetch(
            _ACCEPT, node_id, await self._epoch(node_id), keep, *columns, timeout_s=self._config.write_timeout_s
        ):
            known[fresh[told["n"] - 1]] = told
        results: dict[int, Accepted | PushdError] = {}
        for row in fresh:
            results[row] = _replay(items[row].accept, known[row]) if row in known else items[row].accepted()
        for row, earliest in repeats.items():
            results[row] = _repeat(items[row].accept, items[earliest].accept, results[earliest])
        return [results[row] for row in range(len(items))]

    async def _number(self, items: Sequence[_Item]) -> None:
        """Gives ids: they are ours before the write, so that what became of it can be looked up."""
        fresh = [item for item in items if not item.id]
        if fresh:
            rows = await self._database.fetch(_IDS, len(fresh), timeout_s=self._config.write_timeout_s)
            for item, row in zip(fresh, rows, strict=True):
                item.id = row[0]

    async def _epoch(self, node_id: int) -> int:
        epoch = self._epochs.get(node_id)
        if epoch is None:
            found = await self._database.fetchval("SELECT epoch FROM nodes WHERE id = $1", node_id)
            if found is None:
                raise UnavailableError("This node is not registered", retry_after_s=self._config.retry_after_s)
            epoch = self._epochs[node_id] = int(found)
        return epoch

    async def _resolve(self, items: Sequence[_Item]) -> Sequence[Accepted | None]:
        """What is there of a group whose COMMIT may be lost, once nothing of it can be under way any more."""
        for node_id in {item.accept.node_id for item in items}:
            raised = await self._database.fetchval("SELECT next_epoch($1)", node_id)
            if raised is not None:
                self._epochs[node_id] = raised
        apps = list({item.accept.app_id for item in items})
        rows = await self._database.fetch(_KNOWN, apps, [item.id for item in items])
        there = {row["id"] for row in rows}
        return [item.accepted() if item.id in there else None for item in items]

    async def _abandon(self, stray: Sequence[Accepted]) -> None:
        kept = [each.notification for each in stray if each.notification is not None]
        await self._database.execute(_FORGET, [each.id for each in kept], list({each.app_id for each in kept}))

    async def _stored(self, query: str, app_id: int, *args: Any) -> Sequence[Stored]:
        rows = await self._database.fetch(query, app_id, *args)
        counts = await self._outcomes.counts(app_id, [row["id"] for row in rows])
        return [_stored(row, counts.get(row["id"], {})) for row in rows]


class _Item:
    """An accept on its way."""

    __slots__ = ("accept", "id", "text")

    def __init__(self, accept: Accept) -> None:
        # PostgreSQL keeps microseconds: what is answered now is what is read later.
        self.accept = replace(
            accept,
            created_at=round(accept.created_at, 6),
            released_at=round(accept.released_at, 6),
            expires_at=None if accept.expires_at is None else round(accept.expires_at, 6),
        )
        self.id = 0
        self.text = msgspec.json.encode(accept.send).decode()

    def accepted(self) -> Accepted:
        """The answer when it is committed."""
        accept = self.accept
        notification = Notification(
            id=self.id,
            app_id=accept.app_id,
            send=accept.send,
            created_at=accept.created_at,
            released_at=accept.released_at,
            expires_at=accept.expires_at,
        )
        return Accepted(self.id, False, accept.answer, notification)


def _columns(items: Sequence[_Item]) -> list[Any]:
    """The arguments of accept_notifications after the first three."""
    accepts = [item.accept for item in items]
    lows: list[int] = []
    highs: list[int] = []
    devices: list[int] = []
    parts: list[tuple[int, int, bytes]] = []
    for row, accept in enumerate(accepts, 1):
        if len(accept.targeted) <= INLINE_TARGETS_MAX:
            lows.append(len(devices) + 1)
            devices += accept.targeted.to_array()
            highs.append(len(devices))
        else:
            parts += [(row, part, piece.dump()) for part, piece in accept.targeted.parts()]
            lows.append(0)
            highs.append(0)
    keyed = [(row, accept) for row, accept in enumerate(accepts, 1) if accept.idempotency is not None]
    return [
        [item.id for item in items],
        [accept.app_id for accept in accepts],
        [accept.created_at for accept in accepts],
        [accept.released_at for accept in accepts],
        [accept.expires_at for accept in accepts],
        [accept.send.name for accept in accepts],
        [item.text for item in items],
        [len(accept.targeted) for accept in accepts],
        [accept.send.delivery is Delivery.AT_MOST_ONCE for accept in accepts],
        lows,
        highs,
        devices,
        [row for row, _, _ in parts],
        [part for _, part, _ in parts],
        [piece for _, _, piece in parts],
        [row for row, _ in keyed],
        [accept.idempotency.key for _, accept in keyed if accept.idempotency],
        [accept.idempotency.body_hash for _, accept in keyed if accept.idempotency],
        [accept.answer for _, accept in keyed],
    ]


def _replay(accept: Accept, told: Any) -> Accepted | PushdError:
    """What a key that is known stands for."""
    assert accept.idempotency is not None
    if told["body_hash"] != accept.idempotency.body_hash:
        return IdempotencyMismatchError()
    return Accepted(told["notification_id"], True, told["answer"], None)


def _repeat(accept: Accept, earlier: Accept, result: Accepted | PushdError) -> Accepted | PushdError:
    """The answer to a key that came before in the same group."""
    assert accept.idempotency is not None
    assert earlier.idempotency is not None
    if isinstance(result, PushdError):
        return result
    if accept.idempotency.body_hash != earlier.idempotency.body_hash:
        return IdempotencyMismatchError()
    return Accepted(result.id, True, result.answer, None)


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
