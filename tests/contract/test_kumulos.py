"""Kumulos's server API: each sample of its document with keys filled in, and each error that it names."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import orjson
import pytest
import pytest_asyncio

from tests import fences
from tests.contract.kumulos import PLAIN, Orchard, moment

pytestmark = pytest.mark.asyncio(loop_scope="package")

HELLO = {"target": {"broadcast": True}, "content": {"title": "Hello World", "message": "from Kumulos Push"}}
CURL = b"""{
"target": { "broadcast": true },
"content": {"title": "Hello World", "message": "from Kumulos Push" }
}"""
CHANNEL_AS_PRINTED = b"""{
"uuid": "channel-uuid",
"name": "friendly name"
"showInPortal": true
"meta": {
"additional": "data"
}
}"""
CHANNEL = {
    "uuid": "channel-uuid",
    "name": "friendly name",
    "showInPortal": True,
    "meta": {"additional": "data"},
}
NOTIFICATION = {
    *("appId", "source", "status", "filters", "title", "message", "data", "updatedAt", "createdAt", "id"),
}
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")


@pytest_asyncio.fixture(loop_scope="package")
async def app(tenant):
    return await Orchard.of(tenant)


async def sent(app, **more):
    status, told = await app("POST", "/v2/notifications", {**HELLO, **more})
    assert status == 202, told
    return told


# Notifications


async def test_the_sample_curl_and_its_answer(app):
    phone = await app.phone().start()
    status, told = await app("POST", "/v2/notifications", CURL)
    assert status == 202
    assert told["errors"] is None
    notification = told["notification"]
    assert notification.keys() == NOTIFICATION
    assert type(notification["id"]) is int
    assert abs(moment(notification["createdAt"]).timestamp() - time.time()) < 60
    assert moment(notification["updatedAt"])
    fixed = {name: notification[name] for name in ("appId", "source", "status", "filters", "title", "message", "data")}
    assert fixed == {
        "appId": app.app_id,
        "source": 1,
        "status": 1,
        "filters": {"broadcast": True},
        "title": "Hello World",
        "message": "from Kumulos Push",
        "data": None,
    }
    (payload,) = await app.pushed(phone)
    assert payload["aps"]["alert"] == {"title": "Hello World", "body": "from Kumulos Push"}


async def test_the_sample_of_php(app):
    await app.phone().start()
    body = orjson.dumps(
        {"target": {"broadcast": True}, "content": {"title": "Test Broadcast", "message": "Test from PHP"}}
    )
    headers = {"content-type": "application/json", "accept": "application/json", "content-length": str(len(body))}
    status, told = await app("POST", "/v2/notifications", body, headers=headers)
    assert (status, told["notification"]["title"]) == (202, "Test Broadcast")


@pytest.mark.parametrize("path", ["/notifications", "/v1/notifications"])
async def test_the_flat_body_of_version_1(app, path):
    phone = await app.phone().start()
    status, told = await app("POST", path, {"broadcast": True, "title": "Hello", "message": "World"})
    assert (status, told["notification"]["filters"]) == (202, {"broadcast": True})
    (payload,) = await app.pushed(phone)
    assert payload["aps"]["alert"] == {"title": "Hello", "body": "World"}
    body = {
        "installIds": [phone.id],
        "title": "A",
        "message": "B",
        "isBackground": True,
        "data": {"a": 1},
        "url": "x://y",
    }
    assert (await app("POST", path, body))[0] == 202


async def test_every_field_of_a_notification(app):
    phone = await app.phone().start("member-id-1")
    body = {
        "target": {"userIds": ["member-id-1"]},
        "content": {"title": "T", "message": "M", "url": "https://example.com/offer", "data": {"key": "value"}},
        "collapseId": "offers",
        "runBackgroundHandler": True,
        "ios": {
            "category": "rich",
            "badge": {"type": "setTo", "count": 3},
            "sound": "ding.caf",
            "media": {"pictureUrl": "https://example.com/a.png"},
            "relevanceScore": 0.5,
            "interruptionLevel": "time-sensitive",
        },
        "android": {
            "highPriority": True,
            "sound": "ding",
            "pictureUrl": "https://example.com/a.png",
            "notificationType": "important",
        },
        "userMeta": {"member-id-1": {"messageSequenceNumber": 1}},
        "reportingMeta": {"campaign": "Summer Promotion"},
        "buttons": [{"id": "yes", "text": "Yes"}, {"id": "no", "text": "No"}],
        "ttl": 1440,
    }
    status, told = await app("POST", "/v2/notifications", body)
    assert status == 202, told
    (payload,) = await app.pushed(phone)
    aps = payload["aps"]
    assert (aps["badge"], aps["sound"], aps["category"]) == (3, "ding.caf", "rich")
    assert (aps["relevance-score"], aps["interruption-level"]) == (0.5, "time-sensitive")
    assert payload["custom"] == {
        "u": "https://example.com/offer",
        "a": {
            "key": "value",
            "k.message": {"type": 1, "data": {"id": told["notification"]["id"]}},
            "k.buttons": body["buttons"],
            "k.notificationType": "important",
        },
    }
    assert (payload["attachments"], aps["mutable-content"]) == ({"pictureUrl": "https://example.com/a.png"}, 1)
    view = await app.tenant.show(told["notification"]["id"])
    assert (view["ttl_s"], view["reporting_meta"]) == (1440, {"campaign": "Summer Promotion"})
    assert view["collapse_id"] == "offers"


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        ({"broadcast": True}, {"anna", "ben", "cleo"}),
        ({"broadcast": True, "excludeInstallIds": ["BEN"]}, {"anna", "cleo"}),
        ({"installIds": ["ANNA", "CLEO"]}, {"anna", "cleo"}),
        ({"userIds": [123]}, {"ben"}),
        ({"userIds": ["123"], "installIds": ["ANNA"]}, {"anna", "ben"}),
        ({"channelUuids": ["news"]}, {"anna", "ben"}),
        ({"channelUuids": ["news", "sport"], "excludeInstallIds": ["ANNA"]}, {"ben", "cleo"}),
        ({"segmentUuid": "germans"}, {"anna", "cleo"}),
        ({"segmentUuid": "germans", "channelUuids": ["news"]}, {"anna"}),
        ({"geofenceTags": ["Nature"]}, {"cleo"}),
        ({"geofenceBroadcast": True}, {"cleo"}),
    ],
)
async def test_each_kind_of_target(crowd, target, reached):
    status, told = await crowd("POST", "/v2/notifications", {**HELLO, "target": target})
    assert (status, told["errors"]) == (202, None), told
    assert told["notification"]["filters"] == target
    view = await crowd.tenant.finished(told["notification"]["id"])
    tokens = {name for name, phone in crowd.phones.items() if crowd.tenant.arrived(phone.token) > crowd.before[name]}
    assert (view["counts"]["targeted"], tokens) == (len(reached), reached)


@pytest_asyncio.fixture(loop_scope="package")
async def crowd(app):
    """Three phones: Anna's and Cleo's in German, Ben's of user 123; channels, a segment, and a fence around Cleo."""
    names = ("anna", "ben", "cleo")
    app.phones = {name: app.phone(install_id=name.upper()) for name in names}
    for phone in app.phones.values():
        await phone.start()
    await app.phones["ben"].tell(app.phones["ben"].tracked(locale="en-GB"))
    await app.phones["ben"].log_in("123")
    for uuid, installs in (("news", ["ANNA", "BEN"]), ("sport", ["CLEO"])):
        assert (await app("POST", "/channels", {"uuid": uuid}))[0] == 201
        assert (await app("POST", f"/v2/channels/{uuid}/subscriptions", {"installIds": installs})) == (204, None)
    segment = {"name": "Germans", "uuid": "germans", "audience": {"type": "language", "any": ["de"]}}
    await app.tenant.server.ok("POST", "/segments", segment)
    status, fence = await app("POST", "/v1/geofences", CIRCLE)
    assert status == 201
    app.fence = fence["id"]
    cleo = app.phones["cleo"]
    await cleo.tell(cleo.event("k.engage.locationUpdated", {"lat": 40.7827, "lng": -73.9652}))
    app.before = {name: app.tenant.arrived(phone.token) for name, phone in app.phones.items()}
    return app


