"""What apps define for their audiences, read from the store into the index: at start, and whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pushd.store.store import Store
from pushd.targeting.index import Index


class Definitions:
    """The reader of channels and segments. An app's are few: they are read as a whole."""

    def __init__(self, store: Store, index: Index) -> None:
        self._store = store
        self._index = index
        # What is read later is newer: reads take turns, so that none undoes another.
        self._channels = asyncio.Lock()
        self._segments = asyncio.Lock()

    async def load(self) -> None:
        """Reads those of every app."""
        await self.channels_changed(None)
        await self.segments_changed(None)

    async def channels_changed(self, app_ids: Sequence[int] | None) -> None:
        """Reads the channels of these apps, as they are now or later; None: of every app."""
        async with self._channels:
            for app_id, labels in (await self._store.channels.labels(app_ids)).items():
                self._index.define_channels(app_id, labels)

    async def segments_changed(self, app_ids: Sequence[int] | None) -> None:
        """Reads the segments of these apps, as they are now or later; None: of every app."""
        async with self._segments:
            for app_id, segments in (await self._store.segments.audiences(app_ids)).items():
                self._index.define_segments(app_id, segments)
