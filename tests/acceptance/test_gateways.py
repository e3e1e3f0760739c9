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


def website(world, *, password="apple", topic="web.com.example", **more):
    p12 = world.simulator.identity.p12((topic,), "apple")
    return {"p12": base64.b64encode(p12).decode(), "password": password, **more}


async def test_s02_a_website_of_safari(world, key):
    tenant = await world.tenant(credential=False)
    await tenant.server.ok("PUT", "/gateways", {"ios": key})
    before = await platforms(tenant)
    site = website(world, icon_url="https://example.com/icon.png", site_url="https://example.com/")
    told = await tenant.server.ok("PUT", "/gateways", {"safari": site})
    assert [each["platform"] for each in told["platforms"]] == ["ios", "safari"]
    assert (await platforms(tenant))["ios"] == before["ios"]
    (credential,) = [
        each for each in (await tenant.server.ok("GET", "/credentials"))["items"] if each["gateway"] == "safari"
    ]
    assert credential["summary"]["topics"] == "web.com.example"
    assert credential["summary"]["url_format"] == "https://example.com/%@"
    settings = (await tenant.admin.ok("GET", f"/apps/{tenant.app_id}"))["settings"]
    assert (settings["icon"], settings["site_url"]) == ("https://example.com/icon.png", "https://example.com/")

    # A renewed certificate keeps the format that browsers know; one that is named takes its place.
    for more, expected in (
        ({"site_url": "https://example.com/shop"}, "https://example.com/%@"),
        ({"url_format": "https://example.com/%@/%@"}, "https://example.com/%@/%@"),
        ({}, "https://example.com/%@/%@"),
    ):
        await tenant.server.ok("PUT", "/gateways", {"safari": website(world, **more)})
        shown = await tenant.server.ok("GET", f"/credentials/{credential['id']}")
        assert shown["summary"]["url_format"] == expected


async def test_s02_faults_of_a_website_point_into_the_body(world):
    tenant = await world.tenant(credential=False)
    for site, pointer in (
        (website(world, password="pear"), "/safari/password"),
        (website(world, topic="com.example.orchard"), "/safari/p12"),
        (website(world) | {"p12": "!"}, "/safari/p12"),
        (website(world, url_format="nonsense"), "/safari/url_format"),
        (website(world, site_url="https://example.com/" + "é"), "/safari/site_url"),
        ({"password": "apple"}, "/safari/p12"),
    ):
        refused = await tenant.server("PUT", "/gateways", json={"safari": site})
        assert (refused.status, refused.pointers) == (400, [pointer]), pointer
    assert await platforms(tenant) == {}


async def test_the_legacy_server_key_is_taken_and_not_used(world):
    tenant = await world.tenant(credential=False)
    told = await tenant.server.ok("PUT", "/gateways", {"android": {"server_key": "AAAAeVHrnes:APA91bGpsKN"}})
    assert told["platforms"] == []


async def test_every_field_of_a_product_teams_configuration_is_taken(world, key, account):
    """The whole of such a body at once, each platform with all that it may say; p8 and p12 are two bodies."""
    tenant = await world.tenant(credential=False)
    identity = {name: account[name] for name in ("project_id", "private_key_id", "private_key", "client_email")}
    google = identity | {
        "client_id": "289585204963045939329",
        "auth_uri": "https://accounts.example/o/oauth2/auth",
        "token_uri": "https://oauth2.example/token",
        "auth_provider_x509_cert_url": "https://certs.example/oauth2/v1/certs",
        "client_x509_cert_url": "https://certs.example/robot/v1/metadata/x509/a",
    }
    p12 = base64.b64encode(world.simulator.identity.p12((BUNDLE,), "apple")).decode()
    body = {
        "android": {"server_key": "AAAAeVHrnes:APA91bGpsKN", "service_account": google},
        "ios": {"p12": p12, "password": "apple", "mode": "sandbox"},
        "web": {"icon_url": "https://example.com/icon.png", "subject": "mailto:push@example.com"},
        "huawei": {"app_id": 100000001, "app_id_password": "secret"},
        "safari": website(world, icon_url="https://example.com/other.png", site_url="https://example.com"),
    }
    told = await tenant.server.ok("PUT", "/gateways", body)
    assert [each["platform"] for each in told["platforms"]] == ["ios", "android", "web", "huawei", "safari"]
    assert all(each["created_at"] <= each["updated_at"] for each in told["platforms"])
    environments = {
        each["gateway"]: each["environment"] for each in (await tenant.server.ok("GET", "/credentials"))["items"]
    }
    assert environments["apns"] == "sandbox"
    settings = (await tenant.admin.ok("GET", f"/apps/{tenant.app_id}"))["settings"]
    assert settings["icon"] == "https://example.com/icon.png"
    ios = {"p8": base64.b64encode(key["p8"].encode()).decode()} | {name: key[name] for name in key if name != "p8"}
    await tenant.server.ok("PUT", "/gateways", {"ios": ios})
