"""Kumulos's customers: back ends with a server key, phones with a secret key, and parsers as strict as their SDKs'."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import time
from datetime import datetime
from uuid import uuid4

import orjson

from tests.acceptance.world import BUNDLE

IN_APP = {
    "target": {"broadcast": True},
    "presentedWhen": "immediately",
    "ttl": {"expiresIn": 14, "units": "d"},
    "template": "fitness-promotion",
    "content": {"message-title": "Push Yourself", "promotion-text": "Programs from $29/mo"},
    "data": {"arbitrary": "data"},
    "notification": {"title": "New Offer Available", "message": "Open our app to view your new offer!"},
    "inbox": {"title": "This is inbox title", "subtitle": "This is inbox subtitle"},
}
"""The in-app message that Kumulos's pages print."""
NUMBERS = itertools.count(1)
_EXACT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}")
PLAIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


class Orchard:
    """An app that was Kumulos's, with both of its secrets."""

    def __init__(self, tenant, server, device):
        self.tenant, self.app_id = tenant, tenant.app_id
        self.server, self.secret = server, device
        self.session, self.root = tenant.server._session, tenant.server.base.removesuffix("/pushd/v1")

    @classmethod
    async def of(cls, tenant):
        keys = []
        identity = None
        for role in ("server", "device"):
            body = {"dialect": "kumulos", "role": role} | ({} if identity is None else {"identity": identity})
            made = await tenant.server.ok("POST", "/vendor-keys", body)
            identity = made["key"]["identity"]
            keys.append((identity, made["secret"]))
        settings = {"default_title": "Orchard", "default_bundle": BUNDLE}
        await tenant.admin.ok("PATCH", f"/apps/{tenant.app_id}", {"settings": settings})
        return cls(tenant, *keys)

    async def raw(self, method, path, *, auth=None, headers=None, **options):
        sent = dict(headers or {})
        if auth is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        async with self.session.request(method, self.root + path, headers=sent, **options) as answer:
            body = await answer.read()
            return answer.status, answer.headers, body

    async def __call__(self, method, path, body=None, *, auth=None, **options):
        """A call of a back end: status and body, None of an empty one."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"} | options.pop("headers", {})
        data = body if isinstance(body, bytes | str) or body is None else orjson.dumps(body)
        status, _, raw = await self.raw(method, path, auth=auth or self.server, headers=headers, data=data, **options)
        assert (status == 204) == (not raw), (status, raw)
        return status, orjson.loads(raw) if raw else None

    def phone(self, **options):
        return Phone(self, **options)

    def browser(self):
        return Phone(self, install_id=str(uuid4()))

    async def pushed(self, *phones):
        """The payloads that reached each at Apple, once all have one."""
        record = self.tenant.simulator.record
        async with asyncio.timeout(10):
            while not all(record.count(phone.token, status=200) for phone in phones):
                await asyncio.sleep(0.01)
        return [orjson.loads(record.pushes(phone.token)[-1].payload) for phone in phones]


class Phone:
    """An install: an iPhone with upper case in its id, as its SDK tells of it."""

    def __init__(self, app, install_id=None, token=None):
        self.app = app
        self.id = install_id or str(uuid4()).upper()
        self.token = token or app.tenant.token()
        self.user = None

    def event(self, kind, data=None, *, uuid=None, at=None):
        made = {"type": kind, "uuid": uuid or str(uuid4()).upper(), "userId": self.user or self.id}
        return made | {"timestamp": int((at or time.time()) * 1000)} | ({} if data is None else {"data": data})

    async def tell(self, *events):
        """A batch of events, which has to be taken: what is not taken comes again for ever."""
        path = f"/v1/app-installs/{self.id}/events"
        headers = {"Content-Type": "application/json"}
        status, _, _ = await self.app.raw(
            "POST", path, auth=self.app.secret, headers=headers, data=orjson.dumps(list(events))
        )
        assert 200 <= status < 300, status

    def registered(self, **more):
        data = {"token": self.token, "type": 1, "iosTokenType": 1, "bundleId": BUNDLE, **more}
        return self.event("k.push.deviceRegistered", data)

    def tracked(self, **more):
        """What an iPhone says of itself."""
        return self.event(
            "k.stats.installTracked",
            {
                "app": {"bundle": BUNDLE, "version": "2.3.1", "target": 2},
                "sdk": {"id": 1, "version": "9.2.8"},
                "runtime": {"id": 2, "version": "17.4"},
                "os": {"id": 1, "version": "17.4"},
                "device": {
                    "name": "iPhone15,2",
                    "tz": "Europe/Berlin",
                    "isSimulator": False,
                    "locale": "de-DE",
                    **more,
                },
                "ios": {"hasGroup": False},
            },
        )

    async def start(self, user=None):
        """Launched for the first time, permission given, and logged in."""
        await self.tell(self.tracked(), self.registered())
        if user is not None:
            await self.log_in(user)
        return self

    async def log_in(self, user, attributes=None):
        data = {"id": user} | ({} if attributes is None else {"attributes": attributes})
        self.user = user
        await self.tell(self.event("k.stats.userAssociated", data))

    async def call(self, method, path, body=None):
        headers = {"Accept": "application/json", "Content-Type": "application/json; charset=utf-8"}
        data = None if body is None else orjson.dumps(body)
        status, _, raw = await self.app.raw(method, path, auth=self.app.secret, headers=headers, data=data)
        return status, orjson.loads(raw) if raw else None

    async def messages(self, after=None):
        """In-app messages as both SDKs read them; one that does not parse fails the whole list, as on the phone."""
        query = "" if after is None else f"?after={after}"
        status, told = await self.call("GET", f"/v1/users/{self.user or self.id}/messages{query}")
        assert status == 200, told
        assert isinstance(told, list)
        return [in_app(each) for each in told]

    async def channels(self):
        """The list that mobile SDKs ask for."""
        status, told = await self.call("GET", f"/v1/users/{self.user or self.id}/channels")
        assert status == 200, told
        return {channel(each)["uuid"]: each["subscribed"] for each in told}


def moment(text):
    """A date as Android's pattern takes it: no fraction, no Z, no colon in the offset."""
    assert isinstance(text, str)
    assert _EXACT.fullmatch(text), text
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")


def in_app(given):
    """A message as the SDKs decode it: four fields or a crash, the others absent, null or well."""
    assert type(given["id"]) is int
    assert type(given["presentedWhen"]) is str
    assert type(given["content"]) is dict
    moment(given["updatedAt"])
    assert given.get("data") is None or type(given["data"]) is dict
    for name in ("openedAt", "expiresAt", "inboxDeletedAt", "readAt", "sentAt"):
        if given.get(name) is not None:
            moment(given[name])
    inbox = given.get("inbox")
    if inbox is not None:
        assert type(inbox["title"]) is str
        assert type(inbox["subtitle"]) is str
        for name in ("from", "to"):
            if inbox.get(name) is not None:
                moment(inbox[name])
        assert inbox.get("imagePath") is None or type(inbox["imagePath"]) is str
        assert not {"visibleFrom", "visibleTo", "imageUrl"} & inbox.keys()
    return given


def channel(given):
    """A channel as the SDKs decode it."""
    assert type(given["uuid"]) is str
    assert type(given["subscribed"]) is bool
    assert given.get("name") is None or type(given["name"]) is str
    assert given.get("meta") is None or type(given["meta"]) is dict
    return given
