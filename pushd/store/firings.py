"""Firing: an occurrence is decided about and becomes a notification, in one commit and once, whoever tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pushd.clock import Clock
from pushd.model.notification import Delivery
from pushd.store.accept_rows import INLINE_TARGETS_MAX, Accept, Due, encode
from pushd.store.badges import BadgeStore, increments
from pushd.store.database import Database
from pushd.store.firing_events import note_fired
from pushd.store.release_rows import Head, Planned, ReleaseRows, by_index, columns, fence, for_certain, in_parts
from pushd.store.tallies import Tally, keep
from pushd.store.times import moment

if TYPE_CHECKING:
    from pushd.store.schedules import Scheduled

# In one order, so that two nodes wait for each other and never in a circle. Who waited looks at the revision again.
# Rows of this table go when they fire, and statistics may say that there are none: nothing here is a join that could
# hold all that wait against all that are due.
_WIN = """
SELECT s.app_id, s.id
FROM (SELECT * FROM unnest($1::int[], $2::bigint[], $3::int[]) AS k (app, id, revision) ORDER BY k.id) w
    CROSS JOIN LATERAL (SELECT * FROM schedules k WHERE k.app_id = w.app AND k.id = w.id OFFSET 0 FOR UPDATE) s
WHERE s.revision = w.revision AND s.active AND s.next_at IS NOT NULL
"""
_DECIDE = """
INSERT INTO occurrences (decided_at, schedule_id, at, notification_id)
SELECT $1::timestamptz, * FROM unnest($2::bigint[], $3::timestamptz[], $4::bigint[])
ON CONFLICT DO NOTHING RETURNING schedule_id, at
"""
_GO_ON = """
UPDATE schedules SET revision = revision + 1, next_at = $3, nominal = $4, occurred = occurred + $5,
    skipped = skipped + $6, ended_at = CASE WHEN $3::timestamptz IS NULL THEN $7::timestamptz END
WHERE app_id = $1 AND id = $2
"""
_BECOME = "DELETE FROM schedules WHERE app_id = $1 AND id = $2"
_NOTIFICATIONS = """
INSERT INTO notifications (id, app_id, created_at, released_at, expires_at, name, send, targeted, schedule_id, devices)
SELECT n.id, n.app, n.created, n.released, n.expires, n.name, n.send, n.targeted, n.schedule,
    CASE WHEN n.low > 0 THEN ($1::int[])[n.low:n.high] END
FROM unnest($2::bigint[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[],
    $9::int[], $10::bigint[], $11::int[], $12::int[])
    AS n (id, app, created, released, expires, name, send, targeted, schedule, low, high)
"""
_ROLLOUTS = """
INSERT INTO rollouts (notification_id, app_id, created_at, next_at)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::timestamptz[])
"""
_FINISHED = """
INSERT INTO finished (finished_at, cancelled, notification_id, created_at)
SELECT $1::timestamptz, false, * FROM unnest($2::bigint[], $3::timestamptz[])
"""
# Waits for a transaction of ours that may still run, and makes one fail that comes later.
_RAISE = "UPDATE schedules SET revision = revision + 1 WHERE app_id = $1 AND id = $2"
_RUNNING = "SELECT notification_id FROM runs WHERE notification_id = ANY($1) AND release = 0 AND node_id = $2"
_DECIDED = """
SELECT o.schedule_id, o.at FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[]) AS w (schedule, at, notification)
    JOIN occurrences o ON o.schedule_id = w.schedule AND o.at = w.at
        AND o.notification_id IS NOT DISTINCT FROM w.notification
