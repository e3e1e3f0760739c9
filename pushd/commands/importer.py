"""The importer: carries imports out chunk by chunk, each in one transaction with its progress; also dead nodes' ones.

A chunk is committed with what it changed and how far the import is, under the fence of this node: so each line is
carried out exactly once, in order, by whichever node, and what was lost on the way is simply begun again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import asyncpg
import structlog

from pushd.commands import devices, import_records
from pushd.commands.context import Context
from pushd.commands.import_effects import Effects
from pushd.commands.import_lines import Head, Names, UserLines, cut, names_of, users_of
from pushd.commands.import_records import FULL, UNKNOWN_INSTALL
from pushd.errors import InvalidRequestError, NotFoundError, PushdError, UnavailableError
from pushd.model.imports import ImportState, Records, Subscribe, Unsubscribe, UserLine, Users
from pushd.model.user import UserChange
from pushd.service import Contained, Service, is_set_within
from pushd.store.imports import ImportStore, Work
from pushd.telemetry import IMPORT_LINES

log = structlog.get_logger(__name__)

SLICE_LINES = 250
"""Users that are decoded at a stretch, a few ms: then others have the event loop."""
OURS = "pushd failed at a line: its log says why"
UNKNOWN = {"users": "is no user of the app", "installs": UNKNOWN_INSTALL}


class Importer(Service):
    """Carries out what was started, here or elsewhere."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._config = context.config.imports
        self._running: dict[int, asyncio.Task[None]] = {}

    @property
    def _imports(self) -> ImportStore:
        return self._context.store.imports

    async def start(self) -> None:
        """Begins to carry out imports."""
        self.spawn(self._run(), "imports")
        self.spawn(self._sweep(), "imports-sweep")

    async def _run(self) -> None:
        while True:
            self._imports.started.clear()
            try:
                await self.look()
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("imports_wait", error=str(error))
            await is_set_within(self._imports.started, self._config.poll_interval_s)

    async def look(self) -> None:
        """Begins what waits, as far as there is room, and what this node has and does not carry out."""
        works = await self._imports.take(self._context.node_id, self._config.running_max - len(self._running))
        for work in works:
            if work.id not in self._running:
                task = self._running[work.id] = self.spawn(self._carry_out(work), f"import-{work.id}")
                task.add_done_callback(partial(self._ended, work.id))

    def _ended(self, import_id: int, _: asyncio.Task[None]) -> None:
        self._running.pop(import_id, None)
        self._imports.started.set()

    async def _carry_out(self, work: Work | None) -> None:
        """Carries an import out to its end, or while it is this node's; what we fail at ends it, and nothing else."""
        broken: list[Exception] = []
        while work is not None:
            with Contained(f"import {work.id}", broken.append):
                if await self._is_through(work):
                    return
            if broken:
                await self._fail(work, broken[0])
                return
            await asyncio.sleep(self._config.retry_s)
            with suppress(UnavailableError):
                work = await self._imports.look(self._context.node_id, work.id)

    async def _is_through(self, work: Work) -> bool:
        """Whether an import came to its end, or is another node's; not, where it is to be looked at again."""
        try:
            await self._go_on(work)
        except UnavailableError as error:
            log.warning("import_waits", number=work.id, error=error.detail)
        except (PushdError, asyncpg.PostgresError) as error:
            # What PostgreSQL says may quote the line.
            code = error.code if isinstance(error, PushdError) else error.sqlstate
            log.warning("import_failed", number=work.id, error=type(error).__name__, code=code)
            # A channel that went this moment is unknown to the lines that name it, the next time.
            if not (isinstance(error, NotFoundError) and isinstance(work.job, Users | Records)):
                await self._fail(work, error)
        else:
            return True
        return False

    async def _fail(self, work: Work, error: Exception) -> None:
        known = isinstance(error, InvalidRequestError | NotFoundError)
        refused = "The database refused a line" if isinstance(error, PushdError | asyncpg.PostgresError) else OURS
        failure = error.detail if known and isinstance(error, PushdError) else refused
        with suppress(UnavailableError):
            await self._imports.end(work.id, ImportState.FAILED, failure)

    async def _go_on(self, work: Work) -> None:
        """Carries out what is left, part by part."""
        head = Head(cut(work.head, 1)[0][0]) if isinstance(work.job, Users) and work.job.format == "csv" else None
        sizes = {Users: self._config.chunk_users_max, Records: self._config.chunk_records_max}
        most = sizes.get(type(work.job), self._config.chunk_lines_max)
        done = work.done
        while part := await self._imports.next_part(work):
            rest = part.body
            if done >= part.first:
                _, rest = cut(rest, done - part.first + 1)
            while rest:
                lines, rest = cut(rest, most)
                ended = None if rest else part.part
                if not await self._chunk(work, head, done, lines, ended):
                    return
                done += len(lines)

    async def _chunk(self, work: Work, head: Head | None, done: int, lines: list[bytes], ended: int | None) -> bool:
        """Whether the lines behind `done` are carried out now; not, where the import is not this node's any more."""
        found: Names | UserLines | import_records.Found
        ids: Mapping[str, int] = {}
        effects = Effects()
        if isinstance(work.job, Users):
            found = await self._users(done + 1, lines, head)
        elif isinstance(work.job, Records):
            found = await self._records(work, done + 1, lines)
            ids, why = await import_records.known_channels(
                self._context, work.app_id, found.records, create=work.job.create_channels
            )
            found = import_records.with_channels(found, ids, why, effects)
        else:
            found = names_of(done + 1, lines)
        effects.refuse(found.faults)
        return await self._context.whole(self._commit(work, done, len(lines), ended, found, ids, effects))

    async def _users(self, first: int, lines: list[bytes], head: Head | None) -> UserLines:
        """The users of some lines, decoded in slices."""
        found = UserLines([], [], [])
        for at in range(0, len(lines), SLICE_LINES):
            some = users_of(first + at, lines[at : at + SLICE_LINES], head)
            found.users.extend(some.users)
            found.numbers.extend(some.numbers)
            found.faults.extend(some.faults)
            await asyncio.sleep(0)
        return found

    async def _records(self, work: Work, first: int, lines: list[bytes]) -> import_records.Found:
        """The records of some lines, decoded in slices."""
        found = import_records.Found([], [], [])
        rules = devices.rules(self._context, work.app_id)
        for at in range(0, len(lines), SLICE_LINES):
            some = import_records.records_of(first + at, lines[at : at + SLICE_LINES], rules)
            found.records.extend(some.records)
            found.numbers.extend(some.numbers)
            found.faults.extend(some.faults)
            await asyncio.sleep(0)
        return found

    async def _commit(
        self,
        work: Work,
        done: int,
        lines: int,
        ended: int | None,
        found: Names | UserLines | import_records.Found,
        ids: Mapping[str, int],
        effects: Effects,
    ) -> bool:
        """Carries out a chunk, and takes in what it changed; `ids`: of the channels of records."""
        async with self._imports.chunk(self._context.node_id, work, done) as connection:
            if connection is None:
                return False
            if isinstance(found, Names):
                await self._subscribe(connection, work, found, effects)
            elif isinstance(found, import_records.Found):
                await import_records.write(self._context, connection, work.app_id, found, ids, effects)
            else:
                await self._put(connection, work, found, effects)
            rejects = effects.rejects()
            await self._imports.advance(connection, work, lines, ended, rejects, self._config.rejects_max)
            # The app's sends wait for whoever holds its badges: that is for the commit, not for the chunk.
            await self._context.store.badges.clear_within(connection, work.app_id, effects.moved())
        IMPORT_LINES.labels("done").inc(lines - len(rejects.numbers))
        IMPORT_LINES.labels("rejected").inc(len(rejects.numbers))
        await effects.take_in(self._context, work.app_id)
        return True

    async def _subscribe(self, connection: object, work: Work, found: Names, effects: Effects) -> None:
        """Subscribes names to the job's channel, or takes them off."""
        assert isinstance(work.job, Subscribe | Unsubscribe)
        of, on = work.job.of, not isinstance(work.job, Unsubscribe)
        lines: dict[str, list[int]] = defaultdict(list)
        for name, line in zip(found.names, found.numbers, strict=True):
            lines[name].append(line)
        if lines:
            done = await self._context.store.channels.subscribe_within(
                connection, work.app_id, work.channel_id, [*lines], of=of, on=on
            )
            effects.subscribed.append(done)
            effects.refuse_names(UNKNOWN[of], done.unknown, lines)
            effects.refuse_names(FULL, done.full, lines)

    async def _put(self, connection: object, work: Work, found: UserLines, effects: Effects) -> None:
        """Writes users, and then subscribes them."""
        store = self._context.store
        named = {uuid for user in found.users for uuid in (*user.subscribe, *user.unsubscribe)}
        ids = await store.channels.ids(work.app_id, sorted(named)) if named else {}
        users = []
        for user, line in zip(found.users, found.numbers, strict=True):
            missing = next((uuid for uuid in (*user.subscribe, *user.unsubscribe) if uuid not in ids), None)
            if missing is not None:
                effects.faults[line] = user.external_id, f"there is no channel {missing}"
            else:
                users.append((user, line))
        if users:
            changes: list[UserChange] = [user for user, _ in users]
            effects.users.append(await store.users.put_within(connection, work.app_id, changes))
        for (uuid, on), lines in _wanted(users).items():
            done = await store.channels.subscribe_within(
                connection, work.app_id, ids[uuid], [*lines], of="users", on=on
            )
            effects.subscribed.append(done)
            effects.refuse_names(f"{FULL}: not subscribed to {uuid}", done.full, lines)

    async def _sweep(self) -> None:
        while True:
            try:
                if swept := await self._imports.sweep(self._config.upload_keep_s, self._config.keep_s):
                    log.info("imports_swept", count=swept)
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("imports_sweep_waits", error=str(error))
            await asyncio.sleep(self._config.sweep_interval_s)


def _wanted(users: Sequence[tuple[UserLine, int]]) -> dict[tuple[str, bool], dict[str, list[int]]]:
    """By channel and whether they are to be on it, users and their lines; what is said last of a user counts."""
    last: dict[tuple[str, str], tuple[bool, int]] = {}
    for user, line in users:
        last.update({(uuid, user.external_id): (True, line) for uuid in user.subscribe})
        last.update({(uuid, user.external_id): (False, line) for uuid in user.unsubscribe})
    wanted: dict[tuple[str, bool], dict[str, list[int]]] = defaultdict(dict)
    for (uuid, external_id), (on, line) in last.items():
        wanted[uuid, on][external_id] = [line]
    return wanted
