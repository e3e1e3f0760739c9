"""Firing of in-app messages: an occurrence becomes one, or one goes on to its next release, in one commit and once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pushd.clock import Clock
from pushd.store.accept_rows import encode
from pushd.store.database import Database
from pushd.store.firing_events import note_fired
from pushd.store.firings import Firing, decide, go_on, win
from pushd.store.in_app import write_release
from pushd.store.in_app_rows import Release
from pushd.store.release_rows import ReleaseRows, fence
from pushd.store.times import moment, moment_or_none

if TYPE_CHECKING:
    from pushd.model.notification import Send
    from pushd.store.schedules import Scheduled

_KEEP = """
INSERT INTO in_app_messages (id, app_id, created_at, name, audience, body, push, send_at, schedule_id, notification_id,
    updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $3)
"""
_GO_ROUND = "UPDATE schedules SET stage = $3, next_at = $4, nominal = $4, ended_at = NULL WHERE app_id = $1 AND id = $2"
_BEGIN_ROUND = """
INSERT INTO schedules (id, app_id, created_at, accepted_at, name, send, recurring, in_app, stage, next_at, nominal)
VALUES ($1, $2, $3, $4, $5, $6, false, $7, $8, $9, $9)
"""
_NEXT_STAGE = "UPDATE schedules SET revision = revision + 1, next_at = $3, nominal = $3 WHERE app_id = $1 AND id = $2"
_LAST_STAGE = "DELETE FROM schedules WHERE app_id = $1 AND id = $2"
_PUSH = """
INSERT INTO schedules (id, app_id, created_at, accepted_at, name, send, recurring, next_at, nominal)
VALUES ($1, $2, $3, $4, $5, $6, false, $7, $8)
"""
_NOTE_PUSH = """
SELECT note_accepted(ARRAY[$1::bigint], ARRAY[$2::int], ARRAY[$3::float8], ARRAY[$3::float8], ARRAY[$4::text], ARRAY[0],
    ARRAY[$5::float8], '{}') WHERE EXISTS (SELECT FROM listeners)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushAlong:
    """The push of a message that comes by and by: a send with the same time, scheduled with the message."""

    id: int
    send: Send
    accepted_at: float
    """As of when its time is judged: as that of the message is."""
    at: float
    nominal: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """That a message goes round the world from now on."""

    stage: bytes
    at: float
    """Of its first release."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InAppFiring:
    """What is to become of a due schedule of in-app messages, where an occurrence of it becomes one."""

    firing: Firing
    """The occurrence; what it becomes has no targets here."""
    name: str | None
    audience: bytes
    body: bytes
    push: bytes | None
    release: Release | None
    """None where it goes round the world: that begins later."""
    round: Round | None = None
    push_along: PushAlong | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """The next release of a message that goes round the world."""

    due: Scheduled
    release: Release | None
    """None: nobody waits for it."""
    missed: Release | None
    """Whose time has passed."""
    next_at: float | None
    """None: it was the last one."""


class InAppFirer:
    """Carries out firings of in-app messages, one by one.

    Nothing but memory that the change feed keeps true, and pushes that are looked for, follows a commit: one whose
    answer was lost is tried again, waits for the first, and finds the revision changed.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def fire(self, wanted: InAppFiring, node_id: int) -> bool:
        """Whether it is carried out, whole; False: the schedule was changed meanwhile, or its occurrence decided about.

        UnavailableError: nothing of it is written, or all of it.
        """
        now = moment(self._clock.now())
        firing = wanted.firing
        async with self._database.transaction() as connection:
            await fence(connection, node_id)
            if not await win(connection, [firing.due]):
                return False
            decided = await decide(connection, [firing], now)
            await go_on(connection, [firing], decided, now)
            through = firing.key in decided
            if firing.notification_id and through:
                await self._begin(connection, wanted, now)
            await note_fired(connection, [firing], decided, ReleaseRows(), now)
        return through

    async def open(self, wanted: Stage, node_id: int) -> bool:
        """Whether the release is carried out, whole; False: another was, or the message was paused, or is withdrawn.

        UnavailableError: nothing of it is written, or all of it.
        """
        due = wanted.due
        async with self._database.transaction() as connection:
            await fence(connection, node_id)
            if not await win(connection, [due]):
                return False
            for release in (wanted.missed, wanted.release):
                if release is not None:
                    await self._release(connection, due.app_id, due.id, release)
            if wanted.next_at is None:
                await connection.execute(_LAST_STAGE, due.app_id, due.id)
            else:
                await connection.execute(_NEXT_STAGE, due.app_id, due.id, moment(wanted.next_at))
        return True

    async def _begin(self, connection: Any, wanted: InAppFiring, now: datetime) -> None:
        firing, number = wanted.firing, wanted.firing.notification_id
        due, recurs = firing.due, firing.notification_id != firing.due.id
        push = wanted.push_along
        await connection.execute(
            _KEEP,
            *(number, due.app_id, now, wanted.name, wanted.audience.decode(), wanted.body.decode()),
            *(None if wanted.push is None else wanted.push.decode(), moment_or_none(due.next_at)),
            *(due.id if recurs else None, None if push is None else push.id),
        )
        if push is not None:
            times = (now, moment(push.accepted_at))
            send = encode(push.send).decode()
            await connection.execute(
                _PUSH, push.id, due.app_id, *times, push.send.name, send, moment(push.at), moment(push.nominal)
            )
            await connection.execute(_NOTE_PUSH, push.id, due.app_id, now.timestamp(), push.send.name, push.at)
        if wanted.release is not None:
            await self._release(connection, due.app_id, number, wanted.release)
        if wanted.round is not None:
            stage, at = wanted.round.stage.decode(), moment(wanted.round.at)
            if recurs:
                assert due.in_app is not None, "only of in-app messages"
                row = (number, due.app_id, now, moment(due.accepted_at), wanted.name, encode(due.send).decode())
                await connection.execute(_BEGIN_ROUND, *row, due.in_app.decode(), stage, at)
            else:
                await connection.execute(_GO_ROUND, due.app_id, due.id, stage, at)

    async def _release(self, connection: Any, app_id: int, message_id: int, release: Release) -> None:
        timeout_s = self._database.config.write_timeout_s
        # Its push is for whoever looks for pushes: nobody works on it yet.
        await write_release(connection, app_id, message_id, release, 0, timeout_s)
