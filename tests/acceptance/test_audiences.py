"""Sends by what is known of devices and users: through HTTP to the gateway, with exactly the right devices reached."""

import pytest
import pytest_asyncio

from tests.acceptance.test_past import restart
from tests.acceptance.world import running

pytestmark = pytest.mark.asyncio(loop_scope="package")

PHONES = {
    "a": {
        "user_id": "ann",
        "platform": "ios",
        "os_version": "17.4.1",
        "app_version": "1.10.0",
        "locale": "pt_BR",
        "country": "BR",
        "time_zone": "America/Sao_Paulo",
        "alias": "kitchen",
    },
    "b": {
        "user_id": "bob",
        "platform": "macos",
        "os_version": "14",
        "app_version": "1.9",
        "locale": "pt-PT",
        "country": "PT",
        "time_zone": "Europe/Lisbon",
        "alias": "kitchen",
    },
    "c": {"platform": "ios", "os_version": "17.4", "app_version": "1.10.0-beta.3", "locale": "de", "alias": "Kitchen"},
    "d": {},
}
USERS = {
    "ann": {
        "email": "Ann@Example.com",
        "attributes": {"plan": "pro", "age": 41, "since": "2026-03-01T00:00:00Z", "beta": True, "langs": ["pt", "en"]},
    },
    "bob": {
        "email": "ann@example.com",
        "attributes": {"plan": "free", "age": 9.5, "since": "2026-03-01T02:00:00+02:00", "address": {"city": "Porto"}},
    },
}


def attribute(name, op, **value):
    return {"type": "attribute", "name": name, "op": op, **value}