"""

_Key = tuple[int, datetime]
"""A schedule's id and an occurrence's time: what exactly-once goes by."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Firing:
    """What is to become of a schedule that is due."""

    due: Scheduled
    """As it was read: it must not have changed since."""
    occurrence: float
    skipped: tuple[float, ...] = ()
    """Occurrences before it that are not sent."""
    following: Due | None = None
    """When it is due again; None: it is over."""
    notification_id: int = 0
    """What the occurrence becomes; 0: it is skipped, too."""
    start: Accept | None = None
    """The notification: with its targets where it goes out at once, without where it is a rollout."""
    rollout: tuple[Planned, ...] = ()
    """Its releases, where it is one."""
    tally: Tally | None = None
    """Who of it is counted for a frequency cap."""

    @property
    def runs(self) -> bool:
        """Whether it goes out to anybody at once."""
        if self.start is None or self.rollout:
            return False
        return len(self.start.targeted) > sum(len(devices) for devices, _ in self.start.suppressed)

    @property
    def key(self) -> _Key:
        """Of the occurrence that it is about."""
        return self.due.id, moment(self.occurrence)

    @property
    def becomes(self) -> bool:
        """Whether the schedule is over by being the notification from now on."""
        return self.following is None and self.notification_id == self.due.id

    @property
    def inline(self) -> bool:
        """Whether it goes to so few, at once, that they are kept in its own row."""
        return self.start is not None and not self.rollout and len(self.start.targeted) <= INLINE_TARGETS_MAX

    @property
    def head(self) -> Head:
        """Of what goes out at once."""
        assert self.start is not None
        return Head(self.notification_id, 0, self.start.app_id, moment(self.start.created_at))

    def columns(self, start: Accept) -> tuple[Any, ...]:
        """The row of the notification, but for its devices."""
        known = sum(len(planned.devices) for planned in self.rollout if planned.devices is not None)
        return (
            *(self.notification_id, start.app_id, moment(start.created_at), moment(start.released_at)),
            *(None if start.expires_at is None else moment(start.expires_at), start.send.name),
            *((start.text or encode(start.send)).decode(), len(start.targeted) + known),
            None if self.notification_id == self.due.id else self.due.id,
        )


class Firer:
    """Carries out firings, many at a time."""

    def __init__(
        self, database: Database, clock: Clock, compact: Callable[[Sequence[int]], None], badges: BadgeStore
    ) -> None:
        self._database = database
        self._clock = clock
        self._compact = compact
        self._badges = badges

    async def fire(self, firings: Sequence[Firing], node_id: int) -> list[bool]:
        """For each whether it is carried out, whole, and this node has what it sends; UnavailableError: none is."""
        return await in_parts(lambda some: self._certain(some, node_id), firings)

    async def _certain(self, firings: Sequence[Firing], node_id: int) -> list[bool]:
        return await for_certain(
            self._database, lambda: self._write(firings, node_id), lambda: self._look(firings, node_id)
        )

    async def _write(self, firings: Sequence[Firing], node_id: int) -> list[bool]:
        now = moment(self._clock.now())
        async with self._database.transaction() as connection:
            await fence(connection, node_id)
            won = await win(connection, [each.due for each in firings])
            winners = [each for each in firings if (each.due.app_id, each.due.id) in won]
            if not winners:
                return [False] * len(firings)
            decided = await decide(connection, winners, now)
            await go_on(connection, winners, decided, now)
            through = [each for each in winners if not each.notification_id or each.key in decided]
            rows = ReleaseRows()
            over = await _begin(connection, [each for each in through if each.notification_id], rows, node_id, now)
            await note_fired(connection, winners, decided, rows, now)
            await keep(connection, node_id, [each.tally for each in through if each.tally is not None])
            counted = await self._badges.write(connection, increments(_going(through)))
        self._compact(over)
        await self._badges.apply(counted)
        done = set(through)
        return [each in done for each in firings]

    async def _look(self, firings: Sequence[Firing], node_id: int) -> list[bool]:
        """What became of firings whose COMMIT was lost."""
        async with self._database.transaction() as connection:
            await by_index(connection)
            keys = sorted((each.due.id, each.due.app_id) for each in firings)
            await connection.executemany(_RAISE, [(app_id, number) for number, app_id in keys])
            rows = await connection.fetch(_RUNNING, [each.notification_id for each in firings], node_id)
            running = {row["notification_id"] for row in rows}
            wanted = [(*each.key, each.notification_id or None) for each in firings]
            decided = {(row["schedule_id"], row["at"]) for row in await connection.fetch(_DECIDED, *columns(wanted, 3))}
        await self._badges.catch_up({each.app_id for each in increments(_going(firings))})
        return [each.notification_id in running if each.runs else each.key in decided for each in firings]


