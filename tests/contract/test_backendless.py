"""Backendless: the samples of its document and of its SDKs, each error, and what reaches devices of all systems."""

from __future__ import annotations

import asyncio
import itertools
import re
import time

import orjson
import pytest
import pytest_asyncio

from pushd.commands import expirations
from pushd.commands.expirations import Expirer
from pushd.config import DialectsConfig
from pushd.dialects.backendless import registrations
from tests.acceptance.world import BUNDLE
from tests.contract.cube import PASSWORD, until, vendors
from tests.pushd.content.clients import backendless_android, backendless_ios

pytestmark = pytest.mark.asyncio(loop_scope="package")

APP_ID = "D31F2737-2549-309B-FF00-4B7E5E0A1F00"
DOMAIN = "push.example.com"
NUMBERS = itertools.count(1)
HANDLE = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")
HEADERS = {
    "ios-alert": "iOS text",
    "ios-alert-title": "iOS title",
    "ios-badge": "1",
    "ios-sound": "sound.wav",
    "android-ticker-text": "ticker",
    "android-content-title": "Title",
    "android-content-text": "Text",
    "android-summary-subtext": "sub",
    "custom": "value",
}
PUSH = {"message": "hello", "publisherId": "probe", "headers": HEADERS, "publishPolicy": "PUSH"}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def behind():
    async with vendors(dialects=DialectsConfig(backendless_domains={DOMAIN: APP_ID})) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def app(behind):
    """With a key for apps, and one for servers."""
    app = await behind.app(dialect="backendless", identity=APP_ID)
    body = {"dialect": "backendless", "identity": APP_ID, "role": "server"}
    app.server_key = (await app.tenant.server.ok("POST", "/vendor-keys", body))["secret"]
    return app


class Caller:
    """Somebody with a key of the app, logged in or not."""

    def __init__(self, app, key=None, token=None):
        self.app, self.root, self.token = app, f"/{app.auth_key}/{key or app.secret}", token

    async def __call__(self, method, path, *, headers=None, **options):
        own = {} if self.token is None else {"user-token": self.token}
        status, _, body = await self.app.raw(method, f"{self.root}/{path}", headers=own | (headers or {}), **options)
        return status, body

    async def ok(self, method, path, body=None):
        status, told = await self(method, path, **({} if body is None else {"json": body}))
        assert status == 200, told
        return told

    async def register(self, os="IOS", channels=None, **more):
        """The device id and the token of a new device."""
        number = next(NUMBERS)
        token = self.app.tenant.token() if os != "ANDROID" else f"d3Fg_x:APA91b-{self.app.tenant.token()}"
        body = {"deviceToken": token, "deviceId": f"device-{number}", "os": os, "osVersion": "17", **more}
        told = await self.ok("POST", "messaging/registrations", body | ({"channels": channels} if channels else {}))
        assert HANDLE.fullmatch(told.pop("registrationId"))
        assert told == {}
        return body["deviceId"], token

    async def publish(self, channel="default", **body):
        return await self("POST", f"messaging/{channel}", json=body)

    async def fails(self, code, method, path, **options):
        """The status of an error of the vendor's shape with this number."""
        status, body = await self(method, path, **options)
        assert status >= 400, body
        assert set(body) == {"code", "message", "errorData"}
        assert (body["code"], body["errorData"], type(body["message"])) == (code, {}, str)
        return status

    async def user(self, **more):
        """A user of his own, logged in."""
        email = f"probe_{next(NUMBERS)}@example.com"
        told = await self.ok("POST", "users/register", {"email": email, "password": PASSWORD, "name": "Probe"} | more)
        user = await self.ok("POST", "users/login", {"login": email, "password": PASSWORD})
        assert user["objectId"] == told["objectId"]
        caller = Caller(self.app, self.root.rpartition("/")[2], user["user-token"])
        caller.told = user
        return caller


@pytest_asyncio.fixture(loop_scope="package")
async def server(app):
    return Caller(app, app.server_key)


@pytest_asyncio.fixture(loop_scope="package")
async def anna(app):
    return await Caller(app).user()


def is_status(told, status="scheduled", error=None):
    """What of an answer Swift and the vendor's own tests insist on."""
    assert set(told) == {"errorMessage", "messageId", "status"}
    assert HANDLE.fullmatch(told["messageId"].removeprefix("message:"))
    return (told["status"], told["errorMessage"]) == (status, error)


def arrived(app, token):
    """How many pushes reached a device, at Apple or at Google."""
    return len(app.vendors.world.simulator.record.pushes(token)) + sum(
        push.target == token for push in app.vendors.fcm.pushes
    )


# Start and users


@pytest.mark.parametrize("key", ["secret", "server_key"])
async def test_info_names_the_app_under_each_of_its_keys(app, key):
    caller = Caller(app, getattr(app, key))
    told = await caller.ok("GET", "info")
    assert told == {"rtURL": None, "appId": APP_ID, "apiKey": getattr(app, key), "loggers": []}
    caller.token = "unknown"
    assert await caller.fails(3064, "GET", "info") == 401