AUDIENCES = [
    ({"type": "user_emails", "emails": ["ANN@example.com"]}, "ab"),
    ({"type": "aliases", "names": ["kitchen"]}, "ab"),
    ({"type": "aliases", "names": ["Kitchen"]}, "c"),
    ({"type": "platform", "any": ["ios"]}, "ac"),
    ({"type": "environment", "is": "production"}, "abcd"),
    ({"type": "environment", "is": "sandbox"}, ""),
    ({"type": "kind", "any": ["apns"]}, "abcd"),
    ({"type": "app_version", "op": "gte", "value": "1.10"}, "a"),
    ({"type": "app_version", "op": "lt", "value": "1.10"}, "bc"),
    ({"type": "os_version", "op": "gt", "value": "14.0"}, "ac"),
    ({"type": "os_version", "op": "ne", "value": "17.4"}, "ab"),
    ({"type": "locale", "any": ["PT-br"]}, "a"),
    ({"type": "language", "any": ["pt"]}, "ab"),
    ({"type": "country", "any": ["br", "pt"]}, "ab"),
    ({"type": "time_zone", "any": ["Europe/Lisbon"]}, "b"),
    ({"type": "seen", "which": "last", "within_days": 1}, "abcd"),
    ({"type": "seen", "which": "first", "since": 1_700_000_000}, "abcd"),
    ({"type": "user_known", "is": False}, "cd"),
    ({"type": "not", "of": {"type": "push_enabled", "is": False}}, "abcd"),
    (attribute("plan", "eq", value="pro"), "a"),
    (attribute("plan", "in", value=["free", "pro", 7]), "ab"),
    (attribute("age", "lt", value=41), "b"),
    (attribute("age", "ne", value="41"), ""),
    (attribute("since", "eq", value="2026-03-01T01:00:00+01:00"), "ab"),
    (attribute("beta", "eq", value=True), "a"),
    (attribute("beta", "eq", value=1), ""),
    (attribute("langs", "contains", value="en"), "a"),
    (attribute("plan", "starts_with", value="fr"), "b"),
    (attribute("address", "exists"), "b"),
    (attribute("address", "eq", value="Porto"), ""),
    (
        {
            "type": "and",
            "of": [
                {"type": "or", "of": [{"type": "platform", "any": ["ios"]}, attribute("plan", "eq", value="free")]},
                {"type": "not", "of": {"type": "language", "any": ["de"]}},
                {"type": "seen", "which": "last", "within_days": 2},
            ],
        },
        "ab",
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def own():
    async with running() as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def phones(own):
    tenant = await own.tenant()
    registered = {name: await tenant.register(name, **fields) for name, fields in PHONES.items()}
    for name, fields in USERS.items():
        await tenant.server.ok("PUT", f"/users/{name}", fields)
    off = await tenant.register("off", platform="ios", alias="kitchen")
    await tenant.server.ok("PATCH", f"/devices/{off['id']}", {"push_enabled": False})
    return tenant, registered


async def reached(tenant, registered, audience, **more):
    """The names of the phones that got it."""
    before = {name: tenant.arrived(phone["token"]) for name, phone in registered.items()}
    view = await tenant.sent(audience, **more)
    got = "".join(name for name, phone in registered.items() if tenant.arrived(phone["token"]) > before[name])
    assert view["counts"]["accepted"] == view["counts"]["targeted"]
    return got


@pytest.mark.parametrize("again", [False, True], ids=["live", "loaded"])
async def test_each_leaf_reaches_exactly_the_right_devices(own, phones, again):
    tenant, registered = phones
    if again:
        await restart(own)
    for audience, names in AUDIENCES:
        counted = await tenant.server.ok("POST", "/audience/count", {"audience": audience})
        assert counted["devices"] == len(names), audience
        assert await reached(tenant, registered, audience) == names, audience


async def test_what_a_device_is_shows_in_it_and_changes_whom_a_leaf_reaches(own):
    tenant = await own.tenant()
    phone = await tenant.register("x", os_version="17", country="FR", alias="desk")
    assert (phone["os_version"], phone["country"], phone["alias"]) == ("17", "FR", "desk")
    assert phone["first_seen_at"] == phone["registered_at"]
    changed = await tenant.server.ok("PATCH", f"/devices/{phone['id']}", {"country": None, "alias": "lamp"})
    assert (changed["os_version"], changed["country"], changed["alias"]) == ("17", None, "lamp")
    named = {"audience": {"type": "aliases", "names": ["desk", "lamp"]}}
    found = await tenant.server.ok("POST", "/audience/count", named)
    assert (found["devices"], found["errors"]["unknown"]) == (1, {"aliases": ["desk"]})
    found = await tenant.server.ok("POST", "/audience/count", {"audience": {"type": "country", "any": ["FR"]}})
    assert found["devices"] == 0


async def test_voip_where_subscribed_and_an_alert_elsewhere(own):
    tenant = await own.tenant()
    everyone = {
        "both": await tenant.register("both", user_id="ann"),
        "voip": await tenant.register("both", kind="apns_voip"),
        "tablet": await tenant.register("tablet", user_id="ann"),
        "alone": await tenant.register("alone", user_id="bob"),
        "nobody": await tenant.register("nobody"),
        "ringing": await tenant.register("nobody", kind="apns_voip"),
    }
    wanted = {"type": "preferred_kind", "of": {"type": "broadcast"}, "kinds": ["apns_voip", "apns"]}
    call = {"push_type": "voip", "data": {"call": 1}}
    assert await reached(tenant, everyone, wanted, message=call) == "voipringing"
    assert await reached(tenant, everyone, wanted) == "alone"


async def test_an_audience_that_makes_no_sense_is_refused_at_its_place(own):
    tenant = await own.tenant()
    for leaf, place in (
        ({"type": "seen", "which": "last"}, ""),
        (attribute("plan", "eq"), "/value"),
        (attribute("plan", "exists", value=1), "/value"),
        (attribute("plan", "in", value="pro"), "/value"),
        (attribute("plan", "contains", value=7), "/value"),
    ):
        answer = await tenant.server("POST", "/audience/count", json={"audience": {"type": "not", "of": leaf}})
        assert (answer.status, answer.pointers) == (400, [f"/audience/of{place}"]), answer.body


async def test_attributes_have_limits_that_are_named(own):
    tenant = await own.tenant()
    answer = await tenant.server("PUT", "/users/ann", json={"attributes": {"bio": "x" * 2_000, "n/a": [0] * 200}})
    assert (answer.status, answer.pointers) == (400, ["/attributes/bio", "/attributes/n~1a"])
    answer = await tenant.server("PUT", "/users/ann", json={"attributes": {f"a{at}": at for at in range(200)}})
    assert answer.pointers == ["/attributes"]
