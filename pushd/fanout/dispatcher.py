"""The dispatcher: from waves to batches, by lane, turn, credit and the gateways' room; and the timers of what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pushd.batch import Lane
from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.config import FanoutConfig
from pushd.credentials.keyring import Keyring
from pushd.errors import PushdError
from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.harvest import Harvester
from pushd.fanout.lanes import Outlet, OutletKey, Share
from pushd.fanout.pauses import Pauses
from pushd.fanout.planner import Flight, Planner, Settled
from pushd.fanout.recorder import Recorder
from pushd.fanout.retry import LAST_MOMENT, Pacing
from pushd.gateway import Gateway
from pushd.model.credential import CredentialState
from pushd.model.device import GatewayName, Route
from pushd.outcome import CANCELLED, EXPIRED, NO_CREDENTIAL, NOT_WRITTEN
from pushd.service import Service, is_set_within
from pushd.store.settlements import SettlementStore

HARVEST_S = 0.05
"""How often batches in flight are looked at, so that a straggler does not hold the credit of its neighbours."""
HARVEST_AFTER_S = 0.25
"""How long a batch is left alone before: most are home by then, and each look costs as much as a whole batch."""
STRAGGLER_ROWS = 16
"""Smaller batches are looked at when they land: thousands of single sends may fly, and hold little credit each."""
SWEEP_S = 1.0
"""How often rows that cannot go out now are looked at for the end of their life, and what is idle is forgotten."""
ATTEMPT_RETRY_S = 0.5
"""Pause between tries to commit that at-most-once rows are about to be sent."""


class Dispatcher(Service):
    """Launches batches while credit lasts. One look at the lanes per turn of the event loop, whatever woke it."""

    def __init__(
        self,
        config: FanoutConfig,
        *,
        gateways: Mapping[GatewayName, Gateway],
        keyring: Keyring,
        planner: Planner,
        harvester: Harvester,
        recorder: Recorder,
        settlements: SettlementStore,
        node_id: int,
        pacing: Pacing,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._config = config
        self._gateways = gateways
        self._keyring = keyring
        self._planner = planner
        self._harvester = harvester
        self._recorder = recorder
        self._settlements = settlements
        self._node_id = node_id
        self.lanes, self._later, self._backoff, self._budgets = pacing
        self._pauses = Pauses(self.lanes)
        self._clock = clock
        self.progress = 0
        """Grows while looking at the lanes works: what the watchdog watches."""
        self._flights: set[Flight] = set()
        self._due = asyncio.Event()
        self._draining = False
        self._landed = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._last: Outlet | None = None
        """Where the last wave was placed in this turn of the event loop; most find the next one's place there."""

    async def start(self) -> None:
        """Begins to launch."""
        self.spawn(self._pump_when_due(), "fanout-pump")
        self.spawn(self._sweep(), "fanout-sweep")
        self.spawn(self._watch_flights(), "fanout-flights")

    async def drain(self, timeout_s: float) -> None:
        """Launches nothing more; returns when nothing is in flight, or when the time is over."""
        self._draining = True
        if self._flights:
            self._landed.clear()
            await is_set_within(self._landed, timeout_s)

    async def stop(self) -> None:
        """Ends timers and tasks; batches still in flight stay unsettled for a resume."""
        if self._alarm is not None:
            self._alarm.cancel()
        await self.cancel_tasks()

    # Queueing -----------------------------------------------------------------------------------------------------

    def place(self, wave: Wave) -> None:
        """Queues a wave at the outlet of its route; without a credential for the route it ends here."""
        if wave.campaign.paused:
            self._pauses.park(wave)
            return
        last = self._last
        if last is None or last.key.route is not wave.route or last.key.lane is not wave.campaign.lane:
            last = self._last = self._find(wave.route, wave.campaign.lane)
            if last is None:
                self.end(wave, NO_CREDENTIAL.code)
                return
        last.add(wave)
        self._due.set()

    def _find(self, route: Route, lane: Lane) -> Outlet | None:
        """The outlet of a route as its credential is now; None without one."""
        credential = self._keyring.find(route) if route.kind.gateway in self._gateways else None
        if credential is None:
            return None
        outlet = self.lanes.outlet(OutletKey(route, credential, lane))
        outlet.held = self._keyring.state(credential, route.bundle) is CredentialState.PAUSED
        return outlet

    def end(self, wave: Wave, code: int) -> None:
        """Settles what is left of a wave without sending it."""
        campaign, ids = wave.campaign, wave.take(wave.left)
        campaign.waves.discard(wave)
        gateway = wave.route.kind.gateway.number
        self._recorder.settle((Settled(campaign=campaign, gateway=gateway, code=code, ids=ids),), None)
        self._recorder.finish_if_spent(campaign)

    def withdraw(self, campaign: Campaign) -> list[Wave]:
        """Takes everything that waits of a campaign out of lanes, timers and pause."""
        waves = list(campaign.waves)
        self.lanes.take_out(campaign)
        self._pauses.end(campaign)
        campaign.waves.clear()
        return waves

    def pause(self, campaign: Campaign) -> None:
        """Keeps a campaign out of lanes: what waits, and what comes home without an answer."""
        self._pauses.begin(campaign)
        self.recall(campaign)

    def unpause(self, campaign: Campaign) -> None:
        """Lets a campaign go on."""
        for wave in self._pauses.end(campaign):
            self.place(wave)

    def relocate(self, campaign: Campaign) -> None:
        """Moves what waits of a campaign, here or for a link, to the lane that it has by now."""
        self.recall(campaign)
        routes = {wave.route for wave in campaign.waves}
        for outlet in self.lanes:
            if outlet.key.route in routes and outlet.key.lane is not campaign.lane:
                for wave in [each for each in outlet.waves if each.campaign is campaign]:
                    outlet.drop(wave)
                    if wave.left:
                        self.place(wave)

    def recall(self, campaign: Campaign) -> None:
        """Takes back what no link took yet of a campaign's batches; it comes home unprocessed."""
        for flight in self._flights:
            if flight.campaigns[0] is campaign and len(flight.campaigns) == 1 and flight.sending is not None:
                flight.recalled = True
                flight.sending.cancel()
                flight.sending = None

    def hold(self, credential_id: int, bundle: str | None) -> None:
        """Stops everything that sends with a credential the gateway refused, or one bundle's part of it."""
        self._last = None
        for outlet in self.lanes.of_credential(credential_id):
            if bundle is None or outlet.key.route.bundle == bundle:
                outlet.held = True

    def credentials_changed(self) -> None:
        """Looks at every outlet anew: resumed credentials send, replaced ones hand over, removed ones end."""
        self._last = None
        for outlet in self.lanes:
            credential = self._keyring.find(outlet.key.route)
            if credential == outlet.key.credential_id:
                outlet.held = self._keyring.state(credential, outlet.key.route.bundle) is CredentialState.PAUSED
                continue
            outlet.held = False
            for wave in list(outlet.waves):
                outlet.drop(wave)
                self.place(wave)
        self.pump_soon()

    # Launching ----------------------------------------------------------------------------------------------------

    def pump_soon(self) -> None:
        """Looks at the lanes at the end of this turn of the event loop, however many sends and answers it brought."""
        self._due.set()

    async def _pump_when_due(self) -> None:
        """A task and no callback: what goes wrong in planning has left rows nowhere, and must not pass unseen."""
        while True:
            await self._due.wait()
            self._due.clear()
            self._last = None
            if not self._draining and self._pump():
                self._due.set()
                await asyncio.sleep(0)  # what waits for the event loop comes between two batches, not behind all
            self.progress += 1

    def _pump(self) -> bool:
        """Launches what may go out: single sends all at once, of campaigns a batch. Whether more may go at once."""
        now = self._clock.monotonic()
        self._planner.rest()
        self.lanes.wake(now)
        for key, wave in self._later.due(now):
            self._admit_retry(key, wave, now)
        left = self._fill(Lane.TRANSACTIONAL, now, self._config.unsettled_rows_max)
        for lane in (Lane.BULK, Lane.DOUBTFUL):
            left |= self._fill(lane, now, self._config.batch_rows_max)
        self._set_alarm(now)
        return left

    def _admit_retry(self, key: OutletKey, wave: Wave, now: float) -> None:
        """Lets a due retry into its lane as far as the pool's budget goes; the rest waits while the message lives."""
        campaign, left_s = wave.campaign, wave.campaign.left_s(self._clock.now())
        goes = left_s > 0 and not campaign.paused
        granted = self._budgets.of(key.pool).grant(wave.left, now) if goes else 0
        campaign.waves.discard(wave)
        ids = wave.take(wave.left)
        first, rest = (
            Wave(campaign=campaign, route=wave.route, ids=part, attempt=wave.attempt)
            for part in (ids[:granted], ids[granted:])
        )
        if granted:
            self.place(first)
        if rest.left:
            delay = self._backoff.delay(1, self._config.retry_base_s, left_s)
            if delay is None:
                self.end(rest, EXPIRED.code)
            else:
                self._later.put(now + delay, key, rest, latest=now + LAST_MOMENT * left_s)

    def _fill(self, lane: Lane, now: float, rows: int) -> bool:
        """Launches a batch of every app in turn, until nobody may launch any more, or these rows are out.

        True: they are out, and somebody may launch more.
        """
        launched = 1
        while launched and self.lanes.credit.free(lane) > 0:
            launched = 0
            for share in self.lanes.ready(lane, now):
                if rows <= 0:
                    return True
                launched += (more := self._launch_next(share, now))
                rows -= more
                if more and self._planner.tired:
                    return True
        return False

    def _launch_next(self, share: Share, now: float) -> int:
        """Launches a batch of the first outlet in an app's line that may; its rows at most, 0: none may."""
        for outlet in list(share.line):
            rows = self._allowance(outlet, now)
            if rows > 0:
                self._launch(outlet, rows, now)
                return rows
        return 0

    def _allowance(self, outlet: Outlet, now: float) -> int:
        """Rows that an outlet may launch now: within its share and its pool's room, and worth a batch."""
        route, credential, lane = outlet.key
        most = self._config.batch_rows_max
        rows = min(most, self.lanes.allowance(outlet, now))
        room = self._gateways[route.kind.gateway].room(route, credential, lane) if rows > 0 else 0
        few = rows < most // 4 or room < most // 2
        rows = min(rows, room)
        if lane is Lane.BULK and few and outlet.in_flight and outlet.waves[0].left > rows:
            return 0
        return rows

    def _launch(self, outlet: Outlet, rows: int, now: float) -> None:
        flight, settled = self._planner.plan(outlet, rows)
        self.lanes.turn(outlet)
        self._recorder.settle(settled, None)
        if flight is not None:
            flight.launched_at = now
            flight.secret = self._keyring.secret(outlet.key.credential_id)
            for campaign, start, end in flight.spans():
                campaign.in_flight += end - start
            outlet.acquire(len(flight.batch), now)
            if flight.batch.attempt == 1:
                self._budgets.of(outlet.key.pool).sent(len(flight.batch), now)
            self._flights.add(flight)
            self.spawn(self._fly(flight), "batch")
        # After what flies is counted: a moved wave may end at once, and its campaign must not look spent by that.
        moved, self._planner.moved = self._planner.moved, []
        for wave in moved:
            self.place(wave)
        for each in settled:
            self._recorder.finish_if_spent(each.campaign)

    async def _fly(self, flight: Flight) -> None:
        refused = await self._record_attempts(flight)
        if refused:
            self._ground(flight, refused)
        else:
            await self._send(flight)
        assert not flight.batch.pending, "a gateway came back with rows pending"
        self._harvester.harvest(flight)
        self._flights.discard(flight)
        if not self._flights:
            self._landed.set()
        self.pump_soon()

    async def _send(self, flight: Flight) -> None:
        """Returns when every row has an outcome; of a batch that is recalled, those on the wire are waited for."""
        flight.sending = asyncio.current_task()
        try:
            await self._gateways[flight.batch.route.kind.gateway].send(flight.batch)
        except asyncio.CancelledError:
            if not flight.recalled:
                raise
            while flight.batch.pending:  # noqa: ASYNC110  links fill outcomes row by row and tell nobody
                await asyncio.sleep(HARVEST_S)
        finally:
            flight.sending = None

    async def _record_attempts(self, flight: Flight) -> frozenset[int]:
        """At-most-once: that a row is tried is committed before it is; while PostgreSQL is away it waits.

        The runs that may not be sent: another node has claimed them.
        """
        tried = [
            (campaign.run, Devices.of(flight.batch.ids[start:end]))
            for campaign, start, end in flight.spans()
            if campaign.at_most_once
        ]
        while tried:
            try:
                return await self._settlements.attempted(tried, self._node_id)
            except PushdError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(ATTEMPT_RETRY_S)
        return frozenset()

    def _ground(self, flight: Flight, refused: frozenset[int]) -> None:
        """Sends nothing of a batch: rows of the refused runs end, their neighbours wait for the next one."""
        for campaign, start, end in flight.spans():
            code = CANCELLED.code if campaign.run in refused else NOT_WRITTEN.code
            flight.batch.outcomes[start:end] = code

    # Timers -------------------------------------------------------------------------------------------------------

    def _set_alarm(self, now: float) -> None:
        dues = [due for due in (self.lanes.next_wake(), self._later.next_due()) if due is not None]
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if dues:
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, min(dues) - now), self.pump_soon)

    async def _watch_flights(self) -> None:
        while True:
            await asyncio.sleep(HARVEST_S)
            before = self._clock.monotonic() - HARVEST_AFTER_S
            for flight in list(self._flights):
                if len(flight.batch) >= STRAGGLER_ROWS and flight.launched_at <= before:
                    self._harvester.harvest(flight)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._end_outlived()
            self._forget_idle()
            self.pump_soon()

    def _end_outlived(self) -> None:
        """Ends what outlived itself where nothing goes out: behind a paused credential, in a rest, or in a pause."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for wave in self._pauses.outlived(now):
            self.end(wave, EXPIRED.code)
        for outlet in self.lanes:
            if outlet.held:
                over = [wave for wave in outlet.waves if wave.campaign.outlived(now)]
            elif outlet.resume_at > monotonic:
                over = [wave for wave in outlet.waves if wave.campaign.expired(now, wave.attempt)]
            else:
                continue
            for wave in over:
                outlet.drop(wave)
                self.end(wave, EXPIRED.code)

    def _forget_idle(self) -> None:
        self._last = None
        now = self._clock.monotonic()
        self.lanes.prune(now)
        self._budgets.forget_idle(now)
        self._harvester.forget_idle(now)
