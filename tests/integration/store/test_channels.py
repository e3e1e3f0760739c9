"""Channels and segments in the store: who is subscribed, within limits, swept when deleted, heard of by other nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from pushd.commands.definitions import Definitions
from pushd.config import StoreConfig
from pushd.errors import ConflictError, InvalidRequestError, NotFoundError
from pushd.model import audience as model
from pushd.model.app import Settings
from pushd.model.channel import SUBSCRIPTIONS_MAX, ChannelChange, NewChannel
from pushd.model.device import ALERT_KINDS
from pushd.model.message import Message
from pushd.model.segment import NewSegment
from pushd.model.template import NewTemplate
from pushd.model.user import UserChange
from pushd.store.changes import Listeners
from pushd.store.store import Store
from pushd.targeting.index import Index
from tests.integration.store.samples import NOW, image, registration
from tests.integration.store.test_settlements import wait_until

pytestmark = pytest.mark.asyncio


async def channels(store, app, *uuids):
    return [await store.channels.create(app.id, uuid, NewChannel(name=uuid.title())) for uuid in uuids]


async def people(store, app, *names):
    await store.users.put_many(app.id, [UserChange(external_id=name) for name in names])


async def uuids_of(store, app, user):
    return [each.uuid for each in await store.channels.of_user(app.id, user)]


async def count(store, query, *args):
    return await store.database.fetchval(query, *args)


async def test_a_channel_is_made_changed_listed_and_deleted(store, app, other):
    new = NewChannel(name="News", show_in_portal=True, meta={"a": [1, None]})
    made = await store.channels.create(app.id, "news", new)
    assert (made.uuid, made.name, made.show_in_portal, made.meta) == ("news", "News", True, {"a": [1, None]})
    with pytest.raises(ConflictError):
        await store.channels.create(app.id, "news", NewChannel())
    (sports,) = await channels(store, app, "sports")
    (theirs,) = await channels(store, other, "news")
    assert [each.id for each in await store.channels.list(app.id, 0, 10)] == [made.id, sports.id]
    assert [each.id for each in await store.channels.list(app.id, made.id, 10)] == [sports.id]
    with pytest.raises(ConflictError):
        await store.channels.update(app.id, sports.id, ChannelChange(uuid="news"))
    changed = await store.channels.update(app.id, made.id, ChannelChange(uuid="world", meta=None))
    assert (changed.uuid, changed.name, changed.show_in_portal, changed.meta) == ("world", "News", True, None)
    assert await store.channels.update(app.id, theirs.id, ChannelChange(name="x")) is None
    assert not await store.channels.delete(app.id, theirs.id)
    assert await store.channels.delete(app.id, made.id)
    assert not await store.channels.delete(app.id, made.id)
    assert await store.channels.get(app.id, "world") is None
    assert (await store.channels.get(other.id, "news")).id == theirs.id
    assert await store.channels.ids(app.id, ["world", "sports", "none"]) == {"sports": sports.id}
    assert (await store.channels.labels([app.id, 99])).keys() == {app.id, 99}


async def test_an_app_has_no_more_channels_and_segments_than_it_may(store, app, dsn):
    small = Store(StoreConfig(pool_size=2, channels_max=2, segments_max=1), dsn)
    await small.start()
    (first, _) = await channels(small, app, "one", "two")
    with pytest.raises(ConflictError):
        await channels(small, app, "three")
    await small.channels.delete(app.id, first.id)
    await channels(small, app, "three")
    segment = NewSegment(name="all", audience=model.Broadcast())
    await small.segments.create(app.id, "all", segment)
    with pytest.raises(ConflictError):
        await small.segments.create(app.id, "more", segment)
    await small.stop()


async def made_at_once(calls):
    """How many of some calls made something; the others were told that there is no room."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in done if isinstance(each, BaseException)} == {ConflictError}
    return sum(not isinstance(each, BaseException) for each in done)


async def test_limits_hold_for_those_who_ask_at_once(store, app, dsn):
    many, length = range(12), 2 * len(msgspec.json.encode(model.Broadcast()))
    small = Store(StoreConfig(pool_size=8, segments_max=3, templates_max=3, segments_bytes_max=10**6), dsn)
    short = Store(StoreConfig(pool_size=8, segments_bytes_max=length), dsn)
    for each in (small, short):
        await each.start()
    segment = NewSegment(name="all", audience=model.Broadcast())
    templates = [NewTemplate(name=f"t{number}", message=Message(title="a")) for number in many]
    assert await made_at_once(small.segments.create(app.id, f"s{number}", segment) for number in many) == 3
    other = await store.apps.create("other", Settings())
    assert await made_at_once(short.segments.create(other.id, f"s{number}", segment) for number in many) == 2
    assert await made_at_once(small.templates.create(app.id, each.name, each) for each in templates) == 3
    for each in (small, short):
        await each.stop()


