"""Locations in the store: written in groups with the crossings that they make, forgotten, and loaded for the index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.clock import Clock
from pushd.errors import NotFoundError, PushdError, UnavailableError
from pushd.model.geofence import Location, LocationRows
from pushd.service import Service
from pushd.store.committer import Committer
from pushd.store.database import Database
from pushd.store.loading import Snapshot
from pushd.store.times import moment, seconds

SLICE_ROWS = 64
"""Reports whose crossings are worked out before others get their turn: some 5 ms."""
UNITS = 10_000_000
"""In a degree, as locations are stored."""

_PUT = "SELECT * FROM put_locations($1, $2, $3, $4, $5, $6, $7, $8)"
_RECORD = "SELECT * FROM record_crossings($1, $2, $3, $4, $5, $6)"
_GET = """
SELECT l.latitude, l.longitude, l.accuracy, l.at FROM devices d JOIN install_locations l ON l.install = d.install
WHERE d.app_id = $1 AND d.id = $2 AND d.deleted_at IS NULL
"""
_COLUMNS = """
string_agg(int4send({id}), '') AS ids, string_agg(int4send(l.app_id), '') AS apps,
string_agg(int4send(l.revision), '') AS revisions,
string_agg(int4send(l.latitude), '') AS latitudes, string_agg(int4send(l.longitude), '') AS longitudes
"""
_IMAGES = f"""SELECT {_COLUMNS.format(id="d.id")} FROM unnest($1::int[]) AS n (id)
    JOIN devices d ON d.id = n.id AND d.deleted_at IS NULL JOIN install_locations l ON l.install = d.install"""  # noqa: S608  # constants
_LOAD = f"""SELECT {_COLUMNS.format(id="l.install")}
    FROM (SELECT * FROM install_locations WHERE install > $1 ORDER BY install LIMIT $2) l"""  # noqa: S608  # constants

Place = tuple[int, int]
"""Latitude and longitude in units."""


class Report(NamedTuple):
    """What a device says of where it is; one of its install's devices is as good as another."""

    app_id: int
    device_id: int
    place: Place
    accuracy: float | None
    at: float
    """UNIX seconds."""
    install_id: str | None = None
    """The install that the device has to be of; None: any."""


class Crossing(NamedTuple):
    """An install that went into a fence, or out of one."""

    geofence_id: int
    entered: bool
    rest_s: int | None
    """Between two sends to one install; None: nothing is sent."""


class Reported(NamedTuple):
    """What a report came to."""

    kept: bool
    """False: something newer is known."""
    rows: LocationRows
    """Images of the install's devices."""


Cross = Callable[[int, Place | None, Place], Sequence[Crossing]]
"""The crossings of a move within an app: from where (None: unknown) to where."""
Told = Callable[[int, int], None]
"""Hears of which app how many crossings were noted that are to be sent."""


def _nothing(_: int, __: Place | None, ___: Place) -> Sequence[Crossing]:
    return ()


@dataclass(slots=True)
class Crossed:
    """Who knows the fences, and the queue that crossings go into."""

    cross: Cross = _nothing
    told: Told = lambda _, __: None
    room: Callable[[int], int] = lambda _: 1 << 30
    """How many crossings more of an app may wait to be sent."""


class _FullError(PushdError):
    """Reports of a group whose crossings do not fit into the queue: the transaction is undone, the connection kept."""

    def __init__(self, refused: frozenset[int]) -> None:
        super().__init__()
        self.refused = refused
        """Their places in the group."""