async def test_installs_in_a_geofence_by_its_id(crowd):
    for target, count in (
        ({"geofenceIds": [crowd.fence]}, 1),
        ({"geofenceIds": [crowd.fence], "channelUuids": ["news"]}, 0),
    ):
        status, told = await crowd("POST", "/v2/notifications", {**HELLO, "target": target})
        assert status == 202
        assert (await crowd.tenant.finished(told["notification"]["id"]))["counts"]["targeted"] == count


async def test_who_is_not_there_is_told_as_he_was_named(app):
    phone, gone = await app.phone().start("member"), await app.phone(install_id="GONE").start("left")
    await gone.tell(gone.event("k.push.deviceUnsubscribed"))
    target = {"installIds": ["uuid1", gone.id, phone.id], "userIds": [123, "left", "456"]}
    status, told = await app("POST", "/v2/notifications", {**HELLO, "target": target})
    assert status == 202
    errors = {
        "unknownInstallIds": ["uuid1"],
        "unsubscribedInstallIds": ["GONE"],
        "unknownUserIds": [123, "456"],
        "unsubscribedUserIds": ["left"],
    }
    assert told["errors"] == errors
    await app.pushed(phone)
    target = {"installIds": ["uuid1", gone.id], "userIds": [123, "left", "456"]}
    status, told = await app("POST", "/v2/notifications", {**HELLO, "target": target})
    assert (status, told) == (400, {"notification": None, "errors": errors})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": None}, "target"),
        ({"target": {}}, "target.broadcast"),
        ({"target": []}, "target"),
        ({"target": {"broadcast": True, "installIds": ["a"]}}, "target.installIds"),
        ({"target": {"userIds": ["a"], "channelUuids": ["a"]}}, "target.channelUuids"),
        ({"target": {"installIds": "a"}}, "target.installIds"),
        ({"target": {"installIds": [None]}}, "target.installIds"),
        ({"target": {"channelUuids": ["nowhere"]}}, "target"),
        ({"target": {"segmentUuid": "nowhere"}}, "target"),
        ({"target": {"geofenceIds": [999]}}, "target"),
        ({"target": {"geofenceIds": ["x"]}}, "target.geofenceIds"),
        ({"content": None}, "content"),
        ({"content": {"message": "x"}}, "content.title"),
        ({"content": {"title": "x"}}, "content.message"),
        ({"content": {"title": "x", "message": "x", "data": []}}, "content.data"),
        ({"collapseId": "x" * 65}, "collapseId"),
        ({"runBackgroundHandler": "maybe"}, "runBackgroundHandler"),
        ({"ios": {"badge": {"type": "add", "count": 1}}}, "ios.badge.type"),
        ({"ios": {"badge": {"type": "setTo", "count": -1}}}, "ios.badge.count"),
        ({"ios": {"badge": {"type": "incrementBy"}}}, "ios.badge.count"),
        ({"ios": {"media": {"pictureUrl": "http://"}}}, "ios.media.pictureUrl"),
        ({"ios": {"relevanceScore": 2}}, "ios.relevanceScore"),
        ({"ios": {"interruptionLevel": "loud"}}, "ios.interruptionLevel"),
        ({"android": {"notificationType": "loud"}}, "android.notificationType"),
        ({"android": {"notificationType": "general", "notificationChannel": "x"}}, "android.notificationChannel"),
        ({"android": {"pictureUrl": "a.png"}}, "android.pictureUrl"),
        ({"schedule": {}}, "schedule.sendAt"),
        ({"schedule": {"strategy": "soon"}}, "schedule.strategy"),
        ({"schedule": {"strategy": "utc", "pastTimes": "never"}}, "schedule.pastTimes"),
        ({"schedule": {"strategy": "utc", "sendAt": "2026-01-01"}}, "schedule.sendAt"),
        ({"schedule": {"strategy": "utc", "sendAt": "2026-02-30 10:00"}}, "schedule.sendAt"),
        ({"schedule": {"strategy": "intelligent", "sendAt": "2026-01-01 10:00"}}, "schedule.sendAt"),
        ({"schedule": {"strategy": "timezone", "sendAt": "2026-01-01 10:00"}}, "schedule.timezone"),
        ({"intelligentDelivery": True, "schedule": {}}, "intelligentDelivery"),
        ({"userMeta": {"a": 1}}, "userMeta"),
        ({"reportingMeta": "x"}, "reportingMeta"),
        ({"buttons": [{"id": "x"}]}, "buttons"),
        ({"buttons": "x"}, "buttons"),
        ({"ttl": 2_419_201}, "ttl"),
        ({"releaseWindowMinutes": 59}, "releaseWindowMinutes"),
        ({"releaseWindowMinutes": 1_441}, "releaseWindowMinutes"),
    ],
)
async def test_wrong_fields_are_told_by_name(app, change, field):
    status, told = await app("POST", "/v2/notifications", {**HELLO, **change})
    assert status == 422
    assert field in told, told
    assert all(isinstance(each, str) for each in told[field])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"target": {"broadcast": true},}', b"[" * 100_000])
