"""Imports in the store: spooled once, carried out by one living node at a time, each chunk whole or not at all."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest

from pushd.cluster.node import Node
from pushd.errors import ConflictError, NotFoundError, TooManyRequestsError
from pushd.model.channel import NewChannel
from pushd.model.imports import ImportState, Subscribe, Users
from pushd.model.user import UserChange
from pushd.store.imports import ImportStore, Rejects

pytestmark = pytest.mark.asyncio

JOB = Users()
NONE = Rejects([], [], [])


async def put(store, app, import_id, part, body):
    await store.imports.put_part(app.id, import_id, part, body.count(b"\n"), sha256(body).digest(), body)


async def made(store, app, *bodies, job=JOB, channel_id=None):
    """The id of an import that waits for its turn."""
    found = await store.imports.create(app.id, job, channel_id, 100)
    for part, body in enumerate(bodies, 1):
        await put(store, app, found.id, part, body)
    await store.imports.start(app.id, found.id)
    return found.id


async def new_node(store):
    node = Node(store.database.connect)
    await node.start()
    return node


async def taken(store, node, room=10):
    return [work.id for work in await store.imports.take(node.id, room)]


async def carry(store, node, work, lines, ended=None, rejects=NONE, most=100):
    """Whether a chunk without effects was committed."""
    async with store.imports.chunk(node.id, work, work.done) as connection:
        if connection is None:
            return False
        await store.imports.advance(connection, work, lines, ended, rejects, most)
    return True


async def test_parts_are_taken_once_and_counted(store, app, other):
    job = Subscribe(channel="news", of="installs")
    found = await store.imports.create(app.id, job, 7, 1)
    assert (found.job, found.state, found.lines, found.started_at) == (job, ImportState.UPLOADING, 0, None)
    with pytest.raises(TooManyRequestsError):
        await store.imports.create(app.id, JOB, None, 1)
    await store.imports.create(other.id, JOB, None, 1)
    with pytest.raises(ConflictError):
        await store.imports.start(app.id, found.id)
    await put(store, app, found.id, 2, b"c\n")
    with pytest.raises(ConflictError):
        await store.imports.start(app.id, found.id)
    await asyncio.gather(*(put(store, app, found.id, 1, b"a\nb\n") for _ in range(4)))
    for wrong, error in (((app, found.id, 1, b"x\n"), ConflictError), ((other, found.id, 1, b"a\nb\n"), NotFoundError)):
        with pytest.raises(error):
            await put(store, *wrong)
    with pytest.raises(NotFoundError):
        await store.imports.start(other.id, found.id)
    await store.imports.start(app.id, found.id)
    await store.imports.start(app.id, found.id)
    with pytest.raises(ConflictError):
        await put(store, app, found.id, 3, b"d\n")
    shown = await store.imports.get(app.id, found.id)
    assert (shown.state, shown.parts, shown.lines, shown.done) == (ImportState.WAITING, 2, 3, 0)
    assert [(each.part, each.lines) for each in await store.imports.parts(found.id, 0, 10)] == [(1, 2), (2, 1)]
    assert await store.imports.get(other.id, found.id) is None


async def test_imports_of_an_app_take_turns_and_nodes_share_apps(store, app, other, node):
    first, second = await made(store, app, b"a\n"), await made(store, app, b"b\n")
    third = await made(store, other, b"c\n")
    beside = await new_node(store)
    got = await asyncio.gather(*(taken(store, each) for each in (node, beside, node, beside)))
    mine, theirs = {*got[0], *got[2]}, {*got[1], *got[3]}
    assert mine | theirs == {first, third}
    assert not mine & theirs
    owner = node if first in mine else beside
    (work,) = [each for each in await store.imports.take(owner.id, 0) if each.id == first]
    assert (work.app_id, work.job, work.head, work.done) == (app.id, JOB, b"a\n", 0)
    assert await carry(store, owner, work, 1, ended=1)
    assert (await store.imports.get(app.id, first)).state is ImportState.DONE
    assert second in await taken(store, owner)
    await beside.stop()


async def test_what_a_dead_node_carried_out_is_gone_on_with_where_it_stood(store, app, node):
    import_id = await made(store, app, b"a\nb\nc\n", b"d\ne\n")
    dead = await new_node(store)
    (work,) = await store.imports.take(dead.id, 1)
    part = await store.imports.next_part(work)
    assert (part.part, part.first, part.lines, part.body) == (1, 1, 3, b"a\nb\nc\n")
    assert await carry(store, dead, work, 2)
    assert await taken(store, node) == []  # it lives
    await dead.stop()
    (left,) = await store.imports.take(node.id, 1)
    assert (left.id, left.done) == (import_id, 2)
    # Whoever was fenced, or stands where it stood before, carries nothing out any more.
    assert not await carry(store, dead, left, 1)
    assert not await carry(store, node, work, 1)
    assert await store.imports.look(dead.id, import_id) is None
    assert await carry(store, node, left, 1, ended=1)
    left = await store.imports.look(node.id, import_id)
    part = await store.imports.next_part(left)
    assert (left.done, part.part, part.first) == (3, 2, 4)
    assert await carry(store, node, left, 2, ended=2)
    assert await store.imports.look(node.id, import_id) is None
    shown = await store.imports.get(app.id, import_id)
    assert (shown.state, shown.done, shown.lines) == (ImportState.DONE, 5, 5)


async def test_a_chunk_is_whole_or_not_at_all(store, app, node):
    channel = await store.channels.create(app.id, "news", NewChannel())
    await store.users.put_many(app.id, [UserChange(external_id=name) for name in "ab"])
    import_id = await made(store, app, b"a\nb\n", job=Subscribe(channel="news"), channel_id=channel.id)
    (work,) = await store.imports.take(node.id, 1)

    async def attempt(fail):
        async with store.imports.chunk(node.id, work, 0) as connection:
            done = await store.channels.subscribe_within(
                connection, app.id, channel.id, ["a", "x", "b"], of="users", on=True
            )
            await store.users.put_within(connection, app.id, [UserChange(external_id="c")])
            await store.imports.advance(connection, work, 2, 1, Rejects([2], ["x"], ["unknown"]), 10)
            if fail:
                raise NotFoundError
        return done

    with pytest.raises(NotFoundError):
        await attempt(fail=True)
    assert await store.channels.users(app.id, channel.id, 0, 10) == []
    assert await store.users.get(app.id, "c") is None
    assert (await store.imports.get(app.id, import_id)).done == 0
    done = await attempt(fail=False)
    assert (list(done.unknown), len(done.users)) == (["x"], 2)
    assert [name for _, name in await store.channels.users(app.id, channel.id, 0, 10)] == ["a", "b"]
    shown = await store.imports.get(app.id, import_id)
    assert (shown.state, shown.done, shown.rejected) == (ImportState.DONE, 2, 1)


async def test_all_rejects_are_counted_and_some_are_kept(store, app, node):
    import_id = await made(store, app, b"a\n" * 9)
    for first in (1, 4, 7):
        (work,) = await store.imports.take(node.id, 1)
        numbers = [first, first + 1, first + 2]
        rejects = Rejects(numbers, ["a"] * 3, ["why"] * 3)
        assert await carry(store, node, work, 3, ended=1 if first == 7 else None, rejects=rejects, most=5)
    assert (await store.imports.get(app.id, import_id)).rejected == 9
    assert [each.line for each in await store.imports.rejects(import_id, 0, 10)] == [1, 2, 3, 4, 5]
    assert [each.line for each in await store.imports.rejects(import_id, 3, 1)] == [4]


async def test_a_cancelled_import_goes_on_no_more(store, app, node):
    import_id = await made(store, app, b"a\nb\n")
    (work,) = await store.imports.take(node.id, 1)
    assert await store.imports.end(import_id, ImportState.CANCELLED)
    assert not await store.imports.end(import_id, ImportState.FAILED, "late")
    assert not await carry(store, node, work, 1)
    assert await store.imports.next_part(work) is None
    shown = await store.imports.get(app.id, import_id)
    assert (shown.state, shown.failure) == (ImportState.CANCELLED, None)
    assert shown.finished_at is not None


class Later:
    """A clock that is ahead."""

    def __init__(self, clock, seconds):
        self._clock, self._seconds = clock, seconds

    def now(self):
        return self._clock.now() + self._seconds


async def test_uploads_that_were_given_up_and_old_imports_are_swept(store, app, other, node):
    upload = (await store.imports.create(app.id, JOB, None, 10)).id
    done, gone = await made(store, app, b"a\n"), await made(store, other, b"a\n")
    assert await store.imports.sweep(3_600, 86_400) == 0
    later = ImportStore(store.database, Later(store.clock, 7_200))
    assert await later.sweep(3_600, 86_400) == 0
    assert (await store.imports.get(app.id, upload)).state is ImportState.CANCELLED
    assert (await store.imports.get(app.id, done)).state is ImportState.WAITING
    await store.imports.end(done, ImportState.DONE)
    await store.channels.create(other.id, "theirs", NewChannel())
    await store.apps.delete(other.id)
    await later.sweep(3_600, 86_400)
    assert await store.imports.get(other.id, gone) is None
    assert await store.channels.get(other.id, "theirs") is None
    assert await ImportStore(store.database, Later(store.clock, 100_000)).sweep(3_600, 86_400) == 2
    assert await store.imports.list(app.id, 0, 10) == []
