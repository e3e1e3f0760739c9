"""The planner: an outlet's next batch, tokens read at that moment, rows that may no longer go sorted out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pushd.batch import Batch, Lane, Rendered
from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.lanes import Outlet
from pushd.fanout.personal import SLICE_S, Personal
from pushd.model.device import Route
from pushd.outcome import CANCELLED, EXPIRED, UNREACHABLE, Reason
from pushd.targeting.index import Index

Render = Callable[[Campaign, Route], Rendered | Reason | Personal]


@dataclass(slots=True, eq=False, kw_only=True)
class Flight:
    """A batch on its way: its outlet, its campaigns by row range, and which of its rows are already harvested."""

    batch: Batch
    outlet: Outlet
    campaigns: Sequence[Campaign]
    """One for every row span, in the order of the rows."""
    starts: NDArray[np.int64]
    """First row of each campaign's span."""
    launched_at: float = 0.0
    """Monotonic time."""
    secret: object = None
    """What the credential was when it was launched; only its identity counts."""
    sending: asyncio.Task[object] | None = None
    """While the gateway has it."""
    recalled: bool = False
    """What of it no link took yet was taken back."""
    harvested: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.harvested = np.zeros(len(self.batch), np.bool_)

    def spans(self) -> Iterator[tuple[Campaign, int, int]]:
        """Each campaign with its first row and the row after its last."""
        starts = self.starts.tolist()
        return zip(self.campaigns, starts, [*starts[1:], len(self.batch)], strict=True)


class Span(NamedTuple):
    """Rows of one campaign within a batch that is being planned."""

    campaign: Campaign
    ids: NDArray[np.uint32]
    payloads: Rendered | Sequence[Rendered]

    def each(self) -> Sequence[Rendered]:
        """The content of each row."""
        return [self.payloads] * len(self.ids) if isinstance(self.payloads, Rendered) else self.payloads


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Rows of one campaign that ended for one reason."""

    campaign: Campaign
    gateway: int
    code: int
    ids: NDArray[np.uint32]


class Planner:
    """Turns waves into batches. It reads the index and renders; it neither waits nor sends."""

    def __init__(self, index: Index, clock: Clock, render: Render) -> None:
        self._index = index
        self._clock = clock
        self._render = render
        self._spent_s = 0.0
        self.moved: list[Wave] = []
        """Waves of devices that registered with another bundle, environment or shape meanwhile, to be placed anew."""

    def plan(self, outlet: Outlet, rows_max: int) -> tuple[Flight | None, list[Settled]]:
        """The outlet's next batch of at most `rows_max` rows, and the rows that end here without being sent.

        A bulk batch has one notification; a transactional one takes as many as fit.
        """
        settled: list[Settled] = []
        spans: list[Span] = []
        room = rows_max
        attempt = outlet.waves[0].attempt
        for wave in list(islice(outlet.waves, rows_max)):
            if room <= 0 or wave.attempt != attempt:
                break
            rendered = self._render(wave.campaign, outlet.key.route)
            if over := self._over(wave.campaign, wave.attempt, rendered):
                # All of it at once, however much that is: nothing of it needs room.
                gateway = outlet.key.route.kind.gateway.number
                ids = wave.take(wave.left)
                settled.append(Settled(campaign=wave.campaign, gateway=gateway, code=over, ids=ids))
                outlet.drop(wave)
                continue
            most = min(room, rendered.rows_max) if isinstance(rendered, Personal) else room
            ids = self._sendable(outlet, wave, wave.take(most), settled)
            if not wave.left:
                outlet.drop(wave)
            if isinstance(rendered, Rendered) and len(ids):
                spans.append(Span(wave.campaign, ids, rendered))
                room -= len(ids)
            elif isinstance(rendered, Personal) and len(ids):
                span = self._personal(outlet, wave.campaign, rendered, ids, settled)
                if span is not None:
                    spans.append(span)
                    room -= len(span.ids)
                if self.tired:
                    break
            if spans and outlet.key.lane is not Lane.TRANSACTIONAL:
                break
        return self._flight(outlet, spans, attempt) if spans else None, settled

    @property
    def tired(self) -> bool:
        """Whether payloads were made for so long that the event loop is others' now."""
        return self._spent_s > SLICE_S

    def rest(self) -> None:
        """Begins another turn of the event loop."""
        self._spent_s = 0.0

    def _personal(
        self, outlet: Outlet, campaign: Campaign, personal: Personal, ids: NDArray[np.uint32], settled: list[Settled]
    ) -> Span | None:
        """Rows with a payload each; those for which there is none end here."""
        began = self._clock.monotonic()
        made = personal.column(ids)
        self._spent_s += self._clock.monotonic() - began
        gateway = outlet.key.route.kind.gateway.number
        for code, failed in made.failed.items():
            settled.append(Settled(campaign=campaign, gateway=gateway, code=code, ids=failed))
        return Span(campaign, made.ids, made.payloads) if len(made.ids) else None

    def _sendable(
        self, outlet: Outlet, wave: Wave, ids: NDArray[np.uint32], settled: list[Settled]
    ) -> NDArray[np.uint32]:
        """Those of the rows that may still be sent to on this route."""
        campaign = wave.campaign
        gateway = outlet.key.route.kind.gateway.number
        if wave.version == self._index.version:
            return ids
        known = Devices.of(ids)
        audience = campaign.notification.send.audience
        app_id = campaign.notification.app_id
        still = self._index.still(app_id, known, audience, campaign.kinds)
        if len(still) < len(ids):
            gone = (known - still).column()
            settled.append(Settled(campaign=campaign, gateway=gateway, code=UNREACHABLE.code, ids=gone))
        return self._on_route(outlet, wave, still)

    def _on_route(self, outlet: Outlet, wave: Wave, devices: Devices) -> NDArray[np.uint32]:
        """Those of the devices that still have the outlet's route; a new wave takes up the others."""
        own = Devices()
        for route, members in self._index.routes(wave.campaign.notification.app_id, devices):
            if route == outlet.key.route:
                own = members
            else:
                moved = Wave(campaign=wave.campaign, route=route, ids=members.column(), attempt=wave.attempt)
                wave.campaign.waves.add(moved)
                self.moved.append(moved)
        return own.column()

    def _over(self, campaign: Campaign, attempt: int, rendered: Rendered | Reason | Personal) -> int:
        """The code for a notification that no row of may go out any more, else 0."""
        if campaign.cancelled:
            return CANCELLED.code
        if campaign.expired(self._clock.now(), attempt):
            return EXPIRED.code
        return rendered.code if isinstance(rendered, Reason) else 0

    def _flight(self, outlet: Outlet, spans: list[Span], attempt: int) -> Flight:
        counts = np.array([len(span.ids) for span in spans], np.int64)
        alone = len(spans) == 1
        ids = spans[0].ids if alone else np.concatenate([span.ids for span in spans])
        addresses = self._index.columns(ids)
        batch = Batch(
            route=outlet.key.route,
            credential_id=outlet.key.credential_id,
            lane=outlet.key.lane,
            ids=ids,
            tokens=addresses.tokens,
            revisions=addresses.revisions,
            notifications=spans[0].campaign.id
            if alone
            else np.repeat(np.array([span.campaign.id for span in spans], np.int64), counts),
            payloads=spans[0].payloads if alone else [payload for span in spans for payload in span.each()],
            attempt=attempt,
        )
        starts = np.cumsum(counts) - counts
        return Flight(batch=batch, outlet=outlet, campaigns=[span.campaign for span in spans], starts=starts)
