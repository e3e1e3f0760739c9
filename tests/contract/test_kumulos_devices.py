"""Kumulos's devices: what its SDKs for phones and browsers send, and what they read, as strictly as they read it."""

from __future__ import annotations

import asyncio
import base64
import io
import time
import zipfile
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio

from protocols.safari_package import ICONS
from pushd.model.safari import icon_field
from tests.acceptance.world import BUNDLE
from tests.contract.kumulos import IN_APP, Orchard, channel
from tests.fences import CIRCLE
from tests.protocols.test_safari_package import png

pytestmark = pytest.mark.asyncio(loop_scope="package")

CONTENT = {"title": "{{ message-title }}", "text": "{{ promotion-text }}"}


@pytest_asyncio.fixture(loop_scope="package")
async def app(tenant):
    return await Orchard.of(tenant)


async def devices(app, install_id):
    return (await app.tenant.server.ok("GET", "/devices", params={"install_id": install_id}))["items"]


# Registration


async def test_an_iphone_registers_as_its_sdk_does(app):
    phone = await app.phone().start("member-1")
    (device,) = await devices(app, phone.id)
    assert (device["kind"], device["environment"], device["bundle"]) == ("apns", "production", BUNDLE)
    assert (device["user_id"], device["platform"], device["reachable"]) == ("member-1", "ios", True)
    assert (device["time_zone"], device["locale"], device["app_version"]) == ("Europe/Berlin", "de-DE", "2.3.1")
    assert (device["os_version"], device["token_hint"]) == ("17.4", phone.token[-4:])


async def test_a_build_of_development_is_in_the_sandbox(app):
    phone = app.phone()
    await phone.tell(phone.registered(iosTokenType=2))
    assert (await devices(app, phone.id))[0]["environment"] == "sandbox"
    await phone.tell(phone.registered(iosTokenType=3))
    assert (await devices(app, phone.id))[0]["environment"] == "production"


@pytest.mark.parametrize(("number", "kind", "platform"), [(2, "fcm", "android"), (5, "hms", "huawei")])
async def test_an_android_phone_registers_as_its_sdk_does(app, number, kind, platform):
    phone = app.phone(install_id=str(uuid4()), token=f"tok:{uuid4()}")
    tracked = phone.event(
        "k.stats.installTracked",
        {
            "app": {"version": "1.0", "target": 2, "bundle": "com.example.orchard"},
            "sdk": {"id": 2, "version": "14.0.1"},
            "runtime": {"id": 1, "version": "14"},
            "os": {"id": 3, "version": "14"},
            "device": {"name": "Pixel 8", "tz": "America/New_York", "isSimulator": False, "locale": "en-US"},
        },
    )
    data = {"token": phone.token, "type": number, "package": "com.example.orchard", "areNotificationsEnabled": False}
    await phone.tell(tracked, phone.event("k.push.deviceRegistered", data))
    found = {each["kind"]: each for each in await devices(app, phone.id)}
    assert (found[kind]["platform"] == platform, found[kind]["push_enabled"]) == (True, False)
    assert (found[kind]["bundle"], found[kind]["time_zone"]) == ("com.example.orchard", "America/New_York")
    await phone.tell(phone.event("k.push.notificationEnablementChanged", {"notificationsEnabled": True}))
    assert any(each["reachable"] for each in await devices(app, phone.id))


async def test_a_browser_registers_with_its_subscription(app, monkeypatch):
    page = app.browser()
    keys = {
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    }
    token = {"endpoint": "https://fcm.googleapis.com/fcm/send/abc", "expirationTime": None, "keys": keys}
    await page.tell(page.event("k.push.deviceRegistered", {"type": 3, "token": token}))
    (device,) = await devices(app, page.id)
    assert (device["kind"], device["platform"], device["reachable"]) == ("webpush", "web", True)
    mac = app.browser()
    data = {"type": 4, "token": mac.token, "bundleId": "web.com.example.orchard"}
    await mac.tell(mac.event("k.push.deviceRegistered", data))
    (device,) = await devices(app, mac.id)
    assert (device["kind"], device["bundle"]) == ("safari", "web.com.example.orchard")


