"""In-app messages in the store: kept, released to rows or bitmaps of recipients, read, changed and withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import msgspec
from msgspec import Struct

from pushd.bitset import Bitset, Devices, Users
from pushd.errors import IdempotencyMismatchError
from pushd.model.in_app import InAppBody, InAppChange, InAppCounts, InAppPush
from pushd.store.accepts import Idempotency
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.times import moment, seconds, seconds_or_none

_ACCEPT = "SELECT * FROM accept_in_app($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_RELEASE = "SELECT release_in_app($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_STORED = """
SELECT m.*, c.delivered, c.opened, c.read, c.dismissed, c.deleted
FROM in_app_messages m LEFT JOIN in_app_counts c ON c.message_id = m.id AND c.created_at = m.created_at
"""
_GET = f"{_STORED} WHERE m.app_id = $1 AND m.id = $2"  # a constant
_LIST = f"{_STORED} WHERE m.app_id = $1 AND m.id < $2 ORDER BY m.id DESC LIMIT $3"  # a constant
_HEADER = """
SELECT m.id, m.app_id, m.created_at, m.released_at, m.expires_at, m.inbox_from, m.inbox_to, m.ends_at, m.cancelled_at,
    m.updated_at, m.letters, CASE WHEN $2 THEN m.body END AS body
"""
_HEADERS = f"""{_HEADER} FROM unnest($3::bigint[]) AS n (id)
CROSS JOIN LATERAL (SELECT k.* FROM in_app_messages k WHERE k.app_id = $1 AND k.id = n.id OFFSET 0) m
WHERE m.released_at IS NOT NULL"""  # noqa: S608  # a constant
_LIVE = f"""{_HEADER} FROM (SELECT * FROM in_app_live WHERE app_id = $1) l
CROSS JOIN LATERAL (SELECT k.* FROM in_app_messages k
    WHERE k.app_id = $1 AND k.id = l.message_id AND k.created_at = l.created_at OFFSET 0) m"""  # noqa: S608  # a constant
_PARTS = """
SELECT n.row, p.ids FROM unnest($1::bigint[], $2::boolean[], $3::int[], $4::timestamptz[])
    WITH ORDINALITY AS n (message_id, users, part, created_at, row)
CROSS JOIN LATERAL (SELECT k.ids FROM in_app_parts k WHERE k.message_id = n.message_id AND k.users = n.users
    AND k.part = n.part AND k.created_at = n.created_at OFFSET 0) p
"""
_HELD = """
SELECT (SELECT count(*) FROM in_app_live WHERE app_id = $1 AND ends_at > $2)::int AS live,
    (SELECT coalesce(sum(bytes), 0) FROM in_app_live WHERE app_id = $1 AND ends_at > $2)::bigint AS bytes,
    (SELECT count(*) FROM in_app_messages WHERE app_id = $1 AND send_at IS NOT NULL AND released_at IS NULL
        AND cancelled_at IS NULL)::int AS scheduled