class LocationStore(Service):
    """Where the installs of every app are."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._committer: Committer[Report, Reported] = Committer("locations", database.config, self._write)
        self.crossed = Crossed()
        """Set by those who know fences; without it a move crosses nothing."""

    async def start(self) -> None:
        """Begins to take reports."""
        self._committer.fatal = self.fatal
        await self._committer.start()

    async def stop(self) -> None:
        """Takes no more reports."""
        await self._committer.stop()
        await super().stop()

    async def put(self, report: Report) -> Reported:
        """What the report came to, committed with its crossings. NotFoundError, UnavailableError."""
        return await self._committer.submit(report)

    async def get(self, app_id: int, device_id: int) -> Location | None:
        """Where the install of a device was last; None when that is not known."""
        row = await self._database.fetchrow(_GET, app_id, device_id)
        if row is None:
            return None
        return Location(
            latitude=row["latitude"] / UNITS,
            longitude=row["longitude"] / UNITS,
            accuracy=row["accuracy"],
            at=seconds(row["at"]),
        )

    async def forget(self, app_id: int, device_id: int) -> NDArray[np.uint32]:
        """The devices whose location is forgotten: those of this device's install."""
        return await self._forget(app_id, device_id, None, None)

    async def forget_before(self, before: float, limit: int) -> NDArray[np.uint32]:
        """The devices whose locations, at most `limit` of them, were from before a time and are forgotten."""
        return await self._forget(None, None, before, limit)

    async def images(self, ids: NDArray[np.uint32]) -> LocationRows:
        """Where these devices are now; revision 0 of those of which nothing is known."""
        rows = _unpack(await self._database.fetchrow(_IMAGES, ids.tolist()))
        gone = np.setdiff1d(ids, rows.ids)
        return _joined(rows, gone)

    async def load(self, snapshot: Snapshot) -> AsyncIterator[LocationRows]:
        """Every location, as of one moment, in chunks; the ids of these rows are installs."""
        after, timeout_s = 0, self._database.config.bulk_timeout_s
        while True:
            size = self._database.config.load_rows_max
            rows = _unpack(await snapshot.connection.fetchrow(_LOAD, after, size, timeout=timeout_s))
            if not len(rows):
                return
            yield rows
            after = rows.ids.max().item()

    async def sweep(self, crossings_before: float, limit: int) -> tuple[int, bool]:
        """How many crossings were too old to be sent, and whether there may be more to sweep.

        These, rests that are over and rows of gone apps are deleted, at most `limit` of each.
        """
        now = moment(self._clock.now())
        row = await self._database.fetchrow(
            "SELECT * FROM sweep_places($1, $2, $3)", now, moment(crossings_before), limit
        )
        return row["late"], row["more"]

    async def _forget(
        self, app_id: int | None, device_id: int | None, before: float | None, limit: int | None
    ) -> NDArray[np.uint32]:
        ids = await self._database.fetchval(
            "SELECT forget_locations($1, $2, $3, $4)",
            *(app_id, device_id, None if before is None else moment(before), limit),
        )
        return np.array(ids, np.uint32)

    async def _write(self, items: Sequence[Report]) -> Sequence[Reported | PushdError]:
        """Commits a group, without those reports whose crossings find no room: they are refused as a whole."""
        results: dict[int, Reported | PushdError] = {}
        places = list(range(len(items)))
        while places:
            try:
                written = await self._write_whole([items[place] for place in places])
            except _FullError as error:
                retry_after_s = self._database.config.retry_after_s
                for at in error.refused:
                    full = UnavailableError("Too many crossings wait to be sent", retry_after_s=retry_after_s)
                    results[places[at]] = full
                places = [place for at, place in enumerate(places) if at not in error.refused]
            else:
                results.update(zip(places, written, strict=True))
                break
        return [results[place] for place in range(len(items))]

    async def _write_whole(self, items: Sequence[Report]) -> Sequence[Reported | PushdError]:
        now = moment(self._clock.now())
        due: Sequence[Any] = ()
        async with self._database.transaction() as connection:
            timeout_s = self._database.config.write_timeout_s
            rows = await connection.fetch(_PUT, now, *_columns(items), timeout=timeout_s)
            found = await self._crossings(items, rows)
            if found:
                due = await connection.fetch(_RECORD, now, *map(list, zip(*found, strict=True)), timeout=timeout_s)
        for row in due:
            self.crossed.told(row["app"], row["due"])
        return [_reported(item, row) for item, row in zip(items, rows, strict=True)]

    async def _crossings(self, items: Sequence[Report], rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Rows for record_crossings, of the reports that are known now: one of several for the same install."""
        found: list[tuple[Any, ...]] = []
        seen: set[int] = set()
        due: dict[int, int] = {}
        refused: set[int] = set()
        for at, (item, row) in enumerate(zip(items, rows, strict=True)):
            if at and not at % SLICE_ROWS:
                await asyncio.sleep(0)
            if not row["kept"] or row["install"] in seen:
                continue
            seen.add(row["install"])
            before = None if row["old_latitude"] is None else (row["old_latitude"], row["old_longitude"])
            crossed = self.crossed.cross(item.app_id, before, item.place)
            sending = sum(each.rest_s is not None for each in crossed)
            due[item.app_id] = due.get(item.app_id, 0) + sending
            if sending and due[item.app_id] > self.crossed.room(item.app_id):
                refused.add(at)
            found += [(item.app_id, each.geofence_id, row["install"], each.entered, each.rest_s) for each in crossed]
        if refused:
            raise _FullError(frozenset(refused))
        return found


def _columns(items: Sequence[Report]) -> list[list[Any]]:
    return [
        [item.app_id for item in items],
        [item.device_id for item in items],
        [item.install_id for item in items],
        [item.place[0] for item in items],
        [item.place[1] for item in items],
        [item.accuracy for item in items],
        [moment(item.at) for item in items],
    ]


def _reported(item: Report, row: Any) -> Reported | PushdError:
    if not row["install"]:
        return NotFoundError("There is no such device")
    devices = row["devices"] if row["kept"] else []
    count = len(devices)
    rows = LocationRows(
        ids=np.array(devices, np.uint32),
        app_ids=np.full(count, item.app_id, np.int32),
        revisions=np.full(count, row["revision"] or 0, np.int32),
        latitudes=np.full(count, item.place[0], np.int32),
        longitudes=np.full(count, item.place[1], np.int32),
    )
    return Reported(bool(row["kept"]), rows)


_KEYS = ("ids", "apps", "revisions", "latitudes", "longitudes")


def _unpack(packed: Any) -> LocationRows:
    ids, apps, revisions, latitudes, longitudes = (
        np.frombuffer(packed[key] or b"", ">i4").astype(np.int32) for key in _KEYS
    )
    return LocationRows(
        ids=ids.astype(np.uint32),
        app_ids=apps,
        revisions=revisions,
        latitudes=latitudes,
        longitudes=longitudes,
    )


def _joined(rows: LocationRows, gone: NDArray[np.uint32]) -> LocationRows:
    """The rows, and one of revision 0 for each device that is gone."""

    def longer(column: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([column, np.zeros(len(gone), column.dtype)])

    return LocationRows(
        ids=np.concatenate([rows.ids, gone.astype(np.uint32)]),
        app_ids=longer(rows.app_ids),
        revisions=longer(rows.revisions),
        latitudes=longer(rows.latitudes),
        longitudes=longer(rows.longitudes),
    )