async def test_who_unsubscribed_stays_known_and_may_come_back(app):
    phone = await app.phone().start("member-1")
    await app("POST", "/channels", {"uuid": "news"})
    await phone.call("POST", "/v1/users/member-1/channels/subscriptions", {"uuids": ["news"]})
    await phone.tell(phone.event("k.push.deviceUnsubscribed"))
    (device,) = await devices(app, phone.id)
    assert (device["reachable"], device["user_id"], device["token_hint"]) == (False, "member-1", "")
    await phone.tell(phone.event("k.push.notificationEnablementChanged", {"notificationsEnabled": True}))
    assert not (await devices(app, phone.id))[0]["reachable"]
    await phone.tell(phone.registered())
    assert (await devices(app, phone.id))[0]["reachable"]
    assert await phone.channels() == {"news": True}


async def test_in_one_batch_what_came_last_holds(app):
    phone = app.phone()
    gone = phone.event("k.push.deviceUnsubscribed")
    await phone.tell(phone.registered(), gone, phone.registered(), phone.tracked())
    assert (await devices(app, phone.id))[0]["reachable"]
    await phone.tell(phone.registered(), phone.event("k.push.deviceUnsubscribed"))
    assert not (await devices(app, phone.id))[0]["reachable"]


async def test_users_come_and_go_with_their_attributes(app):
    phone = await app.phone().start()
    await phone.log_in("anna", {"plan": "gold", "visits": 3})
    await phone.log_in("anna", {"visits": 4})
    user = await app.tenant.server.ok("GET", "/users/anna")
    assert user["attributes"] == {"plan": "gold", "visits": 4}
    await phone.tell(phone.event("k.stats.userAssociationCleared", {"oldUserIdentifier": "anna"}))
    assert (await devices(app, phone.id))[0]["user_id"] is None


async def test_sdks_of_old_put_what_an_install_is(app):
    phone = app.phone()
    status, _ = await phone.call("PUT", f"/v1/app-installs/{phone.id}", phone.tracked()["data"])
    assert status == 200
    (device,) = await devices(app, phone.id)
    assert (device["time_zone"], device["reachable"]) == ("Europe/Berlin", False)


BAD = [
    None,
    7,
    [],
    {},
    {"type": None},
    {"type": "k.push.deviceRegistered"},
    {"type": "k.push.deviceRegistered", "data": {"type": 9, "token": "x"}},
    {"type": "k.push.deviceRegistered", "data": {"type": 1, "token": "not hexadecimal"}},
    {"type": "k.push.deviceRegistered", "data": {"type": 3, "token": {"endpoint": "https://[", "keys": {}}}},
    {"type": "k.push.deviceRegistered", "data": {"type": 3, "token": {"endpoint": "http://10.0.0.1/", "keys": []}}},
    {
        "type": "k.stats.installTracked",
        "data": {"device": {"tz": "Mars/Olympus", "locale": "\x00", "name": 7}, "app": 7},
    },
    {"type": "k.stats.userAssociated", "data": {"id": "x" * 256}},
    {"type": "k.stats.userAssociated", "data": {"id": None}},
    {"type": "k.engage.locationUpdated", "data": {"lat": 91, "lng": 0}},
    {"type": "k.engage.locationUpdated", "data": {"lat": "x"}, "timestamp": "yesterday"},
    {"type": "k.message.opened", "data": {"type": 1, "id": 2**40}},
    {"type": "k.message.opened", "data": {"type": 1, "id": "x"}, "timestamp": -1},
    {"type": "k.message.opened", "data": {"type": 1, "id": 999_999_999}, "timestamp": 1e300},
    {"type": "k.message.read", "data": {"type": 2, "id": 999_999_999}},
    {"type": "k.inApp.statusUpdated", "data": {"consented": "perhaps"}},
    {"type": "k.engage.beaconEnteredProximity", "data": {"type": 1, "major": 2}},
    {"type": "k.fg", "uuid": "x" * 4_000},
    {"type": "bought apples", "data": {"count": 3}},
]


async def test_no_event_is_a_reason_to_refuse_a_batch(app):
    phone = app.phone()
    await phone.tell(*BAD, phone.tracked(), *BAD, phone.registered(), *BAD)
    (device,) = await devices(app, phone.id)
    assert (device["reachable"], device["time_zone"]) == (True, "Europe/Berlin")
    for each in BAD:
        await app.phone().tell(each)


