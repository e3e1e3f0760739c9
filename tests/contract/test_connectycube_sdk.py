"""The vendor's own package from npm, unmodified, against the daemon: what it is answered, and what reaches Apple."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from tests.contract.cube import until, vendors

pytestmark = pytest.mark.asyncio(loop_scope="package")

PACKAGES = ("connectycube@6.1.2", "connectycube@3.35.3")
"""One of today, over HTTP; and one that speaks HTTPS only, and signs."""
SCRIPT = Path(__file__).parent / "connectycube.cjs"
TEXT = {"aps": {"alert": {"body": "Walking in a flowers garden"}, "badge": 2}, "user_id": "51"}


@pytest_asyncio.fixture(loop_scope="package")
async def app():
    async with vendors() as made:
        yield await made.app(client_user_search=True)


@pytest.mark.parametrize("package", PACKAGES)
async def test_the_package_logs_in_subscribes_sends_lists_and_cancels(app, package):
    token = app.tenant.token()
    said = await app.driven(package, SCRIPT, app.auth_key, app.secret, token, secure=package == PACKAGES[1])
    me = said["signedUp"]["user"]["id"]
    assert said["nobody"]["user_id"] == 0
    assert said["loggedIn"]["id"] == said["session"]["user_id"] == me
    assert (said["wrong"]["code"], said["wrong"]["info"]) == (401, {"errors": ["Unauthorized"]})
    assert said["subscribed"] == said["subscriptions"] == said["afterExpiry"]
    assert said["expired"] == 1
    assert said["left"] == []
    assert [each["event"]["user_id"] for each in said["sent"]] == [me]
    assert orjson.loads(said["tagged"][0]["event"]["tag_query"]) == {"any": "vip,other", "exclude": "banned"}
    assert (said["found"]["limit"], said["found"]["skip"], said["found"]["total_entries"]) == (5, 0, 1)
    assert said["found"]["items"] == [said["byLogin"]["user"]] == [each["user"] for each in said["byTags"]["items"]]
    assert said["page"] == {"current_page": 1, "per_page": 10, "total_entries": 1, "items": [said["byLogin"]]}
    assert (said["byLogin"]["user"]["id"], said["byLogin"]["user"]["user_tags"]) == (me, "probe,vip")
    assert said["notFound"]["code"] == 404
    assert (await app.raw("GET", "/session", headers={"CB-Token": said["lastSession"]}))[0] == 401
    assert said["nobodyToSendTo"]["code"] == 422
    later = [each["event"]["id"] for each in said["later"]]
    assert said["later"][0]["event"]["event_type"] == "fixed_date"
    assert [each["event"]["id"] for each in said["listed"]["items"]][: len(later)] == later[::-1]
    assert said["renamed"]["event"]["name"] == "Updated name"
    assert (said["gone"]["code"], said["gone"]["info"]) == (404, {"errors": {"base": ["Event not found"]}})
    simulator = app.vendors.world.simulator
    pushes = await until(lambda: simulator.record.pushes(token), 2)
    assert [orjson.loads(push.payload) for push in pushes] == [TEXT, TEXT]
