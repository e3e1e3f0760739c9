"""Shapes from end to end: devices registered with a vendor's shape, a native send, and what its client SDK is given."""

from __future__ import annotations

import orjson
import pytest
import pytest_asyncio

from tests.acceptance.world import BUNDLE
from tests.contract.cube import until, vendors
from tests.pushd.content import clients

pytestmark = pytest.mark.asyncio(loop_scope="package")

MESSAGE = {
    "title": "Apples",
    "body": "Come and pick, {{ user.name }}",
    "data": {"order": "7", "n": 1},
    "image": "https://shop.example/p.jpg",
}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def app():
    async with vendors() as behind:
        yield await behind.app()


async def register(app, shape, kind, **fields):
    """The token of a device that is registered natively."""
    token = app.tenant.token() if kind == "apns" else f"tok:{shape}-{app.tenant.token()}"
    body = {"install_id": f"{shape}-{kind}", "kind": kind, "token": token, "shape": shape, **fields}
    made = await app.tenant.server.ok("PUT", "/devices", body | ({"bundle": BUNDLE} if kind == "apns" else {}))
    assert made["shape"] == shape
    return token


def apple(app, token):
    return [orjson.loads(push.payload) for push in app.vendors.world.simulator.record.pushes(token)]


def google(app, token):
    return [push.content for push in app.vendors.fcm.pushes if push.target == token]


async def test_one_native_send_is_in_each_devices_own_shape(app):
    anna = await app.user()
    _, cube_phone = await anna.subscribe("gcm", environment="production")
    _, cube_iphone = await anna.subscribe("apns", environment="production")
    _, cube_browser = await anna.subscribe("web")
    tokens = {
        (shape, kind): await register(app, shape, kind)
        for shape in ("", "kumulos", "backendless")
        for kind in ("apns", "fcm")
    }
    sent = await app.tenant.send(None, MESSAGE | {"body": "Come and pick"})
    told = {}
    for (shape, kind), token in tokens.items():
        told[shape, kind] = (await until(lambda: (apple if kind == "apns" else google)(app, token)))[0]  # noqa: B023  at once
    assert clients.cube_android((await until(lambda: google(app, cube_phone)))[0])[:2] == ("Apples", "Come and pick")
    title, text, rest = clients.cube_ios((await until(lambda: apple(app, cube_iphone)))[0])
    assert (title, text, rest["n"], rest["photo"]) == ("Apples", "Come and pick", 1, MESSAGE["image"])
    service = app.vendors.push
    (push,) = await until(lambda: [each for each in service.pushes if each.name == cube_browser.name])
    assert clients.cube_web(orjson.loads(push.text))[:2] == ("Apples", "Come and pick")
    for made in (
        clients.kumulos_ios(told["kumulos", "apns"]),
        clients.kumulos_fcm(told["kumulos", "fcm"]),
    ):
        assert made["id"] == sent["id"]
        assert (made["a"]["order"], made["a"]["n"]) == ("7", 1)
    shown = clients.backendless_android(told["backendless", "fcm"])
    assert (shown["title"], shown["message"], shown["data"]["order"]) == ("Apples", "Come and pick", "7")
    assert clients.backendless_ios(told["backendless", "apns"])["message"] == "Come and pick"
    assert told["", "apns"]["pushd"]["id"] == sent["id"]
    assert told["", "fcm"]["notification"]["title"] == "Apples"
    counts = (await app.tenant.finished(sent["id"]))["counts"]
    assert counts["accepted"] == counts["targeted"] == 9


async def test_personal_sends_have_shapes_and_overrides_win(app):
    token = await register(app, "kumulos", "fcm", install_id="own", user_id="ben")
    await app.tenant.server.ok("PUT", "/users/ben", {"attributes": {"name": 'Ben "B"'}})
    body = {"audience": {"type": "users", "ids": ["ben"]}, "message": MESSAGE, "liquid": True}
    await app.tenant.server.ok("POST", "/notifications", body)
    shown = clients.kumulos_fcm((await until(lambda: google(app, token)))[0])
    assert shown["alert"] == 'Come and pick, Ben "B"'
    override = {"message": MESSAGE | {"overrides": {"fcm": {"data": {"bicon": None, "mine": "1"}}}}}
    await app.tenant.server.ok("POST", "/notifications", body | override)
    data = (await until(lambda: google(app, token), 2))[1]["data"]
    assert ("bicon" in data, data["mine"]) == (False, "1")


async def test_a_device_that_registers_with_another_shape_gets_that_from_then_on(app):
    token = await register(app, "kumulos", "fcm", install_id="moves", user_id="cleo")
    for shape in ("backendless", ""):
        body = {"install_id": "moves", "kind": "fcm", "token": token, "shape": shape}
        await app.tenant.server.ok("PUT", "/devices", body)
        await app.tenant.server.ok("PUT", "/devices", {"install_id": "moves", "kind": "fcm", "token": token})
        audience = {"type": "users", "ids": ["cleo"]}
        await app.tenant.server.ok("POST", "/notifications", {"audience": audience, "message": {"body": "Hi"}})
    first, second = await until(lambda: google(app, token), 2)
    assert clients.backendless_android(first)["message"] == "Hi"
    assert second["notification"]["body"] == "Hi"


async def test_what_does_not_fit_in_a_shape_that_a_device_has_is_not_accepted(app):
    # Twice as long within text, as Kumulos has it.
    message = {"title": "a", "body": "b", "data": {"quotes": '"' * 2_050}}
    body = {"audience": {"type": "installs", "ids": ["kumulos-fcm"]}, "message": message}
    refused = await app.tenant.server("POST", "/notifications", json=body)
    assert (refused.status, refused.pointers) == (400, ["/message/data"])
    unknown = {"install_id": "x", "kind": "fcm", "shape": "acme"}
    assert (await app.tenant.server("PUT", "/devices", json=unknown)).pointers == ["/shape"]
