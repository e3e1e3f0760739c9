"""Caps at work: who may have one more, counted at once, taken back if it comes to nothing, known after a start."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices, Persons
from pushd.model.caps import Cap
from pushd.scheduler.caps import Counter
from pushd.scheduler.pauses import Pauses, pieces
from pushd.store.tallies import Kept, Tally
from pushd.targeting.holders import Holders

SLICE_ROWS = 16_384
"""Persons that are counted before others may get their turn: some 2 ms, for caps of a few messages."""
SLICE_CELLS = 131_072
"""Times that are moved at a stretch where something is taken back."""

Key = tuple[int, str]
"""App and category."""


class Tallies(Protocol):
    """What is asked of the store; `store.tallies.TallyStore` is the implementation."""

    async def position(self) -> int:
        """Where the tallies stand."""

    def load(self, app_id: int, category: str, since: float, position: int) -> AsyncGenerator[Sequence[Kept], None]:
        """What was counted after a time, by its own time."""

    async def counted(self, notification_id: int) -> Persons:
        """Who was counted for a notification."""

    async def since(
        self, app_id: int, category: str, position: int, node_id: int, oldest: float
    ) -> tuple[Sequence[Kept], int]:
        """What other nodes counted from a position on, and where to go on from."""


class Verdict(NamedTuple):
    """What caps make of a release."""

    over: Devices
    """Of persons who had as many as they may."""
    tally: Tally | None
    """Who is counted; None: nobody."""


@dataclass(slots=True, eq=False)
class _Count:
    """What is known of one category of one app."""

    counter: Counter
    position: int
    """All that other nodes counted below it is in here."""
    known: set[int] = field(default_factory=set)
    """Of what lies above, that is in here too."""
    stale: bool = False
    """Another node counted something."""
    withdrawn: deque[tuple[Persons, float]] = field(default_factory=deque)
    """What was reserved and came to nothing, until it is taken back."""


class Counting:
    """Counts by app and category, read when they are first needed.

    A tally counts from the moment that `admit` gives it, for as long as somebody holds it; once it is `sent`, for good.
    """

    def __init__(self, store: Tallies, node_id: int) -> None:
        self._store = store
        self._node_id = node_id
        self._counts: dict[Key, _Count] = {}
        self._turns: dict[Key, asyncio.Lock] = {}
        self._reserved: weakref.WeakKeyDictionary[Tally, weakref.finalize[[Key, Persons, float], Tally]] = (
            weakref.WeakKeyDictionary()
        )
        """Tallies that may come to nothing, and what is done then."""
        self._loading: dict[Key, list[Tally]] = {}
        """What was sent while a category was read: it may be too new to be in there."""

    async def admit(
        self, holders: Holders, cap: Cap, key: Key, devices: Devices, at: float, notification_id: int
    ) -> Verdict:
        """Who may have one more at an instant, counted; UnavailableError where what was sent cannot be read.

        Whoever was counted for an earlier release of the notification may have this one too, and counts once.
        """
        count = await self._count(key, cap, at)
        counted = await self._counted(notification_id) if notification_id else Persons()
        pauses, ids = Pauses(), devices.column()
        persons = np.empty(len(ids), np.uint32)
        everyone = Persons()
        for start, part in pieces(ids, SLICE_ROWS):
            persons[start : start + len(part)] = found = holders.persons(part)
            everyone |= Persons.of(found)
            await pauses.due()
        tally = Tally(*key, at, notification_id)
        self._reserve(key, tally)
        full: list[NDArray[np.uint32]] = []
        for _, part in pieces((everyone - counted).column(), SLICE_ROWS):
            counter = self._counts.get(key, count).counter  # another one where the cap was changed meanwhile
            free = counter.admit(part, at)
            tally.persons |= Persons.of(part if free.all() else part[free])
            if not free.all():
                full.append(part[~free])
            await pauses.due()
        over = await _behind(np.concatenate(full), ids, persons, pauses) if full else Devices()
        if not tally.persons:
            self._keep(tally)
            return Verdict(over, None)
        return Verdict(over, tally)

    def sent(self, tally: Tally) -> None:
        """What was reserved is counted for good."""
        self._keep(tally)
        late = self._loading.get((tally.app_id, tally.category))
        if late is not None:
            late.append(tally)

    def heard(self, app_ids: Iterable[int]) -> None:
        """Looks at what other nodes counted for these apps, before it is next asked."""
        apps = set(app_ids)
        for key, count in self._counts.items():
            count.stale |= key[0] in apps

    def renew(self) -> None:
        """The same for all."""
        self.heard({app_id for app_id, _ in self._counts})

    def forget(self, app_ids: Iterable[int]) -> None:
        """Knows nothing more of these apps."""
        apps = set(app_ids)
        for key in [key for key in self._counts if key[0] in apps]:
            del self._counts[key]
            self._turns.pop(key, None)

    @property
    def nbytes(self) -> int:
        """Bytes that the counts take."""
        return sum(count.counter.nbytes for count in self._counts.values())

    def _reserve(self, key: Key, tally: Tally) -> None:
        self._reserved[tally] = undo = weakref.finalize(tally, self._withdraw, key, tally.persons, tally.at)
        undo.atexit = False

    def _keep(self, tally: Tally) -> None:
        undo = self._reserved.pop(tally, None)
        if undo is not None:
            undo.detach()

    def _withdraw(self, key: Key, persons: Persons, at: float) -> None:
        """Called where the last reference to a tally goes, so it only notes what is to be done."""
        count = self._counts.get(key)
        if count is not None:
            count.withdrawn.append((persons, at))

    async def _counted(self, notification_id: int) -> Persons:
        """Who is counted for a notification, by what is committed and by what is reserved."""
        while True:
            before = self._reserved_for(notification_id)
            counted = await self._store.counted(notification_id)
            reserved = self._reserved_for(notification_id)
            if before.keys() <= reserved.keys():
                return Persons.union(counted, *reserved.values())
            # One was committed, or came to nothing, meanwhile: what was read may be too old to say which.

    def _reserved_for(self, notification_id: int) -> dict[int, Persons]:
        return {tally.id: tally.persons for tally in self._reserved if tally.notification_id == notification_id}

    async def _count(self, key: Key, cap: Cap, at: float) -> _Count:
        async with self._turns.setdefault(key, asyncio.Lock()):
            count = self._counts.get(key)
            if count is None or count.counter.cap != cap:
                count = await self._load(key, cap, at)
            else:
                await _settle(count)
                if count.stale:
                    await self._catch_up(key, count, at)
        return count

    async def _load(self, key: Key, cap: Cap, at: float) -> _Count:
        """Everything that was sent within the cap's window, by whichever node."""
        late: list[Tally] = []
        self._loading[key] = late
        try:
            count = _Count(Counter(cap), await self._store.position())
            held = {tally.id for tally in self._reserved}
            read: set[int] = set()
            async with aclosing(self._store.load(*key, at - cap.window_s, count.position)) as portions:
                async for kept in portions:
                    await _record(count.counter, kept)
                    count.known.update(each.id for each in kept if each.late)
                    read.update(each.id for each in kept if each.late or each.id in held)
        finally:
            del self._loading[key]
        # From here on without a pause: what was reserved meanwhile was so in the count that this one replaces.
        own = [*late, *(tally for tally in self._reserved if (tally.app_id, tally.category) == key)]
        for tally in sorted(own, key=lambda each: each.at):
            if tally.id not in read:
                column = tally.persons.column()
                count.counter.record(column, np.full(len(column), int(tally.at), np.uint32))
        self._counts[key] = count
        return count

    async def _catch_up(self, key: Key, count: _Count, at: float) -> None:
        count.stale = False
        oldest = at - count.counter.cap.window_s
        try:
            kept, count.position = await self._store.since(*key, count.position, self._node_id, oldest)
        except BaseException:
            count.stale = True
            raise
        fresh = [each for each in kept if each.id not in count.known]
        count.known.difference_update(each.id for each in kept)
        count.known.update(each.id for each in kept if each.late)
        await _record(count.counter, fresh)


