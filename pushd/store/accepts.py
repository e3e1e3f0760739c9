"""Accepting: sends and arrays of sends written in groups, each with its targets and its caller's key, or not at all.

What is to go out later is kept as a schedule instead, by the same commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from msgspec import Struct

from pushd.badges import COUNTED, Increment
from pushd.config import StoreConfig
from pushd.errors import IdempotencyMismatchError, PushdError, UnavailableError
from pushd.model.notification import Notification, State
from pushd.service import Service
from pushd.store.accept_rows import INLINE_TARGETS_MAX, Accept, Due, Idempotency, event_columns, send_columns
from pushd.store.badges import BadgeStore, increments
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.literals import microseconds
from pushd.store.reserve import Reserve

__all__ = ["INLINE_TARGETS_MAX", "Accept", "Accepted", "Acceptor", "Due", "Idempotency", "Then"]

log = structlog.get_logger(__name__)

_ACCEPT = """
SELECT * FROM accept_notifications($1, $2, $3, $4::text::bigint[], $5::text::int[], $6::text::float8[],
    $7::text::float8[], $8::text::float8[], $9, string_to_array($10, chr(31)), $11::text::int[], $12::text::boolean[],
    $13::text::int[], $14::text::int[], $15::text::int[], $16::text::float8[], $17::text::float8[],
    $18::text::boolean[], $19, $20, $21, $22, $23, $24, $25, $26, $27::text::int[], $28::text::int[],
    $29, $30::text::int[], $31, string_to_array($32, chr(31)), $33::text::float8[])
"""
_KNOWN = """
SELECT id FROM notifications WHERE app_id = ANY($1) AND id = ANY($2)
UNION ALL SELECT id FROM schedules WHERE app_id = ANY($1) AND id = ANY($2)
"""
# The key is the caller's again, unless the request came again under it and was told what it stands for. Whoever is
# about to tell that holds the key's row: this waits, and then looks again.
_FREE = """
DELETE FROM idempotency WHERE app_id = $1 AND key = $2 AND notification_id = $3 AND NOT promised
"""
_PROMISED = """
SELECT known.id FROM unnest($1::int[], $2::text[]) AS k (app, key) CROSS JOIN LATERAL (
    SELECT i.notification_id AS id FROM idempotency i
    WHERE i.app_id = k.app AND i.key = k.key AND i.notification_id = ANY($3) AND i.promised OFFSET 0) known
"""
# Nothing will send what nobody was promised. A schedule that has fired by now is left to what it fired.
# Who heard by an event that it was accepted hears that nothing comes of it.
_FORGET_SCHEDULES = """
WITH gone AS (DELETE FROM schedules WHERE app_id = ANY($2) AND id = ANY($1) RETURNING app_id, id)
SELECT id, note_event(gone.app_id, 3, now(), '{"cancelled": true, "codes": []}', gone.id) FROM gone
"""
_FORGET = """
WITH targets_gone AS (DELETE FROM targets WHERE notification_id = ANY($1)),
    runs_gone AS (DELETE FROM runs WHERE notification_id = ANY($1)),
    gone AS (DELETE FROM notifications WHERE id = ANY($1) AND app_id = ANY($2) RETURNING app_id, id)
SELECT id, note_event(gone.app_id, 3, now(), '{"cancelled": true, "codes": []}', gone.id) FROM gone
"""
_FORGET_EVENTS = "DELETE FROM dialect_events WHERE id = ANY($1) AND app_id = ANY($2)"


class Accepted(Struct, frozen=True):
    """A request that is kept from now on; or one that the same key brought before."""

    id: int
    """Of the notification; of an array, the first one's."""
    replayed: bool
    answer: bytes
    notifications: Sequence[Notification]
    """As the fan-out takes them; none when replayed. CANCELLED: it was cancelled before its commit was known here."""
    scheduled: bool = False
    """Whether some of it is kept as schedules, which are not among the notifications."""

    @property
    def notification(self) -> Notification | None:
        """The notification of a single send; None when replayed."""
        return self.notifications[0] if self.notifications else None


Then = Callable[[Accepted], None]
"""Called once a request is committed and promised, in the same turn of the event loop."""


