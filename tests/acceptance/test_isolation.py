"""Every route of the API, asked with another app's key for what is not its: as absent as what never was.

The tables below name every operation. A new one fails `test_every_operation_is_in_the_tables` until it has its row: in
`NAMED`, what a parameter of its path stands for, with one in `made`; or in one of the sets of those that name nothing.
"""

from __future__ import annotations

import itertools
import re

import orjson
import pytest
import pytest_asyncio

from pushd.api.native import OPERATIONS
from pushd.model.app import Role
from pushd.model.safari import SiteSettings
from tests.acceptance.world import BUNDLE

pytestmark = pytest.mark.asyncio(loop_scope="package")

MARK = "mine-7c1f"
"""In everything that the first tenant has a name for."""

NAMED = {
    "/notifications/{notification_id}": "notification",
    "/notifications/{notification_id}/devices/{device_id}": "device",
    "/schedules/{schedule_id}": "schedule",
    "/webhooks/{webhook_id}": "webhook",
    "/webhooks/{webhook_id}/letters/{letter_id}": "letter",
    "/devices/{device_id}": "device",
    "/live-activity-channels/{channel}": "live_activity_channel",
    "/users/{external_id}": "user",
    "/erasures/{erasure_id}": "erasure",
    "/channels/{uuid}": "channel",
    "/installs/{install_id}": "install",
    "/installs/{install_id}/inbox/{message_id}": "in_app_message",
    "/users/{external_id}/inbox/{message_id}": "in_app_message",
    "/in-app-messages/{message_id}": "in_app_message",
    "/imports/{import_id}": "import",
    "/imports/{import_id}/parts/{part}": "part",
    "/segments/{uuid}": "segment",
    "/templates/{uid}": "template",
    "/geofences/{geofence_id}": "geofence",
    "/credentials/{credential_id}": "credential",
    "/safari/sites/{website_push_id}": "safari_site",
    "/apps/{app_id}": "app",
    "/keys/{key_id}": "key",
    "/vendor-keys/{key_id}": "vendor_key",
}
"""What stands in a path, by the path up to there."""
NUMBERS = {"part"}
"""Numbers of things within another, that are no ids."""
MAKES_ITS_OWN = {"putUser", "putSafariSite"}
"""The path names what is made; under another key it is another."""
LISTS = {
    *("listNotifications", "listPushTags", "listSchedules", "listWebhooks", "listDevices", "listLiveActivityChannels"),
    "listInAppMessages",
    *("listUsers", "listErasures", "listChannels", "listImports", "listSegments", "listTemplates", "listGeofences"),
    *("listCredentials", "showGateways", "listSafariSites", "listKeys", "listVendorKeys"),
}
"""They show what the key's app has."""
QUERIES = {"comparePushTags": {"tag": MARK}, "getRetirements": {}, "readSafariLog": {}, "listEvents": {}}
"""They show figures, or what happened, of the key's app."""
STREAMS = {"streamEvents"}
"""As `listEvents`, without end."""
MAKE = {
    *("send", "sendArray", "beaconKey", "createWebhook", "registerDevice", "registerDevices", "putUsers"),
    *("createLiveActivityChannel", "createChannel", "createImport", "createSegment", "createTemplate"),
    "checkImport",
    *("createGeofence", "reviveDevices", "createCredential", "configureGateways", "createKey", "createVendorKey"),
    *("countAudience", "sampleAudience", "exportAudience", "takeReceipts", "createInAppMessage"),
}
"""They make something of the key's app, or look at it; what their bodies name is asked for below."""
ADMINISTER = {"createApp", "listApps", "deleteApp", "checkIndex"}
"""For the operator alone."""

BY_NAME = {each.name: each for each in OPERATIONS}
WITHOUT = LISTS | set(QUERIES) | STREAMS | MAKE | ADMINISTER


def named(operation):
    """(Parameter, what it stands for) of the path of an operation."""
    for found in re.finditer(r"\{(\w+)\}", operation.path):
        yield found[1], NAMED.get(operation.path[: found.end()])


ASKED = [each for each in OPERATIONS if each.path_params and each.name not in MAKES_ITS_OWN | ADMINISTER]


async def test_every_operation_is_in_the_tables():
    for operation in OPERATIONS:
        if operation.path_params:
            assert all(what is not None for _, what in named(operation)), f"{operation.name}: add its path to NAMED"
        else:
            assert operation.name in WITHOUT, f"{operation.name}: what does it name? Add it to a table"
    assert set(BY_NAME) >= WITHOUT | MAKES_ITS_OWN
    assert {BY_NAME[name].roles for name in ADMINISTER} == {frozenset({Role.ADMIN})}


