"""The change feed: what other nodes wrote, read below pg_snapshot_xmin and handed to who keeps a projection in memory.

Rules. A change is a row of the transaction that made it. Readers take rows by transaction id, only those below the
oldest transaction still running: none can appear there later, however late it commits. NOTIFY only wakes. Reading a
change twice, or our own, does no harm: images are applied only when they are newer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import structlog
from numpy.typing import NDArray

from pushd.errors import InternalError, UnavailableError
from pushd.model.rows import DeviceRows, UserRows
from pushd.service import Service, is_set_within
from pushd.store.database import Database

log = structlog.get_logger(__name__)

CHANNEL = "pushd_changes"
PAGE_ROWS = 500
"""Changes read at once; each may name thousands of ids."""
IMAGES_MAX = 2_000
"""Images fetched, and applied, at once."""
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
LATE_POLL_S = 0.05
"""Between reads while something newer waits for an older transaction."""

# In one query, for every commit of a fan-out that retires devices is followed by one.
_READ = f"""
WITH bound AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin)
SELECT c.xid::text::bigint AS xid, c.aggregate, c.app_id, c.ids, c.revisions, bound.xmin::text::bigint AS xmin,
    EXISTS (SELECT FROM changes l WHERE l.xid >= greatest($1::text::xid8, bound.xmin)) AS late
FROM bound LEFT JOIN LATERAL (
    SELECT * FROM changes WHERE xid >= $1::text::xid8 AND xid < bound.xmin ORDER BY xid LIMIT {PAGE_ROWS} + 1
) c ON true
"""  # noqa: S608  # a constant
_REST = "SELECT aggregate, app_id, ids, revisions FROM changes WHERE xid = $1::text::xid8"
_HORIZON = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_POSITION = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


class Aggregate(IntEnum):
    """What a change is of; stored."""

    DEVICES = 1
    USERS = 2
    KEYS = 3
    CREDENTIALS = 4
    APPS = 5
    SEGMENTS = 6
    CHANNELS = 7
    GEOFENCES = 8
    LOCATIONS = 9
    NOTIFICATIONS = 10
    """That were cancelled, paused or let go on."""
    SCHEDULES = 11
    """That are due soon."""
    TALLIES = 16
    BADGES = 17
    IN_APP = 20
    SESSIONS = 21
    """That are closed, or another user's now."""


@dataclass(frozen=True, slots=True)
class Event:
    """One committed change."""

    aggregate: Aggregate
    app_id: int | None
    ids: Sequence[int]
    revisions: Sequence[int] | None


class Page(NamedTuple):
    """What one read of the feed gave."""

    events: Sequence[Event]
    position: int
    """Where to read on."""
    last: bool
    """Whether this is all there was to read."""
    late: bool = False
    """Whether more is committed, but may not be read yet."""


class ChangeStore:
    """The feed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self) -> int:
        """Where the feed stands: everything below is visible to whoever looks from now on."""
        return int(await self._database.fetchval(_POSITION))

    async def read(self, position: int) -> Page:
        """The next changes from a position on: each is read once, and none is missed."""
        rows = await self._database.fetch(_READ, str(position))
        xmin, late = max(rows[0]["xmin"], position), rows[0]["late"]
        if rows[0]["xid"] is None:
            return Page([], xmin, last=True, late=late)
        if len(rows) <= PAGE_ROWS:
            return Page([_event(row) for row in rows], xmin, last=True, late=late)
        # A page ends between two transactions; one that is larger than a page is read whole.
        last = rows[-1]["xid"]
        whole = [row for row in rows if row["xid"] < last]
        if whole:
            return Page([_event(row) for row in whole], last, last=False)
        rows = await self._database.fetch(_REST, str(last))
        return Page([_event(row) for row in rows], last + 1, last=False)

    async def horizon(self) -> int:
        """Where the feed will stand when all that is committed by now can have been read."""
        return int(await self._database.fetchval(_HORIZON))


def _event(row: Any) -> Event:
    return Event(Aggregate(row["aggregate"]), row["app_id"], row["ids"], row["revisions"])


Changed = Callable[[Sequence[int]], Awaitable[None]]

Known = Callable[[NDArray[np.uint32], NDArray[np.int32]], NDArray[np.bool_]]
"""Which of these (id, revision) pairs are known already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told of changes."""

    on_devices: Callable[[DeviceRows], None] | None = None
    on_users: Callable[[UserRows], None] | None = None
    on_keys: Callable[[], None] | None = None
    on_credentials: Callable[[], Awaitable[None]] | None = None
    on_apps: Changed | None = None
    """Ids of apps that were made, changed or deleted."""
    on_segments: Changed | None = None
    """Ids of apps whose segments changed."""
    on_channels: Changed | None = None
    """Ids of apps whose channels changed."""
    on_geofences: Changed | None = None
    """Ids of geofences that were made, changed or deleted."""
    on_locations: Changed | None = None
    """Ids of devices whose location changed or was forgotten."""
    on_notifications: Changed | None = None
    """Ids of notifications that were cancelled, paused or let go on."""
    on_schedules: Changed | None = None
    """Ids of schedules that are due soon."""
    on_tallies: Changed | None = None
    """Ids of apps for whose caps somebody was counted."""
    on_badges: Changed | None = None
    """Ids of apps that counted, or set, badges."""
    on_sessions: Changed | None = None
    """Low 31 bits of ids of sessions that are closed, or another user's now."""
    on_in_app: Callable[[int, Sequence[int]], Awaitable[None]] | None = None
    """An app, and ids of its in-app messages to many that were released or changed."""
    known_devices: Known | None = None
    """Saves fetching images that are known already, such as those of our own writes."""
    known_locations: Known | None = None


