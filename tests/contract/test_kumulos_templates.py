"""Kumulos's in-app messages, templated notifications and gateway configuration, as back ends ask for them."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.acceptance.world import BUNDLE
from tests.contract.kumulos import IN_APP, Orchard, moment

pytestmark = pytest.mark.asyncio(loop_scope="package")

CONTENT = {"title": "{{ message-title }}", "text": "{{ promotion-text }}", "theme": {"dark": True}}
AS_PRINTED = b"""{
"target": { "broadcast": true },
"presentedWhen": "immediately",
"ttl": {
"expiresIn": 14,
"units": "d"
},
"template" => "fitness-promotion",
"content": {
"message-title": "Push Yourself",
"promotion-text": "Programs from $29/mo"
},
"data": {
"arbitrary": "data",
},
"notification": {
"title": "New Offer Available",
"message": "Open our app to view your new offer!"
},
"inbox": {
"title": "This is inbox title",
"subtitle": "This is inbox subtitle"
}
}"""
MESSAGE = {
    *("id", "status", "target", "data", "reportingMeta", "badge", "schedule", "updatedAt", "createdAt", "isTemplate"),
    *("parentMessageId", "sentAt", "recurrence", "completedAt", "hasEditedSchedule", "hasEditedContent"),
    *("intelligentDeliveryAsap", "releaseWindowMinutes", "children", "appId", "template", "content", "presentedWhen"),
    *("ttl", "inbox", "notification"),
}
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest_asyncio.fixture(loop_scope="package")
async def app(tenant):
    app = await Orchard.of(tenant)
    body = {"name": "Fitness", "uid": "fitness-promotion", "content": CONTENT}
    assert (await app("POST", "/v1/templates/in-app", body))[0] == 201
    message = {"title": "Hello {{ name }}", "body": "{{ count }} new offers", "data": {"from": "{{ name }}"}}
    template = {"name": "Offers", "uid": "offers", "message": message}
    await tenant.server.ok("POST", "/templates", template)
    return app


# Templated notifications


async def test_a_notification_by_a_template(app):
    phone = await app.phone().start("anna")
    body = {"target": {"userIds": ["anna"]}, "template": "offers", "content": {"name": "Anna", "count": 3}}
    status, told = await app("POST", "/v1/templated-notifications", body)
    assert status == 202, told
    shown = told["notification"]
    assert (shown["title"], shown["message"], shown["data"]) == ("Hello Anna", "3 new offers", {"from": "Anna"})
    assert (told["errors"], shown["filters"]) == (None, {"userIds": ["anna"]})
    (payload,) = await app.pushed(phone)
    assert payload["aps"]["alert"] == {"title": "Hello Anna", "body": "3 new offers"}


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"template": "nothing"}, 404, "error"),
        ({"template": None}, 422, "template"),
        ({"content": {"name": "Anna"}}, 422, "content.count"),
        ({"content": []}, 422, "content"),
        ({"target": {}}, 422, "target.broadcast"),
        ({"template": "fitness-promotion"}, 422, "template.uid"),
        ({"target": {"userIds": ["nobody"]}}, 400, "notification"),
    ],
)
async def test_the_errors_of_templated_notifications(app, change, status, field):
    await app.phone().start("anna")
    body = {"target": {"broadcast": True}, "template": "offers", "content": {"name": "Anna", "count": 3}}
    got, told = await app("POST", "/v1/templated-notifications", {**body, **change})
    assert (got, field in told) == (status, True), told


async def test_a_templated_notification_waits_and_is_cancelled(app):
    await app.phone().start()
    schedule = {"sendAt": TOMORROW.strftime("%Y-%m-%d %H:%M"), "strategy": "utc", "pastTimes": "nextDay"}
    body = {"target": {"broadcast": True}, "template": "offers", "content": {"name": "A", "count": 1}}
    status, told = await app("POST", "/v1/templated-notifications", {**body, "schedule": schedule})
    assert status == 202
    assert await app("DELETE", f"/v2/scheduled-notifications/{told['notification']['id']}") == (204, None)


# In-app messages


async def test_the_sample_of_php_and_its_answer(app):
    await app.phone().start("anna")
    status, told = await app("POST", "/v1/in-app-messages", IN_APP)
    assert (status, told["errors"]) == (202, None), told
    message = told["message"]
    assert message.keys() == MESSAGE
    assert type(message["id"]) is int
    times = [moment(message[name]).timestamp() for name in ("updatedAt", "createdAt", "sentAt")]
    assert max(times) - time.time() < 60
    inbox = message.pop("inbox")
    assert moment(inbox.pop("visibleFrom")) < moment(inbox.pop("visibleTo"))
    assert inbox == {**IN_APP["inbox"], "imageUrl": None}
    fixed = {name: message[name] for name in MESSAGE - {"id", "updatedAt", "createdAt", "sentAt", "inbox"}}
    assert fixed == {
        "status": "queued",
        "target": {"broadcast": True},
        "data": {"arbitrary": "data"},
        "reportingMeta": None,
        "badge": None,
        "schedule": None,
        "isTemplate": False,
        "parentMessageId": None,
        "recurrence": None,
        "completedAt": None,
        "hasEditedSchedule": False,
        "hasEditedContent": False,
        "intelligentDeliveryAsap": False,
        "releaseWindowMinutes": None,
        "children": [],
        "appId": app.app_id,
        "template": "fitness-promotion",
        "content": {"title": "Push Yourself", "text": "Programs from $29/mo", "theme": {"dark": True}},
        "presentedWhen": "immediately",
        "ttl": {"units": "d", "expiresIn": 14},
        "notification": {**IN_APP["notification"], "ios": None, "android": None, "ttl": 259_200},
    }


async def test_the_sample_of_curl_is_no_json_as_printed(app):
    status, told = await app("POST", "/v1/in-app-messages", AS_PRINTED)
    assert (status, list(told)) == (422, ["body"])


async def test_every_field_of_an_in_app_message(app):
    phone = await app.phone().start("anna")
    body = {
        **IN_APP,
        "presentedWhen": "next-open",
        "ttl": {"expiresIn": 5, "units": "h"},
        "notification": {
            **IN_APP["notification"],
            "ios": {
                "media": {"pictureUrl": "https://example.com/a.png"},
                "relevanceScore": 1,
                "interruptionLevel": "active",
            },
            "android": {"pictureUrl": "https://example.com/a.png", "notificationChannel": "offers"},
            "ttl": 1_440,
        },
        "inbox": {
            **IN_APP["inbox"],
            "availability": {"from": "2026-01-01 00:00:00", "to": "2100-01-01 00:00:00"},
            "imageUrl": "https://example.com/b.png",
        },
        "reportingMeta": {"campaign": "Summer Promotion"},
        "userMeta": {"anna": {"step": 1}},
    }
    status, told = await app("POST", "/v1/in-app-messages", body)
    assert status == 202, told
    message = told["message"]
    assert message["reportingMeta"] == {"campaign": "Summer Promotion"}
    assert message["notification"] == body["notification"]
    assert message["inbox"]["visibleTo"] == "2100-01-01T00:00:00+0000"
    (got,) = await phone.messages()
    assert (got["presentedWhen"], got["inbox"]["imagePath"]) == ("next-open", "https://example.com/b.png")
    assert got["inbox"]["from"] == "2026-01-01T00:00:00+0000"
    await app.pushed(phone)
    view = await app.tenant.server.ok("GET", f"/in-app-messages/{message['id']}")
    push = await app.tenant.server.ok("GET", f"/notifications/{view['notification_id']}")
    assert (push["reporting_meta"], push["ttl_s"]) == ({"campaign": "Summer Promotion"}, 1_440)
    assert 0 < moment(got["expiresAt"]).timestamp() - time.time() <= 5 * 3_600


async def test_a_message_that_is_never_presented_waits_in_the_inbox(app):
    phone = await app.phone().start("anna")
    status, told = await app("POST", "/v1/in-app-messages", {**IN_APP, "presentedWhen": "never", "ttl": None})
    assert (status, told["message"]["ttl"]) == (202, None)
    (got,) = await phone.messages()
    assert (got["presentedWhen"], got["expiresAt"]) == ("never", None)


async def test_a_message_for_later(app):
    phone = await app.phone().start("anna")
    schedule = {"sendAt": TOMORROW.strftime("%Y-%m-%d %H:%M"), "strategy": "utc", "pastTimes": "ignore"}
    status, told = await app("POST", "/v1/in-app-messages", {**IN_APP, "schedule": schedule})
    assert (status, told["message"]["schedule"], told["message"]["sentAt"]) == (202, schedule, None)
    assert await phone.messages() == []


@pytest.mark.parametrize(
    ("schedule", "more"),
    [
        ({"sendAt": TOMORROW.strftime("%Y-%m-%d %H:%M"), "strategy": "local", "pastTimes": "nextDay"}, {}),
        ({"sendAt": TOMORROW.strftime("%Y-%m-%d"), "strategy": "intelligent", "pastTimes": "ignore"}, {}),
        (None, {"intelligentDelivery": True}),
        (None, {"releaseWindowMinutes": 60}),
    ],
)
async def test_a_message_goes_by_the_clocks_of_its_readers(app, schedule, more):
    await app.phone().start("anna")
    status, told = await app("POST", "/v1/in-app-messages", {**IN_APP, "schedule": schedule, **more})
    assert (status, told["message"]["schedule"]) == (202, schedule), told
    assert told["message"]["intelligentDeliveryAsap"] is more.get("intelligentDelivery", False)
    assert told["message"]["content"]["title"] == "Push Yourself"
    assert told["message"]["releaseWindowMinutes"] == more.get("releaseWindowMinutes")


async def test_who_cannot_get_a_message_is_told(app):
    await app.phone().start("anna")
    target = {"userIds": ["anna", 123], "installIds": ["uuid1"]}
    status, told = await app("POST", "/v1/in-app-messages", {**IN_APP, "target": target})
    errors = {"unknownInstallIds": ["uuid1"], "unknownUserIds": [123]}
    assert (status, told["errors"]) == (202, errors)
    target = {"userIds": [123], "installIds": ["uuid1"]}
    status, told = await app("POST", "/v1/in-app-messages", {**IN_APP, "target": target})
    assert (status, told) == (400, {"message": None, "errors": errors})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": None}, "target"),
        ({"template": None}, "template"),
        ({"presentedWhen": None}, "presentedWhen"),
        ({"presentedWhen": "sometimes"}, "presentedWhen"),
        ({"ttl": None}, "ttl"),
        ({"ttl": {"expiresIn": 366, "units": "d"}}, "ttl.expiresIn"),
        ({"ttl": {"expiresIn": 1, "units": "weeks"}}, "ttl.units"),
        ({"content": {}}, "content.message-title"),
        ({"data": []}, "data"),
        ({"notification": {"title": "x"}}, "notification.message"),
        ({"notification": {**IN_APP["notification"], "ttl": -1}}, "notification.ttl"),
        ({"notification": {**IN_APP["notification"], "ios": {"relevanceScore": 2}}}, "notification.ios.relevanceScore"),
        ({"inbox": {"title": "x"}}, "inbox.subtitle"),
        ({"inbox": {**IN_APP["inbox"], "availability": {"from": "soon"}}}, "inbox.availability.from"),
        (
            {
                "inbox": {
                    **IN_APP["inbox"],
                    "availability": {"from": "2090-01-01 00:00:00", "to": "2080-01-01 00:00:00"},
                }
            },
            "inbox.availability.to",
        ),
        ({"inbox": {**IN_APP["inbox"], "imageUrl": "x"}}, "inbox.imageUrl"),
        ({"presentedWhen": "never", "inbox": None}, "inbox"),
        ({"userMeta": 1}, "userMeta"),
    ],
)
async def test_wrong_fields_of_in_app_messages(app, change, field):
    status, told = await app("POST", "/v1/in-app-messages", {**IN_APP, **change})
    assert status == 422, told
    assert field in told, told


async def test_a_template_that_is_not_there_is_404(app):
    status, told = await app("POST", "/v1/in-app-messages", {**IN_APP, "template": "nothing"})
    assert (status, list(told)) == (404, ["error"])


async def test_templates_are_changed_in_place(app):
    path = "/v1/templates/in-app/fitness-promotion"
    status, told = await app("PUT", path, {"name": "Sport", "uid": "fitness-promotion", "content": {"a": "{{ b }}"}})
    assert (status, told["name"], told["dynamicContentTags"]) == (200, "Sport", ["b"])
    assert moment(told["createdAt"]) <= moment(told["updatedAt"])
    assert (await app("PUT", "/v1/templates/in-app/nothing", {"name": "x"}))[0] == 404
    assert (await app("PUT", "/v1/templates/in-app/offers", {"name": "x"}))[0] == 404
    for body in ({}, {"name": "x", "uid": "y"}, {"name": "x", "uid": "y", "content": "z"}):
        assert (await app("POST", "/v1/templates/in-app", body))[0] == 422
    again = {"name": "Again", "uid": "fitness-promotion", "content": {}}
    assert (await app("POST", "/v1/templates/in-app", again))[0] == 400


# Gateways

ACCOUNT = {
    "projectId": "my-app-name",
    "privateKeyId": "42d2d9f0",
    "privateKey": rsa.generate_private_key(65_537, 2_048)
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode(),
    "clientEmail": "firebase@my-app-name.iam.gserviceaccount.com",
    "clientId": "289585204963045939329",
    "authUri": "https://accounts.google.com/o/oauth2/auth",
    "tokenUri": "https://oauth2.googleapis.com/token",
    "authProviderX509CertUrl": "https://www.googleapis.com/oauth2/v1/certs",
    "clientX509CertUrl": "https://www.googleapis.com/robot/v1/metadata/x509/firebase%40my-app-name.iam.gserviceaccount.com",
}


async def test_the_sample_configuration_of_android(app):
    path = f"/v1/apps/{app.app_id}"
    body = {"android": {"serverKey": "AAAAeVHrnes:APA91bGpsKN...", "serviceAccount": ACCOUNT}}
    for _ in range(2):  # the second replaces the first
        status, told = await app("PUT", path, body)
        assert status == 200, told
        assert (told["id"], told["accountId"]) == (app.app_id, 1)
        assert [each["platformType"] for each in told["platformConfigs"]] == [1, 2]
        for each in (told, *told["platformConfigs"]):
            assert moment(each["createdAt"]) <= moment(each["updatedAt"])
    assert await app("GET", path) == (200, told)
    found = (await app.tenant.server.ok("GET", "/credentials"))["items"]
    assert [each["name"] for each in found if each["gateway"] == "fcm"] == ["kumulos"]


async def test_a_p8_key_serves_both_environments_and_hms_its_own(app):
    identity = app.tenant.simulator.identity
    key = identity.keys["SIMKEY0001"]
    p8 = base64.b64encode(identity.pem("SIMKEY0001").encode()).decode()
    ios = {"p8": p8, "keyId": "SIMKEY0001", "teamId": key.team_id, "bundleId": BUNDLE}
    hcm = {"appId": 104_000_001, "appIdPassword": "pass"}
    status, told = await app("PUT", f"/v1/apps/{app.app_id}", {"ios": ios, "hcm": hcm})
    assert (status, [each["platformType"] for each in told["platformConfigs"]]) == (200, [1, 5]), told
    found = (await app.tenant.server.ok("GET", "/credentials"))["items"]
    ours = {(each["gateway"], each["environment"]) for each in found if each["name"] == "kumulos"}
    assert ours == {("apns", "production"), ("apns", "sandbox"), ("hms", "production")}
    phone = await app.phone().start()
    status, _ = await app(
        "POST", "/v2/notifications", {"target": {"broadcast": True}, "content": {"title": "A", "message": "B"}}
    )
    await app.pushed(phone)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"android": {"clientX509CertUrl": "x",}}', "body"),
        ({"android": {"serverKey": "x"}}, "android.serviceAccount"),
        ({"android": {"serviceAccount": {}}}, "android.serviceAccount.projectId"),
        ({"android": {"serviceAccount": {**ACCOUNT, "clientEmail": "x"}}}, "android.serviceAccount"),
        ({"android": {"serviceAccount": {**ACCOUNT, "privateKey": "x"}}}, "android"),
        ({"ios": {}}, "ios.p8"),
        ({"ios": {"p12": "AA=="}}, "ios.mode"),
        ({"ios": {"p12": "AA==", "mode": "production"}}, "ios"),
        ({"ios": {"p12": "not base64", "mode": "production"}}, "ios.p12"),
        ({"ios": {"p12": "AA==", "p8": "AA==", "mode": "production"}}, "ios.p8"),
        ({"ios": {"p8": "AA=="}}, "ios.keyId"),
        ({"web": {"iconUrl": "x"}}, "web.iconUrl"),
        ({"hcm": {"appId": "x"}}, "hcm.appId"),
        ({"safari": {"siteUrl": "https://example.com"}}, "safari.p12"),
        ({"safari": {"p12": "AA=="}}, "safari"),
    ],
)
async def test_wrong_configurations_change_nothing(app, body, field):
    path = f"/v1/apps/{app.app_id}"
    before = await app("GET", path)
    status, told = await app("PUT", path, body)
    assert status == 422, told
    assert field in told, told
    assert ACCOUNT["privateKey"][60:90] not in str(told)
    assert await app("GET", path) == before


async def test_another_app_is_forbidden(app, world):
    other = await world.tenant()
    for method in ("GET", "PUT"):
        status, told = await app(method, f"/v1/apps/{other.app_id}", {} if method == "PUT" else None)
        assert (status, list(told)) == (403, ["error"])
        assert (await app(method, "/v1/apps/x", {} if method == "PUT" else None))[0] == 404


async def test_the_complete_example_of_all_five_platforms(app):
    identity, site = app.tenant.simulator.identity, "web.com.example"
    apple, safari = (base64.b64encode(identity.p12((topic,), "apple")).decode() for topic in (BUNDLE, site))
    body = {
        "android": {"serverKey": "AAAA", "serviceAccount": ACCOUNT},
        "ios": {"p12": apple, "mode": "production", "password": "apple"},
        "web": {"iconUrl": "https://example.com/icon.png"},
        "hcm": {"appId": 104_000_001, "appIdPassword": "pass"},
        "safari": {
            "p12": safari,
            "password": "apple",
            "iconUrl": "https://example.com/icon.png",
            "siteUrl": "https://example.com",
        },
    }
    status, told = await app("PUT", f"/v1/apps/{app.app_id}", body)
    assert status == 200, told
    assert [each["platformType"] for each in told["platformConfigs"]] == [1, 2, 3, 4, 5]
    assert all(each.keys() == {"platformType", "createdAt", "updatedAt"} for each in told["platformConfigs"])
    assert await app("GET", f"/v1/apps/{app.app_id}") == (200, told)
    found = (await app.tenant.server.ok("GET", "/credentials"))["items"]
    (made,) = [each for each in found if each["name"] == "kumulos" and each["gateway"] == "apns"]
    assert (made["environment"], made["summary"]["type"]) == ("production", "apns_certificate")
    # From the sandbox's certificate nothing is made for production: a development build's phone has it alone.
    sandbox = base64.b64encode(identity.p12((BUNDLE,), "apple", environments=["sandbox"])).decode()
    ios = {"p12": sandbox, "mode": "sandbox", "password": "apple"}
    assert (await app("PUT", f"/v1/apps/{app.app_id}", {"ios": ios}))[0] == 200
    found = (await app.tenant.server.ok("GET", "/credentials"))["items"]
    assert {each["environment"] for each in found if each["name"] == "kumulos" and each["gateway"] == "apns"} == {
        "production",
        "sandbox",
    }
    status, told = await app("PUT", f"/v1/apps/{app.app_id}", {"ios": ios | {"mode": "production"}})
    assert (status, list(told)) == (422, ["ios"])