async def test_what_cannot_be_parsed_is_422(app, body):
    status, told = await app("POST", "/v2/notifications", body)
    assert status == 422
    assert isinstance(told, dict)


# When


async def scheduled(app, **more):
    schedule = {"sendAt": f"{TOMORROW} 10:00", "strategy": "utc", "pastTimes": "ignore", **more}
    return (await sent(app, schedule=schedule))["notification"]["id"]


@pytest.mark.parametrize(
    ("more", "next_at"),
    [
        ({}, "10:00:00+00:00"),
        ({"strategy": "timezone", "timezone": "America/New_York"}, None),
        ({"strategy": "local", "pastTimes": "nextDay"}, None),
        ({"strategy": "intelligent", "sendAt": TOMORROW}, None),
    ],
)
async def test_each_strategy_waits_for_its_time(app, more, next_at):
    await app.phone().start()
    number = await scheduled(app, **more)
    view = await app.tenant.until(number, lambda view: view["next_at"] > time.time() + 60)  # once zones are told apart
    assert view["counts"]["accepted"] == 0
    if next_at is not None:
        assert view["next_at"] == datetime.fromisoformat(f"{TOMORROW}T{next_at}").timestamp()


async def test_intelligent_delivery_and_a_release_window(app):
    await app.phone().start()
    for more in ({"intelligentDelivery": True}, {"releaseWindowMinutes": 60}):
        number = (await sent(app, **more))["notification"]["id"]
        view = await app.tenant.server.ok("GET", f"/notifications/{number}")
        assert view["intelligent_delivery"] or view["release_window_minutes"] == 60


