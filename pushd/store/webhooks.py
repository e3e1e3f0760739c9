"""Webhooks in the store: made, changed, delivered by one node at a time, with how far each is and what it refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pushd.clock import Clock
from pushd.errors import ConflictError
from pushd.model.event import TYPES, EventType, Letter, Webhook, WebhookState, types_of
from pushd.store.database import Database
from pushd.store.events import Position
from pushd.store.resume import Absences
from pushd.store.times import moment, seconds, seconds_or_none

_COLUMNS = """w.id, w.app_id, w.name, w.url, w.types, w.batch_max, w.state, w.reason, w.attempts,
    w.failing_since, w.failure, w.next_at, w.delivered_at, w.created_at, w.updated_at,
    (SELECT count(*)::int FROM webhook_letters l WHERE l.webhook_id = w.id) AS letters"""
_GET = f"SELECT {_COLUMNS} FROM webhooks w WHERE w.app_id = $1 AND w.id = $2"  # noqa: S608  # constants
_LIST = f"SELECT {_COLUMNS} FROM webhooks w WHERE w.app_id = $1 AND w.id > $2 ORDER BY w.id LIMIT $3"  # noqa: S608  # constants
_CREATE = """
INSERT INTO webhooks (id, app_id, name, url, types, batch_max, sealed, at_xid, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, pg_snapshot_xmin(pg_current_snapshot()), $8, $8)
"""
_UPDATE = """
UPDATE webhooks SET name = coalesce($3, name), url = coalesce($4, url), types = coalesce($5, types),
    batch_max = coalesce($6, batch_max), revision = revision + 1, updated_at = $7,
    attempts = CASE WHEN $4 IS NULL THEN attempts ELSE 0 END, next_at = CASE WHEN $4 IS NULL THEN next_at END
WHERE app_id = $1 AND id = $2 RETURNING 1
"""
_SEAL = "UPDATE webhooks SET sealed = $3, revision = revision + 1, updated_at = $4 WHERE app_id = $1 AND id = $2"
_SEALED = "SELECT sealed FROM webhooks WHERE app_id = $1 AND id = $2 FOR UPDATE"
_PAUSE = """
UPDATE webhooks SET state = 'paused', reason = NULL, updated_at = $3 WHERE app_id = $1 AND id = $2 AND state <> 'paused'
"""
_RESUME = """
UPDATE webhooks SET state = 'active', reason = NULL, attempts = 0, failing_since = NULL, next_at = NULL,
    updated_at = $3, revision = revision + 1,
    at_xid = CASE WHEN $4 THEN pg_snapshot_xmin(pg_current_snapshot()) ELSE at_xid END,
    at_id = CASE WHEN $4 THEN 0 ELSE at_id END, at_part = CASE WHEN $4 THEN 0 ELSE at_part END
