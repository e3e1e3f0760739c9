"""Sessions are remembered, and forgotten by every daemon as soon as one of them, or anything it stands on, changes."""

import time
from contextlib import asynccontextmanager

import pytest

from pushd.model.account import Session
from pushd.model.app import Role
from pushd.model.user import UserChange
from pushd.model.vendor_key import DialectName
from pushd.store.sessions import STEPS
from tests.integration.store.test_changes import second_store
from tests.integration.store.test_settlements import wait_until

pytestmark = pytest.mark.asyncio
CUBE = DialectName.CONNECTYCUBE
LIVES_S = 7_200.0
NOW = time.time()


async def opened(store, app, user_id=None, **more) -> tuple[Session, str]:
    return await store.sessions.open(app.id, CUBE, user_id, token_bytes=20, lives_s=LIVES_S, now=NOW, **more)


async def found(store, token, now=NOW) -> Session | None:
    return await store.sessions.find(token, lives_s=LIVES_S, now=now)


@asynccontextmanager
async def reading(dsn):
    """Another daemon's store, which follows the feed."""
    async with second_store(dsn) as reader:
        follower = reader.follow()
        await follower.start()
        try:
            yield reader
        finally:
            await follower.stop()


def counting_reads(store, monkeypatch):
    """The reads that are made from now on, each a list of digests."""
    reads = []
    fetch = store.sessions._together._fetch

    async def counted(digests):
        reads.append(digests)
        return await fetch(digests)

    monkeypatch.setattr(store.sessions._together, "_fetch", counted)
    return reads


async def test_a_session_is_read_once(store, app, monkeypatch):
    session, token = await opened(store, app)
    reads = counting_reads(store, monkeypatch)
    assert [await found(store, token) for _ in range(3)] == [session] * 3
    assert len(reads) == 1


async def test_a_token_that_is_none_is_looked_up_each_time(store, app, monkeypatch):
    reads = counting_reads(store, monkeypatch)
    assert [await found(store, "none") for _ in range(2)] == [None, None]
    assert len(reads) == 2


async def change_closing(store, app, session, token):
    await store.sessions.close(token)


async def change_closing_one(store, app, session, token):
    assert await store.sessions.close_one(session, session.id, None)


async def change_closing_others(store, app, session, token):
    own, _ = await opened(store, app, session.user_id)
    await store.sessions.close_others(own)


async def change_deleting_the_user(store, app, session, token):
    await store.users.delete(app.id, "anna")
    store.sessions.forget()  # as commands do, which know of both


async def change_deleting_the_app(store, app, session, token):
    await store.apps.delete(app.id)
    async with store.database.connection() as connection:
        await connection.execute("UPDATE apps SET deleted_at = deleted_at - interval '1 day' WHERE id = $1", app.id)
        while await connection.fetchval("SELECT purge(now() - interval '1 h', now(), now(), 1000)"):
            pass
    store.sessions.forget()


@pytest.mark.parametrize(
    "change",
    [
        change_closing,
        change_closing_one,
        change_closing_others,
        change_deleting_the_user,
        change_deleting_the_app,
    ],
)
async def test_a_session_that_ends_is_over_here_at_once_and_soon_elsewhere(store, app, dsn, change):
    ids, _ = await store.users.put_many(app.id, [UserChange(external_id="anna")])
    session, token = await opened(store, app, int(ids[0]))
    async with reading(dsn) as reader:
        assert await found(store, token) == await found(reader, token) == session
        await change(store, app, session, token)
        assert await found(store, token) is None

        async def is_over():
            return await found(reader, token) is None

        await wait_until(is_over)


async def test_a_session_of_a_revoked_key_is_over_elsewhere(store, app, dsn):
    key = await store.vendor_keys.create(app.id, CUBE, Role.SERVER, "auth", "secret", None, "bench")
    session, token = await opened(store, app, key_id=key.id)
    assert session.role is Role.SERVER
    async with reading(dsn) as reader:
        assert await found(reader, token) == session
        await store.vendor_keys.revoke(app.id, key.id)

        async def is_over():
            return await found(reader, token) is None

        await wait_until(is_over)


async def test_who_logs_in_or_out_is_known_here_at_once_and_soon_elsewhere(store, app, dsn):
    session, token = await opened(store, app)
    async with reading(dsn) as reader:
        for user_id in (7, 8, None):
            await found(reader, token)
            await found(store, token)
            assert (await store.sessions.log_in(session, user_id)).user_id == user_id
            assert (await found(store, token)).user_id == user_id

            async def is_theirs(user_id=user_id):
                return (await found(reader, token)).user_id == user_id

            await wait_until(is_theirs)


async def test_use_is_written_down_a_few_times_and_seen_by_all(store, app, dsn, monkeypatch):
    session, token = await opened(store, app)
    written = []
    execute = store.database.execute

    async def counted(statement, *args):
        written.append(statement)
        return await execute(statement, *args)

    monkeypatch.setattr(store.database, "execute", counted)
    async with reading(dsn) as reader:
        await found(reader, token)
        step = LIVES_S / STEPS
        for at in range(1, 61):
            assert await found(store, token, NOW + at * step / 10)
        assert 4 <= len(written) <= 6
        # Here its end is the old one, which has passed: elsewhere it was used since.
        assert await found(reader, token, session.ends_at + 1)
        assert await found(reader, token, session.ends_at + 2 * LIVES_S) is None


async def test_a_use_that_is_written_down_does_not_bring_back_what_was_closed(store, app, monkeypatch):
    _, token = await opened(store, app)
    assert await found(store, token)
    execute = store.database.execute

    async def closed_meanwhile(statement, *args):
        monkeypatch.undo()
        await store.sessions.close(token)
        return await execute(statement, *args)

    monkeypatch.setattr(store.database, "execute", closed_meanwhile)
    await found(store, token, NOW + LIVES_S / 2)
    assert await found(store, token, NOW + LIVES_S / 2) is None


async def test_the_feed_names_sessions_past_31_bits(store, app, dsn):
    await store.database.execute("ALTER TABLE sessions ALTER COLUMN id RESTART WITH 5000000001")
    session, token = await opened(store, app)
    assert session.id == 5_000_000_001
    async with reading(dsn) as reader:
        assert await found(reader, token)
        await store.sessions.close(token)

        async def is_over():
            return await found(reader, token) is None

        await wait_until(is_over)