async def test_what_waits_is_cancelled_once(app):
    await app.phone().start()
    number = await scheduled(app)
    path = f"/v2/scheduled-notifications/{number}"
    assert await app("DELETE", path) == (204, None)
    assert await app("DELETE", path) == (400, {"error": "Notification already sent"})
    went = (await sent(app))["notification"]["id"]
    await app.tenant.finished(went)
    status, told = await app("DELETE", f"/v2/scheduled-notifications/{went}")
    assert (status, told) == (400, {"error": "Notification already sent"})
    for unknown in ("999999999", "x", "0", "99999999999999999999"):
        status, told = await app("DELETE", f"/v2/scheduled-notifications/{unknown}")
        assert (status, list(told)) == (404, ["error"])


# Opens


@pytest.mark.parametrize("prefix", ["", "/v1", "/v2"])
async def test_who_opened_a_notification(app, prefix):
    anna, ben = await app.phone().start("user-a"), await app.phone().start()
    number = (await sent(app))["notification"]["id"]
    await app.pushed(anna, ben)
    assert await app("GET", f"{prefix}/notifications/{number}/install-opens") == (200, [])
    for phone in (anna, ben):
        await phone.tell(phone.event("k.message.opened", {"type": 1, "id": number}))
    status, told = await app("GET", f"{prefix}/notifications/{number}/install-opens")
    assert (status, {each["installId"] for each in told}) == (200, {anna.id, ben.id})
    assert all(each.keys() == {"installId", "openedAt"} and PLAIN.fullmatch(each["openedAt"]) for each in told)
    status, told = await app("GET", f"{prefix}/notifications/{number}/user-opens")
    assert (status, [each["userId"] for each in told]) == (200, ["user-a"])
    assert (await app("GET", f"{prefix}/notifications/999999999/install-opens"))[0] == 404


async def test_nobody_has_opened_what_waits(app):
    await app.phone().start()
    number = await scheduled(app)
    assert await app("GET", f"/notifications/{number}/install-opens") == (200, [])
    assert await app("GET", f"/notifications/{number}/user-opens") == (200, [])


# Geofences

KEPT = {"isEnabled": True, "tags": ["Tourism", "Nature"]}
CIRCLE = {"name": "Circular Geofence", "boundsGeoJson": fences.CIRCLE, **KEPT}
POLYGON = {"name": "Polygon Geofence", "boundsGeoJson": fences.POLYGON, **KEPT}


