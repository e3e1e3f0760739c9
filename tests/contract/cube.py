"""ConnectyCube's customers: a daemon with every gateway's far side behind it, apps with keys, and who calls."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from pushd.cli.children import free_port
from pushd.config import EmailConfig
from pushd.config.fcm import FcmConfig
from pushd.config.http import TlsHost
from pushd.simulator.fcm import LocalFcm
from pushd.simulator.identity import SERVER_FILE
from pushd.simulator.smtp import SmtpSimulator
from pushd.simulator.webpush import PushService
from tests.acceptance.world import BUNDLE, running
from tests.contract.webpush_far import config_for
from tests.npm import modules

NUMBERS = itertools.count(1)
PASSWORD = "pr0be-32c9"
GAME = (
    "payload=ew0KICAgICJhcHMiIDogew0KICAgICAgICAiYWxlcnQiIDogew0KICAgICAgICAgICAgInRpdGxlIiA6ICJHYW1lIFJlcXVlc3QiLA0K"
    "ICAgICAgICAgICAgImJvZHkiIDogIkJvYiB3YW50cyB0byBwbGF5IHBva2VyIg0KICAgICAgICB9LA0KICAgICAgICAiYmFkZ2UiIDogNQ0KICAg"
    "IH0sDQogICAgImFjbWUxIiA6ICJiYXIiDQp9"
)
"""The seed's payload."""


def b64(value):
    raw = value.encode() if isinstance(value, str) else orjson.dumps(value)
    return base64.b64encode(raw).decode()


class Vendors:
    """The far sides: `apns` is the world's own simulator."""

    def __init__(self, world, fcm, relay, push):
        self.world, self.fcm, self.relay, self.push = world, fcm, relay, push

    async def app(self, *, role="device", dialect="connectycube", identity=None, **settings):
        """An app with a credential for each gateway and environment, and a key for its clients or servers."""
        tenant = await self.world.tenant(credential=False)
        server = tenant.server
        own = {"default_bundle": BUNDLE, "client_sends_per_minute": 1_000} | settings
        await tenant.admin.ok("PATCH", f"/apps/{tenant.app_id}", {"settings": own})
        secrets = (
            self.world.credential()["secret"],
            self.fcm.key_file,
            {"type": "vapid", "subject": "mailto:push@example.com"},
        )
        vapid = {}
        for environment in ("production", "sandbox"):
            for secret in secrets:
                made = await server.ok("POST", "/credentials", {"secret": secret, "environment": environment})
                vapid = made if secret["type"] == "vapid" else vapid
        mail = {"type": "email_sender", "from_address": "orchard@example.com"}
        await server.ok("POST", "/credentials", {"secret": mail, "environment": "production"})
        key = await server.ok(
            "POST", "/vendor-keys", {"dialect": dialect, "role": role} | ({"identity": identity} if identity else {})
        )
        return App(self, tenant, key["key"]["identity"], key["secret"], vapid)