@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"own","data":{"title":"half an emoji \\ud83d"}}',
        b'{"type":"own","uuid":"\\udc00"}',
        b'{"type":"k.stats.userAssociated","data":{"id":"ada","attributes":{"name":"Ada \\ud83d"}}}',
        b'{"type":"own","data":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"type":"own","data":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}",
        b'{"type":"own","data":1e999}',
        b'{"type":"own","data":' + b"9" * 400 + b"}",
    ],
)
async def test_an_event_that_cannot_be_read_takes_no_other_with_it(app, event):
    phone = app.phone()
    batch = b",".join((orjson.dumps(phone.tracked()), event, orjson.dumps(phone.registered())))
    path = f"/v1/app-installs/{phone.id}/events"
    status, _, _ = await app.raw("POST", path, auth=app.secret, data=b"[" + batch + b"]")
    assert status == 202
    (device,) = await devices(app, phone.id)
    assert (device["reachable"], device["time_zone"]) == (True, "Europe/Berlin")
    if b"ada" in event:
        assert (await app.tenant.server.ok("GET", "/users/ada"))["attributes"] == {"name": "Ada ?"}


@pytest.mark.parametrize("body", [b"{}", b"", b"7", b"[", b"null", b'["\\ud83d",]', b"[" * 2_000])
async def test_what_is_no_batch_is_422(app, body):
    status, _, raw = await app.raw("POST", "/v1/app-installs/a/events", auth=app.secret, data=body)
    assert (status, list(orjson.loads(raw))) == (422, ["body"])


# Receipts and places


async def test_receipts_count_once_whichever_batch_they_come_in(app):
    phone = await app.phone().start()
    told = await app(
        "POST", "/v2/notifications", {"target": {"broadcast": True}, "content": {"title": "A", "message": "B"}}
    )
    number = told[1]["notification"]["id"]
    await app.pushed(phone)
    batch = [
        phone.event(f"k.message.{kind}", {"type": 1, "id": number}) for kind in ("delivered", "opened", "dismissed")
    ]
    for _ in range(3):
        await phone.tell(*batch, *batch)
    report = await app.tenant.server.ok("GET", f"/notifications/{number}/report")
    assert {name: report["events"][name]["total"] for name in ("delivered", "opened", "dismissed")} == {
        "delivered": 1,
        "opened": 1,
        "dismissed": 1,
    }
    assert len((await app("GET", f"/notifications/{number}/install-opens"))[1]) == 1


async def test_a_place_is_an_entry_of_a_geofence(app):
    phone = await app.phone().start()
    status, fence = await app("POST", "/v1/geofences", {"name": "Park", "boundsGeoJson": CIRCLE})
    assert (status, fence["activationCount"]) == (201, 0)
    past, future = time.time() - 60, time.time() + 3_600
    outside = phone.event("k.engage.locationUpdated", {"lat": 52.5, "lng": 13.4}, at=past)
    await phone.tell(outside, phone.event("k.engage.locationUpdated", {"lat": 40.7827, "lng": -73.9652}, at=future))
    async with asyncio.timeout(10):
        while (await app.tenant.server.ok("GET", f"/geofences/{fence['id']}"))["activation_count"] != 1:
            await asyncio.sleep(0.05)


# In-app messages


async def message(app, **more):
    return await app("POST", "/v1/in-app-messages", {**IN_APP, **more})


@pytest_asyncio.fixture(loop_scope="package")
async def shop(app):
    """With the sample's template."""
    body = {"name": "Fitness", "uid": "fitness-promotion", "content": CONTENT}
    status, made = await app("POST", "/v1/templates/in-app", body)
    assert (status, made["uid"], made["content"]) == (201, "fitness-promotion", CONTENT)
    assert sorted(made["dynamicContentTags"]) == ["message-title", "promotion-text"]
    return app


async def test_a_message_reaches_inbox_and_lock_screen(shop):
    phone = await shop.phone().start("anna")
    status, told = await message(shop)
    assert status == 202, told
    number = told["message"]["id"]
    (payload,) = await shop.pushed(phone)
    assert payload["aps"]["alert"] == {"title": "New Offer Available", "body": "Open our app to view your new offer!"}
    told = payload["custom"]["a"]
    assert told["k.deepLink"] == {"type": 1, "data": {"id": number}}
    assert type(told["k.message"]["data"]["id"]) is int
    (got,) = await phone.messages()
    assert (got["id"], got["presentedWhen"], got["data"]) == (number, "immediately", {"arbitrary": "data"})
    assert got["content"] == {"title": "Push Yourself", "text": "Programs from $29/mo"}
    assert got["inbox"]["title"] == "This is inbox title"
    assert (got["openedAt"], got["readAt"], got["inboxDeletedAt"]) == (None, None, None)
    assert await phone.messages("2021-01-01T00:00:00Z") == [got]
    assert await phone.messages("2099-01-01T00:00:00Z") == []