async def test_the_audiences_of_an_app_s_segments_have_a_length_together(store, app, other, dsn):
    small = Store(StoreConfig(pool_size=2, segments_bytes_max=200), dsn)
    await small.start()
    long = NewSegment(name="some", audience=model.UserIds(ids=["ä" * 40]))
    await small.segments.create(app.id, "one", long)
    with pytest.raises(ConflictError):
        await small.segments.create(app.id, "two", long)
    await small.segments.create(other.id, "one", long)
    await small.segments.create(app.id, "two", NewSegment(name="all", audience=model.Broadcast()))
    with pytest.raises(ConflictError):
        await small.segments.update(app.id, "two", None, long.audience)
    assert await small.segments.update(app.id, "one", None, long.audience)
    await small.stop()


async def test_users_are_subscribed_once_and_unknown_ones_named(store, app, other):
    news, sports = await channels(store, app, "news", "sports")
    await people(store, app, "ada", "bob")
    await people(store, other, "eve")
    done = await store.channels.subscribe_users(app.id, news.id, ["ada", "eve", "ada", "bob", "x"], on=True)
    assert (list(done.unknown), list(done.full)) == (["eve", "x"], [])
    assert sorted(done.users.external_ids) == ["ada", "bob"]
    revisions = done.users.revisions.tolist()
    again = await store.channels.subscribe_users(app.id, news.id, ["ada", "bob"], on=True)
    assert len(again.users) == 0
    await store.channels.subscribe_users(app.id, sports.id, ["ada"], on=True)
    assert await uuids_of(store, app, "ada") == ["news", "sports"]
    off = await store.channels.subscribe_users(app.id, news.id, ["ada", "x"], on=False)
    assert (list(off.unknown), off.users.external_ids) == (["x"], ["ada"])
    assert off.users.revisions.tolist() == [revisions[0] + 2]
    assert (await uuids_of(store, app, "ada"), await uuids_of(store, app, "bob")) == (["sports"], ["news"])
    assert [name for _, name in await store.channels.users(app.id, news.id, 0, 10)] == ["bob"]
    for channel_id in (9_999, (await channels(store, other, "news"))[0].id):
        with pytest.raises(NotFoundError):
            await store.channels.subscribe_users(app.id, channel_id, ["ada"], on=True)


async def test_installs_carry_channels_beside_their_tags(store, app):
    (news,) = await channels(store, app, "news")
    await store.devices.register_many(app.id, [registration(1, tags=["beta"]), registration(1, kind="apns_voip")], NOW)
    done = await store.channels.subscribe_installs(app.id, news.id, ["install-1", "install-2"], on=True)
    assert list(done.unknown) == ["install-2"]
    assert len(done.devices) == 2
    assert len(image(done.devices, 1)["tags"]) == 2
    # Tags change, channels stay; and a device that comes later has both.
    again = await store.devices.register_many(
        app.id, [registration(1, tags=["x", "y"]), registration(1, kind="fcm")], NOW
    )
    assert {len(image(again.rows, int(each))["tags"]) for each in again.rows.ids} == {3}
    assert [name for _, name in await store.channels.installs(app.id, news.id, 0, 10)] == ["install-1"]
    off = await store.channels.subscribe_installs(app.id, news.id, ["install-1"], on=False)
    assert {len(image(off.devices, int(each))["tags"]) for each in off.devices.ids} == {2}
    assert await store.channels.of_install(app.id, "install-1") == []


async def test_one_users_channels_are_changed_as_a_whole_or_not_at_all(store, app):
    await channels(store, app, "a", "b", "c")
    await people(store, app, "ada")
    await store.devices.register_many(app.id, [registration(1)], NOW)
    done = await store.channels.change(app.id, user="ada", add=["a", "b", "a"])
    assert done.users.external_ids == ["ada"]
    assert (await store.channels.change(app.id, user="ada", add=["a"])).users is None
    with pytest.raises(NotFoundError):
        await store.channels.change(app.id, user="ada", add=["c", "none"], remove=["a"])
    with pytest.raises(NotFoundError):
        await store.channels.change(app.id, user="nobody", add=["c"])
    await store.channels.change(app.id, user="ada", add=["c"], remove=["a"])
    assert await uuids_of(store, app, "ada") == ["b", "c"]
    await store.channels.change(app.id, user="ada", add=["a"], replace=True)
    assert await uuids_of(store, app, "ada") == ["a"]
    changed = await store.channels.change(app.id, install="install-1", add=["b"])
    assert changed.devices.ids.tolist() == [1]
    await store.channels.change(app.id, user="ada", replace=True)
    assert await uuids_of(store, app, "ada") == []
    assert [each.uuid for each in await store.channels.of_install(app.id, "install-1")] == ["b"]


