"""A context of a real store and a real index, with a fan-out that only remembers what it was asked."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pushd.bitset import Devices
from pushd.clock import SystemClock
from pushd.cluster.node import Node
from pushd.commands import devices
from pushd.commands.context import Context
from pushd.commands.definitions import Definitions
from pushd.config import Config
from pushd.errors import PushdError
from pushd.inbox.catalogue import Catalogue
from pushd.model.app import App, Settings
from pushd.model.device import Device, GatewayName, Registration
from pushd.model.notification import Ledger, Notification
from pushd.outcome import Outcome, Reason, Reasons
from pushd.store.store import Store
from pushd.targeting.index import Index

DEAD = Reason(64, "Unregistered", Outcome.UNREGISTERED)
BAD = Reason(65, "BadTopic", Outcome.REJECTED)


class NoCredentials:
    """A keyring of apps that have no credential."""

    def gateways(self, app_id: int) -> frozenset[GatewayName]:
        return frozenset()

    def url_formats(self, app_id: int) -> list[str]:
        return []


class RecordingFanout:
    """Remembers what is released, paused and cancelled; `full` is raised instead of taking more."""

    def __init__(self) -> None:
        self.reasons = {name.number: Reasons([DEAD, BAD] if name is GatewayName.APNS else []) for name in GatewayName}
        self.released: list[tuple[Notification, Settings, Devices]] = []
        self.cancelled: list[int] = []
        self.paused: list[int] = []
        self.live: dict[int, tuple[Ledger, dict[tuple[int, int], int]]] = {}
        self.full: PushdError | None = None
        self.knows_what_runs = False
        """Whether `cancel` tells of what was never released, as the engine does."""

    def check_room(self, rows: int = 1, app_id: int = 0) -> None:
        if self.full is not None:
            raise self.full

    def release(self, notification: Notification, settings: Settings, devices: Devices, *, version: int = -1) -> None:
        self.released.append((notification, settings, devices))

    def cancel(self, notification_id: int) -> bool:
        self.cancelled.append(notification_id)
        return not self.knows_what_runs or any(each.id == notification_id for each, _, _ in self.released)

    def pause(self, notification_id: int) -> bool:
        self.paused.append(notification_id)
        return any(each.id == notification_id for each, _, _ in self.released)

    def unpause(self, notification_id: int) -> bool:
        self.paused.remove(notification_id)
        return True

    def ledger(self, notification_id: int) -> Ledger | None:
        return self.live[notification_id][0] if notification_id in self.live else None

    def counts(self, notification_id: int) -> dict[tuple[int, int], int] | None:
        return self.live[notification_id][1] if notification_id in self.live else None

    def credentials_changed(self) -> None:
        return None


class World:
    """A context, an app of its own, and short ways to fill it."""

    def __init__(self, context: Context, fanout: RecordingFanout, app: App) -> None:
        self.context, self.fanout, self.app = context, fanout, app
        self._tokens = itertools.count(1)

    def token(self) -> str:
        return f"{self.app.id:032x}{next(self._tokens):032x}"

    async def register(self, install_id: str, **fields) -> Device:
        fields = {"bundle": "example.app", "token": self.token(), **fields}
        return await devices.register(self.context, self.app.id, Registration(install_id=install_id, **fields))

    async def another_app(self) -> World:
        return World(self.context, self.fanout, await self.context.store.apps.create("another", Settings()))

    async def reloaded(self) -> Index:
        """An index made from what is stored."""
        index = Index()
        async with self.context.store.snapshot() as snapshot:
            async for users in self.context.store.users.load(snapshot):
                index.apply_users(users)
            async for rows in self.context.store.devices.load(snapshot):
                index.apply_devices(rows)
        return index


@asynccontextmanager
async def stored(dsn: str) -> AsyncIterator[tuple[Store, Node]]:
    """A store in a database of its own, and this process as a node of it."""
    store = Store(Config().store, dsn)
    await store.start()
    node = Node(store.database.connect)
    await node.start()
    yield store, node
    await node.stop()
    await store.stop()


async def new_world(store: Store, node: Node) -> World:
    """A context with an empty index, and an app."""
    fanout, index = RecordingFanout(), Index()
    context = Context(
        store=store,
        index=index,
        definitions=Definitions(store, index),
        keyring=NoCredentials(),
        vault=None,
        gateways={},
        fanout=fanout,
        inbox=Catalogue(store.in_app, Config().inbox, SystemClock()),
        clock=SystemClock(),
        config=Config(),
        node_id=node.id,
    )
    return World(context, fanout, await store.apps.create("one", Settings(default_title="Orchard")))