async def test_users_register_log_in_and_out(app):
    nobody = Caller(app)
    email = f"probe_{next(NUMBERS)}@example.com"
    said = {"email": email, "password": PASSWORD, "name": "Probe", "age": 30, "blUserLocale": "uk"}
    told = await nobody.ok("POST", "users/register", said)
    assert HANDLE.fullmatch(told["objectId"])
    expected = {"email": email, "name": "Probe", "age": 30, "___class": "Users", "blUserLocale": "uk"}
    assert expected.items() <= told.items()
    assert not {"password", "user-token"} & set(told)
    assert await nobody.fails(3033, "POST", "users/register", json=said) == 409
    user = await nobody.ok("POST", "users/login", {"login": email.upper(), "password": PASSWORD})
    assert user == told | {"user-token": user["user-token"]}
    for body in ({"login": email, "password": "wrong"}, {"login": "nobody", "password": "x"}, {}):
        assert await nobody.fails(3003, "POST", "users/login", json=body) == 401
    mine = Caller(app, token=user["user-token"])
    assert await mine.ok("GET", f"users/isvalidusertoken/{mine.token}") is True
    assert await mine("GET", "users/logout") == (200, "")
    assert await mine.ok("GET", f"users/isvalidusertoken/{mine.token}") is False
    assert await mine.fails(3064, "GET", "info") == 401
    assert await mine("GET", "users/logout") == (200, "")


async def test_a_login_is_as_good_as_an_address(app, server):
    login = f"probe{next(NUMBERS)}"
    told = await Caller(app).ok("POST", "users/register", {"login": login, "password": PASSWORD})
    assert (told["login"], told["email"]) == (login, None)
    user = await Caller(app).ok("POST", "users/login", {"login": login, "password": PASSWORD})
    by_id = {"objectId": user["objectId"]}
    assert (await server.ok("POST", "users/login", by_id))["objectId"] == user["objectId"]
    assert await Caller(app).fails(3003, "POST", "users/login", json=by_id) == 401


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"email": "a@example.com"}, 3011),
        ({"password": PASSWORD}, 3013),
        ({"email": "nonsense", "password": PASSWORD}, 3040),
        ({"email": "a@example.com", "password": "x" * 257}, 400),
        ({"email": "a\0@example.com", "password": "x"}, 3040),
        ({"email": "b@example.com", "password": "x", "name": "a\0"}, 400),
    ],
)
async def test_wrong_registrations_of_users(app, body, code):
    await Caller(app).fails(code, "POST", "users/register", json=body)


async def test_a_guest_becomes_a_user(app):
    guest = await Caller(app).ok("POST", "users/register/guest")
    assert guest["userStatus"] == "GUEST"
    assert "login" not in guest
    mine = Caller(app, token=guest["user-token"])
    own = {"email": f"guest_{next(NUMBERS)}@example.com", "password": PASSWORD, "objectId": guest["objectId"]}
    assert await Caller(app).fails(403, "POST", "users/register", json=own) == 403
    told = await mine.ok("POST", "users/register", own)
    assert (told["objectId"], told["email"], told["userStatus"]) == (guest["objectId"], own["email"], "ENABLED")
    again = await Caller(app).ok("POST", "users/login", {"login": own["email"], "password": PASSWORD})
    assert again["objectId"] == guest["objectId"]


async def test_users_change_themselves_alone(app, anna, server):
    place = f"users/{anna.told['objectId']}"
    told = await anna.ok("PUT", place, {"name": "Anna", "password": "n3w-pass", "objectId": "x", "user-token": "x"})
    assert (told["name"], told["objectId"]) == ("Anna", anna.told["objectId"])
    await Caller(app).ok("POST", "users/login", {"login": anna.told["email"], "password": "n3w-pass"})
    seen = await app.tenant.server.ok("GET", f"/users/{anna.told['objectId']}")
    assert (seen["email"], seen["attributes"]["name"]) == (anna.told["email"], "Anna")
    ben = await Caller(app).user()
    assert await ben.fails(403, "PUT", place, json={"name": "Ben"}) == 403
    assert await Caller(app).fails(403, "PUT", place, json={"name": "Ben"}) == 403
    assert await ben.fails(404, "PUT", "users/unknown", json={}) == 404
    assert await anna.fails(3033, "PUT", place, json={"email": ben.told["email"]}) == 409
    assert (await server.ok("PUT", place, {"name": "Server"}))["name"] == "Server"


async def test_passwords_are_not_restored(app, anna):
    assert await anna.fails(400, "GET", f"users/restorepassword/{anna.told['email']}") == 400


# Devices


