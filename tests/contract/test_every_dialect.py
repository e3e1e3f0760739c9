"""All five dialects at once: on one port, each with its errors' shape, and each device with its own payloads."""

from __future__ import annotations

import base64
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio

from pushd.config import DialectsConfig
from pushd.dialects.mount import DIALECTS
from pushd.errors import UnavailableError
from pushd.store.vendor_keys import VendorKeyStore
from tests.acceptance.world import BUNDLE, pushd, running
from tests.contract.cube import b64, until, vendors
from tests.contract.kumulos import Orchard
from tests.pushd.content import clients

pytestmark = pytest.mark.asyncio(loop_scope="package")

APP_ID = "D31F2737-2549-309B-FF00-4B7E5E0A1F02"
JSON = {"Content-Type": "application/json"}


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# Errors

GUESS = {"CompanyId": 7, "IntegrationKey": "x", "UserId": 1, "Title": "x", "Body": "x"}
ASKING = {
    "connectycube": ("POST", "/session", {"auth_key": "x"}),
    "kumulos": ("POST", "/v2/notifications", {}),
    "backendless": ("POST", f"/{APP_ID}/key/messaging/default", {"message": "x"}),
    "gravitec": ("POST", "/api/v3/push", {"payload": {"message": "x"}}),
    "appenate": ("POST", "/api/v2/push", GUESS),
}
"""By dialect, a call that looks for a key first."""
NOWHERE = {
    "connectycube": "/events/7/x/y",
    "kumulos": "/v2/nothing",
    "backendless": f"/{APP_ID}/key/data/Users",
    "gravitec": "/api/v3/nothing",
}
GUESSED = {"connectycube": 401, "kumulos": 401, "backendless": 401, "gravitec": 403, "appenate": 401}


def check(name, status, body):
    """The error's shape, as the vendor's clients read it."""
    text = {
        "connectycube": lambda: _cube(body["errors"]),
        "kumulos": lambda: {"error": str} == {key: type(value) for key, value in body.items()},
        "backendless": lambda: (type(body["code"]), type(body["message"]), body["errorData"]) == (int, str, {}),
        "gravitec": lambda: (
            set(body) == ({"status", "error_message"} if status == 403 else {"httpStatus", "error", "errorDescription"})
        ),
        "appenate": lambda: set(body["ResponseStatus"]) == {"ErrorCode", "Message", "Errors"},
    }
    assert text[name](), (name, status, body)


def _cube(errors):
    texts = errors if isinstance(errors, list) else [each for field in errors.values() for each in field]
    return bool(texts) and all(isinstance(each, str) for each in texts)


class Anybody:
    """Somebody without any key."""

    def __init__(self, world):
        self.session, self.root = world.session, world.base.removesuffix("/pushd/v1")

    async def __call__(self, name, method, path, data, headers=JSON):
        """The status and the headers of an error of the dialect's shape."""
        async with self.session.request(method, self.root + path, data=data, headers=headers) as answer:
            raw = await answer.read()
            assert answer.content_type == "application/json", (name, answer.status, raw)
            assert b"the secret cause" not in raw
            check(name, answer.status, orjson.loads(raw))
            return answer.status, answer.headers


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def anybody():
    async with running(
        http={"auth_failures_per_minute_max": 8, "trusted_proxies": ["127.0.0.1/32"]},
        dialects=DialectsConfig(gravitec_plain_http=True),
    ) as world:
        yield Anybody(world)


@pytest.mark.parametrize("name", list(DIALECTS))
async def test_errors_of_every_status_have_the_vendors_shape(anybody, name, monkeypatch):
    method, path, body = ASKING[name]
    data = orjson.dumps(body)
    if name in NOWHERE:
        assert (await anybody(name, "GET", NOWHERE[name], None))[0] == 404
    status, headers = await anybody(name, "PATCH", path, b"")
    assert (status, "POST" in headers["Allow"]) == (405, True)
    assert (await anybody(name, method, path, data))[0] == GUESSED[name]
    if name == "connectycube":  # it reads the body before it looks for a key
        assert (await anybody(name, method, path, b"x" * 5_000_000))[0] == 413
        assert (await anybody(name, method, path, b"x", {"Content-Type": "image/png"}))[0] == 415

    def away(*_, **__):
        raise UnavailableError("PostgreSQL is away", retry_after_s=3)

    def broken(*_, **__):
        raise RuntimeError("the secret cause")

    for fault, expected in ((away, 503), (broken, 500)):
        for part in ("proven", "find"):
            monkeypatch.setattr(VendorKeyStore, part, fault)
        status, headers = await anybody(name, method, path, data)
        assert (status, "Retry-After" in headers) == (expected, expected == 503)