@pytest.mark.parametrize("sample", [CIRCLE, POLYGON], ids=["circle", "polygon"])
async def test_the_sample_geofences(app, sample):
    status, told = await app("POST", "/v1/geofences", sample)
    assert status == 201
    assert type(told.pop("id")) is int
    assert moment(told.pop("createdAt")) == moment(told.pop("updatedAt"))
    assert told == {**sample, "activationCount": 0, "activeUsers": 0, "appId": app.app_id}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"boundsGeoJson": None}, "boundsGeoJson"),
        ({"boundsGeoJson": {"type": "Point"}}, "boundsGeoJson.type"),
        ({"boundsGeoJson": {**CIRCLE["boundsGeoJson"], "properties": {}}}, "boundsGeoJson.properties"),
        ({"boundsGeoJson": {**POLYGON["boundsGeoJson"], "properties": {}}}, "boundsGeoJson.properties"),
        ({"tags": "Nature"}, "tags"),
        ({"isEnabled": "yes"}, "isEnabled"),
    ],
)
async def test_wrong_geofences(app, change, field):
    status, told = await app("POST", "/v1/geofences", {**CIRCLE, **change})
    assert status == 422
    assert any(name.startswith(field) for name in told), told


# Channels


async def test_the_sample_channel_is_made_changed_and_deleted(app):
    status, told = await app("POST", "/channels", CHANNEL_AS_PRINTED)
    assert (status, list(told)) == (422, ["body"])  # commas are missing in print
    status, made = await app("POST", "/channels", CHANNEL)
    assert status == 201
    assert all(PLAIN.fullmatch(made[name]) for name in ("updatedAt", "createdAt"))
    fixed = {name: value for name, value in made.items() if name not in {"updatedAt", "createdAt", "id"}}
    assert fixed == {"appId": app.app_id, **CHANNEL}
    path = f"/channels/{made['id']}"
    status, told = await app("PUT", path, {**CHANNEL, "name": "Channel Name"})
    assert (status, told["name"], told["id"]) == (200, "Channel Name", made["id"])
    assert (await app("PUT", path, CHANNEL_AS_PRINTED))[0] == 422
    assert await app("DELETE", path) == (204, None)
    for method in ("PUT", "DELETE"):
        assert (await app(method, path, CHANNEL))[0] == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "uuid"),
        ({"uuid": ""}, "uuid"),
        ({"uuid": 7}, "uuid"),
        ({"uuid": "a", "showInPortal": True}, "name"),
        ({"uuid": "a", "meta": []}, "meta"),
        ({"uuid": "a", "showInPortal": "perhaps"}, "showInPortal"),
    ],
)
async def test_wrong_channels(app, body, field):
    status, told = await app("POST", "/channels", body)
    assert (status, list(told)) == (422, [field])


async def test_a_uuid_is_taken_once(app):
    for uuid in ("a", "b"):
        assert (await app("POST", "/channels", {"uuid": uuid}))[0] == 201
    status, told = await app("POST", "/channels", {"uuid": "a"})
    assert (status, list(told)) == (422, ["uuid"])
    status, made = await app("POST", "/channels", {"uuid": "c"})
    status, told = await app("PUT", f"/channels/{made['id']}", {"uuid": "a"})
    assert (status, list(told)) == (422, ["uuid"])


@pytest.mark.parametrize(
    ("field", "names", "unknown"),
    [
        ("installIds", ["uuid-1", "uuid-2"], "unknownInstallIds"),
        ("userIds", ["memeber-id-1", "memeber-id-2"], "unknownUserIds"),
    ],
)
async def test_the_sample_subscriptions(app, field, names, unknown):
    await app("POST", "/channels", {"uuid": "news"})
    path = "/v2/channels/news/subscriptions"
    for method in ("POST", "DELETE"):
        assert await app(method, path, {field: names}) == (200, {"errors": {unknown: names}})
    for number, name in enumerate(names):
        phone = app.phone(install_id=name) if field == "installIds" else app.phone()
        await phone.start(None if field == "installIds" else name)
        expected = {unknown: names[number + 1 :]}
        status, told = await app("POST", path, {field: names})
        assert (status, told) == ((200, {"errors": expected}) if expected[unknown] else (204, None))
    assert (await app("POST", "/v2/notifications", {**HELLO, "target": {"channelUuids": ["news"]}}))[0] == 202
    assert await app("DELETE", path, {field: names}) == (204, None)


async def test_wrong_subscriptions(app):
    await app("POST", "/channels", {"uuid": "news"})
    for method in ("POST", "DELETE"):
        for body in ({}, {"installIds": []}, {"installIds": "a"}, {"userIds": [None]}, b"{"):
            assert (await app(method, "/v2/channels/news/subscriptions", body))[0] == 422
        status, told = await app(method, "/v2/channels/nowhere/subscriptions", {"installIds": ["a"]})
        assert (status, list(told)) == (404, ["error"])


