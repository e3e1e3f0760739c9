"""In-app messages in the store: kept, released to rows or bitmaps of recipients, read, changed and withdrawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from pushd.bitset import Bitset, Devices, Users
from pushd.errors import IdempotencyMismatchError
from pushd.model.in_app import InAppChange
from pushd.store.accepts import Idempotency
from pushd.store.committer import refusal
from pushd.store.database import Database
from pushd.store.in_app_rows import (
    OWN_TIMES,
    Held,
    Kept,
    Message,
    NewMessage,
    PartKey,
    PendingPush,
    Release,
    Stored,
    read_messages,
    read_push,
    read_stored,
)
from pushd.store.times import moment

_ACCEPT = "SELECT * FROM accept_in_app($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_RELEASE = "SELECT release_in_app($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
_STORED = """
SELECT m.*, c.delivered, c.opened, c.read, c.dismissed, c.deleted, s.send,
    CASE WHEN s.active THEN s.next_at END AS next_at,
    (NOT s.active OR cardinality(m.pauses) % 2 = 1) IS TRUE AND m.cancelled_at IS NULL AS paused
FROM in_app_messages m LEFT JOIN in_app_counts c ON c.message_id = m.id AND c.created_at = m.created_at
    LEFT JOIN LATERAL (SELECT k.send, k.active, k.next_at FROM schedules k
        WHERE k.app_id = m.app_id AND k.id = m.id AND k.ended_at IS NULL OFFSET 0) s ON true
"""
_GET = f"{_STORED} WHERE m.app_id = $1 AND m.id = $2"  # a constant
_LIST = f"{_STORED} WHERE m.app_id = $1 AND m.id < $2 ORDER BY m.id DESC LIMIT $3"  # a constant
_HEADER = f"""
SELECT m.id, m.app_id, m.created_at, m.cancelled_at, {OWN_TIMES},
    CASE WHEN r.release IS NULL THEN m.letters ELSE r.letters END AS letters,
    greatest(m.updated_at, r.released_at) AS updated_at,
    coalesce(r.release, 0) AS release, coalesce(r.batches, 1) AS batches, m.pauses,
    CASE WHEN $2 AND row_number() OVER (PARTITION BY m.id ORDER BY r.release) = 1 THEN m.body END AS body
"""
_HEADERS = f"""{_HEADER} FROM unnest($3::bigint[]) AS n (id)
CROSS JOIN LATERAL (SELECT k.* FROM in_app_messages k WHERE k.app_id = $1 AND k.id = n.id OFFSET 0) m
LEFT JOIN LATERAL (SELECT k.* FROM in_app_releases k WHERE k.message_id = m.id AND k.created_at = m.created_at
    AND NOT k.missed OFFSET 0) r ON true
WHERE m.released_at IS NOT NULL ORDER BY m.id, r.release"""  # noqa: S608  # a constant
_LIVE = f"""{_HEADER} FROM (SELECT * FROM in_app_live WHERE app_id = $1) l
CROSS JOIN LATERAL (SELECT k.* FROM in_app_messages k
    WHERE k.app_id = $1 AND k.id = l.message_id AND k.created_at = l.created_at OFFSET 0) m
LEFT JOIN LATERAL (SELECT k.* FROM in_app_releases k WHERE k.message_id = l.message_id AND k.created_at = l.created_at
    AND k.release = l.release OFFSET 0) r ON true
ORDER BY m.id, r.release"""  # noqa: S608  # a constant
_PARTS = """
SELECT n.row, p.ids FROM unnest($1::bigint[], $2::int[], $3::boolean[], $4::int[], $5::timestamptz[])
    WITH ORDINALITY AS n (message_id, release, users, part, created_at, row)
CROSS JOIN LATERAL (SELECT k.ids FROM in_app_parts k WHERE k.message_id = n.message_id AND k.release = n.release
    AND k.users = n.users AND k.part = n.part AND k.created_at = n.created_at OFFSET 0) p
"""
_REACHED = """
SELECT p.users, p.ids, NULL AS letters FROM in_app_parts p WHERE p.message_id = $1
UNION ALL
SELECT NULL, NULL, r.letters FROM in_app_releases r WHERE r.message_id = $1 AND r.letters IS NOT NULL
"""
_DEVICES_OF = "SELECT id FROM devices WHERE install = ANY ($1) AND deleted_at IS NULL"
_HELD = """
SELECT count(*)::int AS live, coalesce(sum(bytes), 0)::bigint AS bytes,
    (SELECT count(*) FROM schedules WHERE app_id = $1 AND in_app IS NOT NULL AND ended_at IS NULL)::int AS scheduled
