"""What a site's pages load and call: scripts, and followers who register, renew, are tagged and prove themselves."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import shutil
import subprocess

import pytest
import pytest_asyncio
from PIL import Image

from pushd.config import DialectsConfig
from pushd.simulator.webpush import PushService
from tests.acceptance.world import running
from tests.contract.test_gravitec import Site
from tests.contract.webpush_far import config_for
from tests.gallery import gallery, picture

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = itertools.count(1)
FOLLOWERS = "/api/sites/followers"
ORIGIN = "https://shop.example.com"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory):
    """A daemon behind a proxy that speaks TLS, and the push service that browsers use."""
    push = PushService(tmp_path_factory.mktemp("push"), seed="gravitec sites")
    await push.start()
    dialects = DialectsConfig(followers_per_minute_max=10, follower_calls_per_minute_max=10)
    http = {"trusted_proxies": ["127.0.0.1/32"]}
    try:
        async with gallery(tmp_path_factory.mktemp("gallery")) as pictures:
            sections = {"webpush": config_for(push, encrypt_workers=0), "pictures": pictures.config()}
            async with running(dialects=dialects, http=http, **sections) as world:
                world.gallery = pictures
                yield world, push
    finally:
        await push.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def shop(served):
    world, push = served
    tenant = await world.tenant(credential=False)
    vapid = {"secret": {"type": "vapid", "subject": "mailto:push@example.com"}}
    made = await tenant.server.ok("POST", "/credentials", vapid)
    key = await tenant.server.ok("POST", "/vendor-keys", {"dialect": "gravitec"})
    return Shop(tenant, key["key"], key["secret"], push, made["summary"]["public_key"])


class Shop(Site):
    """A site whose visitors have browsers."""

    def __init__(self, tenant, key, secret, push, public_key):
        super().__init__(tenant, key, secret)
        self.app_key, self.push_service, self.public_key = key["identity"], push, public_key
        self.proxy = {"X-Forwarded-For": f"192.0.2.{next(NUMBERS)}", "X-Forwarded-Proto": "https"}

    async def __call__(self, method, path, *, headers=None, **options):
        return await super().__call__(method, path, headers=self.proxy | (headers or {}), **options)

    def ask(self, method, path, **headers):
        return self.session.request(method, self.root + path, headers=self.proxy | headers)

    def subscription(self):
        key = base64.urlsafe_b64decode(self.public_key + "=")
        return self.push_service.subscribe(key, name=f"b{next(NUMBERS)}")

    async def call(self, method, path="", *, key=None, app_key=None, **body):
        headers = self.proxy | {"Origin": ORIGIN} | ({"Authorization": f"Bearer {key}"} if key else {})
        body = {"appKey": app_key or self.app_key, **body}
        async with self.session.request(method, self.root + FOLLOWERS + path, headers=headers, json=body) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            return answer.status, await answer.json()

    async def follow(self, **more):
        """A follower: what it was told, and its subscription."""
        one = self.subscription()
        status, told = await self.call("POST", subscription=one.to_json(), **more)
        assert status == 200, told
        return told, one

    async def shown(self, payload):
        """The message that a push came to."""
        status, sent = await self.push(payload=payload)
        assert status == 200, sent
        return (await self.tenant.show(int(sent["id"])))["message"]

    async def identify(self, told):
        query = f"?appKey={self.app_key}&regID={told['regID']}"
        headers = self.proxy | {"Origin": ORIGIN, "Authorization": f"Bearer {told['key']}"}
        async with self.session.get(f"{self.root}{FOLLOWERS}/identify{query}", headers=headers) as answer:
            return answer.status, await answer.json()

    async def device(self, told):
        (found,) = (await self.tenant.server.ok("GET", f"/devices?install_id={told['regID']}"))["items"]
        return found


# Scripts


async def test_the_script_of_a_site_has_its_keys_and_is_asked_for_again_by_its_tag(shop):
    path = f"/storage/{shop.app_key}/client.js"
    async with shop.ask("GET", path) as answer:
        script, tag = await answer.text(), answer.headers["ETag"]
        assert (answer.status, answer.content_type) == (200, "text/javascript")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "max-age=300" in answer.headers["Cache-Control"]
    begin = script.rindex("({") + 1
    assert json.loads(script[begin : script.rindex(")")]) == {"appKey": shop.app_key, "publicKey": shop.public_key}
    async with shop.ask("GET", path, **{"If-None-Match": tag}) as again:
        assert (again.status, await again.read()) == (304, b"")
    credential = (await shop.tenant.server.ok("GET", "/credentials"))["items"][0]
    rotated = {"secret": {"type": "vapid", "subject": "mailto:push@example.com"}}
    await shop.tenant.server.ok("PUT", f"/credentials/{credential['id']}", rotated)
    async with shop.ask("GET", path, **{"If-None-Match": tag}) as changed:
        assert changed.status == 200
        assert shop.public_key not in await changed.text()


async def test_scripts_are_what_a_javascript_engine_takes(shop, tmp_path):
    node = shutil.which("node")
    assert node is not None
    for path in (f"/storage/{shop.app_key}/client.js", "/sw/worker.js"):
        async with shop.ask("GET", path) as answer:
            file = tmp_path / path.rpartition("/")[2]
            file.write_bytes(await answer.read())
        checked = await asyncio.to_thread(subprocess.run, [node, "--check", file], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


async def test_no_script_for_a_site_that_is_not_there(shop):
    async with shop.ask("GET", "/storage/nobody/client.js") as answer:
        assert answer.status == 404
        assert set(await answer.json()) == {"httpStatus", "error", "errorDescription"}


# Followers


async def test_a_browser_registers_and_is_who_it_was_when_it_comes_again(shop):
    told, one = await shop.follow(lang="de-DE", timeZone="Europe/Berlin")
    assert set(told) == {"regID", "key", "beacons"}
    assert 1 <= len(told["regID"]) <= 255
    device = await shop.device(told)
    assert (device["kind"], device["platform"], device["reachable"]) == ("webpush", "web", True)
    assert (device["locale"], device["time_zone"]) == ("de-DE", "Europe/Berlin")
    # Its storage was cleared: it shows the same subscription, and has the same name and tags.
    assert (await shop.call("POST", "/tags", key=told["key"], regID=told["regID"], tags=["cars"]))[0] == 200
    assert await shop.call("POST", subscription=one.to_json()) == (200, told)
    assert (await shop.device(told))["tags"] == ["cars"]


async def test_what_no_browser_should_say_of_itself_is_passed_over(shop):
    told, _ = await shop.follow(lang="no language!", timeZone="Mars/Olympus", screen={"width": 7})
    device = await shop.device(told)
    assert (device["locale"], device["time_zone"]) == (None, None)


async def test_a_push_reaches_a_follower_with_the_dialects_own_fields(shop):
    told, one = await shop.follow()
    status, sent = await shop.push(audience={"tokens": [told["regID"]]}, display_time=30)
    assert status == 200
    assert (await shop.tenant.finished(int(sent["id"])))["counts"]["accepted"] == 1
    (message,) = [json.loads(push.text) for push in shop.push_service.pushes if push.name == one.name]
    shown = message["notification"]
    assert (shown["title"], shown["body"]) == ("Test message", " Test massage")
    assert shown["navigate"] == "https://gravitec.net"
    assert message["pushd"] == {"id": int(sent["id"]), "display_time_s": 30}


async def test_a_subscription_that_changed_is_renewed_by_its_own_key_alone(shop):
    told, _ = await shop.follow()
    other, _ = await shop.follow()
    new = shop.subscription().to_json()
    status, body = await shop.call("POST", subscription=new, regID=told["regID"], key=other["key"])
    assert (status, body["status"]) == (403, "incomplete by bad auth")
    assert (await shop.call("POST", subscription=new, regID=told["regID"]))[0] == 403
    before = (await shop.device(told))["token_hint"]
    assert await shop.call("POST", subscription=new, regID=told["regID"], key=told["key"]) == (200, told)
    assert (await shop.device(told))["token_hint"] != before


async def test_tags_and_alias_as_pages_set_them(shop):
    told, _ = await shop.follow()
    own = {"key": told["key"], "regID": told["regID"]}
    for method, path, more, tags in (
        ("POST", "/tags", {"tags": ["Cars", "news"]}, ["Cars", "news"]),
        ("POST", "/tags", {"tags": ["CARS"]}, ["Cars", "news"]),
        ("DELETE", "/tag", {"tag": "cars"}, ["news"]),
        ("PUT", "/tags", {"tags": ["a", "b"]}, ["a", "b"]),
        ("DELETE", "/tags", {}, []),
    ):
        assert await shop.call(method, path, **own, **more) == (200, {})
        assert sorted((await shop.device(told))["tags"]) == tags
    assert (await shop.call("PUT", "/alias", **own, alias="customer 7"))[0] == 200
    assert (await shop.call("POST", "/tags", **own, tags=["z"]))[0] == 200
    expected = {"regID": told["regID"], "isActiveFollower": True, "alias": "customer 7", "tags": ["z"]}
    assert await shop.identify(told) == (200, expected)


async def test_who_leaves_gets_nothing_more(shop):
    told, _ = await shop.follow()
    assert (await shop.call("DELETE", key=told["key"], regID=told["regID"]))[0] == 200
    assert not (await shop.device(told))["reachable"]
    expected = {"regIdExists": "true", "aliasExists": "false", "isActiveFollower": "false"}
    assert await shop("GET", f"/api/v3/alias?regId={told['regID']}") == (200, expected)


# Pictures


async def test_pictures_are_fitted_and_served_from_here(shop, served):
    place = served[0].gallery
    place.files |= {"/wide.png": picture((300, 100)), "/square.png": picture((100, 100))}
    payload = {"message": "x", "icon": place.url("/wide.png"), "image": place.url("/square.png")}
    shown = await shop.shown(payload)
    root = shop.root.replace("http:", "https:")
    for name, size, kind in (("icon", (192, 192), "image/png"), ("image", (360, 240), "image/jpeg")):
        assert shown[name].startswith(f"{root}/pushd/pictures/{shop.tenant.app_id}/"), shown
        async with shop.session.get(shown[name].replace("https:", "http:")) as answer:
            assert (answer.status, answer.content_type) == (200, kind)
            assert "immutable" in answer.headers["Cache-Control"]
            assert Image.open(io.BytesIO(await answer.read())).size == size
    await shop.shown(payload)
    assert place.asked["/wide.png"] == 1


async def test_pictures_that_fit_or_cannot_be_had_go_out_as_they_were_given(shop, served):
    place = served[0].gallery
    place.files |= {"/fits.png": picture((512, 512)), "/broken.jpg": b"\xff\xd8\xff"}
    payload = {"message": "x", "icon": place.url("/fits.png"), "image": place.url("/broken.jpg")}
    shown = await shop.shown(payload)
    assert (shown["icon"], shown["image"]) == (payload["icon"], payload["image"])
    for path in ("/pushd/pictures/1/x.png", f"/pushd/pictures/{shop.tenant.app_id}/{'0' * 40}.png"):
        async with shop.session.get(shop.root + path) as answer:
            assert answer.status == 404


async def test_what_a_push_does_not_say_the_site_does(shop, served):
    place = served[0].gallery
    place.files["/site.png"] = picture((100, 50))
    settings = {"icon": place.url("/site.png"), "site_url": "https://shop.example.com/"}
    await shop.tenant.admin.ok("PATCH", f"/apps/{shop.tenant.app_id}", {"settings": settings})
    shown = await shop.shown({"message": "x"})
    assert "/pushd/pictures/" in shown["icon"]
    assert shown["url"] == "https://shop.example.com/"
    assert (await shop.shown({"message": "x", "redirect_url": "https://a.example"}))["url"] == "https://a.example"
    # Who calls the vendor's host says nothing of where browsers find pushd.
    shop.proxy["Host"] = "uapi.gravitec.net"
    assert (await shop.shown({"message": "x"}))["icon"] == place.url("/site.png")


# Abuse


async def test_no_page_names_an_install_that_is_not_its_own(shop):
    await shop.tenant.register("anna")
    stranger, _ = await shop.follow()
    for method, path in (("POST", "/tags"), ("PUT", "/tags"), ("DELETE", "/tags"), ("PUT", "/alias"), ("DELETE", "")):
        for key in (None, stranger["key"], "x"):
            assert (await shop.call(method, path, key=key, regID="anna", tags=["x"], alias="x"))[0] == 403
    assert (await shop.identify({"regID": "anna", "key": stranger["key"]}))[0] == 403


async def test_a_key_is_good_in_its_own_app_alone(shop, served):
    world, _ = served
    told, _ = await shop.follow()
    other = await world.tenant(credential=False)
    made = await other.server.ok("POST", "/vendor-keys", {"dialect": "gravitec"})
    found = await shop.call("POST", "/tags", key=told["key"], regID=told["regID"], app_key=made["key"]["identity"])
    assert found[0] == 403


async def test_an_app_key_that_nobody_has_is_told_so_and_guessing_ends(shop):
    status, body = await shop.call("POST", app_key="5459059059405940gpgkj", subscription=shop.subscription().to_json())
    assert (status, body["error_message"]) == (403, "There is no web site with appKey: 5459059059405940gpgkj")
    guesses = [await shop("GET", f"{FOLLOWERS}/identify?appKey=guess{n}&regID=x") for n in range(12)]
    assert guesses[-1][0] == 429
    shop.proxy["X-Forwarded-For"] = "192.0.2.251"
    assert (await shop.follow())[0]["regID"]


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://fcm.googleapis.com/x", "https"),
        ("https://127.0.0.1/x", "host"),
        ("https://internal.example.com/x", "push service"),
    ],
)
async def test_w42_only_push_services_that_are_allowed_are_taken(shop, endpoint, said):
    subscription = shop.subscription().to_json() | {"endpoint": endpoint}
    status, body = await shop.call("POST", subscription=subscription)
    assert (status, body["httpStatus"]) == (422, "UNPROCESSABLE_ENTITY")
    assert said in json.dumps(body) or body["errorDescription"]
    assert (await shop.tenant.server.ok("GET", "/devices"))["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"appKey": 7}',
        b'{"appKey": "x", "tags": [""]}',
        b'{"appKey": "x", "subscription": {"endpoint": "https://x"}}',
        b'{"appKey": "a\\u0000b"}',
    ],
)
async def test_any_body_is_answered(shop, body):
    for method, path in (("POST", ""), ("PUT", "/tags"), ("DELETE", "/tag")):
        headers = shop.proxy | {"Content-Type": "application/json"}
        async with shop.session.request(method, shop.root + FOLLOWERS + path, data=body, headers=headers) as answer:
            assert answer.status in {403, 422}
            assert answer.content_type == "application/json"


async def test_a_follower_asks_only_so_often(shop):
    told, _ = await shop.follow()
    own = {"key": told["key"], "regID": told["regID"], "tags": ["a"]}
    statuses = [(await shop.call("POST", "/tags", **own))[0] for _ in range(20)]
    assert statuses[:10] == [200] * 10
    assert statuses[-1] == 429
    assert (await shop.follow())[0] != told


async def test_only_so_many_register_from_one_address(shop):
    for _ in range(10):
        await shop.follow()
    answers = [await shop.call("POST", subscription=shop.subscription().to_json()) for _ in range(10)]
    assert (answers[-1][0], answers[-1][1]["httpStatus"]) == (429, "TOO_MANY_REQUESTS")
    assert 10 <= len((await shop.tenant.server.ok("GET", "/devices"))["items"]) < 20
    shop.proxy["X-Forwarded-For"] = "192.0.2.250"
    await shop.follow()


async def test_pages_call_over_https_alone(shop):
    shop.proxy["X-Forwarded-Proto"] = "http"
    for path in (f"/storage/{shop.app_key}/client.js", "/sw/worker.js", f"{FOLLOWERS}/identify"):
        status, body = await shop("GET", path)
        assert (status, body["error_message"]) == (403, "Calls have to be made over HTTPS")


# Browsers


async def test_browsers_are_let_in_before_they_call(shop):
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in ("", "/identify", "/tags", "/tag", "/alias"):
        async with shop.ask("OPTIONS", FOLLOWERS + path, **headers) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            assert answer.headers["Vary"] == "Origin"
            assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