Images = Callable[[NDArray[np.uint32]], Awaitable[Any]]


class FeedLostError(InternalError):
    """Changes were purged before they were read: what is in memory has to be loaded anew, by a new process."""


class Follower(Service):
    """Reads the feed for as long as it runs; while PostgreSQL is away it waits, and goes on where it was."""

    def __init__(
        self,
        changes: ChangeStore,
        database: Database,
        listeners: Listeners,
        device_images: Images,
        user_images: Images,
        position: Callable[[], int],
    ) -> None:
        super().__init__()
        self._changes = changes
        self._database = database
        self._listeners = listeners
        self._device_images = device_images
        self._user_images = user_images
        self._begin = position
        self.position = 0
        """All changes below it are applied."""
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Begins to follow."""
        self.spawn(self._follow(self._begin()), "change-feed")
        self.spawn(self._listen(), "change-feed-wake")

    async def _follow(self, position: int) -> None:
        config = self._database.config
        poll_s = config.feed_poll_ms / 1000
        true_at = monotonic()  # when nothing was unread and all that was read had been applied
        while True:
            self._wake.clear()
            pause = 0.0
            try:
                began = monotonic()
                page = await self._changes.read(position)
                if monotonic() - true_at > config.feed_keep_s:
                    raise FeedLostError
                if page.events:
                    await self._apply(page.events)
                self.position = position = page.position
                if page.last:
                    true_at = began
                if page.events and (page.late or not page.last):
                    continue
                if page.late:
                    pause = LATE_POLL_S
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("change_feed_waits", error=str(error))
                pause = config.retry_after_s
            if pause:
                await asyncio.sleep(pause)
            else:
                await is_set_within(self._wake, poll_s)

    async def _apply(self, events: Sequence[Event]) -> None:
        listeners = self._listeners
        apps = [each for event in events if event.aggregate is Aggregate.APPS for each in event.ids]
        if apps and listeners.on_apps is not None:
            await listeners.on_apps(apps)
        for aggregate, told in (
            (Aggregate.SEGMENTS, listeners.on_segments),
            (Aggregate.CHANNELS, listeners.on_channels),
            (Aggregate.TALLIES, listeners.on_tallies),
            (Aggregate.BADGES, listeners.on_badges),
        ):
            owners = {event.app_id for event in events if event.aggregate is aggregate and event.app_id is not None}
            if owners and told is not None:
                await told(sorted(owners))
        users = _unique(events, Aggregate.USERS, None)
        for at in range(0, len(users), IMAGES_MAX) if listeners.on_users is not None else ():
            listeners.on_users(await self._user_images(users[at : at + IMAGES_MAX]))  # type: ignore[misc]  # not None
        devices = _unique(events, Aggregate.DEVICES, listeners.known_devices)
        for at in range(0, len(devices), IMAGES_MAX) if listeners.on_devices is not None else ():
            listeners.on_devices(await self._device_images(devices[at : at + IMAGES_MAX]))  # type: ignore[misc]  # not None
        await self._apply_named(events)
        kinds = {event.aggregate for event in events}
        if Aggregate.KEYS in kinds and listeners.on_keys is not None:
            listeners.on_keys()
        if Aggregate.CREDENTIALS in kinds and listeners.on_credentials is not None:
            await listeners.on_credentials()
        if Aggregate.IN_APP in kinds and listeners.on_in_app is not None:
            for event in events:
                if event.aggregate is Aggregate.IN_APP and event.app_id is not None:
                    await listeners.on_in_app(event.app_id, event.ids)

    async def _apply_named(self, events: Sequence[Event]) -> None:
        """What is only named. Geofences, and then locations, come after the devices that are there."""
        listeners = self._listeners
        for aggregate, told, known in (
            (Aggregate.GEOFENCES, listeners.on_geofences, None),
            (Aggregate.LOCATIONS, listeners.on_locations, listeners.known_locations),
            (Aggregate.NOTIFICATIONS, listeners.on_notifications, None),
            (Aggregate.SCHEDULES, listeners.on_schedules, None),
            (Aggregate.SESSIONS, listeners.on_sessions, None),
        ):
            if told is not None and len(ids := _unique(events, aggregate, known)):
                await told(ids.tolist())

    async def _listen(self) -> None:
        """Holds a connection that hears NOTIFY; without it the feed is polled."""
        while True:
            try:
                await self._hear()
            except (UnavailableError, *_LOST):
                log.info("change_feed_polls")
            await asyncio.sleep(self._database.config.retry_after_s)

    async def _hear(self) -> None:
        """Wakes the reader at every NOTIFY, until the connection is lost."""
        lost = asyncio.Event()
        connection = await self._database.connect()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._wake.set())
            self._wake.set()
            await lost.wait()
        finally:
            connection.terminate()


def _unique(events: Sequence[Event], aggregate: Aggregate, known: Known | None) -> NDArray[np.uint32]:
    """The ids that events of one aggregate name, once each, without those that are known in that revision."""
    chosen = [event for event in events if event.aggregate is aggregate]
    if not chosen:
        return np.empty(0, np.uint32)
    ids = np.concatenate([np.array(event.ids, np.uint32) for event in chosen])
    if known is not None and all(event.revisions is not None for event in chosen):
        revisions = np.concatenate([np.array(event.revisions, np.int32) for event in chosen])
        ids = ids[~known(ids, revisions)]
    return np.unique(ids)