async def made(tenant, mark):
    """One of everything, with names that hold the mark; by what the tables call it."""
    ok, app = tenant.server.ok, tenant.server
    things = {"app": tenant.app_id, "user": f"{mark}-user", "install": f"{mark}-install", "part": 1}
    device = await tenant.register(things["install"], user_id=things["user"], tags=[mark])
    things["device"] = device["id"]
    await ok("PUT", f"/devices/{device['id']}/location", {"latitude": 40.7827647, "longitude": -73.9652551})
    things["live_activity_channel"] = (await ok("POST", "/live-activity-channels", {"bundle": BUNDLE}))["id"]
    things["channel"] = (await ok("POST", "/channels", {"uuid": f"{mark}-channel", "name": mark}))["uuid"]
    await ok("POST", f"/channels/{things['channel']}/subscribe", {"users": [things["user"]]})
    audience = {"type": "users", "ids": [things["user"]]}
    segment = {"uuid": f"{mark}-segment", "name": mark, "audience": audience}
    things["segment"] = (await ok("POST", "/segments", segment))["uuid"]
    template = {"uid": f"{mark}-template", "name": mark, "message": {"title": mark}}
    things["template"] = (await ok("POST", "/templates", template))["uid"]
    things["geofence"] = (await ok("POST", "/geofences", BY_NAME["createGeofence"].example | {"name": mark}))["id"]
    things["import"] = (await ok("POST", "/imports", {"job": {"type": "users"}}))["id"]
    things["webhook"] = (await ok("POST", "/webhooks", {"url": "https://hooks.example.com/x", "name": mark}))[
        "webhook"
    ]["id"]
    things["vendor_key"] = (await ok("POST", "/vendor-keys", {"dialect": "gravitec", "name": mark}))["key"]["id"]
    things["credential"] = (await ok("GET", "/credentials"))["items"][0]["id"]
    things["key"] = (await ok("GET", "/keys"))["items"][0]["id"]
    in_app = {"audience": audience, "content": {"title": mark}, "presented_when": "immediately", "ttl": {"days": 1}}
    things["in_app_message"] = (await ok("POST", "/in-app-messages", in_app))["id"]
    view = await tenant.sent(audience, {"title": mark}, push_tag=mark, name=mark)
    things["notification"] = view["id"]
    later = {"schedule": {"strategy": "utc", "send_at": "2100-01-01T00:00:00Z", "past_times": "ignore"}}
    wanted = {"audience": audience, "message": {"title": mark}, **later}
    things["schedule"] = (await ok("POST", "/notifications", wanted))["id"]
    await tenant.register(f"{mark}-gone", user_id=f"{mark}-gone")
    things["erasure"] = (await ok("POST", f"/users/{mark}-gone/erase"))["id"]
    await ok("POST", "/receipts", {"install_id": things["install"], "receipts": [opened(view["id"])]})
    assert app is tenant.server
    return things


def opened(notification_id):
    return {"id": "a", "notification_id": notification_id, "event": "opened"}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def tenants(shared_world):
    """Two tenants that have one of everything, and what: mine first."""
    mine, theirs = await shared_world.tenant(), await shared_world.tenant()
    things = [await made(mine, MARK), await made(theirs, "theirs-9a")]
    for own, mark in zip(things, (MARK, "theirs-9a"), strict=True):
        own["safari_site"] = f"web.com.example.{mark}"
        settings = SiteSettings(
            website_name=mark, allowed_domains=["https://example.com"], web_service_url="https://example.com"
        )
        await shared_world.daemon.store.safari_sites.put(own["app"], own["safari_site"], settings, [b"x"] * 6)
        own["letter"] = await shared_world.daemon.store.database.fetchval(
            "INSERT INTO webhook_letters (webhook_id, event_id, part, type, at, attempts, failure, died_at)"
            " VALUES ($1, 1, 0, 1, now(), 1, 'x', now()) RETURNING id",
            own["webhook"],
        )
    return mine, theirs, things


def never(what, things):
    """What never was, of the same form."""
    if what == "safari_site":
        return "web.com.example.never-was"
    return 2_000_000_000 if isinstance(things[what], int) else "never-was"


def request(operation, values):
    """Method, path and body of a request that would be in order."""
    path = operation.path
    for (name, _), value in zip(named(operation), values, strict=True):
        path = path.replace("{" + name + "}", str(value))
    if operation.media:
        return operation.method, path, {"data": b"x\n", "headers": {"Content-Type": min(operation.media)}}
    body = operation.example if operation.body is not None else None
    return operation.method, path, {} if body is None else {"json": body}


@pytest.mark.parametrize("operation", ASKED, ids=lambda each: each.name)
async def test_what_another_has_is_as_absent_as_what_never_was(tenants, operation):
    _, theirs, (his, own) = tenants
    params = [what for _, what in named(operation)]
    foreign = [what for what in params if what not in NUMBERS]
    for chosen in itertools.product((his, own), repeat=len(foreign)):
        if all(things is own for things in chosen):
            continue
        by_name = dict(zip(foreign, chosen, strict=True))
        values = [by_name.get(what, own)[what] for what in params]
        absent = [never(what, own) if by_name.get(what) is his else own[what] for what in params]
        method, path, options = request(operation, values)
        asked = await theirs.server(method, path, **options)
        method, path, options = request(operation, absent)
        unknown = await theirs.server(method, path, **options)
        assert (asked.status, asked.body) == (unknown.status, unknown.body), path
        assert asked.status == 404, (path, asked.body)
        assert asked.body["detail"] != "There is nothing at this path"
        if Role.DEVICE in operation.roles and "device" in by_name:
            named_install = {"params": {"install_id": his["install"]}}
            method, path, options = request(operation, values)
            posed = await theirs.device(method, path, **options, **named_install)
            assert (posed.status, posed.body) == (404, unknown.body)