async def test_what_is_done_with_a_message_comes_back(shop):
    phone = await shop.phone().start("anna")
    number = (await message(shop, notification=None))[1]["message"]["id"]
    before = await phone.messages()
    assert [each["id"] for each in before] == [number]
    names = ("delivered", "opened", "read")
    await phone.tell(*(phone.event(f"k.message.{name}", {"type": 2, "id": number}) for name in names))
    (got,) = await phone.messages()
    assert None not in (got["openedAt"], got["readAt"])
    await phone.tell(phone.event("k.message.inbox.deleted", {"type": 2, "id": number}))
    assert await phone.messages() == []
    (gone,) = await phone.messages(before[0]["updatedAt"].replace("+", "%2B"))
    assert gone["inboxDeletedAt"] is not None
    view = await shop.tenant.server.ok("GET", f"/in-app-messages/{number}")
    assert [view["counts"][name] for name in ("delivered", "opened", "read", "deleted")] == [1, 1, 1, 1]


async def test_a_withdrawn_message_is_over_and_deleted(shop):
    phone = await shop.phone().start("anna")
    number = (await message(shop, notification=None))[1]["message"]["id"]
    await shop.tenant.server.ok("POST", f"/in-app-messages/{number}/cancel")
    assert await phone.messages() == []
    (gone,) = await phone.messages("2021-01-01T00:00:00+00:00")
    assert None not in (gone["expiresAt"], gone["inboxDeletedAt"])


async def test_an_install_without_user_has_messages_of_its_own(shop):
    phone = await shop.phone().start()
    assert (await message(shop, target={"installIds": [phone.id]}))[0] == 202
    assert len(await phone.messages()) == 1
    other = await shop.phone().start()
    assert await other.messages() == []


async def test_who_takes_no_messages_gets_none(shop):
    phone = await shop.phone().start("anna")
    await phone.tell(phone.event("k.inApp.statusUpdated", {"consented": False}))
    status, told = await message(shop, target={"userIds": ["anna"]})
    assert (status, told) == (400, {"message": None, "errors": {"unsubscribedUserIds": ["anna"]}})
    await phone.tell(phone.event("k.inApp.statusUpdated", {"consented": True}))
    assert (await message(shop, target={"userIds": ["anna"]}))[0] == 202
    assert len(await phone.messages()) == 1


async def test_nobody_is_404_and_a_wrong_time_422(app):
    phone = await app.phone().start()
    assert (await phone.call("GET", "/v1/users/nobody/messages"))[0] == 404
    for wrong in ("x", "2021-13-01T00:00:00Z", "9999-12-31T00:00:00Z"):
        status, told = await phone.call("GET", f"/v1/users/{phone.id}/messages?after={wrong}")
        assert (status, list(told)) == (422, ["after"])


# Channels


async def test_channels_of_a_user_as_mobile_sdks_keep_them(app):
    phone = await app.phone().start("anna")
    for uuid, name in (("news", "News"), ("secret", None)):
        await app("POST", "/channels", {"uuid": uuid, "name": name or "", "showInPortal": name is not None})
    assert await phone.channels() == {"news": False}
    own = "/v1/users/anna/channels/subscriptions"
    assert (await phone.call("POST", own, {"uuids": ["news", "secret"]}))[0] == 204
    assert await phone.channels() == {"news": True, "secret": True}
    assert (await phone.call("DELETE", own, {"uuids": ["news"]}))[0] == 204
    assert await phone.channels() == {"news": False, "secret": True}
    assert (await phone.call("PUT", own, {"uuids": ["news"]}))[0] == 204
    assert await phone.channels() == {"news": True}
    assert (await phone.call("PUT", own, {}))[0] == 204
    assert await phone.channels() == {"news": False}
    for method in ("POST", "PUT", "DELETE"):
        status, told = await phone.call(method, own, {"uuids": ["nowhere"]})
        assert (status, list(told)) == (404, ["error"])
        assert (await phone.call(method, own, {"uuids": "news"}))[0] == 422
        assert (await phone.call(method, "/v1/users/nobody/channels/subscriptions", {"uuids": ["news"]}))[0] == 404
    assert (await phone.call("POST", own, {}))[0] == 422


async def test_channels_of_an_install_as_browsers_keep_them(app):
    page = await app.phone().start("anna")
    await app("POST", "/channels", {"uuid": "news", "name": "News", "showInPortal": True})
    own = f"/v1/app-installs/{page.id}/channels"
    assert (await page.call("POST", f"{own}/subscriptions", {"uuids": ["news"]}))[0] == 204
    status, told = await page.call("GET", own)
    assert (status, [(each["uuid"], each["subscribed"]) for each in map(channel, told)]) == (200, [("news", True)])
    assert await page.channels() == {"news": False}  # the install's own, and not its user's
    assert (await page.call("PUT", f"{own}/subscriptions", {"uuids": []}))[0] == 204
    assert (await page.call("GET", "/v1/app-installs/nobody/channels"))[0] == 404