def csv(content, *, field="file", name="users.csv", kind="text/csv"):
    form = aiohttp.FormData()
    form.add_field(field, content, filename=name, content_type=kind)
    return form


async def uploaded(app, uuid, form):
    status, _, raw = await app.raw("POST", f"/v2/channels/{uuid}/subscribers-file", auth=app.server, data=form)
    return status, orjson.loads(raw)


async def test_a_csv_of_users_is_subscribed(app):
    await app("POST", "/channels", {"uuid": "news"})
    phone = await app.phone().start("member-id-1")
    assert (await uploaded(app, "news", csv("member-id-1\nmember-id-2\n", field="whatever")))[0] == 202
    async with asyncio.timeout(20):
        while not (await phone.channels()).get("news"):
            await asyncio.sleep(0.05)
    assert (await uploaded(app, "nowhere", csv("a\n")))[0] == 404
    for wrong in (
        csv("x" * 256 + "\n"),
        csv(b"\xff\n"),
        csv("a\n", name="users.txt"),
        csv("a\n", kind="image/png"),
        csv(""),
    ):
        status, told = await uploaded(app, "news", wrong)
        assert status == 422
        assert told


# Who may


CALLS = [
    ("POST", "/v2/notifications"),
    ("POST", "/notifications"),
    ("POST", "/v1/templated-notifications"),
    ("POST", "/v1/in-app-messages"),
    ("DELETE", "/v2/scheduled-notifications/1"),
    ("GET", "/notifications/1/install-opens"),
    ("GET", "/notifications/1/user-opens"),
    ("POST", "/v1/geofences"),
    ("POST", "/channels"),
    ("PUT", "/channels/1"),
    ("DELETE", "/channels/1"),
    ("POST", "/v2/channels/a/subscriptions"),
    ("DELETE", "/v2/channels/a/subscriptions"),
    ("POST", "/v2/channels/a/subscribers-file"),
    ("PUT", "/v1/apps/1"),
    ("GET", "/v1/apps/1"),
    ("POST", "/v1/templates/in-app"),
    ("PUT", "/v1/templates/in-app/a"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_servers_alone_may_send_and_administer(app, method, path):
    key, secret = app.server
    for auth in ((key, "wrong"), ("wrong", secret), (key, ""), ("", ""), app.secret):
        status, told = await app(method, path, HELLO if method != "GET" else None, auth=auth)
        assert (status, list(told)) == (401, ["error"])
    status, headers, raw = await app.raw(method, path)
    assert (status, list(orjson.loads(raw))) == (401, ["error"])
    assert "WWW-Authenticate" not in headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/app-installs/a/events"),
        ("PUT", "/v1/app-installs/a"),
        ("GET", "/v1/users/a/messages"),
        ("GET", "/v1/users/a/channels"),
        ("PUT", "/v1/users/a/channels/subscriptions"),
        ("GET", "/v1/app-installs/a/channels"),
    ],
)
async def test_the_server_key_is_no_secret_of_devices(app, method, path):
    status, told = await app(method, path, None if method == "GET" else {}, auth=app.server)
    assert (status, list(told)) == (401, ["error"])


async def test_errors_that_are_nobodys_are_json_too(app):
    for method, path, expected in (
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/notifications", 405),
        ("PATCH", "/channels/1", 405),
        ("GET", "/safari/x", 404),
    ):
        status, told = await app(method, path)
        assert (status, list(told)) == (expected, ["error"])
    status, told = await app("POST", "/v2/notifications", b" " * (5 * 1_048_576))
    assert (status, list(told)) == (413, ["error"])


async def test_by_the_vendors_host_names_whatever_the_path(app):
    for host in ("messages.kumulos.com", "push.kumulos.com:443", "events.kumulos.com", "links.kumulos.com"):
        status, _, raw = await app.raw("GET", "/some/link", headers={"Host": host})
        assert (status, list(orjson.loads(raw))) == (404, ["error"])
    status, _, raw = await app.raw("GET", "/some/link")
    assert "error" not in orjson.loads(raw)


async def test_pages_of_other_origins_may_call(app):
    status, headers, raw = await app.raw("OPTIONS", "/v1/app-installs/a/events")
    assert (status, raw) == (204, b"")
    assert "Authorization" in headers["Access-Control-Allow-Headers"]
    status, headers, _ = await app.raw("GET", "/v1/web/config")
    assert (status, headers["Access-Control-Allow-Origin"]) == (401, "*")