async def test_a_device_is_registered_shown_and_unregistered(app, anna):
    device, token = await anna.register("ANDROID", ["news", "games"], osVersion=14)
    (shown,) = await anna.ok("GET", f"messaging/registrations/{device}")
    assert HANDLE.fullmatch(shown.pop("id"))
    assert shown == {
        "deviceToken": token,
        "deviceId": device,
        "os": "ANDROID",
        "osVersion": "14",
        "expiration": None,
        "channels": ["games", "news"],
    }
    (seen,) = (await app.tenant.server.ok("GET", "/devices", params={"install_id": device}))["items"]
    assert seen["user_id"] == anna.told["objectId"]
    # Again, in another's hands: it takes the place of what was there.
    again = {"deviceToken": token, "deviceId": device, "os": "ANDROID", "osVersion": "15"}
    await Caller(app).ok("POST", "messaging/registrations", again)
    (shown,) = await anna.ok("GET", f"messaging/registrations/{device}")
    assert (shown["osVersion"], shown["channels"]) == ("15", ["default"])
    (seen,) = (await app.tenant.server.ok("GET", "/devices", params={"install_id": device}))["items"]
    assert seen["user_id"] is None
    assert await anna.ok("DELETE", f"messaging/registrations/{device}") == {"result": True}
    assert await anna.fails(5001, "DELETE", f"messaging/registrations/{device}") == 404
    assert await anna.fails(5000, "GET", f"messaging/registrations/{device}") == 404


@pytest.mark.parametrize("unit", [1, 1000])
async def test_a_registration_ends_when_it_said(app, server, unit, monkeypatch):
    end = time.time() + 60
    device, token = await server.register(expiration=round(end * unit, 3))
    (shown,) = await server.ok("GET", f"messaging/registrations/{device}")
    assert abs(shown["expiration"] - end) < 0.01
    context = app.vendors.world.daemon.context
    expirer = Expirer(context)
    await expirer.sweep()
    assert is_status(await server.ok("POST", "messaging/default", PUSH | {"pushSinglecast": [device]}))
    await until(lambda: app.vendors.world.simulator.record.pushes(token))
    with monkeypatch.context() as later:
        later.setattr(context.clock, "now", lambda: end + 0.05)
        await expirer.sweep()
    assert await server.fails(5000, "GET", f"messaging/registrations/{device}") == 404
    told = await server.ok("POST", "messaging/default", PUSH | {"pushSinglecast": [device]})
    assert is_status(told, "failed", "None of the devices is registered")


async def test_a_device_that_registers_again_as_it_is_over_stays(app, server, monkeypatch):
    context = app.vendors.world.daemon.context
    device, token = await server.register(expiration=round((time.time() + 60) * 1000))
    assert await expirations.expire_at(context, app.tenant.app_id, device, time.time() - 1)
    register, swept = registrations.devices.register, []

    async def beside_the_sweep(*arguments):
        made = await register(*arguments)
        swept.append(await Expirer(context).sweep())
        return made

    monkeypatch.setattr(registrations.devices, "register", beside_the_sweep)
    body = {"deviceToken": token, "deviceId": device, "os": "ANDROID", "osVersion": "15", "channels": ["news"]}
    await server.ok("POST", "messaging/registrations", body)
    assert [bool(each) for each in swept] == [True, False]  # others may be over, too
    (shown,) = await server.ok("GET", f"messaging/registrations/{device}")
    assert (shown["expiration"], shown["channels"]) == (None, ["news"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"os": "WP"}, 400),
        ({"os": None}, 400),
        ({"deviceId": ""}, 400),
        ({"deviceId": "x" * 256}, 400),
        ({"deviceId": "a\0"}, 400),
        ({"deviceToken": None}, 400),
        ({"deviceToken": "not hexadecimal"}, 400),
        ({"channels": {"a": 1}}, 400),
        ({"channels": ["x" * 256]}, 400),
        ({"channels": ["a\0"]}, 400),
        ({"expiration": 1}, 5004),
        ({"expiration": "soon"}, 5004),
        ({"expiration": 1e300}, 5004),
    ],
)
async def test_wrong_registrations_of_devices(app, server, change, code):
    body = {"deviceToken": app.tenant.token(), "deviceId": "d", "os": "IOS", "osVersion": "17", **change}
    await server.fails(code, "POST", "messaging/registrations", json=body)


async def test_servers_delete_channels(app, server, anna):
    device, token = await server.register(channels=["doomed", "news"])
    assert await anna.fails(5007, "DELETE", "messaging/channels/doomed") == 403
    assert await server.ok("DELETE", "messaging/channels/doomed") == {"result": True}
    assert await server.fails(404, "DELETE", "messaging/channels/doomed") == 404
    (shown,) = await server.ok("GET", f"messaging/registrations/{device}")
    assert shown["channels"] == ["news"]
    assert is_status(await server.ok("POST", "messaging/doomed", PUSH))
    assert arrived(app, token) == 0


