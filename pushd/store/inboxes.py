"""Inboxes in the store: whose they are, what was sent to few of them by name, and what was done with each message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct

from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.errors import PushdError
from pushd.model.in_app import InAppRecipient, InboxEvent
from pushd.service import Service
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.in_app_rows import OWN_TIMES, Shown, batch, shown
from pushd.store.times import moment, seconds_or_none

_READER = """
SELECT i.id, i.user_id, i.in_app_consent,
    ARRAY(SELECT d.id FROM devices d WHERE d.install = i.id AND d.deleted_at IS NULL) AS devices
FROM installs i WHERE i.app_id = $1 AND i.name = $2
"""
_STATE = "s.delivered_at, s.opened_at, s.read_at, s.dismissed_at, s.deleted_at"
# Letters, each with its message and its state; then the states of messages to many.
_FOUND = f"""
SELECT l.message_id, l.recipient, m.created_at, {OWN_TIMES}, m.cancelled_at,
    greatest(m.updated_at, r.released_at) AS updated_at, coalesce(r.batches, 1) AS batches, m.pauses,
    CASE WHEN r.batches > 1 THEN array_position(r.letters, l.recipient) - 1 END AS rank,
    cardinality(r.letters) AS count,
    {_STATE}, s.updated_at AS done_at
FROM unnest($2::int[]) AS n (recipient)
CROSS JOIN LATERAL (SELECT k.recipient, k.message_id, k.release, k.created_at FROM in_app_letters k
    WHERE k.recipient = n.recipient AND k.ends_at > $3 ORDER BY k.message_id DESC LIMIT $4) l
CROSS JOIN LATERAL (SELECT k.* FROM in_app_messages k
    WHERE k.app_id = $1 AND k.id = l.message_id AND k.created_at = l.created_at OFFSET 0) m
LEFT JOIN LATERAL (SELECT k.* FROM in_app_releases k WHERE k.message_id = l.message_id AND k.release = l.release
    AND k.created_at = l.created_at AND l.release > 0 OFFSET 0) r ON true
LEFT JOIN LATERAL (SELECT k.* FROM in_app_states k WHERE k.recipient = l.recipient AND k.message_id = l.message_id
    AND k.created_at = l.created_at OFFSET 0) s ON true
UNION ALL
SELECT n.message_id, n.recipient, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    {_STATE}, s.updated_at
FROM unnest($5::bigint[], $6::int[], $7::timestamptz[]) AS n (message_id, recipient, created_at)
CROSS JOIN LATERAL (SELECT k.* FROM in_app_states k WHERE k.recipient = n.recipient AND k.message_id = n.message_id
    AND k.created_at = n.created_at OFFSET 0) s
"""  # noqa: S608  # constants
_STATES = f"""
SELECT s.recipient, u.external_id, i.name, {_STATE} FROM in_app_states s
    LEFT JOIN users u ON u.id = s.recipient AND s.recipient > 0
    LEFT JOIN installs i ON i.id = -s.recipient AND s.recipient < 0
WHERE s.message_id = $1 AND s.recipient > $2 AND (cardinality($3::text[]) = 0
    OR ('delivered' = ANY ($3) AND s.delivered_at IS NOT NULL) OR ('opened' = ANY ($3) AND s.opened_at IS NOT NULL)
    OR ('read' = ANY ($3) AND s.read_at IS NOT NULL) OR ('dismissed' = ANY ($3) AND s.dismissed_at IS NOT NULL)
    OR ('deleted' = ANY ($3) AND s.deleted_at IS NOT NULL))
