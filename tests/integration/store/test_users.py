"""Users: written singly and in bulk, read, listed, deleted; images for the index."""

from __future__ import annotations

import asyncio

import pytest

from pushd.model.quiet import QuietHours, pack
from pushd.model.user import UserChange
from tests.integration.store.samples import NOW, image, registration

pytestmark = pytest.mark.asyncio


async def test_quiet_hours_are_kept_changed_and_cleared(store, app):
    night, noon = QuietHours(from_minute=1320, to_minute=420), QuietHours(from_minute=0, to_minute=1)
    given = [UserChange(external_id="ann", quiet_hours=night), UserChange(external_id="bob")]
    _, rows = await store.users.put_many(app.id, given)
    assert rows.quiet.tolist() == [pack(night), 0]
    assert [each.quiet_hours for each in await store.users.list(app.id, 0, 10)] == [night, None]
    _, rows = await store.users.put_many(app.id, [UserChange(external_id="ann", quiet_hours=night, tags=[])])
    assert len(rows) == 0  # as it was
    _, rows = await store.users.put_many(app.id, [UserChange(external_id="ann", email="a@example.com")])
    assert rows.quiet.tolist() == [pack(night)]
    given = [UserChange(external_id="ann", quiet_hours=noon), UserChange(external_id="ann", tags=["vip"])]
    _, rows = await store.users.put_many(app.id, given)
    assert rows.quiet.tolist() == [pack(noon)]
    assert (await store.users.images(rows.ids)).quiet.tolist() == [pack(noon)]
    assert [chunk.quiet.tolist() async for chunk in store.users.load()] == [[pack(noon), 0]]
    _, rows = await store.users.put_many(app.id, [UserChange(external_id="ann", quiet_hours=None)])
    assert rows.quiet.tolist() == [0]
    assert (await store.users.get(app.id, "ann")).quiet_hours is None
    await store.users.put_many(app.id, [UserChange(external_id="ann", quiet_hours=night)])
    gone = await store.users.delete(app.id, "ann")
    assert (gone.users.deleted.tolist(), gone.users.quiet.tolist()) == ([True], [0])
    await store.users.put_many(app.id, [UserChange(external_id="ann")])
    assert (await store.users.get(app.id, "ann")).quiet_hours is None


async def test_users_are_created_changed_read_and_listed(store, app):
    ids, rows = await store.users.put_many(
        app.id,
        [
            UserChange(external_id="ann", email="ann@example.com", tags=["VIP"], attributes={"age": 7}),
            UserChange(external_id="bob"),
        ],
    )
    assert ids.tolist() == [1, 2]
    assert rows.external_ids == ["ann", "bob"]
    assert (rows.emails, rows.attributes) == ({0: "ann@example.com"}, {0: {"age": 7}})
    assert [rows.tags.names[int(tag)] for tag in rows.tags.ids] == ["VIP"]
    ann = await store.users.get(app.id, "ann")
    assert (ann.id, ann.email, ann.tags, ann.attributes) == (1, "ann@example.com", ["VIP"], {"age": 7})
    ids, rows = await store.users.put_many(app.id, [UserChange(external_id="ann", email=None, tags=["vip"])])
    assert ids.tolist() == [1]
    assert rows.emails == {}
    assert rows.attributes == {0: {"age": 7}}
    again, rows = await store.users.put_many(app.id, [UserChange(external_id="ann", email=None, tags=["vip"])])
    assert again.tolist() == [1]
    assert len(rows) == 0
    (ann,) = await store.users.get_many(app.id, [1])
    assert (ann.email, ann.tags, ann.attributes) == (None, ["VIP"], {"age": 7})
    assert [each.external_id for each in await store.users.list(app.id, 1, 10)] == ["bob"]
    assert await store.users.get(app.id, "cid") is None


async def test_repeats_in_one_request_are_folded_in_order(store, app):
    changes = [
        UserChange(external_id="ann", tags=["a"], email="first@example.com"),
        UserChange(external_id="bob"),
        UserChange(external_id="ann", tags=["b"]),
    ]
    ids, rows = await store.users.put_many(app.id, changes)
    assert ids.tolist() == [1, 2, 1]
    assert rows.ids.tolist() == [1, 2]
    ann = await store.users.get(app.id, "ann")
    assert (ann.tags, ann.email) == (["b"], "first@example.com")


async def test_concurrent_changes_of_one_user(store, app):
    results = await asyncio.gather(
        *(store.users.put_many(app.id, [UserChange(external_id="ann", tags=[f"t{n}"])]) for n in range(50))
    )
    assert {int(ids[0]) for ids, _ in results} == {1}
    assert len((await store.users.get(app.id, "ann")).tags) == 1
    assert await store.database.fetchval("SELECT count(*) FROM users") == 1


async def test_bulk_users(store, app):
    changes = [UserChange(external_id=f"user-{number}", tags=["all"]) for number in range(7000)]
    ids, rows = await store.users.put_many(app.id, changes)
    assert len(set(ids.tolist())) == 7000
    assert len(rows) == 7000
    assert (await store.users.put_many(app.id, []))[0].tolist() == []


async def test_what_belonged_to_a_deleted_user_belongs_to_nobody(store, app):
    await store.devices.register_many(app.id, [registration(1, user_id="ann"), registration(2, user_id="bob")], NOW)
    gone = await store.users.delete(app.id, "ann")
    assert gone.users.deleted.tolist() == [True]
    assert gone.users.revisions.tolist() == [2]
    assert image(gone.devices, 1)["user"] == 0
    assert len(gone.devices) == 1
    assert await store.users.delete(app.id, "ann") is None
    assert await store.users.get(app.id, "ann") is None
    assert (await store.devices.get(app.id, 1)).user_id is None
    # The same name is another user from now on.
    done = await store.devices.register_many(app.id, [registration(1, user_id="ann")], NOW)
    assert image(done.rows, 1)["user"] == 3