# Publications

BASIC = {"message": "hello", "headers": {"ios-alert": "hello", "android-content-text": "hello"}}
"""The body of the document, as it is without what stands in brackets."""


@pytest.mark.parametrize(
    ("body", "systems"),
    [
        (BASIC, {"IOS", "ANDROID", "OSX"}),
        (PUSH, {"IOS", "ANDROID", "OSX"}),
        (PUSH | {"publishPolicy": "BOTH", "subtopic": "a.b"}, {"IOS", "ANDROID", "OSX"}),
        (PUSH | {"pushBroadcast": 1}, {"IOS"}),
        (PUSH | {"pushBroadcast": 2}, {"ANDROID"}),
        (PUSH | {"pushBroadcast": 3}, {"IOS", "ANDROID"}),
        (PUSH | {"pushBroadcast": "3"}, {"IOS", "ANDROID"}),
        (PUSH | {"pushBroadcast": 7}, {"IOS", "ANDROID", "OSX"}),
        (PUSH | {"pushBroadcast": 15}, {"IOS", "ANDROID", "OSX"}),
        (PUSH | {"pushBroadcast": 8}, {"OSX"}),
        (PUSH | {"pushBroadcast": 9}, {"IOS", "OSX"}),
        (PUSH | {"pushBroadcast": 10}, {"ANDROID", "OSX"}),
        (PUSH | {"pushBroadcast": 11}, {"IOS", "ANDROID", "OSX"}),
        (PUSH | {"pushBroadcast": 4}, set()),
        (PUSH | {"pushBroadcast": "IOS | ANDROID"}, {"IOS", "ANDROID"}),
        (PUSH | {"pushBroadcast": "ALL"}, {"IOS", "ANDROID", "OSX"}),
        (PUSH | {"pushBroadcast": "ios"}, {"IOS"}),
        (PUSH | {"pushBroadcast": "FOR_IOS|FOR_ANDROID"}, {"IOS", "ANDROID"}),
        (PUSH | {"pushBroadcast": "FOR_ALL"}, {"IOS", "ANDROID", "OSX"}),
        (PUSH | {"pushBroadcast": "FOR_NONE"}, set()),
        (PUSH | {"segmentQuery": "phones"}, {"IOS", "ANDROID"}),
        ({"message": "hello", "pushBroadcast": "ANDROID"}, {"ANDROID"}),
        ({"message": {"any": {"json": [1, True, None]}}, "publishPolicy": "PUSH"}, {"IOS", "ANDROID", "OSX"}),
        ({"message": 1.5, "publishPolicy": "push"}, {"IOS", "ANDROID", "OSX"}),
        ({"message": "plain"}, set()),
        ({"message": {"any": {"json": [1, True, None]}}}, set()),
        ({"message": "plain", "headers": {"foo": "bar"}}, set()),
        (PUSH | {"publishPolicy": "PUBSUB"}, set()),
    ],
)
async def test_a_publication_reaches_whom_it_is_for(app, server, body, systems):
    channel = f"channel {next(NUMBERS)}"
    tokens = {os: (await server.register(os, [channel]))[1] for os in ("IOS", "ANDROID", "OSX")}
    outside = [(await server.register("IOS", ["elsewhere"]))[1]]
    if "segmentQuery" in body:
        phones = {"type": "platform", "any": ["ios", "android"]}
        await app.tenant.server.ok("POST", "/segments", {"name": "Phones", "uuid": "phones", "audience": phones})
    told = await server.ok("POST", f"messaging/{channel}", body)
    assert is_status(told)
    for os in systems:
        await until(lambda token=tokens[os]: range(arrived(app, token)))
    await asyncio.sleep(0.05)
    assert {os for os, token in tokens.items() if arrived(app, token)} == systems
    assert not any(arrived(app, token) for token in outside)
    assert is_status(await server.ok("GET", f"messaging/{told['messageId']}"), "published")


async def test_what_devices_get_of_the_recorded_publication(app, server):
    """Headers by their names on Android, `aps` and the other headers at Apple."""
    channel = f"channel {next(NUMBERS)}"
    (_, apple), (_, android) = [await server.register(os, [channel]) for os in ("IOS", "ANDROID")]
    await server.ok("POST", f"messaging/{channel}", PUSH | {"subtopic": "a.b"})
    (push,) = await until(lambda: app.vendors.world.simulator.record.pushes(apple))
    payload = orjson.loads(push.payload)
    shown = backendless_ios(payload)
    assert shown["aps"]["alert"] == {"title": "iOS title", "subtitle": "sub", "body": "iOS text"}
    assert (shown["aps"]["badge"], shown["aps"]["sound"]) == (1, "sound.wav")
    assert payload["custom"] == "value"
    assert not [name for name in payload if name.startswith(("android-", "wp-", "pushd"))]
    (pushed,) = await until(lambda: [each for each in app.vendors.fcm.pushes if each.target == android])
    on_android = backendless_android(pushed.content)
    assert [on_android[name] for name in ("message", "title", "sub", "sound")] == ["hello", "Title", "sub", None]
    assert HEADERS.items() <= on_android["data"].items()
    # One that only Apple's devices are to notice, without anything to see there.
    silent = {"message": "sync", "headers": {"ios-content-available": "1", "job": "7"}, "publishPolicy": "PUSH"}
    await server.ok("POST", f"messaging/{channel}", silent)
    pushes = await until(lambda: app.vendors.world.simulator.record.pushes(apple), 2)
    payload = orjson.loads(pushes[1].payload)
    assert payload["aps"] == {"content-available": 1}
    assert (payload["job"], dict(pushes[1].headers)["apns-push-type"]) == ("7", "background")


