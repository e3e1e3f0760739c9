"""Pictures of notifications: fetched once for their URL, fitted, kept, and served to browsers under a name of our own.

A send waits for its pictures before it is accepted, for a few seconds at most: nothing of them is left to the fan-out,
and what was accepted names pictures that are there. What cannot be had in time, or at all, goes out as it was given.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import NamedTuple

import asyncpg
import structlog

from pushd.clock import Clock
from pushd.config.pictures import PicturesConfig
from pushd.content.pictures import Fitted, Frame, fit
from pushd.errors import NotFoundError, PushdError
from pushd.service import Service
from pushd.store.pictures import PictureStore
from pushd.store.sweeping import sweep
from pushd.telemetry import PICTURES
from pushd.transport.fetch import Fetcher, FetchError

log = structlog.get_logger(__name__)

FITTED, FITS, FAILED, BUSY = (PICTURES.labels(result) for result in ("fitted", "fits", "failed", "busy"))


class _Source(NamedTuple):
    app_id: int
    frame: Frame
    url: str


class _Known(NamedTuple):
    """What the picture of a URL came to."""

    name: str | None
    """None: it stays as it is given."""
    until: float


class Pictures(Service):
    """Pictures of every app."""

    def __init__(self, config: PicturesConfig, store: PictureStore, clock: Clock) -> None:
        super().__init__()
        self._config = config
        self._store = store
        self._clock = clock
        self._fetcher = Fetcher(config)
        self._known: OrderedDict[_Source, _Known] = OrderedDict()
        self._fetching: dict[_Source, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        """One picture is unpacked at a time, which bounds what they take of the memory."""
        self._bodies: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._held_bytes = 0

    async def start(self) -> None:
        """Makes ready to fetch; deletes what nobody wants any more from then on."""
        await self._fetcher.start()

        async def purge(now: float) -> bool:
            return await self._store.purge(now, self._config.keep_days)

        self.spawn(sweep("pictures", purge, self._clock), "pictures")

    async def stop(self) -> None:
        """Ends what is under way."""
        await super().stop()
        await self._fetcher.stop()

    async def fit(self, app_id: int, url: str, frame: Frame) -> str | None:
        """The name of the fitted picture; None where the URL is shown as it is: it fits, or cannot be had in time."""
        source = _Source(app_id, frame, url)
        known = self._known.get(source)
        if known is not None and known.until > self._clock.monotonic():
            self._known.move_to_end(source)
            return known.name
        task = self._fetching.get(source)
        if task is None:
            if len(self._fetching) >= self._config.fetches_max:
                BUSY.inc()
                return known.name if known is not None else None
            task = self.spawn(self._learn(source), "picture")
            self._fetching[source] = task
            task.add_done_callback(lambda _: self._fetching.pop(source, None))
        await asyncio.wait({task}, timeout=self._config.wait_s)
        known = self._known.get(source)
        return known.name if known is not None else None

    async def body(self, app_id: int, name: str) -> bytes:
        """The fitted picture of a name. NotFoundError."""
        place = app_id, name
        body = self._bodies.get(place)
        if body is not None:
            self._bodies.move_to_end(place)
            return body
        body = await self._store.get(app_id, name)
        if body is None:
            raise NotFoundError("There is no such picture")
        self._hold(place, body)
        return body

    async def _learn(self, source: _Source) -> None:
        """Notes what the picture of a URL comes to; where that fails, what was known stands for a while longer."""
        before, life_s = self._known.get(source), self._config.fresh_s
        try:
            raw = await self._fetcher.get(source.url)
            async with self._turn:
                fitted = await asyncio.to_thread(fit, raw, source.frame, self._config.pixels_max)
            name = None if fitted is None else await self._keep(source.app_id, fitted)
            (FITS if fitted is None else FITTED).inc()
        except (FetchError, ValueError, PushdError, asyncpg.PostgresError) as error:
            FAILED.inc()
            log.debug("picture_failed", app=source.app_id, why=str(error))
            name, life_s = before.name if before is not None else None, self._config.failed_s
        self._known[source] = _Known(name, self._clock.monotonic() + life_s)
        self._known.move_to_end(source)
        if len(self._known) > self._config.urls_max:
            self._known.popitem(last=False)

    async def _keep(self, app_id: int, fitted: Fitted) -> str:
        await self._store.put(app_id, fitted.name, fitted.body, self._clock.now())
        self._hold((app_id, fitted.name), fitted.body)
        return fitted.name

    def _hold(self, place: tuple[int, str], body: bytes) -> None:
        self._held_bytes += len(body) - len(self._bodies.pop(place, b""))
        self._bodies[place] = body
        while self._held_bytes > self._config.memory_bytes_max:
            self._held_bytes -= len(self._bodies.popitem(last=False)[1])


def path_of(app_id: int, name: str) -> str:
    """Where a picture is served, on this host."""
    return f"/pushd/pictures/{app_id}/{name}"