@pytest.mark.parametrize("name", list(DIALECTS))
async def test_guessers_of_keys_wait_in_the_vendors_shape(anybody, name):
    method, path, body = ASKING[name]
    headers = JSON | {"X-Forwarded-For": f"192.0.2.{[*DIALECTS].index(name)}"}
    told = []
    for number in range(10):
        known = basic(f"guess{number}", "x") if name in {"kumulos", "gravitec"} else {}
        own = path.replace("/key/", f"/guess{number}/")
        guess = {"appenate": "IntegrationKey", "connectycube": "auth_key"}
        data = orjson.dumps(body | ({guess[name]: f"guess{number}"} if name in guess else {}))
        told.append(await anybody(name, method, own, data, headers | known))
    assert [status for status, _ in told] == [GUESSED[name]] * 8 + [429] * 2
    assert int(told[-1][1]["Retry-After"]) > 0


@pytest.mark.parametrize("given", ["Basic", "Basic %%%", "Basic " + base64.b64encode(b"no colon").decode(), "Bearer x"])
@pytest.mark.parametrize("name", ["kumulos", "gravitec"])
async def test_an_authorization_that_is_poorly_formed_is_none(anybody, name, given):
    method, path, body = ASKING[name]
    headers = JSON | {"Authorization": given, "X-Forwarded-For": f"198.51.100.{len(given) + len(name)}"}
    assert (await anybody(name, method, path, orjson.dumps(body), headers))[0] == GUESSED[name]


# Switched off


async def test_a_dialect_that_is_switched_off_is_not_there():
    async with running(dialects=DialectsConfig(spoken=["appenate"])) as world:
        anybody = Anybody(world)
        assert (await anybody("appenate", *ASKING["appenate"][:2], b"{}"))[0] == 401
        for name, dialect in DIALECTS.items():
            for host in (None, *sorted(dialect.hosts)) if name != "appenate" else ():
                headers = JSON if host is None else JSON | {"Host": host}
                method, path, body = ASKING[name]
                async with world.session.request(
                    method, anybody.root + path, data=orjson.dumps(body), headers=headers
                ) as answer:
                    assert (answer.status, answer.content_type) == (404, "application/problem+json"), (name, host)


# Keys


async def test_keys_of_every_dialect_are_made_listed_and_revoked_by_the_command_line(anybody, tenant, tmp_path):
    secret = tmp_path / "secret"
    for name in DIALECTS:
        secret.write_text(f"vendors-{name}-{uuid4()}\n")
        identity = str(uuid4()).upper() if name == "backendless" else str(uuid4().int % 10**9)
        taken = ("--identity", identity, "--secret-file", str(secret), "--name", "From before")
        made = await pushd(tenant.server, "vendor-key", "create", name, *taken)
        assert (made["key"]["dialect"], made["key"]["identity"]) == (name, identity)
        assert (made["key"]["role"], made["secret"]) == ("server", secret.read_text().strip())
    made = await pushd(tenant.server, "vendor-key", "create", "kumulos", "--role", "device")
    assert (made["key"]["role"], bool(made["secret"]), bool(made["key"]["identity"])) == ("device", True, True)
    listed = await pushd(tenant.server, "vendor-key", "list")
    assert [each["dialect"] for each in listed] == [*DIALECTS, "kumulos"]
    assert "vendors-" not in str(listed)
    revoked = await pushd(tenant.server, "vendor-key", "revoke", str(made["key"]["id"]))
    assert revoked["revoked_at"] is not None


# Devices