async def test_single_devices_are_reached_whatever_the_channel(app, server):
    device, token = await server.register("IOS", ["somewhere"])
    other = (await server.register("IOS", ["default"]))[1]
    body = PUSH | {"pushSinglecast": [device, "unknown"], "pushBroadcast": "FOR_NONE"}
    assert is_status(await server.ok("POST", "messaging/default", body))
    await until(lambda: range(arrived(app, token)))
    assert arrived(app, other) == 0
    body = PUSH | {"pushSinglecast": ["unknown"]}
    told = await server.ok("POST", "messaging/default", body)
    assert is_status(told, "failed", "None of the devices is registered")
    assert is_status(await server.ok("GET", f"messaging/{told['messageId']}"), "failed", told["errorMessage"])


async def test_nobody_at_all_is_no_error(server):
    assert is_status(await server.ok("POST", "messaging/unheard%20of", PUSH))


async def test_what_is_for_later_is_scheduled_and_cancelled(app, server):
    at, ends = (round((time.time() + days * 86_400) * 1000) for days in (1, 7))
    for more in (
        {"publishAt": at},
        {"publishAt": str(at)},
        {"publishAt": at, "repeatEvery": 3600},
        {"publishAt": at, "repeatEvery": 3600, "repeatExpiresAt": ends},
    ):
        told = await server.ok("POST", "messaging/to come", PUSH | more)
        assert is_status(told)
        place = f"messaging/{told['messageId']}"
        assert await server.ok("GET", place) == told
        newest = (await app.tenant.server.ok("GET", "/schedules"))["items"][0]
        assert newest["next_at"] == at / 1000
        assert newest["schedule"].get("recurrence", {}).get("every_s") == more.get("repeatEvery")
        assert newest["schedule"].get("recurrence", {}).get("ends_at") == (ends / 1000 if len(more) == 3 else None)
        assert await server.ok("DELETE", place) == told | {"status": "cancelled"}
        assert await server.fails(5040, "DELETE", place) == 400
        assert is_status(await server.ok("GET", place), "cancelled")


async def test_what_repeats_begins_at_once_and_shortens_to_a_minute(app, server):
    device, token = await server.register()
    body = PUSH | {"pushSinglecast": [device], "repeatEvery": 2, "repeatExpiresAt": round(time.time() * 1000) + 90_000}
    told = await server.ok("POST", "messaging/default", body)
    assert is_status(told)
    await until(lambda: range(arrived(app, token)))
    newest = (await app.tenant.server.ok("GET", "/schedules"))["items"][0]
    assert newest["schedule"]["recurrence"]["every_s"] == 60
    assert is_status(await server.ok("DELETE", f"messaging/{told['messageId']}"), "cancelled")


DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (lambda now: PUSH | {"publishAt": now - DAY_MS}, 5030),
        (lambda now: PUSH | {"publishAt": now // 1000 + 3_600}, 5030),
        (lambda _: PUSH | {"publishAt": "tomorrow"}, 5030),
        (lambda _: PUSH | {"publishAt": 1e300}, 5030),
        (lambda now: {"message": "x", "publishPolicy": "PUBSUB", "publishAt": now - 1}, 5030),
        (lambda now: PUSH | {"repeatEvery": 60, "repeatExpiresAt": now - 1}, 5003),
        (lambda now: PUSH | {"publishAt": now + DAY_MS, "repeatEvery": 60, "repeatExpiresAt": now + 1000}, 5003),
        (lambda now: PUSH | {"publishAt": now + DAY_MS, "repeatEvery": 60, "repeatExpiresAt": now + DAY_MS}, 5003),
        (lambda _: PUSH | {"repeatExpiresAt": {}}, 5003),
        (lambda _: PUSH | {"repeatEvery": -1}, 400),
        (lambda _: PUSH | {"repeatEvery": "often"}, 400),
        (lambda _: PUSH | {"pushBroadcast": 16}, 400),
        (lambda _: PUSH | {"pushBroadcast": "SYMBIAN"}, 400),
        (lambda _: PUSH | {"pushBroadcast": ["IOS"]}, 400),
        (lambda _: PUSH | {"pushSinglecast": {"a": 1}}, 400),
        (lambda _: PUSH | {"pushSinglecast": [1]}, 400),
        (lambda _: PUSH | {"publishPolicy": "MAYBE"}, 400),
        (lambda _: PUSH | {"segmentQuery": "no such segment"}, 400),
        (lambda _: PUSH | {"headers": ["a"]}, 400),
        (lambda _: {"publishPolicy": "PUSH"}, 400),
        (lambda _: PUSH | {"message": "a\0"}, 400),
    ],
)
async def test_wrong_publications(server, body, code):
    await server.register()
    assert await server.fails(code, "POST", "messaging/default", json=body(round(time.time() * 1000))) == 400