"""
_DUE = """
SELECT id, app_id, audience, body FROM in_app_messages
WHERE send_at <= $1 AND released_at IS NULL AND cancelled_at IS NULL ORDER BY send_at LIMIT $2
"""
_NEXT = """
SELECT min(send_at) FROM in_app_messages WHERE send_at IS NOT NULL AND released_at IS NULL AND cancelled_at IS NULL
"""
_TAKE_PUSHES = """
WITH taken AS (
    UPDATE in_app_pushes p SET taken_until = $2 WHERE p.message_id IN (SELECT k.message_id FROM in_app_pushes k
        WHERE k.taken_until < $1 ORDER BY k.message_id LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING p.*
)
SELECT t.message_id, t.app_id, t.released_at, m.audience, m.push FROM taken t
    JOIN in_app_messages m ON m.app_id = t.app_id AND m.id = t.message_id AND m.created_at = t.created_at
"""
_PUSHED = """
WITH gone AS (DELETE FROM in_app_pushes WHERE message_id = $2)
UPDATE in_app_messages SET notification_id = $3 WHERE app_id = $1 AND id = $2 AND $3::bigint IS NOT NULL
"""

_body = msgspec.json.Decoder(InAppBody).decode
_push = msgspec.json.Decoder(InAppPush).decode


class Message(Struct, eq=False):
    """A message that was released, as whoever serves inboxes needs it; times are UNIX seconds."""

    id: int
    app_id: int
    created_at: datetime
    """Part of its key."""
    released_at: float
    expires_at: float | None
    """None: it is never presented."""
    inbox_from: float | None
    """None: it is never in the inbox."""
    inbox_to: float | None
    ends_at: float
    cancelled_at: float | None
    updated_at: float
    letters: Sequence[int] | None
    """Recipients of a message to few; None: there are bitmaps."""
    body: InAppBody | None
    """None: not read."""
    nbytes: int = 0
    """Of the body."""


class Stored(Struct, frozen=True):
    """A message as its sender is shown it, with the texts that it is stored as."""

    id: int
    name: str | None
    audience: bytes
    body: InAppBody
    push: bytes | None
    created_at: float
    send_at: float | None
    released_at: float | None
    expires_at: float | None
    ends_at: float | None
    cancelled_at: float | None
    updated_at: float
    notification_id: int | None
    counts: InAppCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """To whom a message is released, and until when it is shown."""

    at: float
    expires_at: float | None
    inbox_from: float | None
    inbox_to: float | None
    ends_at: float
    users: Users
    devices: Devices
    installs: int
    letters: Sequence[int] | None
    """Recipients of a message to few; None: users and devices are kept as bitmaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to be kept."""

    app_id: int
    id: int
    created_at: float
    name: str | None
    audience: bytes
    body: bytes
    push: bytes | None
    send_at: float | None
    answer: bytes
    """What a repetition of the request is told, beside the id."""


class Kept(NamedTuple):
    """What is kept of a request: its message, or that which the same key brought before."""

    id: int
    replayed: bool
    answer: bytes


class Due(NamedTuple):
    """A message whose time has come."""

    id: int
    app_id: int
    audience: bytes
    body: InAppBody


class PendingPush(NamedTuple):
    """A push that goes along and is not accepted yet."""

    message_id: int
    app_id: int
    released_at: float
    audience: bytes
    push: InAppPush


class Held(NamedTuple):
    """What of an app counts against its limits."""

    live: int
    bytes: int
    scheduled: int


class PartKey(NamedTuple):
    """A part of the recipients of a message."""

    message_id: int
    users: bool
    part: int


class InAppStore:
    """In-app messages of every app."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(
        self, new: NewMessage, key: Idempotency | None, release: Release | None, push_lease_s: float
    ) -> Kept:
        """The message, committed, with its release where it is given. IdempotencyMismatchError, NotFoundError."""
        config = self._database.config
        try:
            async with self._database.transaction() as connection:
                known = await connection.fetchrow(
                    _ACCEPT,
                    *(
                        moment(new.created_at),
                        timedelta(seconds=config.idempotency_keep_s),
                        new.app_id,
                        new.id,
                        new.name,
                    ),
                    *(new.audience.decode(), new.body.decode(), new.push and new.push.decode()),
                    *(None if new.send_at is None else moment(new.send_at),),
                    *((key.key, key.body_hash, new.answer) if key else (None, None, None)),
                    timeout=config.write_timeout_s,
                )
                if known["known_id"] is not None:
                    if key is None or known["body_hash"] != key.body_hash:
                        raise IdempotencyMismatchError
                    return Kept(known["known_id"], True, known["answer"])
                if release is not None:
                    arguments = _release(new.app_id, new.id, release, push_lease_s)
                    await connection.fetchval(_RELEASE, *arguments, timeout=config.write_timeout_s)
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        return Kept(new.id, False, new.answer)

    async def release(self, app_id: int, message_id: int, release: Release) -> bool:
        """Whether a message that waited is released now: by nobody else before, and neither it nor its app is gone."""
        timeout_s = self._database.config.write_timeout_s
        return bool(
            await self._database.fetchval(_RELEASE, *_release(app_id, message_id, release, 0), timeout_s=timeout_s)
        )

    async def cancel(self, app_id: int, message_id: int, now: float) -> bool | None:
        """Whether it is withdrawn, now or before; False: it was over. None when the app has no such message."""
        done: bool | None = await self._database.fetchval(
            "SELECT cancel_in_app($1, $2, $3)", moment(now), app_id, message_id
        )
        return done

    async def change(self, app_id: int, message_id: int, wanted: InAppChange, now: float) -> bool | None:
        """Whether it is changed; False: it is over, or not released, or ends before. None when there is no such one."""
        named, ends = wanted.name is not msgspec.UNSET, wanted.ends_at is not msgspec.UNSET
        done: bool | None = await self._database.fetchval(
            "SELECT change_in_app($1, $2, $3, $4, $5, $6)",
            *(moment(now), app_id, message_id, named + 2 * ends),
            *(wanted.name if named else None, moment(wanted.ends_at) if wanted.ends_at is not msgspec.UNSET else None),
        )
        return done

    async def get(self, app_id: int, message_id: int) -> Stored | None:
        """The message; None when the app has no such one."""
        row = await self._database.fetchrow(_GET, app_id, message_id)
        return None if row is None else _stored(row)

    async def list(self, app_id: int, before: int, limit: int) -> Sequence[Stored]:
        """Messages with ids below `before`, newest first."""
        return [_stored(row) for row in await self._database.fetch(_LIST, app_id, before, limit)]

    async def held(self, app_id: int, now: float) -> Held:
        """What counts against the app's limits."""
        row = await self._database.fetchrow(_HELD, app_id, moment(now))
        return Held(row["live"], row["bytes"], row["scheduled"])

    async def due(self, now: float, limit: int) -> Sequence[Due]:
        """Messages whose time has come, the longest overdue first."""
        rows = await self._database.fetch(_DUE, moment(now), limit)
        return [Due(row["id"], row["app_id"], row["audience"].encode(), _body(row["body"])) for row in rows]

    async def next_due(self) -> float | None:
        """When the next message is due; None: none waits."""
        return seconds_or_none(await self._database.fetchval(_NEXT))

    async def take_pushes(self, now: float, lease_s: float, limit: int) -> Sequence[PendingPush]:
        """Pushes that are not accepted and that nobody works on; nobody else gets them for a while."""
        return [
            PendingPush(
                row["message_id"],
                row["app_id"],
                seconds(row["released_at"]),
                row["audience"].encode(),
                _push(row["push"]),
            )
            for row in await self._database.fetch(_TAKE_PUSHES, moment(now), moment(now + lease_s), limit)
        ]

    async def pushed(self, app_id: int, message_id: int, notification_id: int | None) -> None:
        """Nothing, once it is noted what became of the push: None where nobody could be pushed to."""
        await self._database.execute(_PUSHED, app_id, message_id, notification_id)

    async def sweep(self, now: float, cancelled_keep_s: float, limit: int) -> bool:
        """Whether there may be more to remove of what is over, and of apps that are gone."""
        gone = now - self._database.config.feed_keep_s
        done = await self._database.fetchval(
            "SELECT sweep_in_app($1, $2, $3)", moment(now - cancelled_keep_s), moment(gone), limit
        )
        return bool(done)

    async def live(self, app_id: int) -> Sequence[Message]:
        """Messages of an app to many that are shown, or were until of late, with their bodies."""
        return [_message(row) for row in await self._database.fetch(_LIVE, app_id, True)]

    async def messages(self, app_id: int, ids: Sequence[int], *, bodies: bool) -> Sequence[Message]:
        """Those of these messages that the app has and that were released."""
        return [_message(row) for row in await self._database.fetch(_HEADERS, app_id, bodies, list(ids))]

    async def parts(self, wanted: Sequence[tuple[PartKey, datetime]]) -> Sequence[Bitset]:
        """Recipients by part; empty where there are none. Each comes with the time of its message."""
        columns = [
            [key.message_id for key, _ in wanted],
            [key.users for key, _ in wanted],
            [key.part for key, _ in wanted],
            [created_at for _, created_at in wanted],
        ]
        found: list[Bitset] = [Users() if key.users else Devices() for key, _ in wanted]
        for row in await self._database.fetch(_PARTS, *columns):
            found[row["row"] - 1] = type(found[row["row"] - 1]).load(row["ids"])
        return found


