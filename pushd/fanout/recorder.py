"""The recorder: settled rows gathered and committed in groups; credit and the ledger move when the commit is there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from pushd.bitset import Devices
from pushd.config import FanoutConfig
from pushd.errors import PushdError
from pushd.fanout.campaign import Campaign
from pushd.fanout.lanes import Outlet
from pushd.fanout.planner import Flight, Settled
from pushd.service import Service, is_set_within
from pushd.store.settlements import Committed, Delta, Retirement, Settlement, SettlementStore

log = structlog.get_logger(__name__)

Key = tuple[int, int, int]
"""(run number, gateway number, code)."""


@dataclass(slots=True, eq=False)
class Page:
    """What one commit will hold."""

    rows: int = 0
    inline: list[tuple[int | NDArray[np.int64], int, int, NDArray[np.uint32]]] = field(default_factory=list)
    """Of small sends: notification of all rows or of each, gateway, code, devices."""
    bitmaps: dict[Key, list[NDArray[np.uint32]]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[tuple[Campaign, int, int], int] = field(default_factory=lambda: defaultdict(int))
    outlets: dict[Outlet, int] = field(default_factory=lambda: defaultdict(int))
    retired: list[Retirement] = field(default_factory=list)
    finished: list[Campaign] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.rows and not self.finished and not self.retired


class Recorder(Service):
    """Commits pages one after the other; while PostgreSQL is away a page waits, and with it the credit of its rows."""

    def __init__(
        self,
        config: FanoutConfig,
        store: SettlementStore,
        node_id: int,
        on_commit: Callable[[Page, Committed], None],
    ) -> None:
        super().__init__()
        self._config = config
        self._store = store
        self._node_id = node_id
        self._on_commit = on_commit
        self._page = Page()
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Begins to commit."""
        self.spawn(self._run(), "recorder")

    def settle(self, rows: Iterable[Settled], outlet: Outlet | None) -> None:
        """Takes settled rows; `outlet` is who holds credit for them, none for rows that never were in flight."""
        page = self._page
        for each in rows:
            campaign, count = each.campaign, len(each.ids)
            if not count:
                continue
            if campaign.inline:
                page.inline.append((campaign.id, each.gateway, each.code, each.ids))
            else:
                page.bitmaps[campaign.run, each.gateway, each.code].append(each.ids)
            campaign.settling += count
            page.counts[campaign, each.gateway, each.code] += count
            if outlet is not None:
                page.outlets[outlet] += count
            page.rows += count
        if page.rows:
            self._signal()

    def settle_spans(self, flight: Flight, code: int) -> None:
        """Takes all rows of a batch of small sends at once: each has this final outcome."""
        page, batch, gateway = self._page, flight.batch, flight.batch.route.kind.gateway.number
        page.inline.append((batch.notifications, gateway, code, batch.ids))
        for campaign, start, end in flight.spans():
            campaign.in_flight -= end - start
            campaign.settling += end - start
            page.counts[campaign, gateway, code] += end - start
            if not campaign.in_flight:
                self.finish_if_spent(campaign)
        page.outlets[flight.outlet] += len(batch)
        page.rows += len(batch)
        self._signal()

    def retire(self, retirement: Retirement) -> None:
        """Takes dead tokens to be retired with the next commit."""
        self._page.retired.append(retirement)
        self._signal()

    def finish_if_spent(self, campaign: Campaign) -> None:
        """Marks a release as done with the next commit, once every row of it has its final outcome."""
        if campaign.spent and not campaign.finishing:
            campaign.finishing = True
            self._page.finished.append(campaign)
            self._signal()

    async def drain(self, timeout_s: float) -> None:
        """Returns when everything taken is committed, or when the time is over."""
        if not await is_set_within(self._idle, timeout_s):
            log.warning("settled_rows_left_uncommitted", rows=self._page.rows)

    def _signal(self) -> None:
        self._idle.clear()
        self._wake.set()
        if self._page.rows >= self._config.settle_rows_max:
            self._full.set()

    async def _run(self) -> None:
        interval = self._config.settle_interval_ms / 1000
        while True:
            await self._wake.wait()
            await is_set_within(self._full, interval)
            page, self._page = self._page, Page()
            self._wake.clear()
            self._full.clear()
            committed = await self._commit(page)
            self._on_commit(page, committed)
            if self._page.empty:
                self._idle.set()

    async def _commit(self, page: Page) -> Committed:
        """Commits a page however long it takes: images of retired devices, and notifications another node owns now."""
        settlement = _settlement(page)
        pause = 0.1
        while True:
            try:
                return await self._store.settle(settlement, self._node_id)
            except PushdError as error:
                if not error.retryable:
                    raise
                log.warning("settlement_waits", error=str(error), rows=page.rows)
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)


def _settlement(page: Page) -> Settlement:
    deltas: list[Delta] = []
    for (run, gateway, code), columns in page.bitmaps.items():
        ids = Devices.of(columns[0] if len(columns) == 1 else np.concatenate(columns))
        deltas += [Delta(run, part, gateway, code, piece) for part, piece in ids.parts()]
    counts = [len(ids) for *_, ids in page.inline]
    owners = [
        np.broadcast_to(np.asarray(each[0], np.int64), count) for each, count in zip(page.inline, counts, strict=True)
    ]
    return Settlement(
        notifications=np.concatenate(owners) if owners else np.empty(0, np.int64),
        devices=np.concatenate([ids for *_, ids in page.inline]) if page.inline else np.empty(0, np.uint32),
        gateways=np.repeat(np.array([each[1] for each in page.inline], np.int16), counts),
        codes=np.repeat(np.array([each[2] for each in page.inline], np.int16), counts),
        deltas=deltas,
        retired=page.retired,
        finished=[campaign.run for campaign in page.finished],
    )