@pytest.mark.parametrize("data", [b"{", b"[]", b"1", b'{"a":' * 100 + b"1" + b"}" * 100])
async def test_bodies_that_are_none(server, data):
    assert await server.fails(400, "POST", "messaging/default", data=data) == 400


async def test_ids_of_messages_are_the_apps_own(app, server):
    told = await server.ok("POST", "messaging/default", PUSH)
    other = await app.vendors.app(dialect="backendless", role="server")
    for caller, name in ((Caller(other), told["messageId"]), (server, "message:1"), (server, "message:" + APP_ID)):
        place = f"messaging/{name}"
        shown = await caller.ok("GET", place)
        assert (shown["status"], shown["messageId"]) == ("unknown", name)
        assert await caller.fails(5040, "DELETE", place) == 400


# Who may send


async def test_apps_send_for_their_user_as_their_app_allows(app, anna):
    device, token = await anna.register()
    body = PUSH | {"pushSinglecast": [device]}
    nobody = Caller(app)
    assert await nobody.fails(5007, "POST", "messaging/default", json=body) == 403
    told = await anna.ok("POST", "messaging/default", body | {"publishAt": round(time.time() * 1000) + DAY_MS})
    place = f"messaging/{told['messageId']}"
    ben = await nobody.user()
    for caller in (nobody, ben):
        assert await caller.fails(5007, "DELETE", place) == 403
    assert is_status(await anna.ok("DELETE", place), "cancelled")
    # Whoever speaks for a user may do no more than the user, whatever key he has.
    settings = {"default_bundle": BUNDLE, "client_sends_per_minute": 0}
    await app.tenant.admin.ok("PATCH", f"/apps/{app.tenant.app_id}", {"settings": settings})
    try:
        assert await anna.fails(5007, "POST", "messaging/default", json=body) == 403
        as_user = Caller(app, app.server_key, anna.token)
        assert await as_user.fails(5007, "POST", "messaging/default", json=body) == 403
        assert is_status(await Caller(app, app.server_key).ok("POST", "messaging/default", body))
        await until(lambda: range(arrived(app, token)))
    finally:
        settings |= {"client_sends_per_minute": 1_000}
        await app.tenant.admin.ok("PATCH", f"/apps/{app.tenant.app_id}", {"settings": settings})


async def test_who_sends_too_often_waits(behind):
    app = await behind.app(dialect="backendless", client_sends_per_minute=1)
    user = await Caller(app).user()
    assert (await user.publish(**PUSH))[0] == 200
    assert await user.fails(429, "POST", "messaging/default", json=PUSH) == 429


async def test_apps_send_to_the_channels_that_they_may(behind):
    app = await behind.app(dialect="backendless", client_send_channels=["open"])
    user = await Caller(app).user()
    device, token = await user.register(channels=["open", "closed"])
    assert is_status(await user.ok("POST", "messaging/open", PUSH))
    await until(lambda: range(arrived(app, token)))
    assert await user.fails(5007, "POST", "messaging/closed", json=PUSH) == 403
    assert await user.fails(5007, "POST", "messaging/open", json=PUSH | {"pushSinglecast": [device]}) == 403


async def test_who_guesses_passwords_waits(app, anna):
    nobody, guess = Caller(app), {"login": anna.told["email"], "password": "guess"}
    told = await asyncio.gather(*(nobody("POST", "users/login", json=guess) for _ in range(14)))
    assert sorted({(status, body["code"]) for status, body in told}) == [(401, 3003), (429, 429)]


async def test_a_login_that_looks_like_an_address_logs_in_as_often_as_it_likes(app):
    login = f"login_{next(NUMBERS)}@example.com"
    await Caller(app).ok("POST", "users/register", {"login": login, "password": PASSWORD})
    for _ in range(12):
        await Caller(app).ok("POST", "users/login", {"login": login, "password": PASSWORD})