WHERE app_id = $1 AND id = $2
"""
_WAKE = "SELECT pg_notify('pushd_events', $1::text)"
_ABSENT = """
SELECT w.node_id AS id, n.name, n.fenced_at IS NOT NULL OR n.id IS NULL AS gone
FROM (SELECT DISTINCT node_id FROM webhooks WHERE node_id <> $1) w LEFT JOIN nodes n ON n.id = w.node_id
WHERE NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.classid = 7002 AND l.objid = w.node_id
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_OWN = """
SELECT w.*, w.at_xid::text::bigint AS xid,
    EXISTS (SELECT FROM webhook_letters l WHERE l.webhook_id = w.id AND l.replay_at IS NOT NULL) AS replay
FROM webhooks w WHERE w.id = $1 AND w.node_id = $2
"""
_ADVANCE = """
UPDATE webhooks w SET at_xid = $2::text::xid8, at_id = $3, at_part = $4, attempts = 0,
    failing_since = CASE WHEN $5::timestamptz IS NULL THEN failing_since END,
    failure = CASE WHEN $5 IS NULL THEN failure END, next_at = CASE WHEN $5 IS NULL THEN next_at END,
    delivered_at = coalesce($5, delivered_at)
FROM (SELECT hold_webhook($6, $1, $7) AS held OFFSET 0) h WHERE w.id = $1 AND h.held RETURNING 1
"""
_FAIL = """
UPDATE webhooks SET attempts = attempts + 1, failure = $2, next_at = $3, failing_since = coalesce(failing_since, $4)
WHERE id = $1 RETURNING failing_since
"""
_BURY = """
INSERT INTO webhook_letters (webhook_id, event_id, part, type, at, attempts, failure, died_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_LETTERS = "SELECT * FROM webhook_letters WHERE webhook_id = $1 AND id > $2 ORDER BY id LIMIT $3"
_REPLAY = """
UPDATE webhook_letters SET replay_at = $2
WHERE webhook_id = $1 AND replay_at IS NULL AND ($3::bigint IS NULL OR id = $3) RETURNING id
"""
_NEXT_LETTER = "SELECT * FROM webhook_letters WHERE webhook_id = $1 AND replay_at IS NOT NULL ORDER BY id LIMIT 1"
_LETTER_FAILED = "UPDATE webhook_letters SET replay_at = NULL, attempts = attempts + 1, failure = $2 WHERE id = $1"

Seal = Callable[[int], bytes]
"""Seals the secrets of the webhook id that it gets: the id is part of what is authenticated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook as its node needs it."""

    id: int
    app_id: int
    url: str
    types: int
    batch_max: int
    sealed: bytes
    active: bool
    position: Position
    """Of the last event that is done with."""
    revision: int
    attempts: int
    next_at: float | None
    replay: bool
    """Whether dead letters are to be sent anew."""


class Grave(NamedTuple):
    """An event that becomes a dead letter."""

    position: Position
    type: EventType
    at: float
    attempts: int
    failure: str


class WebhookStore:
    """Webhooks of every app."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._absences = Absences(database.config.node_grace_s)

    # -- by request

    async def create(
        self, app_id: int, *, name: str, url: str, types: int, batch_max: int, seal: Seal, most: int
    ) -> Webhook:
        """The new webhook, which gets what happens from now on. ConflictError where the app has as many as it may."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT lock_apps(ARRAY[$1::int])", app_id)
            if await connection.fetchval("SELECT count(*) FROM webhooks WHERE app_id = $1", app_id) >= most:
                raise ConflictError(f"The app has {most} webhooks, as many as it may have")
            number = await connection.fetchval("SELECT nextval('webhooks_id_seq')::int")
            await connection.execute(
                _CREATE, number, app_id, name, url, types, batch_max, seal(number), moment(self._clock.now())
            )
            await self._settle(connection, app_id)
            return _webhook(await connection.fetchrow(_GET, app_id, number))

    async def get(self, app_id: int, webhook_id: int) -> Webhook | None:
        """The webhook; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, webhook_id)
        return None if row is None else _webhook(row)

    async def list(self, app_id: int, after: int, limit: int) -> Sequence[Webhook]:
        """Webhooks with ids above `after`, ascending."""
        return [_webhook(row) for row in await self._database.fetch(_LIST, app_id, after, limit)]

    async def update(
        self,
        app_id: int,
        webhook_id: int,
        *,
        name: str | None,
        url: str | None,
        types: int | None,
        batch_max: int | None,
    ) -> Webhook | None:
        """The changed webhook; None when there is no such one. Arguments that are None leave what they name."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT lock_apps(ARRAY[$1::int])", app_id)
            now = moment(self._clock.now())
            if not await connection.fetchval(_UPDATE, app_id, webhook_id, name, url, types, batch_max, now):
                return None
            await self._settle(connection, app_id)
            return _webhook(await connection.fetchrow(_GET, app_id, webhook_id))

    async def delete(self, app_id: int, webhook_id: int) -> bool:
        """Whether there was such a webhook, which is gone with its dead letters."""
        async with self._database.transaction() as connection:
            await connection.execute("SELECT lock_apps(ARRAY[$1::int])", app_id)
            done = await connection.execute("DELETE FROM webhooks WHERE app_id = $1 AND id = $2", app_id, webhook_id)
            await self._settle(connection, app_id)
            return str(done) != "DELETE 0"

    async def reseal(self, app_id: int, webhook_id: int, renew: Callable[[bytes], bytes]) -> bool:
        """Whether there is such a webhook, whose secrets are what `renew` makes of those that were there."""
        async with self._database.transaction() as connection:
            sealed = await connection.fetchval(_SEALED, app_id, webhook_id)
            if sealed is None:
                return False
            await connection.execute(_SEAL, app_id, webhook_id, renew(sealed), moment(self._clock.now()))
        return True

    async def sealed(self, app_id: int, webhook_id: int) -> bytes | None:
        """The sealed secrets; None when the app has no such webhook."""
        found = await self._database.fetchval(
            "SELECT sealed FROM webhooks WHERE app_id = $1 AND id = $2", app_id, webhook_id
        )
        return None if found is None else bytes(found)

    async def pause(self, app_id: int, webhook_id: int) -> Webhook | None:
        """The webhook, which is not called until it is resumed; None when there is no such one."""
        await self._database.execute(_PAUSE, app_id, webhook_id, moment(self._clock.now()))
        return await self.get(app_id, webhook_id)

    async def resume(self, app_id: int, webhook_id: int, *, skip: bool) -> Webhook | None:
        """The webhook, which is called at once; with `skip` not for what happened until now. None: no such one."""
        async with self._database.transaction() as connection:
            await connection.execute(_RESUME, app_id, webhook_id, moment(self._clock.now()), skip)
            await connection.execute(_WAKE, str(app_id))
        return await self.get(app_id, webhook_id)

    async def letters(self, webhook_id: int, after: int, limit: int) -> Sequence[Letter]:
        """Dead letters with ids above `after`, ascending."""
        return [_letter(row) for row in await self._database.fetch(_LETTERS, webhook_id, after, limit)]

    async def replay(self, app_id: int, webhook_id: int, letter_id: int | None) -> int:
        """How many dead letters are to be sent anew from now on: one, or all that there are."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_REPLAY, webhook_id, moment(self._clock.now()), letter_id)
            await connection.execute(_WAKE, str(app_id))
        return len(rows)

    async def discard(self, webhook_id: int, letter_id: int) -> bool:
        """Whether there was such a dead letter, which is gone."""
        done = await self._database.execute(
            "DELETE FROM webhook_letters WHERE webhook_id = $1 AND id = $2", webhook_id, letter_id
        )
        return done != "DELETE 0"

    # -- by the node that delivers

    async def claim(self, node_id: int, most: int) -> dict[int, int]:
        """The webhooks that this node delivers, with their apps: what it had, what nobody has, what dead nodes had."""
        absent = await self._database.fetch(_ABSENT, node_id)
        others = self._absences.over(absent, asyncio.get_running_loop().time())
        rows = await self._database.fetch("SELECT * FROM claim_webhooks($1, $2, $3)", node_id, others, most)
        return {row["webhook"]: row["app"] for row in rows}

    async def own(self, node_id: int, webhook_id: int) -> Delivery | None:
        """The webhook as it stands; None where this node does not deliver it any more."""
        row = await self._database.fetchrow(_OWN, webhook_id, node_id)
        if row is None:
            return None
        return Delivery(
            id=row["id"],
            app_id=row["app_id"],
            url=row["url"],
            types=row["types"],
            batch_max=row["batch_max"],
            sealed=row["sealed"],
            active=row["state"] == WebhookState.ACTIVE.value,
            position=Position(row["xid"], row["at_id"], row["at_part"]),
            revision=row["revision"],
            attempts=row["attempts"],
            next_at=seconds_or_none(row["next_at"]),
            replay=row["replay"],
        )

    async def advance(self, node_id: int, webhook: Delivery, to: Position, *, delivered: bool) -> bool:
        """Whether it is on record that all up to a place is done with; not, where another node has the webhook."""
        at = moment(self._clock.now()) if delivered else None
        return bool(await self._database.fetchval(_ADVANCE, *_advance(node_id, webhook, to, at)))

    async def fail(self, node_id: int, webhook: Delivery, failure: str, pause_s: float, disable_after_s: float) -> None:
        """Notes a failure, and when to try again; after failures for so long the webhook is disabled."""
        now = self._clock.now()
        async with self._database.transaction() as connection:
            if await _held(connection, node_id, webhook):
                since = await connection.fetchval(_FAIL, webhook.id, failure, moment(now + pause_s), moment(now))
                if now - seconds(since) >= disable_after_s:
                    await _disable(connection, now, webhook, f"failing: {failure}")

    async def disable(self, node_id: int, webhook: Delivery, reason: str) -> None:
        """Ends deliveries until the webhook is resumed; the app is told by an event."""
        now = self._clock.now()
        async with self._database.transaction() as connection:
            if await _held(connection, node_id, webhook):
                await connection.execute(_FAIL, webhook.id, reason, moment(now), moment(now))
                await _disable(connection, now, webhook, reason)

    async def bury(self, node_id: int, webhook: Delivery, grave: Grave, most: int) -> None:
        """Makes the next event a dead letter and goes on behind it; with as many as there may be it is disabled."""
        now = self._clock.now()
        async with self._database.transaction() as connection:
            if not await _held(connection, node_id, webhook):
                return
            to = grave.position
            await connection.execute(
                _BURY,
                *(webhook.id, to.id, to.part, grave.type.number, moment(grave.at)),
                *(grave.attempts, grave.failure, moment(now)),
            )
            await connection.execute(_ADVANCE, *_advance(node_id, webhook, to, None))
            count = await connection.fetchval("SELECT count(*) FROM webhook_letters WHERE webhook_id = $1", webhook.id)
            if count >= most:
                await _disable(connection, now, webhook, "too many dead letters")

    async def next_letter(self, webhook_id: int) -> Letter | None:
        """The oldest dead letter that is to be sent anew; None without one."""
        row = await self._database.fetchrow(_NEXT_LETTER, webhook_id)
        return None if row is None else _letter(row)

    async def letter_failed(self, letter_id: int, failure: str) -> None:
        """Notes that a dead letter was refused once more: it stays, until somebody sends it anew again."""
        await self._database.execute(_LETTER_FAILED, letter_id, failure)

    async def _settle(self, connection: Any, app_id: int) -> None:
        await connection.execute("SELECT settle_listeners($1)", app_id)
        await connection.execute(_WAKE, str(app_id))


