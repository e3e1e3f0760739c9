"""The vendor's own packages from npm, unmodified, against the daemon: what they are told, and what reaches Apple."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from pushd.config import DialectsConfig
from tests.contract.cube import until, vendors

pytestmark = pytest.mark.asyncio(loop_scope="package")

PACKAGES = ("backendless@8.0.0", "backendless@7.4.9", "backendless@8.0.0 by its domain")
"""One over HTTP, one over TLS, and one that knows neither application id nor key."""
APP_ID = "D31F2737-2549-309B-FF00-4B7E5E0A1F01"
SCRIPT = Path(__file__).parent / "backendless.cjs"
TEMPLATE = {
    "name": "MyTemplate",
    "syntax": "smart_text",
    "message": {"title": "For {Users.name}", "body": "Come to {place}"},
    "audience": {"type": "channels", "any": ["news"]},
    "device_templates": {"ios": {"alertTitle": "For {Users.name}", "sound": "sound.wav"}},
}
MESSAGE_ID = re.compile(r"message:[0-9A-F]{8}-([0-9A-F]{4}-){3}[0-9A-F]{12}")
USER = {"email": "node@example.com", "name": "Node", "___class": "Users"}


@pytest_asyncio.fixture(loop_scope="package")
async def app():
    async with vendors(dialects=DialectsConfig(backendless_domains={"127.0.0.1": APP_ID})) as made:
        yield await made.app(dialect="backendless", identity=APP_ID)


@pytest.mark.parametrize("package", PACKAGES)
async def test_the_package_logs_in_registers_publishes_asks_and_cancels(app, package):
    await app.tenant.server.ok("POST", "/channels", {"uuid": "news"})
    await app.tenant.server.ok("POST", "/templates", TEMPLATE)
    token = app.tenant.token()
    name, _, by_domain = package.partition(" ")
    identity = "-" if by_domain else APP_ID
    said = await app.driven(name, SCRIPT, identity, app.secret, token, secure=package == PACKAGES[1])
    me = said["registered"]["objectId"]
    assert USER.items() <= said["registered"].items()
    assert "password" not in said["registered"]
    assert (said["twice"]["code"], said["wrong"]["code"]) == (3033, 3003)
    assert said["loggedIn"]["objectId"] == me
    assert said["valid"] is True
    assert said["restored"]["status"] == 400
    assert isinstance(said["device"]["registrationId"], str)
    (registration,) = said["registrations"]
    assert registration == {
        "id": said["device"]["registrationId"],
        "deviceToken": token,
        "deviceId": "PROBE-39ff",
        "os": "IOS",
        "osVersion": "17.5",
        "expiration": said["expiration"],
        "channels": ["default", "news"],
    }
    for name in ("toChannel", "toDevice", "toSystems", "toNames", "toOthers", "pubsub", "later", "byTemplate"):
        status = said[name]
        assert (status["status"], status["errorMessage"]) == ("scheduled", None), name
        assert MESSAGE_ID.fullmatch(status["messageId"]), name
    assert said["unknown"]["status"] == "failed"
    assert (said["past"]["code"], said["order"]["code"], said["cancelledAgain"]["code"]) == (5030, 5003, 5040)
    states = [said[name]["status"] for name in ("laterStatus", "cancelled", "cancelledStatus", "status")]
    assert states == ["scheduled", "cancelled", "cancelled", "published"]
    assert said["templates"] == {"MyTemplate": {**TEMPLATE["device_templates"]["ios"], "name": "MyTemplate"}}
    assert (said["withoutValues"]["status"], said["noTemplate"]["status"]) == (400, 404)
    assert said["unregistered"] == {"result": True}
    assert said["gone"]["code"] == 5000
    assert said["loggedOut"]
    if package != PACKAGES[1]:
        key = app.secret if package == PACKAGES[0] else None
        assert said["info"] == {"rtURL": None, "appId": APP_ID, "apiKey": key, "loggers": []}
    await reached(app, token)


async def reached(app, token):
    """Apple got what was for the device, and nothing else."""
    record = app.vendors.world.simulator.record
    pushes = [orjson.loads(each.payload)["aps"] for each in await until(lambda: record.pushes(token), 5)]
    await asyncio.sleep(0.1)
    assert len(record.pushes(token)) == 5
    alerts = [each["alert"] for each in pushes]
    assert {"title": "For Node", "body": "Come to Kyiv"} in alerts
    assert sum(each["title"] == "iOS title" for each in alerts) == 4
    assert sum((each.get("badge"), each.get("sound")) == (1, "sound.wav") for each in pushes) == 4
