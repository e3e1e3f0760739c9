"""The composition root: builds every part from the configuration, starts them in order and stops them in reverse."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from pushd.api import beacons, native, pictures, safari_service
from pushd.badges import COUNTED
from pushd.clock import Clock, SystemClock
from pushd.cluster.node import Node
from pushd.cluster.takeover import Takeover
from pushd.commands.context import Context, UnderWay
from pushd.commands.crossings import Crossings
from pushd.commands.definitions import Definitions
from pushd.commands.erasures import Eraser
from pushd.commands.expirations import Expirer
from pushd.commands.importer import Importer
from pushd.commands.in_app_keeper import InAppKeeper
from pushd.commands.pictures import Pictures
from pushd.commands.places import PlaceKeeper
from pushd.commands.safari_log import SafariLog
from pushd.commands.scheduling import runner
from pushd.config import Config
from pushd.credentials.coverage import CoverageWatch
from pushd.credentials.expiry import ExpiryWatch
from pushd.credentials.handles import Handles
from pushd.credentials.keyring import Change, Keyring
from pushd.credentials.vault import Vault, load_master_key, subkey
from pushd.dialects.mount import surfaces
from pushd.errors import PushdError
from pushd.fanout.engine import Fanout
from pushd.fanout.heard import Heard
from pushd.feed.feed import Feed
from pushd.gateway import Gateway
from pushd.gateways.apns import ApnsGateway
from pushd.gateways.email import EmailGateway
from pushd.gateways.fcm import FcmGateway
from pushd.gateways.hms import HmsGateway
from pushd.gateways.safari import SafariGateway
from pushd.gateways.webpush import WebPushGateway
from pushd.heap import Heap
from pushd.inbox.catalogue import Catalogue
from pushd.model.app import Settings
from pushd.model.device import GatewayName
from pushd.model.notification import Notification
from pushd.reports.beacons import Beacons
from pushd.reports.limits import FollowerLimits, PasswordLimits, ReceiptLimits
from pushd.scheduler.gate import Gate
from pushd.scheduler.habits import Habits
from pushd.scheduler.runner import Runner
from pushd.service import Service
from pushd.store.changes import Listeners
from pushd.store.embedded import EmbeddedServer
from pushd.store.loading import Snapshot
from pushd.store.resume import Resume
from pushd.store.store import Store
from pushd.targeting.index import Index
from pushd.telemetry import BACKLOG, LEDGER_DRIFT, OLDEST_PENDING, LoopLag
from pushd.transport.guard import Guard
from pushd.web.auth import Authenticator
from pushd.web.router import Router
from pushd.web.server import HttpServer

log = structlog.get_logger(__name__)

GATEWAY_DRAIN_S = 2.0
"""After the fan-out has drained nothing should be in flight; links get this long to say goodbye."""


class Daemon:
    """One pushd process. `start` returns when it serves; `failed` is set when a part broke an invariant."""

    def __init__(self, config: Config, *, clock: Clock | None = None, environ: Mapping[str, str] | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._environ = os.environ if environ is None else environ
        self._started: list[Service] = []
        self._embedded: EmbeddedServer | None = None
        self.runner: Runner | None = None
        self._ready = False
        self._stopping = False
        data_dir = Path(config.store.data_dir)
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._master_key = load_master_key(
            config.secrets, config.store.data_dir, self._environ.get("CREDENTIALS_DIRECTORY")
        )

    async def start(self) -> None:
        """Starts every part; PushdError says which one cannot."""
        try:
            await self._start()
        finally:
            if not self._ready:
                await self.stop()

    async def _start(self) -> None:
        await self._start_store()
        await self._start_gateways()
        async with self.store.snapshot() as snapshot:
            await self._start_index(snapshot)
            await self._start_fanout()
            await self._load_users(snapshot)
        await self._start_takeover()
        await self._start_http()
        self._ready = True
        log.info("ready", port=self.http.port, tls_port=self.http.tls_port, devices=self.index.stats()["devices"])

    async def stop(self) -> None:
        """Stops accepting, lets what is in flight settle, ends every part; what waits is resumed at the next start."""
        self._ready, self._stopping = False, True
        while self._started:
            service = self._started.pop()
            # One part that cannot stop must not keep the others from it.
            (error,) = await asyncio.gather(service.stop(), return_exceptions=True)
            if error is not None:
                log.warning("stop_failed", service=type(service).__name__, error=repr(error))
        if self._embedded is not None:
            await self._embedded.stop()

    async def reload(self) -> None:
        """Reads certificates and credentials again (SIGHUP)."""
        self.http.reload()
        await self.keyring.reload()
        log.info("reloaded")

    async def ready(self) -> list[str]:
        """Why this daemon should not get requests now; empty when it should."""
        if self._stopping:
            return ["stopping"]
        if not self._ready:
            return ["starting"]
        return await self._database_trouble()

    async def _database_trouble(self) -> list[str]:
        try:
            await self.store.database.fetchval("SELECT 1")
        except PushdError as error:
            return [f"PostgreSQL: {error.detail}"]
        return []

    @property
    def progress(self) -> int:
        """Grows while the dispatcher works: what the watchdog watches."""
        return self.fanout.progress if self._ready else -1

    async def _begin(self, service: Service) -> None:
        service.fatal = self._fail
        self._started.append(service)  # also when it starts only in part: what it opened is closed
        await service.start()

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _start_store(self) -> None:
        dsn = self.config.store.dsn
        if not dsn:
            self._embedded = EmbeddedServer(Path(self.config.store.data_dir), config=self.config.store)
            dsn = await self._embedded.start()
            await self._begin(_Keeper(self._embedded))
        self.store = Store(self.config.store, dsn, self.clock)
        await self._begin(self.store)
        self.inbox = Catalogue(self.store.in_app, self.config.inbox, self.clock)
        limits = self.config.store
        self.node = Node(self.store.database.connect, ping_s=limits.node_ping_s, timeout_s=limits.node_timeout_s)
        await self._begin(self.node)

    async def _start_gateways(self) -> None:
        self.vault = Vault(self._master_key)
        self.keyring = Keyring(self.store.credentials, self.vault)
        await self._begin(self.keyring)
        await self._begin(ExpiryWatch(self.keyring, self.clock))
        self.gateways = self._build_gateways()
        for gateway in self.gateways.values():
            await self._begin(_GatewayService(gateway))

    async def _start_index(self, snapshot: Snapshot) -> None:
        """Loads everything but users as of one moment, and follows the feed from that moment on.

        Users are half of the work, and nothing that goes out to others than named people waits for them: they are
        loaded while it goes on. What the feed says of them meanwhile is newer, whichever comes first.
        """
        self.index = Index(self.clock, self.store.badges.badges)
        for app_id in await self.store.apps.gone():
            self.index.remove_app(app_id)
        self.gate = Gate(self.index, self.store.tallies, self.node.id)
        self.definitions = Definitions(self.store, self.index)
        self._places = places = PlaceKeeper(self.store, self.index, self.clock, self.config.places)
        self._heard = Heard(self.store.notifications, self.node.id)
        await self._begin(self._heard)
        async for devices in self.store.devices.load(snapshot):
            self.index.apply_devices(devices)
        await places.load(snapshot)
        follower = self.store.follow(
            Listeners(
                on_in_app=self.inbox.changed,
                on_devices=self.index.apply_devices,
                on_users=self.index.apply_users,
                on_credentials=self.keyring.reload,
                on_apps=self._apps_changed,
                on_segments=self.definitions.segments_changed,
                on_channels=self.definitions.channels_changed,
                on_geofences=places.geofences_changed,
                on_locations=places.locations_changed,
                on_tallies=self.gate.heard,
                on_schedules=self._schedules_changed,
                on_notifications=self._heard.notifications,
                known_devices=self.index.knows,
                known_locations=self.index.places.knows,
            ),
            snapshot=snapshot,
        )
        await self.definitions.load()
        self._follower = follower
        await self._begin(follower)

    async def _load_users(self, snapshot: Snapshot) -> None:
        async for users in self.store.users.load(snapshot):
            await self.index.take_in(users=users)  # in slices: what was resumed goes out meanwhile

    async def _apps_changed(self, app_ids: Sequence[int]) -> None:
        """Reads apps anew that were changed, and forgets those that another node deleted."""
        self.store.apps.forget(app_ids)
        self.inbox.forget(app_ids)
        for app_id in app_ids:
            if await self.store.apps.get(app_id) is None:
                await self.index.forget_app(app_id)
                self.gate.forget((app_id,))
                self.store.badges.forget(app_id)

    async def _schedules_changed(self, _: Sequence[int]) -> None:
        """Has the runner look: another node may have accepted what is due soon."""
        if self.runner is not None:
            self.runner.wake()

    async def _start_fanout(self) -> None:
        """Starts the fan-out, and at once goes on with what names nobody."""
        self.fanout = Fanout(
            self.config.fanout,
            index=self.index,
            keyring=self.keyring,
            gateways=self.gateways,
            settlements=self.store.settlements,
            node_id=self.node.id,
            clock=self.clock,
        )
        self.keyring.listen(self._credential_changed)
        await self._begin(self.fanout)
        self._heard.begin(self.fanout)
        BACKLOG.set_function(lambda: self.fanout.backlog)
        LEDGER_DRIFT.set_function(lambda: self.fanout.drift)
        OLDEST_PENDING.set_function(lambda: self.fanout.oldest_pending_s)
        await self._resume(named=False)

    async def _start_takeover(self) -> None:
        """Goes on with the rest too, now that all users are known, and works out who is in which fence."""
        await self._begin(Takeover(self._resume, self._database_trouble, self.config.store.node_ping_s))
        await self._places.settle()
        await self._begin(self._places)

    def _build_gateways(self) -> dict[GatewayName, Gateway]:
        config, keyring, clock = self.config, self.keyring, self.clock
        gateways: tuple[Gateway, ...] = (
            ApnsGateway(config.apns, config.transport, keyring, clock),
            FcmGateway(config.fcm, config.transport, keyring, clock),
            HmsGateway(config.hms, config.transport, keyring, clock),
            SafariGateway(config.apns, config.transport, keyring, clock),
            EmailGateway(config.email, keyring, clock),
            WebPushGateway(config.webpush, config.transport, keyring, clock),
        )
        return {gateway.name: gateway for gateway in gateways}

    async def _resume(self, *, named: bool = True) -> None:
        """Takes over what dead nodes left: exactly what they had targeted and not settled.

        Without `named`, what names people is left for the next call.
        """
        later: list[Resume] = []
        try:
            while lefts := deque(await self.store.notifications.resumable(self.node.id)):
                try:
                    found = [each.notification for each in lefts]
                    await self.store.badges.catch_up({each.app_id for each in found if each.send.badge_from == COUNTED})
                    while lefts:
                        app = await self.store.apps.get(lefts[0].notification.app_id)
                        left = lefts.popleft()
                        if named or not self._names_people(left.notification):
                            self._go_on(left, app.settings if app else Settings())
                        else:
                            later.append(left)
                finally:
                    self.store.notifications.give_back(lefts)
        finally:
            self.store.notifications.give_back(later)

    def _names_people(self, notification: Notification) -> bool:
        return self.index.names_people(notification.app_id, notification.send.audience)

    def _go_on(self, left: Resume, settings: Settings) -> None:
        self.fanout.resume(
            left.notification,
            settings,
            release=left.release,
            targeted=left.targeted,
            counts=left.counts,
            remaining=left.remaining,
            attempted=left.attempted,
        )
        log.info("resumed", notification=left.notification.id, remaining=len(left.remaining))

    async def _start_http(self) -> None:
        self.feed = Feed(
            self.config.feed, self.store, self.fanout.reasons, self._master_key, clock=self.clock, node_id=self.node.id
        )
        await self._begin(self.feed)
        fitted = Pictures(self.config.pictures, self.store.pictures, self.clock)
        await self._begin(fitted)
        self.context = Context(
            node_id=self.node.id,
            store=self.store,
            inbox=self.inbox,
            index=self.index,
            definitions=self.definitions,
            keyring=self.keyring,
            vault=self.vault,
            gateways=self.gateways,
            fanout=self.fanout,
            gate=self.gate,
            clock=self.clock,
            config=self.config,
            position=lambda: self._follower.position,
            guard=Guard.of(self.config.webpush),
            safari_log=SafariLog(self.config.safari),
            beacons=Beacons(subkey(self._master_key, b"beacons")),
            handles=Handles(subkey(self._master_key, b"handles")),
            limits=ReceiptLimits(self.config.receipts),
            followers=FollowerLimits(self.config.dialects),
            passwords=PasswordLimits(self.config.dialects),
            feed=self.feed,
            pictures=fitted,
        )
        await self._begin(Crossings(self.context))  # stops after the commands: what they still commit is crossed
        self.runner = runner(self.context, self.fanout, self.gate, Habits(self.index, self.store.habits))
        await self._begin(self.runner)
        for made in (UnderWay, Importer, Eraser, Expirer, InAppKeeper):
            await self._begin(made(self.context))
        router = Router()
        auth = Authenticator(self.store.keys, self.config.http.auth_failures_per_minute_max)
        native.mount(router, self.context, auth, subkey(self._master_key, b"cursors"), self.ready)
        safari_service.mount(router, self.context, auth, subkey(self._master_key, b"safari packages"))
        beacons.mount(router, self.context)
        pictures.mount(router, self.context)
        self.http = HttpServer(self.config.http, router, surfaces=surfaces(self.context))
        await self._begin(CoverageWatch(self.keyring, self.index))
        await self._begin(LoopLag(self.config.telemetry))
        await self._begin(Heap(self.config.memory, lambda: self.fanout.unsettled > 0))
        await self._begin(self.http)
        await self._begin(self.feed.streams)  # ends before the listeners, which would wait for it

    def _credential_changed(self, credential_id: int, change: Change) -> None:
        if change in (Change.REPLACED, Change.REMOVED, Change.RESUMED):
            for gateway in self.gateways.values():
                gateway.drop_credential(credential_id)
        self.fanout.credentials_changed()


class _Keeper(Service):
    """Has the embedded server started again when it ends by itself."""

    def __init__(self, server: EmbeddedServer) -> None:
        super().__init__()
        self._server = server

    async def start(self) -> None:
        self.spawn(self._server.keep(), "embedded-server")


class _GatewayService(Service):
    """A gateway in the order of starts and stops."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway

    async def start(self) -> None:
        await self._gateway.start()

    async def stop(self) -> None:
        await self._gateway.stop(GATEWAY_DRAIN_S)
