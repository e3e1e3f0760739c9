"""Channels and segments through HTTP: who subscribes is reached, whoever else is not, across restarts of the index."""

import asyncio

import pytest

from pushd.clock import SystemClock
from pushd.commands.definitions import Definitions
from pushd.model.audience import Segment
from pushd.model.device import ALERT_KINDS
from pushd.targeting.index import Index

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def reached(tenant, phones, audience):
    """The names of the phones that a send to the audience reached."""
    before = {name: tenant.arrived(phone["token"]) for name, phone in phones.items()}
    await tenant.sent(audience)
    return "".join(name for name, phone in phones.items() if tenant.arrived(phone["token"]) > before[name])


async def test_subscriptions_of_installs_and_of_users_are_reached(tenant):
    phones = {name: await tenant.register(name, user_id=f"user-{name}") for name in "abc"}
    await tenant.server.ok("POST", "/channels", {"uuid": "news", "name": "News", "meta": {"colour": "red"}})
    await tenant.server.ok("POST", "/channels", {"uuid": "sports"})
    subscribed = await tenant.server("POST", "/channels/news/subscribe", json={"installs": ["a"], "users": ["user-b"]})
    assert subscribed.status == 204
    assert await reached(tenant, phones, {"type": "channels", "any": ["news"]}) == "ab"
    # A user's subscription covers what is registered later, an install's does not follow its user.
    phones["d"] = await tenant.register("d", user_id="user-b")
    phones["e"] = await tenant.register("e", user_id="user-a")
    assert await reached(tenant, phones, {"type": "channels", "any": ["news"]}) == "abd"
    await tenant.device.ok("PATCH", "/installs/c/channels", {"subscribe": ["sports", "news"]})
    for audience, names in (
        ({"type": "channels", "any": ["news", "sports"]}, "abcd"),
        ({"type": "channels", "all": ["news", "sports"]}, "c"),
        ({"type": "channels", "any": ["news"], "exclude": ["sports"]}, "abd"),
        ({"type": "channels", "exclude": ["news"]}, "e"),
        ({"type": "and", "of": [{"type": "channels", "any": ["news"]}, {"type": "users", "ids": ["user-b"]}]}, "bd"),
    ):
        assert await reached(tenant, phones, audience) == names
    # Tags and channels do not get into one another's way.
    await tenant.register("a", user_id="user-a", tags=["beta"], token=phones["a"]["token"])
    assert await reached(tenant, phones, {"type": "channels", "all": ["news"], "exclude": ["sports"]}) == "abd"
    assert await reached(tenant, phones, {"type": "tags", "any": ["beta"]}) == "a"
    view = await tenant.server.ok("GET", f"/devices/{phones['a']['id']}")
    assert view["tags"] == ["beta"]
    # Off again, both ways.
    gone = await tenant.server("POST", "/channels/news/unsubscribe", json={"installs": ["a", "x"], "users": ["user-b"]})
    assert (gone.status, gone.body) == (200, {"errors": {"unknown_installs": ["x"]}})
    assert await reached(tenant, phones, {"type": "channels", "any": ["news"]}) == "c"


async def test_the_index_is_rebuilt_identically(tenant, world):
    phones = {name: await tenant.register(name, user_id=f"user-{name}") for name in "abc"}
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    await tenant.server.ok("POST", "/channels/news/subscribe", {"installs": ["a"], "users": ["user-c"]})
    news = {"type": "channels", "any": ["news"]}
    await tenant.server.ok("POST", "/segments", {"uuid": "s", "name": "s", "audience": news})
    context = world.daemon.context
    index = Index(SystemClock())
    async with context.store.snapshot() as snapshot:
        async for users in context.store.users.load(snapshot):
            index.apply_users(users)
        async for devices in context.store.devices.load(snapshot):
            index.apply_devices(devices)
    await Definitions(context.store, index).load()
    for each in (index, context.index):
        found = each.resolve(tenant.app_id, Segment(id="s"), ALERT_KINDS).devices
        assert sorted(found) == sorted(phones[name]["id"] for name in "ac")


async def test_channels_are_made_changed_listed_and_deleted(tenant, world):
    made = await tenant.server("POST", "/channels", json={"uuid": "news", "name": "News", "show_in_portal": True})
    assert made.status == 201
    assert made.body["uuid"] == "news"
    again = await tenant.server("POST", "/channels", json={"uuid": "news"})
    assert (again.status, again.pointers) == (409, ["/uuid"])
    phones = {"a": await tenant.register("a")}
    await tenant.server.ok("PATCH", "/installs/a/channels", {"only": ["news"]})
    changed = await tenant.server.ok("PATCH", "/channels/news", {"uuid": "world", "meta": {"k": [1]}})
    assert (changed["uuid"], changed["name"], changed["meta"]) == ("world", "News", {"k": [1]})
    # With its new uuid it has its subscribers still.
    assert await reached(tenant, phones, {"type": "channels", "any": ["world"]}) == "a"
    listed = await tenant.server.ok("GET", "/channels")
    assert [each["uuid"] for each in listed["items"]] == ["world"]
    mine = await tenant.server.ok("GET", "/installs/a/channels")
    assert [each["uuid"] for each in mine["items"]] == ["world"]
    assert (await tenant.server("DELETE", "/channels/world")).status == 204
    assert (await tenant.server("GET", "/channels/world")).status == 404
    refused = await tenant.server(
        "POST", "/notifications", json={"audience": {"type": "channels", "any": ["world"]}, "message": {"body": "x"}}
    )
    assert (refused.status, refused.pointers) == (400, ["/audience/any/0"])
    # One of the same uuid is a new one: nobody is subscribed to it, and the old one's are relieved of it meanwhile.
    await tenant.server.ok("POST", "/channels", {"uuid": "world"})
    counted = await tenant.server.ok("POST", "/audience/count", {"audience": {"type": "channels", "any": ["world"]}})
    assert counted["devices"] == 0
    query = "SELECT count(*) FROM channels WHERE deleted_at IS NOT NULL"
    async with asyncio.timeout(60):
        while await world.daemon.store.database.fetchval(query):
            await asyncio.sleep(0.1)
    left = await world.daemon.store.database.fetchval(
        "SELECT channels FROM installs WHERE app_id = $1 AND name = 'a'", tenant.app_id
    )
    assert left is None


