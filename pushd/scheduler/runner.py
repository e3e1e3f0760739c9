"""The runner: fires schedules and opens releases when they are due, on the one node that leads.

Rules. What is due is found by index, in chunks; a firing or an opening is one transaction, which fails where somebody
was faster, and only what was committed is sent. So two nodes that both believe to lead do no harm, and a crash between
any two steps leaves either what is still due, or a run that whoever takes over goes on with. While PostgreSQL is away
or the fan-out full, what is due stays due; how late it may be is its schedule's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress

import asyncpg
import structlog

from pushd.cluster.leader import Leader
from pushd.errors import TooManyRequestsError, UnavailableError
from pushd.scheduler.firing import Shot, Starter
from pushd.scheduler.in_app import Releaser
from pushd.scheduler.opening import Opened, Opener
from pushd.scheduler.parts import Parts
from pushd.scheduler.volleys import Told, Volleys
from pushd.service import Service
from pushd.store.rollouts import DueRelease
from pushd.store.schedules import Scheduled
from pushd.telemetry import RELEASES_OPENED, SCHEDULE_LATENESS, SCHEDULES_FIRED, SCHEDULES_SKIPPED

log = structlog.get_logger(__name__)

LOST_MAX = 10_000
POISON_S = 60.0
"""For what PostgreSQL refuses, whatever the reason: so long others come first."""


class Runner(Service):
    """Fires and opens what is due, while its node leads."""

    def __init__(self, parts: Parts, leader: Leader, releaser: Releaser) -> None:
        super().__init__()
        self._parts = parts
        self._releaser = releaser
        self._config = parts.config
        self._leader = leader
        self._starter = Starter(parts)
        self._opener = Opener(parts)
        self._firings: Volleys[Shot] = Volleys("firings", self._fire, self._config.due_rows_max)
        self._openings: Volleys[Opened] = Volleys("openings", self._open, self._config.due_rows_max)
        self._schedules: set[int] = set()
        """Those that are being worked on, or rest: they are due still."""
        self._releases: set[int] = set()
        """The same of notifications."""
        self._slots = asyncio.Semaphore(self._config.tasks_max)
        self._volley: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._led = False
        self._lost: dict[tuple[str, int], int] = {}
        """Revisions at which a schedule, or a rollout, was said to be somebody else's."""

    async def start(self) -> None:
        """Begins to look for what is due."""
        self._firings.fatal = self._openings.fatal = self.fatal
        self._loop = self.spawn(self._run(), "schedules")

    async def stop(self) -> None:
        """Takes nothing more on; what was begun is given a moment to be committed, and started."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.stop_s):
                await self.idle()
        await super().stop()
        await self._firings.stop()
        await self._openings.stop()
        await self._leader.stop()

    def scheduled(self, at: float) -> None:
        """Hears that something was scheduled for an instant, which may be sooner than what is known."""
        if at < self._parts.clock.now() + self._config.look_s:
            self._wake.set()

    def wake(self) -> None:
        """Looks again at once."""
        self._wake.set()

    async def idle(self) -> None:
        """Returns when nothing is being worked on."""
        await self._idle.wait()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pause = self._config.lead_s
            try:
                if await self._leads():
                    pause = await self.look()
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("schedules_wait", error=str(error))
                pause = self._config.retry_s
            with suppress(TimeoutError):
                # Not wait_for: where its event comes in the turn in which it is cancelled, it goes on (CPython 3.11).
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _leads(self) -> bool:
        led, self._led = self._led, await self._leader.leads(self._parts.clock.monotonic())
        if self._led and not led:
            self._parts.gate.renew()
        return self._led

    async def look(self) -> float:
        """Takes on all that is due now; seconds until the next is, or `look_s`. UnavailableError."""
        parts, now = self._parts, self._parts.clock.now()
        await self._look_at_schedules(now)
        for due in await parts.rollouts.due(now, self._config.due_rows_max + len(self._releases)):
            if due.notification.id not in self._releases:
                await self._begin(self._releases, due.notification.id, self._open_one(due))
        # What is due and being worked on wakes us when it is done.
        ahead = [await parts.schedules.next_at(now), await parts.rollouts.next_at(now)]
        soonest = min((at for at in ahead if at is not None), default=now + self._config.look_s)
        return min(max(0.0, soonest - parts.clock.now()), self._config.look_s)

    async def _look_at_schedules(self, now: float) -> None:
        behind: tuple[float, int] | None = None
        rows_max = self._config.due_rows_max
        while rows := await self._parts.schedules.due(now, rows_max, behind):
            free = [row for row in rows if row.id not in self._schedules]
            shots, rest = await self._starter.prepare_plain([row for row in free if row.in_app is None])
            if shots:
                await self._begin_volley(shots)
            for row in rest:
                await self._begin(self._schedules, row.id, self._fire_one(row))
            for row in free:
                if row.in_app is not None:
                    await self._begin(self._schedules, row.id, self._release_one(row))
            if len(rows) < rows_max:
                return
            behind = (rows[-1].next_at or now, rows[-1].id)

    def _work_on(self, busy: set[int], keys: Iterable[int]) -> None:
        busy.update(keys)
        self._idle.clear()

    def _worked_on(self, busy: set[int], keys: Iterable[int]) -> None:
        busy.difference_update(keys)
        if not self._schedules and not self._releases:
            self._idle.set()
        self._wake.set()  # its next occurrence, or release, may be due already

    async def _begin_volley(self, shots: Sequence[Shot]) -> None:
        """Has some that are plain fired, while the next ones are looked for."""
        self._work_on(self._schedules, (shot.firing.due.id for shot in shots))
        if self._volley is not None:
            await asyncio.wait((self._volley,))
        self._volley = self.spawn(self._fire_all(shots), "volley")

    async def _fire_all(self, shots: Sequence[Shot]) -> None:
        try:
            await self._settle([shot.firing.due for shot in shots], await self._firings.put(shots))
        finally:
            self._worked_on(self._schedules, (shot.firing.due.id for shot in shots))

    async def _begin(self, busy: set[int], key: int, work: Awaitable[None]) -> None:
        """Has one worked on, as soon as there is a free slot."""
        await self._slots.acquire()
        self._work_on(busy, (key,))

        async def carry_out() -> None:
            try:
                await work
            finally:
                self._slots.release()
                self._worked_on(busy, (key,))

        self.spawn(carry_out(), "release")

    async def _fire_one(self, due: Scheduled) -> None:
        try:
            shot = await self._starter.prepare(due)
        except TooManyRequestsError as error:
            await self._postpone([due], error.retry_after_s or self._config.retry_s)
        except UnavailableError as error:
            await self._rest(error)
        else:
            await self._settle([due], await self._firings.put([shot]))

    async def _release_one(self, due: Scheduled) -> None:
        """The same of in-app messages: nothing of them takes the fan-out's room."""
        result: Told
        try:
            result = await self._releaser.carry_out(due)
        except asyncpg.PostgresError as error:
            result = error
        except UnavailableError as error:
            await self._rest(error, error.retry_after_s or 0.0)
            return
        await self._settle([due], [result])

    async def _settle(self, dues: Sequence[Scheduled], results: Sequence[Told]) -> None:
        """Sees to those that were not written: they are tried again."""
        refused = [due for due, result in zip(dues, results, strict=True) if self._is_refused(due, result)]
        if refused:
            log.error("schedules_refused", schedules=[due.id for due in refused[:10]], count=len(refused))
            await self._postpone(refused, POISON_S)
        away = next((result for result in results if isinstance(result, UnavailableError)), None)
        if away is not None:
            await self._rest(away)

    def _is_refused(self, due: Scheduled | DueRelease, result: Told) -> bool:
        """Whether PostgreSQL refuses it: whoever was faster has changed the revision, so twice the same is that."""
        if isinstance(result, asyncpg.PostgresError):
            return True
        key = ("schedule", due.id) if isinstance(due, Scheduled) else ("rollout", due.notification.id)
        again = self._lost.pop(key, None) == due.revision
        if result is False and not again:
            self._lost[key] = due.revision
            if len(self._lost) > LOST_MAX:
                del self._lost[next(iter(self._lost))]
        return result is False and again

    async def _postpone(self, dues: Sequence[Scheduled], pause_s: float) -> None:
        """Lets others come first for a while."""
        try:
            await self._parts.schedules.postpone(dues, self._parts.clock.now() + pause_s)
        except UnavailableError as error:
            await self._rest(error)

    async def _rest(self, error: Exception, pause_s: float = 0.0) -> None:
        """Waits within the slot, so that trouble is not met again at once."""
        log.warning("schedule_waits", error=str(error))
        await asyncio.sleep(max(pause_s, self._config.retry_s))

    async def _open_one(self, due: DueRelease) -> None:
        try:
            opened = await self._opener.prepare(due)
        except (TooManyRequestsError, UnavailableError) as error:
            await self._rest(error, error.retry_after_s or 0.0)
            return
        (result,) = await self._openings.put([opened])
        if self._is_refused(due, result):
            log.error("release_refused", notification=due.notification.id, number=due.number)
            await asyncio.sleep(POISON_S)
        elif isinstance(result, UnavailableError):
            await self._rest(result)

    async def _fire(self, shots: Sequence[Shot]) -> Sequence[bool]:
        parts = self._parts
        committed = await parts.schedules.fire([shot.firing for shot in shots], parts.node_id)
        now = parts.clock.now()
        # Others were fired by another node, edited or cancelled.
        fired = [shot for shot, done in zip(shots, committed, strict=True) if done]
        for shot in fired:
            self._starter.start(shot)
        sent = [shot.firing for shot in fired if shot.firing.notification_id]
        SCHEDULES_FIRED.inc(len(sent))
        SCHEDULES_SKIPPED.inc(sum(len(shot.firing.skipped) for shot in fired))
        for firing in sent:
            SCHEDULE_LATENESS.observe(max(0.0, now - (firing.due.next_at or now)))
        return committed

    async def _open(self, some: Sequence[Opened]) -> Sequence[bool]:
        parts = self._parts
        committed = await parts.rollouts.open([opened.opening for opened in some], parts.node_id)
        now = parts.clock.now()
        for opened, done in zip(some, committed, strict=True):
            if done:
                self._opener.start(opened)
                RELEASES_OPENED.inc()
                SCHEDULE_LATENESS.observe(max(0.0, now - opened.opening.release.at))
        return committed