@pytest.mark.parametrize("operation", [each for each in ASKED if each.method == "GET"], ids=lambda each: each.name)
async def test_what_one_has_oneself_is_there(tenants, operation):
    """Or the absence above would say nothing."""
    mine, _, (his, _) = tenants
    method, path, options = request(operation, [his[what] for _, what in named(operation)])
    assert (await mine.server(method, path, **options)).status == 200, path


@pytest.mark.parametrize("name", sorted(LISTS | set(QUERIES)))
async def test_listings_show_ones_own(tenants, name):
    mine, theirs, (his, own) = tenants
    operation = BY_NAME[name]
    query = QUERIES.get(name, {})
    shown = await mine.server.ok("GET", operation.path, params=query)
    other = await theirs.server.ok("GET", operation.path, params=query)
    text = orjson.dumps(other).decode()
    if name != "comparePushTags":
        assert MARK not in text
    else:
        assert other["items"][0]["notifications"] == 0
    ids = {each.get("id") for each in other.get("items", ()) if isinstance(each, dict)} - {None}
    mine_ids = {each.get("id") for each in shown.get("items", ()) if isinstance(each, dict)} - {None}
    assert not ids & mine_ids
    assert name not in LISTS or bool(shown.get("items", True))
    assert his["app"] != own["app"]


@pytest.mark.parametrize("name", sorted(ADMINISTER))
async def test_the_operators_are_for_the_operator(tenants, name):
    mine, theirs, (his, _) = tenants
    method, path, options = request(BY_NAME[name], [his[what] for _, what in named(BY_NAME[name])])
    for key in (mine.server, theirs.server, theirs.device):
        assert (await key(method, path, **options)).status == 403


AUDIENCES = {
    "devices": ("device", lambda value: {"type": "devices", "ids": [value]}),
    "users": ("user", lambda value: {"type": "users", "ids": [value]}),
    "installs": ("install", lambda value: {"type": "installs", "ids": [value]}),
    "segment": ("segment", lambda value: {"type": "segment", "id": value}),
    "channels": ("channel", lambda value: {"type": "channels", "any": [value]}),
    "geofences": ("geofence", lambda value: {"type": "geofence", "ids": [value]}),
    "outcome": ("notification", lambda value: {"type": "outcome", "notification_id": value, "is": "opened"}),
}


@pytest.mark.parametrize("kind", sorted(AUDIENCES))
async def test_audiences_that_name_anothers_find_nobody(tenants, kind):
    mine, theirs, (his, _) = tenants
    what, audience = AUDIENCES[kind]

    async def asked(key, value):
        """What each way to use an audience answers, with the value taken out."""
        bodies = [
            ("/audience/count", {"audience": audience(value)}),
            ("/audience/sample", {"audience": audience(value), "seed": 1}),
            ("/notifications", {"audience": audience(value), "message": {"title": "x"}}),
        ]
        answers = [await key("POST", path, json=body) for path, body in bodies]
        # An id of the send would differ; what was named is told where it is unknown.
        shown = f"[{orjson.dumps(value).decode()}]"
        texts = [orjson.dumps(each.body | {"id": 0}).decode().replace(shown, "[]") for each in answers]
        return [(each.status, text) for each, text in zip(answers, texts, strict=True)]

    assert await asked(theirs.server, his[what]) == await asked(theirs.server, never(what, his))
    assert (await mine.server("POST", "/audience/count", json={"audience": audience(his[what])})).body["devices"] == 1


async def test_bodies_that_name_anothers_do_nothing_to_them(tenants):
    mine, theirs, (his, _) = tenants
    counts = []
    for number in (his["notification"], 2_000_000_000):
        body = {"install_id": his["install"], "receipts": [opened(number) | {"id": "stolen"}]}
        counts.append(await theirs.server.ok("POST", "/receipts", body))
    assert counts == [{"taken": 0, "repeated": 0, "unknown": 1}] * 2
    job = [{"job": {"type": "subscribe", "channel": each}} for each in (his["channel"], "never-was")]
    by_template = [
        {"audience": {"type": "broadcast"}, "template": {"uid": each}} for each in (his["template"], "never-was")
    ]
    for path, bodies in (("/imports", job), ("/notifications", by_template)):
        asked, unknown = [await theirs.server("POST", path, json=body) for body in bodies]
        assert (asked.status, asked.body) == (unknown.status, unknown.body)
        assert 400 <= asked.status < 500
    assert (await mine.server.ok("GET", f"/notifications/{his['notification']}/report"))["opens"]["total"] == 1