class Street:
    """An app with all five keys, and a device that each of four SDKs registered; two of them are one person's."""

    def __init__(self, app, orchard):
        self.app, self.orchard, self.server = app, orchard, app.tenant.server
        self.root = f"/{APP_ID}"

    async def settle(self):
        made = {
            name: await self.server.ok("POST", "/vendor-keys", {"dialect": name}) for name in ("gravitec", "appenate")
        }
        body = {"dialect": "backendless", "identity": APP_ID}
        made["backendless"] = await self.server.ok("POST", "/vendor-keys", body)
        self.keys = {name: (each["key"]["identity"], each["secret"]) for name, each in made.items()}
        self.cube = await self.app.user(external_user_id="77")
        _, self.cube_token = await self.cube.subscribe("gcm", environment="production", udid="cube-phone")
        await self._kumulos()
        await self._backendless()
        await self._gravitec()
        installs = ["cube-phone", self.phone.id, "backendless-phone", self.follower]
        status, told = await self.orchard("POST", "/v2/channels/default/subscriptions", {"installIds": installs})
        assert (status, told) == (204, None)
        return self

    async def _kumulos(self):
        self.phone = self.orchard.phone(install_id=str(uuid4()), token=f"tok:{uuid4()}")
        data = {"token": self.phone.token, "type": 2, "package": "com.example.orchard"}
        await self.phone.tell(self.phone.event("k.push.deviceRegistered", data))
        await self.phone.log_in("77")

    async def _backendless(self):
        self.backendless_token = f"d3Fg_x:APA91b-{uuid4()}"
        body = {"deviceToken": self.backendless_token, "deviceId": "backendless-phone", "os": "ANDROID"}
        path = f"{self.root}/{self.keys['backendless'][1]}/messaging/registrations"
        status, _, told = await self.app.raw("POST", path, json=body)
        assert status == 200, told

    async def _gravitec(self):
        _, config = await self.phone.call("GET", "/v1/web/config")
        key = base64.urlsafe_b64decode(config["publicKey"] + "=")
        self.subscription = self.app.vendors.push.subscribe(key, name=f"follower-{uuid4()}")
        body = {"appKey": self.keys["gravitec"][0], "subscription": self.subscription.to_json()}
        status, _, told = await self.app.raw("POST", "/api/sites/followers", json=body)
        assert status == 200, told
        self.follower = told["regID"]

    def at_google(self, token):
        return [push.content for push in self.app.vendors.fcm.pushes if push.target == token]

    def shown(self):
        """What each device has shown so far, by whose SDK it has."""
        cube = [clients.cube_android(each)[:2] for each in self.at_google(self.cube_token)]
        kumulos = [clients.kumulos_fcm(each) for each in self.at_google(self.phone.token)]
        backendless = [clients.backendless_android(each) for each in self.at_google(self.backendless_token)]
        browser = [
            orjson.loads(each.text) for each in self.app.vendors.push.pushes if each.name == self.subscription.name
        ]
        return {
            "connectycube": cube,
            "kumulos": [(each["title"], each["alert"]) for each in kumulos],
            "backendless": [(each["title"], each["message"]) for each in backendless],
            "gravitec": [(each["notification"]["title"], each["notification"]["body"]) for each in browser],
        }


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def street():
    async with vendors(dialects=DialectsConfig(gravitec_plain_http=True)) as behind:
        app = await behind.app()
        orchard = await Orchard.of(app.tenant)
        settings = {"default_title": "Orchard", "default_bundle": BUNDLE, "client_sends_per_minute": 1_000}
        await app.tenant.admin.ok("PATCH", f"/apps/{app.tenant.app_id}", {"settings": settings})
        yield await Street(app, orchard).settle()


async def natively(street):
    await street.app.tenant.send(None, {"title": "T", "body": "B"})


async def by_connectycube(street):
    event = {
        "external_user": {"ids": "77"},
        "environment": "production",
        "message": b64({"message": "B", "title": "T"}),
    }
    status, told = await street.cube.event(**event)
    assert (status, len(told)) == (201, 1)


async def by_kumulos(street):
    body = {"target": {"broadcast": True}, "content": {"title": "T", "message": "B"}}
    assert (await street.orchard("POST", "/v2/notifications", body))[0] == 202


async def by_backendless(street):
    path = f"{street.root}/{street.keys['backendless'][1]}/messaging/default"
    body = {"message": "B", "headers": {"android-content-title": "T", "ios-alert-title": "T"}}
    assert (await street.app.raw("POST", path, json=body))[0] == 200


async def by_gravitec(street):
    body = {"payload": {"title": "T", "message": "B", "redirect_url": "https://example.com"}}
    assert (await street.app.raw("POST", "/api/v3/push", json=body, headers=basic(*street.keys["gravitec"])))[0] == 200


async def by_appenate(street):
    company, key = street.keys["appenate"]
    body = {"CompanyId": int(company), "IntegrationKey": key, "UserExternalId": "77", "Title": "T", "Body": "B"}
    assert (await street.app.raw("POST", "/api/v2/push", json=body))[0] == 200


HIS = ("connectycube", "kumulos")
ALL = (*HIS, "backendless", "gravitec")


@pytest.mark.parametrize(
    ("send", "reached"),
    [
        (natively, ALL),
        (by_connectycube, HIS),
        (by_kumulos, ALL),
        (by_backendless, ALL),
        (by_gravitec, ALL),
        (by_appenate, HIS),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_whichever_api_sends_each_device_is_told_in_the_words_of_its_own_sdk(street, send, reached):
    before = {name: len(pushes) for name, pushes in street.shown().items()}
    await send(street)
    for name in reached:
        pushes = await until(lambda name=name: street.shown()[name], before[name] + 1)
        assert pushes[before[name] :] == [("T", "B")], name
    for name in set(ALL) - set(reached):
        assert len(street.shown()[name]) == before[name]
