"""The gateway configuration of an app as one body: put platform by platform, whole or not at all, and shown."""

import base64

import pytest

from pushd.simulator.fcm_oauth import TokenServer
from tests.acceptance.world import BUNDLE

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.fixture
def key(world):
    """The simulator's p8 key and its ids."""
    identity = world.simulator.identity
    (known,) = identity.keys.values()
    return {"p8": identity.pem(known.key_id), "key_id": known.key_id, "team_id": known.team_id, "bundle_id": BUNDLE}


@pytest.fixture
def account(world):
    """A service account's key file."""
    return TokenServer(world.simulator.identity, world.daemon.clock).account("orchard").key_file


async def platforms(tenant):
    return {each["platform"]: each for each in (await tenant.server.ok("GET", "/gateways"))["platforms"]}


async def test_platforms_are_configured_one_by_one_and_the_others_stay(world, key, account):
    tenant = await world.tenant(credential=False)
    assert await platforms(tenant) == {}
    told = await tenant.server.ok("PUT", "/gateways", {"ios": key})
    assert [each["platform"] for each in told["platforms"]] == ["ios"]
    assert len(told["platforms"][0]["credentials"]) == 2  # a p8 key serves both environments
    body = {
        "android": {"service_account": account, "server_key": "AAAAeVHrnes:APA91bGpsKN"},
        "web": {"icon_url": "https://example.com/icon.png", "subject": "mailto:push@example.com"},
        "huawei": {"app_id": 100000001, "app_id_password": "secret"},
    }
    await tenant.server.ok("PUT", "/gateways", body)
    first = await platforms(tenant)
    assert set(first) == {"ios", "android", "web", "huawei"}
    listed = (await tenant.server.ok("GET", "/credentials"))["items"]
    assert {each["gateway"] for each in listed} == {"apns", "fcm", "webpush", "hms"}
    settings = (await tenant.admin.ok("GET", f"/apps/{tenant.app_id}"))["settings"]
    assert (settings["icon"], settings["default_title"]) == ("https://example.com/icon.png", "Orchard")

    tokens = await tenant.register_many(3)
    assert (await tenant.sent())["counts"]["accepted"] == len(tokens)

    await tenant.server.ok("PUT", "/gateways", {"huawei": {"app_id": "100000002", "app_id_password": "other"}})
    again = await platforms(tenant)
    assert {name: each["credentials"] for name, each in again.items()} == {
        name: each["credentials"] for name, each in first.items()
    }
    assert again["huawei"]["updated_at"] > first["huawei"]["updated_at"]
    assert {name: again[name] for name in ("ios", "android", "web")} == {
        name: first[name] for name in ("ios", "android", "web")
    }


async def test_browsers_keep_their_key_when_only_the_contact_changes(world):
    tenant = await world.tenant(credential=False)
    keys = []
    for web in ({"subject": "mailto:a@example.com"}, {"subject": "mailto:b@example.com"}, {}):
        await tenant.server.ok("PUT", "/gateways", {"web": web})
        (credential,) = (await tenant.server.ok("GET", "/credentials"))["items"]
        keys.append((credential["summary"]["public_key"], credential["summary"]["subject"]))
    assert len({key for key, _ in keys}) == 1
    assert [subject for _, subject in keys] == ["mailto:a@example.com", "mailto:b@example.com", "mailto:b@example.com"]


async def test_a_certificate_in_base64_serves_what_it_is_marked_for(world):
    tenant = await world.tenant(credential=False)
    p12 = world.simulator.identity.p12((BUNDLE,), "apple")
    ios = {"p12": base64.b64encode(p12).decode(), "password": "apple", "mode": "production"}
    await tenant.server.ok("PUT", "/gateways", {"ios": ios})
    (credential,) = (await tenant.server.ok("GET", "/credentials"))["items"]
    assert (credential["environment"], credential["summary"]["type"]) == ("production", "apns_certificate")


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"p12": "AAAA"}, ["/ios/p12"]),
        ({"p8": None}, ["/ios/p8"]),
        ({"p8": None, "p12": "AAAA"}, ["/ios/p12"]),
        ({"p8": "not a key"}, ["/ios/p8"]),
        ({"p8": base64.b64encode(b"-----BEGIN nonsense").decode()}, ["/ios/p8"]),
        ({"key_id": None, "team_id": None}, ["/ios/key_id", "/ios/team_id"]),
        ({"mode": "testing"}, ["/ios/mode"]),
    ],
)
async def test_faults_point_into_the_body_and_nothing_is_put(world, key, change, pointers):
    tenant = await world.tenant(credential=False)
    ios = {name: value for name, value in (key | change).items() if value is not None}
    web = {"subject": "mailto:push@example.com"}
    refused = await tenant.server("PUT", "/gateways", json={"web": web, "ios": ios})
    assert (refused.status, refused.pointers) == (400, pointers)
    assert await platforms(tenant) == {}


async def test_a_service_account_that_is_none(world, account):
    tenant = await world.tenant(credential=False)
    for field, value in (("private_key", "nonsense"), ("client_email", "nobody")):
        body = {"android": {"service_account": account | {field: value}}}
        refused = await tenant.server("PUT", "/gateways", json=body)
        assert (refused.status, refused.pointers) == (400, [f"/android/service_account/{field}"])
    assert (await tenant.server("PUT", "/gateways", json={"web": {}})).pointers == ["/web/subject"]
