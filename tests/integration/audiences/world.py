"""A daemon's index, another node's, and the naive model, all told of the same changes through the real store."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools

import msgspec
import numpy as np

from pushd.clock import SystemClock
from pushd.cluster.node import Node
from pushd.commands import (
    channels,
    devices,
    geofences,
    locations,
    notifications,
    receipts,
    retirements,
    segments,
    users,
)
from pushd.commands.audience import resolve
from pushd.commands.context import Context
from pushd.commands.definitions import Definitions
from pushd.commands.places import PlaceKeeper
from pushd.config import Config, PlacesConfig, StoreConfig
from pushd.errors import ConflictError, InvalidRequestError, NotFoundError, UnknownTargetsError
from pushd.inbox.catalogue import Catalogue
from pushd.model import audience as model
from pushd.model.app import Settings
from pushd.model.channel import NewChannel
from pushd.model.device import ALERT_KINDS, Kind, Registration
from pushd.model.geofence import GeofenceChange, LocationReport, NewGeofence
from pushd.model.message import Message
from pushd.model.notification import Send
from pushd.model.receipt import Event, Receipt
from pushd.model.segment import NewSegment, SegmentChange
from pushd.model.user import UserChange
from pushd.store.changes import Listeners
from pushd.store.settlements import Retirement, Settlement
from pushd.store.store import Store
from pushd.targeting.definitions import children, rebuild
from pushd.targeting.index import Index
from tests.audience_sql import Catalog, reached
from tests.integration.audiences.naive import DAY, PLACES, SHAPES, FenceState, Naive, Sent
from tests.pushd.commands.world import BAD, DEAD, NoCredentials, RecordingFanout

NOTE = "SELECT note_change(4::smallint, NULL, ARRAY[1])"
REASONS = {"Unregistered": [(0, DEAD.code)], "BadTopic": [(0, BAD.code)]}


class MovableClock(SystemClock):
    """Wall time as the test says."""

    def __init__(self) -> None:
        # Within today, so that there are partitions for it.
        self.today = int(super().now()) // DAY * DAY + 6 * 3_600
        self.time = self.today

    def now(self) -> float:
        return self.time


class Reader:
    """One node's store and index, which follow the feed as a daemon does."""

    def __init__(self, dsn: str, clock: MovableClock) -> None:
        self.clock = clock
        # What is folded into bitmaps SQL cannot read.
        config = StoreConfig(pool_size=6, retry_after_s=0.2, feed_poll_ms=1_000, receipt_fold_interval_s=1e6)
        self.store = Store(config, dsn, clock)
        self._caught_up = asyncio.Event()

    async def start(self) -> None:
        await self.store.start()
        self.index, self.definitions, self.places = await self.loaded(following=True)

    async def loaded(self, *, following: bool = False) -> tuple[Index, Definitions, PlaceKeeper]:
        """An index as a start makes it."""
        index = Index(self.clock)
        definitions = Definitions(self.store, index)
        places = PlaceKeeper(self.store, index, self.clock, PlacesConfig())
        async with self.store.snapshot() as snapshot:
            async for rows in self.store.users.load(snapshot):
                index.apply_users(rows)
            async for rows in self.store.devices.load(snapshot):
                index.apply_devices(rows)
            await places.load(snapshot)
        await places.settle()
        await definitions.load()
        if following:
            self.follower = self._follow(index, definitions, places, snapshot)
            await self.follower.start()
        return index, definitions, places

    def _follow(self, index, definitions, places, snapshot):
        async def reached_mark() -> None:
            self._caught_up.set()

        async def apps_changed(app_ids) -> None:
            self.store.apps.forget(app_ids)
            for app_id in app_ids:
                if await self.store.apps.get(app_id) is None:
                    index.remove_app(app_id)

        return self.store.follow(
            Listeners(
                on_devices=index.apply_devices,
                on_users=index.apply_users,
                on_credentials=reached_mark,
                on_apps=apps_changed,
                on_segments=definitions.segments_changed,
                on_channels=definitions.channels_changed,
                on_geofences=places.geofences_changed,
                on_locations=places.locations_changed,
                known_devices=index.knows,
                known_locations=index.places.knows,
            ),
            snapshot=snapshot,
        )

    def expect(self) -> None:
        self._caught_up.clear()

    async def caught_up(self) -> None:
        """Once the mark that was noted last, and so all before it, was applied."""
        await asyncio.wait_for(self._caught_up.wait(), 20)
        await self.places.settle()

    async def stop(self) -> None:
        await self.follower.stop()
        await self.store.stop()