async def test_a_thousand_channels_and_a_thousand_tags_fit_and_no_more(store, app):
    await store.database.execute(
        "SELECT create_channel(now(), $1, 'c' || n, '', false, NULL, 100000) FROM generate_series(1, $2::int) n",
        *(app.id, SUBSCRIPTIONS_MAX + 1),
    )
    uuids = [f"c{number}" for number in range(1, SUBSCRIPTIONS_MAX + 1)]
    tags = [f"tag {number}" for number in range(1_000)]
    _, rows = await store.users.put_many(app.id, [UserChange(external_id="ada", tags=tags)])
    registered = await store.devices.register_many(app.id, [registration(1, user_id="ada", tags=tags)], NOW)
    index = Index()
    index.apply_users(rows)
    index.apply_devices(registered.rows)
    index.apply_users((await store.channels.change(app.id, user="ada", add=uuids)).users)
    index.apply_devices((await store.channels.change(app.id, install="install-1", add=uuids)).devices)
    await Definitions(store, index).load()
    more = [*uuids[-1:], f"c{SUBSCRIPTIONS_MAX + 1}"]
    with pytest.raises(ConflictError):
        await store.channels.change(app.id, user="ada", add=more)
    extra = await store.channels.get(app.id, more[1])
    for subscribe, name in ((store.channels.subscribe_users, "ada"), (store.channels.subscribe_installs, "install-1")):
        done = await subscribe(app.id, extra.id, [name], on=True)
        assert (list(done.unknown), list(done.full)) == ([], [name])
    everything = model.And(of=[model.Channels(all=uuids), model.Tags(all=tags)])
    none = model.Channels(any=[more[1]])
    assert list(index.resolve(app.id, everything, ALERT_KINDS).devices) == [1]
    assert list(index.resolve(app.id, none, ALERT_KINDS).devices) == []
    index.apply_users((await store.channels.change(app.id, user="ada", replace=True)).users)
    index.apply_devices((await store.channels.change(app.id, install="install-1", replace=True)).devices)
    assert list(index.resolve(app.id, model.Channels(any=uuids), ALERT_KINDS).devices) == []
    assert list(index.resolve(app.id, model.Tags(all=tags), ALERT_KINDS).devices) == [1]


async def test_names_are_looked_up_one_by_one_before_there_are_statistics(store, app):
    (news,) = await channels(store, app, "news")
    names = [f"user-{number}" for number in range(400)]
    await people(store, app, *names)
    await store.devices.register_many(app.id, [registration(number) for number in range(400)], NOW)
    installs = [f"install-{number}" for number in range(400)]
    connection = await store.database.connect()
    # A plan of its own is made for the first five calls only.
    for function, given, table in (("subscribe_users", names, "users"), ("subscribe_installs", installs, "installs")):
        for turn in range(8):
            query = f"SELECT unknown FROM {function}($1, $2, $3, $4, 1000)"
            await connection.execute(query, app.id, news.id, given, turn % 2 == 0)
        await connection.execute("SELECT pg_stat_force_next_flush()")
        read = await connection.fetchval("SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = $1", table)
        assert read < 8 * 400 * 40  # reading everyone for each name would be 400 times as many
    await connection.close()


async def test_everyone_is_relieved_of_a_deleted_channel_in_portions(store, app):
    news, sports = await channels(store, app, "news", "sports")
    names = [f"user-{number}" for number in range(25)]
    await people(store, app, *names)
    await store.devices.register_many(app.id, [registration(number) for number in range(25)], NOW)
    for channel in (news, sports):
        await store.channels.subscribe_users(app.id, channel.id, names, on=True)
        await store.channels.subscribe_installs(app.id, channel.id, [f"install-{n}" for n in range(25)], on=True)
    position = await store.changes.position()
    await store.channels.delete(app.id, news.id)
    steps = 0
    while await count(store, "SELECT sweep_channels(10)"):
        steps += 1
        if steps == 2:  # who goes meanwhile, or is deleted, is no trouble
            await store.channels.change(app.id, user="user-24", remove=["sports"])
            await store.users.delete(app.id, "user-23")
    assert steps == 8  # who they are, three of users, three of installs, and the channel itself
    assert await count(store, "SELECT count(*) FROM channels WHERE uuid = 'news'") == 0
    for table, left in (("users", 23), ("installs", 25)):
        assert await count(store, f"SELECT count(*) FROM {table} WHERE channels IS NOT NULL") == left
        assert await count(store, f"SELECT count(*) FROM {table} WHERE cardinality(channels) = 1") == left
    assert await count(store, "SELECT count(*) FROM devices WHERE cardinality(labels) = 1") == 25
    assert await uuids_of(store, app, "user-7") == ["sports"]

    async def told():
        events = (await store.changes.read(position)).events
        return {event.aggregate.name for event in events} >= {"CHANNELS", "USERS", "DEVICES"}

    await wait_until(told)