async def test_keys_that_are_not_known_together(app, behind):
    other = await behind.app(dialect="backendless")
    for identity, key in ((APP_ID, "unknown-key"), (other.auth_key, app.secret), ("0" * 8 + APP_ID[8:], app.secret)):
        status, _, body = await app.raw("GET", f"/{identity}/{key}/info")
        assert (status, body["code"], body["errorData"]) == (401, 2002, {})


# Templates


async def test_templates_are_fetched_by_name_and_sent_to_whom_they_are_for(app, server, anna):
    _, token = await anna.register("IOS", ["offers"])
    _, android = await anna.register("ANDROID", ["offers"])
    template = {
        "name": "Offer",
        "syntax": "smart_text",
        "message": {"title": "Dear {Users.name}", "body": "{n} for one in {place}"},
        "audience": {"type": "channels", "any": ["offers"]},
        "device_templates": {
            "ios": {
                "alertTitle": "Dear {Users.name}",
                "threadId": "{place}",
                "actions": [{"id": "a", "title": "A", "options": 1}],
            },
            "android": {"contentTitle": "Dear {Users.name}", "priority": 3, "vibrate": [1, 2]},
        },
    }
    await app.tenant.server.ok("POST", "/templates", template)
    await app.tenant.server.ok("POST", "/templates", {"name": "Native", "message": {"body": "x"}})
    for path, system in (("", "ios"), ("/ios", "ios"), ("/android", "android"), ("/ANDROID", "android")):
        told = await server.ok("GET", f"messaging/pushtemplates{path}")
        assert told["Offer"] == template["device_templates"][system] | {"name": "Offer"}
        assert "Native" not in told
    assert await server.ok("GET", "messaging/pushtemplates/wp") == {}
    told = await server.ok("POST", "messaging/push/Offer", {"templateValues": {"place": "Kyiv", "n": 2}})
    assert is_status(told)
    (push,) = await until(lambda: app.vendors.world.simulator.record.pushes(token))
    payload = orjson.loads(push.payload)
    assert payload["aps"]["alert"] == {"title": "Dear Probe", "body": "2 for one in Kyiv"}
    assert payload["aps"]["mutable-content"] == 1
    whole = template["device_templates"]["ios"] | {"name": "Offer", "threadId": "Kyiv"}
    assert orjson.loads(payload["ios_immediate_push"]) == whole
    assert "android_immediate_push" not in payload
    shown = backendless_ios(payload)
    assert (shown["template"]["name"], shown["message"]) == ("Offer", "2 for one in Kyiv")
    (pushed,) = await until(lambda: [each for each in app.vendors.fcm.pushes if each.target == android])
    data = pushed.content["data"]
    assert orjson.loads(data["android_immediate_push"]) == template["device_templates"]["android"] | {"name": "Offer"}
    assert (data["message"], data["android-content-title"]) == ("2 for one in Kyiv", "Dear Probe")
    assert is_status(await server.ok("GET", f"messaging/{told['messageId']}"), "published")
    for body in ({}, {"templateValues": {}}, {"templateValues": {"place": "Kyiv"}}, {"templateValues": [1]}):
        assert await server.fails(400, "POST", "messaging/push/Offer", json=body) == 400
    assert await server.fails(404, "POST", "messaging/push/none", json={}) == 404
    assert await Caller(app).fails(5007, "POST", "messaging/push/Offer", json={"templateValues": {}}) == 403


# The SDK for Swift


def swift(status, told):
    """What its parser takes for a success: any status up to 400, no body with both a number and a text of a fault."""
    assert 200 <= status <= 400
    is_fault = isinstance(told, dict) and type(told.get("code")) is int and isinstance(told.get("message"), str)
    assert not is_fault, told
    return told


def swift_status(status, told):
    """Its MessageStatus: texts or null."""
    shown = swift(status, told)
    names = ("messageId", "status", "errorMessage")
    assert all(isinstance(shown.get(name), str | None) for name in names)
    assert shown["messageId"] is not None
    return shown


