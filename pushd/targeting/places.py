"""Where devices are, as columns by device id, and which of them are in which fence.

Memory keeps one place per device, the last. Fences come as images: one whose bounds are new is worked out in slices
beside the one it replaces, takes part in every move meanwhile, and takes its place when it knows all its devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.model.geofence import FenceImage, LocationRows
from pushd.targeting.columns import Column
from pushd.targeting.fences import Cell, Fence, Grid
from pushd.targeting.geometry import Points

SLICE_ROWS = 8_192
"""Devices that one slice asks a fence about: some 5 ms, whatever its shape."""
FEW_ROWS = 32
"""Up to here devices are forgotten one at a time."""

Place = tuple[int, int]
"""Latitude and longitude in units."""


class AppPlaces:
    """One app's located devices and fences."""

    __slots__ = ("coming", "fences", "grid", "located", "revisions")

    def __init__(self) -> None:
        self.located = Devices()
        self.fences: dict[int, Fence] = {}
        """Enabled fences whose members are known, by id."""
        self.coming: dict[int, Fence] = {}
        """Fences that are being worked out, and will take the place of those of the same id."""
        self.grid = Grid()
        """Of both."""
        self.revisions: dict[int, int] = {}
        """Of every fence that was met, enabled or not."""

    def newest(self, fence_id: int) -> Fence | None:
        """The fence as it was defined last."""
        return self.coming.get(fence_id) or self.fences.get(fence_id)


class Crossings(NamedTuple):
    """Fences that a move led into and out of."""

    entered: list[Fence]
    left: list[Fence]