class Acceptor(Service):
    """Writes what is accepted, in groups."""

    def __init__(self, database: Database, badges: BadgeStore) -> None:
        super().__init__()
        self._database = database
        self._badges = badges
        self._config: StoreConfig = database.config
        self._epochs: dict[int, int] = {}
        self._ids = Reserve(database, "notification_ids")
        self._under_way: dict[int, _Item] = {}
        self.on_scheduled: Callable[[float], None] | None = None
        """Hears when a schedule that was committed here is due."""
        self._committer: Committer[_Item, Accepted] = Committer(
            "accepts", database.config, self._write, self._resolve, self._abandon, lanes=2, settled=self._settled
        )

    async def start(self) -> None:
        """Begins to accept."""
        self._committer.fatal = self.fatal
        await self._committer.start()

    async def stop(self) -> None:
        """Accepts nothing more."""
        await self._committer.stop()
        await super().stop()

    def accept(self, accept: Accept, then: Then | None = None) -> asyncio.Future[Accepted]:
        """The accepted send, committed with its targets: it survives any crash from there.

        Who cancels the future gives the send up. IdempotencyMismatchError when the key came with another request;
        UnavailableError when it is not kept.
        """
        return self._committer.begin(_Item([accept], accept.idempotency, accept.answer, then))

    def accept_array(
        self, accepts: Sequence[Accept], ids: Sequence[int], key: Idempotency | None, answer: bytes, then: Then
    ) -> asyncio.Future[Accepted]:
        """The same for several sends of one request: all in one transaction, or none.

        `ids` are theirs, from `reserve`, and stand in `answer`, what a repetition of the request is told.
        """
        item = _Item(accepts, key, answer, then)
        item.ids = list(ids)
        return self._committer.begin(item, len(accepts))

    async def reserve(self, count: int) -> list[int]:
        """So many ids of notifications to come, ascending, which nobody else has or will have."""
        try:
            return await self._ids.take(count)
        except asyncpg.SequenceGeneratorLimitExceededError:
            log.error("notification_ids_exhausted")  # noqa: TRY400  # a trace says no more
            raise UnavailableError("No numbers for notifications are left (they stay below 2^31)") from None

    def cancel(self, notification_id: int) -> None:
        """Lets a notification whose commit is not known here yet be told of as cancelled; others are not touched."""
        item = self._under_way.get(notification_id)
        if item is not None:
            item.cancelled.add(notification_id)

    async def _write(self, items: Sequence[_Item]) -> Sequence[Accepted | PushdError]:
        fresh = [item for item in items if not item.ids]
        if fresh:
            ids = iter(await self.reserve(sum(len(item.accepts) for item in fresh)))
            for item in fresh:
                item.ids = [next(ids) for _ in item.accepts]
        for item in items:
            for number in item.ids:
                self._under_way[number] = item
        nodes = {item.node_id for item in items}
        if len(nodes) == 1:
            return await self._write_for(nodes.pop(), items)
        results: dict[int, Accepted | PushdError] = {}
        for node_id in nodes:
            rows = [row for row, item in enumerate(items) if item.node_id == node_id]
            results.update(zip(rows, await self._write_for(node_id, [items[row] for row in rows]), strict=True))
        return [results[row] for row in range(len(items))]

    async def _write_for(self, node_id: int, items: Sequence[_Item]) -> Sequence[Accepted | PushdError]:
        """Writes a group of one node: keys that repeat within it wait for their first."""
        firsts: dict[tuple[int, str], int] = {}
        repeats: dict[int, int] = {}
        for row, item in enumerate(items):
            if item.key is not None:
                earliest = firsts.setdefault((item.app_id, item.key.key), row)
                if earliest != row:
                    repeats[row] = earliest
        fresh = [item for row, item in enumerate(items) if row not in repeats] if repeats else items
        known = await self._insert(node_id, fresh)
        if not known and not repeats:
            return [item.accepted() for item in items]
        results: dict[int, Accepted | PushdError] = {}
        for row, item in enumerate(items):
            if row not in repeats:
                results[row] = _replay(item, known[id(item)]) if id(item) in known else item.accepted()
        for row, earliest in repeats.items():
            results[row] = _repeat(items[row], items[earliest], results[earliest])
        return [results[row] for row in range(len(items))]

    async def _insert(self, node_id: int, items: Sequence[_Item]) -> dict[int, Any]:
        """Inserts in one transaction; what the keys stand for that were known before, by `id` of their item."""
        head = (node_id, await self._epoch(node_id), timedelta(seconds=self._config.idempotency_keep_s))
        timeout_s = self._config.write_timeout_s
        keyed = [item for item in items if item.key is not None and len(item.ids) > 1]
        counting = _counting(items)
        if not keyed and not counting:
            told = await self._database.fetch(_ACCEPT, *head, *_columns(items), timeout_s=timeout_s)
            return _by_item(told, items)
        # An array with a key goes in behind its first row: only where that one's key is new, the others follow.
        async with self._database.transaction() as connection:
            heads = [item.part(0, 1) if item in keyed else item for item in items]
            told = await connection.fetch(_ACCEPT, *head, *_columns(heads), timeout=timeout_s)
            known = _by_item(told, heads)
            known = {id(items[at]): known[id(each)] for at, each in enumerate(heads) if id(each) in known}
            rest = [item.part(1, len(item.ids)) for item in keyed if id(item) not in known]
            if rest:
                await connection.fetch(_ACCEPT, *head, *_columns(rest), timeout=timeout_s)
            counted = await self._badges.write(
                connection, [each for item in items if id(item) not in known for each in item.increments()]
            )
        await self._badges.apply(counted)
        return known

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
        for node_id in {item.node_id for item in items}:
            raised = await self._database.fetchval("SELECT next_epoch($1)", node_id)
            if raised is not None:
                self._epochs[node_id] = raised
        apps = list({item.app_id for item in items})
        rows = await self._database.fetch(_KNOWN, apps, [number for item in items for number in item.ids])
        there = {row["id"] for row in rows}
        await self._badges.catch_up({item.app_id for item in _counting(items)})
        # What got no ids before the connection went was never written.
        return [item.accepted() if item.ids and there.issuperset(item.ids) else None for item in items]

    async def _abandon(self, stray: Sequence[tuple[_Item, Accepted]]) -> Sequence[bool]:
        written = [item for item, accepted in stray if not accepted.replayed and not item.promised]
        # In the order in which accepts take them: the two wait for each other, and never in a circle.
        keyed = sorted((item.app_id, item.key.key, item.ids[0]) for item in written if item.key is not None)
        columns = [list(column) for column in zip(*keyed, strict=True)] if keyed else [[], [], []]
        async with self._database.transaction() as connection:
            timeout_s = self._config.write_timeout_s
            await connection.executemany(_FREE, keyed, timeout=timeout_s)
            rows = await connection.fetch(_PROMISED, *columns, timeout=timeout_s)
            promised = {row["id"] for row in rows}
            gone = [item for item in written if item.ids[0] not in promised]
            apps = list({item.app_id for item in gone})
            undone: set[int] = set()
            for statement, scheduled in ((_FORGET, False), (_FORGET_SCHEDULES, True)):
                ids = [number for item in gone for number in item.kept(scheduled=scheduled)]
                if ids:
                    undone |= {row["id"] for row in await connection.fetch(statement, ids, apps, timeout=timeout_s)}
            events = [accept.event.id for item in gone for accept in item.accepts if accept.event is not None]
            if events:
                await connection.execute(_FORGET_EVENTS, events, apps, timeout=timeout_s)
            back = [each for item in gone for each in item.increments(undone)]
            await self._badges.write(connection, [each._replace(amount=-each.amount) for each in reversed(back)])
        return [not accepted.replayed and (item.promised or item.ids[0] in promised) for item, accepted in stray]

    def _settled(self, item: _Item, result: Accepted | PushdError, told: bool) -> None:
        for number in item.ids:
            self._under_way.pop(number, None)
        if not told or isinstance(result, PushdError):
            return
        if result.replayed and result.id in self._under_way:
            self._under_way[result.id].promised = True  # in the same group: the table need not know
        if result.scheduled and self.on_scheduled is not None:
            self.on_scheduled(item.due_at)
        if item.then is not None:
            item.then(result if result.replayed or not item.cancelled else item.accepted())