ORDER BY s.recipient LIMIT $4
"""  # noqa: S608  # a constant
_TAKE = "SELECT take_in_app_events($1, $2, $3, $4, $5, $6, $7, $8, $9)"

BITS = {event: 1 << bit for bit, event in enumerate(InboxEvent)}
"""Of what take_in_app_events answers."""


class InstallReader(NamedTuple):
    """An install that asks for its inbox."""

    install: int
    user: int
    """0: it has none."""
    consents: bool
    devices: Devices


class State(Struct, eq=False):
    """What a recipient did with a message, in UNIX seconds; and when the latest of it came."""

    delivered_at: float | None = None
    opened_at: float | None = None
    read_at: float | None = None
    dismissed_at: float | None = None
    deleted_at: float | None = None
    updated_at: float | None = None


class Letter(Shown, eq=False, kw_only=True):
    """A message to few that a recipient got."""

    message_id: int
    recipient: int
    batch: int
    """Which of these it came by, from 0."""


class Done(NamedTuple):
    """What one recipient did with one message, at which times of his device."""

    recipient: int
    message_id: int
    created_at: datetime
    """Of the message."""
    times: Mapping[InboxEvent, float]


class InboxStore(Service):
    """Inboxes of every app."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._committer: Committer[Sequence[Done], Sequence[int]] = Committer(
            "in-app-events", database.config, self._write
        )

    async def start(self) -> None:
        """Begins to take what recipients did."""
        self._committer.fatal = self.fatal
        await self._committer.start()

    async def stop(self) -> None:
        """Takes no more."""
        await self._committer.stop()
        await super().stop()

    async def install(self, app_id: int, name: str) -> InstallReader | None:
        """The install; None when the app has no such one."""
        row = await self._database.fetchrow(_READER, app_id, name)
        if row is None:
            return None
        return InstallReader(row["id"], row["user_id"] or 0, row["in_app_consent"], Devices(row["devices"]))

    async def find(
        self,
        app_id: int,
        recipients: Sequence[int],
        many: Sequence[tuple[int, int, datetime]],
        now: float,
        limit: int,
    ) -> tuple[list[Letter], dict[tuple[int, int], State]]:
        """The newest letters to these recipients; and states by message and recipient, of these and of `many`.

        `many` are messages to many: number, recipient, and when it was made.
        """
        columns = zip(*many, strict=True) if many else ((), (), ())
        rows = await self._database.fetch(
            _FOUND, app_id, list(recipients), moment(now), limit, *(list(column) for column in columns)
        )
        letters = [_letter(row) for row in rows if row["created_at"] is not None]
        return letters, {
            (row["message_id"], row["recipient"]): _state(row) for row in rows if row["done_at"] is not None
        }

    async def done(self, done: Sequence[Done]) -> Sequence[int]:
        """For each the bits of what is new, committed; -1: the recipient is gone. Each pair of them once.

        Given again after an error nothing counts twice. UnavailableError.
        """
        return await self._committer.begin(done, len(done)) if done else ()

    async def states(
        self, message_id: int, events: Sequence[InboxEvent], after: int, limit: int
    ) -> Sequence[tuple[int, InAppRecipient]]:
        """Recipients of a message who did one of these things (none given: anything), by their numbers."""
        names = [event.value for event in events]
        rows = await self._database.fetch(_STATES, message_id, after, names, limit)
        return [(row["recipient"], _recipient(row)) for row in rows]

    async def _write(self, items: Sequence[Sequence[Done]]) -> Sequence[Sequence[int] | PushdError]:
        """Writes a group; who did the same before within it has done it."""
        rows: dict[tuple[int, int], dict[InboxEvent, float]] = {}
        created: dict[int, datetime] = {}
        for item in items:
            for each in item:
                times = rows.setdefault((each.recipient, each.message_id), {})
                created[each.message_id] = each.created_at
                for event, at in each.times.items():
                    times.setdefault(event, at)
        keys = sorted(rows)
        bits = await self._database.fetchval(
            _TAKE,
            moment(self._clock.now()),
            [recipient for recipient, _ in keys],
            [message for _, message in keys],
            [created[message] for _, message in keys],
            *([rows[key].get(event) for key in keys] for event in InboxEvent),
            timeout_s=self._database.config.write_timeout_s,
        )
        left = {key: -1 if new is None else new for key, new in zip(keys, bits or (), strict=True)}
        return [[_part(left, each) for each in item] for item in items]


def _part(left: dict[tuple[int, int], int], each: Done) -> int:
    """The new bits that this one brought first; they are nobody else's then."""
    key = (each.recipient, each.message_id)
    if left[key] < 0:
        return -1
    mine = sum(BITS[event] for event in each.times)
    new = left[key] & mine
    left[key] -= new
    return new


def _letter(row: Any) -> Letter:
    return Letter(
        message_id=row["message_id"],
        recipient=row["recipient"],
        batch=batch(row["rank"], row["count"], row["batches"]) if row["rank"] is not None else 0,
        **shown(row),
    )


def _state(row: Any) -> State:
    delivered, opened, read, dismissed, deleted = (seconds_or_none(row[f"{event.value}_at"]) for event in InboxEvent)
    return State(delivered, opened, read, dismissed, deleted, seconds_or_none(row["done_at"]))


def _recipient(row: Any) -> InAppRecipient:
    return InAppRecipient(
        user_id=row["external_id"],
        install_id=row["name"],
        **{f"{event.value}_at": seconds_or_none(row[f"{event.value}_at"]) for event in InboxEvent},
    )
