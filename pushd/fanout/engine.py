"""The engine: the life of each release of a notification, from its start to the commit of its last outcome."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from pushd.batch import Rendered
from pushd.bitset import Devices
from pushd.clock import Clock
from pushd.config import FanoutConfig
from pushd.content.kinds import kinds
from pushd.content.personal import is_personal
from pushd.content.platforms import render
from pushd.credentials.keyring import Keyring
from pushd.fanout.campaign import Campaign, Wave
from pushd.fanout.campaigns import Campaigns
from pushd.fanout.dispatcher import Dispatcher
from pushd.fanout.harvest import Harvester, lane_for
from pushd.fanout.personal import Personal, personal
from pushd.fanout.planner import Planner, Settled
from pushd.fanout.recorder import Page, Recorder
from pushd.fanout.retry import Pacing
from pushd.fanout.room import Room
from pushd.gateway import Gateway
from pushd.model.app import Settings
from pushd.model.credential import CredentialState
from pushd.model.device import GatewayName, Route
from pushd.model.notification import Ledger, Notification, State
from pushd.outcome import CANCELLED, STOPPED, UNREACHABLE, Reason, Reasons
from pushd.service import Service
from pushd.store.notifications import INLINE_TARGETS_MAX, Order
from pushd.store.settlements import Committed, SettlementStore, run_number
from pushd.targeting.index import Index
from pushd.telemetry import DELIVERIES

log = structlog.get_logger(__name__)

_GATEWAYS = tuple(GatewayName)
_NO_GATEWAY = GatewayName.APNS.number
"""Stands by rows that no gateway was asked about."""

COMMIT_S = 1.0
"""What a stop leaves for the commit of the last outcomes, however long it waited for them."""


class Fanout(Service):
    """The fan-out of one daemon. Its parts decide on columns; what is one per notification happens here."""

    def __init__(
        self,
        config: FanoutConfig,
        *,
        index: Index,
        keyring: Keyring,
        gateways: Mapping[GatewayName, Gateway],
        settlements: SettlementStore,
        node_id: int,
        clock: Clock,
        source: random.Random | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._index = index
        self._keyring = keyring
        self._clock = clock
        self._campaigns = Campaigns()
        self.reasons = {name.number: gateways[name].reasons if name in gateways else Reasons() for name in GatewayName}
        """Tables of reasons by gateway number; gateways that are not built know the common reasons only."""
        self._recorder = Recorder(config, settlements, node_id, self._committed)
        pacing = Pacing.of(config, source or random.SystemRandom())
        self._dispatcher = Dispatcher(
            config,
            gateways=gateways,
            keyring=keyring,
            planner=Planner(index, clock, partial(_render, index)),
            harvester=Harvester(
                config,
                gateways,
                self._recorder,
                pacing,
                clock,
                refused=self._credential_refused,
                place=self._place,
                relocate=self._relocate,
                secret=keyring.secret,
            ),
            recorder=self._recorder,
            settlements=settlements,
            node_id=node_id,
            pacing=pacing,
            clock=clock,
        )
        self._room = Room(config, clock.monotonic())
        self._stopping = False

    async def start(self) -> None:
        """Begins to send."""
        self._recorder.fatal = self._dispatcher.fatal = self.fatal
        await self._recorder.start()
        await self._dispatcher.start()

    async def stop(self) -> None:
        """Launches nothing more, waits for what is in flight and commits it; the rest stays stored for a resume.

        Both together take at most `drain_timeout_s`: what is committed late is resumed, what takes too long is killed.
        """
        self._stopping = True
        until = self._clock.monotonic() + self._config.drain_timeout_s
        await self._dispatcher.drain(self._config.drain_timeout_s)
        await self._recorder.drain(max(COMMIT_S, until - self._clock.monotonic()))
        await self._dispatcher.stop()
        await self._recorder.stop()
        await self.cancel_tasks()

    def check_room(self, rows: int = 1, app_id: int = 0) -> None:
        """Raises where so many rows more are too many: TooManyRequestsError of this app, UnavailableError of all.

        Retry-After is when they will fit, by what waits and how fast it goes. App 0 is nobody.
        """
        if self._stopping:
            raise self._room.stopping()
        self._room.check(app_id, rows, self._clock.monotonic())

    def release(
        self,
        notification: Notification,
        settings: Settings,
        devices: Devices,
        *,
        release: int = 0,
        suppressed: Sequence[tuple[Devices, int]] = (),
        paused: bool = False,
        version: int = -1,
    ) -> None:
        """Starts a release whose targets are committed, to these devices.

        `suppressed` are the others, with the code of the reason; that is committed, too, and is only counted here.
        `version` is what the index had when the devices were resolved: -1 where that is not known.
        """
        count = len(devices)
        targeted = count + sum(len(some) for some, _ in suppressed) if suppressed else count
        campaign = self._begin(notification, settings, release, targeted, count)
        for some, code in suppressed:
            self._count_suppressed(campaign, len(some), code)
        if paused:
            self._dispatcher.pause(campaign)
        self._queue(campaign, devices, version=version)

    def resume(
        self,
        notification: Notification,
        settings: Settings,
        *,
        release: int = 0,
        targeted: int,
        counts: Mapping[tuple[int, int], int],
        remaining: Devices,
        attempted: Devices,
    ) -> None:
        """Goes on with a release that another process left: what is not settled and, at most once, not tried."""
        campaign = self._begin(notification, settings, release, targeted, len(remaining))
        campaign.counts.update(counts)
        if campaign.at_most_once:
            self._settle(campaign, remaining & attempted, STOPPED.code)
            remaining = remaining - attempted
        if notification.state is State.CANCELLED:
            campaign.cancelled = True
            self._settle(campaign, remaining, CANCELLED.code)
            remaining = Devices()
        elif notification.state is State.PAUSED:
            self._dispatcher.pause(campaign)
        self._queue(campaign, remaining, version=-1)

    def cancel(self, notification_id: int) -> bool:
        """Ends what no link took of a notification; what is on the wire keeps its outcome. False: it runs elsewhere."""
        campaigns = self._campaigns.of(notification_id)
        for campaign in campaigns:
            self._cancel(campaign)
        return bool(campaigns)

    def pause(self, notification_id: int) -> bool:
        """Keeps back what no link took of a notification, for as long as it lives. False: it runs elsewhere."""
        campaigns = self._campaigns.of(notification_id)
        for campaign in campaigns:
            self._pause(campaign, True)
        return bool(campaigns)

    def unpause(self, notification_id: int) -> bool:
        """Lets a notification go on that was paused. False: it runs elsewhere."""
        campaigns = self._campaigns.of(notification_id)
        for campaign in campaigns:
            self._pause(campaign, False)
        return bool(campaigns)

    def obey(self, order: Order) -> bool:
        """Does with a run what the store says of it, if that is news; False: it is not running here, or not yet."""
        campaign = self._campaigns.get(run_number(order.notification_id, order.release))
        if campaign is None:
            return False
        if order.cancelled:
            self._cancel(campaign)
        else:
            self._pause(campaign, order.paused)
        return True

    def ledger(self, notification_id: int) -> Ledger | None:
        """The live ledger of what runs here of a notification."""
        return self._campaigns.ledger(notification_id, self.reasons)

    def counts(self, notification_id: int) -> dict[tuple[int, int], int] | None:
        """Committed outcomes by (gateway number, code) of what runs here of a notification."""
        return self._campaigns.counts(notification_id)

    def credentials_changed(self) -> None:
        """Lets what waits for a credential see that it was resumed, replaced or removed."""
        self._dispatcher.credentials_changed()

    @property
    def progress(self) -> int:
        """A number that grows while the dispatcher works: what the watchdog watches."""
        return self._dispatcher.progress

    @property
    def running(self) -> int:
        """Releases that are not finished."""
        return len(self._campaigns)

    @property
    def backlog(self) -> int:
        """Rows without a committed outcome."""
        return self._room.whole.rows

    @property
    def unsettled(self) -> int:
        """Rows handed to links and not yet committed as settled."""
        return self._dispatcher.lanes.credit.used

    @property
    def drift(self) -> int:
        """Sum of the absolute ledger drift of everything that runs; 0, or there is a bug."""
        return self._campaigns.drift

    @property
    def oldest_pending_s(self) -> float:
        """Age of the oldest notification that is not finished, seconds."""
        oldest_at = self._campaigns.oldest_at
        return 0.0 if oldest_at is None else self._clock.now() - oldest_at

    def _begin(
        self, notification: Notification, settings: Settings, release: int, targeted: int, rows: int
    ) -> Campaign:
        """The campaign, known and counted with the rows that have no outcome yet."""
        campaign = Campaign(
            notification=notification,
            run=run_number(notification.id, release) if release else notification.id,
            settings=settings,
            kinds=kinds(notification.send.message.push_type),
            lane=lane_for(targeted, notification.send.transactional, self._config),
            targeted=targeted,
            # As the store decided when it kept the targets: rows and bitmaps are found again by that.
            inline=targeted <= INLINE_TARGETS_MAX and not release,
        )
        self._campaigns.add(campaign)
        self._room.begin(notification.app_id, rows, self._clock.monotonic())
        return campaign

    def _cancel(self, campaign: Campaign) -> None:
        if not campaign.cancelled:
            campaign.cancelled = True
            for wave in self._dispatcher.withdraw(campaign):
                self._dispatcher.end(wave, CANCELLED.code)
            self._dispatcher.recall(campaign)

    def _pause(self, campaign: Campaign, paused: bool) -> None:
        if campaign.paused is not paused and not campaign.cancelled:
            (self._dispatcher.pause if paused else self._dispatcher.unpause)(campaign)

    def _count_suppressed(self, campaign: Campaign, count: int, code: int) -> None:
        """Counts rows that were committed as suppressed with the release."""
        key = _NO_GATEWAY, code
        campaign.counts[key] = campaign.counts.get(key, 0) + count
        DELIVERIES.labels(_GATEWAYS[_NO_GATEWAY].value, self.reasons[_NO_GATEWAY].outcome(code).name.lower()).inc(count)

    def _queue(self, campaign: Campaign, devices: Devices, *, version: int) -> None:
        """Splits devices by route into waves; those that have no route any more are no longer reachable."""
        waves, rows = [], 0
        for route, own in self._index.routes(campaign.notification.app_id, devices):
            wave = Wave(campaign=campaign, route=route, ids=own.column(), version=version)
            rows += len(wave.ids)
            waves.append(wave)
        if rows < len(devices):
            self._settle(campaign, devices - Devices.union(Devices(), *(Devices.of(each.ids) for each in waves)))
        campaign.waves.update(waves)  # before the first is placed: one that ends at once must not be the end of all
        for wave in waves:
            self._dispatcher.place(wave)
        if not campaign.waves:
            self._recorder.finish_if_spent(campaign)

    def _place(self, wave: Wave) -> None:
        """Queues rows that came back from a gateway."""
        self._dispatcher.place(wave)

    def _relocate(self, campaign: Campaign) -> None:
        """Moves what waits of a campaign to the lane that it has by now."""
        self._dispatcher.relocate(campaign)

    def _settle(self, campaign: Campaign, devices: Devices, code: int = UNREACHABLE.code) -> None:
        """Settles rows whose route is not known; the common codes mean the same for every gateway."""
        settled = Settled(campaign=campaign, gateway=_NO_GATEWAY, code=code, ids=devices.column())
        self._recorder.settle((settled,), None)

    def _committed(self, page: Page, committed: Committed) -> None:
        """Moves ledger and credit: these rows are settled for good."""
        now = self._clock.monotonic()
        ended: dict[tuple[int, int], int] = {}
        settled: dict[int, int] = {}
        for (campaign, gateway, code), count in page.counts.items():
            campaign.settling -= count
            key = gateway, code
            campaign.counts[key] = campaign.counts.get(key, 0) + count
            ended[key] = ended.get(key, 0) + count
            settled[campaign.app_id] = settled.get(campaign.app_id, 0) + count
        for (gateway, code), count in ended.items():
            outcome = self.reasons[gateway].outcome(code).name.lower()
            DELIVERIES.labels(_GATEWAYS[gateway].value, outcome).inc(count)
        for app_id, count in settled.items():
            self._room.settle(app_id, count, now)
        for outlet, count in page.outlets.items():
            outlet.release(count)
        if committed.retired is not None:
            self._index.apply_devices(committed.retired)
        finished: dict[int, int] = {}
        for campaign in page.finished:
            if self._campaigns.remove(campaign.run) is not None:
                finished[campaign.app_id] = finished.get(campaign.app_id, 0) + 1
        for app_id, count in finished.items():
            self._room.end(app_id, count, now)
        for run in committed.refused:
            self._disown(run)
        self._dispatcher.pump_soon()

    def _disown(self, run: int) -> None:
        """Forgets a release that another node has claimed.

        What flies ends as if it were cancelled: none of it goes out again from here; the store refuses its outcomes.
        """
        campaign = self._campaigns.remove(run)
        if campaign is not None:
            self._room.end(campaign.app_id, 1, self._clock.monotonic())
            log.warning("notification_claimed_by_another_node", notification=campaign.id)
            campaign.cancelled = True
            left = sum(wave.left for wave in self._dispatcher.withdraw(campaign))
            self._room.remove(campaign.app_id, left, self._clock.monotonic())

    def _credential_refused(self, credential_id: int, reason: str, bundle: str | None) -> None:
        """Pauses a credential, or one topic of it: its messages wait until it is fixed or they expire (G-07)."""
        self._dispatcher.hold(credential_id, bundle)
        if self._keyring.state(credential_id, bundle) is CredentialState.ACTIVE:
            secret = self._keyring.secret(credential_id)
            self.spawn(self._keyring.pause(credential_id, reason, bundle, secret=secret), "pause-credential")


def _render(index: Index, campaign: Campaign, route: Route) -> Rendered | Reason | Personal:
    """What a campaign's message is on a kind of address, in a shape, or what makes it, once; else the reason."""
    key = route.kind, route.shape
    rendered = campaign.rendered.get(key)
    if rendered is None:
        notification = campaign.notification
        if is_personal(notification.send):
            rendered = personal(notification, campaign.settings, route, index)
        else:
            rendered = render(
                route.kind.gateway,
                notification.send,
                campaign.settings,
                notification_id=notification.id,
                now=notification.released_at,
                shape=route.shape,
            )
        campaign.rendered[key] = rendered
    return rendered