class _Item:
    """A request on its way: a send, or an array of them."""

    __slots__ = ("accepts", "answer", "app_id", "cancelled", "ids", "key", "node_id", "promised", "then")

    def __init__(self, accepts: Sequence[Accept], key: Idempotency | None, answer: bytes, then: Then | None) -> None:
        self.accepts = accepts
        self.app_id, self.node_id = accepts[0].app_id, accepts[0].node_id
        self.key = key
        self.answer = answer
        self.then = then
        self.ids: list[int] = []
        self.cancelled: set[int] = set()
        self.promised = False

    def part(self, start: int, stop: int) -> _Item:
        """Some of its sends, to be written as if they were all; the first has the key."""
        part = _Item(self.accepts[start:stop], None if start else self.key, self.answer, None)
        part.ids = self.ids[start:stop]
        return part

    @property
    def due_at(self) -> float:
        """When the first of its schedules is due."""
        return min(accept.due.at for accept in self.accepts if accept.due is not None)

    def kept(self, *, scheduled: bool) -> list[int]:
        """The ids of its schedules, or those of its notifications."""
        return [
            number
            for number, accept in zip(self.ids, self.accepts, strict=True)
            if (accept.due is not None) is scheduled
        ]

    def increments(self, ids: AbstractSet[int] | None = None) -> list[Increment]:
        """What its notifications count, or those of them that have these ids."""
        pairs = zip(self.ids, self.accepts, strict=True)
        return increments(accept for number, accept in pairs if ids is None or number in ids)

    def accepted(self) -> Accepted:
        """The answer when it is committed."""
        notifications = [
            Notification(
                id=number,
                app_id=accept.app_id,
                send=accept.send,
                created_at=microseconds(accept.created_at),
                released_at=microseconds(accept.released_at),
                expires_at=None if accept.expires_at is None else microseconds(accept.expires_at),
                state=State.CANCELLED if number in self.cancelled else State.RUNNING,
            )
            for number, accept in zip(self.ids, self.accepts, strict=True)
            if accept.due is None
        ]
        return Accepted(self.ids[0], False, self.answer, notifications, len(notifications) < len(self.ids))


