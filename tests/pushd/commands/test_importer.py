"""The importer: what is lost on the way is begun again and counts once, nodes take over, limits hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from pushd.badges import COUNTED
from pushd.bitset import Devices
from pushd.cluster.node import Node
from pushd.commands import channels, imports
from pushd.commands.importer import OURS, Importer
from pushd.config import Config, ImportsConfig
from pushd.errors import PayloadTooLargeError, UnavailableError
from pushd.model import audience as model
from pushd.model.channel import NewChannel
from pushd.model.device import ALERT_KINDS
from pushd.model.imports import Import, ImportState, Job, Records, Subscribe, Users
from pushd.model.user import UserChange
from pushd.store.database import OutcomeUnknownError
from pushd.telemetry import REGISTRY
from tests.integration.store.samples import accept
from tests.pushd.commands.world import World

pytestmark = pytest.mark.asyncio(loop_scope="package")

NEWS = model.Channels(any=["news"])
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ENDED = {ImportState.DONE, ImportState.FAILED, ImportState.CANCELLED}


def configured(world: World, **settings) -> Config:
    given = {"retry_s": 0.01, "poll_interval_s": 0.05, "chunk_lines_max": 3, "chunk_users_max": 3, **settings}
    return Config(imports=ImportsConfig(**given))


@asynccontextmanager
async def importing(world: World, node_id: int = 0, **settings) -> AsyncIterator[Importer]:
    """An importer that runs; as another node with `node_id`."""
    config = configured(world, **settings)
    object.__setattr__(world.context, "config", config)
    context = replace(world.context, config=config, node_id=node_id or world.context.node_id, _running=set())
    importer = Importer(context)
    await importer.start()
    try:
        yield importer
    finally:
        await importer.stop()
        await context.finish(5)


async def begun(world: World, job: Job, *bodies: bytes) -> int:
    """The id of an import that waits for its turn."""
    made = await imports.create(world.context, world.app.id, job)
    for part, body in enumerate(bodies, 1):
        await imports.put_part(world.context, world.app.id, made.id, part, body)
    return (await imports.start(world.context, world.app.id, made.id)).id


async def ended(world: World, import_id: int) -> Import:
    async with asyncio.timeout(20):
        while (shown := await imports.get(world.context, world.app.id, import_id)).state not in ENDED:
            await asyncio.sleep(0.01)
    return shown


async def rejected(world: World, import_id: int) -> list[tuple[int, str]]:
    found = await imports.rejects(world.context, world.app.id, import_id, after=0, limit=1000)
    return [(each.line, each.value) for each in found]


async def people(world: World, count: int) -> None:
    changes = [UserChange(external_id=f"user-{number}") for number in range(count)]
    _, rows = await world.context.store.users.put_many(world.app.id, changes)
    world.context.index.apply_users(rows)
    await channels.create(world.context, world.app.id, NewChannel(uuid="news"))


def fails(monkeypatch, target, name, error, times, *, after=False):
    """Lets calls fail so often: before they do anything, or after."""
    real, left = getattr(target, name), [times]

    async def failing(*args, **options):
        if left[0] and not after:
            left[0] -= 1
            raise error
        found = await real(*args, **options)
        if left[0]:
            left[0] -= 1
            raise error
        return found

    monkeypatch.setattr(target, name, failing)
    return left


async def test_a_database_that_is_away_for_a_while_loses_and_repeats_nothing(world: World, monkeypatch):
    await people(world, 20)
    store = world.context.store
    lines = [b"user-%d\n" % number for number in range(24)]
    lost = fails(monkeypatch, store.imports, "advance", UnavailableError(), 3, after=True)
    away = fails(monkeypatch, store.imports, "next_part", UnavailableError(), 2)
    async with importing(world):
        import_id = await begun(world, Subscribe(channel="news"), b"".join(lines[:10]), b"".join(lines[10:]))
        shown = await ended(world, import_id)
    assert (lost, away) == ([0], [0])
    counted = [REGISTRY.get_sample_value("pushd_import_lines_total", {"result": each}) for each in ("done", "rejected")]
    assert counted[0] >= 20
    assert counted[1] >= 4
    assert (shown.state, shown.done, shown.rejected) == (ImportState.DONE, shown.lines, 4)
    assert len(await rejected(world, import_id)) == 4


async def test_a_commit_whose_answer_was_lost_counts_once(world: World, monkeypatch):
    await people(world, 6)
    store = world.context.store
    real, left = store.imports.chunk, [2]

    @asynccontextmanager
    async def chunk(*args):
        async with real(*args) as connection:
            yield connection
        if left[0]:
            left[0] -= 1
            raise OutcomeUnknownError

    monkeypatch.setattr(store.imports, "chunk", chunk)
    async with importing(world):
        import_id = await begun(world, Subscribe(channel="news"), b"user-0\nx\nuser-1\ny\nuser-2\nz\nuser-3\n")
        shown = await ended(world, import_id)
    assert left == [0]
    assert (shown.done, shown.rejected) == (7, 3)
    assert await rejected(world, import_id) == [(2, "x"), (4, "y"), (6, "z")]
    assert len(await channels.subscribers(world.context, world.app.id, "news", "users", after=0, limit=10)) == 4


async def test_another_node_goes_on_and_the_fenced_one_does_nothing_more(world: World, monkeypatch):
    await people(world, 30)
    body = b"".join(b"user-%d\n" % number for number in range(30)) + b"x\n"
    store = world.context.store
    node = Node(store.database.connect)
    await node.start()
    stopped, gate = asyncio.Event(), asyncio.Event()
    real = Importer._commit

    async def held(self, work, done, *rest):
        if self._context.node_id == node.id and done >= 9:
            stopped.set()
            await gate.wait()
        return await real(self, work, done, *rest)

    monkeypatch.setattr(Importer, "_commit", held)
    async with importing(world, node_id=node.id):
        import_id = await begun(world, Subscribe(channel="news"), body)
        await asyncio.wait_for(stopped.wait(), 10)
        await node.stop()  # it says goodbye while its importer still has a chunk in hand
        async with importing(world):
            shown = await ended(world, import_id)
            assert (shown.state, shown.done, shown.rejected) == (ImportState.DONE, 31, 1)
            gate.set()
            await asyncio.sleep(0.1)
    shown = await imports.get(world.context, world.app.id, import_id)
    assert (shown.done, shown.rejected) == (31, 1)
    assert await rejected(world, import_id) == [(31, "x")]


async def test_who_has_all_the_channels_one_may_have_is_told(world: World, monkeypatch):
    monkeypatch.setattr("pushd.store.channels.SUBSCRIPTIONS_MAX", 1)
    await people(world, 2)
    await channels.create(world.context, world.app.id, NewChannel(uuid="more"))
    device = await world.register("a", user_id="user-0")
    async with importing(world):
        await ended(world, await begun(world, Subscribe(channel="news"), b"user-0\nuser-1"))
        full = await begun(world, Subscribe(channel="more"), b"user-0\n\nuser-0\n")
        assert (await ended(world, full)).rejected == 2
        assert await rejected(world, full) == [(1, "user-0"), (3, "user-0")]
        lines = b'{"external_id": "user-1", "tags": ["t"], "subscribe": ["more"]}\n'
        lines += b'{"external_id": "new", "subscribe": ["more"]}'
        users = await begun(world, Users(), lines)
        assert (await ended(world, users)).rejected == 1
        assert await rejected(world, users) == [(1, "user-1")]
    assert (await world.context.store.users.get(world.app.id, "user-1")).tags == ["t"]
    assert list(world.context.index.resolve(world.app.id, NEWS, ALERT_KINDS).devices) == [device.id]


async def test_what_is_said_last_of_a_user_counts(world: World):
    await people(world, 1)
    lines = [b'{"external_id": "user-0", "%s": ["news"]}\n' % what for what in (b"subscribe", b"unsubscribe") * 4]
    async with importing(world, chunk_users_max=100):
        assert (await ended(world, await begun(world, Users(), b"".join(lines)))).rejected == 0
        assert await channels.of_user(world.context, world.app.id, "user-0") == []
        await ended(world, await begun(world, Users(), b"".join(lines[:3])))
    assert [each.uuid for each in await channels.of_user(world.context, world.app.id, "user-0")] == ["news"]


async def test_an_import_that_we_fail_at_ends_and_the_next_one_is_carried_out(world: World, monkeypatch):
    await people(world, 2)
    real = world.context.store.imports.advance

    async def broken(connection, work, *rest):
        if work.id == first:
            raise KeyError(work.id)
        await real(connection, work, *rest)

    monkeypatch.setattr(world.context.store.imports, "advance", broken)
    first = await begun(world, Subscribe(channel="news"), b"user-0\n")
    async with importing(world):
        shown = await ended(world, first)
        assert (shown.state, shown.done, shown.failure) == (ImportState.FAILED, 0, OURS)
        second = await begun(world, Subscribe(channel="news"), b"user-1\n")
        assert (await ended(world, second)).state is ImportState.DONE
    found = await channels.subscribers(world.context, world.app.id, "news", "users", after=0, limit=10)
    assert [name for _, name in found] == ["user-1"]


async def test_cancelling_stops_an_import_between_chunks(world: World, monkeypatch):
    await people(world, 60)
    reached, gate = asyncio.Event(), asyncio.Event()
    real = world.context.store.imports.advance

    async def held(connection, work, lines, *rest):
        await real(connection, work, lines, *rest)
        if work.done + lines >= 3 and not reached.is_set():
            reached.set()
            await gate.wait()

    monkeypatch.setattr(world.context.store.imports, "advance", held)
    async with importing(world):
        import_id = await begun(world, Subscribe(channel="news"), b"".join(b"user-%d\n" % n for n in range(60)))
        await asyncio.wait_for(reached.wait(), 10)
        cancelling = asyncio.create_task(imports.cancel(world.context, world.app.id, import_id))
        database = world.context.store.database
        while not await database.fetchval(
            WAITING
        ):  # the cancel waits for the chunk; the next chunk may still be quicker
            await asyncio.sleep(0.01)
        gate.set()
        shown = await cancelling
        assert shown.state is ImportState.CANCELLED
        assert (shown.done % 3, 3 <= shown.done < 60) == (0, True)
        await asyncio.sleep(0.1)
    found = await channels.subscribers(world.context, world.app.id, "news", "users", after=0, limit=100)
    assert len(found) == shown.done


async def test_a_file_is_spooled_in_parts_and_bounded(world: World):
    await people(world, 300)
    object.__setattr__(world.context, "config", configured(world, part_bytes_max=100, parts_max=40))
    body = b"".join(b"user-%d\n" % number for number in range(300))

    async def chunks(raw, size):
        for at in range(0, len(raw), size):
            yield raw[at : at + size]

    for size in (1, 7, 100, 250, 10_000):
        made = await imports.subscribers_file(world.context, world.app.id, "news", chunks(body, size))
        assert (made.lines, made.state) == (300, ImportState.WAITING)
        listed = await imports.parts(world.context, world.app.id, made.id, after=0, limit=1000)
        assert sum(part.lines for part in listed) == 300
        await imports.cancel(world.context, world.app.id, made.id)
    with pytest.raises(PayloadTooLargeError):
        await imports.subscribers_file(world.context, world.app.id, "news", chunks(body * 2, 50))
    with pytest.raises(imports.InvalidFileError) as caught:
        await imports.subscribers_file(world.context, world.app.id, "news", chunks(body[:200] + b"\n" + b"x" * 101, 30))
    assert [(each.line, each.column) for each in caught.value.lines] == [(body[:200].count(b"\n") + 2, 1)]

    async def broken():
        yield body[:150]
        raise UnavailableError

    with pytest.raises(UnavailableError):
        await imports.subscribers_file(world.context, world.app.id, "news", broken())
    left = await imports.list_page(world.context, world.app.id, before=0, limit=100)
    assert {each.state for each in left} == {ImportState.CANCELLED}


async def test_sends_that_count_badges_do_not_wait_for_a_chunk_that_moves_devices(world: World, monkeypatch):
    store, app_id = world.context.store, world.app.id
    ids = [(await world.register(f"moved {number}", user_id="ada")).id for number in range(4)]
    plain = accept(app_id, world.context.node_id, Devices(ids), badge_from=COUNTED)
    await store.notifications.accept(plain)
    advance, sent = store.imports.advance, []

    async def advance_beside_a_send(*args):
        async with asyncio.timeout(5):
            sent.append(await store.notifications.accept(plain))
        await advance(*args)

    monkeypatch.setattr(store.imports, "advance", advance_beside_a_send)
    records = [
        {"devices": [{"install_id": f"moved {number}", "user_id": user}]}
        for number, user in enumerate(("bob", "ada", "bob"))
    ]
    async with importing(world):
        import_id = await begun(world, Records(), b"".join(msgspec.json.encode(each) + b"\n" for each in records))
        shown = await ended(world, import_id)
    assert (shown.done, shown.rejected, len(sent)) == (3, 0, 1)
    await store.badges.catch_up([app_id])
    assert store.badges.badges.of(np.array(ids, np.uint32)).tolist() == [0, 2, 0, 2]