def _advance(node_id: int, webhook: Delivery, to: Position, at: datetime | None) -> tuple[Any, ...]:
    return (webhook.id, str(to.xid), to.id, to.part, at, node_id, webhook.revision)


async def _held(connection: Any, node_id: int, webhook: Delivery) -> bool:
    return bool(await connection.fetchval("SELECT hold_webhook($1, $2, $3)", node_id, webhook.id, webhook.revision))


async def _disable(connection: Any, now: float, webhook: Delivery, reason: str) -> None:
    await connection.execute("SELECT disable_webhook($1, $2, $3)", moment(now), webhook.id, reason)


def event_name(event_id: int, part: int) -> str:
    """The id of an event as it is shown: its number, and behind a dot the part of a long one."""
    return f"{event_id}.{part}" if part else str(event_id)


def _letter(row: Any) -> Letter:
    return Letter(
        id=row["id"],
        event_id=event_name(row["event_id"], row["part"]),
        type=TYPES[row["type"]],
        at=seconds(row["at"]),
        attempts=row["attempts"],
        failure=row["failure"],
        died_at=seconds(row["died_at"]),
        replaying=row["replay_at"] is not None,
    )


def _webhook(row: Any) -> Webhook:
    return Webhook(
        id=row["id"],
        name=row["name"],
        url=row["url"],
        types=types_of(row["types"]),
        batch_max=row["batch_max"],
        state=WebhookState(row["state"]),
        reason=row["reason"],
        attempts=row["attempts"],
        failing_since=seconds_or_none(row["failing_since"]),
        failure=row["failure"],
        next_at=seconds_or_none(row["next_at"]),
        delivered_at=seconds_or_none(row["delivered_at"]),
        letters=row["letters"],
        created_at=seconds(row["created_at"]),
        updated_at=seconds(row["updated_at"]),
    )
