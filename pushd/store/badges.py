"""Badges in the store: counts moved by the transaction that sends, known here as they are committed, and set by hand.

Memory follows the steps of an app in their order: a transaction that adds steps is told of those that came before and
are not known here, and so is whoever asks. An app's counts are read when they are first wanted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pushd.badges import Badges, Increment, Step, increment, read_step, steps
from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.errors import UnavailableError
from pushd.store.accept_rows import Accept
from pushd.store.database import Database, OutcomeUnknownError
from pushd.store.times import moment

MANY = 10_000
"""Devices of a step behind which others get their turn."""

_COUNT = "SELECT * FROM count_badges($1, $2, $3, $4, $5, $6, $7, $8)"
_SINCE = """
SELECT b.seq AS newest, d.* FROM badge_apps b LEFT JOIN badge_deltas d ON d.app_id = b.app_id AND d.seq > $2
WHERE b.app_id = $1 ORDER BY d.seq
"""
_STEPS = "SELECT * FROM badge_deltas WHERE app_id = $1 ORDER BY seq"
_NEWEST = "SELECT seq FROM badge_apps WHERE app_id = $1"
_BLOCKS = "SELECT start, next FROM id_blocks WHERE space = 1 AND app_id = $1"
_PARTS = "SELECT part FROM badge_parts WHERE app_id = $1"
_PART = "SELECT devices, counts FROM badge_parts WHERE app_id = $1 AND part = $2"
_SET = "SELECT set_badges($1, $2, $3, $4)"
_SET_OF = "SELECT set_badges_of($1, $2, $3, $4)"


Counted: TypeAlias = Mapping[int, Sequence[tuple[int, Step]]]
"""By app, with their numbers, steps that were written and those before them that were not known here."""


class BadgeStore:
    """Badges of every app whose messages count them; of the others there is nothing, here and in PostgreSQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.badges = Badges()
        """What the fan-out reads."""
        self._known: dict[int, int] = {}
        """Of apps that were read, the newest step that is carried out."""
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def write(self, connection: Any, increments: Iterable[Increment]) -> Counted:
        """Writes what messages count as the last of a caller's transaction; to be `apply`-ed when that is committed."""
        rows = steps(increments)
        if not rows:
            return {}
        apps = sorted({app_id for app_id, _ in rows})
        told = await connection.fetch(
            *(_COUNT, moment(self._clock.now()), apps, [self._known.get(app_id) for app_id in apps]),
            [app_id for app_id, _ in rows],
            [step.amount for _, step in rows],
            [step.sets for _, step in rows],
            [step.packed for _, step in rows],
            [step.dump() for _, step in rows],
            timeout=self._database.config.write_timeout_s,
        )
        own: dict[int, deque[Step]] = {app_id: deque() for app_id in apps}
        for app_id, step in rows:
            own[app_id].append(step)
        counted: dict[int, list[tuple[int, Step]]] = {app_id: [] for app_id in apps}
        for row in told:
            app_id = row["app_id"]
            counted[app_id].append((row["seq"], _step(row) if row["devices"] else own[app_id].popleft()))
        return counted

    async def apply(self, counted: Counted) -> None:
        """Returns when memory has what was committed.

        OutcomeUnknownError where it cannot be read now: whoever looks what became of the commit has to `catch_up`.
        """
        try:
            for app_id, fresh in counted.items():
                async with self._turns[app_id]:
                    if not fresh or not await self._take(app_id, fresh):
                        await self._load(app_id)
        except UnavailableError as error:
            raise OutcomeUnknownError(error.detail, retry_after_s=error.retry_after_s) from error

    async def catch_up(self, apps: Iterable[int]) -> None:
        """Returns when memory has all that was committed for these apps before; UnavailableError."""
        for app_id in apps:
            async with self._turns[app_id]:
                known = self._known.get(app_id)
                if known is not None:
                    rows = await self._database.fetch(_SINCE, app_id, known)
                    fresh = [(row["seq"], _step(row)) for row in rows if row["seq"] is not None]
                    newest = rows[0]["newest"] if rows else 0
                    if await self._take(app_id, fresh) and self._known[app_id] >= newest:
                        continue
                await self._load(app_id)

    async def ready(self, app_id: int) -> None:
        """Returns when the counts of an app are known here; UnavailableError.

        Asked before a send that counts: read within its commit, they would keep everyone's commits waiting.
        """
        if app_id not in self._known:
            await self.catch_up((app_id,))

    async def heard(self, apps: Sequence[int]) -> None:
        """Takes in what other nodes counted, of apps whose counts are known here."""
        if known := [app_id for app_id in apps if app_id in self._known]:
            await self.catch_up(known)

    async def of(self, app_id: int, ids: NDArray[np.uint32], newest: int | None) -> NDArray[np.uint16]:
        """The counts of devices of an app whose newest step has this number; None: it counts none. UnavailableError."""
        if newest is None:
            return np.zeros(len(ids), np.uint16)
        if self._known.get(app_id, -1) < newest:
            await self.catch_up((app_id,))
        return self.badges.of(ids)

    async def set(self, app_id: int, device_id: int, count: int) -> None:
        """Returns when this is what a device of the app shows, committed."""
        await self._database.fetchval(_SET, moment(self._clock.now()), app_id, [device_id], count)

    async def set_of(self, app_id: int, external_id: str, count: int) -> int | None:
        """How many devices of a user show this now, committed; None where the app has no such user."""
        found: int | None = await self._database.fetchval(
            _SET_OF, moment(self._clock.now()), app_id, external_id, count
        )
        return found

    async def clear_within(self, connection: Any, app_id: int, ids: Sequence[int]) -> None:
        """Returns when nothing is counted for devices of an app, as the last of a caller's transaction.

        Sends that count wait for its end from here on.
        """
        if ids:
            timeout_s = self._database.config.statement_timeout_s
            await connection.execute(_SET, moment(self._clock.now()), app_id, ids, 0, timeout=timeout_s)

    def forget(self, app_id: int) -> None:
        """Forgets an app that is gone."""
        self._known.pop(app_id, None)
        self._turns.pop(app_id, None)

    async def _take(self, app_id: int, fresh: Sequence[tuple[int, Step]]) -> bool:
        """Whether what is known reached to these steps, and now reaches beyond them."""
        for seq, step in fresh:
            known = self._known.get(app_id)
            if known is None or seq > known + 1:
                return False
            if seq == known + 1:
                self.badges.move(step)
                self._known[app_id] = seq
                if len(step.devices) > MANY:
                    await asyncio.sleep(0)
        return True

    async def _load(self, app_id: int) -> None:
        """Reads all of an app anew, as of one moment."""
        timeout_s = self._database.config.bulk_timeout_s
        # Beside what is shown meanwhile: a retry must not find half of it.
        read = Badges()
        async with self._database.transaction("repeatable_read", readonly=True) as connection:
            newest = await connection.fetchval(_NEWEST, app_id) or 0
            blocks = await connection.fetch(_BLOCKS, app_id)
            for row in await connection.fetch(_PARTS, app_id):
                part = await connection.fetchrow(_PART, app_id, row["part"], timeout=timeout_s)
                read.put(Devices.load(part["devices"]).column(), read_counts(part["counts"]))
            for row in await connection.fetch(_STEPS, app_id, timeout=timeout_s):
                read.move(_step(row))
                await asyncio.sleep(0)
        self._known.pop(app_id, None)
        for start, following in blocks:
            self.badges.take(read, start, following)
            await asyncio.sleep(0)
        self._known[app_id] = newest


def increments(accepts: Iterable[Accept]) -> list[Increment]:
    """What messages that go out now count."""
    now = [each for each in accepts if each.due is None]
    found = [increment(each.app_id, each.send, each.targeted, each.suppressed) for each in now]
    return [each for each in found if each is not None]


def read_counts(counts: bytes) -> NDArray[np.uint16]:
    """Counts as they were kept."""
    return np.frombuffer(counts, "<u2").astype(np.uint16)


def _step(row: Any) -> Step:
    return read_step(row["amount"], row["sets"], row["packed"], row["devices"])