async def test_segments_are_evaluated_when_they_are_used(tenant):
    phones = {name: await tenant.register(name, tags=["beta"] if name != "c" else []) for name in "abc"}
    beta = {"type": "tags", "any": ["beta"]}
    await tenant.server.ok("POST", "/segments", {"uuid": "beta", "name": "Beta", "audience": beta})
    not_a = {"type": "not", "of": {"type": "devices", "ids": [phones["a"]["id"]]}}
    nested = {"type": "and", "of": [{"type": "segment", "id": "beta"}, not_a]}
    await tenant.server.ok("POST", "/segments", {"uuid": "nested", "name": "Nested", "audience": nested})
    assert await reached(tenant, phones, {"type": "segment", "id": "nested"}) == "b"
    await tenant.register("c", tags=["Beta"], token=phones["c"]["token"])
    assert await reached(tenant, phones, {"type": "segment", "id": "nested"}) == "bc"
    await tenant.server.ok("PATCH", "/segments/beta", {"audience": {"type": "broadcast"}, "name": "All"})
    assert (await tenant.server.ok("GET", "/segments/beta"))["name"] == "All"
    assert await reached(tenant, phones, {"type": "segment", "id": "nested"}) == "bc"
    circle = await tenant.server("PATCH", "/segments/beta", json={"audience": {"type": "segment", "id": "nested"}})
    assert (circle.status, circle.pointers) == (400, ["/audience"])
    unknown = await tenant.server(
        "POST", "/segments", json={"name": "x", "audience": {"type": "segment", "id": "none"}}
    )
    assert (unknown.status, unknown.pointers) == (400, ["/audience/id"])
    assert (await tenant.server("DELETE", "/segments/beta")).status == 204
    counted = await tenant.server.ok("POST", "/audience/count", {"audience": {"type": "segment", "id": "nested"}})
    assert counted["devices"] == 0


async def test_another_apps_channels_and_segments_are_not_there(tenant, world):
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    await tenant.server.ok("POST", "/segments", {"uuid": "s", "name": "s", "audience": {"type": "broadcast"}})
    await tenant.register("a", user_id="ada")
    other = await world.tenant()
    for method, path, body in (
        ("GET", "/channels/news", None),
        ("PATCH", "/channels/news", {"name": "x"}),
        ("DELETE", "/channels/news", None),
        ("POST", "/channels/news/subscribe", {"users": ["ada"]}),
        ("GET", "/installs/a/channels", None),
        ("GET", "/users/ada/channels", None),
        ("PATCH", "/users/ada/channels", {"subscribe": []}),
        ("GET", "/segments/s", None),
        ("PATCH", "/segments/s", {"name": "x"}),
        ("DELETE", "/segments/s", None),
    ):
        answer = await other.server(method, path, **({} if body is None else {"json": body}))
        assert answer.status == 404, (method, path, answer.body)
    for audience in ({"type": "channels", "any": ["news"]}, {"type": "segment", "id": "s"}):
        assert (await other.server("POST", "/audience/count", json={"audience": audience})).status == 400
    # A device key subscribes installs, never users.
    refused = await tenant.device("PATCH", "/users/ada/channels", json={"subscribe": ["news"]})
    assert refused.status == 403


async def test_subscribers_are_listed_in_pages_and_devices_are_counted(tenant):
    await tenant.server.ok("POST", "/channels", {"uuid": "news"})
    assert (await tenant.server.ok("GET", "/channels/news"))["devices"] == 0
    for name in "abcde":
        await tenant.register(name, user_id=f"user-{name}")
    await tenant.register("e2", user_id="user-e")
    users = [f"user-{name}" for name in "edc"]
    assert (
        await tenant.server("POST", "/channels/news/subscribe", json={"installs": ["b", "a", "c"], "users": users})
    ).status == 204
    assert (await tenant.server.ok("GET", "/channels/news"))["devices"] == 6
    for of, names in (("users", ["user-c", "user-d", "user-e"]), ("installs", ["a", "b", "c"])):
        page = await tenant.server.ok("GET", f"/channels/news/subscribers?of={of}&limit=2")
        rest = await tenant.server.ok("GET", f"/channels/news/subscribers?of={of}&limit=2&cursor={page['next']}")
        assert [each["name"] for each in page["items"] + rest["items"]] == names
        assert rest["next"] is None
    await tenant.server.ok("DELETE", "/users/user-d")
    page = await tenant.server.ok("GET", "/channels/news/subscribers")
    assert [each["name"] for each in page["items"]] == ["user-c", "user-e"]
    assert (await tenant.server.ok("GET", "/channels/news"))["devices"] == 5
    assert (await tenant.server("GET", "/channels/none/subscribers")).status == 404
    wrong = await tenant.server("GET", "/channels/news/subscribers?of=people")
    assert (wrong.status, wrong.pointers) == (400, ["of"])
