"""Any body at any of Kumulos's calls, against the running daemon: never a 500, and always JSON."""

from __future__ import annotations

import asyncio
import random

import orjson
import pytest
import pytest_asyncio

from tests.contract.kumulos import Orchard

pytestmark = pytest.mark.asyncio(loop_scope="package")

NAMES = (
    *("target", "content", "broadcast", "installIds", "userIds", "segmentUuid", "channelUuids", "geofenceIds"),
    *("geofenceTags", "geofenceBroadcast", "excludeInstallIds", "title", "message", "url", "data", "ios", "android"),
    *("badge", "type", "count", "media", "pictureUrl", "schedule", "sendAt", "strategy", "pastTimes", "timezone"),
    *("intelligentDelivery", "userMeta", "reportingMeta", "buttons", "id", "text", "ttl", "releaseWindowMinutes"),
    *("template", "presentedWhen", "expiresIn", "units", "notification", "inbox", "subtitle", "availability", "from"),
    *("name", "boundsGeoJson", "geometry", "coordinates", "properties", "radius", "isEnabled", "tags", "uuid", "meta"),
    *("showInPortal", "uuids", "userIdentifier", "installId", "p8", "p12", "serviceAccount", "web", "iconUrl", "uid"),
    *("token", "lat", "lng", "attributes", "device", "tz", "consented", "timestamp", "userId"),
)
VALUES = (
    *(None, True, False, 0, -1, 1, 2, 2**31, 2**63, -(2**63), 0.5, 1e308, -0.0, "", " ", "x", "\0", "ü" * 300, "anna"),
    *("2026-11-22 10:00", "2026-11-22", "utc", "local", "nextDay", "immediately", "never", "d", "general", "setTo"),
    *(
        "https://example.com/a.png",
        "https://[",
        "news",
        "{{ a }}",
        "{% if",
        [],
        {},
        [[]],
        {"": ""},
        {"\0": 1},
        "Europe/Berlin",
    ),
)
TYPES = (
    *("k.push.deviceRegistered", "k.push.deviceUnsubscribed", "k.stats.installTracked", "k.stats.userAssociated"),
    *("k.message.opened", "k.message.read", "k.engage.locationUpdated", "k.inApp.statusUpdated", "own"),
)
SERVER = (
    *("POST /v2/notifications", "POST /notifications", "POST /v1/templated-notifications", "POST /v1/in-app-messages"),
    *("POST /v1/templates/in-app", "PUT /v1/templates/in-app/a", "POST /v1/geofences", "POST /channels"),
    *("PUT /channels/1", "POST /v2/channels/news/subscriptions", "DELETE /v2/channels/news/subscriptions"),
    "PUT /v1/apps/{app}",
)
DEVICE = (
    *("POST /v1/app-installs/I/events", "PUT /v1/app-installs/I", "POST /v1/channels"),
    *("POST /v1/users/anna/channels/subscriptions", "PUT /v1/app-installs/I/channels/subscriptions"),
    "DELETE /v1/users/anna/channels/subscriptions",
)


def anything(chance, depth=0):
    """Some JSON that knows the names of fields."""
    sort = chance.random()
    if depth > 4 or sort < 0.45:
        return chance.choice(VALUES)
    if sort < 0.6:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(NAMES): anything(chance, depth + 1) for _ in range(chance.randrange(6))}


def body(chance, call):
    """A body for a call: half right, or anything, or no JSON at all."""
    if chance.random() < 0.05:
        return chance.randbytes(20)
    if call.endswith("/events"):
        events = [{"type": chance.choice(TYPES), "data": anything(chance), "uuid": anything(chance)} for _ in range(4)]
        return orjson.dumps(events)
    made = {"target": {"broadcast": True}, "content": {"title": "T", "message": "M"}, "uuid": "a", "name": "b"}
    made |= {"template": "a", "presentedWhen": "never", "inbox": {"title": "a", "subtitle": "b"}}
    wild = anything(chance)
    return orjson.dumps((made | wild) if isinstance(wild, dict) else wild if chance.random() < 0.3 else made)


@pytest_asyncio.fixture(loop_scope="package")
async def app(tenant):
    app = await Orchard.of(tenant)
    await app.phone(install_id="I").start("anna")
    assert (await app("POST", "/channels", {"uuid": "news"}))[0] == 201
    assert (await app("POST", "/v1/templates/in-app", {"name": "A", "uid": "a", "content": {"x": "y"}}))[0] == 201
    return app


@pytest.mark.parametrize("call", [*SERVER, *DEVICE])
async def test_any_body_is_answered_in_json(app, call):
    chance = random.Random(call)  # the same bodies every time
    method, path = call.format(app=app.app_id).split()
    auth = app.server if call in SERVER else app.secret
    for _ in range(5):
        bodies = [body(chance, call) for _ in range(6)]
        answers = await asyncio.gather(*(app.raw(method, path, auth=auth, data=each) for each in bodies))
        for sent, (status, _, raw) in zip(bodies, answers, strict=True):
            assert status < 500, (sent, raw)
            assert (status == 204) == (raw == b""), (sent, raw)
            if raw:
                orjson.loads(raw)
            if call.endswith("/events"):
                assert status in {202, 422}, (sent, raw)
