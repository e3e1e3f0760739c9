"""Kumulos's SDKs replayed from the first launch on: Android over FCM, a browser over Web Push, and what each reads."""

from __future__ import annotations

import asyncio
import base64
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio

from tests.contract.cube import until, vendors
from tests.contract.kumulos import Orchard, channel
from tests.pushd.content import clients

pytestmark = pytest.mark.asyncio(loop_scope="package")

PACKAGE = "com.example.orchard"


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def behind():
    async with vendors() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="package")
async def app(behind):
    customer = await behind.app()
    app = await Orchard.of(customer.tenant)
    app.behind = behind
    return app


def android(app):
    """An Android phone: its id in lower case."""
    return app.phone(install_id=str(uuid4()), token=f"tok:{uuid4()}")


def tracked(phone):
    return phone.event(
        "k.stats.installTracked",
        {
            "app": {"version": "1.0", "target": 2, "bundle": PACKAGE},
            "sdk": {"id": 2, "version": "14.0.1"},
            "runtime": {"id": 1, "version": "14"},
            "os": {"id": 3, "version": "14"},
            "device": {"name": "Pixel 8", "tz": "Asia/Tokyo", "isSimulator": False, "locale": "ja-JP"},
        },
    )


def at_google(app, phone):
    return [push.content for push in app.behind.fcm.pushes if push.target == phone.token]


async def test_an_android_phone_from_its_first_launch_to_an_open(app):
    phone = android(app)
    await phone.tell(phone.event("k.fg"), tracked(phone))
    data = {"token": phone.token, "type": 2, "package": PACKAGE, "areNotificationsEnabled": True}
    await phone.tell(phone.event("k.push.deviceRegistered", data))
    await phone.log_in("yuki", {"plan": "gold"})
    status, made = await phone.call(
        "POST", "/v1/channels", {"uuid": "own", "userIdentifier": "yuki", "showInPortal": False}
    )
    assert (status, channel(made)["subscribed"]) == (201, True)
    assert await phone.channels() == {"own": True}
    body = {
        "target": {"channelUuids": ["own"]},
        "content": {"title": "Hello", "message": "World", "url": "https://example.com/", "data": {"key": 1}},
        "android": {"sound": "ding", "pictureUrl": "https://example.com/a.png", "notificationChannel": "offers"},
        "ios": {"media": {"pictureUrl": "https://example.com/ios.png"}, "sound": "other.caf"},
        "runBackgroundHandler": True,
        "buttons": [{"id": "yes", "text": "Yes"}],
    }
    status, told = await app("POST", "/v2/notifications", body)
    assert status == 202, told
    shown = clients.kumulos_fcm((await until(lambda: at_google(app, phone)))[0])
    number = told["notification"]["id"]
    assert (shown["id"], shown["title"], shown["alert"], shown["url"]) == (
        number,
        "Hello",
        "World",
        "https://example.com/",
    )
    assert (shown["bicon"], shown["sound"], shown["bgn"]) == ("https://example.com/a.png", "ding", "1")
    assert shown["a"]["k.channel"] == "offers"
    assert shown["a"]["k.buttons"] == [{"id": "yes", "text": "Yes"}]
    await phone.tell(*(phone.event(f"k.message.{each}", {"type": 1, "id": number}) for each in ("delivered", "opened")))
    status, opens = await app("GET", f"/notifications/{number}/user-opens")
    assert (status, [each["userId"] for each in opens]) == (200, ["yuki"])
    await phone.tell(phone.event("k.push.deviceUnsubscribed"))
    status, told = await app("POST", "/v2/notifications", {**body, "target": {"userIds": ["yuki"]}})
    assert (status, told["errors"]) == (400, {"unsubscribedUserIds": ["yuki"]})


