"""The gate before a release: what quiet hours hold back or drop, and what frequency caps take out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pushd.bitset import Devices
from pushd.model.app import App
from pushd.model.audience import UserIds
from pushd.model.notification import Send
from pushd.model.quiet import Policy
from pushd.outcome import FREQUENCY_CAP, QUIET_HOURS, Reason
from pushd.scheduler import quiet, zones
from pushd.scheduler.counting import Counting, Tallies
from pushd.scheduler.pauses import Pauses, pieces
from pushd.store.tallies import Tally
from pushd.targeting.holders import QUIET_BITS
from pushd.targeting.index import Index

SLICE_ROWS = 16_384
"""Devices whose clocks and quiet hours are looked at before others may get their turn: some 2 ms."""
SLICE_USERS = 16_384
NAMED_MAX = 64
"""Users that are looked up one by one, to see whether quiet hours of their own could concern a send."""
_QUIET_MASK = np.uint64((1 << QUIET_BITS) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """What becomes of the devices of a release; each is in one of the sets."""

    go: Devices
    held: tuple[tuple[float, Devices], ...] = ()
    """Until when (UNIX seconds, ascending), and who."""
    dropped: tuple[tuple[Devices, Reason], ...] = ()
    tally: Tally | None = None
    """Who is counted for a cap, for as long as this is held; None: nobody. To be kept with the release."""


class Gate:
    """Asked when a release is due; what it holds back asks again when it is due then."""

    def __init__(self, index: Index, tallies: Tallies, node_id: int) -> None:
        self._index = index
        self._counting = Counting(tallies, node_id)

    def concerns(self, app: App, send: Send) -> bool:
        """Whether quiet hours or a cap could stand in the way of a send, to whomever it goes."""
        if send.transactional:
            return False
        settings = app.settings
        if settings.quiet_hours is not None or send.category in settings.caps:
            return True
        holders, audience = self._index.holders, send.audience
        if not holders.have_quiet_hours(app.id):
            return False
        if type(audience) is UserIds and len(audience.ids) <= NAMED_MAX:
            return holders.has_quiet_hours(app.id, audience.ids)
        return True

    async def judge(self, app: App, send: Send, devices: Devices, at: float, notification_id: int = 0) -> Admission:
        """What becomes of a release's devices at an instant. Who may go is counted for the send's category.

        That ends with the last reference to the tally, unless `sent` is called. `notification_id` is named where there
        may be other releases of it: a person counts once for all of them. UnavailableError where it cannot be read
        what was sent before.
        """
        if send.transactional or not devices:
            return Admission(devices)
        dropped: list[tuple[Devices, Reason]] = []
        held = await self._quiet(app, devices, at)
        go = devices.difference(*held.values()) if held else devices
        if held and send.quiet_hours is Policy.DROP:
            dropped.append((devices - go, QUIET_HOURS))
            held = {}
        tally, cap = None, app.settings.caps.get(send.category) if send.category is not None else None
        if cap is not None and go:
            assert send.category is not None, "it names the cap"
            key = (app.id, send.category)
            over, tally = await self._counting.admit(self._index.holders, cap, key, go, at, notification_id)
            if over:
                dropped.append((over, FREQUENCY_CAP))
                go = go - over
        return Admission(go, tuple(sorted(held.items(), key=lambda each: each[0])), tuple(dropped), tally)

    def sent(self, admission: Admission) -> None:
        """Counts for good what was admitted, once it is committed."""
        if admission.tally is not None:
            self._counting.sent(admission.tally)

    async def heard(self, app_ids: Sequence[int]) -> None:
        """Notes that other nodes counted something for these apps: the feed says so."""
        self._counting.heard(app_ids)

    def renew(self) -> None:
        """Looks at what other nodes counted, for any app, before the next judgement."""
        self._counting.renew()

    @property
    def nbytes(self) -> int:
        """Bytes that the counts for caps take."""
        return self._counting.nbytes

    def forget(self, app_ids: Iterable[int]) -> None:
        """Knows nothing more of apps that are gone."""
        self._counting.forget(app_ids)

    async def _quiet(self, app: App, devices: Devices, at: float) -> dict[float, Devices]:
        """Devices for which it is quiet, by when that ends."""
        held: dict[float, Devices] = defaultdict(Devices)
        pauses, own = Pauses(), await self._of_quiet_users(app, devices)
        if own:
            await self._by_device(app, own, at, held, pauses)
        if app.settings.quiet_hours is not None and (rest := devices - own if own else devices):
            await self._by_zone(app, rest, at, held, pauses)
        return held

    async def _of_quiet_users(self, app: App, devices: Devices) -> Devices:
        """Those of the devices whose users have quiet hours of their own; all where looking for them takes longer."""
        holders = self._index.holders
        count = holders.have_quiet_hours(app.id)
        if not count or count > len(devices):
            return devices if count else Devices()
        found, pauses = Devices(), Pauses()
        for some in holders.of_quiet_users(app.id, SLICE_USERS):
            found |= some & devices
            await pauses.due()
        return found

    async def _by_device(
        self, app: App, devices: Devices, at: float, held: dict[float, Devices], pauses: Pauses
    ) -> None:
        """Looks at each device; the cost beside that is of the distinct zones and quiet hours."""
        holders = self._index.holders
        until: dict[int, float] = {}
        for _, part in pieces(devices.column(), SLICE_ROWS):
            distinct, places = np.unique(holders.clocks(part), return_inverse=True)
            keys = distinct.tolist()
            new = np.array([key for key in keys if key not in until], np.uint64)
            for number in np.unique(new >> np.uint64(QUIET_BITS)).tolist():
                there = new[new >> np.uint64(QUIET_BITS) == number]
                of = zones.zone(holders.zone(app.id, number) or app.settings.time_zone)
                packed = (there & _QUIET_MASK).astype(np.uint32)
                ends = quiet.holds(packed, app.settings.quiet_hours, at, of)
                until.update(zip(there.tolist(), ends.tolist(), strict=True))
                await pauses.due()
            ends, groups = np.unique(np.array([until[key] for key in keys]), return_inverse=True)
            rows = groups[places]
            for group, end in enumerate(ends.tolist()):
                if end:
                    held[end] |= Devices.of(part[rows == group])
            await pauses.due()

    async def _by_zone(self, app: App, rest: Devices, at: float, held: dict[float, Devices], pauses: Pauses) -> None:
        """Devices whose users have none of their own go by the app's, zone by zone."""
        hours = app.settings.quiet_hours
        assert hours is not None, "asked before"
        for name, members in self._index.holders.time_zones(app.id):
            here = rest & members
            if here:
                rest = rest - here  # each once, though it may change its zone meanwhile
                if end := quiet.ends((hours,), at, zones.zone(name)):
                    held[end] |= here
            await pauses.due()
        if rest and (end := quiet.ends((hours,), at, zones.zone(app.settings.time_zone))):
            held[end] |= rest
