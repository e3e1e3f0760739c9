"""ConnectyCube: each sample of its document and of its SDKs, each error, and what reaches devices of all channels."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import time
from urllib.parse import unquote_plus

import orjson
import pytest
import pytest_asyncio

from tests.contract.cube import GAME, PASSWORD, b64, until, vendors

pytestmark = pytest.mark.asyncio(loop_scope="package")

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NOBODY = {"errors": ["Users with ids {} do not have push notification subscriptions"]}
FIELDS = {
    *("id", "event_type", "message", "date", "period", "name", "occured_count", "created_at", "updated_at", "end_date"),
    *("active", "application_id", "user_id", "kind", "environment", "tag_query", "notification_channel"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def behind():
    async with vendors() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def app(behind):
    return await behind.app()


@pytest_asyncio.fixture(loop_scope="package")
async def anna(app):
    return await app.user()


def told_of(data):
    """What Dart's decoder makes of a message of Android's."""
    pairs = (pair.partition("=") for pair in data.split("&"))
    return {name: unquote_plus(base64.b64decode(value, validate=True).decode()) for name, _, value in pairs}


# Sessions and users


async def test_a_session_of_nobody_and_of_a_user(app, anna):
    nobody = await app.open()
    assert {name: type(value) for name, value in nobody.told.items()} == {
        **dict.fromkeys(("id", "user_id", "application_id", "nonce", "ts"), int),
        **dict.fromkeys(("token", "created_at", "updated_at"), str),
    }
    assert (nobody.told["user_id"], len(nobody.token)) == (0, 40)
    assert anna.told["user"]["id"] == anna.id
    assert ISO.fullmatch(anna.told["created_at"])
    status, headers, told = await app.raw("GET", "/session.json", headers={"CB-Token": f"  {anna.token} "})
    assert (status, told["session"]["user_id"]) == (200, anna.id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", headers["CB-Token-ExpirationDate"])


@pytest.mark.parametrize(("made_with", "digits"), [("sha1", 40), ("sha256", 64)])
async def test_a_signature_is_checked_where_there_is_one(app, anna, made_with, digits):
    login = anna.told["user"]["login"]
    said = {"application_id": 1, "auth_key": app.auth_key, "nonce": 8787, "timestamp": 1795249876}
    lines = [f"{name}={value}" for name, value in said.items()]
    lines += [f"user[login]={login}", f"user[password]={PASSWORD}"]
    signature = hmac.new(app.secret.encode(), "&".join(sorted(lines)).encode(), made_with).hexdigest()
    assert len(signature) == digits
    body = {**said, "user": {"login": login, "password": PASSWORD}, "signature": signature}
    for sent in ({"json": body}, {"data": dict(line.split("=", 1) for line in [*lines, f"signature={signature}"])}):
        status, _, told = await app.raw("POST", "/session.json", **sent)
        assert (status, told["session"]["user_id"]) == (201, anna.id)
    for bad in (signature[::-1], "x", "0" * 40):
        status, _, told = await app.raw("POST", "/session", json=body | {"signature": bad})
        assert (status, told) == (422, {"errors": ["Unexpected signature"]})


async def test_who_logs_in_makes_the_session_his_and_logs_out_again(app, anna):
    session = await app.open()
    names = {"login": anna.told["user"]["login"], "password": PASSWORD}
    status, told = await session("POST", "/login.json", json=names)
    assert (status, told["user"]["id"]) == (202, anna.id)
    assert (await session("GET", "/subscriptions.json"))[0] == 200
    assert (await session("DELETE", "/login.json"))[0] == 200
    status, told = await session("GET", "/subscriptions.json")
    assert (status, told) == (403, {"errors": {"base": ["Forbidden. Need user."]}})
    status, told = await session("POST", "/login", json=names | {"password": "wrong"})
    assert (status, told) == (401, {"errors": ["Unauthorized"]})
    assert (await session("DELETE", "/session.json"))[0] == 200
    gone = {"errors": {"base": ["Required session does not exist"]}}
    assert await session("GET", "/session") == (401, gone)


async def test_the_errors_of_sessions(app, anna):
    gone = {"errors": {"base": ["Required session does not exist"]}}
    for path in ("/subscriptions.json", "/events", "/session"):
        assert (await app.raw("GET", path, headers={"CB-Token": "F" * 40}))[::2] == (401, gone)
        for headers in ({}, {"CB-Token": ""}):
            assert (await app.raw("GET", path, headers=headers))[::2] == (401, {"errors": ["Token is required"]})
    unauthorized = (401, {"errors": ["Unauthorized"]})
    for body in (
        {"application_id": 1, "auth_key": "unknown"},
        {"application_id": 1},
        {"auth_key": app.auth_key, "user": {"login": anna.told["user"]["login"], "password": "wrong"}},
    ):
        assert (await app.raw("POST", "/session", json=body))[::2] == unauthorized
    # What stands beside it does not matter here.
    again = await app.raw("POST", "/session", json={"auth_key": app.auth_key}, headers={"CB-Token": "F" * 40})
    assert again[0] == 201


async def test_who_guesses_passwords_waits(app, anna):
    given = {"login": anna.told["user"]["login"], "password": "guess"}
    bodies = {"/session": {"auth_key": app.auth_key, "user": given}, "/login": given}
    own = {"CB-Token": anna.token}
    asked = [app.raw("POST", path, headers=own, json=body) for path, body in bodies.items() for _ in range(7)]
    told = {status: (body, headers) for status, headers, body in await asyncio.gather(*asked)}
    assert told.keys() == {401, 429}
    assert told[401][0] == {"errors": ["Unauthorized"]}
    body, headers = told[429]
    assert body == {"errors": {"base": ["Too many wrong passwords of late"]}}
    assert 0 < int(headers["Retry-After"]) <= 36


async def test_unknown_names_sign_up_by_logging_in_and_guests_without(app):
    one = await app.open(user={"login": "newcomer", "password": PASSWORD})
    again = await app.open(user={"login": "newcomer", "password": PASSWORD})
    assert one.id == again.id > 0
    guest = await app.open(user={"guest": "1", "full_name": "Guest"})
    assert guest.told["user"]["full_name"] == "Guest"
    assert guest.id not in {0, one.id}


async def test_sign_up_by_the_auth_key_alone_and_by_a_session(app):
    user = {"login": "Probe_b0f9", "password": PASSWORD, "full_name": "Probe User", "tag_list": ["probe", "vip"]}
    status, _, told = await app.raw("POST", "/users.json", headers={"CB-AuthKey": app.auth_key}, json={"user": user})
    assert (status, told["user"]["full_name"], told["user"]["user_tags"]) == (201, "Probe User", "probe,vip")
    assert told["user"]["external_user_id"] is None
    session = await app.open()
    body = {"user": {"email": "a@example.com", "password": PASSWORD, "external_user_id": "675", "tag_list": "a,b"}}
    status, told = await session("POST", "/users", json=body)
    assert (status, told["user"]["external_user_id"], told["user"]["user_tags"]) == (201, 675, "a,b")
    status, told = await session("POST", "/users", json={"user": user})
    assert (status, list(told["errors"])) == (422, ["base"])
    for wrong, field in (({"login": "x"}, "password"), ({"password": "x"}, "login"), ({"email": "no"}, "email")):
        status, told = await session("POST", "/users", json={"user": wrong})
        assert (status, field in told["errors"]) == (422, True)


async def test_one_changes_oneself_and_nobody_else(app, anna):
    other = await app.user()
    path = f"/users/{anna.id}.json"
    status, told = await anna("PUT", path, json={"user": {"full_name": "Anna", "tag_list": ["x"], "phone": 49}})
    assert (status, told["user"]["full_name"], told["user"]["user_tags"]) == (200, "Anna", "x")
    assert (await anna("GET", f"/users/{anna.id}"))[1] == told
    assert (told["user"]["phone"], (await other("GET", path))[0], (await other("PUT", path, json={}))[0]) == (
        "49",
        403,
        403,
    )
    status, told = await anna("PUT", path, json={"user": {"password": "another", "old_password": "wrong"}})
    assert (status, told) == (401, {"errors": ["Unauthorized"]})
    status, _ = await anna("PUT", path, json={"user": {"password": "another", "old_password": PASSWORD}})
    assert status == 200
    status, told = await anna("PUT", path, json={"user": {"external_user_id": 5}})
    assert (status, list(told["errors"])) == (422, ["external_user_id"])


async def test_a_revoked_key_ends_its_sessions(behind):
    app = await behind.app()
    anna = await app.user()
    (key,) = (await app.tenant.server.ok("GET", "/vendor-keys"))["items"]
    await app.tenant.server.ok("POST", f"/vendor-keys/{key['id']}/revoke")
    assert (await anna("GET", "/session"))[0] == 401


# Subscriptions


async def test_c1_the_samples_of_subscriptions(anna):
    sequence = "98559c1f3028b3fa0ec811d058cef16be27fe2fc507ca243b3d4fab006bfc9b8"
    body = {
        "notification_channels": "apns",
        "push_token": {"environment": "development", "client_identification_sequence": sequence},
        "device": {"platform": "ios", "udid": "BFE36393-24E4-7689-AF85-428F4A5F2ED9"},
    }
    status, made = await anna("POST", "/subscriptions", json=body)
    assert status == 201
    (one,) = made
    assert one == {
        "subscription": {
            "id": one["subscription"]["id"],
            "notification_channel": {"name": "apns"},
            "device": {"udid": "BFE36393-24E4-7689-AF85-428F4A5F2ED9", "platform": {"name": "ios"}},
        }
    }
    # Again, with another token, it keeps its id; the other channel of the device has its own.
    body["push_token"]["client_identification_sequence"] = base64.b64encode(bytes.fromhex(sequence)).decode()
    assert (await anna("POST", "/subscriptions", json=body)) == (201, made)
    status, ring = await anna("POST", "/subscriptions.json", json=body | {"notification_channels": "apns_voip"})
    assert (status, ring[0]["subscription"]["notification_channel"]) == (201, {"name": "apns_voip"})
    status, listed = await anna("GET", "/subscriptions", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (status, listed) == (200, made + ring)
    path = f"/subscriptions/{one['subscription']['id']}"
    assert (await anna("DELETE", path))[0] == 200
    assert await anna("DELETE", path) == (404, {"errors": {"base": ["Subscription not found"]}})
    assert await anna("GET", "/subscriptions.json") == (200, ring)


async def test_c9_every_channel_subscribes_and_a_token_moves_with_its_device(app, anna):
    for channel in ("apns", "apns_voip", "gcm", "web"):
        await anna.subscribe(channel)
    await anna.subscribe("gcm", platform="ios")
    _, listed = await anna("GET", "/subscriptions")
    names = [each["subscription"]["notification_channel"]["name"] for each in listed]
    assert names == ["apns", "apns_voip", "gcm", "web", "gcm"]
    form = {
        "notification_channels": "gcm",
        "push_token[environment]": "production",
        "push_token[client_identification_sequence]": "d3Fg_x:APA91b-moves",
        "device[platform]": "android",
        "device[udid]": "moving",
    }
    assert (await anna("POST", "/subscriptions", data=form))[0] == 201
    ben = await app.user()
    assert (await ben("POST", "/subscriptions", data=form))[0] == 201
    assert len((await anna("GET", "/subscriptions"))[1]) == 5
    (moved,) = (await ben("GET", "/subscriptions"))[1]
    other = f"/subscriptions/{moved['subscription']['id']}.json"
    assert (await anna("DELETE", other))[0] == 404
    assert (await ben("DELETE", other))[0] == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"notification_channel": "sms"}, "notification_channel"),
        ({"notification_channel": None}, "notification_channel"),
        ({"push_token": {"environment": "test"}}, "environment"),
        ({"push_token": {"environment": "development"}}, "client_identification_sequence"),
        (
            {"push_token": {"environment": "development", "client_identification_sequence": "!"}},
            "client_identification_sequence",
        ),
        ({"device": {"platform": "symbian", "udid": "x"}}, "platform"),
        ({"device": {"platform": "ios"}}, "udid"),
        ({"device": "x"}, "device"),
        ({"notification_channel": "web"}, "web_endpoint"),
    ],
)
async def test_a_wrong_subscription_is_422_at_its_field(anna, change, field):
    body = {
        "notification_channel": "apns",
        "push_token": {"environment": "development", "client_identification_sequence": "ab" * 32},
        "device": {"platform": "ios", "udid": "x"},
    }
    status, told = await anna("POST", "/subscriptions", json=body | change)
    assert (status, list(told["errors"])) == (422, [field])
    assert isinstance(told["errors"][field][0], str)


async def test_without_a_bundle_of_ones_own_apples_devices_need_one(behind):
    app = await behind.app(default_bundle="")
    anna = await app.user()
    body = {"environment": "development", "client_identification_sequence": "ab" * 32}
    made = {"notification_channel": "apns", "push_token": body, "device": {"platform": "ios", "udid": "x"}}
    status, told = await anna("POST", "/subscriptions", json=made)
    assert (status, list(told["errors"])) == (422, ["bundle_identifier"])
    body["bundle_identifier"] = "com.example.app"
    assert (await anna("POST", "/subscriptions", json=made))[0] == 201


# Events


async def test_c3_the_sample_event_for_apple(anna):
    _, token = await anna.subscribe()
    given = {"user": {"ids": str(anna.id)}, "message": GAME, "push_type": "apns"}
    status, told = await anna.event(sdk=False, **given)
    event = told["event"]
    assert (status, set(event)) == (201, FIELDS)
    same = dict.fromkeys(("date", "period", "name", "end_date", "tag_query"))
    expected = {
        **same,
        "event_type": "one_shot",
        "message": GAME,
        "occured_count": 0,
        "active": True,
        "user_id": anna.id,
        "kind": "API",
        "environment": "development",
        "notification_channel": {"name": "apns"},
    }
    assert {name: event[name] for name in expected} == expected
    assert ISO.fullmatch(event["created_at"])
    ((headers, payload),) = await until(lambda: anna.at_apple(token))
    assert payload == {
        "aps": {"alert": {"title": "Game Request", "body": "Bob wants to play poker"}, "badge": 5},
        "acme1": "bar",
    }
    assert headers["apns-push-type"] == "alert"
    done = event | {"occured_count": 1, "active": False}
    assert await anna.shown(event["id"]) == done
    page = {"current_page": 1, "per_page": 10, "total_entries": 1, "items": [{"event": done}]}
    assert await anna("GET", "/events.json") == (200, page)
    status, told = await anna("POST", f"/events/{event['id']}", json={"event": {"name": "Updated name"}})
    assert (status, told["event"]["name"], told["event"]["active"]) == (200, "Updated name", False)
    status, told = await anna("PUT", f"/events/{event['id']}.json", json={"event": {"name": "Another"}})
    assert (status, told["event"]["name"]) == (200, "Another")
    assert (await anna("DELETE", f"/events/{event['id']}.json"))[0] == 200
    gone = (404, {"errors": {"base": ["Event not found"]}})
    assert await anna("GET", f"/events/{event['id']}") == gone
    assert await anna("DELETE", "/events/x.json") == gone
    status, told = await anna.event(sdk=True, **given)
    assert (status, [each["event"]["notification_channel"] for each in told]) == (201, [{"name": "apns"}])


async def test_c5_the_sample_payloads_of_apple_and_android(anna):
    _, apple = await anna.subscribe()
    _, android = await anna.subscribe("gcm")
    hello = {"aps": {"alert": "Hello world", "badge": 2}, "dialog_id": "89y970c0912c123fed45652n", "user_id": 51}
    ids = {"user": {"ids": [anna.id]}}
    assert (await anna.event(push_type="apns", message="payload=" + b64(hello), **ids))[0] == 201
    assert (await until(lambda: anna.at_apple(apple)))[0][1] == hello
    arrived = "data.message=TmV3K21lc3NhZ2UrYXJyaXZlZA==&data.text=" + b64("a+%C3%A9%26~") + "&data.n=NQ"
    status, told = await anna.event(push_type="gcm", message=arrived, **ids)
    assert (status, told[0]["event"]["message"]) == (201, arrived)
    (content,) = await until(lambda: anna.at_google(android))
    assert content["data"] == {"message": "New message arrived", "text": "a é&~", "n": "5"}
    assert "notification" not in content
    # What is left of a day: a second has passed where the machine is busy.
    assert 86_370 <= int(content["android"].pop("ttl").removesuffix("s")) <= 86_400
    assert content["android"] == {"priority": "HIGH", "collapse_key": f"event{told[0]['event']['id']}"}
    assert content["apns"]["payload"]["aps"]["alert"]["body"] == "New message arrived"
    # As a form, where the ampersands of the message are escaped twice, and as the seed says.
    event = {"notification_type": "push", "environment": "development", "push_type": "gcm", "message": arrived}
    form = {f"event[{name}]": value for name, value in event.items()} | {"event[user][ids]": str(anna.id)}
    for message in (arrived, arrived.replace("&", "%26")):
        status, told = await anna("POST", "/events.json", data=form | {"event[message]": message})
        assert (status, told["event"]["notification_channel"]) == (201, {"name": "gcm"})
    contents = await until(lambda: anna.at_google(android), 3)
    assert [each["data"] for each in contents] == [content["data"]] * 3


async def test_a_universal_event_is_one_of_each_channel(anna):
    _, apple = await anna.subscribe()
    _, android = await anna.subscribe("gcm")
    _, browser = await anna.subscribe("web")
    walking = {
        "message": "Walking in a flowers garden > ~?",
        "ios_badge": 2,
        "ios_sound": "lounge.wav",
        "user_id": "51",
    }
    more = {"nested": {"a": 1}, "ios_content_available": 1, "ios_mutable_content": "1", "ios_category": "c"}
    status, told = await anna.event(sdk=False, user={"ids": [anna.id]}, message=b64(walking | more))
    events = {each["event"]["notification_channel"]["name"]: each["event"] for each in told}
    assert (status, list(events)) == (201, ["apns", "gcm", "web"])
    aps = {
        "alert": {"body": walking["message"]},
        "badge": 2,
        "sound": "lounge.wav",
        "content-available": 1,
        "mutable-content": 1,
        "category": "c",
    }
    payload = {"aps": aps, "user_id": "51", "nested": {"a": 1}}
    assert (await until(lambda: anna.at_apple(apple)))[0][1] == payload
    assert orjson.loads(base64.b64decode(events["apns"]["message"].removeprefix("payload="))) == payload
    data = {"message": walking["message"], "user_id": "51", "nested": '{"a":1}'}
    assert (await until(lambda: anna.at_google(android)))[0]["data"] == data
    assert told_of(events["gcm"]["message"]) == {f"data.{name}": value for name, value in data.items()}
    assert not {"+", "/"} & set(events["gcm"]["message"])
    service = anna.app.vendors.push
    (push,) = await until(lambda: [each for each in service.pushes if each.name == browser.name])
    content = {"data": {"message": walking["message"], "user_id": "51", "nested": {"a": 1}}}
    assert orjson.loads(push.text) == content
    assert orjson.loads(base64.b64decode(events["web"]["message"].removeprefix("payload="))) == content


async def test_c6_plain_text_in_base64_is_the_message(anna):
    _, token = await anna.subscribe()
    text = "V2Fsa2luZyBpbiBhIGZsb3dlcnMgZ2FyZGVu"
    assert (await anna.event(user={"ids": str(anna.id)}, message=text))[0] == 201
    assert (await until(lambda: anna.at_apple(token)))[0][1] == {
        "aps": {"alert": {"body": "Walking in a flowers garden"}}
    }


async def test_newer_universal_parameters(anna):
    _, apple = await anna.subscribe()
    _, android = await anna.subscribe("gcm")
    fields = {
        "message": "Text",
        "title": "Title",
        "ios_thread_id": "t",
        "ios_loc_data": {"title_loc_key": "K", "body_loc_args": ["a"]},
        "expiration": int(time.time()) + 600,
        "android_fcm_notification": {"title": "Shown", "body": "There"},
    }
    assert (await anna.event(user={"ids": [anna.id]}, message=b64(fields)))[0] == 201
    ((headers, payload),) = await until(lambda: anna.at_apple(apple))
    alert = {"title": "Title", "body": "Text", "title-loc-key": "K", "loc-args": ["a"]}
    assert payload == {"aps": {"alert": alert, "thread-id": "t"}}
    assert abs(int(headers["apns-expiration"]) - fields["expiration"]) <= 2
    (content,) = await until(lambda: anna.at_google(android))
    assert content["notification"] == {"title": "Shown", "body": "There"}
    assert content["data"] == {"message": "Text", "title": "Title"}
    silent = {"ios_push_type": "background", "ios_content_available": 1, "key": "v"}
    assert (await anna.event(user={"ids": [anna.id]}, message=b64(silent)))[0] == 201
    headers, payload = (await until(lambda: anna.at_apple(apple), 2))[1]
    assert headers["apns-push-type"] == "background"
    assert (payload["aps"]["content-available"], payload["key"]) == (1, "v")


async def test_voip_rings_where_it_can_and_is_an_alert_elsewhere(app):
    anna, ben, cleo = [await app.user() for _ in range(3)]
    _, plain = await anna.subscribe(udid="anna")
    _, ring = await anna.subscribe("apns_voip", udid="anna")
    _, only = await ben.subscribe()
    _, android = await cleo.subscribe("gcm")
    ids = [each.id for each in (anna, ben, cleo)]
    status, told = await anna.event(user={"ids": ids}, message=b64({"message": "Call", "ios_voip": 1}))
    names = [each["event"]["notification_channel"]["name"] for each in told]
    assert (status, names) == (201, ["apns_voip", "apns", "gcm"])
    ((headers, payload),) = await until(lambda: anna.at_apple(ring))
    assert (headers["apns-push-type"], payload["aps"]["alert"]) == ("voip", {"body": "Call"})
    assert headers["apns-topic"].endswith(".voip")
    assert (await until(lambda: anna.at_apple(only)))[0][0]["apns-push-type"] == "alert"
    await until(lambda: anna.at_google(android))
    assert anna.at_apple(plain) == []
    status, told = await anna.event(push_type="apns_voip", user={"ids": ids}, message="payload=" + b64({"x": 1}))
    assert (status, len(told)) == (201, 1)
    assert (await until(lambda: anna.at_apple(ring), 2))[1][1] == {"aps": {}, "x": 1}


async def test_environments_are_kept_apart(anna):
    _, development = await anna.subscribe()
    _, production = await anna.subscribe(environment="production")
    ids = {"user": {"ids": [anna.id]}}
    status, told = await anna.event(environment="production", message=b64({"message": "To production"}), **ids)
    assert (status, told[0]["event"]["environment"]) == (201, "production")
    await until(lambda: anna.at_apple(production))
    assert anna.at_apple(development) == []


TAGGED = {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": []}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def people(behind):
    """Users with tags and a device each, of an app of their own."""
    app = await behind.app()
    made = {}
    for number, (name, tags) in enumerate(TAGGED.items(), 1):
        made[name] = await app.user(tag_list=tags, external_user_id=number)
        made[name].device = (await made[name].subscribe())[1]
    return made


@pytest.mark.parametrize(
    ("whom", "reached", "query"),
    [
        ({"user": {"tags": {"any": "x"}}}, "ab", {"any": "x"}),
        ({"user": {"tags": {"any": "x,y"}}}, "abc", {"any": "x,y"}),
        ({"user": {"tags": {"all": "x,y"}}}, "b", {"all": "x,y"}),
        ({"user": {"tags": {"exclude": "x"}}}, "cd", {"exclude": "x"}),
        ({"user": {"tags": {"any": "x,other", "exclude": "y"}}}, "a", {"any": "x,other", "exclude": "y"}),
        ({"external_user": {"ids": "1,4"}}, "ad", None),
        ({"external_user": {"ids": [2]}}, "b", None),
        ({"user": {"ids": "$a"}, "external_user": {"ids": "3"}}, "ac", None),
        ({"user": {"ids": "$a,$b", "tags": {"exclude": "y"}}, "external_user": {"ids": "3"}}, "a", {"exclude": "y"}),
    ],
)
async def test_c7_c10_who_is_named_and_who_is_tagged(people, whom, reached, query):
    if "ids" in whom.get("user", {}):
        ids = ",".join(str(people[one].id) for one in re.findall(r"\$(\w)", whom["user"]["ids"]))
        whom = whom | {"user": whom["user"] | {"ids": ids}}
    sender = people["d"]
    before = {name: len(sender.at_apple(one.device)) for name, one in people.items()}
    status, told = await sender.event(message=b64({"message": "Hello"}), **whom)
    assert status == 201, told
    for name in reached:
        await until(lambda name=name: sender.at_apple(people[name].device), before[name] + 1)
    await asyncio.sleep(0.05)
    after = {name for name, one in people.items() if len(sender.at_apple(one.device)) > before[name]}
    assert after == set(reached)
    said = told[0]["event"]["tag_query"]
    assert (None if said is None else orjson.loads(said)) == query


async def test_nobody_to_send_to_is_422(app, anna):
    ben = await app.user()
    for given in ({"message": b64("Hello")}, {"message": GAME, "push_type": "apns"}):
        status, told = await anna.event(user={"ids": [ben.id, 999_999_999]}, **given)
        assert (status, told["errors"]) == (
            422,
            [NOBODY["errors"][0].format(f"{ben.id}, 999999999")],
        )
    status, told = await anna.event(user={"tags": {"any": "unheard of"}}, message=b64("Hello"))
    assert (status, len(told["errors"])) == (422, 1)


NOW = int(time.time())
IDS = {"user": {"ids": "1"}}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"notification_type": "pull"}, "notification_type"),
        ({"notification_type": None}, "notification_type"),
        ({"environment": "staging"}, "environment"),
        ({"environment": None}, "environment"),
        ({"push_type": "bbps"}, "push_type"),
        ({"message": ""}, "message"),
        ({"message": None}, "message"),
        ({"message": "%%%"}, "message"),
        ({"message": "/w=="}, "message"),
        ({"push_type": "gcm", "message": "data.text=eA=="}, "message"),
        ({"push_type": "gcm", "message": "data.message=!"}, "message"),
        ({"push_type": "apns", "message": "eyJhcHMiOnt9fQ=="}, "message"),
        ({"push_type": "apns", "message": "payload=eA=="}, "message"),
        ({"event_type": "never"}, "event_type"),
        ({"event_type": "fixed_date"}, "date"),
        ({"date": NOW - 3_600}, "date"),
        ({"event_type": "fixed_date", "date": str(NOW - 3_600)}, "date"),
        ({"date": "soon"}, "date"),
        ({"date": NOW + 3_600, "period": 3_600}, "period"),
        ({"date": NOW + 3_600, "event_type": "period_date"}, "period"),
        ({"period": 86_400}, "date"),
        ({"date": NOW + 3_600, "period": 86_400, "end_date": NOW}, "end_date"),
        ({"user": None}, "user"),
        ({"user": {"ids": ""}}, "user"),
        ({"user": {"ids": "one"}}, "user"),
        ({"user": {"tags": "x"}}, "tags"),
        ({"name": "x" * 256}, "name"),
    ],
)
async def test_a_wrong_event_is_422_at_its_field(anna, given, field):
    status, told = await anna.event(**{"message": b64("Hello"), **IDS} | given)
    assert (status, list(told["errors"])) == (422, [field])


async def test_a_body_that_is_none_is_422(anna):
    for options in (
        {"data": b"{"},
        {"data": b"[]", "headers": {"Content-Type": "application/json"}},
        {"json": {"event": 1}},
    ):
        status, told = await anna("POST", "/events", **options)
        assert (status, isinstance(told["errors"], dict)) == (422, True)


# Events that wait


async def test_a_fixed_date_waits_and_can_be_edited_switched_and_deleted(anna):
    await anna.subscribe()
    at = NOW + 86_400
    status, told = await anna.event(user={"ids": [anna.id]}, message=GAME, push_type="apns", date=str(at), name="Later")
    event = told[0]["event"]
    assert (status, event["event_type"], event["date"], event["active"]) == (201, "fixed_date", at, True)
    path = f"/events/{event['id']}"
    for active in (False, True):
        status, told = await anna("PUT", path, json={"event": {"active": active}})
        assert (status, told["event"]["active"], told["event"]["occured_count"]) == (200, active, 0)
    edit = {"date": at + 60, "message": "payload=" + b64({"aps": {"alert": "New"}})}
    status, told = await anna("PUT", path, json={"event": edit})
    assert (status, told["event"]["date"], told["event"]["message"]) == (200, at + 60, edit["message"])
    (schedule,) = (await anna.app.tenant.server.ok("GET", "/schedules", params={"limit": 1}))["items"]
    assert (schedule["next_at"], schedule["message"]["body"], schedule["name"]) == (at + 60, "New", "Later")
    status, told = await anna("PUT", path, json={"event": {"date": NOW - 100}})
    assert (status, list(told["errors"])) == (422, ["date"])
    status, told = await anna("PUT", path, json={"event": {"period": 604_800}})
    assert (status, told["event"]["event_type"]) == (200, "period_date")
    assert (await anna("DELETE", path))[0] == 200
    assert (await anna.app.tenant.server.ok("GET", f"/schedules/{schedule['id']}"))["state"] == "cancelled"


async def test_a_date_that_comes_is_sent_and_then_over(anna):
    _, token = await anna.subscribe()
    status, told = await anna.event(user={"ids": [anna.id]}, message=b64("Soon"), date=int(time.time()) + 2)
    events = {each["event"]["notification_channel"]["name"]: each["event"] for each in told}
    assert (status, list(events)) == (201, ["apns", "gcm", "web"])
    await until(lambda: anna.at_apple(token))
    path = f"/events/{events['apns']['id']}"
    shown = await anna.shown(events["apns"]["id"])
    assert (shown["occured_count"], shown["active"]) == (1, False)
    status, told = await anna("PUT", path, json={"event": {"active": True}})
    assert (status, list(told["errors"])) == (422, ["base"])
    assert (await anna("PUT", path, json={"event": {"active": False, "name": "Was"}}))[0] == 200


@pytest.mark.parametrize("period", [86_400, 604_800, 2_592_000, 31_557_600])
async def test_a_period_occurs_until_its_end(anna, period):
    _, token = await anna.subscribe()
    start = int(time.time()) - period + 2
    given = {"user": {"ids": [anna.id]}, "message": GAME, "push_type": "apns", "event_type": "period_date"}
    status, told = await anna.event(date=start, period=period, end_date=start + period, **given)
    event = told[0]["event"]
    assert (status, event["event_type"], event["period"], event["end_date"]) == (
        201,
        "period_date",
        period,
        start + period,
    )
    await until(lambda: anna.at_apple(token))
    shown = await anna.shown(event["id"])
    async with asyncio.timeout(10):
        while shown["active"]:
            await asyncio.sleep(0.05)
            shown = await anna.shown(event["id"])
    assert shown["occured_count"] == 1


# Lists, owners, and the policy


async def test_lists_are_the_users_look_ups_the_apps(app, anna):
    ben = await app.user()
    await anna.subscribe()
    ids = [(await anna.event(user={"ids": [anna.id]}, message=b64(str(n))))[1][0]["event"]["id"] for n in range(12)]
    status, page = await anna("GET", "/events?page=2&per_page=5")
    assert (status, page["current_page"], page["per_page"], page["total_entries"]) == (200, 2, 5, 12)
    assert [each["event"]["id"] for each in page["items"]] == ids[::-1][5:10]
    _, page = await anna("GET", "/events.json")
    assert len(page["items"]) == 10
    assert (await ben("GET", "/events"))[1] == {"current_page": 1, "per_page": 10, "total_entries": 0, "items": []}
    assert (await ben.shown(ids[0]))["user_id"] == anna.id
    for method, body in (("PUT", {"event": {"name": "x"}}), ("DELETE", None)):
        assert (await ben(method, f"/events/{ids[0]}", json=body))[0] == 403
    assert (await anna("GET", "/events?page=x"))[0] == 422


async def test_apps_send_as_the_policy_lets_them_and_servers_always(behind):
    app = await behind.app(client_sends_per_minute=0)
    anna = await app.user()
    await anna.subscribe()
    given = {"user": {"ids": [anna.id]}, "message": b64("Hello")}
    refused = (403, {"errors": {"base": ["Only servers send here"]}})
    assert await anna.event(**given) == refused
    # Nor is one told whether others could be reached.
    for date in ({}, {"date": NOW + 86_400}):
        assert await anna.event(**given | {"user": {"ids": [999_999_999]}} | date) == refused
    settings = {"client_sends_per_minute": 2}
    await app.tenant.admin.ok("PATCH", f"/apps/{app.tenant.app_id}", {"settings": settings})
    assert [(await anna.event(**given))[0] for _ in range(3)] == [201, 201, 429]
    session = await app.open()
    assert await session.event(**given) == (403, {"errors": {"base": ["Forbidden. Need user."]}})
    made = await app.tenant.server.ok("POST", "/vendor-keys", {"dialect": "connectycube", "identity": app.auth_key})
    # Beside an app's key a server's has to sign.
    assert (await (await app.open()).event(**given))[0] == 403
    said = {"application_id": 1, "auth_key": app.auth_key, "timestamp": 1}
    line = "&".join(sorted(f"{name}={value}" for name, value in said.items()))
    signature = hmac.new(made["secret"].encode(), line.encode(), hashlib.sha1).hexdigest()
    server = await app.open(**said, signature=signature)
    for _ in range(3):
        status, told = await server.event(**given)
        assert (status, told[0]["event"]["user_id"]) == (201, 0)
    assert (await server("GET", "/events"))[1]["total_entries"] == 3


async def test_another_apps_events_and_users_are_not_there(behind, anna):
    await anna.subscribe()
    _, told = await anna.event(user={"ids": [anna.id]}, message=b64("Hello"))
    stranger = await (await behind.app()).user()
    assert (await stranger("GET", f"/events/{told[0]['event']['id']}"))[0] == 404
    assert (await stranger.event(user={"ids": [anna.id]}, message=b64("Hello")))[0] == 422


# Mail


@pytest.mark.parametrize(
    "message",
    ["subject=" + b64("Hello") + "&body=" + b64("Apples"), b64({"subject": "Hello", "body": "Apples"})],
)
async def test_a_mail_goes_to_the_users_address(app, behind, message):
    address = f"anna{len(behind.relay.mails)}@example.org"
    anna = await app.user(email=address)
    event = {"notification_type": "email", "environment": "development", "message": message, "user": {"ids": [anna.id]}}
    status, told = await anna("POST", "/events", json={"event": event})
    assert (status, told["event"]["notification_channel"]) == (201, {"name": "email"})
    mails = await until(lambda: [mail for mail in behind.relay.mails if mail.recipient == address])
    assert b"Subject: Hello" in mails[0].octets
    assert b"Apples" in mails[0].octets
    assert (await anna("GET", "/subscriptions")) == (200, [])


# The server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/events/1/more", 404),
        ("PATCH", "/events", 405),
        ("POST", "/session", 413),
        ("PUT", "/users.json", 405),
        ("POST", "/events", 415),
    ],
)
async def test_errors_of_the_server_are_json(app, method, path, status):
    data = b"x" * 1_100_000 if status == 413 else b"x" if status == 415 else None
    headers = {"Content-Type": "image/png"} if status == 415 else {"Content-Type": "application/json"}
    if status == 415:
        headers["CB-Token"] = (await app.user()).token
    found, answered, body = await app.raw(method, path, data=data, headers=headers)
    assert (found, list(body)) == (status, ["errors"])
    assert answered["Access-Control-Allow-Origin"] == "*"


async def test_strange_texts_are_refused_and_never_500(app, anna):
    nul, deep = "a\x00b", b"[" * 300 + b"]" * 300
    for method, path, body in (
        ("POST", "/session", {"auth_key": nul}),
        ("POST", "/session", {"auth_key": app.auth_key, "user": {"login": nul, "password": nul}}),
        ("POST", "/session", {"auth_key": app.auth_key, "user": {"email": f"{nul}@example.com", "password": "x"}}),
        ("POST", "/users", {"user": {"login": nul, "password": PASSWORD, "external_user_id": nul}}),
        ("POST", "/login", {"login": nul, "password": nul}),
        ("POST", "/events", {"event": {"notification_type": nul}}),
    ):
        status, told = await anna(method, path, json=body)
        assert (status in {401, 422}, "errors" in told) == (True, True), (path, body, status, told)
    for name in ("name", "message"):
        status, told = await anna.event(**{"user": {"ids": [anna.id]}, "message": b64("x"), name: nul})
        assert (status, "errors" in told) == (422, True)
    for raw in (
        deep,
        b'{"a":' + deep + b"}",
        b'{"signature":"x","auth_key":"' + app.auth_key.encode() + b'","a":' + deep + b"}",
    ):
        status, _, told = await app.raw("POST", "/session", data=raw, headers={"Content-Type": "application/json"})
        assert (status, "errors" in told) == (422, True)
    message = base64.b64encode(b'{"message":"x","y":' + deep + b"}").decode()
    status, told = await anna.event(user={"ids": [anna.id]}, message=message)
    assert (status, list(told["errors"])) == (422, ["message"])


async def test_flutters_calls_with_the_strictness_of_its_parser(app, anna):
    """All scalars are texts, an empty token comes before login, and every field of an answer has its one type."""
    login = anna.told["user"]["login"]
    own = {"CB-SDK": "Flutter 1.1.3", "ConnectyCube-REST-API-Version": "0.1.1", "CB-Token": ""}
    said = {"application_id": "1", "auth_key": app.auth_key, "nonce": "4294967295", "timestamp": "1795249876"}
    lines = sorted(
        [*(f"{name}={value}" for name, value in said.items()), f"user[login]={login}", f"user[password]={PASSWORD}"]
    )
    signature = hmac.new(app.secret.encode(), "&".join(lines).encode(), hashlib.sha1).hexdigest()
    body = {**said, "user": {"login": login, "password": PASSWORD}, "signature": signature}
    status, headers, told = await app.raw("POST", "/session", json=body, headers=own)
    assert (status, "CB-Token-ExpirationDate" in headers) == (201, True)
    session = told["session"]
    assert all(type(session[name]) is int for name in ("id", "user_id", "application_id", "ts", "nonce"))
    user = session["user"]
    texts = ("facebook_id", "twitter_id", "user_tags", "login", "email", "full_name", "phone", "website", "custom_data")
    assert all(user[name] is None or type(user[name]) is str for name in texts)
    assert all(ISO.fullmatch(user[name]) for name in ("created_at", "updated_at", "last_request_at"))
    assert (type(user["id"]), user["external_user_id"]) == (int, None)
    own["CB-Token"] = session["token"]
    for channel, platform in (("gcm", "ios"), ("apns_voip", "ios")):
        device = {"platform": platform, "udid": f"flutter-{anna.id}"}
        sequence = "d3Fg_x:APA91b-flutter" if channel == "gcm" else anna.app.tenant.token()
        push_token = {"environment": "development", "client_identification_sequence": sequence}
        body = {"notification_channel": channel, "push_token": push_token, "device": device}
        status, _, told = await app.raw("POST", "/subscriptions", json=body, headers=own)
        assert (status, told[0]["subscription"]["device"]["platform"]["name"]) == (201, platform)
    event = {"notification_type": "push", "environment": "development", "user": {"ids": f"{anna.id}"}}
    message = b64({"message": "a + b = c/d ~ é", "dialog_id": "5"})
    for more in ({}, {"push_type": "gcm", "message": "data.message=" + b64("x")}):
        body = {"event": event | {"message": message} | more}
        status, _, told = await app.raw("POST", "/events", json=body, headers=own)
        assert (status, type(told)) == (201, list)
        for each in (one["event"] for one in told):
            assert all(type(each[name]) is int for name in ("id", "occured_count", "application_id", "user_id"))
            assert all(each[name] is None for name in ("date", "period", "end_date", "name", "tag_query"))
            assert (type(each["active"]), type(each["notification_channel"]["name"])) == (bool, str)
            if each["notification_channel"]["name"] == "gcm" and not more:
                expected = {"data.message": "a + b = c/d ~ é", "data.dialog_id": "5"}
                assert told_of(each["message"]) == expected


async def test_a_universal_event_goes_to_all_channels_or_to_none(anna):
    _, apple = await anna.subscribe("apns")
    _, android = await anna.subscribe("gcm")
    before = (await anna("GET", "/events"))[1]["total_entries"]
    # It fits Android's data, and not Apple's payload around it.
    long = {"message": "x" * 4_060}
    status, told = await anna.event(user={"ids": [anna.id]}, message=b64(long))
    assert (status, list(told["errors"])) == (422, ["message"])
    assert (await anna("GET", "/events"))[1]["total_entries"] == before
    status, told = await anna.event(user={"ids": [anna.id]}, message=b64({"message": "short"}))
    assert (status, len(told)) == (201, 2)
    assert len(await until(lambda: anna.at_google(android))) == 1
    assert len(await until(lambda: anna.at_apple(apple))) == 1


async def test_preflights_of_browsers_are_answered(app):
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    for path in ("/session.json", "/events", "/events/7.json", "/subscriptions/7"):
        status, answered, _ = await app.raw("OPTIONS", path, headers=headers)
        assert (status, answered["Access-Control-Allow-Origin"]) == (200, "*")
        allowed = answered["Access-Control-Allow-Headers"].split(", ")
        assert {"CB-Token", "CB-AuthKey", "CB-SDK", "Content-Type"} <= set(allowed)
        assert answered["Access-Control-Expose-Headers"] == "CB-Token-ExpirationDate"


async def test_the_vendors_host_is_its_own(app):
    status, _, body = await app.raw("GET", "/nothing", headers={"Host": "api.connectycube.com"})
    assert (status, list(body)) == (404, ["errors"])