@pytest.mark.parametrize("field", ["userIdentifier", "installId", None])
async def test_a_device_makes_a_channel_and_may_subscribe_at_once(app, field):
    phone = await app.phone().start("anna")
    who = {"userIdentifier": "anna", "installId": phone.id}.get(field)
    body = {"uuid": "mine", "showInPortal": False, "meta": {"a": 1}} | ({} if field is None else {field: who})
    status, told = await phone.call("POST", "/v1/channels", body)
    assert (status, channel(told)["subscribed"], told["meta"]) == (201, field is not None, {"a": 1})
    path = f"/v1/app-installs/{phone.id}/channels" if field == "installId" else "/v1/users/anna/channels"
    status, listed = await phone.call("GET", path)
    assert [each["uuid"] for each in listed] == ([] if field is None else ["mine"])
    status, told = await phone.call("POST", "/v1/channels", {"uuid": "b", "userIdentifier": "nobody"})
    assert status == 404


# The rest of what SDKs ask for


async def test_a_page_finds_what_it_needs_to_subscribe(app):
    page = app.browser()
    assert (await page.call("GET", "/v1/web/config"))[0] == 404
    status, told = await app("PUT", f"/v1/apps/{app.app_id}", {"web": {"iconUrl": "https://example.com/icon.png"}})
    assert status == 200, told
    assert (status, [each["platformType"] for each in told["platformConfigs"]]) == (200, [1, 3])
    status, told = await page.call("GET", "/v1/web/config")
    assert (status, len(told["publicKey"]), told["iconUrl"]) == (200, 87, "https://example.com/icon.png")
    assert (told["prompts"], told["safariPushId"]) == ({}, None)


async def test_safari_gets_a_package_at_the_api_key(app):
    site, server = "web.com.example", app.tenant.server
    p12 = base64.b64encode(app.tenant.simulator.identity.p12((site,), "apple")).decode()
    safari = {
        "p12": p12,
        "password": "apple",
        "iconUrl": "https://example.com/a.png",
        "siteUrl": "https://example.com/x",
    }
    status, told = await app("PUT", f"/v1/apps/{app.app_id}", {"safari": safari})
    assert (status, [each["platformType"] for each in told["platformConfigs"]]) == (200, [1, 4]), told
    path = f"/safari/{app.secret[0]}/v2"
    assert (await app.raw("POST", f"{path}/pushPackages/{site}", data=b"{}"))[0] == 404
    icons = {icon_field(name): base64.b64encode(png(side)).decode() for name, side in ICONS.items()}
    wanted = {
        "website_name": "Orchard",
        "allowed_domains": ["https://example.com"],
        "web_service_url": f"https://push.example.com/safari/{app.secret[0]}",
        "icons": icons,
    }
    await server.ok("PUT", f"/safari/sites/{site}", wanted)
    status, headers, raw = await app.raw("POST", f"{path}/pushPackages/{site}", data=b"{}")
    assert (status, headers["Content-Type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        website = orjson.loads(archive.read("website.json"))
    assert (website["websitePushID"], website["webServiceURL"]) == (site, wanted["web_service_url"])
    mac = app.browser()
    for method in ("POST", "DELETE"):
        assert (await app.raw(method, f"{path}/devices/{mac.token}/registrations/{site}"))[0] == 200
    await mac.tell(mac.event("k.push.deviceRegistered", {"type": 4, "token": mac.token, "bundleId": site}))
    assert (await app.raw("POST", f"{path}/devices/{mac.token}/registrations/{site}"))[0] == 200
    assert (await devices(app, mac.id))[0]["reachable"]
    assert (await app.raw("POST", f"/safari/nobody/v2/pushPackages/{site}", data=b"{}"))[0] == 404


async def test_crash_reports_are_taken_and_links_are_not_there(app):
    status, _, _ = await app.raw("POST", "/v1/track/KEY/kscrash/ID", headers={"Host": "crash.kumulos.com"}, data=b"x")
    assert status == 200
    status, _, raw = await app.raw("GET", "/v1/deeplinks/abc", headers={"Host": "links.kumulos.com"})
    assert (status, list(orjson.loads(raw))) == (404, ["error"])
