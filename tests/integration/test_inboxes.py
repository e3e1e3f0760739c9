"""Inboxes on two nodes against a naive model: what is done at either both show, as does a node that starts."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from pushd.clock import SystemClock
from pushd.cluster.node import Node
from pushd.commands import devices, in_app, inbox, users
from pushd.commands.context import Context
from pushd.commands.definitions import Definitions
from pushd.commands.in_app_keeper import InAppKeeper
from pushd.commands.inbox import Owner
from pushd.config import Config, StoreConfig
from pushd.errors import ConflictError, NotFoundError, UnknownTargetsError
from pushd.inbox.catalogue import Catalogue
from pushd.model import audience as model
from pushd.model.app import Settings
from pushd.model.device import Registration
from pushd.model.in_app import InboxEntry, InboxEvent, InboxReport, NewInApp, PresentedWhen, Ttl
from pushd.scheduler import in_app as scheduled
from pushd.store.changes import Listeners
from pushd.store.store import Store
from pushd.targeting.index import Index
from tests.pushd.commands.world import NoCredentials, RecordingFanout

FEW = 3
"""Recipients up to which a message is kept as rows here."""
HOUR = 3_600
NOTE = "SELECT note_change(4::smallint, NULL, ARRAY[1])"
INSTALLS = [f"install-{number}" for number in range(9)]
USERS = [f"user-{number}" for number in range(4)]
EVENTS = list(InboxEvent)


class MovableClock(SystemClock):
    """Wall time as the test says."""

    def __init__(self) -> None:
        self.time = float(int(super().now()))

    def now(self) -> float:
        return self.time


class Daemon:
    """What of a daemon serves inboxes: a store, an index that follows the feed, a catalogue."""

    def __init__(self, dsn: str, clock: MovableClock, config: Config) -> None:
        self.config, self.clock = config, clock
        self.store = Store(StoreConfig(pool_size=4, feed_poll_ms=1_000), dsn, clock)

    async def start(self) -> None:
        await self.store.start()
        self.node = Node(self.store.database.connect)
        await self.node.start()
        index = Index(self.clock)
        definitions = Definitions(self.store, index)
        catalogue = Catalogue(self.store.in_app, self.config.inbox, self.clock)
        async with self.store.snapshot() as snapshot:
            async for rows in self.store.users.load(snapshot):
                index.apply_users(rows)
            async for rows in self.store.devices.load(snapshot):
                index.apply_devices(rows)
        self.follower = self.store.follow(
            Listeners(
                on_devices=index.apply_devices,
                on_users=index.apply_users,
                on_in_app=catalogue.changed,
                known_devices=index.knows,
            ),
            snapshot=snapshot,
        )
        await self.follower.start()
        self.context = Context(
            store=self.store,
            index=index,
            definitions=definitions,
            keyring=NoCredentials(),
            vault=None,
            gateways={},
            fanout=RecordingFanout(),
            inbox=catalogue,
            clock=self.clock,
            config=self.config,
            node_id=self.node.id,
        )

    async def caught_up(self) -> None:
        """Once all that was committed before is applied."""
        await self.store.database.execute(NOTE)  # wakes the follower
        horizon = await self.store.changes.horizon()
        async with asyncio.timeout(20):
            while self.follower.position < horizon:
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        await self.context.finish(5)
        await self.follower.stop()
        await self.node.stop()
        await self.store.stop()


@dataclass
class Sent:
    """A message as the model has it."""

    recipients: set[str]
    released: float
    expires: float | None
    inbox: tuple[float, float] | None
    cancelled: float | None = None
    updated: float = 0.0

    @property
    def ends(self) -> float:
        return max(self.expires or 0, self.inbox[1] if self.inbox else 0)


@dataclass
class Naive:
    """What everybody should see."""

    owner: dict[str, str | None] = field(default_factory=dict)
    consents: dict[str, bool] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    messages: dict[int, Sent] = field(default_factory=dict)
    states: dict[tuple[str, int], dict[InboxEvent, float]] = field(default_factory=dict)
    touched: dict[tuple[str, int], float] = field(default_factory=dict)
    counts: dict[tuple[int, InboxEvent], int] = field(default_factory=dict)

    def recipients(self, installs: list[str]) -> set[str]:
        return {self.owner[each] or each for each in installs if self.consents.get(each)}

    def readers(self, owner: Owner) -> list[str]:
        """As whom somebody reads, the first that has a message counts."""
        if owner.user_id is not None:
            own = [each for each, user in self.owner.items() if user == owner.user_id]
            return [owner.user_id] if not own or any(self.consents[each] for each in own) else []
        install = owner.install_id
        if not self.consents[install]:
            return []
        return [each for each in (self.owner[install], install) if each]

    def seen(self, owner: Owner, now: float) -> dict[int, tuple[str, Sent]]:
        """Messages by id, withdrawn ones too, and as whom."""
        found = {}
        for number, sent in self.messages.items():
            whom = next((each for each in self.readers(owner) if each in sent.recipients), None)
            if whom is not None and (sent.ends > now or sent.cancelled is not None):
                found[number] = whom, sent
        return found

    def done(self, whom: str, number: int) -> dict[InboxEvent, float]:
        return self.states.get((whom, number), {})

    def in_inbox(self, whom: str, number: int, now: float) -> bool:
        sent = self.messages[number]
        window = sent.inbox is not None and sent.inbox[0] <= now < sent.inbox[1]
        return window and sent.cancelled is None and InboxEvent.DELETED not in self.done(whom, number)

    def take(self, whom: str, number: int, event: InboxEvent, at: float, now: float) -> bool:
        """Whether it is new."""
        states = self.states.setdefault((whom, number), {})
        if event in states:
            return False
        states[event] = max(self.messages[number].released, min(at, now))
        self.touched[whom, number] = now
        self.counts[number, event] = self.counts.get((number, event), 0) + 1
        return True

    def forget(self, user: str) -> None:
        self.users.discard(user)
        for install, owner in self.owner.items():
            if owner == user:
                self.owner[install] = None
        for sent in self.messages.values():
            sent.recipients.discard(user)
        for key in [key for key in self.states if key[0] == user]:
            del self.states[key]


class World:
    """Two daemons and the model, and what may happen to them."""

    def __init__(self, daemons: list[Daemon], clock: MovableClock, app_id: int, chance: random.Random) -> None:
        self.daemons, self.clock, self.app_id, self.chance = daemons, clock, app_id, chance
        self.naive = Naive()
        self.at = daemons[0]
        self._tokens = itertools.count(1)

    @property
    def context(self) -> Context:
        return self.at.context

    async def step(self) -> None:
        """Something happens at one of the nodes."""
        self.clock.time += self.chance.choice([0, 1, 1, 30, 600])
        daemon = self.chance.choice(self.daemons)
        if daemon is not self.at:
            self.at = daemon
            await daemon.caught_up()
        steps = {
            self.register: 5, self.send: 6, self.report: 8, self.mark: 2, self.cancel: 1, self.shorten: 1,
            self.delete_user: 1,
        }  # fmt: skip
        await self.chance.choices(list(steps), list(steps.values()))[0]()

    async def register(self) -> None:
        name = self.chance.choice(INSTALLS)
        user = self.chance.choice([None, *USERS, *USERS])
        consents = self.chance.random() < 0.8
        registration = Registration(
            install_id=name, bundle="a", token=f"{next(self._tokens):064x}", user_id=user, in_app_consent=consents
        )
        await devices.register(self.context, self.app_id, registration)
        self.naive.owner[name], self.naive.consents[name] = user, consents
        self.naive.users |= {user} if user else set()

    async def send(self) -> None:
        known = sorted(self.naive.owner)
        if not known:
            return
        named = self.chance.sample(known, self.chance.randint(1, len(known)))
        now, presented = self.clock.time, self.chance.random() < 0.7
        window = None
        if not presented or self.chance.random() < 0.6:
            window = now + self.chance.choice([0, HOUR // 2]), now + self.chance.choice([HOUR, 3 * HOUR])
        wanted = NewInApp(
            audience=model.Installs(ids=named),
            content={"named": named},
            presented_when=PresentedWhen.IMMEDIATELY if presented else PresentedWhen.NEVER,
            ttl=Ttl(hours=self.chance.choice([1, 2])) if presented else None,
            inbox=InboxEntry(title="a", available_from=window[0], available_to=window[1]) if window else None,
        )
        recipients = self.naive.recipients(named)
        try:
            answer = await in_app.create(self.context, self.app_id, wanted)
        except UnknownTargetsError:
            assert not recipients
            return
        told = msgspec.json.decode(answer.body)
        assert told["recipients"] == len(recipients)
        expires = now + wanted.ttl.seconds if wanted.ttl else None
        self.naive.messages[told["id"]] = Sent(recipients, now, expires, window, updated=now)

    async def report(self) -> None:
        owner = self._owner()
        if owner is None or not self.naive.messages:
            return
        now = self.clock.time
        numbers = [*self.naive.messages, 2_000_000_000]
        events = [
            (self.chance.choice(numbers[-8:]), self.chance.choice(EVENTS), now + self.chance.choice([-9_999, -5, 0, 5]))
            for _ in range(self.chance.randint(1, 6))
        ]
        got = await inbox.report(
            self.context, self.app_id, owner, [InboxReport(message_id=n, event=event, at=at) for n, event, at in events]
        )
        taken = known = 0
        whose = [owner.user_id] if owner.user_id else [self.naive.owner[owner.install_id], owner.install_id]
        for number, event, at in events:
            sent = self.naive.messages.get(number)
            whom = next((each for each in whose if sent and each in sent.recipients), None)
            if whom is not None:
                known += 1
                taken += self.naive.take(whom, number, event, at, now)
        assert (got.taken, got.repeated, got.unknown) == (taken, known - taken, len(events) - known)

    async def mark(self) -> None:
        owner = self._owner()
        if owner is None:
            return
        now, marked = self.clock.time, 0
        for number, (whom, _) in self.naive.seen(owner, now).items():
            unread = not self.naive.done(whom, number).keys() & {InboxEvent.READ, InboxEvent.OPENED}
            if unread and self.naive.in_inbox(whom, number, now):
                marked += self.naive.take(whom, number, InboxEvent.READ, now, now)
        assert (await inbox.mark_read(self.context, self.app_id, owner)).marked == marked

    async def cancel(self) -> None:
        if self.naive.messages:
            number = self.chance.choice(list(self.naive.messages))
            sent = self.naive.messages[number]
            try:
                await in_app.cancel(self.context, self.app_id, number)
            except ConflictError:
                assert sent.ends <= self.clock.time
                return
            if sent.cancelled is None:
                sent.cancelled = sent.updated = self.clock.time

    async def shorten(self) -> None:
        if self.naive.messages:
            number = self.chance.choice(list(self.naive.messages))
            sent, end = self.naive.messages[number], self.clock.time + 900
            wanted = in_app.InAppChange(ends_at=end)
            try:
                await in_app.change(self.context, self.app_id, number, wanted)
            except ConflictError:
                assert sent.cancelled is not None or sent.ends <= self.clock.time or sent.ends < end
                return
            sent.expires = None if sent.expires is None else min(sent.expires, end)
            sent.inbox = None if sent.inbox is None else (sent.inbox[0], min(sent.inbox[1], end))
            sent.updated = self.clock.time

    async def delete_user(self) -> None:
        if self.naive.users:
            user = self.chance.choice(sorted(self.naive.users))
            await users.delete(self.context, self.app_id, user)
            self.naive.forget(user)

    def _owner(self) -> Owner | None:
        owners = [Owner(install_id=name) for name in sorted(self.naive.owner)]
        owners += [Owner(user_id=name) for name in sorted(self.naive.users)]
        return self.chance.choice(owners) if owners else None

    async def compare(self, daemon: Daemon) -> None:
        """Everybody sees at this node what the model says."""
        await daemon.caught_up()
        for name in sorted(self.naive.owner):
            await self._compare(daemon, Owner(install_id=name))
        for name in sorted(self.naive.users):
            await self._compare(daemon, Owner(user_id=name))
        for name in set(USERS) - self.naive.users:
            with pytest.raises(NotFoundError):
                await inbox.badge(daemon.context, self.app_id, Owner(user_id=name))
        for number, sent in list(self.naive.messages.items())[-6:]:
            counts = (await in_app.get(daemon.context, self.app_id, number)).counts
            expected = {event.value: self.naive.counts.get((number, event), 0) for event in EVENTS}
            assert {name: getattr(counts, name) for name in expected} == expected
            listed = await in_app.recipients(
                daemon.context, self.app_id, number, events=[], after=-(2**31), limit=1_000
            )
            assert {each.user_id or each.install_id for _, each in listed} == {
                whom for whom, about in self.naive.states if about == number and self.naive.states[whom, about]
            }
            assert sent.recipients >= {each.user_id or each.install_id for _, each in listed}

    async def _compare(self, daemon: Daemon, owner: Owner) -> None:
        now, seen = self.clock.time, self.naive.seen(owner, self.clock.time)
        after = now - 700
        for since, wanted in ((None, False), (None, True), (after, False)):
            found, _, more = await inbox.page(
                daemon.context, self.app_id, owner, after=since, inbox=wanted, before=2**31, limit=1_000
            )
            assert not more
            assert [self._shown(each) for each in found] == [
                self._expected(number, whom, sent)
                for number, (whom, sent) in sorted(seen.items(), reverse=True)
                if self._listed(number, whom, sent, since, wanted)
            ], (owner, since, wanted)
        shown = [number for number, (whom, _) in seen.items() if self.naive.in_inbox(whom, number, now)]
        unread = [
            number
            for number in shown
            if not self.naive.done(seen[number][0], number).keys() & {InboxEvent.READ, InboxEvent.OPENED}
        ]
        badge = await inbox.badge(daemon.context, self.app_id, owner)
        assert (badge.unread, badge.total) == (len(unread), len(shown))

    def _listed(self, number: int, whom: str, sent: Sent, since: float | None, wanted: bool) -> bool:
        if wanted:
            return self.naive.in_inbox(whom, number, self.clock.time)
        if since is not None:
            return max(sent.updated, self.naive.touched.get((whom, number), 0)) > since
        return sent.cancelled is None and InboxEvent.DELETED not in self.naive.done(whom, number)

    def _expected(self, number: int, whom: str, sent: Sent) -> dict[str, Any]:
        done = self.naive.done(whom, number)
        return {f"{event.value}_at": done.get(event) for event in EVENTS} | {
            "id": number,
            "sent_at": sent.released,
            "expires_at": sent.expires,
            "cancelled_at": sent.cancelled,
        }

    def _shown(self, message: inbox.InboxMessage) -> dict[str, Any]:
        names = (*(f"{event.value}_at" for event in EVENTS), "id", "sent_at", "expires_at", "cancelled_at")
        assert "named" in msgspec.json.decode(message.content)
        return {name: getattr(message, name) for name in names}


def small(**inbox_settings: Any) -> Config:
    """A configuration in which hardly anything fits into memory."""
    config = Config()
    return msgspec.structs.replace(config, inbox=msgspec.structs.replace(config.inbox, **inbox_settings))


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(3))
async def test_both_nodes_and_one_that_starts_show_what_the_model_says(dsn, seed, monkeypatch):
    monkeypatch.setattr(scheduled, "LETTERS_MAX", FEW)
    clock, chance = MovableClock(), random.Random(seed)
    daemons = [
        Daemon(dsn, clock, small()),
        Daemon(dsn, clock, small(cached_bitmap_bytes_max=2_000, cached_bytes_max=1)),
    ]
    for daemon in daemons:
        await daemon.start()
    try:
        app = await daemons[0].store.apps.create("one", Settings())
        world = World(daemons, clock, app.id, chance)
        for name in INSTALLS[:5]:
            await world.register()
            assert name
        for _ in range(6):
            for _ in range(20):
                await world.step()
            for daemon in daemons:
                await world.compare(daemon)
        late = Daemon(dsn, clock, small())
        await late.start()
        try:
            await world.compare(late)
            await InAppKeeper(late.context).sweep()
            await world.compare(late)
        finally:
            await late.stop()
        large = sum(1 for sent in world.naive.messages.values() if len(sent.recipients) > FEW)
        assert 0 < large < len(world.naive.messages)
        shelves, parts = daemons[1].context.inbox.nbytes
        assert parts <= 2_000
        assert shelves >= 0
    finally:
        for daemon in daemons:
            await daemon.stop()


@pytest.mark.asyncio
async def test_what_is_new_is_new_once_however_many_report_it_at_once(dsn, monkeypatch):
    monkeypatch.setattr(scheduled, "LETTERS_MAX", FEW)
    clock = MovableClock()
    daemons = [Daemon(dsn, clock, Config()) for _ in range(2)]
    for daemon in daemons:
        await daemon.start()
    try:
        app = await daemons[0].store.apps.create("one", Settings())
        context = daemons[0].context
        for at in range(12):
            await devices.register(
                context, app.id, Registration(install_id=f"i{at}", bundle="a", token=f"{at:064x}", user_id=f"u{at % 6}")
            )
        wanted = NewInApp(
            audience=model.Broadcast(), content={"a": 1}, presented_when=PresentedWhen.IMMEDIATELY, ttl=Ttl(days=1)
        )
        told = [msgspec.json.decode((await in_app.create(context, app.id, wanted)).body) for _ in range(3)]
        assert [each["recipients"] for each in told] == [6, 6, 6]
        await daemons[1].caught_up()
        reports = [InboxReport(message_id=each["id"], event=event) for each in told for event in EVENTS]
        got = await asyncio.gather(
            *(
                inbox.report(daemon.context, app.id, Owner(install_id=f"i{at}"), reports)
                for at in range(12)
                for daemon in daemons
                for _ in range(3)
            )
        )
        assert sum(each.taken for each in got) == 6 * len(reports)
        assert {each.unknown for each in got} == {0}
        for each in told:
            counts = (await in_app.get(context, app.id, each["id"])).counts
            assert {getattr(counts, event.value) for event in EVENTS} == {6}
    finally:
        for daemon in daemons:
            await daemon.stop()
