import pytest

from pushd.commands import audience, users
from pushd.errors import InvalidRequestError, NotFoundError
from pushd.model.audience import Tags, UserIds, UserNumbers
from pushd.model.message import PushType
from pushd.model.user import UserChange

pytestmark = pytest.mark.asyncio(loop_scope="package")

ALERT = PushType.ALERT


async def test_absent_fields_stay_and_null_clears(world):
    context, app = world.context, world.app.id
    change = UserChange(external_id="ada", email="ada@example.com", tags=["Beta"], attributes={"plan": "pro"})
    made = await users.put(context, app, change)
    assert (made.external_id, made.email, made.tags, made.attributes) == (
        "ada",
        "ada@example.com",
        ["Beta"],
        {"plan": "pro"},
    )
    changed = await users.put(context, app, UserChange(external_id="ada", email=None))
    assert (changed.id, changed.email, changed.tags, changed.attributes) == (made.id, None, ["Beta"], {"plan": "pro"})
    assert await users.get(context, app, "ada") == changed


async def test_a_change_of_tags_is_in_the_index_when_it_is_answered(world):
    await world.register("i", user_id="ada")
    await users.put(world.context, world.app.id, UserChange(external_id="ada", tags=["vip"]))
    found = await audience.count(world.context, world.app.id, Tags(any=["VIP"]), ALERT)
    assert found.devices == 1
    await users.put(world.context, world.app.id, UserChange(external_id="ada", tags=[]))
    assert (await audience.count(world.context, world.app.id, Tags(any=["vip"]), ALERT)).devices == 0


async def test_pages_follow_numeric_ids(world):
    ids, bad = await users.put_many(world.context, world.app.id, [UserChange(external_id=f"u{n}") for n in range(5)])
    assert not bad
    first = await users.list_page(world.context, world.app.id, after=0, limit=3)
    rest = await users.list_page(world.context, world.app.id, after=first[-1].id, limit=3)
    assert [user.id for user in first + rest] == sorted(ids)


async def test_bad_changes_do_not_touch_their_neighbours(world):
    changes = [UserChange(external_id="a"), UserChange(external_id="b\0"), UserChange(external_id="c")]
    ids, bad = await users.put_many(world.context, world.app.id, changes)
    assert len(ids) == 2
    assert [fault.pointer for fault in bad[1]] == ["/external_id"]
    assert await users.put_many(world.context, world.app.id, changes[1:2]) == ([], {0: bad[1]})
    with pytest.raises(InvalidRequestError):
        await users.put(world.context, world.app.id, changes[1])


async def test_a_deleted_user_is_nobody_and_his_installs_stay(world):
    device = await world.register("i", user_id="ada")
    ada = await users.get(world.context, world.app.id, "ada")
    await users.delete(world.context, world.app.id, "ada")
    for leaf in (UserIds(["ada"]), UserNumbers([ada.id])):
        found = await audience.count(world.context, world.app.id, leaf, ALERT)
        assert found.devices == 0
        assert found.errors.unknown is not None
    assert (await world.context.store.devices.get(world.app.id, device.id)).user_id is None
    for gone in ("ada", "never was"):
        with pytest.raises(NotFoundError):
            await users.get(world.context, world.app.id, gone)
        with pytest.raises(NotFoundError):
            await users.delete(world.context, world.app.id, gone)


async def test_users_of_another_app_are_not_there(world):
    other = await world.another_app()
    await users.put(world.context, world.app.id, UserChange(external_id="ada", email="ada@example.com"))
    for command in (users.get, users.delete):
        with pytest.raises(NotFoundError):
            await command(world.context, other.app.id, "ada")
    assert await users.list_page(world.context, other.app.id, after=0, limit=10) == []