class Places:
    """Every app's. Each call is whole before the next begins; `moved` hears which devices' part in a fence changed."""

    def __init__(self, moved: Callable[[NDArray[np.uint32]], None]) -> None:
        self._moved = moved
        self._latitudes, self._longitudes = Column(np.int32), Column(np.int32)
        self._revisions = Column(np.int32)
        """0: not located."""
        self._columns = (self._latitudes, self._longitudes, self._revisions)
        self._apps: dict[int, AppPlaces] = {}
        self._removed: set[int] = set()
        self._gone: set[int] = set()
        """Fences that were deleted: an image that was read before may come later."""
        self.arrived: Callable[[], None] = lambda: None
        """Called when a fence has come that `settle` has to work out."""
        self._reach(1)

    def app(self, app_id: int) -> AppPlaces | None:
        """The fences of an app, and who is located; None where there is nothing of the kind."""
        return self._apps.get(app_id)

    def apply(self, rows: LocationRows) -> None:
        """Takes in where devices are: what is newer than what is known, and what is forgotten."""
        if not len(rows):
            return
        self._reach(int(rows.ids.max()) + 1)
        if not any(self._apps[each].grid for each in np.unique(rows.app_ids).tolist() if each in self._apps):
            self._take_many(rows)
            return
        changed: list[int] = []
        columns = (rows.ids, rows.app_ids, rows.revisions, rows.latitudes, rows.longitudes)
        for device, app_id, revision, north, east in zip(*(each.tolist() for each in columns), strict=True):
            if not revision:
                self._forget_one(device, changed)
            elif revision > self._revisions.cells[device] and app_id not in self._removed:
                if self._move(self._app(app_id), device, north, east):
                    changed.append(device)
                self._put(device, revision, north, east)
        self._tell(changed)

    def forget(self, ids: NDArray[np.uint32]) -> None:
        """Forgets where these devices are: they are gone, or somebody asked for it."""
        ids = ids[ids < len(self._revisions.data)]
        located = ids[self._revisions.data[ids] != 0]
        if len(located) > FEW_ROWS:
            self._forget_many(located)
            return
        changed: list[int] = []
        for device in located.tolist():
            self._forget_one(device, changed)
        self._tell(changed)

    def located(self, device: int) -> bool:
        """Whether it is known where a device is."""
        return 0 < device < len(self._revisions.data) and self._revisions.cells[device] != 0

    def knows(self, ids: NDArray[np.uint32], revisions: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of these devices' places, or newer ones, are taken in already."""
        known = np.zeros(len(ids), np.bool_)
        within = ids < len(self._revisions.data)
        at = self._revisions.data[ids[within]]
        known[within] = (at >= revisions[within]) & (at != 0) & (revisions[within] != 0)
        return known

    def remove_app(self, app_id: int) -> Devices:
        """Forgets an app for good; the devices whose cells are left to be cleared."""
        self._removed.add(app_id)
        app = self._apps.pop(app_id, None)
        return Devices() if app is None else app.located

    def clear(self, ids: NDArray[np.uint32]) -> None:
        """Empties the cells of devices whose app is removed."""
        for column in self._columns:
            column.data[ids] = 0

    def lacks_shape(self, image: FenceImage) -> bool:
        """Whether a fence that comes has bounds that are new here, so that its shape has to be worked out."""
        app = self._apps.get(image.app_id)
        if not image.enabled or image.shape is not None:
            return False
        if app is None:
            return True
        known = (app.fences.get(image.id), app.coming.get(image.id))
        return all(fence is None or fence.bounds != image.bounds for fence in known)

    def define(self, image: FenceImage) -> None:
        """Takes a fence in, or its new state; what its bounds hold is worked out by `settle`."""
        if image.app_id in self._removed or image.id in self._gone:
            return
        app = self._app(image.app_id)
        if image.revision <= app.revisions.get(image.id, 0):
            return
        app.revisions[image.id] = image.revision
        if not image.enabled:
            self._drop(app, image.id)
            return
        shown, coming = app.fences.get(image.id), app.coming.get(image.id)
        if coming is not None and coming.bounds == image.bounds:
            coming.describe(image)
            return
        if coming is not None:
            app.grid.discard(app.coming.pop(image.id))
        if shown is not None and shown.bounds == image.bounds:
            before, shown_tags = shown.tags, shown
            shown.describe(image)
            if before != shown_tags.tags:
                self._moved(shown.members.column())
            return
        fence = app.coming[image.id] = Fence(image)
        app.grid.add(fence)
        self.arrived()

    def remove(self, fence_id: int) -> None:
        """Forgets a fence for good."""
        self._gone.add(fence_id)
        for app in self._apps.values():
            if app.revisions.pop(fence_id, None) is not None:
                self._drop(app, fence_id)

    def settle(self, *, sort: bool = False) -> Iterator[None]:
        """Works out who is in the fences that came, one after the other, in slices; each is shown once it is whole.

        `sort`: devices are ordered by latitude once for all fences, which takes half a second for five million: good
        where nobody waits.
        """
        for app in tuple(self._apps.values()):
            ordered = self._by_latitude(app) if sort and len(app.coming) > 1 else None
            while app.coming:
                fence = next(iter(app.coming.values()))
                for part in self._candidates(app, fence, ordered):
                    fence.members.update(Devices.of(self._inside(fence, part)))
                    yield
                    if app.coming.get(fence.id) is not fence:
                        break
                if app.coming.get(fence.id) is fence:
                    self._show(app, fence)

    @property
    def settled(self) -> bool:
        """Whether every fence knows its members."""
        return not any(app.coming for app in self._apps.values())

    def crossings(self, app_id: int, before: Place | None, after: Place) -> Crossings:
        """The fences, as they were defined last, that a move from one place to another leads into and out of."""
        app = self._apps.get(app_id)
        if app is None or not app.grid or before == after:
            return Crossings([], [])
        now = {fence for fence in holding(app, *after) if app.newest(fence.id) is fence}
        then = set() if before is None else {f for f in holding(app, *before) if app.newest(f.id) is f}
        return Crossings(sorted(now - then, key=_by_id), sorted(then - now, key=_by_id))

    def at(self, ids: NDArray[np.uint32]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        """Where devices are, in units: latitudes, longitudes, and whether that is known (else both are 0)."""
        within = np.where(ids < len(self._revisions.data), ids, 0)
        return self._latitudes.data[within], self._longitudes.data[within], self._revisions.data[within] != 0

    def shown(self) -> list[Fence]:
        """Every fence whose members are known."""
        return [fence for app in self._apps.values() for fence in app.fences.values()]

    def inside(self, fence: Fence, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Those of these devices whose place, as it is known now, lies in a fence of their app."""
        app = self._apps.get(fence.app_id)
        ids = ids[ids < len(self._revisions.data)]
        return self._inside(fence, (Devices.of(ids) & app.located).column()) if app is not None else ids[:0]

    def stats(self) -> dict[str, int]:
        """Counts of what is there, and the bytes of the columns."""
        return {
            "located": sum(len(app.located) for app in self._apps.values()),
            "fences": sum(len(app.fences) for app in self._apps.values()),
            "place_bytes": sum(column.nbytes for column in self._columns),
        }

    def bitmaps(self) -> Iterator[Devices]:
        """Every set of devices."""
        for app in self._apps.values():
            yield app.located
            for fence in (*app.fences.values(), *app.coming.values()):
                yield fence.members

    def _app(self, app_id: int) -> AppPlaces:
        app = self._apps.get(app_id)
        if app is None:
            app = self._apps[app_id] = AppPlaces()
        return app

    def _reach(self, devices: int) -> None:
        if devices > len(self._revisions.data):
            for column in self._columns:
                column.reach(devices)

    def _put(self, device: int, revision: int, north: int, east: int) -> None:
        self._revisions.cells[device] = revision
        self._latitudes.cells[device], self._longitudes.cells[device] = north, east

    def _move(self, app: AppPlaces, device: int, north: int, east: int) -> bool:
        """Whether a device's sets changed as it came to a place."""
        cells = app.grid.near(north, east)
        changed = self._leave(app, device, cells)
        if not cells:
            return changed
        point = Points(np.array([north], np.int32), np.array([east], np.int32))
        for cell in cells:
            holds = cell.holds(point)
            for members, inside in zip(cell.members, holds, strict=True):
                if inside:
                    if device not in members:
                        members.add(device)
                        changed = True
                elif device in members:
                    members.discard(device)
                    changed = True
        return changed

    def _leave(self, app: AppPlaces, device: int, cells: list[Cell]) -> bool:
        """Whether a device's sets changed as it left the cells that it was in and that are none of these."""
        if not self._revisions.cells[device]:
            app.located.add(device)
            return True
        changed = False
        for cell in app.grid.near(self._latitudes.cells[device], self._longitudes.cells[device]):
            if cell not in cells:
                for fence in cell.fences:
                    if device in fence.members:
                        fence.members.discard(device)
                        changed = True
        return changed

    def _forget_one(self, device: int, changed: list[int]) -> None:
        if not self.located(device):
            return
        app = next((each for each in self._apps.values() if device in each.located), None)
        if app is not None:
            self._leave(app, device, [])
            app.located.discard(device)
            changed.append(device)
        self._put(device, 0, 0, 0)

    def _forget_many(self, ids: NDArray[np.uint32]) -> None:
        gone = Devices.of(ids)
        for app in self._apps.values():
            if app.located.intersect(gone):
                app.located.difference_update(gone)
                for fence in (*app.fences.values(), *app.coming.values()):
                    fence.members.difference_update(gone)
        self.clear(ids)
        self._moved(ids)

    def _take_many(self, rows: LocationRows) -> None:
        """The same of apps without fences, as columns: a load begins with these."""
        newer = (rows.revisions > self._revisions.data[rows.ids]) & ~np.isin(rows.app_ids, list(self._removed))
        order = np.lexsort((rows.revisions[newer], rows.ids[newer]))
        taken = np.flatnonzero(newer)[order]
        ids = rows.ids[taken]
        for column, values in zip(self._columns, (rows.latitudes, rows.longitudes, rows.revisions), strict=True):
            column.data[ids] = values[taken]
        for app_id in np.unique(rows.app_ids[taken]).tolist():
            self._app(app_id).located |= Devices.of(ids[rows.app_ids[taken] == app_id])
        self._tell(ids.tolist())
        self.forget(rows.ids[rows.revisions == 0])

    def _tell(self, changed: list[int]) -> None:
        if changed:
            self._moved(np.array(changed, np.uint32))

    def _drop(self, app: AppPlaces, fence_id: int) -> None:
        """Takes a fence away, at once."""
        if (coming := app.coming.pop(fence_id, None)) is not None:
            app.grid.discard(coming)
        if (shown := app.fences.pop(fence_id, None)) is not None:
            app.grid.discard(shown)
            self._moved(shown.members.column())

    def _show(self, app: AppPlaces, fence: Fence) -> None:
        """Puts a fence that knows its members in the place of the one before."""
        before = app.fences.get(fence.id)
        app.fences[fence.id] = app.coming.pop(fence.id)
        fence.members.run_optimize()
        if before is not None:
            app.grid.discard(before)
        both = fence.members if before is None else fence.members | before.members
        self._moved(both.column())

    def _by_latitude(self, app: AppPlaces) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
        ids = app.located.column()
        latitudes = self._latitudes.data[ids]
        order = np.argsort(latitudes, kind="stable")
        return latitudes[order], ids[order]

    def _candidates(
        self, app: AppPlaces, fence: Fence, ordered: tuple[NDArray[np.int32], NDArray[np.uint32]] | None
    ) -> Iterator[NDArray[np.uint32]]:
        """Devices that may be in a fence, in slices. Who moves meanwhile is taken care of by the move."""
        if ordered is None:
            spans = [app.located.column()]
        else:
            latitudes, ids = ordered
            south, north = min(box.south for box in fence.shape.boxes), max(box.north for box in fence.shape.boxes)
            spans = [ids[np.searchsorted(latitudes, south) : np.searchsorted(latitudes, north, "right")]]
        for span in spans:
            for start in range(0, len(span), SLICE_ROWS):
                yield span[start : start + SLICE_ROWS]

    def _inside(self, fence: Fence, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Those of these devices that are in a fence now."""
        north, east = self._latitudes.data[ids], self._longitudes.data[ids]
        near = np.zeros(len(ids), np.bool_)
        for box in fence.shape.boxes:
            near |= (north >= box.south) & (north <= box.north) & (east >= box.west) & (east <= box.east)
        near &= self._revisions.data[ids] != 0
        return ids[near][fence.shape.contains(Points(north[near], east[near]))]


def holding(app: AppPlaces, north: int, east: int) -> set[Fence]:
    """The fences of an app that a place lies in, those included that are being worked out."""
    found: set[Fence] = set()
    point: Points | None = None
    for cell in app.grid.near(north, east):
        if point is None:
            point = Points(np.array([north], np.int32), np.array([east], np.int32))
        holds = cell.holds(point)
        found.update(fence for fence, inside in zip(cell.fences, holds, strict=True) if inside)
    return found


def _by_id(fence: Fence) -> int:
    return fence.id