async def _record(counter: Counter, kept: Sequence[Kept]) -> None:
    """Counts what is kept, in the order of its time."""
    pauses = Pauses()
    persons: list[NDArray[np.uint32]] = []
    times: list[NDArray[np.uint32]] = []
    rows = 0
    for number, each in enumerate(kept, 1):
        for _, part in pieces(each.persons.column(), SLICE_ROWS):
            persons.append(part)
            times.append(np.full(len(part), int(each.at), np.uint32))
            rows += len(part)
            if rows >= SLICE_ROWS:
                counter.record(np.concatenate(persons), np.concatenate(times))
                persons, times, rows = [], [], 0
                await pauses.due()
        if number == len(kept) and rows:
            counter.record(np.concatenate(persons), np.concatenate(times))


async def _settle(count: _Count) -> None:
    """Takes back what came to nothing."""
    pauses = Pauses()
    while count.withdrawn:
        persons, at = count.withdrawn.popleft()
        for _, part in pieces(persons.column(), max(256, SLICE_CELLS // count.counter.cap.messages)):
            count.counter.withdraw(part, at)
            await pauses.due()


async def _behind(
    full: NDArray[np.uint32], ids: NDArray[np.uint32], persons: NDArray[np.uint32], pauses: Pauses
) -> Devices:
    """The devices whose person is one of these, which ascend."""
    over = Devices()
    for start, part in pieces(ids, SLICE_ROWS):
        behind = persons[start : start + len(part)]
        places = np.minimum(np.searchsorted(full, behind), len(full) - 1)
        over |= Devices.of(part[full[places] == behind])
        await pauses.due()
    return over
