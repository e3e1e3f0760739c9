"""Crossings of geofences become notifications: worked out as locations commit, sent in batches, each exactly once.

A crossing is committed with the location that makes it. From there a batch of them (one fence, one direction) is taken
by some node, accepted as a send under a key that is the batch's own, and deleted; who fails in between leaves it to be
taken again, and the key tells that it was accepted before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

import asyncpg
import structlog

from pushd.commands import notifications
from pushd.commands.context import Context
from pushd.errors import PushdError, UnavailableError
from pushd.model.audience import DeviceIds
from pushd.model.geofence import Trigger
from pushd.service import Service, is_set_within
from pushd.store.crossings import CrossingBatch
from pushd.store.locations import Crossed, Crossing, Place
from pushd.telemetry import CROSSINGS_WAITING

log = structlog.get_logger(__name__)

SENDS_AT_ONCE = 32
"""Sends of crossings that may share a commit."""
NAME_CHARS_MAX = 255


class Crossings(Service):
    """Sends what crossings trigger."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._config = context.config.places
        # A key that is forgotten could not tell a batch from one that was sent.
        self._life_s = min(self._config.crossing_life_s, context.config.store.idempotency_keep_s)
        self._waiting: Counter[int] = Counter()
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Begins to note crossings and to send what waits.

        They are noted for as long as locations are taken, longer than they are sent: what waits then is sent after the
        next start.
        """
        store = self._context.store
        self._waiting.update(await store.crossings.waiting())
        store.locations.crossed = Crossed(self._cross, self._told, self._room)
        CROSSINGS_WAITING.set_function(self._waiting_total)
        self._wake.set()
        self.spawn(self._run(), "crossings")

    def _cross(self, app_id: int, before: Place | None, after: Place) -> Sequence[Crossing]:
        found = self._context.index.places.crossings(app_id, before, after)
        return [Crossing(fence.id, True, fence.enter_interval_s) for fence in found.entered] + [
            Crossing(fence.id, False, fence.exit_interval_s) for fence in found.left
        ]

    def _room(self, app_id: int) -> int:
        return self._config.crossings_waiting_max - self._waiting[app_id]

    def _waiting_total(self) -> float:
        return float(sum(self._waiting.values()))

    def _told(self, app_id: int, count: int) -> None:
        self._waiting[app_id] += count
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self.send_some():
                    pass
                self._waiting = Counter(await self._context.store.crossings.waiting())
            except (UnavailableError, asyncpg.PostgresError) as error:
                log.warning("crossings_wait", error=str(error))
            await is_set_within(self._wake, self._config.crossing_retry_s)

    async def send_some(self) -> bool:
        """Whether there were crossings to send; those that cannot be sent now are left for later."""
        store = self._context.store
        batches = await store.crossings.take(self._config.crossings_batch_max, self._config.crossing_retry_s)
        for start in range(0, len(batches), SENDS_AT_ONCE):
            part = batches[start : start + SENDS_AT_ONCE]
            done = await asyncio.gather(*map(self._send, part))
            finished = [batch for batch, settled in zip(part, done, strict=True) if settled]
            if finished:
                await store.crossings.done([batch.number for batch in finished])
                for batch in finished:
                    self._waiting[batch.app_id] -= batch.crossings
        return bool(batches)

    async def _send(self, batch: CrossingBatch) -> bool:
        """Whether a batch is done with: accepted, or there is nothing that could be sent."""
        now = self._context.clock.now()
        if not batch.devices or now - batch.at > self._life_s:
            return True
        try:
            trigger, name = await self._trigger(batch)
            if trigger is None:
                return True
            send = trigger.send(DeviceIds(ids=batch.devices), name)
            await notifications.send(self._context, batch.app_id, send, _key(batch))
        except PushdError as error:
            if error.retryable:
                return False
            log.info("crossing_not_sent", geofence=batch.geofence_id, reason=error.code)
        return True

    async def _trigger(self, batch: CrossingBatch) -> tuple[Trigger | None, str]:
        """What the fence says now of such crossings, and a name for it."""
        fence = await self._context.store.geofences.get(batch.app_id, batch.geofence_id)
        if fence is None or not fence.enabled:
            return None, ""
        trigger = fence.on_enter if batch.entered else fence.on_exit
        name = f"{fence.name}: {'enter' if batch.entered else 'exit'}"
        return trigger, name[:NAME_CHARS_MAX]


def _key(batch: CrossingBatch) -> tuple[str, bytes]:
    """The key of a batch's send. It begins with a character that no header can carry, so nobody else's is the same."""
    key = f"\x01crossings:{batch.number}"
    return key, sha256(key.encode()).digest()