def _counting(items: Sequence[_Item]) -> list[_Item]:
    """Those of the items that count badges."""
    return [item for item in items if any(each.send.badge_from == COUNTED for each in item.accepts)]


def _columns(items: Sequence[_Item]) -> list[Any]:
    """The arguments of accept_notifications after the first three."""
    keyed: list[tuple[int, _Item]] = []
    row = 1
    for item in items:
        if item.key is not None:
            keyed.append((row, item))
        row += len(item.accepts)
    accepts = [accept for item in items for accept in item.accepts]
    return [
        *send_columns([number for item in items for number in item.ids], accepts),
        [row for row, _ in keyed],
        [item.key.key for _, item in keyed if item.key],
        [item.key.body_hash for _, item in keyed if item.key],
        [item.answer for _, item in keyed],
        *event_columns(accepts),
    ]


def _by_item(told: Sequence[Any], items: Sequence[_Item]) -> dict[int, Any]:
    """What known keys stand for, by the `id` of the item whose row they are; rows are numbered from 1."""
    if not told:
        return {}
    owners = [item for item in items for _ in item.accepts]
    return {id(owners[each["n"] - 1]): each for each in told}


def _replay(item: _Item, told: Any) -> Accepted | PushdError:
    """What a key that is known stands for."""
    assert item.key is not None
    if told["body_hash"] != item.key.body_hash:
        return IdempotencyMismatchError()
    return Accepted(told["notification_id"], True, told["answer"], ())


def _repeat(item: _Item, earlier: _Item, result: Accepted | PushdError) -> Accepted | PushdError:
    """The answer to a key that came before in the same group."""
    assert item.key is not None
    assert earlier.key is not None
    if isinstance(result, PushdError):
        return result
    if item.key.body_hash != earlier.key.body_hash:
        return IdempotencyMismatchError()
    return Accepted(result.id, True, result.answer, ())