class App:
    """One customer's."""

    def __init__(self, vendors, tenant, auth_key, secret, vapid):
        self.vendors, self.tenant, self.auth_key, self.secret, self.vapid = vendors, tenant, auth_key, secret, vapid
        self.session, self.root = tenant.server._session, tenant.server.base.removesuffix("/pushd/v1")

    async def raw(self, method, path, *, headers=None, **options):
        async with self.session.request(method, self.root + path, headers=headers, **options) as answer:
            body = await answer.read()
            return answer.status, answer.headers, orjson.loads(body) if "json" in answer.content_type else body.decode()

    async def driven(self, package, script, *arguments, secure=False):
        """What a script, run beside a package of npm's, says of the daemon, over TLS or not."""
        home = await asyncio.to_thread(modules, package)
        root = f"https://localhost:{self.vendors.world.daemon.http.tls_port}" if secure else self.root
        node = await asyncio.create_subprocess_exec(
            *("node", "-e", script.read_text(), root, *arguments),
            cwd=home,
            env=os.environ | {"NODE_EXTRA_CA_CERTS": str(self.vendors.fcm.ca_file)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(node.communicate(), 60)
        finally:
            if node.returncode is None:
                node.kill()
        assert node.returncode == 0, err.decode()
        return orjson.loads(out)

    async def open(self, **more):
        """The answer to a session, and a caller with its token."""
        body = {"application_id": 1, "auth_key": self.auth_key, **more}
        status, _, told = await self.raw("POST", "/session", json=body)
        assert status == 201, told
        return Caller(self, told["session"]["token"], told["session"])

    async def user(self, **more):
        """A user of his own with a session."""
        number = next(NUMBERS)
        user = {"login": f"probe_{number}", "password": PASSWORD, **more}
        status, _, told = await self.raw("POST", "/users", headers={"CB-AuthKey": self.auth_key}, json={"user": user})
        assert status == 201, told
        return await self.open(user={"login": user["login"], "password": PASSWORD})


class Caller:
    """Somebody with a session."""

    def __init__(self, app, token, session):
        self.app, self.token, self.told = app, token, session
        self.id = session["user_id"]

    async def __call__(self, method, path, *, sdk=False, headers=None, **options):
        own = {"CB-Token": self.token} | ({"CB-SDK": "JS 6.1.2 - Client"} if sdk else {})
        status, _, body = await self.app.raw(method, path, headers=own | (headers or {}), **options)
        return status, body

    async def subscribe(self, channel="apns", *, udid=None, environment="development", platform=None, **push_token):
        """The subscription's id, and what names its device at its gateway."""
        name = self.app.tenant.token()
        if channel == "gcm":
            name = f"d3Fg_x:APA91b-{name}"
        push_token = push_token or {"client_identification_sequence": name}
        if channel == "web":
            key = base64.urlsafe_b64decode(self.app.vapid["summary"]["public_key"] + "=")
            one = self.app.vendors.push.subscribe(key, name=f"n{next(NUMBERS)}")
            made, name = one.to_json(), one
            push_token = {"web_endpoint": made["endpoint"], **{f"web_{key}": made["keys"][key] for key in made["keys"]}}
        body = {
            "notification_channel": channel,
            "push_token": {"environment": environment, **push_token},
            "device": {
                "platform": platform or {"gcm": "android", "web": "web"}.get(channel, "ios"),
                "udid": udid or f"u{next(NUMBERS)}",
            },
        }
        status, told = await self("POST", "/subscriptions", json=body)
        assert status == 201, told
        return told[0]["subscription"]["id"], name

    async def event(self, sdk=True, **given):
        """The answer to an event."""
        event = {"notification_type": "push", "environment": "development", **given}
        return await self("POST", "/events", sdk=sdk, json={"event": event})

    async def shown(self, event_id):
        status, told = await self("GET", f"/events/{event_id}")
        assert status == 200, told
        return told["event"]

    def at_apple(self, token):
        """What reached a device at Apple: headers and payload of each push."""
        pushes = self.app.vendors.world.simulator.record.pushes(token)
        return [(dict(one.headers), orjson.loads(one.payload)) for one in pushes]

    def at_google(self, token):
        return [push.content for push in self.app.vendors.fcm.pushes if push.target == token]


async def until(found, count=1):
    """What `found` gives, once it is so many."""
    async with asyncio.timeout(15):
        while len(found()) < count:
            await asyncio.sleep(0.01)
    return found()


@asynccontextmanager
async def vendors(**more):
    """A daemon with everything behind it."""
    folder = Path(tempfile.mkdtemp(prefix="pushd-cube-"))
    folder.chmod(0o711)
    fcm, relay, push = LocalFcm(folder / "fcm"), SmtpSimulator(), PushService(folder / "push", seed="cube")
    for part in (fcm, relay, push):
        await part.start()
    sections = {
        "fcm": FcmConfig(
            host="localhost",
            port=fcm.port,
            oauth_host="localhost",
            oauth_port=fcm.oauth_port,
            ca_file=str(fcm.ca_file),
        ),
        "webpush": config_for(push, encrypt_workers=1),
        "email": EmailConfig(relay_host="127.0.0.1", relay_port=relay.port, security="none"),
    }
    sections |= more
    pem = str(fcm.identity.directory / SERVER_FILE)
    http = {"tls_port": free_port(), "tls": [TlsHost(certificate_file=pem, key_file=pem)]}
    try:
        async with running(http=http | {"auth_failures_per_minute_max": 10_000}, **sections) as world:
            yield Vendors(world, fcm, relay, push)
    finally:
        for part in (push, relay, fcm):
            await part.stop()
        shutil.rmtree(folder, ignore_errors=True)
