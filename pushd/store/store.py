"""The store: opens the pool, brings the schema up to date, and holds a part per aggregate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from pushd.clock import Clock, SystemClock
from pushd.config import StoreConfig
from pushd.service import Service
from pushd.store.accounts import AccountStore
from pushd.store.apps import AppStore
from pushd.store.badge_folds import BadgeFolder
from pushd.store.badges import BadgeStore
from pushd.store.changes import ChangeStore, Follower, Listeners
from pushd.store.channels import ChannelStore
from pushd.store.credentials import CredentialStore
from pushd.store.crossings import CrossingStore
from pushd.store.database import Database
from pushd.store.devices import DeviceStore
from pushd.store.dialect_events import DialectEventStore
from pushd.store.erasures import ErasureStore
from pushd.store.events import EventStore
from pushd.store.expirations import ExpirationStore
from pushd.store.geofences import GeofenceStore
from pushd.store.habits import HabitStore
from pushd.store.idempotency import IdempotencyStore
from pushd.store.imports import ImportStore
from pushd.store.in_app import InAppStore
from pushd.store.inboxes import InboxStore
from pushd.store.keys import KeyStore
from pushd.store.live_activity_channels import LiveActivityChannelStore
from pushd.store.loading import Snapshot, snapshot
from pushd.store.locations import LocationStore
from pushd.store.migrations import migrate
from pushd.store.names import Names
from pushd.store.notifications import NotificationStore
from pushd.store.partitions import Maintenance
from pushd.store.past import PastReader
from pushd.store.pictures import PictureStore
from pushd.store.receipts import ReceiptStore
from pushd.store.reports import ReportReader
from pushd.store.rollouts import RolloutStore
from pushd.store.safari_sites import SafariSiteStore
from pushd.store.schedules import ScheduleStore
from pushd.store.segments import SegmentStore
from pushd.store.sessions import SessionStore
from pushd.store.settlements import SettlementStore
from pushd.store.tallies import TallyStore
from pushd.store.templates import TemplateStore
from pushd.store.users import UserStore
from pushd.store.vendor_keys import VendorKeyStore
from pushd.store.webhooks import WebhookStore


class Store(Service):
    """PostgreSQL as the rest of pushd sees it."""

    def __init__(self, config: StoreConfig, dsn: str, clock: Clock | None = None) -> None:
        super().__init__()
        self.clock: Clock = clock or SystemClock()
        self.database = Database(config, dsn)
        self.names = names = Names(self.database)
        self.apps = AppStore(self.database)
        self.badges = BadgeStore(self.database, self.clock)
        self.keys = KeyStore(self.database)
        self.credentials = CredentialStore(self.database)
        self.pictures = PictureStore(self.database)
        self.safari_sites = SafariSiteStore(self.database)
        self.channels = ChannelStore(self.database, names, self.clock)
        self.segments = SegmentStore(self.database, self.clock)
        self.inboxes = InboxStore(self.database, self.clock)
        self.templates = TemplateStore(self.database, self.clock)
        self.imports = ImportStore(self.database, self.clock)
        self.users = UserStore(self.database, names, self.clock)
        self.devices = DeviceStore(self.database, names, self.clock, self.badges)
        self.expirations = ExpirationStore(self.database, names)
        self.geofences = GeofenceStore(self.database, self.clock)
        self.locations = LocationStore(self.database, self.clock)
        self.crossings = CrossingStore(self.database, self.clock)
        self.live_activity_channels = LiveActivityChannelStore(self.database)
        self._make_sends()
        self.habits = HabitStore(self.database, self.clock)
        self.receipts = ReceiptStore(self.database, self.clock, self.habits, BadgeFolder(self.database, self.clock))
        self.events = EventStore(self.database, self.clock)
        self.webhooks = WebhookStore(self.database, self.clock)
        self.past = PastReader(self.database)
        self.reports = ReportReader(self.database)
        self.erasures = ErasureStore(self.database, names, self.clock)
        self.tallies = TallyStore(self.database)
        self._make_dialects()
        self.idempotency = IdempotencyStore(self.database, self.clock)
        self.changes = ChangeStore(self.database)
        self.maintenance = Maintenance(self.database, self.clock)
        self._parts: tuple[Service, ...] = (
            self.maintenance,
            self.inboxes,
            self.users,
            self.devices,
            self.locations,
            self.notifications,
            self.settlements,
            self.receipts,
            self.sessions,
            self.dialect_events,
        )
        self._position = 0

    def _make_sends(self) -> None:
        """What is sent, now and later, and what becomes of it."""
        self.settlements = SettlementStore(self.database, self.names, self.clock)
        compact = self.settlements.compact_soon
        self.notifications = NotificationStore(self.database, self.clock, compact, self.badges)
        self.schedules = ScheduleStore(self.database, self.clock, self.notifications.acceptor, compact, self.badges)
        self.rollouts = RolloutStore(self.database, self.clock, compact, self.badges)
        self.in_app = InAppStore(self.database, compact)

    def _make_dialects(self) -> None:
        """What the vendors' customers have beside: keys, people who log in, and what these asked for."""
        self.vendor_keys = VendorKeyStore(self.database)
        self.accounts = AccountStore(self.database, self.users, self.names)
        self.sessions = SessionStore(self.database, self.clock)
        self.dialect_events = DialectEventStore(self.database, self.clock)

    async def start(self) -> None:
        """Opens the pool, migrates, and starts the parts. UnavailableError, ConfigError."""
        await self.database.start()
        await migrate(self.database)
        self._position = await self.changes.position()
        for part in self._parts:
            part.fatal = self.fatal
            await part.start()

    async def stop(self) -> None:
        """Stops the parts and closes the pool."""
        for part in reversed(self._parts):
            await part.stop()
        await super().stop()
        await self.database.stop()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """One moment to load users and devices from, with the feed's position in it."""
        async with snapshot(self.database) as taken:
            yield taken

    def follow(self, listeners: Listeners | None = None, snapshot: Snapshot | None = None) -> Follower:
        """A follower of the change feed, from a snapshot's position on, else from where this store was started.

        What is remembered here is forgotten as it changes; sessions, too, with the keys that they were opened with.
        """
        told = replace(
            listeners or Listeners(),
            on_keys=self._forget_keys,
            on_badges=self.badges.heard,
            on_sessions=self.sessions.heard,
        )
        position = self._position if snapshot is None else snapshot.position
        return Follower(
            self.changes,
            self.database,
            told,
            self.devices.images,
            self.users.images,
            lambda: position or self._position,
        )

    def _forget_keys(self) -> None:
        self.keys.forget()
        self.vendor_keys.forget()
        self.sessions.forget()