class Nodes:
    """Two nodes on one database; commands go through the first."""

    def __init__(self, dsn: str) -> None:
        self.clock = MovableClock()
        self.first, self.second = Reader(dsn, self.clock), Reader(dsn, self.clock)

    async def start(self) -> None:
        await self.first.start()
        await self.second.start()
        self.node = Node(self.first.store.database.connect)
        await self.node.start()

    async def stop(self) -> None:
        await self.node.stop()
        await self.second.stop()
        await self.first.stop()

    async def synchronous(self) -> None:
        """Once both nodes have read all that was committed."""
        for reader in (self.first, self.second):
            reader.expect()
        await self.first.store.database.execute(NOTE)
        for reader in (self.first, self.second):
            await reader.caught_up()


class World:
    """One app, in both nodes and in the model."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.clock, self.naive = nodes, nodes.clock, Naive()
        self.fanout = RecordingFanout()
        self.context = Context(
            store=nodes.first.store,
            index=nodes.first.index,
            definitions=nodes.first.definitions,
            keyring=NoCredentials(),
            vault=None,
            gateways={},
            fanout=self.fanout,
            inbox=Catalogue(nodes.first.store.in_app, Config().inbox, nodes.clock),
            clock=nodes.clock,
            config=Config(),
            node_id=nodes.node.id,
        )
        self.met: list[int] = []
        """Every device there ever was, in the order in which they came."""
        self._receipts = itertools.count()

    async def start(self) -> None:
        self.app_id = (await self.context.store.apps.create("model", Settings(default_title="x"))).id
        self.clock.time = self.naive.now = self.clock.today - 5 * DAY

    async def do(self, change) -> None:
        """Makes a change, a method of this class with its arguments, everywhere."""
        name, *args = change
        self.naive.now = self.clock.now()
        await getattr(self, name)(*args)

    # Changes.

    async def wait(self, seconds):
        self.clock.time = min(max(self.clock.time + seconds, self.clock.today), self.clock.today + DAY)

    async def register(self, name, kind, environment, token, fields):
        text = None if token is None else f"{self.app_id:032x}{token:032x}"
        registration = Registration(
            install_id=name, kind=kind, environment=environment, token=text, bundle="example.app", **fields
        )
        number = (await devices.register(self.context, self.app_id, registration)).id
        if number not in self.met:
            self.met.append(number)
        self.naive.register(number, name, kind, environment, token, fields)

    async def change(self, at, fields):
        if (number := self._there(at)) is not None:
            await devices.change(self.context, self.app_id, number, devices.DeviceChange(**fields))
            self.naive.change(self.naive.addresses[number].install, fields)

    async def delete(self, at):
        if (number := self._there(at)) is not None:
            await devices.delete(self.context, self.app_id, number)
            self.naive.delete(number)

    async def retire(self, at):
        number = self._there(at)
        if number is None or self.naive.addresses[number].token is None or self.naive.addresses[number].retired:
            return
        ids = np.array([number], np.uint32)
        revisions = self.context.index.columns(ids).revisions
        dead = Retirement(
            ids=ids, revisions=revisions, at_ms=np.array([int(self.clock.now() + 1) * 1_000]), reason="Unregistered"
        )
        done = await self.context.store.settlements.settle(Settlement(retired=[dead]), self.context.node_id)
        if done.retired is not None:
            self.context.index.apply_devices(done.retired)
        self.naive.addresses[number].retired = True

    async def revive(self):
        await retirements.revive(self.context, self.app_id, since=0.0, until=self.clock.now() + 10)
        for each in self.naive.addresses.values():
            each.retired = False

    async def put_user(self, name, fields):
        await users.put(self.context, self.app_id, UserChange(external_id=name, **fields))
        self.naive.put_user(name, fields)

    async def delete_user(self, name):
        with contextlib.suppress(NotFoundError):
            await users.delete(self.context, self.app_id, name)
        self.naive.delete_user(name)

    async def make_channel(self, uuid):
        with contextlib.suppress(ConflictError):
            await channels.create(self.context, self.app_id, NewChannel(name="Channel", uuid=uuid))
        self.naive.channels.add(uuid)

    async def delete_channel(self, uuid):
        with contextlib.suppress(NotFoundError):
            await channels.delete(self.context, self.app_id, uuid)
        self.naive.delete_channel(uuid)

    async def subscribe(self, uuid, install, user, on):
        if uuid not in self.naive.channels:
            return
        await channels.subscribe(self.context, self.app_id, uuid, installs=[install], users=[user], on=on)
        for each in (self.naive.installs.get(install), self.naive.users.get(user)):
            if each is not None:
                (each.channels.add if on else each.channels.discard)(uuid)

    async def locate(self, at, place):
        if (number := self._there(at)) is not None:
            latitude, longitude = PLACES[place]
            wanted = LocationReport(latitude=latitude, longitude=longitude)
            assert (await locations.report(self.context, self.app_id, number, wanted)).kept
            self.naive.addresses[number].install.place = place

    async def forget(self, at):
        if (number := self._there(at)) is not None:
            await locations.forget(self.context, self.app_id, number)
            self.naive.addresses[number].install.place = None

    async def make_fence(self, shape, enabled, tags):
        wanted = NewGeofence(name="Fence", bounds=SHAPES[shape][0], enabled=enabled, tags=tags)
        made = await geofences.create(self.context, self.app_id, wanted)
        await self.nodes.first.places.settle()
        self.naive.fences[made.id] = FenceState(shape, enabled, tags)

    async def change_fence(self, at, shape, enabled, tags):
        if (number := self._fence(at)) is not None:
            wanted = GeofenceChange(bounds=SHAPES[shape][0], enabled=enabled, tags=tags)
            await geofences.update(self.context, self.app_id, number, wanted)
            await self.nodes.first.places.settle()
            self.naive.fences[number] = FenceState(shape, enabled, tags)

    async def delete_fence(self, at):
        if (number := self._fence(at)) is not None:
            await geofences.delete(self.context, self.app_id, number)
            del self.naive.fences[number]

    async def put_segment(self, uuid, audience):
        bound = await self.bound(audience)
        with contextlib.suppress(InvalidRequestError):  # a circle
            if uuid in self.naive.segments:
                await segments.update(self.context, self.app_id, uuid, SegmentChange(audience=bound))
            else:
                await segments.create(self.context, self.app_id, NewSegment(name="S", audience=bound, uuid=uuid))
            self.naive.segments[uuid] = bound

    async def delete_segment(self, uuid):
        with contextlib.suppress(NotFoundError):
            await segments.delete(self.context, self.app_id, uuid)
        self.naive.segments.pop(uuid, None)

    async def send(self, ordinals, codes, events):
        """Sends to devices, of which some come to an end, and some installs report."""
        ids = sorted({number for at in ordinals if (number := self._there(at)) is not None})
        if not ids:
            return
        wanted = Send(audience=model.DeviceIds(ids), message=Message(title="x"))
        try:
            answer = await notifications.send(self.context, self.app_id, wanted)
        except UnknownTargetsError:
            assert not self.naive.reach(wanted.audience, ALERT_KINDS)
            return
        number = msgspec.json.decode(answer.body)["id"]
        sent = self.naive.sent[number] = Sent(self.naive.reach(wanted.audience, ALERT_KINDS))
        assert set(self.fanout.released[-1][2]) == sent.targets
        sent.codes = {device: code for device, code in zip(sorted(sent.targets), codes, strict=False) if code}
        settlement = Settlement(
            notifications=np.full(len(sent.codes), number, np.int64),
            devices=np.array(list(sent.codes), np.uint32),
            gateways=np.zeros(len(sent.codes), np.int16),
            codes=np.array(list(sent.codes.values()), np.int16),
        )
        await self.context.store.settlements.settle(settlement, self.context.node_id)
        for install, event, button in events:
            await self._report(number, install, event, button)

    async def _report(self, number, install, event, button):
        if install not in self.naive.installs:
            return
        row = Receipt(
            id=str(next(self._receipts)),
            notification_id=number,
            event=Event(event),
            install_id=install,
            button=button if event == "clicked" else None,
        )
        await receipts.take(self.context, self.app_id, [row], None)
        self.naive.report(number, install, event, row.button)

    async def delete_app(self):
        await self.context.store.apps.delete(self.app_id)

    def _there(self, at):
        """The device of an ordinal number, where it is there."""
        number = self.met[at % len(self.met)] if self.met else 0
        return number if number in self.naive.addresses else None

    def _fence(self, at):
        numbers = sorted(self.naive.fences)
        return numbers[at % len(numbers)] if numbers else None

    # Questions.

    async def bound(self, audience):
        """The audience with ids of this world in place of ordinal numbers, and without what the app does not have."""
        database = self.context.store.database
        rows = await database.fetch(
            "SELECT id, external_id FROM users WHERE app_id = $1 AND deleted_at IS NULL", self.app_id
        )
        tags = await database.fetch("SELECT folded FROM labels WHERE app_id = $1 AND kind = 0", self.app_id)
        self.naive.numbers = {row["external_id"]: row["id"] for row in rows}
        return self._bound(audience, {row["folded"] for row in tags})

    def _bound(self, node, tags):  # noqa: PLR0911  # a case for each leaf
        if children(node):
            return rebuild(node, lambda child: self._bound(child, tags))
        match node:
            case model.DeviceIds(ids):
                return model.DeviceIds([self.met[at % len(self.met)] if self.met else at for at in ids])
            case model.UserNumbers(ids):
                known = sorted(self.naive.numbers.values()) or [1]
                return model.UserNumbers([known[at % len(known)] for at in ids])
            case model.InGeofences(ids=ids) if ids:
                found = [number for at in ids if (number := self._fence(at)) is not None]
                return model.InGeofences(ids=found) if found else model.Broadcast()
            case model.Outcome():
                sent = sorted(self.naive.sent)
                wanted = sent[node.notification_id % len(sent)] if sent else 0
                return msgspec.structs.replace(node, notification_id=wanted) if sent else model.Broadcast()
            case model.Channels():
                groups = {name: [u for u in getattr(node, name) if u in self.naive.channels] for name in CHOSEN}
                return model.Channels(**groups) if any(groups.values()) else model.Broadcast()
            case model.Segment(uuid):
                return node if uuid in self.naive.segments else model.Broadcast()
            case model.TagsSegment(elements):
                known = [each for each in elements if each.name.casefold() in tags]
                return model.TagsSegment(known) if known else model.Broadcast()
        return node

    async def by_sql(self, audience, kinds):
        """Who is reached, by SQL over the tables."""
        database = self.context.store.database
        catalog = await Catalog.read(database, self.app_id, self.clock.now(), reasons=REASONS)
        query, arguments = reached(catalog, audience, sorted(kinds, key=lambda kind: kind.number))
        return {row["id"] for row in await database.fetch(query, *arguments)}

    async def by_index(self, reader, audience, kinds, index=None, definitions=None):
        """Who is reached, by the index of a node or one that was loaded there."""
        index, definitions = index or reader.index, definitions or reader.definitions
        context = dataclasses.replace(self.context, store=reader.store, index=index, definitions=definitions)
        return set((await resolve(context, self.app_id, audience, kinds)).devices)


CHOSEN = ("any", "all", "exclude")
ALL_KINDS = frozenset(Kind)