FROM (SELECT max(bytes) AS bytes FROM in_app_live WHERE app_id = $1 AND ends_at > $2 GROUP BY message_id) l
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
WITH gone AS (DELETE FROM in_app_pushes WHERE message_id = $2), noted AS (
    UPDATE in_app_messages SET notification_id = $3 WHERE app_id = $1 AND id = $2 AND $3::bigint IS NOT NULL
    RETURNING cancelled_at IS NOT NULL AS withdrawn
)
SELECT withdrawn, CASE WHEN withdrawn THEN (cancel_notification($1, $3, $4)).compactable END AS compactable FROM noted
"""


class InAppStore:
    """In-app messages of every app."""

    def __init__(self, database: Database, compact: Callable[[Sequence[int]], None]) -> None:
        self._database = database
        self._compact = compact

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
                    *((moment(new.due.at), moment(new.due.nominal)) if new.due else (None, None)),
                    new.recurring,
                    *((key.key, key.body_hash, new.answer) if key else (None, None, None)),
                    timeout=config.write_timeout_s,
                )
                if known["known_id"] is not None:
                    if key is None or known["body_hash"] != key.body_hash:
                        raise IdempotencyMismatchError
                    return Kept(known["known_id"], True, known["answer"])
                if release is not None:
                    await write_release(connection, new.app_id, new.id, release, push_lease_s, config.write_timeout_s)
        except asyncpg.PostgresError as error:
            raise refusal(error) from error
        return Kept(new.id, False, new.answer)

    async def cancel(self, app_id: int, message_id: int, now: float) -> bool | None:
        """Whether it is withdrawn, now or before; False: it was over. None when the app has no such message.

        Nothing more of its push goes out either, whatever crashes.
        """
        row = await self._database.fetchrow("SELECT * FROM cancel_in_app($1, $2, $3)", moment(now), app_id, message_id)
        self._compact(row["compactable"] or ())
        done: bool | None = row["done"]
        return done

    async def pause(self, app_id: int, message_id: int, now: float, *, paused: bool) -> bool | None:
        """Whether what is to come of it is kept back, or comes again; False: all came. None: there is no such one.

        So is what is left of its push.
        """
        done: bool | None = await self._database.fetchval(
            "SELECT pause_in_app($1, $2, $3, $4)", moment(now), app_id, message_id, paused
        )
        return done

    async def reached(self, message_id: int) -> tuple[Users, Devices]:
        """Whom its releases so far were for: users, and the devices of installs that had none."""
        users, devices = Users(), Devices()
        installs: list[int] = []
        for row in await self._database.fetch(_REACHED, message_id):
            if row["letters"] is not None:
                users |= Users(each for each in row["letters"] if each > 0)
                installs += [-each for each in row["letters"] if each < 0]
            elif row["users"]:
                users |= Users.load(row["ids"])
            else:
                devices |= Devices.load(row["ids"])
        if installs:
            devices |= Devices(row["id"] for row in await self._database.fetch(_DEVICES_OF, installs))
        return users, devices

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
        return None if row is None else read_stored(row)

    async def list(self, app_id: int, before: int, limit: int) -> Sequence[Stored]:
        """Messages with ids below `before`, newest first."""
        return [read_stored(row) for row in await self._database.fetch(_LIST, app_id, before, limit)]

    async def held(self, app_id: int, now: float) -> Held:
        """What counts against the app's limits."""
        row = await self._database.fetchrow(_HELD, app_id, moment(now))
        return Held(row["live"], row["bytes"], row["scheduled"])

    async def take_pushes(self, now: float, lease_s: float, limit: int) -> Sequence[PendingPush]:
        """Pushes that are not accepted and that nobody works on; nobody else gets them for a while."""
        rows = await self._database.fetch(_TAKE_PUSHES, moment(now), moment(now + lease_s), limit)
        return [read_push(row) for row in rows]

    async def pushed(self, app_id: int, message_id: int, notification_id: int | None, now: float) -> bool:
        """Whether the message was withdrawn, once it is noted what its push became: None where nobody could get one.

        Then the push is cancelled; whoever withdraws the message later finds it.
        """
        row = await self._database.fetchrow(_PUSHED, app_id, message_id, notification_id, moment(now))
        if row is None or not row["withdrawn"]:
            return False
        self._compact(row["compactable"] or ())
        return True

    async def sweep(self, now: float, cancelled_keep_s: float, limit: int) -> bool:
        """Whether there may be more to remove of what is over, and of apps that are gone."""
        gone = now - self._database.config.feed_keep_s
        done = await self._database.fetchval(
            "SELECT sweep_in_app($1, $2, $3)", moment(now - cancelled_keep_s), moment(gone), limit
        )
        return bool(done)

    async def live(self, app_id: int) -> Sequence[Message]:
        """Messages of an app to many that are shown, or were until of late, with their bodies."""
        return read_messages(await self._database.fetch(_LIVE, app_id, True))

    async def messages(self, app_id: int, ids: Sequence[int], *, bodies: bool) -> Sequence[Message]:
        """Those of these messages that the app has and that were released."""
        return read_messages(await self._database.fetch(_HEADERS, app_id, bodies, list(ids)))

    async def parts(self, wanted: Sequence[tuple[PartKey, datetime]]) -> Sequence[Bitset]:
        """Recipients by part; empty where there are none. Each comes with the time of its message."""
        columns = [
            [key.message_id for key, _ in wanted],
            [key.release for key, _ in wanted],
            [key.users for key, _ in wanted],
            [key.part for key, _ in wanted],
            [created_at for _, created_at in wanted],
        ]
        found: list[Bitset] = [Users() if key.users else Devices() for key, _ in wanted]
        for row in await self._database.fetch(_PARTS, *columns):
            found[row["row"] - 1] = type(found[row["row"] - 1]).load(row["ids"])
        return found


async def write_release(
    connection: Any, app_id: int, message_id: int, release: Release, push_lease_s: float, timeout_s: float
) -> bool:
    """Whether a message, or one of its releases, is released by the caller's transaction; not where it is withdrawn."""
    arguments = _release(app_id, message_id, release, push_lease_s)
    return bool(await connection.fetchval(_RELEASE, *arguments, timeout=timeout_s))


def _release(app_id: int, message_id: int, release: Release, push_lease_s: float) -> list[Any]:
    """The arguments of release_in_app."""
    sets: list[tuple[bool, Bitset]] = (
        [] if release.letters is not None and not release.missed else [(True, release.users), (False, release.devices)]
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
        release.batches,
        release.missed,
    ]