async def test_many_at_once_subscribe_and_register_and_nothing_is_lost(store, app):
    made = await channels(store, app, *"abcdefgh")
    await people(store, app, "ada")
    await store.devices.register_many(app.id, [registration(1)], NOW)
    await asyncio.gather(
        *(store.channels.subscribe_users(app.id, each.id, ["ada"], on=True) for each in made),
        *(store.channels.change(app.id, install="install-1", add=[each.uuid]) for each in made),
        *(store.devices.register_many(app.id, [registration(1, tags=[str(n)])], NOW) for n in range(8)),
        *(store.users.put_many(app.id, [UserChange(external_id="ada", tags=[str(n)])]) for n in range(8)),
    )
    assert await uuids_of(store, app, "ada") == list("abcdefgh")
    assert [each.uuid for each in await store.channels.of_install(app.id, "install-1")] == list("abcdefgh")
    assert await count(store, "SELECT cardinality(labels) FROM devices WHERE id = 1") == 9


@asynccontextmanager
async def another_node(dsn) -> AsyncIterator[tuple[Store, Index]]:
    """A store with an index that knows nothing but what it hears."""
    store = Store(StoreConfig(pool_size=4, feed_poll_ms=50), dsn)
    await store.start()
    index = Index()
    definitions = Definitions(store, index)
    follower = store.follow(
        Listeners(
            on_devices=index.apply_devices,
            on_users=index.apply_users,
            on_segments=definitions.segments_changed,
            on_channels=definitions.channels_changed,
        )
    )
    await follower.start()
    yield store, index
    await follower.stop()
    await store.stop()


async def test_what_one_node_defines_another_knows(store, app, dsn):
    async with another_node(dsn) as (_, index):
        news = model.Channels(any=["news"])
        segment = model.Segment(id="readers")

        def reaches(audience):
            async def asked():
                try:
                    index.check_names(app.id, audience)
                except InvalidRequestError:
                    return None
                return list(index.resolve(app.id, audience, ALERT_KINDS).devices)

            return asked

        async def heard(audience, devices):
            asked = reaches(audience)

            async def same():
                return await asked() == devices

            await wait_until(same)

        assert await reaches(news)() is None
        (made,) = await channels(store, app, "news")
        await heard(news, [])
        await people(store, app, "ada")
        await store.devices.register_many(app.id, [registration(1, user_id="ada"), registration(2)], NOW)
        await store.channels.subscribe_users(app.id, made.id, ["ada"], on=True)
        await heard(news, [1])
        await store.segments.create(app.id, "readers", NewSegment(name="Readers", audience=news))
        await heard(segment, [1])
        await store.segments.update(app.id, "readers", None, model.Not(of=news))
        await heard(segment, [2])
        await store.channels.update(app.id, made.id, ChannelChange(uuid="world"))
        await heard(model.Channels(any=["world"]), [1])
        await heard(news, None)
        await store.segments.delete(app.id, "readers")
        await heard(segment, None)
        await store.channels.delete(app.id, made.id)
        await heard(model.Channels(any=["world"]), None)


async def test_segments_are_kept_as_they_were_made(store, app, other):
    audience = model.And(of=[model.Tags(any=["a"]), model.Not(of=model.Segment(id="x"))])
    made = await store.segments.create(app.id, "s", NewSegment(name="S", audience=audience))
    with pytest.raises(ConflictError) as caught:
        await store.segments.create(app.id, "s", NewSegment(name="T", audience=audience))
    assert [fault.pointer for fault in caught.value.faults] == ["/uuid"]
    assert await store.segments.get(app.id, "s") == made
    assert await store.segments.get(other.id, "s") is None
    renamed = await store.segments.update(app.id, "s", "New", None)
    assert (renamed.name, renamed.audience) == ("New", audience)
    assert await store.segments.update(other.id, "s", "x", None) is None
    assert (await store.segments.audiences(None))[app.id] == {"s": audience}
    assert not await store.segments.delete(other.id, "s")
    assert await store.segments.delete(app.id, "s")
    assert await store.segments.list(app.id, 0, 10) == []
    assert await store.segments.audiences([app.id]) == {app.id: {}}