async def test_an_android_phone_gets_a_message_and_the_push_that_goes_along(app):
    phone = android(app)
    data = {"token": phone.token, "type": 2, "package": PACKAGE, "areNotificationsEnabled": True}
    await phone.tell(tracked(phone), phone.event("k.push.deviceRegistered", data))
    await phone.tell(phone.event("k.inApp.statusUpdated", {"consented": True}))
    template = {"name": "Offer", "uid": "offer", "content": {"text": "{{ text }}"}}
    assert (await app("POST", "/v1/templates/in-app", template))[0] == 201
    body = {
        "target": {"installIds": [phone.id]},
        "template": "offer",
        "content": {"text": "Pears"},
        "presentedWhen": "next-open",
        "ttl": {"expiresIn": 1, "units": "d"},
        "notification": {"title": "New", "message": "Look", "android": {"notificationType": "important"}},
    }
    status, told = await app("POST", "/v1/in-app-messages", body)
    assert status == 202, told
    shown = clients.kumulos_fcm((await until(lambda: at_google(app, phone)))[0])
    number = told["message"]["id"]
    assert shown["a"]["k.deepLink"] == {"type": 1, "data": {"id": number}}
    assert shown["a"]["k.notificationType"] == "important"
    (got,) = await phone.messages()
    assert (got["id"], got["content"], got["inbox"]) == (number, {"text": "Pears"}, None)
    await phone.tell(*(phone.event(f"k.message.{each}", {"type": 2, "id": number}) for each in ("opened", "dismissed")))
    (got,) = await phone.messages()
    assert got["openedAt"] is not None


async def test_a_browser_subscribes_with_the_configured_key_and_is_shown_a_push(app):
    page = app.browser()
    status, config = await page.call("GET", "/v1/web/config")
    assert status == 200
    key = base64.urlsafe_b64decode(config["publicKey"] + "=")
    subscription = app.behind.push.subscribe(key, name=f"page-{page.id}")
    token = subscription.to_json() | {"expirationTime": None}
    details = {
        "app": {"bundle": "shop.example", "version": "0.0.0", "target": 2},
        "sdk": {"id": 10, "version": "1.7.0"},
        "runtime": {"id": 8, "version": "Mozilla/5.0"},
        "os": {"id": 0, "version": "0.0.0"},
        "device": {"name": "Mozilla/5.0", "tz": "Europe/Berlin", "isSimulator": False, "locale": "de"},
    }
    await page.tell(page.event("k.stats.installTracked", details))
    await page.tell(page.event("k.push.deviceRegistered", {"type": 3, "token": token}))
    (device,) = (await app.tenant.server.ok("GET", "/devices", params={"install_id": page.id}))["items"]
    assert (device["kind"], device["platform"], device["time_zone"]) == ("webpush", "web", "Europe/Berlin")
    content = {"title": "Hello", "message": "World", "url": "https://shop.example/offer", "data": {"key": "value"}}
    status, told = await app("POST", "/v2/notifications", {"target": {"installIds": [page.id]}, "content": content})
    assert status == 202, told
    arrived = app.behind.push
    (push,) = await until(lambda: [each for each in arrived.pushes if each.name == subscription.name])
    shown = clients.kumulos_web(orjson.loads(push.text))
    assert (shown["title"], shown["msg"], shown["url"]) == ("Hello", "World", "https://shop.example/offer")
    assert shown["data"]["key"] == "value"
    await page.tell(page.event("k.message.opened", {"type": 1, "id": shown["id"]}))
    status, opens = await app("GET", f"/notifications/{told['notification']['id']}/install-opens")
    assert (status, [each["installId"] for each in opens]) == (200, [page.id])


async def test_batches_of_many_phones_at_once_are_all_taken(app):
    phones = [android(app) for _ in range(20)]

    async def start(phone):
        data = {"token": phone.token, "type": 2, "package": PACKAGE, "areNotificationsEnabled": True}
        events = [
            tracked(phone),
            phone.event("k.push.deviceRegistered", data),
            *(phone.event("k.fg") for _ in range(98)),
        ]
        await asyncio.gather(*(phone.tell(*events) for _ in range(3)))

    await asyncio.gather(*map(start, phones))
    counted = await app.tenant.server.ok("POST", "/audience/count", {"audience": {"type": "broadcast"}})
    assert counted["devices"] == len(phones)
