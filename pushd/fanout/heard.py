"""What the store says of notifications that run here: cancelled, paused or let go on through whichever node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from pushd.errors import UnavailableError
from pushd.fanout.engine import Fanout
from pushd.service import Service
from pushd.store.notifications import NotificationStore

log = structlog.get_logger(__name__)

AGAIN_S = 0.25
"""Until those are looked at again that the store gives to this node, and that have not begun here yet."""


class Heard(Service):
    """Has the fan-out do what was decided.

    Between the commit that gives a run to this node and its start here a decision would find nothing: then it is looked
    at again. What the store says at that moment is done, so that decisions need no order.
    """

    def __init__(self, store: NotificationStore, node_id: int) -> None:
        super().__init__()
        self._store = store
        self._node_id = node_id
        self._fanout: Fanout | None = None
        self._left: set[int] = set()
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Begins to look again at what had not begun."""
        self.spawn(self._look_again(), "heard-notifications")

    def begin(self, fanout: Fanout) -> None:
        """From now on this fan-out is told."""
        self._fanout = fanout
        self._wake.set()

    async def notifications(self, ids: Sequence[int]) -> None:
        """Nothing, once what runs here of these is as the store says, or kept for later. UnavailableError."""
        self._left |= await self._tell(self._fanout, ids) if self._fanout is not None else set(ids)
        if self._left:
            self._wake.set()

    async def _tell(self, fanout: Fanout, ids: Sequence[int]) -> set[int]:
        """Those of which something is this node's that has not begun."""
        orders = await self._store.orders(ids, self._node_id)
        return {order.notification_id for order in orders if not fanout.obey(order)}

    async def _look_again(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(AGAIN_S)
            self._wake.clear()
            if self._fanout is None or not self._left:
                continue
            left, self._left = self._left, set()
            try:
                left = await self._tell(self._fanout, list(left))
            except UnavailableError as error:
                log.warning("heard_waits", error=error.detail)
            self._left |= left
            if self._left:
                self._wake.set()