def _release(app_id: int, message_id: int, release: Release, push_lease_s: float) -> list[Any]:
    """The arguments of release_in_app."""
    sets: list[tuple[bool, Bitset]] = (
        [] if release.letters is not None else [(True, release.users), (False, release.devices)]
    )
    parts = [(users, part, piece.dump()) for users, ids in sets for part, piece in ids.parts()]
    times = (release.expires_at, release.inbox_from, release.inbox_to, release.ends_at)
    return [
        moment(release.at),
        moment(release.at + push_lease_s),
        app_id,
        message_id,
        *(None if time is None else moment(time) for time in times),
        len(release.users),
        release.installs,
        release.letters,
        [users for users, _, _ in parts],
        [part for _, part, _ in parts],
        [ids for _, _, ids in parts],
    ]


def _message(row: Any) -> Message:
    return Message(
        id=row["id"],
        app_id=row["app_id"],
        created_at=row["created_at"],
        released_at=seconds(row["released_at"]),
        expires_at=seconds_or_none(row["expires_at"]),
        inbox_from=seconds_or_none(row["inbox_from"]),
        inbox_to=seconds_or_none(row["inbox_to"]),
        ends_at=seconds(row["ends_at"]),
        cancelled_at=seconds_or_none(row["cancelled_at"]),
        updated_at=seconds(row["updated_at"]),
        letters=row["letters"],
        body=None if row["body"] is None else _body(row["body"]),
        nbytes=len(row["body"] or ""),
    )


def _stored(row: Any) -> Stored:
    return Stored(
        id=row["id"],
        name=row["name"],
        audience=row["audience"].encode(),
        body=_body(row["body"]),
        push=None if row["push"] is None else row["push"].encode(),
        created_at=seconds(row["created_at"]),
        send_at=seconds_or_none(row["send_at"]),
        released_at=seconds_or_none(row["released_at"]),
        expires_at=seconds_or_none(row["expires_at"]),
        ends_at=seconds_or_none(row["ends_at"]),
        cancelled_at=seconds_or_none(row["cancelled_at"]),
        updated_at=seconds(row["updated_at"]),
        notification_id=row["notification_id"],
        counts=InAppCounts(
            recipients=row["users"] + row["installs"],
            users=row["users"],
            **{name: row[name] or 0 for name in ("delivered", "opened", "read", "dismissed", "deleted")},
        ),
    )