async def test_what_swift_calls(app):
    phone = Caller(app)
    user = {"email": f"swift_{next(NUMBERS)}@example.com", "password": PASSWORD, "name": "Swift"}
    decoded = swift(*await phone("POST", "users/register", json=user))
    assert all(isinstance(decoded.get(name), str | None) for name in ("email", "name", "objectId", "user-token"))
    told = swift(*await phone("POST", "users/login", json={"login": user["email"], "password": PASSWORD}))
    phone.token = told["user-token"]
    assert all(isinstance(told.get(name), str) for name in ("email", "name", "objectId", "user-token"))
    token = app.tenant.token()
    device = {"deviceToken": token, "channels": ["default"], "deviceId": f"swift-{next(NUMBERS)}", "os": "IOS"}
    device |= {"osVersion": "17.5.1", "expiration": round(time.time() * 1000) + DAY_MS}
    assert type(swift(*await phone("POST", "messaging/registrations", json=device))["registrationId"]) is str
    assert isinstance(swift(*await phone("GET", "messaging/pushtemplates")), dict)
    place = f"messaging/registrations/{device['deviceId']}"
    (one,) = swift(*await phone("GET", place))
    assert all(isinstance(one[name], str) for name in ("id", "deviceToken", "deviceId", "os", "osVersion"))
    assert (type(one["expiration"]), one["channels"]) == (float, ["default"])
    # Without delivery options it says PUBSUB, and nothing is pushed; with them it names every option.
    assert swift_status(*await phone.publish(message="Test Message", publishPolicy="PUBSUB"))["status"] == "scheduled"
    options = {"publishPolicy": "BOTH", "pushBroadcast": "FOR_ALL"}
    at = round(time.time() * 1000) + 10_000
    later = swift_status(*await phone.publish(message="Test Message", **options, publishAt=at))
    place_of = f"messaging/{later['messageId']}"
    assert swift_status(*await phone("GET", place_of))["status"] == "scheduled"
    assert swift_status(*await phone("DELETE", place_of))["status"].upper() == "CANCELLED"
    options["pushSinglecast"] = [device["deviceId"]]
    swift_status(*await phone.publish(message={"foo": "bar", "___class": "Foo"}, headers={"foo": "bar"}, **options))
    await until(lambda: range(arrived(app, token)))
    assert swift(*await phone("DELETE", place)) == {"result": True}
    # By channel it goes through the data service, which is a fault that it understands.
    status, told = await phone("GET", "data/DeviceRegistration")
    assert (status, type(told["code"]), type(told["message"])) == (404, int, str)
    assert arrived(app, token) == 1


# The surface


async def test_an_apps_own_domain_needs_no_key(app, anna):
    host = {"Host": f"{DOMAIN}:8085"}
    status, _, told = await app.raw("GET", "/api/info", headers=host)
    assert (status, told) == (200, {"rtURL": None, "appId": APP_ID, "apiKey": None, "loggers": []})
    device, token = await anna.register()
    body = PUSH | {"pushSinglecast": [device]}
    status, _, told = await app.raw("POST", "/api/messaging/default", headers=host, json=body)
    assert (status, told["code"]) == (403, 5007)
    mine = host | {"user-token": anna.token}
    status, _, told = await app.raw("POST", "/api/messaging/default", headers=mine, json=body)
    assert (status, told["status"]) == (200, "scheduled")
    await until(lambda: range(arrived(app, token)))
    status, _, told = await app.raw("GET", f"/api/messaging/{told['messageId']}", headers=host)
    assert (status, told["status"]) == (200, "published")
    # Elsewhere these paths are the native API's, or another vendor's.
    status, headers, _ = await app.raw("GET", "/api/info")
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "data/Users", 404),
        ("POST", "messaging/registrations/x/y/z", 404),
        ("POST", "messaging/email", 404),
        ("POST", "messaging/push", 404),
        ("GET", "messaging/channels", 404),
        ("DELETE", "messaging/default", 400),
        ("PUT", "messaging/default", 405),
        ("DELETE", "messaging/registrations", 405),
        ("POST", "binary", 415),
        ("POST", "users/social/facebook/login", 404),
    ],
)
async def test_what_is_not_there_is_told_in_the_vendors_shape(server, method, path, status):
    code = 5040 if (method, path) == ("DELETE", "messaging/default") else status
    assert await server.fails(code, method, path, json={}) == status


async def test_other_errors_have_the_same_shape(app, server):
    status, body = await server("POST", "messaging/default", data=b'{"message":"' + b"x" * 2_000_000)
    assert (status, body["code"]) == (413, 413)
    status, body = await server("POST", "messaging/default", data=b"x", headers={"Content-Type": "application/amf"})
    assert (status, body["code"]) == (415, 415)
    status, _, body = await app.raw("POST", "/binary", data=b"\x00\x03")
    assert (status, body["code"]) == (415, 415)
    assert "AMF" in body["message"]
    # An id that is none is the native API's, or nobody's.
    status, headers, _ = await app.raw("GET", f"/{APP_ID}x/{app.secret}/info")
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    status, _, body = await app.raw("GET", f"/orchard/{app.secret}/info", headers={"Host": "api.backendless.com"})
    assert (status, body["code"]) == (401, 2002)


async def test_scripts_of_other_origins_may_call(app, server):
    asked = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "user-token, content-type"
    for path in ("messaging/default", "messaging/registrations", "users/login", "info"):
        status, headers, _ = await app.raw("OPTIONS", f"{server.root}/{path}", headers=asked)
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")
        allowed = headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert {"user-token", "content-type"} <= set(allowed)
        assert {"GET", "POST", "PUT", "DELETE"} <= set(headers["Access-Control-Allow-Methods"].split(", "))
    for path in ("info", "nowhere"):
        _, headers, _ = await app.raw("GET", f"{server.root}/{path}")
        assert headers["Access-Control-Allow-Origin"] == "*"