def _going(firings: Sequence[Firing]) -> list[Accept]:
    """What goes out at once of firings."""
    return [each.start for each in firings if each.runs and each.start is not None]


async def win(connection: Any, dues: Sequence[Scheduled]) -> AbstractSet[tuple[int, int]]:
    """Those that have not changed since they were read, by app and id: they are held to the end of the transaction."""
    keys = [(due.app_id, due.id, due.revision) for due in dues]
    return {(row["app_id"], row["id"]) for row in await connection.fetch(_WIN, *columns(keys, 3))}


async def decide(connection: Any, winners: Sequence[Firing], now: datetime) -> AbstractSet[_Key]:
    """Which occurrences are decided about now; the others were before."""
    rows = [(*each.key, each.notification_id or None) for each in winners]
    rows += [(each.due.id, moment(at), None) for each in winners for at in each.skipped]
    return {(row["schedule_id"], row["at"]) for row in await connection.fetch(_DECIDE, now, *columns(rows, 3))}


async def go_on(connection: Any, winners: Sequence[Firing], decided: AbstractSet[_Key], now: datetime) -> None:
    """Lets each schedule be due again, be over, or make room for what it becomes."""
    gone = [(each.due.app_id, each.due.id) for each in winners if each.becomes]
    left = []
    for each in winners:
        if not each.becomes:
            due, following = each.due, each.following
            passed = {(due.id, moment(at)) for at in each.skipped}
            if not each.notification_id:
                passed.add(each.key)
            occurred = int(each.notification_id != 0 and each.key in decided)
            times = (None, None) if following is None else (moment(following.at), moment(following.nominal))
            left.append((due.app_id, due.id, *times, occurred, len(passed & decided), now))
    if gone:
        await connection.executemany(_BECOME, gone)
    if left:
        await connection.executemany(_GO_ON, left)


async def _begin(
    connection: Any, firings: Sequence[Firing], rows: ReleaseRows, node_id: int, now: datetime
) -> list[int]:
    """Writes what goes out, or will, its releases by `rows`; those that are over at once and can be compacted."""
    if not firings:
        return []
    devices: list[int] = []
    notifications = []
    for each in firings:
        start = each.start
        assert start is not None, "what becomes a notification says which"
        low = len(devices) + 1 if each.inline else 0
        devices += start.targeted if each.inline else ()
        notifications.append((*each.columns(start), low, len(devices)))
        if each.rollout:
            for number, planned in enumerate(each.rollout, 1):
                rows.waiting(each.head._replace(release=number), planned)
            continue
        if not each.inline:
            rows.targets(each.head, start.targeted)
        rows.suppressed(each.head, start.suppressed, inline=each.inline)
        if each.runs:
            rows.run(each.head, once=start.send.delivery is Delivery.AT_MOST_ONCE)
    await connection.execute(_NOTIFICATIONS, devices, *columns(notifications, 11))
    if rollouts := [each for each in firings if each.rollout]:
        first = [(each.head, moment(min(planned.at for planned in each.rollout))) for each in rollouts]
        waiting = [(head.notification_id, head.app_id, head.created_at, at) for head, at in first]
        await connection.execute(_ROLLOUTS, *columns(waiting, 4))
    await rows.write(connection, node_id, now)
    if over := [each for each in firings if not each.runs and not each.rollout]:
        keys = [(each.notification_id, each.head.created_at) for each in over]
        await connection.execute(_FINISHED, now, *columns(keys, 2))
    return [each.notification_id for each in over if not each.inline]
